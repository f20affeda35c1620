// What is known of one server's condition, by all who deal with it: its state, whether a caller
// should still wait for it (the circuit breaker), and how long its answers take. Thread-safe.
#ifndef COORD_DEPLOYMENT_NODE_RECORD_H_
#define COORD_DEPLOYMENT_NODE_RECORD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/sync.h"
#include "coord/node_state.h"

namespace coord::internal {

// How long round trips take: counts in four steps for each power of two, so a percentile is right
// to an eighth, from 4 ns up. Adding is one relaxed increment.
class LatencyRecord {
 public:
  void Add(absl::Duration taken);
  // Zero when there is none yet. `share` from 0 to 1.
  absl::Duration Percentile(double share) const;
  std::uint64_t count() const;

 private:
  std::array<std::atomic<std::uint32_t>, 160> counts_{};
};

class NodeRecord {
 public:
  using Listener = std::function<void(const NodeEvent&)>;

  // After failing for `fail_fast_after` without a success, callers are refused. `listener` is
  // called with no lock held, by whichever thread has noticed, one event after another in their
  // order; must not block.
  NodeRecord(std::string node, absl::Duration fail_fast_after, Listener listener)
      : fail_fast_after_(fail_fast_after), listener_(std::move(listener)), node_(std::move(node)) {}

  // By who tries to connect. A failure that lasts (see IsLasting) is not waited for by anybody; it
  // is the answer of a server that can be reached, so it begins the time to give up anew.
  void Connected();
  void Failed(const absl::Status& why, bool lasting, SteadyTime now);
  // A connection that worked is gone.
  void Broke(const absl::Status& why);
  // By health checks.
  void Late(const absl::Status& why);
  void Answered();
  // Something else worth telling: a failover, say. The state stays.
  void Note(std::string reason);
  // Calls may try again.
  void Reset();
  // Another server is meant from now on.
  void Rename(std::string node);

  // Why a caller should not wait, if so.
  std::optional<absl::Status> Refusal() const;
  bool refusing() const { return refusing_.load(std::memory_order_relaxed); }
  // Whether its state is kDown: somebody has to go on trying, since callers do not.
  bool down() const { return down_.load(std::memory_order_relaxed); }

  struct View {
    std::string node;
    NodeState state;
    absl::Time since;
    absl::Status last_error;
    absl::Time last_error_at = absl::InfinitePast();
    std::vector<NodeEvent> history;  // the last few
  };
  View Look() const;

  LatencyRecord& latency() { return latency_; }
  const LatencyRecord& latency() const { return latency_; }

 private:
  static constexpr std::size_t kHistory = 32;

  // Nothing when nothing changes.
  void Change(NodeState state, std::string_view reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Happened(std::string reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remember(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells what has happened, unless somebody is at it, who then tells ours too.
  void Tell();

  const absl::Duration fail_fast_after_;
  const Listener listener_;
  LatencyRecord latency_;
  std::atomic<bool> refusing_{false};
  std::atomic<bool> down_{false};  // changed under mutex_

  mutable Mutex mutex_;
  std::string node_ ABSL_GUARDED_BY(mutex_);
  NodeState state_ ABSL_GUARDED_BY(mutex_) = NodeState::kConnecting;
  absl::Time since_ ABSL_GUARDED_BY(mutex_) = absl::Now();
  std::optional<SteadyTime> failing_since_ ABSL_GUARDED_BY(mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_error_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::deque<NodeEvent> history_ ABSL_GUARDED_BY(mutex_);
  std::deque<NodeEvent> untold_ ABSL_GUARDED_BY(mutex_);
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_NODE_RECORD_H_
