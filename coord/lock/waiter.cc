#include "coord/lock/waiter.h"

#include <algorithm>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"

namespace coord::internal {
namespace {

constexpr absl::Duration kLongestPeriod = absl::Seconds(1);
// Without messages, a grant is found by asking.
constexpr absl::Duration kPeriodWithoutMessages = absl::Milliseconds(30);
constexpr absl::Duration kRetry = absl::Milliseconds(50);
// A grant is confirmed so long after it has come: whoever is done sooner spares the server that.
constexpr absl::Duration kConfirm = absl::Milliseconds(50);
constexpr absl::Duration kPatience = absl::Seconds(1);

bool Passing(const absl::Status& status) {
  return coord::IsUnavailable(status) || IsOutcomeUnknown(status);
}

// What a question of unknown outcome, or an error of the script's own, may have left behind.
bool MayHaveRun(const absl::Status& status) {
  return IsOutcomeUnknown(status) || status.code() == absl::StatusCode::kFailedPrecondition;
}

}  // namespace

std::shared_ptr<Waiter> Waiter::Make(Session& session, std::shared_ptr<const LockProtocol> lock,
                                     absl::Duration ttl) {
  std::string owner = NewOwnerId(session.options().client_name);
  if (owner.empty()) return nullptr;
  return std::shared_ptr<Waiter>(new Waiter(session, std::move(lock), std::move(owner), ttl));
}

Waiter::Waiter(Session& session, std::shared_ptr<const LockProtocol> lock, std::string owner,
               absl::Duration ttl)
    : session_(session),
      lock_(std::move(lock)),
      owner_(std::move(owner)),
      ttl_(ttl),
      claim_(ClaimOf(ttl)) {}

std::string Waiter::Title() const { return StrCat(lock_->what(), " ", Quoted(lock_->name())); }

absl::Status Waiter::Busy() const {
  MutexLock lock(mutex_);
  if (holder_.empty()) {
    if (!trouble_.ok()) return Annotate(trouble_, Title());
    return MakeStatus(absl::StatusCode::kUnavailable, StrCat(Title(), ": not asked for in time"),
                      kUnavailable);
  }
  return MakeStatus(absl::StatusCode::kAborted,
                    StrCat(Title(), " ", lock_->Taken(holder_, holder_left_)), kBusy);
}

Place Waiter::PlaceNow() const { return Place{claim_, session_.channel(), ticket_, alive_}; }

absl::Duration Waiter::Period() const {
  const bool messages = session_.node().subscribed();
  return std::min(claim_ / 3, messages ? kLongestPeriod : kPeriodWithoutMessages);
}

void Waiter::Grant(std::uint64_t token, absl::Time valid_until, absl::Time renew_at) {
  phase_ = Phase::kGranted;
  token_ = token;
  terms_ = LeaseTerms{ttl_, valid_until, renew_at, absl::InfiniteFuture(), doubtful_};
  ask_at_ = absl::InfiniteFuture();
  changed_.NotifyAll();
}

void Waiter::Fail(absl::Status status) {
  phase_ = Phase::kFailed;
  failed_ = std::move(status);
  ask_at_ = absl::InfiniteFuture();
  changed_.NotifyAll();
}

void Waiter::Settle(const absl::StatusOr<Reply>& reply, absl::Time sent, bool replayed) {
  if (phase_ != Phase::kWaiting) return;
  const absl::Time now = session_.clock().Now();
  doubtful_ |= replayed;
  if (!reply.ok()) {
    doubtful_ |= MayHaveRun(reply.status());
    if (ticket_ == "0" && doubtful_) ticket_ = "1";
    if (!Passing(reply.status())) return Fail(Annotate(reply.status(), Title()));
    trouble_ = reply.status();
    ask_at_ = now + kRetry;
    return;
  }
  absl::StatusOr<LockAnswer> answer = ReadLockAnswer(lock_->what(), *reply);
  if (!answer.ok()) return Fail(answer.status());
  switch (answer->kind) {
    case LockAnswer::Kind::kGranted: {
      const absl::Time valid_until = ValidUntil(sent, ttl_, answer->left);
      const absl::Time renew_at = std::min(RenewAt(sent, ttl_), sent + (valid_until - sent) / 3);
      if (valid_until > now) return Grant(answer->token, valid_until, renew_at);
      // Granted, but the answer took as long as the lease lasts; it may be that the next does not.
      doubtful_ = true;
      holder_.clear();
      trouble_ = MakeStatus(
          absl::StatusCode::kUnavailable,
          StrCat("the answer took longer than the ttl of ", ToText(ttl_), "; raise the ttl"),
          kUnavailable);
      ask_at_ = now + std::min(kRetry, claim_ / 3);
      return;
    }
    case LockAnswer::Kind::kWithdrawn:
      return Fail(MakeStatus(absl::StatusCode::kUnavailable,
                             StrCat(Title(), ": the server has been told that this one gave up"),
                             kUnavailable));
    case LockAnswer::Kind::kHeld:
      break;
  }
  trouble_ = absl::OkStatus();
  holder_ = std::move(answer->holder);
  holder_left_ = answer->left;
  if (answer->ticket.empty()) return;  // asked without a place
  ticket_ = std::move(answer->ticket);
  alive_ = std::move(answer->alive);
  not_before_ = std::max(not_before_, sent);
  above_ = std::max(above_, answer->last_token);
  ask_at_ = sent + Period();
}

absl::StatusOr<std::optional<Waiter::Granted>> Waiter::Try(const CallLimits& limits) {
  CallTrace trace;
  absl::StatusOr<Reply> reply = session_.Execute(lock_->Ask(owner_, ttl_, nullptr), limits, &trace);
  MutexLock lock(mutex_);
  if (!reply.ok() && Passing(reply.status())) {
    doubtful_ |= trace.replayed || MayHaveRun(reply.status());
    return Annotate(reply.status(), Title());
  }
  Settle(reply, trace.sent, trace.replayed);
  if (phase_ == Phase::kGranted) return std::optional<Granted>(Take());
  if (phase_ == Phase::kFailed) return failed_;
  if (!trouble_.ok()) return Annotate(trouble_, Title());
  return std::optional<Granted>();
}

absl::Status Waiter::Enqueue(const CallLimits& limits) {
  Place place;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kWaiting) return failed_;
    enqueued_ = true;
    asking_ = true;
    not_before_ = session_.clock().Now();
    place = PlaceNow();
  }
  session_.wakes().Add(owner_, shared_from_this());
  if (!session_.background().Add(shared_from_this())) {
    session_.wakes().Remove(owner_);
    if (absl::Status status = session_.Usable(); !status.ok()) return status;
    return MakeStatus(absl::StatusCode::kResourceExhausted,
                      StrCat(Title(), ": the system gives no thread to wait with"));
  }
  CallTrace trace;
  const absl::StatusOr<Reply> reply =
      session_.Execute(lock_->Ask(owner_, ttl_, &place), limits, &trace);
  absl::Status failed;
  {
    MutexLock lock(mutex_);
    asking_ = false;
    Settle(reply, trace.sent, trace.replayed);
    if (phase_ == Phase::kFailed) failed = failed_;
  }
  session_.background().Reschedule(*this);
  return failed;
}

std::optional<absl::StatusOr<Waiter::Granted>> Waiter::Await(const CallLimits& limits) {
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  absl::StatusOr<Granted> result = absl::UnknownError("");
  {
    MutexLock lock(mutex_);
    while (phase_ == Phase::kWaiting && !limits.stop.stop_requested() && !Passed(limits.deadline)) {
      if (limits.deadline == SteadyTime::max()) {
        changed_.Wait(mutex_);
      } else {
        changed_.WaitUntil(mutex_, limits.deadline);
      }
    }
    if (phase_ == Phase::kWaiting) return std::nullopt;
    if (phase_ == Phase::kGranted) {
      result = Take();
    } else {
      result = failed_;
    }
  }
  Leave();
  return result;
}

Waiter::Granted Waiter::Take() {
  phase_ = Phase::kGone;
  // A question under way may arrive after the release, over the other connection.
  terms_.doubtful |= asking_;
  return Granted{{lock_, owner_, token_}, terms_};
}

void Waiter::Leave() {
  session_.wakes().Remove(owner_);
  session_.background().Remove(*this);
}

void Waiter::GiveUp() {
  bool late_duplicates;
  {
    MutexLock lock(mutex_);
    phase_ = Phase::kGone;
    late_duplicates = doubtful_ || asking_;
    if (!enqueued_ && !doubtful_) return;  // nothing of it is on the server
  }
  Leave();
  session_.background().Add(
      std::make_shared<Withdrawal>(session_, lock_, owner_, ttl_, late_duplicates));
}

absl::Time Waiter::NextTick() {
  MutexLock lock(mutex_);
  return asking_ ? absl::InfiniteFuture() : ask_at_;
}

std::optional<Beat::Ask> Waiter::Tick(absl::Time) {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kWaiting || asking_) return std::nullopt;
  asking_ = true;
  ask_at_ = absl::InfiniteFuture();
  const Place place = PlaceNow();
  return Ask{lock_->Ask(owner_, ttl_, &place), kPatience};
}

void Waiter::Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time) {
  MutexLock lock(mutex_);
  asking_ = false;
  Settle(reply, sent, false);
}

// The grant may have been announced meanwhile, and a server that forgot must be told again.
void Waiter::LinkBroken() {
  MutexLock lock(mutex_);
  if (phase_ == Phase::kWaiting) ask_at_ = std::min(ask_at_, session_.clock().Now());
}

void Waiter::Closed() {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kWaiting) return;
  Fail(MakeStatus(absl::StatusCode::kFailedPrecondition, "the client is closed"));
}

void Waiter::OnMessage(std::string_view rest) {
  const auto space = rest.find(' ');
  const std::optional<std::int64_t> token = ParseInt64(rest.substr(0, space));
  const std::optional<std::int64_t> claim =
      space == std::string_view::npos ? std::nullopt : ParseInt64(rest.substr(space + 1));
  if (!token || !claim) return;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kWaiting) return;
    const absl::Time now = session_.clock().Now();
    const absl::Duration believed = absl::Milliseconds(*claim);
    const absl::Time valid_until = ValidUntil(not_before_, believed, believed);
    if (static_cast<std::uint64_t>(*token) > above_ && valid_until > now) {
      return Grant(static_cast<std::uint64_t>(*token), valid_until,
                   now + std::min(kConfirm, (valid_until - now) / 4));
    }
    // The lock is free, or the message is an old one: the server knows.
    ask_at_ = now;
  }
  session_.background().Reschedule(*this);
}

}  // namespace coord::internal
