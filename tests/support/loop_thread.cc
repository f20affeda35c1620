#include "tests/support/loop_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <utility>

#include "tests/support/fatal.h"

namespace coord::testing {

LoopThread::LoopThread(Prepare prepare, Handle handle)
    : owner_(getpid()),
      prepare_(std::move(prepare)),
      handle_(std::move(handle)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Main(); }) {
  if (!wake_.valid()) FatalErrno("eventfd");
}

LoopThread::~LoopThread() {
  if (getpid() != owner_) {
    thread_.detach();  // a forked child has no such thread to join
    return;
  }
  {
    internal::MutexLock lock(mutex_);
    stop_ = true;
  }
  Wake();
  thread_.join();
}

void LoopThread::Run(const std::function<void()>& task) {
  if (std::this_thread::get_id() == id_) return task();
  internal::MutexLock lock(mutex_);
  tasks_.push_back(&task);
  const std::uint64_t mine = ++submitted_;
  Wake();
  while (done_ < mine) ran_.Wait(mutex_);
}

void LoopThread::Wake() {
  const std::uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof(one)) < 0 && errno != EAGAIN) FatalErrno("eventfd write");
}

void LoopThread::RunTasks() {
  while (true) {
    const std::function<void()>* task = nullptr;
    {
      internal::MutexLock lock(mutex_);
      if (tasks_.empty()) return;
      task = tasks_.front();
      tasks_.pop_front();
    }
    (*task)();
    internal::MutexLock lock(mutex_);
    ++done_;
    ran_.NotifyAll();
  }
}

void LoopThread::Main() {
  id_ = std::this_thread::get_id();
  std::vector<pollfd> polled;
  while (true) {
    polled.clear();
    polled.push_back({.fd = wake_.get(), .events = POLLIN, .revents = 0});
    const std::optional<SteadyTime> due = prepare_(polled);
    timespec wait{};
    if (due) {
      const auto left = std::max(std::chrono::nanoseconds(0),
                                 std::chrono::nanoseconds(*due - std::chrono::steady_clock::now()));
      wait.tv_sec = left.count() / 1'000'000'000;
      wait.tv_nsec = left.count() % 1'000'000'000;
    }
    if (ppoll(polled.data(), polled.size(), due ? &wait : nullptr, nullptr) < 0) {
      if (errno == EINTR) continue;
      FatalErrno("poll");
    }
    if (polled[0].revents != 0) {
      std::uint64_t ignored = 0;
      if (read(wake_.get(), &ignored, sizeof(ignored)) < 0 && errno != EAGAIN)
        FatalErrno("eventfd");
    }
    // Results before tasks: a task may close what was polled.
    handle_(std::span(polled).subspan(1));
    RunTasks();
    internal::MutexLock lock(mutex_);
    if (stop_) return;
  }
}

}  // namespace coord::testing
