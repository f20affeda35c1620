#include "coord/internal/worker.h"

#include <system_error>
#include <utility>

namespace coord::internal {

void RunGuarded(const std::function<void()>& task) noexcept {
  try {
    task();
  } catch (...) {
  }
}

Worker::Worker() : state_(std::make_shared<State>()) {}

Worker::~Worker() {
  std::thread thread;
  {
    MutexLock lock(state_->mutex);
    state_->stopping = true;
    thread.swap(thread_);
  }
  state_->changed.NotifyAll();
  if (!thread.joinable()) return;
  if (thread.get_id() == std::this_thread::get_id()) {
    thread.detach();  // the loop holds its own reference to the state
  } else {
    thread.join();
  }
}

void Worker::Post(std::function<void()> task) {
  bool started = true;
  {
    MutexLock lock(state_->mutex);
    if (!thread_.joinable()) {
      try {
        thread_ = std::thread([state = state_] { Loop(state); });
      } catch (const std::system_error&) {
        started = false;
      }
    }
    if (started) state_->tasks.push_back(std::move(task));
  }
  if (started) {
    state_->changed.NotifyOne();
  } else {
    RunGuarded(task);
  }
}

void Worker::Loop(const std::shared_ptr<State>& state) {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(state->mutex);
      while (state->tasks.empty() && !state->stopping) state->changed.Wait(state->mutex);
      if (state->tasks.empty()) return;
      task = std::move(state->tasks.front());
      state->tasks.pop_front();
    }
    RunGuarded(task);
  }
}

}  // namespace coord::internal
