// Private, pure: whether a thread that is done may pass the lock to another of its process without
// asking the server.
//
// Source: lock cohorting (Dice, Marathe, Shavit, "Lock Cohorting: A General Technique for Designing
// NUMA Locks", PPoPP 2012), with processes in the place of NUMA nodes.
#ifndef COORD_LOCK_HAND_OVER_H_
#define COORD_LOCK_HAND_OVER_H_

#include "absl/time/time.h"

namespace coord::internal {

// Whether somebody waits elsewhere is known to the server alone, so the bounds always hold: going
// back to it once in 32 times, or every 5 ms, costs little where nobody does.
inline constexpr int kMostHandOvers = 32;
inline constexpr absl::Duration kLongestTurn = absl::Milliseconds(5);

struct Turn {
  absl::Time began;    // when the server granted the lock to this process
  int hand_overs = 0;  // since then
};

inline bool MayHandOver(const Turn& turn, absl::Time now) {
  return turn.hand_overs < kMostHandOvers && now - turn.began < kLongestTurn && now >= turn.began;
}

// What a lease must have left to be worth passing on.
inline absl::Duration LeastToHandOver(absl::Duration ttl) { return ttl / 4; }

}  // namespace coord::internal

#endif  // COORD_LOCK_HAND_OVER_H_
