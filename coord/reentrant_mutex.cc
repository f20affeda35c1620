#include "coord/reentrant_mutex.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord {

using internal::CallLimits;
using internal::MakeStatus;
using internal::Quoted;
using internal::StrCat;

struct ReentrantMutex::State {
  State(Client its_client, std::string_view name, MutexOptions options)
      : client(std::move(its_client)), mutex(client, name, options) {}

  absl::Status Usable() const { return internal::SessionOf(client).Usable(); }
  bool forked() const { return internal::SessionOf(client).forked(); }
  absl::Status Lost() const {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("mutex ", Quoted(mutex.name()),
                             " was lost while this handle had it; release its other holds first"),
                      internal::kLost);
  }

  // Constant after construction.
  const Client client;
  const Mutex mutex;

  mutable internal::Mutex guard;
  internal::CondVar changed;
  bool acquiring ABSL_GUARDED_BY(guard) = false;  // somebody asks, who enters for all
  int count ABSL_GUARDED_BY(guard) = 0;
  Lease lease ABSL_GUARDED_BY(guard);  // while count > 0
};

ReentrantMutex::ReentrantMutex(Client client, std::string_view name, MutexOptions options)
    : state_(std::make_shared<State>(std::move(client), name, options)) {}
ReentrantMutex::ReentrantMutex(ReentrantMutex&&) noexcept = default;
ReentrantMutex& ReentrantMutex::operator=(ReentrantMutex&&) noexcept = default;
ReentrantMutex::~ReentrantMutex() = default;

const std::string& ReentrantMutex::name() const { return state_->mutex.name(); }

int ReentrantMutex::depth() const {
  if (state_->forked()) return 0;
  internal::MutexLock lock(state_->guard);
  return state_->count;
}

absl::StatusOr<ReentrantMutex::Hold> ReentrantMutex::Acquire(absl::Duration timeout,
                                                             std::stop_token stop) {
  if (timeout < absl::ZeroDuration()) return state_->mutex.Acquire(timeout).status();
  if (absl::Status status = state_->Usable(); !status.ok()) return status;
  State& state = *state_;
  const CallLimits limits{internal::DeadlineAfter(timeout), stop};
  const auto wake = [&state] {
    internal::MutexLock lock(state.guard);
    state.changed.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (stop.stop_possible()) on_stop.emplace(stop, wake);
  {
    internal::MutexLock lock(state.guard);
    while (state.acquiring && !stop.stop_requested() && !internal::Passed(limits.deadline)) {
      if (limits.deadline == internal::SteadyTime::max()) {
        state.changed.Wait(state.guard);
      } else {
        state.changed.WaitUntil(state.guard, limits.deadline);
      }
    }
    if (state.acquiring) {
      const std::string waits =
          StrCat("mutex ", Quoted(name()), " is waited for through this handle already");
      if (stop.stop_requested()) {
        return MakeStatus(absl::StatusCode::kCancelled, StrCat("stopped while waiting: ", waits));
      }
      return MakeStatus(absl::StatusCode::kAborted, waits, internal::kBusy);
    }
    if (state.count > 0) {
      if (!state.lease.valid()) return state.Lost();
      ++state.count;
      return Hold(state_);
    }
    state.acquiring = true;
  }
  // With the time that is left; even without any, Acquire asks once.
  absl::StatusOr<Lease> lease = state.mutex.Acquire(
      std::max(internal::TimeUntil(limits.deadline), absl::ZeroDuration()), std::move(stop));
  internal::MutexLock lock(state.guard);
  state.acquiring = false;
  state.changed.NotifyAll();
  if (!lease.ok()) return lease.status();
  state.lease = *std::move(lease);
  state.count = 1;
  return Hold(state_);
}

absl::StatusOr<ReentrantMutex::Hold> ReentrantMutex::TryAcquire(CallOptions options) {
  if (absl::Status status = state_->Usable(); !status.ok()) return status;
  if (absl::Status status = internal::SessionOf(state_->client).Limits(options).status();
      !status.ok()) {
    return status;
  }
  State& state = *state_;
  {
    internal::MutexLock lock(state.guard);
    if (state.acquiring) {
      return MakeStatus(
          absl::StatusCode::kAborted,
          StrCat("mutex ", Quoted(name()), " is waited for through this handle already"),
          internal::kBusy);
    }
    if (state.count > 0) {
      if (!state.lease.valid()) return state.Lost();
      ++state.count;
      return Hold(state_);
    }
    state.acquiring = true;
  }
  absl::StatusOr<Lease> lease = state.mutex.TryAcquire(std::move(options));
  internal::MutexLock lock(state.guard);
  state.acquiring = false;
  state.changed.NotifyAll();
  if (!lease.ok()) return lease.status();
  state.lease = *std::move(lease);
  state.count = 1;
  return Hold(state_);
}

ReentrantMutex::Hold::Hold() = default;
ReentrantMutex::Hold::Hold(std::shared_ptr<State> state) : state_(std::move(state)) {}
ReentrantMutex::Hold::Hold(Hold&&) noexcept = default;

ReentrantMutex::Hold& ReentrantMutex::Hold::operator=(Hold&& other) noexcept {
  if (this != &other) {
    Hold old(std::move(*this));  // releases what we had
    state_ = std::move(other.state_);
  }
  return *this;
}

ReentrantMutex::Hold::~Hold() { (void)Release({.timeout = absl::Seconds(1)}); }

FencingToken ReentrantMutex::Hold::token() const {
  if (state_ == nullptr || state_->forked()) return {};
  internal::MutexLock lock(state_->guard);
  return state_->lease.token();
}

bool ReentrantMutex::Hold::valid() const { return remaining() > absl::ZeroDuration(); }

absl::Duration ReentrantMutex::Hold::remaining() const {
  if (state_ == nullptr || state_->forked()) return absl::ZeroDuration();
  internal::MutexLock lock(state_->guard);
  return state_->lease.remaining();
}

std::stop_token ReentrantMutex::Hold::stop_token() const {
  if (state_ == nullptr || state_->forked()) return Lease().stop_token();
  internal::MutexLock lock(state_->guard);
  return state_->lease.stop_token();
}

absl::Status ReentrantMutex::Hold::Release(CallOptions options) {
  if (state_ == nullptr) return absl::OkStatus();
  if (state_->forked()) return state_->Usable();
  if (absl::Status status = internal::SessionOf(state_->client).Limits(options).status();
      !status.ok()) {
    return status;
  }
  const std::shared_ptr<State> state = std::move(state_);
  state_ = nullptr;
  Lease last;
  {
    internal::MutexLock lock(state->guard);
    if (--state->count > 0) return state->lease.valid() ? absl::OkStatus() : state->Lost();
    last = std::move(state->lease);
  }
  return last.Release(std::move(options));
}

}  // namespace coord
