#include "coord/lock/lease_state.h"

#include <algorithm>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"

namespace coord::internal {

namespace {

// By so much at most a renewal may come before its time, to share a batch.
constexpr absl::Duration kLongestSlack = absl::Milliseconds(200);

}  // namespace

LeaseState::LeaseState(Session& session, LeaseIdentity identity, const LeaseTerms& terms,
                       std::shared_ptr<LossListener> listener)
    : session_(session),
      identity_(std::move(identity)),
      doubtful_(terms.doubtful),
      waited_(terms.waited),
      keep_until_(terms.keep_until),
      listener_(std::move(listener)),
      ttl_(terms.ttl),
      valid_until_(std::min(terms.valid_until, terms.keep_until)),
      renew_at_(terms.renew_at) {}

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
  return identity_.lock->Renew(identity_.owner, ttl);
}

std::string LeaseState::Title() const {
  return StrCat(identity_.lock->what(), " ", Quoted(identity_.lock->name()));
}

absl::Duration LeaseState::Bounded(absl::Duration ttl, absl::Time now) const {
  return std::min(ttl, std::max(keep_until_ - now, absl::Milliseconds(1)));
}

absl::Status LeaseState::ReleasedStatus() const {
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the lease of ", Title(), " has been released or detached"));
}

absl::Status LeaseState::LostStatus() const {
  return MakeStatus(
      absl::StatusCode::kFailedPrecondition,
      StrCat("the lease of ", Title(), " (token ", identity_.token, ") is lost: ", why_lost_),
      kLost);
}

std::stop_source LeaseState::Lose(const std::string& why) {
  phase_ = Phase::kLost;
  why_lost_ = why;
  return stop_;
}

void LeaseState::Tell(std::stop_source source, bool lost) {
  if (lost && listener_ != nullptr) listener_->OnLost(*this);
  if (!source.stop_possible()) return;
  session_.Post([source = std::move(source)]() mutable { source.request_stop(); });
}

absl::Status LeaseState::Renew(absl::Duration ttl, const CallLimits& limits) {
  absl::Duration asked;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kLost) return LostStatus();
    if (phase_ == Phase::kReleased) return ReleasedStatus();
    const absl::Time now = session_.clock().Now();
    asked = Bounded(ttl, now);
    // From now on the background renews with the new time, which also decides how this attempt
    // counts if its reply is lost: a shorter time may be in force from the moment of sending.
    valid_until_ = std::min(valid_until_, ValidUntil(now, asked, asked));
    ttl_ = ttl;
  }
  CallTrace trace;
  absl::StatusOr<Reply> reply = session_.Execute(RenewRequest(asked), limits, &trace);
  std::stop_source told(std::nostopstate);
  bool lost = false;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kLost) return LostStatus();
    if (!reply.ok()) {
      status = Annotate(reply.status(), StrCat("renewing ", Title()));
      renew_at_ = session_.clock().Now();
    } else if (reply->integer() == 1) {
      valid_until_ = std::min(ValidUntil(trace.sent, asked, asked), keep_until_);
      renew_at_ = RenewAt(trace.sent, ttl);
      // A renewal under way on the other connection may reach the server after this one, with the
      // time it was asked for.
      if (renewing_)
        valid_until_ = std::min(valid_until_, ValidUntil(asked_at_, asked_ttl_, asked_ttl_));
    } else if (phase_ == Phase::kHeld) {
      told = Lose("the server no longer knows it");
      lost = true;
      status = LostStatus();
    }
  }
  Tell(std::move(told), lost);
  session_.background().Reschedule(*this);
  return status;
}

absl::Status LeaseState::Release(const CallLimits& limits,
                                 const std::optional<LockProtocol::Unused>& unused) {
  absl::Status lost;
  bool just_lost = false;
  absl::Duration ttl;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kReleased) return absl::OkStatus();
    // The background may not have come round to saying so; the callbacks have nothing left to
    // guard.
    if (phase_ == Phase::kHeld && valid_until_ <= session_.clock().Now()) {
      Lose("it ran out");
      just_lost = true;
    }
    if (phase_ == Phase::kLost) lost = LostStatus();
    phase_ = Phase::kReleased;
    ttl = ttl_;
  }
  session_.background().Remove(*this);
  Tell(std::stop_source(std::nostopstate), just_lost);
  if (!lost.ok())
    return lost;  // nothing there to give back, or only for the moment that clocks may differ
  absl::StatusOr<Reply> reply = Reply();
  bool repeated = false;
  if (!doubtful_) {
    Request release = identity_.lock->Release(identity_.owner, unused);
    if (waited_) release.TellOthersFirst();
    reply = session_.Execute(std::move(release), limits);
    repeated = !reply.ok() && IsOutcomeUnknown(reply.status()) &&
               reply.status().code() == absl::StatusCode::kUnavailable;
  }
  if (doubtful_ || repeated) {
    CallTrace trace;
    reply = session_.Execute(
        Withdrawal::MakeRequest(session_, *identity_.lock, identity_.owner, true), limits, &trace);
    repeated |= trace.replayed;
  }
  if (!reply.ok()) {
    // Nobody else should wait for the ttl because of that.
    if (coord::IsUnavailable(reply.status()) || IsOutcomeUnknown(reply.status())) {
      session_.background().Add(
          std::make_shared<Withdrawal>(session_, identity_.lock, identity_.owner, ttl, true));
    }
    return Annotate(reply.status(), StrCat("releasing ", Title()));
  }
  // A repetition that finds nothing follows a release that was applied: the lease was valid when
  // that was sent.
  if (reply->integer() == 1 || repeated) return absl::OkStatus();
  MutexLock lock(mutex_);
  why_lost_ = "the server no longer knew it when it was released";
  return LostStatus();
}

std::optional<LeaseTerms> LeaseState::HandOver(absl::Duration ttl, absl::Duration least) {
  LeaseTerms terms;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kHeld || ttl_ != ttl) return std::nullopt;
    if (valid_until_ - session_.clock().Now() < least) return std::nullopt;
    phase_ = Phase::kReleased;
    terms = LeaseTerms{ttl_, valid_until_, renew_at_, absl::InfiniteFuture(), doubtful_, waited_};
    // An answer to what has been asked would not reach the one who takes over.
    if (renewing_) terms.renew_at = RetryRenewalAt(session_.clock().Now(), ttl_);
  }
  session_.background().Remove(*this);
  return terms;
}

absl::StatusOr<LeaseTerms> LeaseState::Detach() {
  LeaseTerms terms;
  absl::Status lost;
  std::stop_source told(std::nostopstate);
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kReleased) return ReleasedStatus();
    if (phase_ == Phase::kHeld && valid_until_ <= session_.clock().Now()) {
      told = Lose("it ran out");
      lost = LostStatus();
    } else if (phase_ == Phase::kLost) {
      return LostStatus();
    } else {
      phase_ = Phase::kReleased;
      terms = LeaseTerms{ttl_, valid_until_, renew_at_, keep_until_, doubtful_, waited_};
    }
  }
  session_.background().Remove(*this);
  // Others of this process may ask the server from now on.
  Tell(std::move(told), true);
  if (!lost.ok()) return lost;
  return terms;
}

absl::Status LeaseState::Forget(const std::string& why) {
  std::stop_source told(std::nostopstate);
  absl::Status status;
  bool lost = false;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kHeld) {
      told = Lose(why);
      lost = true;
    }
    status = LostStatus();
  }
  Tell(std::move(told), lost);
  session_.background().Reschedule(*this);
  return status;
}

absl::Time LeaseState::NextTick() {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kHeld) return absl::InfiniteFuture();
  return renewing_ ? valid_until_ : std::min(renew_at_, valid_until_);
}

// Leases that were taken at any time are renewed together.
absl::Duration LeaseState::SlackLocked() const {
  return renewing_ || phase_ != Phase::kHeld ? absl::ZeroDuration()
                                             : std::min(ttl_ / 60, kLongestSlack);
}

absl::Duration LeaseState::slack() const {
  MutexLock lock(mutex_);
  return SlackLocked();
}

std::optional<Beat::Ask> LeaseState::Tick(absl::Time now) {
  std::stop_source told(std::nostopstate);
  bool lost = false;
  std::optional<Ask> ask;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kHeld) return std::nullopt;
    if (now >= valid_until_) {
      told = Lose(now + Drift(ttl_) >= keep_until_ ? "it has been held for max_hold"
                                                   : "it ran out before it could be renewed");
      lost = true;
    } else if (!renewing_ && now >= renew_at_ - SlackLocked()) {
      renewing_ = true;
      asked_at_ = now;
      asked_ttl_ = Bounded(ttl_, now);
      ask = Ask{RenewRequest(asked_ttl_), std::max(ttl_ / 6, absl::Milliseconds(10))};
    }
  }
  Tell(std::move(told), lost);
  return ask;
}

void LeaseState::Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) {
  std::stop_source told(std::nostopstate);
  bool lost = false;
  {
    MutexLock lock(mutex_);
    renewing_ = false;
    if (phase_ != Phase::kHeld) return;
    if (!reply.ok()) {
      renew_at_ = RetryRenewalAt(now, ttl_);
    } else if (reply->integer() != 1) {
      told = Lose("a renewal found that the server no longer knows it");
      lost = true;
    } else {
      valid_until_ = std::max(valid_until_, ValidUntil(sent, asked_ttl_, asked_ttl_));
      renew_at_ = RenewAt(sent, ttl_);
      if (asked_ttl_ < ttl_) {  // that was the last time before keep_until_
        valid_until_ = std::min(valid_until_, ValidUntil(sent, asked_ttl_, asked_ttl_));
        renew_at_ = absl::InfiniteFuture();
      }
    }
    // The holder has chosen another time meanwhile; which of the two the server has now is not
    // known until it is asked again.
    if (phase_ == Phase::kHeld && asked_ttl_ != Bounded(ttl_, asked_at_)) {
      valid_until_ = std::min(valid_until_, ValidUntil(sent, asked_ttl_, asked_ttl_));
      renew_at_ = now;
    }
  }
  Tell(std::move(told), lost);
}

// What made the connection break may have made the server forget.
void LeaseState::LinkBroken() {
  MutexLock lock(mutex_);
  if (phase_ == Phase::kHeld && renew_at_ != absl::InfiniteFuture()) {
    renew_at_ = std::min(renew_at_, session_.clock().Now());
  }
}

void LeaseState::Closed() {
  std::stop_source told(std::nostopstate);
  bool lost = false;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kHeld) {
      told = Lose("its client was closed");
      lost = true;
    }
  }
  Tell(std::move(told), lost);
}

Withdrawal::Withdrawal(Session& session, std::shared_ptr<const LockProtocol> lock,
                       std::string owner, absl::Duration ttl, bool late_duplicates)
    : session_(session),
      lock_(std::move(lock)),
      owner_(std::move(owner)),
      give_up_(session.clock().Now() + std::max(ttl, absl::Seconds(3))),
      late_duplicates_(late_duplicates),
      next_(absl::InfinitePast()) {}

Request Withdrawal::MakeRequest(const Session& session, const LockProtocol& lock,
                                std::string_view owner, bool late_duplicates) {
  // Long enough for whatever copy of the acquire is still on its way.
  const absl::Duration memory = std::max(2 * session.options().timeout, absl::Seconds(5));
  return lock.Withdraw(owner, late_duplicates ? memory : absl::ZeroDuration());
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
  return Ask{MakeRequest(session_, *lock_, owner_, late_duplicates_), absl::Seconds(1)};
}

void Withdrawal::Answer(absl::StatusOr<Reply> reply, absl::Time, absl::Time now) {
  {
    MutexLock lock(mutex_);
    const absl::Status& status = reply.status();
    // An error of the script's own comes after its first step, which is the withdrawal.
    if ((coord::IsUnavailable(status) || IsOutcomeUnknown(status)) && now < give_up_) {
      next_ = now + absl::Milliseconds(50);
      late_duplicates_ = true;  // whatever broke may still hold bytes of before
      return;
    }
  }
  session_.background().Remove(*this);
}

}  // namespace coord::internal
