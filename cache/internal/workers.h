// The threads on which a cache runs what no caller waits for, or what a caller may leave: factories
// and recoveries.
#ifndef COORD_CACHE_INTERNAL_WORKERS_H_
#define COORD_CACHE_INTERNAL_WORKERS_H_

#include <functional>
#include <memory>

#include "absl/time/time.h"

namespace coord::internal {

// Thread-safe.
class Workers {
 public:
  // How many threads there are at most, each started when a task finds the others busy, and ended
  // when it has been idle for 10 s.
  static constexpr int kMost = 4;

  // `executor`: runs tasks in place of threads of our own; may be empty. What it drops is lost.
  explicit Workers(std::function<void(std::function<void()>)> executor);
  // As Close.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // What the task throws is swallowed. If the system gives no thread, and there is none, runs it
  // here. False when closed: it will not run.
  bool Post(std::function<void()> task);
  // Not before `delay` has passed. One that is not due at Close does not run.
  bool PostAfter(absl::Duration delay, std::function<void()> task);
  // Whether this thread is running one of the tasks: then a task that it waits for may need the
  // very thread that waits.
  bool Inside() const;
  // Takes no more tasks; those that have begun, and those queued without a delay, run to their end
  // before it returns, also those given to an executor. Called by one of the tasks themselves, it
  // does not wait. Idempotent.
  void Close();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_WORKERS_H_
