// ConcurrencyLimiter: so many at a time and no more, and a place comes back whatever becomes of its
// holder.
#include "coord/concurrency_limiter.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
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
#include "tests/support/shared_memory.h"
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
using ::coord::testing::Shared;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class ConcurrencyLimiterTest : public ::testing::Test {
 protected:
  ConcurrencyLimiter Of(std::int64_t limit) {
    return ConcurrencyLimiter(client_, {.limit = limit, .ttl = absl::Minutes(1)});
  }
  std::int64_t Remaining(const ConcurrencyLimiter& limiter) {
    const absl::StatusOr<ConcurrencyUse> use = limiter.Peek("t");
    return use.ok() ? use->remaining : -1;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(ConcurrencyLimiterTest, SoManyAtATimeAndAPlaceIsLeftByTheDestructor) {
  const ConcurrencyLimiter limiter = Of(2);
  ASSERT_OK_AND_ASSIGN(ConcurrencyEntry first, limiter.Enter("t"));
  EXPECT_TRUE(first.allowed);
  EXPECT_EQ(first.limit, 2);
  EXPECT_TRUE(first.slot.valid());
  {
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry second, limiter.Enter("t"));
    EXPECT_TRUE(second.allowed);
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry third, limiter.Enter("t"));
    EXPECT_FALSE(third.allowed);
    EXPECT_EQ(third.limit, 2);
    EXPECT_FALSE(third.slot.valid());
  }
  ASSERT_OK_AND_ASSIGN(ConcurrencyEntry again, limiter.Enter("t"));
  EXPECT_TRUE(again.allowed);
  EXPECT_OK(again.slot.Release());
  EXPECT_EQ(Remaining(limiter), 1);
}

TEST_F(ConcurrencyLimiterTest, AMovedEntryKeepsItsPlace) {
  const ConcurrencyLimiter limiter = Of(1);
  ConcurrencyEntry kept;
  {
    ASSERT_OK_AND_ASSIGN(ConcurrencyEntry entry, limiter.Enter("t"));
    kept = std::move(entry);
  }
  EXPECT_TRUE(kept.slot.valid());
  EXPECT_EQ(Remaining(limiter), 0);
}

TEST_F(ConcurrencyLimiterTest, TakesSeveralPlacesOrNoneAndADenialConsumesNothing) {
  const ConcurrencyLimiter limiter = Of(5);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry three, limiter.Enter("t", 3));
  EXPECT_TRUE(three.allowed);
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry denied, limiter.Enter("t", 3));
    EXPECT_FALSE(denied.allowed);
  }
  ASSERT_OK_AND_ASSIGN(const ConcurrencyUse use, limiter.Peek("t"));
  EXPECT_EQ(use.limit, 5);
  EXPECT_EQ(use.in_use, 3);
  EXPECT_EQ(use.remaining, 2);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry two, limiter.Enter("t", 2));
  EXPECT_TRUE(two.allowed);
}

TEST_F(ConcurrencyLimiterTest, KeysAreLimitsOfTheirOwnAndPeekWritesNothing) {
  const ConcurrencyLimiter limiter = Of(1);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyUse use, limiter.Peek("a"));
  EXPECT_EQ(use.limit, 1);
  EXPECT_EQ(use.remaining, 1);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry a, limiter.Enter("a"));
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry b, limiter.Enter("b"));
  EXPECT_TRUE(a.allowed && b.allowed);
}

TEST_F(ConcurrencyLimiterTest, EnterIsOneRoundTripAllowedOrNot) {
  const ConcurrencyLimiter limiter = Of(1);
  ASSERT_OK_AND_ASSIGN(ConcurrencyEntry warm, limiter.Enter("t"));
  ASSERT_OK(warm.slot.Release());
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry entry, limiter.Enter("t"));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry denied, limiter.Enter("t"));
  EXPECT_TRUE(entry.allowed);
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 2);
}

TEST_F(ConcurrencyLimiterTest, NeverMoreThanTheLimitWithThirtyTwoThreads) {
  const ConcurrencyLimiter limiter = Of(4);
  std::atomic<int> inside{0}, most{0}, entered{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 32; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        absl::StatusOr<ConcurrencyEntry> entry = limiter.Enter("t");
        ASSERT_OK(entry);
        if (!entry->allowed) continue;
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        ++entered;
        std::this_thread::yield();
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most.load(), 4);
  EXPECT_GE(entered.load(), 50);
  EXPECT_EQ(Remaining(limiter), 4);
}

TEST_F(ConcurrencyLimiterTest, AKilledHoldersPlaceComesBackAfterTheTtlAndNotBefore) {
  constexpr absl::Duration kTtl = absl::Milliseconds(600);
  struct Stage {
    std::atomic<bool> entered{false};
  };
  const Shared<Stage> stage;
  Process holder = ForkAndRun([&]() -> int {
    const absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    absl::StatusOr<ConcurrencyEntry> entry =
        ConcurrencyLimiter(*client, {.limit = 1, .ttl = kTtl}).Enter("t");
    if (!entry.ok() || !entry->allowed) return 2;
    stage->entered = true;
    (void)Eventually([] { return false; }, absl::Seconds(60));
    return 0;
  });
  ASSERT_TRUE(Eventually([&] { return stage->entered.load(); }));
  const ConcurrencyLimiter limiter(client_, {.limit = 1, .ttl = kTtl});
  // It is renewed while its holder lives.
  const Stopwatch watch;
  while (watch.elapsed() < 2 * kTtl) {
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry entry, limiter.Enter("t"));
    ASSERT_FALSE(entry.allowed);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  holder.Kill();
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<ConcurrencyEntry> entry = limiter.Enter("t");
    return entry.ok() && entry->allowed;
  }));
}

TEST_F(ConcurrencyLimiterTest, WaitEntersWhenAPlaceIsLeftAndDeniesWhenItsTimeIsOver) {
  const ConcurrencyLimiter limiter = Of(1);
  ASSERT_OK_AND_ASSIGN(ConcurrencyEntry entry, limiter.Enter("t"));
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry denied, limiter.Wait("t", 1, absl::Milliseconds(20)));
  EXPECT_FALSE(denied.allowed);
  std::thread waiter([&] {
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry second, limiter.Wait("t", 1, absl::Seconds(30)));
    EXPECT_TRUE(second.allowed);
  });
  EXPECT_TRUE(Eventually([&] {
    return redis_.Integer({"EXISTS", "coord:{t}:permits-queue"}) == 1;
  }));
  EXPECT_OK(entry.slot.Release());
  waiter.join();
}

TEST_F(ConcurrencyLimiterTest, BadArgumentsAreRefusedAndAnotherLimitIsReported) {
  EXPECT_THAT(Of(0).Enter("t").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("permits is 0")));
  EXPECT_THAT(Of(2).Enter("t", 3).status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Of(2).Enter("t", 0).status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Of(2).Enter("").status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Of(0).Peek("t").status(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry entry, Of(2).Enter("t"));
  EXPECT_THAT(Of(3).Enter("t").status(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ConcurrencyLimiterTest, AServerThatIsGoneIsAnErrorAndNoDenial) {
  const ConcurrencyLimiter limiter = Of(2);
  server_.Kill();
  EXPECT_THAT(limiter.Enter("t", 1, {.timeout = absl::Milliseconds(200)}).status(),
              ::testing::Not(::coord::testing::IsOk()));
}

}  // namespace
}  // namespace coord
