// How long a lease may be believed. Pure: values in, values out.
#ifndef COORD_INTERNAL_VALIDITY_H_
#define COORD_INTERNAL_VALIDITY_H_

#include <algorithm>

#include "absl/time/time.h"

namespace coord::internal {

// What two clocks may drift apart while a lease of `ttl` runs, plus what rounding to milliseconds
// may cost. Source: the Redlock description (redis.io, "Distributed Locks with Redis"), which asks
// for such a margin.
inline absl::Duration Drift(absl::Duration ttl) { return ttl / 100 + absl::Milliseconds(2); }

// The end of validity of a lease asked for at `sent` and answered with `left`. From the moment of
// SENDING, because the server may have started the lease's time at any moment after that.
inline absl::Time ValidUntil(absl::Time sent, absl::Duration ttl, absl::Duration left) {
  return sent + std::min(ttl, left) - Drift(ttl);
}

// When to renew a lease whose last renewal was sent at `sent`: a third of the way through.
inline absl::Time RenewAt(absl::Time sent, absl::Duration ttl) { return sent + ttl / 3; }

// When to try again after a renewal that failed at `now`: often enough for several tries before the
// end, not a storm.
inline absl::Time RetryRenewalAt(absl::Time now, absl::Duration ttl) {
  return now + std::clamp(ttl / 20, absl::Milliseconds(5), absl::Milliseconds(500));
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_VALIDITY_H_
