#include "coord/internal/waiting.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "coord/internal/backoff.h"
#include "coord/internal/sync.h"

namespace coord::internal {

bool SleepUntil(SteadyTime deadline, const CallLimits& limits) {
  Mutex mutex;
  CondVar stopped;
  const auto wake = [&] {
    MutexLock lock(mutex);
    stopped.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);
  const SteadyTime until = std::min(deadline, limits.deadline);
  MutexLock lock(mutex);
  while (!limits.stop.stop_requested()) {
    if (std::chrono::steady_clock::now() >= until) return deadline <= limits.deadline;
    stopped.WaitUntil(mutex, until);
  }
  return false;
}

absl::Duration PollingPause(int asked, absl::Duration holder_left, double random) {
  constexpr BackoffLimits kPause{absl::Milliseconds(4), absl::Milliseconds(100)};
  // At least a quarter of the bound, so that an unlucky number does not become a busy loop.
  const absl::Duration pause = (0.25 + 0.75 * random) * BackoffBound(kPause, asked);
  return std::min(pause, std::max(holder_left, absl::ZeroDuration()) + absl::Milliseconds(1));
}

}  // namespace coord::internal
