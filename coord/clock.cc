#include "coord/clock.h"

#include <ctime>

namespace coord {
namespace {

class BootClock final : public Clock {
 public:
  absl::Time Now() const override {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return absl::TimeFromTimespec(now);
  }
};

}  // namespace

const Clock* Clock::Boot() {
  static const BootClock clock;
  return &clock;
}

}  // namespace coord
