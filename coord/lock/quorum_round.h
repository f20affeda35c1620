// Private: one round of votes for one lease, as a state machine without I/O or clock. Whoever
// drives it sends what it names, tells it what came back, and looks at the verdict.
//
//   QuorumRound round(5, ttl, ballot);
//   while (round.verdict() == QuorumRound::Verdict::kOpen) {
//     for each server: if (round.Wants(server) != kNothing) round.Sent(server), and send it
//     wait for something to happen; round.Answered(...), round.Born(...), round.Failed(...)
//   }
//   if lost: take back from each server of which round.MayHold(server)
#ifndef COORD_LOCK_QUORUM_ROUND_H_
#define COORD_LOCK_QUORUM_ROUND_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/lock/quorum_vote.h"

namespace coord::internal {

class QuorumRound {
 public:
  // How often the ballot may be raised because servers have seen higher ones.
  static constexpr int kMostRaises = 3;

  // At most 63 servers.
  QuorumRound(std::size_t servers, absl::Duration ttl, Ballot ballot);

  Ballot ballot() const { return ballot_; }
  // What the next round should propose more than, if that much was known before. It is what a
  // majority has granted, not the highest of all: a client whose clock is far ahead may have given
  // that to a minority, and whoever went along with it would be refused by the rest. It is nothing
  // when that happened all the same.
  Ballot Remembered(Ballot before) const;
  std::size_t servers() const { return seats_.size(); }

  enum class Step { kNothing, kAcquire, kBirth };
  // What this server should be sent now; kAcquire is for ballot(). Several may be under way to one
  // server, in order on one connection.
  Step Wants(std::size_t server) const;
  // That is about to be handed over.
  void Sent(std::size_t server);

  // What came back. `now` is the calendar by which a raised ballot is chosen.
  void Answered(std::size_t server, Ballot asked, absl::Time sent, const VoteAnswer& answer,
                absl::Time calendar);
  void Born(std::size_t server, const BirthAnswer& answer);
  // What was sent is lost with its connection; ask for the same again. `may_hold` as below.
  void AskAgain(std::size_t server, bool may_hold);
  // No answer: it cannot be reached, or not in time, or it answered with an error. `may_hold`: an
  // acquire may have been or may yet be granted.
  void Failed(std::size_t server, absl::Status why, bool may_hold, absl::Time calendar);

  enum class Verdict {
    kOpen,
    kWon,   // a majority has granted ballot(); valid_until() holds
    kLost,  // no majority for any ballot can come of this round
  };
  Verdict verdict() const;
  absl::Time valid_until() const;
  // Of every server; only those whose ballot is ballot() count.
  std::span<const Vote> votes() const { return votes_; }
  // Has not yet said how it stands.
  bool Pending(std::size_t server) const { return seats_[server].stand == Stand::kAsked; }
  // This owner has, or may yet get, the lease there.
  bool MayHold(std::size_t server) const { return seats_[server].may_hold; }

  // Why it was lost; `names` are the servers'. kAborted (IsBusy) when others hold it or votes were
  // split; kFailedPrecondition when the proposer's clock is ahead; else kUnavailable, or the code
  // that a majority of servers gave for a lasting reason.
  absl::Status LostStatus(std::string_view name, std::span<const std::string> names) const;
  // What the holder has left by the answers, at most; infinite when nobody is known to hold it.
  absl::Duration holder_left() const;
  // No later round can end otherwise, unless somebody changes something.
  bool lasting() const;

 private:
  enum class Stand {
    kAsked,    // or about to be
    kGranted,  // votes_ says which ballot
    kLow,      // the ballot it was asked for is too low
    kHeld,
    kAhead,
    kQuarantined,
    kNoMarker,
    kSettings,
    kWithdrawn,
    kFailed,
  };
  struct Seat {
    Stand stand = Stand::kAsked;
    Ballot asked = 0;        // the latest ballot it was asked for
    Ballot seen = 0;         // the highest that it is known to have granted
    bool own_clock = false;  // a refusal as too far ahead is the fault of the proposer's clock
    bool may_hold = false;
    bool born = false;  // the birth script was sent in this round
    VoteAnswer answer;  // the latest
    absl::Status failed;
  };

  std::size_t Count(Stand stand) const;
  void MaybeRaise(absl::Time calendar);
  std::string Describe(const Seat& seat) const;

  const absl::Duration ttl_;
  std::vector<Seat> seats_;
  std::vector<Vote> votes_;
  Ballot ballot_;
  int raises_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_ROUND_H_
