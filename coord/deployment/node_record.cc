#include "coord/deployment/node_record.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/time/clock.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {

std::string_view ToString(NodeState state) {
  switch (state) {
    case NodeState::kConnecting:
      return "connecting";
    case NodeState::kReady:
      return "ready";
    case NodeState::kDegraded:
      return "degraded";
    case NodeState::kDown:
      return "down";
  }
  return "unknown";
}

namespace internal {

void LatencyRecord::Add(absl::Duration taken) {
  const auto ns =
      static_cast<std::uint64_t>(std::max<std::int64_t>(1, absl::ToInt64Nanoseconds(taken)));
  const int power = static_cast<int>(std::bit_width(ns)) - 1;  // 2^power <= ns
  const std::uint64_t quarter = power >= 2 ? (ns >> (power - 2)) & 3 : 0;
  const std::size_t place = static_cast<std::size_t>(power) * 4 + static_cast<std::size_t>(quarter);
  counts_[std::min(place, counts_.size() - 1)].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t LatencyRecord::count() const {
  std::uint64_t all = 0;
  for (const auto& count : counts_) all += count.load(std::memory_order_relaxed);
  return all;
}

absl::Duration LatencyRecord::Percentile(double share) const {
  const std::uint64_t all = count();
  if (all == 0) return absl::ZeroDuration();
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i].load(std::memory_order_relaxed);
    if (seen < std::max<std::uint64_t>(1, wanted)) continue;
    // The middle of the step.
    const double low = std::ldexp(1.0, static_cast<int>(i / 4));
    return absl::Nanoseconds(low * (1.0 + 0.25 * (static_cast<double>(i % 4) + 0.5)));
  }
  return absl::ZeroDuration();
}

void NodeRecord::Change(NodeState state, std::string_view reason) {
  if (state == state_) return;
  state_ = state;
  since_ = absl::Now();
  down_.store(state == NodeState::kDown, std::memory_order_relaxed);
  Happened(std::string(reason));
}

void NodeRecord::Happened(std::string reason) {
  history_.push_back({node_, state_, absl::Now(), std::move(reason)});
  if (history_.size() > kHistory) history_.pop_front();
  if (listener_) untold_.push_back(history_.back());
}

void NodeRecord::Remember(const absl::Status& why) {
  last_error_ = why;
  last_error_at_ = absl::Now();
}

// Told by each thread for itself, one event could overtake the next, and who listens would be left
// with a state that has passed.
void NodeRecord::Tell() {
  while (true) {
    NodeEvent event;
    {
      MutexLock lock(mutex_);
      if (telling_ || untold_.empty()) return;
      telling_ = true;
      event = std::move(untold_.front());
      untold_.pop_front();
    }
    listener_(event);
    MutexLock lock(mutex_);
    telling_ = false;
  }
}

void NodeRecord::Connected() {
  {
    MutexLock lock(mutex_);
    failing_since_.reset();
    refusing_.store(false, std::memory_order_relaxed);
    Change(NodeState::kReady, "connected and signed in");
  }
  Tell();
}

void NodeRecord::Failed(const absl::Status& why, bool lasting, SteadyTime now) {
  {
    MutexLock lock(mutex_);
    Remember(why);
    if (lasting) {
      failing_since_.reset();
      refusing_.store(false, std::memory_order_relaxed);
    } else if (!failing_since_) {
      failing_since_ = now;
    }
    const bool given_up =
        failing_since_ && absl::FromChrono(now - *failing_since_) >= fail_fast_after_;
    if (given_up) refusing_.store(true, std::memory_order_relaxed);
    if (lasting || given_up) {
      Change(NodeState::kDown, FromAbsl(why.message()));
    } else if (state_ != NodeState::kDown) {
      Change(NodeState::kConnecting, FromAbsl(why.message()));
    }
  }
  Tell();
}

void NodeRecord::Broke(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kReady && state_ != NodeState::kDegraded) return;
    Remember(why);
    Change(NodeState::kConnecting, FromAbsl(why.message()));
  }
  Tell();
}

void NodeRecord::Late(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kReady) return;
    Remember(why);
    Change(NodeState::kDegraded, FromAbsl(why.message()));
  }
  Tell();
}

void NodeRecord::Answered() {
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kDegraded) return;
    Change(NodeState::kReady, "a health check was answered");
  }
  Tell();
}

void NodeRecord::Note(std::string reason) {
  {
    MutexLock lock(mutex_);
    Happened(std::move(reason));
  }
  Tell();
}

void NodeRecord::Reset() {
  MutexLock lock(mutex_);
  failing_since_.reset();
  refusing_.store(false, std::memory_order_relaxed);
}

void NodeRecord::Rename(std::string node) {
  MutexLock lock(mutex_);
  node_ = std::move(node);
}

std::optional<absl::Status> NodeRecord::Refusal() const {
  if (!refusing()) return std::nullopt;
  MutexLock lock(mutex_);
  return MakeStatus(last_error_.code(),
                    StrCat(FromAbsl(last_error_.message()),
                           "; given up for now, and tried again in the background"),
                    Reasons(last_error_) | kUnavailable);
}

NodeRecord::View NodeRecord::Look() const {
  MutexLock lock(mutex_);
  return {node_, state_, since_, last_error_, last_error_at_, {history_.begin(), history_.end()}};
}

}  // namespace internal
}  // namespace coord
