// Waiting within a call's limits. A quorum cannot hand a lock to one waiter, since its servers would
// choose different ones, so those who want it ask again and again.
#ifndef COORD_INTERNAL_WAITING_H_
#define COORD_INTERNAL_WAITING_H_

#include <optional>

#include "absl/time/time.h"
#include "coord/internal/backoff.h"
#include "coord/internal/deadline.h"
#include "coord/internal/jitter.h"

namespace coord::internal {

// Asks again after a random pause that grows to at most 100 ms, or when the holder's lease will
// have ended if that is sooner.
class PollingWait {
 public:
  // Returns when it is worth asking again: true, or false when the limits ended the wait.
  // `holder_left` is what the holder's lease has left.
  bool Wait(absl::Duration holder_left, const CallLimits& limits);
  // Pure: the pause before the next question, given a number between 0 and 1.
  static absl::Duration Pause(int asked, absl::Duration holder_left, double random);

 private:
  int asked_ = 0;
  std::optional<Jitter> jitter_;  // seeded by the first wait: most acquires need none
};

// Sleeps until `deadline`. False when `limits` end it first.
bool SleepUntil(SteadyTime deadline, const CallLimits& limits);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_WAITING_H_
