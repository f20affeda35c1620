#include "coord/lock/cohort.h"

#include <algorithm>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/alone.h"

namespace coord::internal {
namespace {

bool Over(const CallLimits& limits) {
  return limits.stop.stop_requested() || Passed(limits.deadline);
}

absl::Status Stopped(const absl::Status& busy) {
  return MakeStatus(absl::StatusCode::kCancelled,
                    StrCat("stopped while waiting: ", FromAbsl(busy.message())));
}

}  // namespace

absl::Time Cohort::KeepUntil() const { return session_.clock().Now() + max_hold_; }

absl::StatusOr<std::shared_ptr<LeaseState>> Cohort::Acquire(const CallLimits& limits) {
  Member self;
  {
    MutexLock lock(mutex_);
    if (!busy_) {
      busy_ = true;
      self.stands_for_all = true;
    } else {
      members_.push_back(&self);
    }
  }
  if (self.stands_for_all) return AcquireAtServer(limits);

  const auto wake = [this, &self] {
    MutexLock lock(mutex_);
    self.changed.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  {
    MutexLock lock(mutex_);
    while (!self.stands_for_all && self.given == nullptr && !Over(limits)) {
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
  if (self.stands_for_all && !Over(limits)) return AcquireAtServer(limits);
  if (self.stands_for_all) StepDown(nullptr);
  const absl::Status busy = MakeStatus(
      absl::StatusCode::kAborted,
      StrCat(lock_->what(), " ", Quoted(lock_->name()), " is held or waited for by this process, ",
             "and others of its threads came first"),
      kBusy);
  return limits.stop.stop_requested() ? Stopped(busy) : busy;
}

// How long one question may take: no longer than is usual, and even a caller without patience gets
// one round trip.
CallLimits Cohort::OneCall(const CallLimits& limits) const {
  const SteadyTime usual = DeadlineAfter(session_.options().timeout);
  return {Passed(limits.deadline) ? usual : std::min(usual, limits.deadline), limits.stop};
}

absl::StatusOr<std::shared_ptr<LeaseState>> Cohort::AcquireAtServer(const CallLimits& limits) {
  std::shared_ptr<Waiter> waiter;
  {
    MutexLock lock(mutex_);
    waiter = std::move(place_);
  }
  std::optional<Waiter::Granted> granted;
  absl::Status failed;
  if (waiter == nullptr) {
    waiter = Waiter::Make(session_, lock_, ttl_);
    if (waiter == nullptr) {
      failed = MakeStatus(absl::StatusCode::kUnavailable,
                          "the system gives no random bits for an owner id");
    } else if (!session_.listening() || Over(limits)) {
      absl::StatusOr<std::optional<Waiter::Granted>> tried = waiter->Try(OneCall(limits));
      if (tried.ok()) {
        granted = *std::move(tried);
      } else if (Over(limits) ||
                 (!coord::IsUnavailable(tried.status()) && !IsOutcomeUnknown(tried.status()))) {
        failed = tried.status();
      }
      // Messages first, and then a place: a grant must find somebody who listens.
      if (failed.ok() && !granted && !Over(limits)) {
        CallLimits soon = OneCall(limits);
        soon.deadline = std::min(soon.deadline, DeadlineAfter(absl::Seconds(1)));
        session_.Listen(soon);
      }
    }
    if (failed.ok() && !granted && !Over(limits)) failed = waiter->Enqueue(OneCall(limits));
  }
  if (failed.ok() && !granted) {
    std::optional<absl::StatusOr<Waiter::Granted>> awaited = waiter->Await(limits);
    if (awaited && awaited->ok()) {
      granted = **std::move(awaited);
    } else if (awaited) {
      failed = awaited->status();
    } else {
      failed = waiter->Busy();
      if (limits.stop.stop_requested()) failed = Stopped(failed);
      StepDown(std::move(waiter));
      return failed;
    }
  }
  if (!granted) {
    if (waiter != nullptr) waiter->GiveUp();
    StepDown(nullptr);
    return failed;
  }
  granted->terms.keep_until = KeepUntil();
  auto state = std::make_shared<LeaseState>(session_, std::move(granted->identity), granted->terms,
                                            shared_from_this());
  {
    MutexLock lock(mutex_);
    holder_ = state.get();
    turn_ = Turn{session_.clock().Now(), 0};
    next_token_ = 1;
    last_token_ = 0;
  }
  if (session_.background().Add(state)) return state;
  (void)Release(*state, OneCall(limits));
  if (absl::Status status = session_.Usable(); !status.ok()) return status;
  return MakeStatus(absl::StatusCode::kResourceExhausted,
                    StrCat(lock_->what(), " ", Quoted(lock_->name()),
                           ": the system gives no thread to renew the lease"));
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
  if (HandOver(state)) return absl::OkStatus();
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

bool Cohort::HandOver(LeaseState& state) {
  bool reserve;
  {
    MutexLock lock(mutex_);
    if (holder_ != &state || members_.empty()) return false;
    if (!MayHandOver(turn_, session_.clock().Now())) return false;
    reserve = next_token_ > last_token_;
  }
  if (reserve) {
    std::optional<Request> request = lock_->Reserve(state.identity().owner, kMostHandOvers);
    if (!request) return false;
    const absl::StatusOr<Reply> reply = session_.Execute(
        *std::move(request), CallLimits{DeadlineAfter(session_.options().timeout), {}});
    const std::optional<std::int64_t> first = reply.ok() ? ParseInt64(reply->text()) : std::nullopt;
    if (!first || *first <= 0) return false;
    MutexLock lock(mutex_);
    next_token_ = static_cast<std::uint64_t>(*first);
    last_token_ = next_token_ + kMostHandOvers - 1;
  }
  MutexLock lock(mutex_);
  if (holder_ != &state || members_.empty()) return false;
  std::optional<LeaseTerms> terms = state.HandOver(ttl_, LeastToHandOver(ttl_));
  if (!terms) return false;
  terms->keep_until = KeepUntil();
  LeaseIdentity identity = state.identity();
  identity.token = next_token_++;
  auto next =
      std::make_shared<LeaseState>(session_, std::move(identity), *terms, shared_from_this());
  if (!session_.background().Add(next)) {
    // The client is being closed: the lease is lost, and whoever asks next is told so.
    CallNext();
    return true;
  }
  holder_ = next.get();
  ++turn_.hand_overs;
  Member* member = members_.front();
  members_.pop_front();
  member->given = std::move(next);
  member->changed.NotifyAll();
  return true;
}

absl::StatusOr<std::shared_ptr<LeaseState>> TryOnce(Session& session,
                                                    std::shared_ptr<const LockProtocol> lock,
                                                    absl::Duration ttl, absl::Duration max_hold,
                                                    const CallLimits& limits) {
  const std::shared_ptr<Waiter> waiter = Waiter::Make(session, lock, ttl);
  if (waiter == nullptr) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for an owner id");
  }
  absl::StatusOr<std::optional<Waiter::Granted>> tried = waiter->Try(limits);
  if (!tried.ok() || !*tried) {
    waiter->GiveUp();
    return tried.ok() ? waiter->Busy() : tried.status();
  }
  return Hold(session, **std::move(tried), max_hold, limits);
}

}  // namespace coord::internal
