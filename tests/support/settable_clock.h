// A server's wall clock that the test moves; by preload/settable_clock.cc.
//
//   SettableClock clock;
//   clock.Set(1'700'000'000'000'000);
//   const std::unique_ptr<RedisServer> server = clock.StartServer();
#ifndef COORD_TESTS_SUPPORT_SETTABLE_CLOCK_H_
#define COORD_TESTS_SUPPORT_SETTABLE_CLOCK_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "tests/support/fatal.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {

// Of the integration tests alone, which are built with what a server has to load.
class SettableClock {
 public:
  SettableClock() {
    const std::string path = directory_.File("now");
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof(std::uint64_t)) != 0) FatalErrno(path);
    void* const memory = mmap(nullptr, sizeof(std::uint64_t), PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) FatalErrno(path);
    close(file);
    now_us_ = static_cast<std::uint64_t*>(memory);
  }
  ~SettableClock() { munmap(now_us_, sizeof(std::uint64_t)); }
  SettableClock(const SettableClock&) = delete;
  SettableClock& operator=(const SettableClock&) = delete;

  void Set(std::uint64_t now_us) { __atomic_store_n(now_us_, now_us, __ATOMIC_SEQ_CST); }

  // A server that lives by this clock.
  std::unique_ptr<RedisServer> StartServer() {
    setenv("COORD_SETTABLE_CLOCK", directory_.File("now").c_str(), 1);
    setenv("LD_PRELOAD", COORD_SETTABLE_CLOCK, 1);
    auto server = std::make_unique<RedisServer>();
    unsetenv("LD_PRELOAD");
    unsetenv("COORD_SETTABLE_CLOCK");
    return server;
  }

 private:
  TempDir directory_;
  std::uint64_t* now_us_ = nullptr;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_SETTABLE_CLOCK_H_
