// A server that comes back and reads its data first.
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class LoadingFaultTest : public ::testing::Test {
 protected:
  static testing::RedisServerOptions Slow() {
    testing::RedisServerOptions options;
    options.may_be_loading = true;
    // 2 ms for a key, 3 s for all; it looks at its clients after each.
    options.args = {"--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024",
                    "--rdbcompression", "no"};
    return options;
  }

  void SetUp() override {
    redis_.Command(
        {"EVAL", "for i = 1, 1500 do redis.call('SET', i, string.rep('x', 2000)) end", "0"});
  }

  void RestartSlowly() {
    ASSERT_EQ(redis_.Text({"SAVE"}), "OK");
    server_.Kill();
    server_.Start();
    ASSERT_THAT(redis_.Command({"GET", "1"}).text(), StartsWith("LOADING")) << "not slow enough";
  }

  RedisServer server_{Slow()};
  RawRedis redis_{server_};
};

TEST_F(LoadingFaultTest, CallsWaitForTheDataAndAreAppliedOnce) {
  ClientOptions options;
  options.timeout = absl::Seconds(30);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url(), options));
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  RestartSlowly();
  std::vector<std::jthread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] { EXPECT_OK(Counter(client, "hits").Add(1).status()); });
  }
  callers.emplace_back(
      [&] { EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(30)).status()); });
  callers.clear();
  ASSERT_OK_AND_ASSIGN(const std::int64_t value, Counter(client, "hits").Get());
  EXPECT_EQ(value, 5);
}

TEST_F(LoadingFaultTest, TooShortADeadlineIsAnErrorThatSaysWhy) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  RestartSlowly();
  const absl::Duration brief = absl::Milliseconds(100);
  ClientOptions options;
  options.connect_timeout = brief;
  const std::function<absl::Status()> calls[] = {
      [&] { return Counter(client, "hits").Add(1, {}, {.timeout = brief}).status(); },
      [&] { return Mutex(client, "deploy").TryAcquire({.timeout = brief}).status(); },
      [&] { return Client::Connect(server_.url(), options).status(); },
  };
  for (const auto& call : calls) {
    // An attempt that began just before the deadline knows no more than that nobody has answered.
    absl::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = call();
      EXPECT_TRUE(coord::IsUnavailable(status)) << status;
      EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
      return status.message().find("LOADING") != absl::string_view::npos;
    })) << status;
  }
  ASSERT_THAT(redis_.Command({"GET", "1"}).text(), StartsWith("LOADING")) << "not slow enough";
  EXPECT_TRUE(Eventually([&] { return Counter(client, "hits").Add(1).ok(); }, absl::Seconds(20)));
  EXPECT_EQ(redis_.Text({"GET", "coord:{hits}:count"}), "1");
}

// The key is in the file with the moment at which it ends.
TEST_F(LoadingFaultTest, ALeaseLivesThroughItWhenItIsLongEnough) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(30)}).TryAcquire());
  RestartSlowly();
  ClientOptions patient;
  patient.connect_timeout = absl::Seconds(20);
  ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(server_.url(), patient));
  EXPECT_TRUE(IsBusy(Mutex(other, "deploy").TryAcquire({.timeout = absl::Seconds(20)}).status()));
  EXPECT_TRUE(lease.valid());
  EXPECT_OK(lease.Renew(absl::Seconds(30), {.timeout = absl::Seconds(20)}));
  EXPECT_OK(lease.Release());
  EXPECT_OK(Mutex(other, "deploy").TryAcquire().status());
}

TEST_F(LoadingFaultTest, ALeaseThatIsTooShortIsLostInTime) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Milliseconds(900)}).TryAcquire());
  RestartSlowly();
  EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
  EXPECT_FALSE(lease.valid());
  ASSERT_OK_AND_ASSIGN(const Lease next, Mutex(client, "deploy").Acquire(absl::Seconds(30)));
  EXPECT_GT(next.token(), lease.token());
}

}  // namespace
}  // namespace coord
