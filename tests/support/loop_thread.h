// One thread around poll(), on which a test's proxy or fake server lives.
#ifndef COORD_TESTS_SUPPORT_LOOP_THREAD_H_
#define COORD_TESTS_SUPPORT_LOOP_THREAD_H_

#include <poll.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "coord/internal/sync.h"
#include "tests/support/sockets.h"

namespace coord::testing {

// Everything that the two functions touch belongs to the thread; others reach it through Run(), so
// it needs no lock.
class LoopThread {
 public:
  using SteadyTime = internal::SteadyTime;
  // Appends what to poll; returns when to call `handle` at the latest, if there is such a time.
  using Prepare = std::function<std::optional<SteadyTime>(std::vector<pollfd>&)>;
  // Gets what Prepare appended, with the results.
  using Handle = std::function<void(std::span<const pollfd>)>;

  LoopThread(Prepare prepare, Handle handle);
  ~LoopThread();  // joins
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  // Runs `task` on the thread, between two rounds, and returns when it is done. May be called on
  // the thread too.
  void Run(const std::function<void()>& task);

 private:
  void Main();
  void RunTasks();
  void Wake();

  const pid_t owner_;
  const Prepare prepare_;
  const Handle handle_;
  const UniqueFd wake_;
  internal::Mutex mutex_;
  internal::CondVar ran_;
  std::deque<const std::function<void()>*> tasks_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<std::thread::id>
      id_;  // not thread_.get_id(): the thread may ask before the member is set
  std::thread thread_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_LOOP_THREAD_H_
