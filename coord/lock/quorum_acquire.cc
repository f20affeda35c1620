#include "coord/lock/quorum_acquire.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "coord/deployment/server_error.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/quorum_call.h"
#include "coord/lock/quorum_held.h"
#include "coord/lock/quorum_round.h"
#include "coord/lock/quorum_wait.h"
#include "scripts.h"

namespace coord::internal {
namespace {

// How long to wait for the last answers of a round that is lost, beyond twice what it took so far:
// what has answered needs no looking after.
constexpr absl::Duration kGrace = absl::Milliseconds(1);

// One round of votes: drives a QuorumRound over the servers' connections.
class Voting {
 public:
  // `waiter` is null while nobody waits.
  Voting(const std::shared_ptr<QuorumCore>& core, const QuorumLock& lock, std::string owner,
         const QuorumWaiter* waiter)
      : core_(core),
        lock_(lock),
        owner_(std::move(owner)),
        waiter_(waiter),
        round_(core->size(), lock.ttl, core->NextBallot()),
        fan_(*core),
        seats_(core->size()) {}

  // Until the round is won or lost, or the limits end it.
  void Run(const CallLimits& limits);
  // The lease, once won; or why not, after taking back what was granted.
  absl::StatusOr<Lease> Conclude(const CallLimits& limits);

  const QuorumRound& round() const { return round_; }

 private:
  struct Seat {
    bool dialing = false;
    bool redialed = false;
    bool late_copy = false;
    absl::Time sent;  // of the vote
  };

  void SendWanted();
  void SendTo(std::size_t i, std::shared_ptr<Connection> connection, QuorumRound::Step step);
  void Take(QuorumCall& call);
  void LookAtDials();
  void FailPending(std::string_view why);
  std::vector<QuorumStanding> Standings();
  std::shared_ptr<QuorumLease> MakeLease();

  const std::shared_ptr<QuorumCore>& core_;
  const QuorumLock& lock_;
  const std::string owner_;
  const QuorumWaiter* const waiter_;
  QuorumRound round_;
  FanOut fan_;
  std::vector<Seat> seats_;
  std::shared_ptr<const Request>
      acquire_;  // for acquire_ballot_: the same for all, but of a waiter
  Ballot acquire_ballot_ = 0;
  bool stopped_ = false;
};

void Voting::SendTo(std::size_t i, std::shared_ptr<Connection> connection, QuorumRound::Step step) {
  round_.Sent(i);
  if (step == QuorumRound::Step::kBirth) {
    fan_.Send(i, QuorumCall::Kind::kBirth, 0, std::move(connection),
              std::make_shared<Request>(core_->member(i).BirthRequest()));
    return;
  }
  const Ballot ballot = round_.ballot();
  if (acquire_ == nullptr || acquire_ballot_ != ballot || waiter_ != nullptr) {
    acquire_ = std::make_shared<Request>(QuorumAcquireRequest(
        lock_.keys, core_->member(i).marker(), owner_, lock_.ttl, ballot, core_->settings(),
        waiter_ != nullptr ? &waiter_->listener(i) : nullptr));
    acquire_ballot_ = ballot;
  }
  fan_.Send(i, QuorumCall::Kind::kAcquire, ballot, std::move(connection), acquire_);
}

void Voting::SendWanted() {
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    Seat& seat = seats_[i];
    if (seat.dialing) continue;
    const QuorumRound::Step step = round_.Wants(i);
    if (step == QuorumRound::Step::kNothing) continue;
    QuorumMember& member = core_->member(i);
    std::shared_ptr<Connection> connection = member.session()->node().shared().Current();
    if (connection == nullptr) {
      absl::StatusOr<std::shared_ptr<Connection>> reached = member.Reach(fan_.bell());
      if (!reached.ok()) {
        round_.Failed(i, reached.status(), round_.MayHold(i), core_->calendar());
        continue;
      }
      if (*reached == nullptr) {
        seat.dialing = true;
        continue;
      }
      connection = *std::move(reached);
    }
    SendTo(i, std::move(connection), step);
  }
}

void Voting::LookAtDials() {
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    if (!seats_[i].dialing) continue;
    absl::StatusOr<std::shared_ptr<Connection>> reached = core_->member(i).Reach(fan_.bell());
    if (reached.ok() && *reached == nullptr) continue;
    seats_[i].dialing = false;
    if (!reached.ok()) {
      round_.Failed(i, reached.status(), round_.MayHold(i), core_->calendar());
    }
  }
}

void Voting::Take(QuorumCall& call) {
  const std::size_t i = call.server();
  const std::string& name = core_->member(i).name();
  absl::StatusOr<Reply> reply = call.Result(name);
  if (call.broke()) {
    seats_[i].late_copy = seats_[i].late_copy || !call.not_sent();
    const bool may_hold = round_.MayHold(i) && (seats_[i].late_copy || !call.not_sent());
    if (!seats_[i].redialed) {
      // The same owner may ask again whatever became of the question.
      seats_[i].redialed = true;
      round_.AskAgain(i, may_hold);
    } else {
      round_.Failed(i, reply.status(), may_hold, core_->calendar());
    }
    return;
  }
  if (call.kind() == QuorumCall::Kind::kBirth) {
    absl::StatusOr<BirthAnswer> born =
        reply.ok() ? ReadBirthAnswer(*reply, core_->settings()) : reply.status();
    if (born.ok()) {
      round_.Born(i, *born);
    } else {
      round_.Failed(i, born.status(), false, core_->calendar());
    }
    return;
  }
  absl::StatusOr<VoteAnswer> answer = reply.ok() ? ReadAcquireAnswer(*reply) : reply.status();
  if (!answer.ok()) {
    // An error of the script's may come after a write.
    round_.Failed(i, answer.status(), answer.status().code() != absl::StatusCode::kDataLoss,
                  core_->calendar());
    return;
  }
  round_.Answered(i, call.ballot(), call.sent(), *answer, core_->calendar());
  if (answer->kind == VoteAnswer::Kind::kGranted) seats_[i].sent = call.sent();
}

void Voting::FailPending(std::string_view why) {
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    if (!round_.Pending(i)) continue;
    const std::string text =
        seats_[i].dialing ? StrCat("no connection ", why) : StrCat("no answer ", why);
    round_.Failed(i, MakeStatus(absl::StatusCode::kUnavailable, text, kUnavailable),
                  round_.MayHold(i), core_->calendar());
  }
}

void Voting::Run(const CallLimits& limits) {
  const SteadyTime began = std::chrono::steady_clock::now();
  const absl::Duration patience = core_->Patience(lock_.ttl);
  Ballot asked = round_.ballot();
  CallLimits bounded = limits;
  bounded.deadline = std::min(limits.deadline, DeadlineAfter(patience, began));
  SendWanted();
  while (round_.verdict() == QuorumRound::Verdict::kOpen) {
    QuorumCall* call = nullptr;
    switch (fan_.Next(bounded, &call)) {
      case WaitAny::Result::kDone:
        Take(*call);
        break;
      case WaitAny::Result::kRung:
        LookAtDials();
        break;
      case WaitAny::Result::kStopped:
        stopped_ = true;
        return;
      case WaitAny::Result::kDeadline:
        FailPending(StrCat("within ", ToText(patience)));
        if (round_.verdict() == QuorumRound::Verdict::kOpen) return;  // nothing can come any more
        break;
    }
    SendWanted();
    if (round_.ballot() != asked) {
      asked = round_.ballot();
      bounded.deadline = std::min(limits.deadline, DeadlineAfter(patience));
    }
  }
  core_->Learn(round_);
  if (round_.verdict() != QuorumRound::Verdict::kLost) return;
  const auto took = absl::FromChrono(std::chrono::steady_clock::now() - began);
  bounded.deadline = std::min(bounded.deadline, DeadlineAfter(2 * took + kGrace));
  QuorumCall* call = nullptr;
  while (true) {
    bool open = false;
    for (std::size_t i = 0; i < seats_.size(); ++i) {
      open = open || (round_.Pending(i) && round_.MayHold(i) && !seats_[i].dialing);
    }
    if (!open || fan_.Next(bounded, &call) != WaitAny::Result::kDone) break;
    if (call->broke()) seats_[call->server()].redialed = true;  // it is not asked any more
    Take(*call);
  }
}

std::vector<QuorumStanding> Voting::Standings() {
  std::vector<QuorumStanding> standings(seats_.size());
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    standings[i].vote = round_.votes()[i];
    standings[i].may_hold = round_.MayHold(i);
    standings[i].late_copy = seats_[i].late_copy;
    standings[i].sent = seats_[i].sent;
  }
  for (std::unique_ptr<QuorumCall>& call : fan_.TakeStragglers()) {
    if (call->kind() != QuorumCall::Kind::kAcquire) continue;
    QuorumStanding& standing = standings[call->server()];
    standing.straggler = std::move(call);  // the last one asks for the highest ballot
  }
  return standings;
}

std::shared_ptr<QuorumLease> Voting::MakeLease() {
  return std::make_shared<QuorumLease>(
      *core_,
      QuorumIdentity{lock_.name, lock_.keys, owner_, round_.ballot(),
                     core_->clock().Now() + lock_.max_hold},
      lock_.ttl, Standings());
}

absl::StatusOr<Lease> Voting::Conclude(const CallLimits& limits) {
  const bool won = !stopped_ && round_.verdict() == QuorumRound::Verdict::kWon;
  if (won) {
    if (round_.valid_until() > core_->clock().Now()) {
      std::shared_ptr<QuorumLease> lease = MakeLease();
      if (lease->Start()) {
        return LeaseAccess::Make(std::make_unique<QuorumHeld>(core_, std::move(lease)));
      }
      lease->TakeBack(*core_, core_->Patience(lock_.ttl));
      if (absl::Status status = core_->Usable(); !status.ok()) return status;
      return MakeStatus(
          absl::StatusCode::kResourceExhausted,
          StrCat("mutex ", Quoted(lock_.name), ": the system gives no threads to renew the lease"));
    }
  }
  absl::Status why;
  if (stopped_ || limits.stop.stop_requested()) {
    why = MakeStatus(absl::StatusCode::kCancelled,
                     StrCat("mutex ", Quoted(lock_.name), ": stopped by the caller"));
  } else if (won) {
    why = MakeStatus(
        absl::StatusCode::kUnavailable,
        StrCat("mutex ", Quoted(lock_.name), ": the answers took longer than the ttl of ",
               ToText(lock_.ttl), "; raise the ttl"),
        kUnavailable);
  } else {
    why = round_.LostStatus(lock_.name, core_->names());
  }
  bool left = false;
  for (std::size_t i = 0; i < seats_.size(); ++i) left = left || round_.MayHold(i);
  if (left) {
    MakeLease()->TakeBack(*core_, stopped_ ? absl::ZeroDuration() : core_->Patience(lock_.ttl));
  }
  return why;
}

}  // namespace

absl::StatusOr<Lease> AcquireFromQuorum(const std::shared_ptr<QuorumCore>& core,
                                        const QuorumLock& lock, bool wait, absl::Duration timeout,
                                        const std::stop_token& stop) {
  const CallLimits limits{DeadlineAfter(timeout), stop};
  std::optional<QuorumWaiter> waiter;
  while (true) {
    if (absl::Status status = core->Usable(); !status.ok()) return status;
    // Fresh for each round: what is taken back after a round is refused from then on.
    std::string owner = NewOwnerId(core->member(0).session()->options().client_name);
    if (owner.empty()) {
      return MakeStatus(absl::StatusCode::kUnavailable,
                        "the system gives no random bits for an owner id");
    }
    // Even a caller without patience gets one round.
    CallLimits round_limits{SteadyTime::max(), stop};
    if (timeout > absl::ZeroDuration()) round_limits.deadline = limits.deadline;
    if (waiter) waiter->BeginRound();
    Voting voting(core, lock, std::move(owner), waiter ? &*waiter : nullptr);
    voting.Run(round_limits);
    absl::StatusOr<Lease> lease = voting.Conclude(limits);
    if (lease.ok() || !wait) return lease;
    const bool passing = IsBusy(lease.status()) || coord::IsUnavailable(lease.status());
    if (!passing) return lease;
    if (!waiter) waiter.emplace(*core);
    if (!waiter->Wait(voting.round().holder_left(), limits)) {
      if (!stop.stop_requested()) return lease;
      return MakeStatus(absl::StatusCode::kCancelled,
                        StrCat("stopped while waiting: ", FromAbsl(lease.status().message())));
    }
  }
}

}  // namespace coord::internal
