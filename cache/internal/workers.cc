#include "cache/internal/workers.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "coord/internal/deadline.h"
#include "coord/internal/sync.h"
#include "coord/internal/worker.h"

namespace coord::internal {
namespace {

constexpr absl::Duration kIdle = absl::Seconds(10);

using Task = std::function<void()>;
using Threads = std::list<std::thread>;

}  // namespace

struct Workers::State : std::enable_shared_from_this<Workers::State> {
  explicit State(std::function<void(Task)> run) : executor(std::move(run)) {}

  // A task that an executor has been given. However it goes, run or dropped, it is accounted for.
  struct Entrusted {
    Entrusted(std::shared_ptr<State> owner, Task what)
        : state(std::move(owner)), task(std::move(what)) {}
    Entrusted(const Entrusted&) = delete;
    Entrusted& operator=(const Entrusted&) = delete;
    ~Entrusted() {
      task = nullptr;
      MutexLock lock(state->mutex);
      --state->entrusted;
      state->changed.NotifyAll();
    }
    const std::shared_ptr<State> state;
    Task task;
  };

  bool Inside() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return std::find(running.begin(), running.end(), std::this_thread::get_id()) != running.end();
  }

  // The two ends of a task on this thread.
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    running.push_back(std::this_thread::get_id());
  }
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    running.erase(std::find(running.begin(), running.end(), std::this_thread::get_id()));
    if (closed) changed.NotifyAll();
  }

  // Of one that has begun.
  void Run(Task task) {
    RunGuarded(task);
    task = nullptr;  // what it holds ends with it, and may take its time
    MutexLock lock(mutex);
    End();
  }

  // Of one that is counted in `entrusted`.
  void Entrust(Task task) {
    auto given = std::make_shared<Entrusted>(shared_from_this(), std::move(task));
    // An executor that throws has dropped it.
    RunGuarded([this, &given] {
      executor([given = std::move(given)] {
        {
          MutexLock lock(given->state->mutex);
          given->state->Begin();
        }
        given->state->Run(std::exchange(given->task, nullptr));
      });
    });
  }

  // So that there is an idle thread for each task that is due, and one to wait for those that are
  // not; as far as there may be, and the system gives them. False: there is no thread at all.
  bool Staff() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const std::size_t wanted = due.size() + (later.empty() ? 0 : 1);
    const std::size_t most = executor ? 1 : kMost;
    std::size_t free = idle;
    while (free < wanted && threads.size() < most) {
      // The program's signals are for the program's own threads.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      bool started = true;
      threads.emplace_back();
      try {
        threads.back() =
            std::thread([state = shared_from_this(), self = std::prev(threads.end())]() mutable {
              Loop(std::move(state), self);
            });
      } catch (const std::system_error&) {
        threads.pop_back();
        started = false;
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (!started) break;
      ++free;
      ++idle;
    }
    return !threads.empty();
  }

  static void Loop(std::shared_ptr<State> state, Threads::iterator self) { state->Work(self); }

  void Work(Threads::iterator self) {
    while (true) {
      Task task = Next(self);
      if (!task) return;
      if (executor) {
        Entrust(std::move(task));
      } else {
        Run(std::move(task));
      }
      MutexLock lock(mutex);
      ++idle;
    }
  }

  // Of a thread that counts as idle. What comes back has begun, or is counted as entrusted; empty:
  // the thread is to end.
  Task Next(Threads::iterator self) {
    MutexLock lock(mutex);
    const SteadyTime until = DeadlineAfter(kIdle);
    while (true) {
      const SteadyTime now = std::chrono::steady_clock::now();
      while (!later.empty() && later.begin()->first <= now) {
        due.push_back(std::move(later.begin()->second));
        later.erase(later.begin());
      }
      if (!due.empty()) {
        Task task = std::move(due.front());
        due.pop_front();
        --idle;
        if (executor) {
          ++entrusted;
        } else {
          Begin();
        }
        if (!closed) (void)Staff();
        return task;
      }
      // The last idle one stays for what is still to come.
      const bool needed = !later.empty() && idle == 1;
      if (closed || (now >= until && !needed)) break;
      SteadyTime wake = needed ? SteadyTime::max() : until;
      if (!later.empty()) wake = std::min(wake, later.begin()->first);
      if (wake == SteadyTime::max()) {
        changed.Wait(mutex);
      } else {
        (void)changed.WaitUntil(mutex, wake);
      }
    }
    --idle;
    // Close may have taken all of them already, to wait for them.
    if (!taken) ended.splice(ended.end(), threads, self);
    changed.NotifyAll();
    return nullptr;
  }

  const std::function<void(Task)> executor;  // may be empty
  Mutex mutex;
  CondVar changed;
  std::deque<Task> due ABSL_GUARDED_BY(mutex);
  std::multimap<SteadyTime, Task> later ABSL_GUARDED_BY(mutex);
  Threads threads ABSL_GUARDED_BY(mutex);
  Threads ended ABSL_GUARDED_BY(mutex);  // to be joined
  std::vector<std::thread::id> running ABSL_GUARDED_BY(mutex);
  std::size_t idle ABSL_GUARDED_BY(mutex) = 0;
  int entrusted ABSL_GUARDED_BY(mutex) = 0;
  bool closed ABSL_GUARDED_BY(mutex) = false;
  bool taken ABSL_GUARDED_BY(mutex) = false;
};

Workers::Workers(std::function<void(std::function<void()>)> executor)
    : state_(std::make_shared<State>(std::move(executor))) {}

Workers::~Workers() { Close(); }

// Below, the state is held by a reference of the call's own: a task may destroy the Workers while
// the call that has posted it has not returned.

bool Workers::Post(std::function<void()> task) {
  const std::shared_ptr<State> state = state_;
  Threads ended;
  bool here = false;
  {
    MutexLock lock(state->mutex);
    if (state->closed) return false;
    if (state->executor) {
      ++state->entrusted;
    } else {
      ended.swap(state->ended);
      state->due.push_back(std::move(task));
      if (!state->Staff()) {
        task = std::move(state->due.back());
        state->due.pop_back();
        state->Begin();
        here = true;
      }
    }
  }
  for (std::thread& thread : ended) thread.join();
  if (state->executor) {
    state->Entrust(std::move(task));
  } else if (here) {
    state->Run(std::move(task));
  } else {
    state->changed.NotifyAll();
  }
  return true;
}

bool Workers::PostAfter(absl::Duration delay, std::function<void()> task) {
  if (delay <= absl::ZeroDuration()) return Post(std::move(task));
  const std::shared_ptr<State> state = state_;
  {
    MutexLock lock(state->mutex);
    if (state->closed) return false;
    state->later.emplace(DeadlineAfter(delay), std::move(task));
    // Without a thread now, there will be one with the next task.
    (void)state->Staff();
  }
  state->changed.NotifyAll();
  return true;
}

bool Workers::Inside() const {
  MutexLock lock(state_->mutex);
  return state_->Inside();
}

void Workers::Close() {
  const std::shared_ptr<State> state = state_;
  Threads threads;
  std::multimap<SteadyTime, Task> later;  // ends outside the lock
  bool inside = false;
  {
    MutexLock lock(state->mutex);
    state->closed = true;
    later.swap(state->later);
    inside = state->Inside();
    // Iterators stay good when a list is spliced, but not which list they belong to.
    if (!state->taken) {
      state->taken = true;
      threads.splice(threads.end(), state->threads);
      threads.splice(threads.end(), state->ended);
    }
  }
  state->changed.NotifyAll();
  for (std::thread& thread : threads) {
    if (inside) {
      thread.detach();  // the loop holds its own reference to the state
    } else {
      thread.join();
    }
  }
  if (inside) return;
  MutexLock lock(state->mutex);
  while (state->entrusted > 0 || !state->running.empty() || !state->due.empty()) {
    state->changed.Wait(state->mutex);
  }
}

}  // namespace coord::internal
