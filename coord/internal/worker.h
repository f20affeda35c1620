// Where user code runs when no executor was given: one thread, started by the first task.
#ifndef COORD_INTERNAL_WORKER_H_
#define COORD_INTERNAL_WORKER_H_

#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "coord/internal/sync.h"

namespace coord::internal {

class Worker {
 public:
  Worker();
  // Runs what is queued, then ends the thread and waits for it; destroyed by one of its own tasks,
  // it does not wait.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Thread-safe. Runs tasks one after another, in order. If the system gives no thread, runs the
  // task here.
  void Post(std::function<void()> task);

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    std::deque<std::function<void()>> tasks ABSL_GUARDED_BY(mutex);
    bool stopping ABSL_GUARDED_BY(mutex) = false;
  };
  static void Loop(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;
  std::thread thread_ ABSL_GUARDED_BY(state_->mutex);
};

// Runs `task`; what it throws ends here, since none of our callers could do anything about it.
void RunGuarded(const std::function<void()>& task) noexcept;

}  // namespace coord::internal

#endif  // COORD_INTERNAL_WORKER_H_
