#include "coord/deployment/channel.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {

std::shared_ptr<Connection> Channel::Current() {
  MutexLock lock(mutex_);
  if (connection_ == nullptr || connection_->broken()) return nullptr;
  return connection_;
}

absl::StatusOr<std::shared_ptr<Connection>> Channel::Get(const CallLimits& limits, bool once) {
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
    if (closed_) {
      mutex_.Unlock();
      return MakeStatus(absl::StatusCode::kFailedPrecondition,
                        StrCat("the client of ", peer_, " is closed"));
    }
    if (connection_ != nullptr && !connection_->broken()) {
      std::shared_ptr<Connection> connection = connection_;
      mutex_.Unlock();
      return connection;
    }
    if (limits.stop.stop_requested()) {
      mutex_.Unlock();
      return MakeStatus(absl::StatusCode::kCancelled, StrCat("stopped while waiting for ", peer_));
    }
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now >= limits.deadline || (tried && once)) {
      std::string why = last_error_.ok() ? StrCat("no connection to ", peer_, " in time")
                                         : std::string(FromAbsl(last_error_.message()));
      const absl::StatusCode code =
          last_error_.ok() ? absl::StatusCode::kUnavailable : last_error_.code();
      mutex_.Unlock();
      return MakeStatus(code, why, kUnavailable);
    }
    if (connecting_ || (now < next_attempt_ && !once)) {
      changed_.WaitUntil(mutex_,
                         connecting_ ? limits.deadline : std::min(next_attempt_, limits.deadline));
      continue;
    }
    connecting_ = true;
    mutex_.Unlock();
    absl::StatusOr<std::shared_ptr<Connection>> made = dialer_(limits);
    mutex_.Lock();
    connecting_ = false;
    tried = true;
    changed_.NotifyAll();
    if (made.ok()) {
      if (closed_) continue;
      connection_ = *std::move(made);
      descriptor_.store(connection_->descriptor(), std::memory_order_relaxed);
      failures_ = 0;
      ++generation_;
      last_error_ = absl::OkStatus();
      continue;
    }
    if (made.status().code() == absl::StatusCode::kCancelled)
      continue;  // our own stop; says nothing of the server
    last_error_ = made.status();
    if (IsLasting(last_error_)) {
      absl::Status status =
          MakeStatus(last_error_.code(), FromAbsl(last_error_.message()), Reasons(last_error_));
      mutex_.Unlock();
      return status;
    }
    next_attempt_ =
        std::chrono::steady_clock::now() +
        absl::ToChronoNanoseconds(JitteredDelay(BackoffLimits{}, ++failures_, jitter_.Next()));
  }
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
