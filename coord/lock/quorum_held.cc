#include "coord/lock/quorum_held.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// When to look after a vote that was not there yet when the majority was: not at once, since most
// leases are short and most stragglers come by themselves.
constexpr absl::Duration kStragglerPause = absl::Milliseconds(100);

bool IsPassing(const absl::Status& status) {
  return coord::IsUnavailable(status) || IsOutcomeUnknown(status);
}

}  // namespace

// What one server's background thread has to do with the lease.
class QuorumLease::Part final : public Beat {
 public:
  Part(std::shared_ptr<QuorumLease> lease, std::size_t i) : lease_(std::move(lease)), i_(i) {}
  absl::Time NextTick() override { return lease_->NextTick(i_); }
  std::optional<Ask> Tick(absl::Time now) override { return lease_->Tick(i_, now); }
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override {
    lease_->Answer(i_, std::move(reply), sent, now);
  }
  void Closed() override { lease_->Closed(i_); }
  bool owed() const override { return lease_->Owed(i_); }

 private:
  const std::shared_ptr<QuorumLease> lease_;
  const std::size_t i_;
};

QuorumLease::QuorumLease(QuorumCore& core, QuorumIdentity identity, absl::Duration ttl,
                         std::vector<QuorumStanding> standings)
    : clock_(core.clock()),
      identity_(std::move(identity)),
      ballot_text_(BallotText(identity_.ballot)),
      settings_(core.settings()),
      patience_(core.Patience(ttl)),
      ttl_(ttl),
      votes_(core.size()),
      seats_(core.size()) {
  const absl::Time now = clock_.Now();
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    Seat& seat = seats_[i];
    QuorumStanding& standing = standings[i];
    seat.session = core.member(i).session().get();
    seat.background = &seat.session->background();
    seat.name = core.member(i).name();
    seat.marker = core.member(i).marker();
    seat.may_hold = standing.may_hold;
    seat.late_copy = standing.late_copy;
    seat.call = std::move(standing.straggler);
    votes_[i] = standing.vote;
    if (standing.vote.ballot == identity_.ballot) {
      seat.step = Step::kRenew;
      seat.due = std::min(RenewAt(standing.sent, ttl),
                          standing.sent + (standing.vote.valid_until - standing.sent) / 3);
    } else {
      seat.step = Step::kAcquire;
      seat.due = now + std::min(ttl / 6, kStragglerPause);
    }
  }
}

bool QuorumLease::AddPart(std::size_t i) {
  auto part = std::make_shared<Part>(shared_from_this(), i);
  Background* background;
  {
    MutexLock lock(mutex_);
    if (!seats_[i].part.expired()) return true;
    seats_[i].part = part;
    background = seats_[i].background;
  }
  return background->Add(std::move(part));
}

void QuorumLease::RemovePart(std::size_t i) {
  std::shared_ptr<Part> part;
  Background* background;
  {
    MutexLock lock(mutex_);
    part = seats_[i].part.lock();
    background = seats_[i].background;
  }
  if (part != nullptr) background->Remove(*part);
}

void QuorumLease::ReschedulePart(std::size_t i) {
  std::shared_ptr<Part> part;
  Background* background;
  {
    MutexLock lock(mutex_);
    part = seats_[i].part.lock();
    background = seats_[i].background;
  }
  if (part != nullptr) background->Reschedule(*part);
}

bool QuorumLease::Start() {
  std::size_t added = 0;
  std::size_t count;
  {
    MutexLock lock(mutex_);
    started_ = true;
    count = seats_.size();
  }
  for (std::size_t i = 0; i < count; ++i) added += AddPart(i) ? 1 : 0;
  return added >= MajorityOf(count);
}

absl::Time QuorumLease::ValidUntilNow() const {
  return std::min(MajorityValidUntil(votes_, identity_.ballot), identity_.keep_until);
}

absl::Duration QuorumLease::Remaining() const {
  MutexLock lock(mutex_);
  if (phase_ != Phase::kHeld) return absl::ZeroDuration();
  return std::max(ValidUntilNow() - clock_.Now(), absl::ZeroDuration());
}

std::stop_token QuorumLease::StopToken() {
  MutexLock lock(mutex_);
  if (!stop_.stop_possible()) {
    stop_ = std::stop_source();
    if (phase_ == Phase::kLost) stop_.request_stop();  // nobody can have a callback on it yet
  }
  return stop_.get_token();
}

bool QuorumLease::MajorityLeft() const {
  return CountVotes(votes_, identity_.ballot) >= MajorityOf(votes_.size());
}

absl::Status QuorumLease::LostStatus() const {
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("the lease of mutex ", Quoted(identity_.name), " (token ",
                           identity_.ballot, ") is lost: ", why_lost_),
                    kLost);
}

std::stop_source QuorumLease::Lose(std::string why) {
  phase_ = Phase::kLost;
  why_lost_ = std::move(why);
  changed_.NotifyAll();
  return stop_;
}

void QuorumLease::Tell(Session& session, std::stop_source source) {
  if (!source.stop_possible()) return;
  session.Post([source = std::move(source)]() mutable { source.request_stop(); });
}

Request QuorumLease::ReleaseRequest(const Session& session, bool remember) const {
  // Long enough for whatever copy of an acquire is still on its way.
  const absl::Duration memory = std::max(2 * session.options().timeout, absl::Seconds(5));
  const std::string ms = remember ? StrCat(CeilMilliseconds(memory)) : "0";
  const std::string_view keys[] = {identity_.keys.lease, identity_.keys.fence,
                                   identity_.keys.hints};
  const std::string_view args[] = {identity_.owner, ms};
  // Votes that made no lease kept nobody else from it for long, and who waits is not told of them.
  return Request::Call(kQuorumRelease, std::span(keys).first(started_ ? 3 : 2), args);
}

Request QuorumLease::MakeRequest(const Seat& seat, Step step, absl::Duration left) const {
  const std::string ttl = StrCat(CeilMilliseconds(left));
  switch (step) {
    case Step::kAcquire:
      return QuorumAcquireRequest(identity_.keys, seat.marker, identity_.owner, left,
                                  identity_.ballot, settings_, nullptr);
    case Step::kRenew:
      return Bind(kQuorumRenew, {identity_.keys.lease, identity_.keys.fence, seat.marker},
                  {identity_.owner, ttl, ballot_text_});
    case Step::kBirth: {
      const auto space = settings_.find(' ');
      return Bind(kQuorumBirth, {seat.marker},
                  {std::string_view(settings_).substr(0, space),
                   std::string_view(settings_).substr(space + 1)});
    }
    case Step::kRelease:
    case Step::kNothing:
      break;
  }
  return ReleaseRequest(*seat.session, seat.late_copy);
}

// ---- The background's side ----

absl::Time QuorumLease::NextTick(std::size_t i) {
  MutexLock lock(mutex_);
  const Seat& seat = seats_[i];
  const absl::Time due = seat.asking ? absl::InfiniteFuture() : seat.due;
  switch (phase_) {
    case Phase::kHeld:
      return std::min(due, ValidUntilNow());
    case Phase::kReleased:
      return due;
    case Phase::kLost:
      break;
  }
  return absl::InfiniteFuture();
}

std::optional<Beat::Ask> QuorumLease::Tick(std::size_t i, absl::Time now) {
  std::stop_source lost(std::nostopstate);
  std::optional<Beat::Ask> ask;
  bool finished = false;
  Session* session;
  {
    MutexLock lock(mutex_);
    Seat& seat = seats_[i];
    session = seat.session;
    if (phase_ == Phase::kHeld && now >= ValidUntilNow()) {
      lost = Lose(now + Drift(ttl_) >= identity_.keep_until
                      ? "it has been held for max_hold"
                      : "it ran out before a majority could renew it");
    }
    if (phase_ == Phase::kHeld && !seat.asking && now >= seat.due) {
      if (seat.call != nullptr) {
        // The acquire of the first round: perhaps it was answered meanwhile.
        const bool answered = seat.call->Look() && !seat.call->broke();
        if (answered) {
          Acquired(i, seat.call->Result(seat.name), seat.call->sent(), now);
        } else {
          seat.late_copy = true;
        }
        seat.call.reset();
      }
      if (now >= seat.due && seat.step != Step::kNothing) {
        seat.asking = true;
        seat.asked = seat.step;
        seat.asked_ttl = ttl_;
        seat.asked_left =
            std::min(ttl_, std::max(identity_.keep_until - now, absl::Milliseconds(1)));
        seat.asked_epoch = epoch_;
        if (seat.step == Step::kAcquire) {
          seat.may_hold = true;
          // It goes another way than a release would, and may be overtaken by that.
          seat.copy_before = seat.late_copy;
          seat.late_copy = true;
        }
        ask = Beat::Ask{MakeRequest(seat, seat.step, seat.asked_left),
                        std::max(ttl_ / 6, absl::Milliseconds(10))};
      }
    } else if (phase_ == Phase::kReleased && !seat.asking && now >= seat.due) {
      if (seat.call != nullptr) {
        if (seat.call->Look() && seat.call->Result(seat.name).ok()) {
          finished = true;
        } else {
          seat.late_copy = true;
        }
        seat.call.reset();
      }
      finished = finished || now >= give_up_ || !seat.may_hold;
      if (!finished) {
        seat.asking = true;
        seat.asked = Step::kRelease;
        ask = Beat::Ask{MakeRequest(seat, Step::kRelease, {}), absl::Seconds(1)};
      }
    }
  }
  Tell(*session, std::move(lost));
  if (finished) RemovePart(i);
  // The batch may begin with another script, which heals only itself.
  if (ask) ask->request.UseEval();
  return ask;
}

void QuorumLease::Answer(std::size_t i, absl::StatusOr<Reply> reply, absl::Time sent,
                         absl::Time now) {
  std::stop_source lost(std::nostopstate);
  bool finished = false;
  Session* session;
  {
    MutexLock lock(mutex_);
    Seat& seat = seats_[i];
    session = seat.session;
    seat.asking = false;
    if (phase_ == Phase::kReleased) {
      if (seat.asked != Step::kRelease) {
        seat.due = std::min(seat.due, now);  // what it was asked before changes nothing any more
      } else if (!reply.ok() && IsPassing(reply.status()) && now < give_up_) {
        seat.due = now + absl::Milliseconds(50);
        seat.tried = true;
      } else {
        finished = true;
      }
    } else if (phase_ == Phase::kHeld) {
      switch (seat.asked) {
        case Step::kAcquire:
          if (reply.ok()) seat.late_copy = seat.copy_before;
          Acquired(i, reply, sent, now);
          break;
        case Step::kRenew:
          Renewed(i, reply, sent, now);
          break;
        default:  // the birth; whether it votes, the next question tells
          seat.step = Step::kAcquire;
          seat.due = now + ttl_ / 6;
          break;
      }
      if (!MajorityLeft()) {
        lost =
            Lose(StrCat("a majority of servers no longer knows it (", seat.name, " said so last)"));
      }
      changed_.NotifyAll();
    }
  }
  Tell(*session, std::move(lost));
  if (finished) RemovePart(i);
}

void QuorumLease::Acquired(std::size_t i, const absl::StatusOr<Reply>& reply, absl::Time sent,
                           absl::Time now) {
  using Kind = VoteAnswer::Kind;
  Seat& seat = seats_[i];
  absl::StatusOr<VoteAnswer> answer =
      reply.ok() ? ReadAcquireAnswer(*reply) : absl::StatusOr<VoteAnswer>(reply.status());
  if (!answer.ok()) {
    seat.step = Step::kAcquire;
    seat.due = RetryRenewalAt(now, ttl_);
    seat.failed_epoch = epoch_;
    seat.failed = FromAbsl(answer.status().message());
    return;
  }
  switch (answer->kind) {
    case Kind::kGranted:
      if (answer->ballot != identity_.ballot) break;
      votes_[i] = {identity_.ballot, ValidUntil(sent, ttl_, answer->left)};
      seat.step = Step::kRenew;
      seat.due = std::min(RenewAt(sent, ttl_), sent + answer->left / 3);
      return;
    case Kind::kNoMarker:
      seat.step = Step::kBirth;
      seat.due = now;
      seat.may_hold = false;
      return;
    case Kind::kQuarantined:
    case Kind::kHeld:
      seat.step = Step::kAcquire;
      seat.due = now + ttl_ / 3;
      seat.may_hold = false;
      seat.failed_epoch = epoch_;
      seat.failed = answer->kind == Kind::kHeld ? "held by another" : "does not vote yet";
      return;
    default:
      // It has granted a higher ballot, or will not take this one.
      seat.may_hold = false;
      break;
  }
  seat.step = Step::kNothing;
  seat.due = absl::InfiniteFuture();
  seat.failed_epoch = epoch_;
  seat.failed = "has granted another ballot";
}

void QuorumLease::Renewed(std::size_t i, const absl::StatusOr<Reply>& reply, absl::Time sent,
                          absl::Time now) {
  using Kind = VoteAnswer::Kind;
  Seat& seat = seats_[i];
  absl::StatusOr<VoteAnswer> answer =
      reply.ok() ? ReadRenewAnswer(*reply) : absl::StatusOr<VoteAnswer>(reply.status());
  // Another time to live was chosen meanwhile; which of the two the server has is not known until
  // it is asked again.
  const bool stale = seat.asked_ttl != ttl_;
  if (!answer.ok()) {
    seat.due = stale ? now : RetryRenewalAt(now, ttl_);
    if (!stale) {
      seat.failed_epoch = seat.asked_epoch;
      seat.failed = FromAbsl(answer.status().message());
    }
    return;
  }
  if (answer->kind == Kind::kGranted) {
    const absl::Time until = ValidUntil(sent, seat.asked_left, seat.asked_left);
    if (stale) {
      votes_[i].valid_until = std::min(votes_[i].valid_until, until);
      seat.due = now;
    } else {
      votes_[i].valid_until = std::max(votes_[i].valid_until, until);
      const bool last_time = seat.asked_left < ttl_;
      seat.due = last_time ? absl::InfiniteFuture() : RenewAt(sent, ttl_);
      seat.renewed_epoch = seat.asked_epoch;
    }
    return;
  }
  // Its vote is gone; what it says now is no reason to forget the others', but to ask it anew.
  votes_[i] = {};
  seat.may_hold = false;
  seat.step = answer->kind == Kind::kNoMarker ? Step::kBirth : Step::kAcquire;
  seat.due = answer->kind == Kind::kQuarantined ? now + ttl_ / 3 : now;
  seat.failed_epoch = seat.asked_epoch;
  seat.failed = "no longer knows the lease";
}

void QuorumLease::Closed(std::size_t i) {
  std::stop_source lost(std::nostopstate);
  Session* session;
  {
    MutexLock lock(mutex_);
    session = seats_[i].session;
    if (phase_ == Phase::kHeld) lost = Lose("its client was closed");
  }
  Tell(*session, std::move(lost));
}

bool QuorumLease::Owed(std::size_t i) const {
  MutexLock lock(mutex_);
  const Seat& seat = seats_[i];
  return phase_ == Phase::kReleased && seat.may_hold && seat.call == nullptr && !seat.tried;
}

// ---- The holder's side ----

absl::Status QuorumLease::Renew(absl::Duration ttl, const CallLimits& limits) {
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  absl::Time now;
  int epoch;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kLost) return LostStatus();
    if (phase_ == Phase::kReleased) {
      return MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          StrCat("the lease of mutex ", Quoted(identity_.name), " has been released"));
    }
    now = clock_.Now();
    epoch = ++epoch_;
    ttl_ = ttl;
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      Seat& seat = seats_[i];
      if (votes_[i].ballot != identity_.ballot) continue;
      // A shorter time may be in force from the moment of sending, whatever becomes of the answer.
      votes_[i].valid_until = std::min(votes_[i].valid_until, ValidUntil(now, ttl, ttl));
      seat.due = now;
    }
  }
  for (std::size_t i = 0; i < seats_.size(); ++i) ReschedulePart(i);
  MutexLock lock(mutex_);
  const std::size_t majority = MajorityOf(seats_.size());
  while (true) {
    if (phase_ == Phase::kLost) return LostStatus();
    if (phase_ == Phase::kReleased) {
      return MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          StrCat("the lease of mutex ", Quoted(identity_.name), " has been released"));
    }
    std::size_t renewed = 0;
    std::size_t failed = 0;
    std::string details;
    for (const Seat& seat : seats_) {
      const bool is_renewed = seat.renewed_epoch >= epoch;
      const bool is_failed = !is_renewed && (seat.failed_epoch >= epoch ||
                                             (seat.step != Step::kRenew && !seat.asking));
      renewed += is_renewed ? 1 : 0;
      failed += is_failed ? 1 : 0;
      details += StrCat(details.empty() ? "" : "; ", seat.name, ": ",
                        is_renewed  ? "renewed"
                        : is_failed ? std::string_view(seat.failed)
                                    : std::string_view("no answer yet"));
    }
    if (renewed >= majority) return absl::OkStatus();
    if (seats_.size() - failed < majority) {
      return MakeStatus(absl::StatusCode::kUnavailable,
                        StrCat("renewing mutex ", Quoted(identity_.name),
                               ": no majority of servers has renewed it (", details, ")"),
                        kUnavailable);
    }
    if (limits.stop.stop_requested()) {
      return MakeStatus(
          absl::StatusCode::kCancelled,
          StrCat("renewing mutex ", Quoted(identity_.name), ": stopped by the caller"),
          kOutcomeUnknown);
    }
    if (Passed(limits.deadline)) {
      return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                        StrCat("renewing mutex ", Quoted(identity_.name),
                               ": no majority has answered by the deadline (", details, ")"),
                        kOutcomeUnknown);
    }
    changed_.WaitUntil(mutex_, limits.deadline);
  }
}

std::size_t QuorumLease::SendReleases(QuorumCore& core, const CallLimits& limits,
                                      std::size_t enough, bool all_votes, std::size_t* gone) {
  FanOut fan(core);
  std::size_t free = 0;
  std::size_t open = 0;        // sent and not answered
  std::size_t open_votes = 0;  // those of them where the lease was granted
  std::vector<bool> voted(core.size());
  std::vector<bool> finished(core.size());
  std::shared_ptr<const Request> plain;
  std::shared_ptr<const Request> remembering;
  {
    MutexLock lock(mutex_);
    const absl::Time now = clock_.Now();
    give_up_ = now + ttl_;
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      Seat& seat = seats_[i];
      voted[i] = votes_[i].ballot != 0;
      if (!seat.may_hold) {
        ++free;
        finished[i] = true;
        seat.due = now;
        continue;
      }
      std::shared_ptr<Connection> connection = seat.session->node().shared().Current();
      if (connection == nullptr) {
        seat.late_copy = seat.late_copy || seat.call != nullptr;
        seat.call.reset();
        seat.due = now;
        continue;
      }
      // Behind its acquire on the same connection it cannot be overtaken by it.
      if (seat.call != nullptr && seat.call->connection() != connection) seat.late_copy = true;
      std::shared_ptr<const Request>& request = seat.late_copy ? remembering : plain;
      if (request == nullptr) {
        request = std::make_shared<Request>(ReleaseRequest(*seat.session, seat.late_copy));
      }
      fan.Send(i, QuorumCall::Kind::kRelease, 0, std::move(connection), request);
      // What is not answered by then, the background looks after.
      seat.due = now + std::max(patience_, absl::Milliseconds(10));
      ++open;
      if (voted[i]) ++open_votes;
      seat.call.reset();
    }
  }
  while (open > 0 && (free < enough || (all_votes && open_votes > 0))) {
    QuorumCall* call = nullptr;
    if (fan.Next(limits, &call) != WaitAny::Result::kDone) break;
    const std::size_t i = call->server();
    --open;
    if (voted[i]) --open_votes;
    const absl::StatusOr<Reply> reply = call->Result(core.member(i).name());
    MutexLock lock(mutex_);
    if (!reply.ok()) {
      seats_[i].late_copy = true;
      seats_[i].due = clock_.Now();
      continue;
    }
    ++free;
    finished[i] = true;
    if (voted[i] && reply->integer() == 0) ++*gone;
  }
  for (std::unique_ptr<QuorumCall>& straggler : fan.TakeStragglers()) {
    MutexLock lock(mutex_);
    Seat& seat = seats_[straggler->server()];
    seat.call = std::move(straggler);
  }
  for (std::size_t i = 0; i < core.size(); ++i) {
    if (finished[i]) {
      RemovePart(i);
      continue;
    }
    if (!AddPart(i)) continue;  // closed: the ttl frees it
    ReschedulePart(i);
  }
  return free;
}

absl::Status QuorumLease::Release(QuorumCore& core, const CallLimits& limits) {
  absl::Status lost;
  std::size_t believed;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kReleased) return absl::OkStatus();
    // The background may not have come round to saying so; the callbacks have nothing left to
    // guard.
    if (phase_ == Phase::kHeld && ValidUntilNow() <= clock_.Now()) Lose("it ran out");
    if (phase_ == Phase::kLost) lost = LostStatus();
    phase_ = Phase::kReleased;
    believed = CountVotes(votes_, identity_.ballot);
  }
  const std::size_t majority = MajorityOf(core.size());
  CallLimits bounded = limits;
  bounded.deadline = std::min(limits.deadline, DeadlineAfter(patience_));
  // What is left of a lost lease may still keep others from it, but nobody waits for that.
  if (!lost.ok())
    bounded.deadline = SteadyTime();  // long past; from min() no time can be taken away
  std::size_t gone = 0;
  const std::size_t free = SendReleases(core, bounded, majority, false, &gone);
  if (!lost.ok()) return lost;
  if (believed - std::min(gone, believed) < majority) {
    MutexLock lock(mutex_);
    why_lost_ = "the servers no longer knew it when it was released";
    return LostStatus();
  }
  if (free >= majority) return absl::OkStatus();
  const std::string what =
      StrCat("releasing mutex ", Quoted(identity_.name), ": ", free, " of ", core.size(),
             " servers have answered; the others are tried in the background until the lease "
             "has run out");
  if (limits.stop.stop_requested()) {
    return MakeStatus(absl::StatusCode::kCancelled, StrCat(what, "; stopped by the caller"),
                      kOutcomeUnknown);
  }
  return MakeStatus(absl::StatusCode::kUnavailable, what, kUnavailable | kOutcomeUnknown);
}

void QuorumLease::TakeBack(QuorumCore& core, absl::Duration patience) {
  {
    MutexLock lock(mutex_);
    phase_ = Phase::kReleased;
  }
  std::size_t ignored = 0;
  SendReleases(core, {DeadlineAfter(patience), {}}, 0, true, &ignored);
}

// ---- The handle ----

absl::Status QuorumHeld::Renew(absl::Duration ttl, const CallOptions& options) {
  if (absl::Status status = core_->Usable(); !status.ok()) return status;
  if (absl::Status status = core_->CheckTtl(ttl); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = core_->Limits(options);
  if (!limits.ok()) return limits.status();
  return lease_->Renew(absl::Ceil(ttl, absl::Milliseconds(1)), *limits);
}

absl::Status QuorumHeld::Release(const CallOptions& options) {
  if (core_->forked()) return core_->Usable();
  absl::StatusOr<CallLimits> limits = core_->Limits(options);
  if (!limits.ok()) return limits.status();
  return lease_->Release(*core_, *limits);
}

}  // namespace coord::internal
