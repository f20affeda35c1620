// Durations sorted into steps that grow with them. Pure.
#ifndef COORD_CACHE_INTERNAL_LATENCY_STEPS_H_
#define COORD_CACHE_INTERNAL_LATENCY_STEPS_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace coord::internal {

// Each power of two has 16 steps, so a step's middle is at most 1/32 away from what it holds. What
// is longer than 2^40 ns (18 min) stands in the last.
class LatencySteps {
 public:
  static constexpr std::size_t kCount = 16 + 36 * 16;

  static std::size_t Of(absl::Duration duration) {
    const auto ns =
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, absl::ToInt64Nanoseconds(duration)));
    if (ns < 16) return static_cast<std::size_t>(ns);
    const auto power = static_cast<std::size_t>(std::bit_width(ns)) - 1;  // 2^power <= ns
    return std::min((power - 4) * 16 + static_cast<std::size_t>(ns >> (power - 4)), kCount - 1);
  }

  static absl::Duration Middle(std::size_t step) {
    if (step < 16) return absl::Nanoseconds(static_cast<std::int64_t>(step));
    const std::size_t shift = step / 16 - 1;
    const std::uint64_t low = std::uint64_t{16 + step % 16} << shift;
    return absl::Nanoseconds(static_cast<std::int64_t>(low + (std::uint64_t{1} << shift) / 2));
  }
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_LATENCY_STEPS_H_
