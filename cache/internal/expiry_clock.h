// Says whether moments have passed, and reads the clock as seldom as that allows.
#ifndef COORD_CACHE_INTERNAL_EXPIRY_CLOCK_H_
#define COORD_CACHE_INTERNAL_EXPIRY_CLOCK_H_

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"
#include "coord/clock.h"

namespace coord::internal {

// Thread-safe. Moments are nanoseconds of `clock`.
//
// With Clock::Boot() it looks at the kernel's coarse clock first, which costs less, and at the
// real one only for moments within a tenth of a second of it. Answers are exact while the machine
// runs and the kernel's ticks come no later than that; for up to 5 ms and a tick (4 to 10 ms) after
// a suspension they may not know of it yet. Every other clock is asked each time.
class ExpiryClock {
 public:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  explicit ExpiryClock(const Clock* clock);

  std::int64_t Now() const { return absl::ToUnixNanos(clock_->Now()); }
  bool Passed(std::int64_t moment) const {
    return moment != kNever && (coarse_ ? PassedByCoarse(moment) : Now() >= moment);
  }
  // What begins now and lasts so long: kNever for InfiniteDuration, and for what no clock reaches.
  std::int64_t After(absl::Duration length) const;

 private:
  bool PassedByCoarse(std::int64_t moment) const;

  const Clock* const clock_;
  const bool coarse_;
  // The clock is ahead of the coarse one by at most `ahead_` and kLatestTick: measured at
  // `measured_` by the coarse one.
  mutable std::atomic<std::int64_t> ahead_{0};
  mutable std::atomic<std::int64_t> measured_{std::numeric_limits<std::int64_t>::min() / 2};
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_EXPIRY_CLOCK_H_
