// For LD_PRELOAD: the wall clock of the program is the number of microseconds in the file
// $COORD_SETTABLE_CLOCK, 8 bytes in the machine's order, which whoever maps the file may change at
// any time. All other clocks, and so all timers, run as ever.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

const std::uint64_t* Map() {
  const char* const path = std::getenv("COORD_SETTABLE_CLOCK");
  const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  void* const memory =
      file < 0 ? MAP_FAILED : mmap(nullptr, sizeof(std::uint64_t), PROT_READ, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) std::abort();  // with the real time the test would show nothing
  close(file);
  return static_cast<const std::uint64_t*>(memory);
}

std::uint64_t NowMicros() {
  static const std::uint64_t* const now = Map();
  return __atomic_load_n(now, __ATOMIC_SEQ_CST);
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int gettimeofday(timeval* __restrict now,
                                                        void* __restrict) noexcept {
  const std::uint64_t us = NowMicros();
  now->tv_sec = static_cast<time_t>(us / 1000000);
  now->tv_usec = static_cast<suseconds_t>(us % 1000000);
  return 0;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) {
    return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
  }
  const std::uint64_t us = NowMicros();
  now->tv_sec = static_cast<time_t>(us / 1000000);
  now->tv_nsec = static_cast<decltype(now->tv_nsec)>(us % 1000000 * 1000);
  return 0;
}

__attribute__((visibility("default"))) time_t time(time_t* now) noexcept {
  const auto seconds = static_cast<time_t>(NowMicros() / 1000000);
  if (now != nullptr) *now = seconds;
  return seconds;
}

}  // extern "C"
