// Private: what servers that vote say, and what it adds up to. Pure: values in, values out.
//
// A ballot is a number that the holder-to-be proposes and that becomes the lease's token. Each
// server grants a ballot at most once and only above all it has granted for that name, so two
// holders can share no ballot, and since majorities intersect, later holders have higher ones.
// Votes count together only when they are for the same ballot; counting servers and taking the
// highest number would let tokens go back.
#ifndef COORD_LOCK_QUORUM_VOTE_H_
#define COORD_LOCK_QUORUM_VOTE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/reply.h"

namespace coord::internal {

// As scripts write it: 16 digits, so that texts compare as numbers do.
using Ballot = std::uint64_t;
inline constexpr Ballot kMaxBallot = (Ballot{1} << 53) - 1;
std::string BallotText(Ballot ballot);

constexpr std::size_t MajorityOf(std::size_t servers) { return servers / 2 + 1; }

// The ballot to propose: above all that was seen, and not below the proposer's own clock. 0 when
// there is none left.
Ballot ProposeBallot(absl::Time now, Ballot highest_seen);

// What quorum_acquire and quorum_renew answer.
struct VoteAnswer {
  enum class Kind {
    kGranted,      // `ballot` is what this owner has
    kHeld,         // by another; `ballot` is the highest granted
    kLow,          // the ballot is not above `ballot`
    kAhead,        // the ballot is too far ahead of the server's `ballot`, which is its time in us
    kQuarantined,  // for `left`
    kNoMarker,
    kSettings,   // the marker has other settings
    kWithdrawn,  // this owner has withdrawn
    kLost,       // a renewal: this owner does not have it under this ballot
  };
  Kind kind = Kind::kLost;
  Ballot ballot = 0;
  absl::Duration left;
  std::string text;  // the holder's owner id, or the settings
};

absl::StatusOr<VoteAnswer> ReadAcquireAnswer(const Reply& reply);
absl::StatusOr<VoteAnswer> ReadRenewAnswer(const Reply& reply);

// What quorum_birth answers.
struct BirthAnswer {
  std::string run_id;
  absl::Duration quarantine;  // zero when the server votes
};
// The refusals of a server or client that cannot take part come back as kFailedPrecondition, which
// lasts.
absl::StatusOr<BirthAnswer> ReadBirthAnswer(const Reply& reply, std::string_view settings);

// One server's vote.
struct Vote {
  Ballot ballot = 0;                              // 0: none
  absl::Time valid_until = absl::InfinitePast();  // by its own time left
};

// Until when a majority of `servers` stands behind `ballot`: the majority-th latest end among its
// votes. InfinitePast without a majority.
absl::Time MajorityValidUntil(std::span<const Vote> votes, Ballot ballot);
std::size_t CountVotes(std::span<const Vote> votes, Ballot ballot);

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_VOTE_H_
