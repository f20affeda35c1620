// Waiting in tests: on a condition with a deadline, never for a length of time.
#ifndef COORD_TESTS_SUPPORT_WAIT_H_
#define COORD_TESTS_SUPPORT_WAIT_H_

#include <chrono>
#include <thread>
#include <utility>

#include "absl/time/time.h"

namespace coord::testing {

// Asks `predicate` every millisecond until it says true, at least once and at most for `timeout`.
// What it last said:  EXPECT_TRUE(Eventually([&] { return proxy.accepted() == 2; }));
template <typename Predicate>
bool Eventually(Predicate&& predicate, absl::Duration timeout = absl::Seconds(10)) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  while (!predicate()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class Stopwatch {
 public:
  absl::Duration elapsed() const {
    return absl::FromChrono(std::chrono::steady_clock::now() - start_);
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_WAIT_H_
