#include "coord/lock/quorum_round.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"

namespace coord::internal {
namespace {

bool IsLastingCode(absl::StatusCode code) {
  return code == absl::StatusCode::kUnauthenticated ||
         code == absl::StatusCode::kPermissionDenied ||
         code == absl::StatusCode::kInvalidArgument ||
         code == absl::StatusCode::kFailedPrecondition;
}

// The lowest for which a majority is not above it.
Ballot Lowest(std::vector<Ballot> seen, std::size_t majority) {
  std::sort(seen.begin(), seen.end());
  return seen[majority - 1];
}

}  // namespace

QuorumRound::QuorumRound(std::size_t servers, absl::Duration ttl, Ballot ballot)
    : ttl_(ttl), seats_(servers), votes_(servers), ballot_(ballot) {}

QuorumRound::Step QuorumRound::Wants(std::size_t server) const {
  const Seat& seat = seats_[server];
  if (verdict() != Verdict::kOpen) return Step::kNothing;
  switch (seat.stand) {
    case Stand::kAsked:
    case Stand::kGranted:
    case Stand::kLow:
      return seat.asked < ballot_ ? Step::kAcquire : Step::kNothing;
    case Stand::kNoMarker:
      return seat.born ? Step::kNothing : Step::kBirth;
    default:
      return Step::kNothing;
  }
}

void QuorumRound::Sent(std::size_t server) {
  Seat& seat = seats_[server];
  if (seat.stand == Stand::kNoMarker) {
    seat.born = true;
    return;
  }
  seat.asked = ballot_;
  seat.may_hold = true;
  if (seat.stand == Stand::kLow) seat.stand = Stand::kAsked;
}

void QuorumRound::Answered(std::size_t server, Ballot asked, absl::Time sent,
                           const VoteAnswer& answer, absl::Time calendar) {
  Seat& seat = seats_[server];
  if (answer.kind == VoteAnswer::Kind::kGranted || answer.kind == VoteAnswer::Kind::kHeld ||
      answer.kind == VoteAnswer::Kind::kLow) {
    seat.seen = std::max(seat.seen, answer.ballot);
  }
  seat.answer = answer;
  // An answer to an earlier ballot says nothing of the later one, but that a grant stays one.
  const bool latest = asked == seat.asked;
  switch (answer.kind) {
    case VoteAnswer::Kind::kGranted:
      seat.stand = Stand::kGranted;
      votes_[server] = {answer.ballot, ValidUntil(sent, ttl_, answer.left)};
      return;
    case VoteAnswer::Kind::kLow:
      if (!latest) return;
      // A refused raise leaves what was granted before; it counts for a ballot of the past.
      if (votes_[server].ballot == 0) seat.may_hold = false;
      seat.stand = Stand::kLow;
      MaybeRaise(calendar);
      return;
    case VoteAnswer::Kind::kHeld:
      seat.stand = Stand::kHeld;
      break;
    case VoteAnswer::Kind::kAhead:
      seat.stand = Stand::kAhead;
      seat.own_clock = asked <= ProposeBallot(calendar, 0);
      if (votes_[server].ballot != 0) return;
      break;
    case VoteAnswer::Kind::kQuarantined:
      seat.stand = Stand::kQuarantined;
      break;
    case VoteAnswer::Kind::kNoMarker:
      seat.stand = Stand::kNoMarker;
      if (seat.born) {  // it was noted and is gone again
        seat.stand = Stand::kFailed;
        seat.failed = MakeStatus(absl::StatusCode::kUnavailable,
                                 "it forgets its marker as soon as that is written", kUnavailable);
      }
      break;
    case VoteAnswer::Kind::kSettings:
      seat.stand = Stand::kSettings;
      break;
    case VoteAnswer::Kind::kWithdrawn:
    case VoteAnswer::Kind::kLost:
      seat.stand = Stand::kWithdrawn;
      break;
  }
  votes_[server] = {};
  if (latest) seat.may_hold = false;
  MaybeRaise(calendar);
}

void QuorumRound::Born(std::size_t server, const BirthAnswer& answer) {
  Seat& seat = seats_[server];
  if (seat.stand != Stand::kNoMarker) return;
  if (answer.quarantine > absl::ZeroDuration()) {
    seat.stand = Stand::kQuarantined;
    seat.answer.left = answer.quarantine;
  } else {
    seat.stand = Stand::kAsked;
    seat.asked = 0;
  }
}

void QuorumRound::AskAgain(std::size_t server, bool may_hold) {
  Seat& seat = seats_[server];
  seat.may_hold = may_hold || votes_[server].ballot != 0;
  if (seat.stand == Stand::kNoMarker) {
    seat.born = false;
    return;
  }
  if (seat.stand != Stand::kGranted) seat.stand = Stand::kAsked;
  seat.asked = 0;
}

void QuorumRound::Failed(std::size_t server, absl::Status why, bool may_hold, absl::Time calendar) {
  Seat& seat = seats_[server];
  seat.stand = Stand::kFailed;
  seat.may_hold = may_hold || votes_[server].ballot != 0;
  seat.failed = std::move(why);
  MaybeRaise(calendar);
}

Ballot QuorumRound::Remembered(Ballot before) const {
  std::vector<Ballot> seen;
  for (const Seat& seat : seats_) {
    if (seat.stand == Stand::kAhead && !seat.own_clock) return 0;
    if (seat.seen != 0) seen.push_back(seat.seen);
  }
  const std::size_t majority = MajorityOf(seats_.size());
  return seen.size() < majority ? before : std::max(before, Lowest(std::move(seen), majority));
}

// Once the present ballot can win no more, and a higher one could.
void QuorumRound::MaybeRaise(absl::Time calendar) {
  std::size_t now = 0;
  std::size_t higher = 0;
  std::vector<Ballot> seen;
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    const Seat& seat = seats_[i];
    const bool open = seat.stand == Stand::kAsked || seat.stand == Stand::kGranted;
    if (open && (seat.stand != Stand::kGranted || votes_[i].ballot == ballot_)) ++now;
    if (!open && seat.stand != Stand::kLow) continue;
    ++higher;
    if (seat.seen != 0) seen.push_back(seat.seen);
  }
  const std::size_t majority = MajorityOf(seats_.size());
  if (now >= majority || higher < majority || raises_ >= kMostRaises) return;
  if (seen.empty()) return;
  // Those who have not answered may have seen as much as any.
  const std::size_t enough = std::min(majority, seen.size());
  const Ballot raised = ProposeBallot(calendar, std::max(Lowest(std::move(seen), enough), ballot_));
  if (raised == 0) return;
  ++raises_;
  ballot_ = raised;
}

std::size_t QuorumRound::Count(Stand stand) const {
  return static_cast<std::size_t>(std::count_if(
      seats_.begin(), seats_.end(), [&](const Seat& seat) { return seat.stand == stand; }));
}

QuorumRound::Verdict QuorumRound::verdict() const {
  const std::size_t majority = MajorityOf(seats_.size());
  if (ballot_ == 0) return Verdict::kLost;
  if (CountVotes(votes_, ballot_) >= majority) return Verdict::kWon;
  std::size_t possible = 0;
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    const Seat& seat = seats_[i];
    const bool to_ask = seat.asked < ballot_;
    switch (seat.stand) {
      case Stand::kAsked:
        ++possible;
        break;
      case Stand::kGranted:
        // One that is asked for more stays possible until it has answered that.
        if (votes_[i].ballot <= ballot_) ++possible;
        break;
      case Stand::kLow:
        if (to_ask) ++possible;
        break;
      case Stand::kNoMarker:
        ++possible;
        break;
      default:
        break;
    }
  }
  return possible >= majority ? Verdict::kOpen : Verdict::kLost;
}

absl::Time QuorumRound::valid_until() const { return MajorityValidUntil(votes_, ballot_); }

absl::Duration QuorumRound::holder_left() const {
  absl::Duration left = -absl::InfiniteDuration();
  for (const Seat& seat : seats_) {
    if (seat.stand == Stand::kHeld) left = std::max(left, seat.answer.left);
  }
  return left == -absl::InfiniteDuration() ? absl::InfiniteDuration() : left;
}

bool QuorumRound::lasting() const {
  const std::size_t majority = MajorityOf(seats_.size());
  std::size_t lasting = Count(Stand::kSettings);
  for (const Seat& seat : seats_) {
    if (seat.stand == Stand::kAhead && seat.own_clock) ++lasting;
    if (seat.stand == Stand::kFailed && IsLastingCode(seat.failed.code())) ++lasting;
  }
  return ballot_ == 0 || seats_.size() - lasting < majority;
}

std::string QuorumRound::Describe(const Seat& seat) const {
  switch (seat.stand) {
    case Stand::kAsked:
      return seat.asked == 0 ? "not asked" : "no answer yet";
    case Stand::kGranted:
      return "granted";
    case Stand::kLow:
      return "has seen higher ballots";
    case Stand::kHeld:
      return StrCat("held by ", Quoted(OwnerLabel(seat.answer.text)), " for another ",
                    ToText(std::max(seat.answer.left, absl::ZeroDuration())));
    case Stand::kAhead: {
      const auto ahead =
          static_cast<std::int64_t>(seat.asked) - static_cast<std::int64_t>(seat.answer.ballot);
      return StrCat(seat.own_clock ? "our clock is " : "some client's clock is ",
                    ToText(absl::Floor(absl::Microseconds(ahead), absl::Milliseconds(100))),
                    " ahead of its own");
    }
    case Stand::kQuarantined:
      return StrCat("started anew and does not vote for another ",
                    ToText(absl::Ceil(seat.answer.left, absl::Milliseconds(1))));
    case Stand::kNoMarker:
      return "was flushed";
    case Stand::kSettings:
      return StrCat("its deployment has max_ttl and clock_tolerance of ", Quoted(seat.answer.text),
                    " ms, unlike this client");
    case Stand::kWithdrawn:
      return "withdrawn";
    case Stand::kFailed:
      return std::string(FromAbsl(seat.failed.message()));
  }
  return {};
}

absl::Status QuorumRound::LostStatus(std::string_view name,
                                     std::span<const std::string> names) const {
  const std::size_t majority = MajorityOf(seats_.size());
  std::string details;
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    details += StrCat(i == 0 ? "" : "; ", names[i], ": ", Describe(seats_[i]));
  }
  const std::size_t granted = Count(Stand::kGranted);
  const std::size_t held = Count(Stand::kHeld);
  const std::size_t voting = granted + held + Count(Stand::kLow) + Count(Stand::kAsked);
  if (held > 0 && voting >= majority) {
    // Whom most of the servers name.
    std::string_view holder;
    std::size_t most = 0;
    for (const Seat& seat : seats_) {
      if (seat.stand != Stand::kHeld) continue;
      const auto same = static_cast<std::size_t>(
          std::count_if(seats_.begin(), seats_.end(), [&](const Seat& other) {
            return other.stand == Stand::kHeld && other.answer.text == seat.answer.text;
          }));
      if (same > most) {
        most = same;
        holder = seat.answer.text;
      }
    }
    return MakeStatus(absl::StatusCode::kAborted,
                      StrCat("mutex ", Quoted(name), " is held by ", Quoted(OwnerLabel(holder)),
                             " on ", most, " of ", seats_.size(), " servers, whose lease has ",
                             ToText(std::max(holder_left(), absl::ZeroDuration())),
                             " left unless renewed (", details, ")"),
                      kBusy);
  }
  if (voting >= majority) {
    return MakeStatus(
        absl::StatusCode::kAborted,
        StrCat("mutex ", Quoted(name),
               ": others asked for it at the same time, and the votes were split (", details, ")"),
        kBusy);
  }
  if (lasting()) {
    absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
    for (const Seat& seat : seats_) {
      if (seat.stand == Stand::kFailed && IsLastingCode(seat.failed.code())) {
        code = seat.failed.code();
      }
    }
    return MakeStatus(code, StrCat("mutex ", Quoted(name), ": no majority of ", seats_.size(),
                                   " servers can be won (", details, ")"));
  }
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("mutex ", Quoted(name), ": no majority of ", seats_.size(),
                           " servers votes (", details, ")"),
                    kUnavailable);
}

}  // namespace coord::internal
