// Between absl::Duration, which users pass, and the steady clock, on which we wait.
#ifndef COORD_INTERNAL_DEADLINE_H_
#define COORD_INTERNAL_DEADLINE_H_

#include <algorithm>
#include <chrono>
#include <stop_token>

#include "absl/time/time.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// Until when, and at whose word, a call gives up.
struct CallLimits {
  SteadyTime deadline = SteadyTime::max();
  std::stop_token stop;
};

// Beyond some years, never.
inline SteadyTime DeadlineAfter(absl::Duration wait,
                                SteadyTime now = std::chrono::steady_clock::now()) {
  if (wait > absl::Hours(24 * 365 * 10)) return SteadyTime::max();
  return now + absl::ToChronoNanoseconds(std::max(wait, absl::ZeroDuration()));
}

inline bool Passed(SteadyTime deadline) {
  return deadline != SteadyTime::max() && std::chrono::steady_clock::now() >= deadline;
}

inline absl::Duration TimeUntil(SteadyTime deadline) {
  if (deadline == SteadyTime::max()) return absl::InfiniteDuration();
  return absl::FromChrono(deadline - std::chrono::steady_clock::now());
}

// `wait` in whole milliseconds, rounded up: never shorter than what was asked.
inline std::int64_t CeilMilliseconds(absl::Duration wait) {
  return absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1)));
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_DEADLINE_H_
