// RateLimiter on one server: never over the limit, and what a denial, a look and a wait do.
#include "coord/rate_limiter.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kKey[] = "coord:{user}:gcra";

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

RateLimit Limit(std::int64_t permits, absl::Duration period,
                std::optional<std::int64_t> burst = std::nullopt) {
  RateLimit limit;
  limit.permits = permits;
  limit.period = period;
  limit.burst = burst;
  return limit;
}

// Nothing comes back while a test runs.
RateLimit Slow(std::int64_t burst) { return Limit(1, absl::Hours(1), burst); }

class RateLimiterTest : public ::testing::Test {
 protected:
  std::string Stored() { return redis_.Command({"GET", kKey}).text(); }
  bool Exists() { return redis_.Integer({"EXISTS", kKey}) == 1; }
  RateLimiter Of(const RateLimit& limit) { return RateLimiter(client_, limit); }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(RateLimiterTest, ABurstAndNoMore) {
  const RateLimiter limiter = Of(Slow(5));
  for (int left = 4; left >= 0; --left) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user"));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.limit, 5);
    EXPECT_EQ(decision.remaining, left);
    EXPECT_EQ(decision.retry_after, absl::ZeroDuration());
    EXPECT_GT(decision.reset_after, absl::Hours(5 - left) - absl::Minutes(1));
    EXPECT_LE(decision.reset_after, absl::Hours(5 - left));
  }
  ASSERT_OK_AND_ASSIGN(const RateDecision denied, limiter.Take("user"));
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(denied.limit, 5);
  EXPECT_EQ(denied.remaining, 0);
  EXPECT_GT(denied.retry_after, absl::Minutes(59));
  EXPECT_LE(denied.retry_after, absl::Hours(1));
  ASSERT_OK_AND_ASSIGN(const RateDecision other, limiter.Take("another user"));
  EXPECT_TRUE(other.allowed);
}

TEST_F(RateLimiterTest, TheBurstIsThePermitsWhereItIsNotGiven) {
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, Of(Limit(7, absl::Hours(1))).Take("user"));
  EXPECT_EQ(decision.limit, 7);
  EXPECT_EQ(decision.remaining, 6);
}

TEST_F(RateLimiterTest, NeverOverByOneWithThirtyTwoThreads) {
  constexpr int kThreads = 32;
  constexpr int kBurst = 500;
  const RateLimiter limiter = Of(Slow(kBurst));
  std::atomic<int> allowed = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int denied = 0; denied < 5;) {
        const absl::StatusOr<RateDecision> decision = limiter.Take("user");
        EXPECT_OK(decision.status());
        if (decision.ok() && decision->allowed) {
          ++allowed;
        } else {
          ++denied;
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(allowed, kBurst);
}

TEST_F(RateLimiterTest, NeverOverTheRateWhilePermitsComeBack) {
  constexpr int kThreads = 32;
  const absl::Duration interval = absl::Milliseconds(5);
  const RateLimiter limiter = Of(Limit(1, interval, 20));
  std::atomic<int> allowed = 0;
  std::atomic<bool> stop = false;
  const Stopwatch watch;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        const absl::StatusOr<RateDecision> decision = limiter.Take("user");
        EXPECT_OK(decision.status());
        if (decision.ok() && decision->allowed) ++allowed;
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  stop = true;
  threads.clear();
  const absl::Duration elapsed = watch.elapsed();  // all were taken within this time
  EXPECT_LE(allowed, 20 + elapsed / interval + 1);
  EXPECT_GE(allowed, 20 + 30);  // and they do come back
}

TEST_F(RateLimiterTest, NeverOverByOneWithSeveralProcesses) {
  RedisServer server;
  std::vector<Process> processes;
  for (int i = 0; i < 4; ++i) {
    processes.push_back(ForkAndRun([&]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server.url());
      if (!client.ok()) return 201;
      const RateLimiter limiter(*client, Slow(150));
      int allowed = 0;
      for (int denied = 0; denied < 20;) {
        const absl::StatusOr<RateDecision> decision = limiter.Take("user");
        if (!decision.ok()) return 202;
        ++(decision->allowed ? allowed : denied);
      }
      return allowed;
    }));
  }
  int allowed = 0;
  for (Process& process : processes) {
    const int taken = process.Wait().exit_code;
    EXPECT_GE(taken, 0);
    EXPECT_LE(taken, 150);
    allowed += taken;
  }
  EXPECT_EQ(allowed, 150);
}

TEST_F(RateLimiterTest, ADenialConsumesNothing) {
  const RateLimiter limiter = Of(Slow(10));
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Take("user", 8));
  EXPECT_TRUE(decision.allowed);
  const std::string stored = Stored();
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 3));
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.remaining, 2);
    EXPECT_GT(decision.retry_after, absl::Minutes(59));
    EXPECT_LE(decision.retry_after, absl::Hours(1));
  }
  EXPECT_EQ(Stored(), stored);
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 2));  // exactly what is left
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.remaining, 0);
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 1));
  EXPECT_FALSE(decision.allowed);
}

TEST_F(RateLimiterTest, APermitIsThereWhenItsTimeHasComeThoughOthersWereDeniedMeanwhile) {
  const RateLimiter limiter = Of(Limit(1, absl::Milliseconds(300), 1));
  ASSERT_OK(limiter.Take("user").status());
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<RateDecision> got = limiter.Take("user");
    return got.ok() && got->allowed;
  }));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(250));
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));
}

TEST_F(RateLimiterTest, ACostAboveTheBurstIsNever) {
  const RateLimiter limiter = Of(Slow(5));
  for (const std::int64_t cost : {6, 7, 1'000'000}) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", cost));
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.retry_after, absl::InfiniteDuration());
    EXPECT_EQ(decision.remaining, 5);
    ASSERT_OK_AND_ASSIGN(const RateDecision waited, limiter.Wait("user", cost, absl::Hours(2)));
    EXPECT_FALSE(waited.allowed);
  }
  EXPECT_FALSE(Exists());
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", 5));
  EXPECT_TRUE(decision.allowed);
}

TEST_F(RateLimiterTest, ACostAboveTheBurstIsNeverWaitedForHoweverLongTheTimeout) {
  const RateLimiter limiter = Of(Slow(5));
  std::stop_source stop;
  std::atomic<bool> ended = false;
  absl::StatusOr<RateDecision> decision;
  std::jthread waiter([&] {
    decision = limiter.Wait("user", 6, absl::InfiniteDuration(), stop.get_token());
    ended = true;
  });
  EXPECT_TRUE(Eventually([&] { return ended.load(); }, absl::Seconds(5)));
  stop.request_stop();
  waiter.join();
  ASSERT_OK(decision.status());
  EXPECT_FALSE(decision->allowed);
}

TEST_F(RateLimiterTest, PeekAnswersAsTakeAndWritesNothing) {
  const RateLimiter limiter = Of(Slow(3));
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Peek("user", 2));
  EXPECT_TRUE(decision.allowed);
  EXPECT_FALSE(Exists());
  ASSERT_OK(limiter.Take("user", 2).status());
  const std::string stored = Stored();
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(decision, limiter.Peek("user"));
    EXPECT_TRUE(decision.allowed);
    ASSERT_OK_AND_ASSIGN(decision, limiter.Peek("user", 2));
    EXPECT_FALSE(decision.allowed);
    EXPECT_GT(decision.retry_after, absl::Minutes(59));
  }
  EXPECT_EQ(Stored(), stored);
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK(limiter.Peek("user").status());
  EXPECT_EQ(CommandCalls(redis_, "set"), 0);
  EXPECT_EQ(CommandCalls(redis_, "pexpire"), 0);
}

TEST_F(RateLimiterTest, ResetForgetsWhatWasTaken) {
  const RateLimiter limiter = Of(Slow(2));
  ASSERT_OK(limiter.Take("user", 2).status());
  EXPECT_OK(limiter.Reset("user"));
  EXPECT_FALSE(Exists());
  EXPECT_OK(limiter.Reset("user"));
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", 2));
  EXPECT_TRUE(decision.allowed);
}

TEST_F(RateLimiterTest, WaitTakesWhenItsTimeHasCome) {
  const RateLimiter limiter = Of(Limit(1, absl::Milliseconds(300), 1));
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Wait("user", 1, absl::Seconds(20)));
  EXPECT_TRUE(decision.allowed);
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(decision, limiter.Wait("user", 1, absl::Seconds(20)));
  EXPECT_TRUE(decision.allowed);
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(250));
}

TEST_F(RateLimiterTest, WaitersTogetherAreNotOverTheRate) {
  const absl::Duration interval = absl::Milliseconds(40);
  const RateLimiter limiter = Of(Limit(1, interval, 1));
  const Stopwatch watch;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 10; ++i) {
    threads.emplace_back([&] {
      const absl::StatusOr<RateDecision> decision = limiter.Wait("user", 1, absl::Seconds(30));
      EXPECT_OK(decision.status());
      if (decision.ok()) {
        EXPECT_TRUE(decision->allowed);
      }
    });
  }
  threads.clear();
  EXPECT_GE(watch.elapsed(), 9 * interval - absl::Milliseconds(5));
}

TEST_F(RateLimiterTest, WaitDeniesAtOnceWhatWouldNotBeInTime) {
  const RateLimiter limiter = Of(Slow(1));
  ASSERT_OK(limiter.Take("user").status());
  const std::string stored = Stored();
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Wait("user", 1, absl::Seconds(60)));
  EXPECT_FALSE(decision.allowed);
  EXPECT_GT(decision.retry_after, absl::Minutes(59));
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  EXPECT_EQ(Stored(), stored);
}

TEST_F(RateLimiterTest, AStopTokenEndsAWait) {
  const RateLimiter limiter = Of(Slow(1));
  ASSERT_OK(limiter.Take("user").status());
  const std::string stored = Stored();
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::stop_source stop;
  absl::StatusOr<RateDecision> decision;
  std::atomic<bool> ended = false;
  std::jthread waiter([&] {
    decision = limiter.Wait("user", 1, absl::Hours(2), stop.get_token());
    ended = true;
  });
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "evalsha") >= 1; }));
  // The server has answered; replies come in order, so behind this one the waiter has its own.
  ASSERT_OK(client_.Command({"PING"}).status());
  EXPECT_FALSE(ended);
  stop.request_stop();
  const Stopwatch watch;
  waiter.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  EXPECT_THAT(decision, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(IsOutcomeUnknown(decision.status()));
  EXPECT_EQ(Stored(), stored);
}

TEST_F(RateLimiterTest, TheKeyExpiresSomeSecondsAfterTheBurstIsWhole) {
  const RateLimiter limiter = Of(Limit(1, absl::Milliseconds(100), 3));
  ASSERT_OK(limiter.Take("user", 2).status());
  const std::int64_t left = redis_.Integer({"PTTL", kKey});
  EXPECT_GT(left, 0);
  EXPECT_LE(left, 200 + 5'102);
  EXPECT_TRUE(Eventually([&] { return !Exists(); }));
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", 3));
  EXPECT_TRUE(decision.allowed);
}

TEST_F(RateLimiterTest, AStoredTimeFromAClockThatSteppedBackIsClamped) {
  const RateLimiter limiter = Of(Limit(1, absl::Milliseconds(50), 4));
  const Reply now = redis_.Command({"TIME"});
  const std::int64_t tomorrow = (std::stoll(now.items()[0].text()) + 86'400) * 1'000'000;
  redis_.Command({"SET", kKey, std::to_string(tomorrow), "PX", "172800000"});
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Take("user"));
  EXPECT_LE(decision.retry_after, absl::Milliseconds(200));
  EXPECT_LE(decision.reset_after, absl::Milliseconds(250));
  ASSERT_OK_AND_ASSIGN(decision, limiter.Wait("user", 1, absl::Seconds(5)));
  EXPECT_TRUE(decision.allowed);
}

TEST_F(RateLimiterTest, IntervalsAreRoundedUpSoThatTheRateIsNeverExceeded) {
  // 3 in 10 s is one every 3,333,334 us.
  const RateLimiter limiter = Of(Limit(3, absl::Seconds(10)));
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", 3));
  EXPECT_EQ(decision.reset_after, absl::Microseconds(10'000'002));
}

TEST_F(RateLimiterTest, AKeyOfAnotherTypeOrTextIsReportedAndLeftAlone) {
  const RateLimiter limiter = Of(Slow(3));
  redis_.Command({"RPUSH", kKey, "a"});
  EXPECT_THAT(limiter.Take("user"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("user")));
  EXPECT_THAT(limiter.Peek("user"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"LLEN", kKey}), 1);
  redis_.Command({"SET", kKey, "text"});
  EXPECT_FALSE(limiter.Take("user").ok());
  EXPECT_EQ(Stored(), "text");
}

TEST_F(RateLimiterTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  struct Case {
    RateLimit limit;
    std::string argument;
    std::string value;
  };
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const Case cases[] = {
      {Limit(0, absl::Seconds(1)), "permits", "0"},
      {Limit(-1, absl::Seconds(1)), "permits", "-1"},
      {Limit(1, absl::ZeroDuration()), "period", "0"},
      {Limit(1, -absl::Seconds(1)), "period", "-1s"},
      {Limit(1, absl::InfiniteDuration()), "period", "inf"},
      {Limit(1, absl::Hours(24 * 366 * 1000)), "period", ""},
      {Limit(1, absl::Seconds(1), 0), "burst", "0"},
      {Limit(1, absl::Seconds(1), -5), "burst", "-5"},
      {Limit(1, absl::Hours(24), most), "burst", std::to_string(most)},
      {Limit(1'000'001, absl::Seconds(1)), "permits", "1000001"},  // less than 1 us each
      {Limit(most, absl::Seconds(1)), "permits", std::to_string(most)},
  };
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const Case& c : cases) {
    const RateLimiter limiter = Of(c.limit);
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                  AllOf(HasSubstr(c.argument), HasSubstr(c.value)));
    EXPECT_THAT(limiter.Take("user"), refused) << c.argument << ' ' << c.value;
    EXPECT_THAT(limiter.Peek("user"), refused) << c.argument << ' ' << c.value;
    EXPECT_THAT(limiter.Wait("user", 1, absl::Seconds(1)), refused);
  }
  const RateLimiter limiter = Of(Slow(5));
  for (const std::int64_t cost : {std::int64_t{0}, std::int64_t{-1}, most, -most}) {
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                  AllOf(HasSubstr("cost"), HasSubstr(std::to_string(cost))));
    EXPECT_THAT(limiter.Take("user", cost), refused);
    EXPECT_THAT(limiter.Peek("user", cost), refused);
    EXPECT_THAT(limiter.Wait("user", cost, absl::Seconds(1)), refused);
  }
  for (const std::string& key : {std::string(), std::string(513, 'x'), std::string("}x")}) {
    EXPECT_THAT(limiter.Take(key), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(limiter.Peek(key), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(limiter.Reset(key), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(limiter.Wait(key, 1, absl::Seconds(1)),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(
      limiter.Wait("user", 1, -absl::Seconds(1)),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("timeout"), HasSubstr("-1s"))));
  EXPECT_THAT(limiter.Take("user", 1, {.timeout = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "eval"), 0);
}

TEST_F(RateLimiterTest, TheFastestRateIsTaken) {
  ASSERT_OK_AND_ASSIGN(const RateDecision decision,
                       Of(Limit(1'000'000, absl::Seconds(1))).Take("user", 1'000'000));
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.reset_after, absl::Seconds(1));
}

}  // namespace
}  // namespace coord
