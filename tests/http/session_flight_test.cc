// Many who want the same at once: one asks the origin, in all threads and processes.
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "coord/internal/sync.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::MutexLock;
using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RedisServer;
using ::coord::testing::TempDir;
using dev::Origin;
using ::testing::Each;
using ::testing::SizeIs;

// Closed until somebody opens it.
class Gate {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(mutex_);
    while (!open_) changed_.Wait(mutex_);
  }

 private:
  coord::internal::Mutex mutex_;
  coord::internal::CondVar changed_;
  bool open_ = false;
};

class HttpFlightTest : public BlackboxTest, public ::testing::WithParamInterface<std::string> {
 protected:
  HttpFlightTest() {
    if (GetParam() == "redis") server_ = std::make_unique<RedisServer>();
  }

  SessionOptions Here() const {
    if (server_ != nullptr) return OptionsAt(server_->url());
    if (GetParam() == "disk") return OptionsAt(StrCat("disk://", directory_.File("http.db")));
    return Options();
  }

  // What `count` threads get, all at once; "error: ..." for who got none. The session of each is
  // one of `sessions`.
  std::vector<std::string> GetAll(const std::vector<Session>& sessions, int count,
                                  const std::string& url, const RequestOptions& options = {}) {
    std::vector<std::string> bodies(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    threads.reserve(bodies.size());
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      threads.emplace_back([&, i] {
        ++started_;
        while (started_ < count) std::this_thread::yield();
        const auto response = sessions[i % sessions.size()].Get(url, options);
        bodies[i] = response.ok() ? std::string(response->body())
                                  : StrCat("error: ", std::string(response.status().message()));
      });
    }
    for (std::thread& thread : threads) thread.join();
    started_ = 0;
    return bodies;
  }

  const TempDir directory_;
  std::unique_ptr<RedisServer> server_;
  std::atomic<int> started_{0};
};

TEST_P(HttpFlightTest, SixtyFourThreadsThatWantOneStaleUrlMakeOneRequest) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(sessions[0].Get(Url("/x")));
  Advance(61);
  origin_->On("/x", Fresh("two"));
  EXPECT_THAT(GetAll(sessions, 64, Url("/x")), Each("two"));
  EXPECT_EQ(origin_->requests("/x"), 2);
}

TEST_P(HttpFlightTest, SixtyFourThreadsThatAskAboutOneStaleUrlMakeOneRequest) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(sessions[0].Get(Url("/x")));
  Advance(61);
  origin_->On("/x", Answer(304, {{"ETag", "\"a\""}}, ""));
  EXPECT_THAT(GetAll(sessions, 64, Url("/x")), Each("one"));
  EXPECT_EQ(origin_->requests("/x"), 2);
}

TEST_P(HttpFlightTest, ThirtyTwoThreadsThatWantWhatIsMissingMakeOneRequest) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x", Fresh("one"));
  EXPECT_THAT(GetAll(sessions, 32, Url("/x")), Each("one"));
  EXPECT_EQ(origin_->requests("/x"), 1);
}

TEST_P(HttpFlightTest, WhatMayNotBeSharedIsNotHandedToOthers) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x", [n = std::make_shared<std::atomic<int>>(0)](const Origin::Request&) {
    return Answer(200, {{"Cache-Control", "no-store"}}, StrCat(++*n));
  });
  const std::vector<std::string> bodies = GetAll(sessions, 32, Url("/x"));
  EXPECT_THAT(std::set<std::string>(bodies.begin(), bodies.end()), SizeIs(32));
  EXPECT_EQ(origin_->requests("/x"), 32);
}

TEST_P(HttpFlightTest, VariantsAreNotHandedToOthers) {
  const Session session = Open(Here());
  origin_->On("/x", [](const Origin::Request& request) {
    return Answer(200, {{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, request.header("X-A"));
  });
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&, who = StrCat("variant", i % 4)] {
      const auto response = session.Get(Url("/x"), {.headers = {{"X-A", who}}});
      if (!response.ok() || response->body() != who) ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(HttpFlightTest, IdentitiesDoNotShareAFlight) {
  const Session session = Open(Here());
  origin_->On("/x", [](const Origin::Request& request) {
    return Fresh(StrCat("for ", request.header("Authorization").substr(6)));
  });
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&, who = i % 4] {
      const auto response =
          session.Get(Url("/x"), {.headers = {{"Authorization", StrCat("caller", who)}}});
      if (!response.ok() || response->body() != StrCat("for ", who)) ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(origin_->requests("/x"), 4);
}

TEST_P(HttpFlightTest, AFailureOfTheOneWhoAsksIsNotTheEndOfTheOthers) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x", [n = std::make_shared<std::atomic<int>>(0)](const Origin::Request&) {
    return ++*n == 1 ? Answer(500, {}, "broken") : Fresh("one");
  });
  int broken = 0;
  for (const std::string& body : GetAll(sessions, 16, Url("/x"))) {
    if (body == "broken") {
      ++broken;
    } else {
      EXPECT_EQ(body, "one");
    }
  }
  EXPECT_EQ(broken, 1);
}

TEST_P(HttpFlightTest, AStaleResponseIsServedAtOnceAndRefreshedOnce) {
  const std::vector<Session> sessions = {Open(Here())};
  origin_->On("/x",
              Answer(200, {{"Cache-Control", "max-age=60, stale-while-revalidate=600"}}, "one"));
  ASSERT_OK(sessions[0].Get(Url("/x")));
  Advance(61);
  Gate gate;
  origin_->On("/x", [&gate](const Origin::Request&) {
    gate.Pass();
    return Fresh("two");
  });
  // While the gate is closed nobody who waits for the origin would come back.
  EXPECT_THAT(GetAll(sessions, 32, Url("/x")), Each("one"));
  gate.Open();
  EXPECT_TRUE(Eventually([&] {
    const auto response = sessions[0].Get(Url("/x"), {.only_if_cached = true});
    return response.ok() && response->body() == "two";
  }));
  EXPECT_EQ(origin_->requests("/x"), 2);
}

INSTANTIATE_TEST_SUITE_P(Kinds, HttpFlightTest, ::testing::Values("memory", "redis", "disk"),
                         [](const auto& one) { return one.param; });

class HttpFlightAcrossTest : public BlackboxTest {
 protected:
  RedisServer server_;
};

TEST_F(HttpFlightAcrossTest, SessionsOverOneServerShareAFlight) {
  std::vector<Session> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(Open(OptionsAt(server_.url())));
  origin_->On("/x", Fresh("one"));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 32; ++i) {
    threads.emplace_back([&, i] {
      const auto response = sessions[i % sessions.size()].Get(Url("/x"));
      if (!response.ok() || response->body() != "one") ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(origin_->requests("/x"), 1);
}

TEST_F(HttpFlightAcrossTest, FourProcessesRefreshOneStaleResponseOnce) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  origin_->On("/x",
              Answer(200, {{"Cache-Control", "max-age=60, stale-while-revalidate=600"}}, "one"));
  ASSERT_EQ(ForkAndRun([&] { return Open(OptionsAt(server_.url())).Get(Url("/x")).ok() ? 0 : 1; })
                .Wait()
                .exit_code,
            0);
  Advance(61);
  Gate gate;
  origin_->On("/x", [&gate](const Origin::Request&) {
    gate.Pass();
    return Fresh("two");
  });
  std::vector<Process> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(ForkAndRun([&]() -> int {
      const Session session = Open(OptionsAt(server_.url()));
      std::atomic<int> wrong{0};
      std::vector<std::thread> threads;
      for (int j = 0; j < 8; ++j) {
        threads.emplace_back([&] {
          const auto response = session.Get(Url("/x"));
          if (!response.ok() || response->body() != "one" || !response->stale()) ++wrong;
        });
      }
      for (std::thread& thread : threads) thread.join();
      std::puts("served");
      std::fflush(stdout);
      return wrong;  // the session's end waits for its refresh
    }));
  }
  for (Process& child : children) {
    EXPECT_TRUE(Eventually(
        [&child] { return child.out().find("served") != std::string::npos || !child.Running(); },
        absl::Seconds(20)));
  }
  gate.Open();
  for (Process& child : children) EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(origin_->requests("/x"), 2);
  const Session session = Open(OptionsAt(server_.url()));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "two");
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpFlightAcrossTest, FourProcessesThatWantWhatIsMissingMakeOneRequest) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  Gate gate;
  origin_->On("/x", [&gate](const Origin::Request&) {
    gate.Pass();
    return Fresh("one");
  });
  std::vector<Process> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(ForkAndRun([&]() -> int {
      const Session session = Open(OptionsAt(server_.url()));
      std::puts("asking");
      std::fflush(stdout);
      const auto response = session.Get(Url("/x"));
      return response.ok() && response->body() == "one" ? 0 : 1;
    }));
  }
  for (Process& child : children) {
    EXPECT_TRUE(Eventually(
        [&child] { return child.out().find("asking") != std::string::npos || !child.Running(); },
        absl::Seconds(20)));
  }
  gate.Open();
  for (Process& child : children) EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(origin_->requests("/x"), 1);
}

// The executor that a session was given runs its refreshes, when it likes.
TEST_F(HttpFlightAcrossTest, AnExecutorOfTheCallersRunsTheRefreshes) {
  std::vector<std::function<void()>> tasks;
  coord::internal::Mutex mutex;
  SessionOptions options = Options();
  options.executor = [&](std::function<void()> task) {
    MutexLock lock(mutex);
    tasks.push_back(std::move(task));
  };
  const Session session = Open(std::move(options));
  origin_->On("/x",
              Answer(200, {{"Cache-Control", "max-age=60, stale-while-revalidate=600"}}, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  origin_->On("/x", Fresh("two"));
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
    EXPECT_EQ(response.body(), "one");
  }
  EXPECT_EQ(origin_->requests("/x"), 1);
  std::vector<std::function<void()>> taken;
  {
    MutexLock lock(mutex);
    taken = std::move(tasks);
    tasks.clear();
  }
  for (const auto& task : taken) task();
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "two");
  EXPECT_EQ(origin_->requests("/x"), 2);
}

// Each that waits holds a response, and an executor may be slow.
TEST_F(HttpFlightAcrossTest, NoMoreThan256RefreshesWait) {
  std::vector<std::function<void()>> tasks;
  coord::internal::Mutex mutex;
  SessionOptions options = OptionsAt("memory");
  options.executor = [&](std::function<void()> task) {
    MutexLock lock(mutex);
    tasks.push_back(std::move(task));
  };
  const Session session = Open(std::move(options));
  origin_->On("/x",
              Answer(200, {{"Cache-Control", "max-age=60, stale-while-revalidate=600"}}, "one"));
  const auto url = [this](int i) { return Url(StrCat("/x?", i)); };
  for (int i = 0; i < 300; ++i) ASSERT_OK(session.Get(url(i)));
  Advance(61);
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(url(i)));
    EXPECT_TRUE(response.stale());
  }
  const auto run_all = [&] {
    while (true) {
      std::vector<std::function<void()>> taken;
      {
        MutexLock lock(mutex);
        taken.swap(tasks);
      }
      if (taken.empty()) return;
      for (const auto& task : taken) task();
    }
  };
  run_all();
  EXPECT_EQ(origin_->requests("/x"), 300 + 256);
  // There is room again.
  ASSERT_OK(session.Get(url(299)));
  run_all();
  EXPECT_EQ(origin_->requests("/x"), 300 + 256 + 1);
}

}  // namespace
}  // namespace coord::http
