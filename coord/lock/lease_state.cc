#include "coord/lock/lease_state.h"

#include <algorithm>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "scripts.h"

namespace coord::internal {

LeaseState::LeaseState(Session& session, LeaseIdentity identity, absl::Duration ttl,
                       absl::Time sent, absl::Time valid_until, bool doubtful)
    : session_(session),
      identity_(std::move(identity)),
      doubtful_(doubtful),
      ttl_(ttl),
      valid_until_(valid_until),
      renew_at_(std::min(RenewAt(sent, ttl), sent + (valid_until - sent) / 3)) {}

absl::Duration LeaseState::Remaining() const {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kHeld) return absl::ZeroDuration();
  return std::max(valid_until_ - session_.clock().Now(), absl::ZeroDuration());
}

std::stop_token LeaseState::StopToken() {
  MutexLock lock(mutex_);
  if (!stop_.stop_possible()) {
    stop_ = std::stop_source();
    if (phase_ == Phase::kLost) stop_.request_stop();  // nobody can have a callback on it yet
  }
  return stop_.get_token();
}

Request LeaseState::RenewRequest(absl::Duration ttl) const {
  const std::string ms = StrCat(CeilMilliseconds(ttl));
  return Bind(kMutexRenew, {identity_.lease_key, identity_.fence_key}, {identity_.owner, ms});
}

void LeaseState::Extend(absl::Time sent, absl::Duration ttl) {
  valid_until_ = std::max(valid_until_, ValidUntil(sent, ttl, ttl));
  renew_at_ = RenewAt(sent, ttl);
}

absl::Status LeaseState::LostStatus() const {
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the lease of mutex ", Quoted(identity_.name), " (token ",
                           identity_.token, ") is lost: ", why_lost_),
                    kLost);
}

std::stop_source LeaseState::Lose(const std::string& why) {
  phase_ = Phase::kLost;
  why_lost_ = why;
  return stop_;
}

void LeaseState::Tell(std::stop_source source) {
  if (!source.stop_possible()) return;
  session_.Post([source = std::move(source)]() mutable { source.request_stop(); });
}

absl::Status LeaseState::Renew(absl::Duration ttl, const CallLimits& limits) {
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kLost) return LostStatus();
    if (phase_ == Phase::kReleased) {
      return MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          StrCat("the lease of mutex ", Quoted(identity_.name), " has been released"));
    }
    // From now on the background renews with the new time, which also decides how this attempt
    // counts if its reply is lost: a shorter time may be in force from the moment of sending.
    valid_until_ = std::min(valid_until_, ValidUntil(session_.clock().Now(), ttl, ttl));
    ttl_ = ttl;
  }
  CallTrace trace;
  absl::StatusOr<Reply> reply = session_.Execute(RenewRequest(ttl), limits, &trace);
  absl::Time renew_at;
  std::stop_source lost(std::nostopstate);
  absl::Status status;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kLost) return LostStatus();
    if (!reply.ok()) {
      status = Annotate(reply.status(), StrCat("renewing mutex ", Quoted(identity_.name)));
      renew_at_ = session_.clock().Now();
    } else if (reply->integer() == 1) {
      valid_until_ = ValidUntil(trace.sent, ttl, ttl);
      renew_at_ = RenewAt(trace.sent, ttl);
      // A renewal under way on the other connection may reach the server after this one, with the
      // time it was asked for.
      if (renewing_)
        valid_until_ = std::min(valid_until_, ValidUntil(asked_at_, asked_ttl_, asked_ttl_));
    } else if (phase_ == Phase::kHeld) {
      lost = Lose("the server no longer knows it");
      status = LostStatus();
    }
    renew_at = std::min(renew_at_, valid_until_);
  }
  Tell(std::move(lost));
  session_.background().Poke(renew_at);
  return status;
}

absl::Status LeaseState::Release(const CallLimits& limits) {
  absl::Status lost;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kReleased) return absl::OkStatus();
    // The background may not have come round to saying so; the callbacks have nothing left to
    // guard.
    if (phase_ == Phase::kHeld && valid_until_ <= session_.clock().Now()) Lose("it ran out");
    if (phase_ == Phase::kLost) lost = LostStatus();
    phase_ = Phase::kReleased;
  }
  session_.background().Remove(*this);
  if (!lost.ok())
    return lost;  // nothing there to give back, or only for the moment that clocks may differ
  absl::StatusOr<Reply> reply = Reply();
  bool repeated = doubtful_;
  if (!doubtful_) {
    reply = session_.Execute(Bind(kMutexRelease, {identity_.lease_key}, {identity_.owner}), limits);
    repeated = !reply.ok() && IsOutcomeUnknown(reply.status()) &&
               reply.status().code() == absl::StatusCode::kUnavailable;
  }
  if (repeated) {
    reply = session_.Execute(Withdrawal::MakeRequest(session_, identity_), limits);
  }
  if (!reply.ok()) {
    return Annotate(reply.status(), StrCat("releasing mutex ", Quoted(identity_.name)));
  }
  // A repetition that finds nothing follows a release that was applied: the lease was valid when
  // that was sent.
  if (reply->integer() == 1 || repeated) return absl::OkStatus();
  MutexLock lock(mutex_);
  why_lost_ = "the server no longer knew it when it was released";
  return LostStatus();
}

absl::Time LeaseState::NextTick() {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kHeld) return absl::InfiniteFuture();
  return renewing_ ? valid_until_ : std::min(renew_at_, valid_until_);
}

std::optional<Beat::Ask> LeaseState::Tick(absl::Time now) {
  std::stop_source lost(std::nostopstate);
  std::optional<Ask> ask;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kHeld) return std::nullopt;
    if (now >= valid_until_) {
      lost = Lose("it ran out before it could be renewed");
    } else if (!renewing_ && now >= renew_at_) {
      renewing_ = true;
      asked_at_ = now;
      asked_ttl_ = ttl_;
      ask = Ask{RenewRequest(ttl_), std::max(ttl_ / 6, absl::Milliseconds(10))};
    }
  }
  Tell(std::move(lost));
  return ask;
}

void LeaseState::Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) {
  std::stop_source lost(std::nostopstate);
  {
    MutexLock lock(mutex_);
    renewing_ = false;
    if (phase_ != Phase::kHeld) return;
    if (!reply.ok()) {
      renew_at_ = RetryRenewalAt(now, ttl_);
    } else if (reply->integer() != 1) {
      lost = Lose("a renewal found that the server no longer knows it");
    } else {
      Extend(sent, asked_ttl_);
    }
    // The holder has chosen another time meanwhile; which of the two the server has now is not
    // known until it is asked again.
    if (asked_ttl_ != ttl_) {
      valid_until_ = std::min(valid_until_, ValidUntil(sent, asked_ttl_, asked_ttl_));
      renew_at_ = now;
    }
  }
  Tell(std::move(lost));
}

void LeaseState::Closed() {
  std::stop_source lost(std::nostopstate);
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kHeld) lost = Lose("its client was closed");
  }
  Tell(std::move(lost));
}

Withdrawal::Withdrawal(Session& session, LeaseIdentity identity, absl::Duration ttl)
    : session_(session),
      identity_(std::move(identity)),
      give_up_(session.clock().Now() + ttl),
      next_(absl::InfinitePast()) {}

Request Withdrawal::MakeRequest(const Session& session, const LeaseIdentity& identity) {
  // Long enough for whatever copy of the acquire is still on its way.
  const absl::Duration memory = std::max(2 * session.options().timeout, absl::Seconds(5));
  const std::string ms = StrCat(CeilMilliseconds(memory));
  return Bind(kMutexWithdraw, {identity.lease_key, identity.fence_key}, {identity.owner, ms});
}

absl::Time Withdrawal::NextTick() {
  MutexLock lock(mutex_);
  return next_;
}

std::optional<Beat::Ask> Withdrawal::Tick(absl::Time now) {
  if (now >= give_up_) {
    session_.background().Remove(*this);
    return std::nullopt;
  }
  MutexLock lock(mutex_);
  next_ = absl::InfiniteFuture();
  return Ask{MakeRequest(session_, identity_), absl::Seconds(1)};
}

void Withdrawal::Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) {
  {
    MutexLock lock(mutex_);
    const absl::Status& status = reply.status();
    // An error of the script's own comes after its first step, which is the withdrawal.
    if ((coord::IsUnavailable(status) || IsOutcomeUnknown(status)) && now < give_up_) {
      next_ = now + absl::Milliseconds(50);
      return;
    }
  }
  session_.background().Remove(*this);
}

}  // namespace coord::internal
