#include "coord/internal/waiting.h"

#include <algorithm>
#include <chrono>
#include <optional>

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

}  // namespace coord::internal
