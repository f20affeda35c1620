// A worker's side of `coord demo`: what it hears from the crew's leader, and the file that all of
// them write to.
#ifndef COORD_TOOLS_DEMO_POST_H_
#define COORD_TOOLS_DEMO_POST_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace coord::tools {

// CLOCK_BOOTTIME in nanoseconds: one clock for all processes of the machine, that nobody sets.
std::int64_t BootNanoseconds();

// What a worker inherits beside the three usual descriptors.
inline constexpr int kLogFd = 3;
inline constexpr int kControlFd = 4;
// A worker's side of it.
class Post {
 public:
  explicit Post(char letter) : letter_(letter) {}
  // Says that it is connected, and waits for the moment. False when it is to end instead.
  bool WaitForGo();
  // Told to end?
  bool Dismissed() const;
  // Appends a line with one write, so that lines of several processes never mix.
  void Log(std::string_view event, const std::vector<std::int64_t>& numbers = {}) const;
  void LogError(const absl::Status& status) const;

 private:
  const char letter_;
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_POST_H_
