#include "coord/lock/cohort.h"

#include <algorithm>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
absl::StatusOr<std::shared_ptr<LeaseState>> Cohort::Acquire(const CallLimits& limits) {
  Member self;
  bool first;
  {
    MutexLock lock(mutex_);
    first = !std::exchange(busy_, true);
    if (!first) members_.push_back(&self);
  }
  if (first) return AcquireAtServer(limits);

  const auto wake = [this, &self] {
    MutexLock lock(mutex_);
    self.changed.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  {
    MutexLock lock(mutex_);
    while (!self.stands_for_all && self.given == nullptr && !IsOver(limits)) {
      if (limits.deadline == SteadyTime::max()) {
        self.changed.Wait(mutex_);
      } else {
        self.changed.WaitUntil(mutex_, limits.deadline);
      }
    }
    if (!self.stands_for_all && self.given == nullptr) members_.remove(&self);
  }
  on_stop.reset();
  if (self.given != nullptr) return std::move(self.given);
  if (self.stands_for_all && !IsOver(limits)) return AcquireAtServer(limits);
  if (self.stands_for_all) StepDown(nullptr);
  const absl::Status busy = MakeStatus(
      absl::StatusCode::kAborted,
      StrCat(lock_->what(), " ", Quoted(lock_->name()), " is held or waited for by this process, ",
             "and others of its threads came first"),
      kBusy);
  return limits.stop.stop_requested() ? StoppedWaiting(busy) : busy;
}

absl::StatusOr<std::shared_ptr<LeaseState>> Cohort::AcquireAtServer(const CallLimits& limits) {
  std::shared_ptr<Waiter> waiter;
  {
    MutexLock lock(mutex_);
    waiter = std::move(place_);
  }
  absl::StatusOr<Waiter::Granted> granted =
      WaitForTurn(session_, lock_, ttl_, limits, waiter, replicas_);
  absl::StatusOr<std::shared_ptr<LeaseState>> state =
      granted.ok() ? Keep(session_, *std::move(granted), max_hold_, shared_from_this())
                   : granted.status();
  if (!state.ok()) {
    StepDown(std::move(waiter));
    return state;
  }
  MutexLock lock(mutex_);
  holder_ = state->get();
  turn_ = Turn{session_.clock().Now(), 0};
  next_token_ = 1;
  last_token_ = 0;
  return state;
}

void Cohort::StepDown(std::shared_ptr<Waiter> waiter) {
  {
    MutexLock lock(mutex_);
    if (waiter == nullptr) waiter = std::move(place_);
    if (waiter != nullptr && !members_.empty()) place_ = std::exchange(waiter, nullptr);
    CallNext();
  }
  if (waiter != nullptr) waiter->GiveUp();
}

void Cohort::CallNext() {
  holder_ = nullptr;
  if (members_.empty()) {
    busy_ = false;
    return;
  }
  Member* next = members_.front();
  members_.pop_front();
  next->stands_for_all = true;
  next->changed.NotifyAll();
}

void Cohort::OnLost(LeaseState& state) {
  MutexLock lock(mutex_);
  if (holder_ == &state) CallNext();
}

absl::Status Cohort::Release(LeaseState& state, const CallLimits& limits) {
  if (HandOver(state, limits)) return absl::OkStatus();
  std::optional<LockProtocol::Unused> unused;
  {
    MutexLock lock(mutex_);
    if (holder_ == &state && next_token_ <= last_token_) {
      unused = LockProtocol::Unused{next_token_ - 1, last_token_};
    }
  }
  const absl::Status status = state.Release(limits, unused);
  MutexLock lock(mutex_);
  if (holder_ == &state) CallNext();
  return status;
}

bool Cohort::HandOver(LeaseState& state, const CallLimits& limits) {
  bool reserve;
  {
    MutexLock lock(mutex_);
    if (holder_ != &state || members_.empty() || reserving_) return false;
    if (!MayHandOver(turn_, session_.clock().Now())) return false;
    reserve = next_token_ > last_token_;
    reserving_ = reserve;
  }
  if (reserve) {
    std::optional<std::int64_t> first;
    if (std::optional<Request> request = lock_->Reserve(state.identity().owner, kMostHandOvers)) {
      const absl::StatusOr<Reply> reply = session_.Execute(*std::move(request), limits);
      if (reply.ok()) first = ParseInt64(reply->text());
    }
    MutexLock lock(mutex_);
    reserving_ = false;
    // Meanwhile the lease may have been lost and another of us have the lock, with a larger token.
    if (!first || *first <= 0 || holder_ != &state) return false;
    next_token_ = static_cast<std::uint64_t>(*first);
    last_token_ = next_token_ + kMostHandOvers - 1;
  }
  std::shared_ptr<LeaseState> next;
  {
    MutexLock lock(mutex_);
    if (holder_ != &state || members_.empty()) return false;
    std::optional<LeaseTerms> terms = state.HandOver(ttl_, LeastToHandOver(ttl_));
    if (!terms) return false;
    terms->keep_until = session_.clock().Now() + max_hold_;
    LeaseIdentity identity = state.identity();
    identity.token = next_token_++;
    next = std::make_shared<LeaseState>(session_, std::move(identity), *terms, shared_from_this());
    if (session_.background().Add(next)) {
      holder_ = next.get();
      ++turn_.hand_overs;
      Member* member = members_.front();
      members_.pop_front();
      member->given = std::move(next);
      member->changed.NotifyAll();
      return true;
    }
  }
  // The client is being closed.
  (void)next->Release(limits);
  MutexLock lock(mutex_);
  if (holder_ == &state) CallNext();
  return true;
}

}  // namespace coord::internal
