// Full-jitter exponential backoff: each delay is uniform between zero and a bound that doubles.
// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#ifndef COORD_INTERNAL_BACKOFF_H_
#define COORD_INTERNAL_BACKOFF_H_

#include <algorithm>

#include "absl/time/time.h"

namespace coord::internal {

struct BackoffLimits {
  absl::Duration first = absl::Milliseconds(10);
  absl::Duration most = absl::Seconds(1);
};

// The bound of the delay after `failures` failures in a row (one or more).
inline absl::Duration BackoffBound(const BackoffLimits& limits, int failures) {
  absl::Duration bound = limits.first;
  for (int i = 1; i < failures && bound < limits.most; ++i) bound *= 2;
  return std::min(bound, limits.most);
}

// `random` is between 0 and 1.
inline absl::Duration JitteredDelay(const BackoffLimits& limits, int failures, double random) {
  return random * BackoffBound(limits, failures);
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_BACKOFF_H_
