// A value that a test and its forked children see together.
//
//   struct Stage { std::atomic<bool> open = false; };
//   Shared<Stage> stage;                                  // before forking
//   Process child = ForkAndRun([&] { (void)Eventually([&] { return stage->open.load(); }); });
#ifndef COORD_TESTS_SUPPORT_SHARED_MEMORY_H_
#define COORD_TESTS_SUPPORT_SHARED_MEMORY_H_

#include <sys/mman.h>

#include <new>

#include "tests/support/fatal.h"

namespace coord::testing {

// `T` holds no pointers of a process's own: lock-free atomics and plain data. It is never
// destroyed; its memory goes when the last process has unmapped it or ended.
template <typename T>
class Shared {
 public:
  Shared() {
    void* const memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) FatalErrno("mmap");
    value_ = new (memory) T();
  }
  ~Shared() { munmap(value_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_ = nullptr;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_SHARED_MEMORY_H_
