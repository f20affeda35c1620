#include "coord/lock/quorum_vote.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::min();

// The integer at that place, whether it came as one or as text; kNone where there is none.
std::int64_t NumberAt(std::span<const Reply> items, std::size_t at) {
  if (at >= items.size()) return kNone;
  if (items[at].is_integer()) return items[at].integer();
  return ParseInt64(items[at].text()).value_or(kNone);
}

absl::Status Nonsense(std::string_view script, const Reply& reply) {
  return MakeStatus(absl::StatusCode::kDataLoss,
                    StrCat(script, " answered ", reply.ToDebugString()));
}

}  // namespace

std::string BallotText(Ballot ballot) {
  std::string digits = StrCat(ballot);
  if (digits.size() < 16) digits.insert(0, 16 - digits.size(), '0');
  return digits;
}

Ballot ProposeBallot(absl::Time now, Ballot highest_seen) {
  const std::int64_t us = absl::ToUnixMicros(now);
  const Ballot ballot = std::max(us > 0 ? static_cast<Ballot>(us) : 0, highest_seen + 1);
  return ballot <= kMaxBallot ? ballot : 0;
}

absl::StatusOr<VoteAnswer> ReadAcquireAnswer(const Reply& reply) {
  using enum VoteAnswer::Kind;
  const auto items = reply.items();
  const std::int64_t code = NumberAt(items, 0);
  const std::int64_t second = NumberAt(items, 1);
  const std::int64_t third = NumberAt(items, 2);
  const bool ballot = second >= 0 && static_cast<Ballot>(second) <= kMaxBallot;
  VoteAnswer answer;
  if (ballot) answer.ballot = static_cast<Ballot>(second);
  switch (code) {
    case 1:
    case 0:
      if (!ballot || third == kNone) break;
      answer.kind = code == 1 ? kGranted : kHeld;
      answer.left = absl::Milliseconds(third);
      if (code == 0 && items.size() > 3) answer.text = items[3].text();
      return answer;
    case -1:
    case -2:
      if (!ballot) break;
      answer.kind = code == -1 ? kLow : kAhead;
      return answer;
    case -3:
      if (second == kNone) break;
      answer.kind = kQuarantined;
      answer.ballot = 0;
      answer.left = absl::Microseconds(second);
      return answer;
    case -4:
      answer.kind = kNoMarker;
      return answer;
    case -5:
      answer.kind = kSettings;
      answer.ballot = 0;
      if (items.size() > 1) answer.text = items[1].text();
      return answer;
    case -6:
      answer.kind = kWithdrawn;
      return answer;
    default:
      break;
  }
  return Nonsense("quorum_acquire", reply);
}

absl::StatusOr<VoteAnswer> ReadRenewAnswer(const Reply& reply) {
  using enum VoteAnswer::Kind;
  const auto items = reply.items();
  VoteAnswer answer;
  switch (NumberAt(items, 0)) {
    case 1:
      answer.kind = kGranted;
      return answer;
    case 0:
      answer.kind = kLost;
      return answer;
    case -3: {
      const std::int64_t us = NumberAt(items, 1);
      if (us == kNone) break;
      answer.kind = kQuarantined;
      answer.left = absl::Microseconds(us);
      return answer;
    }
    case -4:
      answer.kind = kNoMarker;
      return answer;
    default:
      break;
  }
  return Nonsense("quorum_renew", reply);
}

absl::StatusOr<BirthAnswer> ReadBirthAnswer(const Reply& reply, std::string_view settings) {
  const auto items = reply.items();
  const std::int64_t code = NumberAt(items, 0);
  if (code == 1 && items.size() >= 4) {
    const std::int64_t votes = NumberAt(items, 2);
    const std::int64_t now = NumberAt(items, 3);
    if (votes != kNone && now != kNone) {
      return BirthAnswer{items[1].text(),
                         absl::Microseconds(std::max<std::int64_t>(votes - now, 0))};
    }
  }
  if (code == 0 && items.size() >= 3) {
    const std::string& why = items[1].text();
    std::string message;
    if (why == "cluster") {
      message = "it is part of a Cluster; a quorum is made of single servers";
    } else if (why == "eviction") {
      message = StrCat("its maxmemory-policy is ", items[2].text(),
                       ", so it may evict locks; a quorum needs noeviction");
    } else {
      message = StrCat("its deployment has max_ttl and clock_tolerance of \"", items[2].text(),
                       "\" ms, this client \"", settings, "\" ms; all clients must have the same");
    }
    return MakeStatus(absl::StatusCode::kFailedPrecondition, message);
  }
  return Nonsense("quorum_birth", reply);
}

absl::Time MajorityValidUntil(std::span<const Vote> votes, Ballot ballot) {
  const std::size_t majority = MajorityOf(votes.size());
  absl::Time latest[64];
  std::size_t count = 0;
  for (const Vote& vote : votes) {
    if (vote.ballot == ballot && ballot != 0 && count < 64) latest[count++] = vote.valid_until;
  }
  if (count < majority) return absl::InfinitePast();
  const auto nth = latest + (majority - 1);
  std::nth_element(latest, nth, latest + count, std::greater<>());
  return *nth;
}

std::size_t CountVotes(std::span<const Vote> votes, Ballot ballot) {
  return static_cast<std::size_t>(std::count_if(votes.begin(), votes.end(), [&](const Vote& vote) {
    return ballot != 0 && vote.ballot == ballot;
  }));
}

}  // namespace coord::internal
