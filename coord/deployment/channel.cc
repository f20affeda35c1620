#include "coord/deployment/channel.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {

std::shared_ptr<Connection> Channel::Current() {
  std::shared_ptr<Connection> broken;
  {
    MutexLock lock(mutex_);
    if (connection_ == nullptr || !connection_->broken()) return connection_;
    broken = std::exchange(connection_, nullptr);
  }
  if (main_) record_.Broke(broken->broken_status());
  return nullptr;
}

void Channel::Remember(absl::Status failure, bool cut) {
  if (!cut) {
    last_error_ = last_reason_ = std::move(failure);
    return;
  }
  // "No answer in time" must not cover what a server had to say to a caller with more of it.
  last_error_ = last_reason_.ok()
                    ? std::move(failure)
                    : MakeStatus(failure.code(),
                                 StrCat(FromAbsl(failure.message()),
                                        "; before that: ", FromAbsl(last_reason_.message())),
                                 Reasons(failure));
}

absl::Status Channel::Trouble() {
  if (last_error_.ok()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("no connection to ", peer_, " in time"), kUnavailable);
  }
  if (IsLasting(last_error_)) return last_error_;
  return MakeStatus(last_error_.code(), FromAbsl(last_error_.message()),
                    Reasons(last_error_) | kUnavailable);
}

absl::StatusOr<std::shared_ptr<Connection>> Channel::Get(const CallLimits& limits,
                                                         Patience patience) {
  {
    MutexLock lock(mutex_);
    if (connection_ != nullptr && !connection_->broken()) return connection_;
  }
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);

  mutex_.Lock();
  bool tried = false;
  while (true) {
    absl::Status refused;
    if (closed_) {
      refused = MakeStatus(absl::StatusCode::kFailedPrecondition,
                           StrCat("the client of ", peer_, " is closed"));
    } else if (connection_ != nullptr && !connection_->broken()) {
      std::shared_ptr<Connection> connection = connection_;
      mutex_.Unlock();
      return connection;
    } else if (const auto broken = std::exchange(connection_, nullptr)) {
      mutex_.Unlock();
      if (main_) record_.Broke(broken->broken_status());
      mutex_.Lock();
      continue;
    } else if (limits.stop.stop_requested()) {
      refused =
          MakeStatus(absl::StatusCode::kCancelled, StrCat("stopped while waiting for ", peer_));
    } else if (patience == Patience::kWait && record_.refusing()) {
      refused = record_.Refusal().value_or(Trouble());
    }
    const SteadyTime now = std::chrono::steady_clock::now();
    const bool due = now >= next_attempt_ || patience == Patience::kOnce;
    if (refused.ok() && (now >= limits.deadline || (tried && patience != Patience::kWait) ||
                         (!due && patience == Patience::kIfDue))) {
      refused = Trouble();
    }
    // What lasts is not asked for again by every call: a wrong password would be a storm.
    if (refused.ok() && !due && IsLasting(last_error_)) refused = Trouble();
    if (!refused.ok()) {
      mutex_.Unlock();
      return refused;
    }
    if (connecting_ || !due) {
      changed_.WaitUntil(mutex_,
                         connecting_ ? limits.deadline : std::min(next_attempt_, limits.deadline));
      continue;
    }
    connecting_ = true;
    const int disconnects = disconnects_;
    mutex_.Unlock();
    absl::StatusOr<std::shared_ptr<Connection>> made = dialer_(limits);
    const SteadyTime ended = std::chrono::steady_clock::now();
    if (made.ok()) {
      record_.Connected();
    } else if (made.status().code() != absl::StatusCode::kCancelled) {
      record_.Failed(made.status(), IsLasting(made.status()), ended);
    }
    mutex_.Lock();
    connecting_ = false;
    changed_.NotifyAll();
    if (made.ok() && disconnects != disconnects_ && !closed_) {
      // It leads to where we should have been by then no more.
      mutex_.Unlock();
      const absl::Status why =
          MakeStatus(absl::StatusCode::kUnavailable,
                     StrCat("connections to ", peer_, " were given up meanwhile"), kUnavailable);
      (*made)->Break(why);
      if (main_) record_.Broke(why);
      mutex_.Lock();
      continue;
    }
    tried = true;
    if (made.ok()) {
      if (closed_) continue;
      connection_ = *std::move(made);
      descriptor_.store(connection_->descriptor(), std::memory_order_relaxed);
      failures_ = 0;
      ++generation_;
      last_error_ = last_reason_ = absl::OkStatus();
      next_attempt_ = SteadyTime::min();
      continue;
    }
    if (made.status().code() == absl::StatusCode::kCancelled)
      continue;  // our own stop; says nothing of the server
    Remember(made.status(), ended >= limits.deadline);
    next_attempt_ = ended + absl::ToChronoNanoseconds(
                                JitteredDelay(BackoffLimits{}, ++failures_, jitter_.Next()));
    if (IsLasting(last_error_)) {
      absl::Status status = last_error_;
      mutex_.Unlock();
      return status;
    }
  }
}

void Channel::Disconnect(const absl::Status& why) {
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(mutex_);
    connection = std::exchange(connection_, nullptr);
    descriptor_.store(-1, std::memory_order_relaxed);
    ++disconnects_;
    failures_ = 0;
    next_attempt_ = SteadyTime::min();
    changed_.NotifyAll();
  }
  if (connection == nullptr) return;
  connection->Break(why);
  if (main_) record_.Broke(why);
}

void Channel::Hurry() {
  MutexLock lock(mutex_);
  failures_ = 0;
  next_attempt_ = SteadyTime::min();
  changed_.NotifyAll();
}

void Channel::Close() {
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    descriptor_.store(-1, std::memory_order_relaxed);
    connection = std::exchange(connection_, nullptr);
    changed_.NotifyAll();
  }
  if (connection != nullptr) {
    connection->Break(MakeStatus(absl::StatusCode::kFailedPrecondition,
                                 StrCat("the client of ", peer_, " was closed")));
  }
}

void Channel::CloseDescriptorInChild() {
  const int descriptor = descriptor_.exchange(-1, std::memory_order_relaxed);
  if (descriptor >= 0) close(descriptor);
}

int Channel::generation() {
  MutexLock lock(mutex_);
  return generation_;
}

}  // namespace coord::internal
