// The clock that leases are judged on.
#ifndef COORD_CLOCK_H_
#define COORD_CLOCK_H_

#include "absl/time/time.h"

namespace coord {

// Thread-safe. Implementations never go back.
class Clock {
 public:
  virtual ~Clock() = default;

  // Counted from an arbitrary fixed moment, so only differences mean something: this is not the
  // calendar.
  virtual absl::Time Now() const = 0;

  // CLOCK_BOOTTIME, which runs on while the machine is suspended. Lives as long as the program.
  static const Clock* Boot();
};

}  // namespace coord

#endif  // COORD_CLOCK_H_
