#include "coord/deployment/pulse.h"

#include <algorithm>

namespace coord::internal {
namespace {

// How often one that is down is looked at; its own backoff says when it is really dialled.
constexpr absl::Duration kLook = absl::Milliseconds(50);

}  // namespace

void Pulse::Hurry() {
  MutexLock lock(mutex_);
  next_ = absl::InfinitePast();
}

absl::Time Pulse::NextTick() {
  MutexLock lock(mutex_);
  return asking_ || closed_ ? absl::InfiniteFuture() : next_;
}

std::optional<Beat::Ask> Pulse::Tick(absl::Time now) {
  const std::vector<Node*> nodes = deployment_.AllNodes();
  MutexLock lock(mutex_);
  Node* turn = nullptr;
  next_ = absl::InfiniteFuture();
  for (Node* node : nodes) {
    const bool given_up = node->record().down();
    if (!given_up && period_ == absl::ZeroDuration()) {
      due_.erase(node);
      continue;
    }
    const absl::Time due = due_.try_emplace(node, now).first->second;
    if (due <= now && turn == nullptr) {
      turn = node;
      due_[node] = now + (given_up ? kLook : period_);
    }
    next_ = std::min(next_, due_[node]);
  }
  if (turn == nullptr) return std::nullopt;
  asking_ = true;
  const std::string_view ping[] = {"PING"};
  return Ask{Request::Command(ping), timeout_, turn};
}

void Pulse::Answer(absl::StatusOr<Reply>, absl::Time, absl::Time) {
  MutexLock lock(mutex_);
  asking_ = false;
}

void Pulse::Closed() {
  MutexLock lock(mutex_);
  closed_ = true;
}

}  // namespace coord::internal
