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
    // The upper end of the step.
    const double low = std::ldexp(1.0, static_cast<int>(i / 4));
    return absl::Nanoseconds(low * (1.0 + 0.25 * (static_cast<double>(i % 4) + 1)));
  }
  return absl::ZeroDuration();
}

std::optional<NodeEvent> NodeRecord::Change(NodeState state, std::string reason) {
  if (state == state_) return std::nullopt;
  state_ = state;
  since_ = absl::Now();
  history_.push_back({node_, state_, since_, std::move(reason)});
  if (history_.size() > kHistory) history_.pop_front();
  return history_.back();
}

void NodeRecord::Remember(const absl::Status& why) {
  last_error_ = why;
  last_error_at_ = absl::Now();
}

void NodeRecord::Tell(const std::optional<NodeEvent>& event) const {
  if (event && listener_) listener_(*event);
}

void NodeRecord::Connected(SteadyTime) {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    failing_since_.reset();
    refusing_.store(false, std::memory_order_relaxed);
    event = Change(NodeState::kReady, "connected and signed in");
  }
  Tell(event);
}

void NodeRecord::Failed(const absl::Status& why, bool lasting, SteadyTime now) {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    Remember(why);
    if (!failing_since_) failing_since_ = now;
    const bool given_up = absl::FromChrono(now - *failing_since_) >= fail_fast_after_;
    if (given_up) refusing_.store(true, std::memory_order_relaxed);
    if (lasting || given_up) {
      event = Change(NodeState::kDown, std::string(FromAbsl(why.message())));
    } else if (state_ != NodeState::kDown) {
      event = Change(NodeState::kConnecting, std::string(FromAbsl(why.message())));
    }
  }
  Tell(event);
}

void NodeRecord::Broke(const absl::Status& why) {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kReady && state_ != NodeState::kDegraded) return;
    Remember(why);
    event = Change(NodeState::kConnecting, std::string(FromAbsl(why.message())));
  }
  Tell(event);
}

void NodeRecord::Late(const absl::Status& why) {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kReady) return;
    Remember(why);
    event = Change(NodeState::kDegraded, std::string(FromAbsl(why.message())));
  }
  Tell(event);
}

void NodeRecord::Answered() {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    if (state_ != NodeState::kDegraded) return;
    event = Change(NodeState::kReady, "a health check was answered");
  }
  Tell(event);
}

void NodeRecord::Note(std::string reason) {
  std::optional<NodeEvent> event;
  {
    MutexLock lock(mutex_);
    history_.push_back({node_, state_, absl::Now(), std::move(reason)});
    if (history_.size() > kHistory) history_.pop_front();
    event = history_.back();
  }
  Tell(event);
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
