// What a client knows of its server, whom it tells, and what its calls do while the server is away:
// against a real one that is killed, stopped and started again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "tests/support/deployment.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using enum NodeState;

constexpr absl::Duration kLong = absl::Seconds(30);

// Whatever a client tells, in the order of the telling.
class Events {
 public:
  void Add(const NodeEvent& event) {
    const internal::MutexLock lock(mutex_);
    events_.push_back(event);
  }
  std::vector<NodeState> states() {
    const internal::MutexLock lock(mutex_);
    std::vector<NodeState> states;
    for (const NodeEvent& event : events_) states.push_back(event.state);
    return states;
  }
  // The last that was told.
  bool Is(NodeState state) {
    const internal::MutexLock lock(mutex_);
    return !events_.empty() && events_.back().state == state;
  }
  bool Saw(NodeState state) {
    const std::vector<NodeState> all = states();
    return std::find(all.begin(), all.end(), state) != all.end();
  }

 private:
  internal::Mutex mutex_;
  std::vector<NodeEvent> events_;
};

// A thread of the program's own.
class Executor {
 public:
  Executor()
      : thread_([this](const std::stop_token& stop) { Loop(stop); }), id_(thread_.get_id()) {}
  void Add(std::function<void()> task) {
    const internal::MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  // Once it returns no task runs, nor will: what they use may go.
  void Stop() {
    thread_.request_stop();
    thread_.join();
  }
  std::thread::id id() const { return id_; }
  bool has_thrown() const { return thrown_; }

 private:
  void Loop(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::function<void()> task;
      {
        const internal::MutexLock lock(mutex_);
        if (!tasks_.empty()) {
          task = std::move(tasks_.front());
          tasks_.pop_front();
        }
      }
      if (!task) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      try {
        task();
      } catch (...) {
        thrown_ = true;
      }
    }
  }
  internal::Mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  std::atomic<bool> thrown_ = false;
  std::jthread thread_;
  const std::thread::id id_;
};

class NodeStateTest : public ::testing::Test {
 protected:
  ClientOptions Options() {
    ClientOptions options;
    options.timeout = absl::Seconds(5);
    options.fail_fast_after = absl::Milliseconds(300);
    options.on_node_event = [events = events_](const NodeEvent& event) { events->Add(event); };
    return options;
  }
  Client Connect(ClientOptions options) {
    return OrFatal(Client::Connect(server_.url(), std::move(options)));
  }
  static absl::Status Ping(const Client& client, absl::Duration timeout = absl::Seconds(5)) {
    return client.Command({"PING"}, {.timeout = timeout}).status();
  }
  // With a caller, who is the one to notice.
  void BringDown(const Client& client) {
    server_.Kill();
    EXPECT_TRUE(Eventually(
        [&] {
          (void)Ping(client);
          return client.Health({.timeout = absl::Milliseconds(100)}).nodes.at(0).state == kDown;
        },
        kLong));
  }

  const std::shared_ptr<Events> events_ = std::make_shared<Events>();
  RedisServer server_;
};

TEST_F(NodeStateTest, EachChangeIsToldOnceAndInOrderThroughACrashAndAReturn) {
  const Client client = Connect(Options());
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }));
  server_.Kill();
  EXPECT_TRUE(Eventually(
      [&] {
        (void)Ping(client);
        return events_->Is(kDown);
      },
      kLong));
  server_.Start();
  // Nobody calls: the background thread finds it.
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }, kLong));
  EXPECT_OK(Ping(client));
  EXPECT_THAT(events_->states(), ElementsAre(kReady, kConnecting, kDown, kReady));
  const Health health = client.Health();
  EXPECT_EQ(health.history.size(), 4u);
  EXPECT_EQ(health.nodes.at(0).state, kReady);
  EXPECT_FALSE(health.nodes.at(0).last_error.empty());
}

TEST_F(NodeStateTest, CallbacksRunOnTheUsersExecutorAndMayCallTheClient) {
  Executor executor;
  std::atomic<bool> elsewhere = false;
  std::atomic<int> called = 0;
  std::optional<Client> client;
  std::atomic<bool> made = false;
  ClientOptions options = Options();
  options.executor = [&](std::function<void()> task) { executor.Add(std::move(task)); };
  options.on_node_event = [&](const NodeEvent& event) {
    if (std::this_thread::get_id() != executor.id()) elsewhere = true;
    events_->Add(event);
    if (!made) return;
    (void)Ping(*client, absl::Milliseconds(50));
    (void)client->Health({.timeout = absl::Milliseconds(50)});
    (void)Counter(*client, "hits").Add(1, {}, {.timeout = absl::Milliseconds(50)});
    if (event.state == kDown) (void)client->Reconnect({.timeout = absl::Milliseconds(50)});
    ++called;
  };
  client = Connect(std::move(options));
  made = true;
  BringDown(*client);
  EXPECT_TRUE(Eventually([&] { return called >= 2; }, kLong));
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return Ping(*client).ok(); }, kLong));
  EXPECT_TRUE(Eventually([&] { return called >= 3; }, kLong));
  client->Close();
  executor.Stop();  // before the client goes, which its last callback may be using
  EXPECT_FALSE(elsewhere);
}

TEST_F(NodeStateTest, ACallbackThatThrowsHarmsNobody) {
  for (const bool own : {false, true}) {
    Executor executor;
    std::atomic<int> called = 0;
    ClientOptions options = Options();
    if (own) {
      options.executor = [&](std::function<void()> task) { executor.Add(std::move(task)); };
    }
    options.on_node_event = [&](const NodeEvent&) {
      ++called;
      throw std::runtime_error("thrown by a callback");
    };
    const Client client = Connect(std::move(options));
    BringDown(client);
    server_.Start();
    EXPECT_TRUE(Eventually([&] { return called >= 4; }, kLong)) << own;
    EXPECT_OK(Ping(client));
    EXPECT_FALSE(executor.has_thrown());
    client.Close();
  }
}

TEST_F(NodeStateTest, AnExecutorThatThrowsHarmsNobody) {
  ClientOptions options = Options();
  options.executor = [](const std::function<void()>&) { throw std::runtime_error("full"); };
  const Client client = Connect(std::move(options));
  EXPECT_OK(Ping(client));
  BringDown(client);
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return Ping(client).ok(); }, kLong));
}

TEST_F(NodeStateTest, AServerThatStandsStillIsNoticedWithoutAnyCall) {
  ClientOptions options = Options();
  options.health_check_period = absl::Milliseconds(100);
  options.health_check_timeout = absl::Milliseconds(400);
  const Client client = Connect(std::move(options));
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }));
  // The checks go over the background connection, which is there by then.
  RawRedis redis(server_);
  EXPECT_TRUE(Eventually([&] {
    return redis.Text({"CLIENT", "LIST"}).find("sub=1") != std::string::npos;
  }));
  server_.Pause();
  EXPECT_TRUE(Eventually([&] { return events_->Is(kDown); }, kLong));
  server_.Resume();
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }, kLong));
  EXPECT_THAT(events_->states(), ElementsAre(kReady, kDegraded, kConnecting, kDown, kReady));
  EXPECT_OK(Ping(client));
}

TEST_F(NodeStateTest, AServerThatIsGoneAndItsReturnAreNoticedWithoutAnyCall) {
  ClientOptions options = Options();
  options.health_check_period = absl::Milliseconds(100);
  const Client client = Connect(std::move(options));
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }));
  for (int round = 0; round < 2; ++round) {
    server_.Kill();
    EXPECT_TRUE(Eventually([&] { return events_->Is(kDown); }, kLong));
    server_.Start();
    EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }, kLong));
  }
  EXPECT_THAT(events_->states(),
              ElementsAre(kReady, kConnecting, kDown, kReady, kConnecting, kDown, kReady));
}

TEST_F(NodeStateTest, OptionsThatMakeNoSenseAreRefused) {
  const auto refused = [&](const std::function<void(ClientOptions&)>& change, const char* name) {
    ClientOptions options;
    change(options);
    EXPECT_THAT(Client::Connect(server_.url(), options).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
  };
  for (const absl::Duration bad : {absl::ZeroDuration(), -absl::Seconds(1)}) {
    refused([&](ClientOptions& o) { o.fail_fast_after = bad; }, "fail_fast_after");
    refused([&](ClientOptions& o) { o.health_check_timeout = bad; }, "health_check_timeout");
    refused([&](ClientOptions& o) { o.keepalive = bad; }, "keepalive");
  }
  refused([](ClientOptions& o) { o.health_check_period = -absl::Seconds(1); }, "_period");
  refused([](ClientOptions& o) { o.health_check_period = absl::Nanoseconds(1); }, "_period");
  refused([](ClientOptions& o) { o.health_check_period = absl::InfiniteDuration(); }, "_period");
  refused([](ClientOptions& o) { o.keepalive = absl::Milliseconds(999); }, "keepalive");
  refused([](ClientOptions& o) { o.keepalive = absl::Hours(24 * 365); }, "keepalive");
  ClientOptions never;
  never.fail_fast_after = never.keepalive = absl::InfiniteDuration();
  EXPECT_OK(Client::Connect(server_.url(), never).status());
}

// ---- While it is given up ----

TEST_F(NodeStateTest, ACallToAServerThatIsGivenUpReturnsAtOnce) {
  const Client client = Connect(Options());
  BringDown(client);
  constexpr int kCalls = 10'000;
  std::vector<absl::Duration> taken;
  for (int i = 0; i < kCalls; ++i) {
    const Stopwatch watch;
    const absl::Status status = Ping(client);
    taken.push_back(watch.elapsed());
    ASSERT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("given up for now")));
    ASSERT_TRUE(coord::IsUnavailable(status));
    ASSERT_FALSE(IsOutcomeUnknown(status));
  }
  std::sort(taken.begin(), taken.end());
  const double p50 = absl::ToDoubleMicroseconds(taken[kCalls / 2]);
  std::printf("a call while down: p50 %.2f us, p99 %.2f us\n", p50,
              absl::ToDoubleMicroseconds(taken[kCalls * 99 / 100]));
  RecordProperty("p50_us", std::to_string(p50));
  EXPECT_LT(p50, 200);
}

TEST_F(NodeStateTest, CallsWorkAgainSoonAfterItsReturnThoughNobodyAsksForIt) {
  for (const bool calling : {true, false}) {
    const Client client = Connect(Options());
    BringDown(client);
    // Long enough for the backoff to be at its most.
    const Stopwatch gone;
    EXPECT_TRUE(Eventually([&] {
      if (calling) (void)Ping(client);
      return gone.elapsed() > absl::Seconds(2);
    }));
    server_.Start();
    const Stopwatch back;
    if (calling) {
      EXPECT_TRUE(Eventually([&] { return Ping(client).ok(); }, kLong));
    } else {
      EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }, kLong));
      EXPECT_OK(Ping(client));
    }
    std::printf("%s: back after %.0f ms\n", calling ? "calling" : "silent",
                absl::ToDoubleMilliseconds(back.elapsed()));
    // Meant: 1 s at most, and what a busy machine takes.
    EXPECT_LT(back.elapsed(), absl::Seconds(8));
  }
}

TEST_F(NodeStateTest, ThoughReconnectHasFailedTheBackgroundThreadGoesOnTrying) {
  const Client client = Connect(Options());
  BringDown(client);
  const absl::Status failed = client.Reconnect({.timeout = absl::Seconds(1)});
  EXPECT_TRUE(coord::IsUnavailable(failed)) << failed;
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return events_->Is(kReady); }, kLong));
  EXPECT_OK(Ping(client));
}

TEST_F(NodeStateTest, WithoutATimeToGiveUpCallsWaitTheirTimeout) {
  ClientOptions options = Options();
  options.fail_fast_after = absl::InfiniteDuration();
  const Client client = Connect(std::move(options));
  server_.Kill();
  const absl::Duration timeout = absl::Milliseconds(400);
  EXPECT_FALSE(Ping(client, timeout).ok());  // it may have been sent
  for (int i = 0; i < 5; ++i) {
    const Stopwatch watch;
    const absl::Status status = Ping(client, timeout);
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_GE(watch.elapsed(), timeout);
  }
  EXPECT_FALSE(events_->Saw(kDown));
  server_.Start();
  EXPECT_OK(Ping(client, kLong));
}

TEST_F(NodeStateTest, ALimiterThatGoesOnWithoutItsServerIsQuick) {
  ClientOptions options = Options();
  options.timeout = absl::Seconds(20);
  const Client client = Connect(std::move(options));
  RateLimit limit;
  limit.permits = 1;
  limit.period = absl::Hours(1);
  limit.burst = 50;
  const RateLimiter limiter(client, limit, {.when_unreachable = WhenUnreachable::kLocal});
  BringDown(client);
  int allowed = 0;
  const Stopwatch watch;
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user"));
    EXPECT_FALSE(decision.from_server);
    allowed += decision.allowed;
  }
  EXPECT_LT(watch.elapsed(), absl::Seconds(10)) << "each has waited";
  EXPECT_EQ(allowed, 50);
}

TEST(EmbeddedNodeStateTest, AnEmbeddedServerIsNeverGivenUpButStartedAgain) {
  if (getenv("COORD_TEST_ACL") != nullptr) GTEST_SKIP() << "not for that user";
  const TempDir directory;
  ClientOptions options;
  options.fail_fast_after = absl::Nanoseconds(1);
  options.timeout = kLong;
  options.connect_timeout = kLong;
  const Client client = OrFatal(Client::Connect("embedded://" + directory.File("kept"), options));
  const auto pid = [&] {
    const std::string info(OrFatal(client.Command({"INFO", "server"})).text());
    const std::string field = "process_id:";
    return static_cast<pid_t>(std::stol(info.substr(info.find(field) + field.size())));
  };
  ASSERT_OK(client.Command({"SET", "here", "1"}).status());
  pid_t last = pid();
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(kill(last, SIGKILL), 0);
    // What is sent into its death has an unknown outcome; nothing else may fail.
    EXPECT_TRUE(Eventually([&] {
      const absl::Status status = client.Command({"PING"}).status();
      EXPECT_TRUE(status.ok() || IsOutcomeUnknown(status)) << status;
      return status.ok();
    }));
    const pid_t now = pid();
    EXPECT_NE(now, last);
    last = now;
  }
  EXPECT_EQ(kill(last, SIGKILL), 0);
}

// ---- Reconnect ----

class ReconnectTest : public NodeStateTest {
 protected:
  static std::int64_t Id(const Client& client) {
    return OrFatal(client.Command({"CLIENT", "ID"})).integer();
  }
  bool Listens(const std::string& name) {
    const std::string list = redis_.Text({"CLIENT", "LIST"});
    for (std::size_t at = list.find(" name=" + name + " "); at != std::string::npos;
         at = list.find(" name=" + name + " ", at + 1)) {
      const std::string line = list.substr(at, list.find('\n', at) - at);
      if (line.find(" sub=1 ") != std::string::npos) return true;
    }
    return false;
  }
  ClientOptions Named(const std::string& name) {
    ClientOptions options = Options();
    options.client_name = name;
    return options;
  }
  RawRedis redis_{server_};
};

TEST_F(ReconnectTest, ConnectionsAreNewAndLeasesAndWaitersGoOn) {
  if (getenv("COORD_TEST_ACL") != nullptr) GTEST_SKIP() << "that user may not CLIENT ID";
  const Client client = Connect(Named("ours"));
  const Client other = Connect(Named("other"));
  ASSERT_OK_AND_ASSIGN(Lease kept, Mutex(client, "kept", {.ttl = absl::Seconds(2)}).TryAcquire());
  ASSERT_OK_AND_ASSIGN(Lease held, Mutex(other, "wanted").TryAcquire());
  absl::StatusOr<Lease> next;
  std::jthread waiter([&] { next = Mutex(client, "wanted").Acquire(kLong); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{wanted}:queue"}) == 1; }));
  ASSERT_TRUE(Eventually([&] { return Listens("ours"); }));
  for (int round = 0; round < 3; ++round) {
    const std::int64_t before = Id(client);
    EXPECT_OK(client.Reconnect());
    EXPECT_NE(Id(client), before);
    EXPECT_TRUE(Eventually([&] { return Listens("ours"); })) << round;
    EXPECT_TRUE(kept.valid());
  }
  // Beyond its first time to live.
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] { return watch.elapsed() > absl::Seconds(3); }));
  EXPECT_TRUE(kept.valid());
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{wanted}:queue"}), 1);
  EXPECT_OK(held.Release());
  waiter.join();
  ASSERT_OK(next.status());
  EXPECT_TRUE(next->valid());
  EXPECT_OK(kept.Release());
}

TEST_F(ReconnectTest, ItWorksForAServerThatIsGivenUp) {
  const Client client = Connect(Options());
  BringDown(client);
  server_.Start();
  EXPECT_OK(client.Reconnect());
  EXPECT_OK(Ping(client));
}

TEST_F(ReconnectTest, AClosedClientStaysClosed) {
  const Client client = Connect(Options());
  client.Close();
  EXPECT_THAT(client.Reconnect(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Ping(client), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(IdleConnectionTest, WhatTheServerClosedWhileIdleIsReplacedAndNothingIsReportedUnknown) {
  // Over TCP: what is sent into a unix socket that was closed fails at once, and is no danger.
  testing::RedisServerOptions server_options;
  server_options.port = 0;
  server_options.args = {"--timeout", "1"};
  RedisServer server(server_options);
  RawRedis redis(server);
  ClientOptions options;
  options.client_name = "idler";
  const Client client = OrFatal(Client::Connect(server.url(), options));
  const Counter counter(client, "hits");
  for (int round = 1; round <= 2; ++round) {
    const auto connected = [&] {
      return redis.Text({"CLIENT", "LIST"}).find("name=idler") != std::string::npos;
    };
    EXPECT_TRUE(connected());
    EXPECT_TRUE(Eventually([&] { return !connected(); }));
    ASSERT_OK_AND_ASSIGN(const CounterResult added, counter.Add(1));
    EXPECT_EQ(added.value, round);
  }
}

}  // namespace
}  // namespace coord
