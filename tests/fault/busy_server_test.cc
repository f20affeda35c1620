// A server that is there and does not serve: paused, asleep, or kept by somebody's script.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/lock_history.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;

// What a deadline may be missed by on a loaded machine.
constexpr absl::Duration kSlack = absl::Seconds(3);

// Keeps the server from serving for a time, over a connection of its own.
struct Obstacle {
  const char* name;
  std::function<void(const RedisServer&, absl::Duration)> during;  // returns when it is over

  // How GoogleTest writes it; the bytes would not be the same in each run.
  friend void PrintTo(const Obstacle& self, std::ostream* out) { *out << self.name; }
};

std::string Ms(absl::Duration duration) {
  return std::to_string(absl::ToInt64Milliseconds(duration));
}

void Sleep(absl::Duration duration) {
  std::this_thread::sleep_for(absl::ToChronoNanoseconds(duration));
}

void Pause(const RedisServer& server, absl::Duration duration, const char* what) {
  EXPECT_EQ(RawRedis(server).Text({"CLIENT", "PAUSE", Ms(duration), what}), "OK");
  Sleep(duration);
}

void DebugSleep(const RedisServer& server, absl::Duration duration) {
  const std::string seconds = std::to_string(absl::ToDoubleSeconds(duration));
  EXPECT_EQ(RawRedis(server.unix_url(), absl::Seconds(30)).Text({"DEBUG", "SLEEP", seconds}), "OK");
}

void RunBusyScript(const RedisServer& server, absl::Duration duration) {
  std::jthread script([&] {
    RawRedis redis(server.unix_url(), absl::Seconds(30));
    const Reply reply = redis.Command({"EVAL", "while true do end", "0"});
    EXPECT_THAT(std::string(reply.text()), HasSubstr("killed"));
  });
  Sleep(duration);
  RawRedis redis(server);
  // It can be killed once the server has noticed that it runs for long.
  EXPECT_TRUE(Eventually([&] { return redis.Command({"SCRIPT", "KILL"}).text() == "OK"; }));
}

testing::RedisServerOptions QuicklyBusy() {
  testing::RedisServerOptions options;
  options.args = {"--lua-time-limit", "50"};  // ms after which -BUSY is answered
  return options;
}

Client ConnectTo(const RedisServer& server, absl::Duration timeout = absl::Seconds(5)) {
  ClientOptions options;
  options.timeout = timeout;
  absl::StatusOr<Client> client = Client::Connect(server.url(), options);
  EXPECT_OK(client.status());
  return *std::move(client);
}

class BusyServerTest : public ::testing::TestWithParam<Obstacle> {
 protected:
  std::jthread Begin(absl::Duration duration) {
    return std::jthread([this, duration] { GetParam().during(server_, duration); });
  }

  RedisServer server_{QuicklyBusy()};
};

TEST_P(BusyServerTest, CallsEndByTheirDeadlinesAndNothingCountsTwice) {
  const Client client = ConnectTo(server_);
  const Client patient = ConnectTo(server_);
  ASSERT_OK(Counter(client, "hits").Add(1).status());  // the server knows the script
  std::atomic<std::int64_t> acknowledged = 1, unknown = 0, refused = 0;
  {
    const std::jthread obstacle = Begin(absl::Milliseconds(1500));
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        const Stopwatch whole;
        while (whole.elapsed() < absl::Milliseconds(1200)) {
          const Stopwatch one;
          const absl::Duration timeout = absl::Milliseconds(200);
          const absl::Status status =
              Counter(client, "hits").Add(1, {}, {.timeout = timeout}).status();
          EXPECT_LT(one.elapsed(), timeout + kSlack) << status;
          if (status.ok()) {
            ++acknowledged;
          } else if (IsOutcomeUnknown(status)) {
            ++unknown;
          } else {
            EXPECT_TRUE(coord::IsUnavailable(status)) << status;
            ++refused;
          }
        }
      });
    }
  }
  EXPECT_GT(unknown + refused, 0) << "the server was not busy";
  // Work goes on, for those who gave up and for others.
  EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }));
  ASSERT_OK_AND_ASSIGN(const std::int64_t value, Counter(patient, "hits").Get());
  EXPECT_GE(value, acknowledged);
  EXPECT_LE(value, acknowledged + unknown);
}

TEST_P(BusyServerTest, ALeaseThatCannotBeRenewedIsOverBeforeAnotherHasIt) {
  const Client client = ConnectTo(server_);
  const Client other = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(1)}).TryAcquire());
  std::atomic<std::int64_t> told = 0;
  const std::stop_callback on_loss(lease.stop_token(), [&] { told = BootNanos(); });
  bool still_valid = true;
  std::int64_t granted = 0;
  absl::StatusOr<Lease> next;
  {
    const std::jthread waiter([&] {
      next = Mutex(other, "deploy").Acquire(absl::Seconds(30));
      still_valid = lease.valid();
      granted = BootNanos();
    });
    RawRedis redis(server_);
    EXPECT_TRUE(Eventually([&] { return redis.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
    const std::jthread obstacle = Begin(absl::Seconds(3));
  }
  ASSERT_OK(next.status());
  EXPECT_FALSE(still_valid);
  EXPECT_TRUE(Eventually([&] { return told != 0; }));
  EXPECT_LE(told, granted);
  EXPECT_GT(next->token(), lease.token());
  EXPECT_TRUE(IsLost(lease.Release()));
  EXPECT_TRUE(next->valid());
  EXPECT_OK(next->Release());
}

TEST_P(BusyServerTest, ALeaseOutlivesWhatIsShorterThanItself) {
  const Client client = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(12)}).TryAcquire());
  Begin(absl::Milliseconds(1500)).join();
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Renew(absl::Seconds(12)));
  EXPECT_OK(lease.Release());
}

TEST_P(BusyServerTest, AcquireWaitsUntilTheServerServesAgain) {
  const Client client = ConnectTo(server_);
  const std::jthread obstacle = Begin(absl::Milliseconds(700));
  EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(20)).status());
}

INSTANTIATE_TEST_SUITE_P(
    Obstacles, BusyServerTest,
    ::testing::Values(
        Obstacle{"PausedWrites", [](const RedisServer& server,
                                    absl::Duration duration) { Pause(server, duration, "WRITE"); }},
        Obstacle{"PausedAll", [](const RedisServer& server,
                                 absl::Duration duration) { Pause(server, duration, "ALL"); }},
        Obstacle{"Asleep", DebugSleep}, Obstacle{"Script", RunBusyScript}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(BusyScriptTest, IsReportedAsWhatItIsWithTheWayOutAndAllWorksWhenItIsKilled) {
  const RedisServer server(QuicklyBusy());
  const Client client = ConnectTo(server, absl::Seconds(1));
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  ASSERT_OK(Mutex(client, "deploy").TryAcquire().status());
  RawRedis redis(server);
  std::jthread script([&] {
    RawRedis(server.unix_url(), absl::Seconds(30)).Command({"EVAL", "while true do end", "0"});
  });
  ASSERT_TRUE(Eventually([&] { return redis.Command({"PING"}).text().starts_with("BUSY"); }));
  const auto expect_named = [](const absl::Status& status) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                                 AllOf(HasSubstr("BUSY"), HasSubstr("a script has been running"),
                                       HasSubstr("SCRIPT KILL"))));
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
    EXPECT_FALSE(IsBusy(status)) << "it is the server, and no lock's holder: " << status;
  };
  expect_named(Counter(client, "hits").Add(1).status());
  expect_named(Counter(client, "hits").Get().status());
  expect_named(client.Command({"PING"}).status());
  expect_named(Mutex(client, "deploy").TryAcquire().status());
  expect_named(Mutex(client, "deploy").Acquire(absl::Milliseconds(300)).status());
  Pipeline pipeline;
  pipeline.Add({"GET", "a"});
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies, client.Execute(pipeline));
  EXPECT_TRUE(replies.at(0).is_error());
  EXPECT_THAT(std::string(replies[0].text()), HasSubstr("BUSY"));
  // Who comes now can sign in.
  const Client newcomer = ConnectTo(server);
  expect_named(Counter(newcomer, "hits").Add(1).status());

  EXPECT_EQ(redis.Text({"SCRIPT", "KILL"}), "OK");
  script.join();
  ASSERT_OK_AND_ASSIGN(const CounterResult result, Counter(client, "hits").Add(1));
  EXPECT_EQ(result.value, 2) << "something was applied that was refused";
  EXPECT_OK(Mutex(newcomer, "deploy").Acquire(absl::Seconds(10)).status());
}

}  // namespace
}  // namespace coord
