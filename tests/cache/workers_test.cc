// The threads of a cache: none until needed, never too many, and no task is lost or runs too late.
#include "cache/internal/workers.h"

#include <signal.h>

#include <atomic>
#include <functional>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/sync.h"
#include "gtest/gtest.h"
#include "tests/support/wait.h"

namespace coord::internal {
namespace {

using ::coord::testing::Eventually;

TEST(WorkersTest, RunsAsManyAtOnceAsThereMayBeThreadsAndTheRestAfterwards) {
  std::atomic<int> begun{0}, ended{0};
  std::atomic<bool> go{false};
  Workers workers(nullptr);
  for (int i = 0; i < Workers::kMost + 3; ++i) {
    EXPECT_TRUE(workers.Post([&] {
      ++begun;
      EXPECT_TRUE(Eventually([&] { return go.load(); }));
      ++ended;
    }));
  }
  EXPECT_TRUE(Eventually([&] { return begun == Workers::kMost; }));
  go = true;
  workers.Close();
  EXPECT_EQ(ended, Workers::kMost + 3);
}

TEST(WorkersTest, WhatATaskThrowsEndsNothing) {
  std::atomic<bool> ran{false};
  Workers workers(nullptr);
  workers.Post([] { throw std::runtime_error("no"); });
  workers.Post([&] { ran = true; });
  workers.Close();
  EXPECT_TRUE(ran);
}

TEST(WorkersTest, ATaskWithADelayRunsThoughAllOthersAreBusyElsewhere) {
  std::atomic<bool> ran{false}, go{false};
  Workers workers(nullptr);
  workers.PostAfter(absl::Milliseconds(1), [&] { ran = true; });
  for (int i = 0; i < Workers::kMost - 1; ++i) {
    workers.Post([&] { (void)Eventually([&] { return go.load(); }); });
  }
  EXPECT_TRUE(Eventually([&] { return ran.load(); }));
  go = true;
}

TEST(WorkersTest, WhatIsNotDueAtCloseDoesNotRun) {
  auto alive = std::make_shared<int>();
  std::atomic<bool> ran{false};
  Workers workers(nullptr);
  EXPECT_TRUE(workers.PostAfter(absl::Hours(1), [&ran, alive] { ran = true; }));
  workers.Close();
  EXPECT_FALSE(ran);
  EXPECT_EQ(alive.use_count(), 1);
  EXPECT_FALSE(workers.Post([] {}));
  EXPECT_FALSE(workers.PostAfter(absl::Milliseconds(1), [] {}));
}

TEST(WorkersTest, ATaskMayCloseThemAndMayDestroyThem) {
  std::atomic<bool> closed{false};
  auto workers = std::make_unique<Workers>(nullptr);
  Workers* const raw = workers.get();
  raw->Post([&closed, workers = std::make_shared<std::unique_ptr<Workers>>(std::move(workers))] {
    (*workers)->Close();
    workers->reset();
    closed = true;
  });
  EXPECT_TRUE(Eventually([&] { return closed.load(); }));
}

TEST(WorkersTest, KnowsWhoIsInsideATask) {
  std::atomic<bool> inside{false};
  Workers workers(nullptr);
  EXPECT_FALSE(workers.Inside());
  workers.Post([&] { inside = workers.Inside(); });
  EXPECT_TRUE(Eventually([&] { return inside.load(); }));
}

TEST(WorkersTest, ItsThreadsTakeNoSignals) {
  std::atomic<int> blocked{-1};
  Workers workers(nullptr);
  workers.Post([&] {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    blocked = sigismember(&now, SIGTERM);
  });
  EXPECT_TRUE(Eventually([&] { return blocked == 1; }));
}

TEST(WorkersTest, CloseWaitsForWhatAnExecutorRunsAndNotForWhatItDrops) {
  std::vector<std::function<void()>> given;
  std::atomic<int> ran{0};
  Workers workers([&](std::function<void()> task) { given.push_back(std::move(task)); });
  workers.Post([&] { ++ran; });
  workers.Post([&] { ++ran; });
  EXPECT_EQ(given.size(), 2u);
  given.pop_back();
  std::thread later([&] {
    given.front()();
    given.clear();
  });
  workers.Close();
  EXPECT_EQ(ran, 1);
  later.join();
}

TEST(WorkersTest, AnExecutorGetsTasksWithADelayWhenTheyAreDue) {
  Mutex mutex;
  std::vector<std::function<void()>> given;
  std::atomic<bool> ran{false};
  Workers workers([&](std::function<void()> task) {
    MutexLock lock(mutex);
    given.push_back(std::move(task));
  });
  workers.PostAfter(absl::Milliseconds(1), [&] { ran = true; });
  EXPECT_TRUE(Eventually([&] {
    MutexLock lock(mutex);
    return given.size() == 1;
  }));
  EXPECT_FALSE(ran);
  given.front()();
  EXPECT_TRUE(ran);
  given.clear();
}

}  // namespace
}  // namespace coord::internal
