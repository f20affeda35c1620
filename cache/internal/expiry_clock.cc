#include "cache/internal/expiry_clock.h"

#include <ctime>

namespace coord::internal {
namespace {

constexpr std::int64_t kMeasureEach = 5'000'000;
// How late the coarse clock's tick may come: many times its length, since a virtual machine can
// lose its CPUs for a while. Only moments this near cost a look at the real clock.
constexpr std::int64_t kLatestTick = 100'000'000;

std::int64_t ToNanos(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::int64_t CoarseNow() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return ToNanos(now);
}

}  // namespace

ExpiryClock::ExpiryClock(const Clock* clock) : clock_(clock), coarse_(clock == Clock::Boot()) {}

std::int64_t ExpiryClock::After(absl::Duration length) const {
  return length == absl::InfiniteDuration() ? kNever : absl::ToUnixNanos(clock_->Now() + length);
}

bool ExpiryClock::PassedByCoarse(std::int64_t moment) const {
  const std::int64_t coarse = CoarseNow();
  // Acquire: `ahead_` is then at least as new as `measured_` says.
  if (coarse - measured_.load(std::memory_order_acquire) > kMeasureEach) {
    const std::int64_t now = Now();
    ahead_.store(now - coarse, std::memory_order_relaxed);
    measured_.store(coarse, std::memory_order_release);
    return now >= moment;
  }
  // `ahead_` is never too little, unless the machine was suspended since, but can be too much: a
  // thread may have slept between its two readings.
  if (coarse + ahead_.load(std::memory_order_relaxed) + kLatestTick < moment) return false;
  return Now() >= moment;
}

}  // namespace coord::internal
