// When one who reads a value makes it anew though it is still good. Pure.
#ifndef COORD_CACHE_INTERNAL_EARLY_REFRESH_H_
#define COORD_CACHE_INTERNAL_EARLY_REFRESH_H_

#include <algorithm>
#include <cmath>

#include "absl/time/time.h"

namespace coord::internal {

// XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
// VLDB 2015. `cost`: how long making it took; `left`: until it expires; `random`: from 0 to 1. What
// nobody has measured, and what does not expire, is never refreshed early.
inline bool RefreshesEarly(absl::Duration cost, double beta, absl::Duration left, double random) {
  if (cost <= absl::ZeroDuration() || !(beta > 0) || left == absl::InfiniteDuration()) return false;
  const double gap = -beta * std::log(std::clamp(random, 1e-12, 1.0));
  return absl::ToDoubleSeconds(cost) * gap >= absl::ToDoubleSeconds(left);
}

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_EARLY_REFRESH_H_
