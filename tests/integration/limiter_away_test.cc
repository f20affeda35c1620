// RateLimiter without its server: what was chosen, for faults of the connection and no others, and
// the server's word again as soon as it is back.
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/rate_limiter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::IsOk;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::Not;

constexpr WhenUnreachable kAll[] = {WhenUnreachable::kError, WhenUnreachable::kDeny,
                                    WhenUnreachable::kAllow, WhenUnreachable::kLocal};

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// Nothing comes back while a test runs.
RateLimit Slow(std::int64_t burst) {
  RateLimit limit;
  limit.permits = 1;
  limit.period = absl::Hours(1);
  limit.burst = burst;
  return limit;
}

class LimiterAwayTest : public ::testing::Test {
 protected:
  RateLimiter Of(WhenUnreachable when, const RateLimit& limit = Slow(3)) {
    return RateLimiter(client_, limit, {.when_unreachable = when});
  }
  // The server's decision, within a reconnect.
  ::testing::AssertionResult Returns(const RateLimiter& limiter) {
    absl::StatusOr<RateDecision> last = RateDecision();
    if (Eventually([&] {
          last = limiter.Take("back");
          return last.ok() && last->from_server && last->allowed;
        })) {
      return ::testing::AssertionSuccess();
    }
    return ::testing::AssertionFailure() << last.status();
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url(), {.timeout = absl::Milliseconds(200)});
};

TEST_F(LimiterAwayTest, AServersDecisionSaysThatItIsOne) {
  for (const WhenUnreachable when : kAll) {
    ASSERT_TRUE(Returns(Of(when, Slow(100))));
  }
}

TEST_F(LimiterAwayTest, WithoutAChoiceItIsAnError) {
  const RateLimiter limiter(client_, Slow(3));
  server_.Kill();
  EXPECT_THAT(limiter.Take("k"), Not(IsOk()));
  EXPECT_THAT(limiter.TakeUpTo("k", 2), Not(IsOk()));
  EXPECT_THAT(limiter.Peek("k"), Not(IsOk()));
  EXPECT_THAT(limiter.Wait("k", 1, absl::Milliseconds(1)), Not(IsOk()));
  server_.Start();
  EXPECT_TRUE(Returns(limiter));
}

TEST_F(LimiterAwayTest, DenyDeniesUntilTheServerIsBack) {
  const RateLimiter limiter = Of(WhenUnreachable::kDeny);
  server_.Kill();
  for (const absl::StatusOr<RateDecision>& decision :
       {limiter.Take("k"), limiter.TakeUpTo("k", 2), limiter.Peek("k"),
        limiter.Wait("k", 1, absl::Milliseconds(1))}) {
    ASSERT_OK(decision);
    EXPECT_FALSE(decision->allowed);
    EXPECT_FALSE(decision->from_server);
    EXPECT_EQ(decision->limit, 3);
    EXPECT_EQ(decision->remaining, 0);
    EXPECT_EQ(decision->taken, 0);
    EXPECT_EQ(decision->retry_after, absl::Seconds(1));
    EXPECT_EQ(decision->limiting_index, 0);
  }
  ASSERT_OK_AND_ASSIGN(const RateDecision never, limiter.Take("k", 4));
  EXPECT_EQ(never.retry_after, absl::InfiniteDuration());
  server_.Start();
  EXPECT_TRUE(Returns(limiter));
}

TEST_F(LimiterAwayTest, AllowAllowsAnyNumberOfTimesButNeverMoreThanTheBurst) {
  const RateLimiter limiter = Of(WhenUnreachable::kAllow);
  server_.Kill();
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("k", 2));
    EXPECT_TRUE(decision.allowed);
    EXPECT_FALSE(decision.from_server);
    EXPECT_EQ(decision.taken, 2);
    EXPECT_EQ(decision.retry_after, absl::ZeroDuration());
    EXPECT_FALSE(decision.limiting_index.has_value());
  }
  ASSERT_OK_AND_ASSIGN(const RateDecision some, limiter.TakeUpTo("k", 100));
  EXPECT_EQ(some.taken, 3);
  ASSERT_OK_AND_ASSIGN(const RateDecision look, limiter.Peek("k"));
  EXPECT_TRUE(look.allowed);
  EXPECT_EQ(look.taken, 0);
  ASSERT_OK_AND_ASSIGN(const RateDecision never, limiter.Take("k", 4));
  EXPECT_FALSE(never.allowed);
  EXPECT_EQ(never.retry_after, absl::InfiniteDuration());
  server_.Start();
  EXPECT_TRUE(Returns(limiter));
}

TEST_F(LimiterAwayTest, LocalIsALimitOfThisProcessThatCopiesShare) {
  const RateLimiter limiter = Of(WhenUnreachable::kLocal);
  const RateLimiter copy = limiter;
  server_.Kill();
  ASSERT_OK_AND_ASSIGN(const RateDecision first, limiter.Take("k"));
  EXPECT_TRUE(first.allowed);
  EXPECT_FALSE(first.from_server);
  EXPECT_EQ(first.remaining, 2);
  ASSERT_OK_AND_ASSIGN(const RateDecision second, copy.TakeUpTo("k", 9));
  EXPECT_EQ(second.taken, 2);
  ASSERT_OK_AND_ASSIGN(const RateDecision look, copy.Peek("k"));
  EXPECT_FALSE(look.allowed);
  ASSERT_OK_AND_ASSIGN(const RateDecision denied, limiter.Take("k"));
  EXPECT_FALSE(denied.allowed);
  EXPECT_GT(denied.retry_after, absl::Minutes(59));
  EXPECT_EQ(denied.limiting_index, 0);
  ASSERT_OK_AND_ASSIGN(const RateDecision other, limiter.Take("other", 3));
  EXPECT_TRUE(other.allowed);
  ASSERT_OK_AND_ASSIGN(const RateDecision never, limiter.Take("new", 4));
  EXPECT_EQ(never.retry_after, absl::InfiniteDuration());
  server_.Start();
  EXPECT_TRUE(Returns(limiter));
}

TEST_F(LimiterAwayTest, LocalCountsEveryAlgorithm) {
  server_.Kill();
  for (const RateLimit::Algorithm algorithm :
       {RateLimit::Algorithm::kTokenBucket, RateLimit::Algorithm::kFixedWindow,
        RateLimit::Algorithm::kSlidingWindow, RateLimit::Algorithm::kSlidingLog}) {
    RateLimit limit;
    limit.permits = 2;
    limit.period = absl::Hours(1);
    limit.algorithm = algorithm;
    const RateLimiter limiter = Of(WhenUnreachable::kLocal, limit);
    int allowed = 0;
    for (int i = 0; i < 4; ++i) {
      const absl::StatusOr<RateDecision> decision =
          limiter.Take("k", 1, {.timeout = absl::Milliseconds(20)});
      ASSERT_OK(decision);
      allowed += decision->allowed ? 1 : 0;
    }
    EXPECT_EQ(allowed, 2);
  }
}

TEST_F(LimiterAwayTest, WaitWaitsForTheLocalLimit) {
  RateLimit limit;
  limit.permits = 2;
  limit.burst = 1;
  const RateLimiter limiter = Of(WhenUnreachable::kLocal, limit);
  server_.Kill();
  const Stopwatch watch;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Wait("k", 1, absl::Seconds(30)));
    EXPECT_TRUE(decision.allowed);
    EXPECT_FALSE(decision.from_server);
  }
  EXPECT_GE(watch.elapsed(), absl::Seconds(1));
}

TEST_F(LimiterAwayTest, WaitIsAnsweredByTheServerThatComesBackMeanwhile) {
  const RateLimiter limiter = Of(WhenUnreachable::kDeny);
  server_.Kill();
  std::thread waiter([&] {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Wait("k", 1, absl::Seconds(30)));
    EXPECT_TRUE(decision.allowed);
    EXPECT_TRUE(decision.from_server);
  });
  server_.Start();
  waiter.join();
}

TEST_F(LimiterAwayTest, AServerThatDoesNotAnswerIsWaitedForNoLongerThanTheTimeout) {
  for (const WhenUnreachable when :
       {WhenUnreachable::kDeny, WhenUnreachable::kAllow, WhenUnreachable::kLocal}) {
    const RateLimiter limiter = Of(when, Slow(100));
    ASSERT_TRUE(Returns(limiter));
    server_.Pause();
    const Stopwatch watch;
    const absl::StatusOr<RateDecision> decision =
        limiter.Take("k", 1, {.timeout = absl::Milliseconds(50)});
    EXPECT_LT(watch.elapsed(), absl::Seconds(3));
    server_.Resume();
    ASSERT_OK(decision);
    EXPECT_FALSE(decision->from_server);
    EXPECT_EQ(decision->allowed, when != WhenUnreachable::kDeny);
    EXPECT_TRUE(Returns(limiter));
  }
}

TEST_F(LimiterAwayTest, WhatWasDeniedHereMayHaveBeenTakenAndItsIdTells) {
  const RateLimiter limiter = Of(WhenUnreachable::kDeny, Slow(100));
  ASSERT_TRUE(Returns(limiter));
  const OperationId id = OperationId::New();
  server_.Pause();
  const absl::StatusOr<RateDecision> decision =
      limiter.Take("k", 1, {.timeout = absl::Milliseconds(50)}, {.operation_id = id});
  server_.Resume();
  ASSERT_OK(decision);
  EXPECT_FALSE(decision->allowed);
  EXPECT_FALSE(decision->from_server);
  absl::StatusOr<std::optional<RateDecision>> settled = std::optional<RateDecision>();
  ASSERT_TRUE(Eventually([&] {
    settled = limiter.Resolve("k", id);
    return settled.ok();
  }));
  const std::int64_t taken = settled->has_value() ? 1 : 0;
  ASSERT_OK_AND_ASSIGN(const RateDecision look, limiter.Peek("k"));
  EXPECT_EQ(look.remaining, 99 - taken);  // what one more would leave
}

TEST_F(LimiterAwayTest, OtherErrorsAreReturnedWhateverWasChosen) {
  redis_.Command({"LPUSH", "coord:{list}:gcra", "x"});
  redis_.Command({"ACL", "SETUSER", "weak", "on", ">pw", "~*", "&*", "+@connection", "+client",
                  "+hello", "+info", "+role"});
  const std::string path = server_.socket_path();
  for (const WhenUnreachable when : kAll) {
    const RateLimiter limiter = Of(when);
    EXPECT_THAT(limiter.Take("list"), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(limiter.Peek("list"), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(limiter.TakeUpTo("list", 1), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(limiter.Take("", 1), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(limiter.Take("k", 0), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(Of(when, Slow(0)).Take("k"), StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(Of(when, Slow(0)).TakeUpTo("k", 1), StatusIs(absl::StatusCode::kInvalidArgument));
    std::stop_source stopped;
    stopped.request_stop();
    EXPECT_THAT(limiter.Take("k", 1, {.stop = stopped.get_token()}),
                StatusIs(absl::StatusCode::kCancelled));
    const Client closed = ConnectTo(server_.url());
    closed.Close();
    EXPECT_THAT(RateLimiter(closed, Slow(3), {.when_unreachable = when}).Take("k"),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    const absl::StatusOr<Client> weak = Client::Connect("unix://weak:pw@" + path);
    if (!weak.ok()) continue;  // refused at signing in
    EXPECT_THAT(RateLimiter(*weak, Slow(3), {.when_unreachable = when}).Take("k"),
                StatusIs(absl::StatusCode::kPermissionDenied));
  }
}

TEST_F(LimiterAwayTest, RefundResetAndResolveAreErrors) {
  server_.Kill();
  for (const WhenUnreachable when : kAll) {
    const RateLimiter limiter = Of(when);
    const CallOptions call{.timeout = absl::Milliseconds(20)};
    EXPECT_THAT(limiter.Refund("k", 1, call), Not(IsOk()));
    EXPECT_THAT(limiter.Reset("k", call), Not(IsOk()));
    EXPECT_THAT(limiter.Resolve("k", OperationId::New(), call), Not(IsOk()));
  }
}

}  // namespace
}  // namespace coord
