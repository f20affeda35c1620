// Waiting within a call's limits.
#ifndef COORD_INTERNAL_WAITING_H_
#define COORD_INTERNAL_WAITING_H_

#include "absl/time/time.h"
#include "coord/internal/deadline.h"

namespace coord::internal {

// Of one who asks again and again: the pause before the next question, after so many, given a
// number between 0 and 1. It grows to at most 100 ms, and is no longer than what the holder's lease
// has left. Pure.
absl::Duration PollingPause(int asked, absl::Duration holder_left, double random);

// Sleeps until `deadline`. False when `limits` end it first.
bool SleepUntil(SteadyTime deadline, const CallLimits& limits);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_WAITING_H_
