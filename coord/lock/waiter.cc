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
// When the holder's lease runs out, but not more often than this.
constexpr absl::Duration kSoonest = absl::Milliseconds(50);
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

absl::Status NoRandomBits() {
  return MakeStatus(absl::StatusCode::kUnavailable,
                    "the system gives no random bits for an owner id", kUnavailable);
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

Place Waiter::PlaceNow() const { return Place{claim_, ear_->channel(), ticket_, alive_}; }

absl::Duration Waiter::Period() const {
  const bool messages = ear_ != nullptr && ear_->subscribed();
  return std::min(claim_ / 3, messages ? kLongestPeriod : kPeriodWithoutMessages);
}

void Waiter::Grant(std::uint64_t token, absl::Time valid_until, absl::Time renew_at) {
  phase_ = Phase::kGranted;
  token_ = token;
  terms_ =
      LeaseTerms{ttl_, valid_until, renew_at, absl::InfiniteFuture(), doubtful_, ticket_ != "0"};
  ask_at_ = absl::InfiniteFuture();
  Rouse();
}

void Waiter::Fail(absl::Status status) {
  phase_ = Phase::kFailed;
  failed_ = std::move(status);
  ask_at_ = absl::InfiniteFuture();
  Rouse();
}

void Waiter::Rouse() {
  if (phase_ != Phase::kWaiting) Want(false);
  roused_.store(true);
  changed_.NotifyAll();
  // Who reads has called this himself, most of the time.
  if (reader_ != std::this_thread::get_id()) end_reading_.request_stop();
}

void Waiter::Want(bool now) {
  if (std::exchange(wants_, now) == now) return;
  session_.wakes().Want(now ? 1 : -1);
  if (!now) session_.wakes().NoteWait();
}

bool Waiter::Read(const CallLimits& limits) {
  const std::shared_ptr<Connection> link = ear_ == nullptr ? nullptr : ear_->link();
  if (link == nullptr) return false;
  reader_ = std::this_thread::get_id();
  end_reading_ = std::stop_source();
  const CallLimits until{limits.deadline, end_reading_.get_token()};
  roused_.store(false);
  mutex_.Unlock();
  const Connection::ListenResult result = link->Listen(until, roused_);
  mutex_.Lock();
  reader_ = {};
  end_reading_ = std::stop_source(std::nostopstate);
  if (result == Connection::ListenResult::kBroken) {
    mutex_.Unlock();
    session_.background().Look();
    mutex_.Lock();
    return false;
  }
  return result != Connection::ListenResult::kTaken;
}

void Waiter::LetOthersRead() {
  if (!session_.wakes().wanted()) return;
  mutex_.Unlock();
  session_.background().Look();
  mutex_.Lock();
}

void Waiter::Settle(const absl::StatusOr<Reply>& reply, absl::Time sent, bool replayed) {
  if (phase_ != Phase::kWaiting) {
    // The message was quicker than the answer, which has not come: the question may be under way.
    if (phase_ == Phase::kGranted && !reply.ok()) terms_.doubtful = true;
    return;
  }
  const absl::Time now = session_.clock().Now();
  doubtful_ |= replayed;
  const bool ask_again = std::exchange(ask_again_, false);
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
      return Fail(MakeStatus(
          absl::StatusCode::kUnavailable,
          StrCat(Title(), ": this attempt was withdrawn, or forced out by an operator; try again"),
          kUnavailable));
    case LockAnswer::Kind::kHeld:
      break;
  }
  trouble_ = absl::OkStatus();
  holder_ = std::move(answer->holder);
  holder_left_ = answer->left;
  ask_at_ = ask_again ? now : sent + Period();
  if (answer->ticket.empty()) return;  // asked without a place
  ticket_ = std::move(answer->ticket);
  alive_ = std::move(answer->alive);
  not_before_ = std::max(not_before_, sent);
  above_ = std::max(above_, answer->last_token);
  // A holder that vanished is nobody's to announce.
  if (holder_left_ < Period()) {
    ask_at_ = std::min(ask_at_, sent + std::max(holder_left_ + absl::Milliseconds(1), kSoonest));
  }
}

absl::StatusOr<std::optional<Waiter::Granted>> Waiter::Try(const CallLimits& limits,
                                                           const ReplicaWait& replicas) {
  CallTrace trace;
  std::optional<int> acknowledged;
  absl::StatusOr<Reply> reply = absl::UnknownError("");
  if (replicas.count == 0) {
    reply = session_.Execute(lock_->Ask(owner_, ttl_, nullptr), limits, &trace);
  } else {
    absl::StatusOr<Node::Acknowledged> both = session_.ExecuteReplicated(
        lock_->Ask(owner_, ttl_, nullptr), {replicas.count, replicas.timeout}, limits, &trace);
    if (both.ok()) {
      reply = std::move(both->reply);
      acknowledged = both->replicas;
    } else {
      reply = both.status();
    }
  }
  MutexLock lock(mutex_);
  if (!reply.ok() && Passing(reply.status())) {
    doubtful_ |= trace.replayed || MayHaveRun(reply.status());
    return Annotate(reply.status(), Title());
  }
  Settle(reply, trace.sent, trace.replayed);
  if (phase_ == Phase::kGranted) {
    Granted granted = Take();
    granted.acknowledged = acknowledged;
    return std::optional<Granted>(std::move(granted));
  }
  if (phase_ == Phase::kFailed) return failed_;
  if (!trouble_.ok()) return Annotate(trouble_, Title());
  return std::optional<Granted>();
}

absl::Status Waiter::Enqueue(const CallLimits& limits) {
  Place place;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kWaiting) return failed_;
    asking_ = true;
    not_before_ = session_.clock().Now();
    ear_ = session_.EarOf(lock_->name());
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
    Rouse();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  absl::StatusOr<Granted> result = absl::UnknownError("");
  {
    MutexLock lock(mutex_);
    Want(phase_ == Phase::kWaiting);
    bool reads = false;
    while (phase_ == Phase::kWaiting && !limits.stop.stop_requested() && !Passed(limits.deadline)) {
      const SteadyTime look = DeadlineAfter(kLongestPeriod);
      const CallLimits turn{std::min(look, limits.deadline), {}};
      reads = Read(turn);
      if (!reads && phase_ == Phase::kWaiting && !limits.stop.stop_requested()) {
        changed_.WaitUntil(mutex_, turn.deadline);
      }
      if (phase_ != Phase::kWaiting || trouble_.ok() || !Passed(look)) continue;
      // Where the server cannot be reached, bringing it back (a look-up of its name, the start of
      // an embedded one) is a caller's work, not the background thread's.
      if (std::exchange(reads, false)) LetOthersRead();
      mutex_.Unlock();
      const std::string_view ping[] = {"PING"};
      (void)session_.Execute(
          Request::Command(ping),
          CallLimits{std::min(limits.deadline, DeadlineAfter(session_.options().timeout)),
                     limits.stop});
      mutex_.Lock();
    }
    Want(false);
    if (reads) LetOthersRead();
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
  return Granted{{lock_, owner_, token_}, terms_, std::nullopt};
}

void Waiter::Leave() {
  session_.wakes().Remove(owner_);
  session_.background().Remove(*this);
}

void Waiter::GiveUp() {
  bool late_duplicates, nothing;
  {
    MutexLock lock(mutex_);
    late_duplicates = doubtful_ || asking_;
    nothing = phase_ == Phase::kGone || (ticket_ == "0" && !late_duplicates);
    phase_ = Phase::kGone;
  }
  Leave();
  if (nothing) return;  // nothing of it is on the server
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
  AskNow();
}

void Waiter::AskNow() {
  if (phase_ != Phase::kWaiting) return;
  if (asking_) {
    ask_again_ = true;
  } else {
    ask_at_ = std::min(ask_at_, session_.clock().Now());
  }
}

// The place is given back here: the thread that waits may wake too late for that.
void Waiter::Closed() {
  bool late_duplicates;
  {
    MutexLock lock(mutex_);
    if (phase_ != Phase::kWaiting) return;
    Fail(MakeStatus(absl::StatusCode::kFailedPrecondition, "the client is closed"));
    late_duplicates = doubtful_ || asking_;
    if (ticket_ == "0" && !late_duplicates) return;
  }
  session_.background().Add(
      std::make_shared<Withdrawal>(session_, lock_, owner_, ttl_, late_duplicates));
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
    AskNow();
  }
  session_.background().Reschedule(*this);
}

bool IsOver(const CallLimits& limits) {
  return limits.stop.stop_requested() || Passed(limits.deadline);
}

CallLimits OneQuestion(const Session& session, const CallLimits& limits) {
  const SteadyTime usual = DeadlineAfter(session.options().timeout);
  return {Passed(limits.deadline) ? usual : std::min(usual, limits.deadline), limits.stop};
}

absl::Status WaitEnded(const Waiter& waiter, const CallLimits& limits) {
  absl::Status busy = waiter.Busy();
  return limits.stop.stop_requested() ? StoppedWaiting(busy) : busy;
}

absl::Status StoppedWaiting(const absl::Status& busy) {
  return MakeStatus(absl::StatusCode::kCancelled,
                    StrCat("stopped while waiting: ", FromAbsl(busy.message())));
}

namespace {

// Makes sure that enough replicas have heard of a grant; gives it back when they have not.
absl::Status Replicate(Session& session, Waiter::Granted& granted, const ReplicaWait& replicas,
                       const CallLimits& limits) {
  if (replicas.count == 0) return absl::OkStatus();
  const LockProtocol& lock = *granted.identity.lock;
  const std::string title = StrCat(lock.what(), " ", Quoted(lock.name()));
  absl::Status failed;
  if (!granted.acknowledged) {
    // Another connection wrote the grant. Replicas take everything in order, so who has heard of a
    // renewal has heard of the grant before it.
    CallTrace trace;
    const absl::Duration ttl = granted.terms.ttl;
    const absl::StatusOr<Node::Acknowledged> renewed =
        session.ExecuteReplicated(lock.Renew(granted.identity.owner, ttl),
                                  {replicas.count, replicas.timeout}, limits, &trace);
    if (!renewed.ok()) {
      failed = Annotate(renewed.status(), title);
    } else if (renewed->reply.integer() != 1) {
      failed = MakeStatus(absl::StatusCode::kUnavailable,
                          StrCat(title, ": the grant was gone before it could be replicated"),
                          kUnavailable);
    } else {
      granted.acknowledged = renewed->replicas;
      granted.terms.valid_until = ValidUntil(trace.sent, ttl, ttl);
      granted.terms.renew_at = RenewAt(trace.sent, ttl);
    }
  }
  if (failed.ok() && *granted.acknowledged >= replicas.count) {
    if (granted.terms.valid_until > session.clock().Now()) return absl::OkStatus();
    failed = MakeStatus(
        absl::StatusCode::kUnavailable,
        StrCat(title, ": the replicas took longer than the lease lasts; raise the ", "ttl"),
        kUnavailable);
  }
  if (failed.ok()) {
    failed = MakeStatus(absl::StatusCode::kUnavailable,
                        StrCat(title, ": ", *granted.acknowledged, " of the ", replicas.count,
                               " replicas asked for acknowledged the lease within ",
                               ToText(replicas.timeout), "; it was given back"),
                        kUnavailable);
  }
  LeaseState unwanted(session, granted.identity, granted.terms);
  (void)unwanted.Release(CallLimits{DeadlineAfter(session.options().timeout), {}});
  return failed;
}

}  // namespace

absl::StatusOr<Waiter::Granted> WaitForTurn(Session& session,
                                            const std::shared_ptr<const LockProtocol>& lock,
                                            absl::Duration ttl, const CallLimits& limits,
                                            std::shared_ptr<Waiter>& waiter,
                                            const ReplicaWait& replicas) {
  const auto one_call = [&] { return OneQuestion(session, limits); };
  const auto accept = [&](Waiter::Granted granted) -> absl::StatusOr<Waiter::Granted> {
    waiter = nullptr;
    if (absl::Status status = Replicate(session, granted, replicas, one_call()); !status.ok()) {
      return status;
    }
    return granted;
  };
  const auto fail = [&](absl::Status status) {
    std::exchange(waiter, nullptr)->GiveUp();
    return status;
  };
  if (waiter == nullptr) {
    waiter = Waiter::Make(session, lock, ttl);
    if (waiter == nullptr) return NoRandomBits();
    if (!session.Listens(lock->name()) || IsOver(limits)) {
      absl::StatusOr<std::optional<Waiter::Granted>> tried = waiter->Try(one_call(), replicas);
      if (tried.ok() && *tried) return accept(**std::move(tried));
      if (IsOver(limits)) {
        return fail(tried.ok() ? WaitEnded(*waiter, limits) : tried.status());
      }
      if (!tried.ok() && !Passing(tried.status())) return fail(tried.status());
      // Messages first, and then a place: a grant must find somebody who listens.
      CallLimits soon = one_call();
      soon.deadline = std::min(
          soon.deadline, DeadlineAfter(std::min(TimeUntil(limits.deadline) / 4, absl::Seconds(1))));
      session.EarOf(lock->name())->Listen(soon);
    }
    if (absl::Status failed = waiter->Enqueue(one_call()); !failed.ok()) return fail(failed);
  }
  std::optional<absl::StatusOr<Waiter::Granted>> awaited = waiter->Await(limits);
  if (!awaited) return WaitEnded(*waiter, limits);
  if (!awaited->ok()) return fail(awaited->status());
  return accept(**std::move(awaited));
}

absl::StatusOr<std::shared_ptr<LeaseState>> Keep(Session& session, Waiter::Granted granted,
                                                 absl::Duration max_hold,
                                                 std::shared_ptr<LossListener> listener) {
  granted.terms.keep_until = session.clock().Now() + max_hold;
  const std::shared_ptr<const LockProtocol> lock = granted.identity.lock;
  auto state = std::make_shared<LeaseState>(session, std::move(granted.identity), granted.terms,
                                            std::move(listener));
  if (session.background().Add(state)) return state;
  (void)state->Release(CallLimits{DeadlineAfter(session.options().timeout), {}});
  if (absl::Status status = session.Usable(); !status.ok()) return status;
  return MakeStatus(absl::StatusCode::kResourceExhausted,
                    StrCat(lock->what(), " ", Quoted(lock->name()),
                           ": the system gives no thread to renew the lease"));
}

absl::StatusOr<Waiter::Granted> WaitAlone(Session& session,
                                          const std::shared_ptr<const LockProtocol>& lock,
                                          absl::Duration ttl, const CallLimits& limits) {
  std::shared_ptr<Waiter> waiter;
  absl::StatusOr<Waiter::Granted> granted = WaitForTurn(session, lock, ttl, limits, waiter);
  if (waiter != nullptr) waiter->GiveUp();
  return granted;
}

absl::StatusOr<std::shared_ptr<LeaseState>> AcquireAlone(
    Session& session, const std::shared_ptr<const LockProtocol>& lock, absl::Duration ttl,
    absl::Duration max_hold, const CallLimits& limits) {
  absl::StatusOr<Waiter::Granted> granted = WaitAlone(session, lock, ttl, limits);
  if (!granted.ok()) return granted.status();
  return Keep(session, *std::move(granted), max_hold);
}

absl::StatusOr<std::shared_ptr<LeaseState>> TryOnce(Session& session,
                                                    std::shared_ptr<const LockProtocol> lock,
                                                    absl::Duration ttl, absl::Duration max_hold,
                                                    const CallLimits& limits,
                                                    const ReplicaWait& replicas) {
  const std::shared_ptr<Waiter> waiter = Waiter::Make(session, std::move(lock), ttl);
  if (waiter == nullptr) return NoRandomBits();
  absl::StatusOr<std::optional<Waiter::Granted>> tried = waiter->Try(limits, replicas);
  if (tried.ok() && *tried) {
    if (absl::Status status = Replicate(session, **tried, replicas, limits); !status.ok()) {
      return status;
    }
    return Keep(session, **std::move(tried), max_hold);
  }
  waiter->GiveUp();
  return tried.ok() ? waiter->Busy() : tried.status();
}

}  // namespace coord::internal
