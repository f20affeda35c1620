// Sleeping within a call's limits.
#ifndef COORD_INTERNAL_WAITING_H_
#define COORD_INTERNAL_WAITING_H_

#include "coord/internal/deadline.h"

namespace coord::internal {

// Sleeps until `deadline`. False when `limits` end it first.
bool SleepUntil(SteadyTime deadline, const CallLimits& limits);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_WAITING_H_
