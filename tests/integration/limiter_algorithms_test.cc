// RateLimiter with each of its algorithms, several limits at once, operation ids, header values.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
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
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::HasSubstr;
using Algorithm = RateLimit::Algorithm;

constexpr Algorithm kAll[] = {Algorithm::kGcra, Algorithm::kTokenBucket, Algorithm::kFixedWindow,
                              Algorithm::kSlidingWindow, Algorithm::kSlidingLog};

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

RateLimit Limit(Algorithm algorithm, std::int64_t permits, absl::Duration period) {
  RateLimit limit;
  limit.permits = permits;
  limit.period = period;
  limit.algorithm = algorithm;
  return limit;
}

// Next to nothing comes back, and no window ends, while a test runs.
RateLimit Slow(Algorithm algorithm, std::int64_t permits) {
  return Limit(algorithm, permits, absl::Hours(24 * 366));
}

class LimiterFixture {
 protected:
  std::vector<std::string> Keys() {
    std::vector<std::string> keys;
    const Reply found = redis_.Command({"KEYS", "*"});
    for (const Reply& key : found.items()) keys.push_back(key.text());
    std::sort(keys.begin(), keys.end());
    return keys;
  }
  std::string Dump() {
    std::string all;
    for (const std::string& key : Keys()) all += redis_.Command({"DUMP", key}).text();
    return all;
  }
  void ExpectAllExpire() {
    for (const std::string& key : Keys()) EXPECT_GT(redis_.Integer({"PTTL", key}), 0) << key;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

class LimiterAlgorithmsTest : public LimiterFixture, public ::testing::TestWithParam<Algorithm> {};

TEST_P(LimiterAlgorithmsTest, ADenialAtTheBoundaryConsumesNothingAndAllExpires) {
  const RateLimiter limiter(client_, Slow(GetParam(), 10));
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Take("user", 8));
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.taken, 8);
  EXPECT_EQ(decision.limit, 10);
  EXPECT_EQ(decision.remaining, 2);
  EXPECT_EQ(decision.limiting_index, std::nullopt);
  const std::string stored = Dump();
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 3));
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.taken, 0);
    EXPECT_EQ(decision.remaining, 2);
    EXPECT_GT(decision.retry_after, absl::ZeroDuration());
    EXPECT_LT(decision.retry_after, absl::InfiniteDuration());
    EXPECT_EQ(decision.limiting_index, 0u);
    ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 11));
    EXPECT_FALSE(decision.allowed);
    EXPECT_EQ(decision.retry_after, absl::InfiniteDuration());
    EXPECT_EQ(decision.remaining, 2);
    ASSERT_OK_AND_ASSIGN(decision, limiter.Peek("user", 2));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.taken, 0);
  }
  EXPECT_EQ(Dump(), stored);
  ExpectAllExpire();
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 2));
  EXPECT_TRUE(decision.allowed);
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user"));
  EXPECT_FALSE(decision.allowed);
  ExpectAllExpire();
}

TEST_P(LimiterAlgorithmsTest, UpToTakesWhatIsThere) {
  const RateLimiter limiter(client_, Slow(GetParam(), 10));
  for (const std::int64_t expected : {4, 4, 2}) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.TakeUpTo("user", 4));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.taken, expected);
  }
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.TakeUpTo("user", 4));
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.taken, 0);
  EXPECT_GT(decision.retry_after, absl::ZeroDuration());
  ASSERT_OK(limiter.Reset("user"));
  EXPECT_TRUE(Keys().empty());
  ASSERT_OK_AND_ASSIGN(decision, limiter.TakeUpTo("user", 1'000'000));
  EXPECT_EQ(decision.taken, 10);
  ExpectAllExpire();
}

TEST_P(LimiterAlgorithmsTest, ARefundGivesBackNoMoreThanWasTaken) {
  const RateLimiter limiter(client_, Slow(GetParam(), 10));
  ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Refund("user", 3));
  EXPECT_EQ(decision.remaining, 10);
  EXPECT_TRUE(Keys().empty());
  ASSERT_OK(limiter.Take("user", 9).status());
  ASSERT_OK_AND_ASSIGN(decision, limiter.Refund("user", 4));
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(decision.remaining, 5);
  EXPECT_EQ(decision.taken, 0);
  ExpectAllExpire();
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 6));
  EXPECT_FALSE(decision.allowed);
  ASSERT_OK_AND_ASSIGN(decision, limiter.Refund("user", 1'000'000));
  EXPECT_EQ(decision.remaining, 10);
  EXPECT_TRUE(Keys().empty());  // what is whole needs no key
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 10));
  EXPECT_TRUE(decision.allowed);
  ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user"));
  EXPECT_FALSE(decision.allowed);
}

TEST_P(LimiterAlgorithmsTest, NeverOverByOneWithThirtyTwoThreadsOfThreeProcesses) {
  RedisServer server;
  const Algorithm algorithm = GetParam();
  std::vector<Process> processes;
  for (int i = 0; i < 3; ++i) {
    processes.push_back(ForkAndRun([&]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server.url());
      if (!client.ok()) return 201;
      const RateLimiter limiter(*client, Slow(algorithm, 150));
      std::atomic<int> taken = 0;
      std::atomic<bool> failed = false;
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < 11; ++thread) {
        threads.emplace_back([&] {
          for (int denied = 0; denied < 5;) {
            const absl::StatusOr<RateDecision> decision = limiter.Take("user");
            if (!decision.ok()) {
              failed = true;
              return;
            }
            if (decision->allowed) {
              ++taken;
            } else {
              ++denied;
            }
          }
        });
      }
      threads.clear();
      return failed ? 202 : taken.load();
    }));
  }
  int taken = 0;
  for (Process& process : processes) taken += process.Wait().exit_code;
  EXPECT_EQ(taken, 150);
}

TEST_P(LimiterAlgorithmsTest, WaitTakesWhenItsTimeHasCome) {
  const RateLimiter limiter(client_, Limit(GetParam(), 2, absl::Milliseconds(100)));
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Wait("user", 2, absl::Seconds(20)));
    EXPECT_TRUE(decision.allowed);
  }
}

TEST_P(LimiterAlgorithmsTest, AnOperationIdTakesOnceAndIsResolved) {
  const RateLimiter limiter(client_, Slow(GetParam(), 10));
  const TakeOptions once{.operation_id = OperationId::New()};
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.Take("user", 4, {}, once));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.remaining, 6);
  }
  ASSERT_OK_AND_ASSIGN(std::optional<RateDecision> kept,
                       limiter.Resolve("user", *once.operation_id));
  ASSERT_TRUE(kept.has_value());
  EXPECT_TRUE(kept->allowed);
  EXPECT_EQ(kept->taken, 4);
  EXPECT_EQ(kept->remaining, 6);
  EXPECT_EQ(kept->limit, 10);
  EXPECT_THAT(limiter.Take("user", 5, {}, once),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments")));
  EXPECT_THAT(limiter.TakeUpTo("user", 4, {}, once), StatusIs(absl::StatusCode::kInvalidArgument));

  const TakeOptions some{.operation_id = OperationId::New()};
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, limiter.TakeUpTo("user", 9, {}, some));
    EXPECT_EQ(decision.taken, 6);
  }
  // A denial stays one, whatever is there by then.
  const TakeOptions late{.operation_id = OperationId::New()};
  ASSERT_OK_AND_ASSIGN(RateDecision denied, limiter.Take("user", 1, {}, late));
  EXPECT_FALSE(denied.allowed);
  ASSERT_OK(limiter.Reset("user"));
  ASSERT_OK_AND_ASSIGN(denied, limiter.Take("user", 1, {}, late));
  EXPECT_FALSE(denied.allowed);
  // What was resolved before it came never comes.
  const TakeOptions void_one{.operation_id = OperationId::New()};
  ASSERT_OK_AND_ASSIGN(kept, limiter.Resolve("user", *void_one.operation_id));
  EXPECT_FALSE(kept.has_value());
  EXPECT_FALSE(limiter.Take("user", 1, {}, void_one).ok());
  EXPECT_THAT(limiter.Take("user", 1, {}, {.operation_id = OperationId("a b")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  ExpectAllExpire();
}

TEST_P(LimiterAlgorithmsTest, AKeyOfAnotherKindIsReportedAndLeftAlone) {
  const RateLimiter limiter(client_, Slow(GetParam(), 10));
  ASSERT_OK(limiter.Take("user").status());
  const std::string key = Keys().at(0);
  redis_.Command({"DEL", key});
  redis_.Command({"HSET", key, "a", "b"});
  EXPECT_THAT(limiter.Take("user"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("user")));
  EXPECT_THAT(limiter.Refund("user", 1), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"HLEN", key}), 1);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LimiterAlgorithmsTest, ::testing::ValuesIn(kAll));

class TakeAllTest : public LimiterAlgorithmsTest {};
INSTANTIATE_TEST_SUITE_P(Algorithms, TakeAllTest, ::testing::ValuesIn(kAll));

TEST_P(TakeAllTest, AllOrNothingAtTheBoundary) {
  std::vector<LimitedKey> limits;
  for (const Algorithm algorithm : kAll) limits.push_back({Slow(algorithm, 10), "many", 2});
  limits.push_back({Slow(GetParam(), 7), "few", 2});
  for (int left = 5; left >= 1; left -= 2) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision, RateLimiter::TakeAll(client_, limits));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.remaining, left);
    EXPECT_EQ(decision.limit, 7);
    EXPECT_EQ(decision.limiting_index, std::nullopt);
  }
  const std::string stored = Dump();
  ASSERT_OK_AND_ASSIGN(RateDecision decision, RateLimiter::TakeAll(client_, limits));
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.limiting_index, limits.size() - 1);
  EXPECT_EQ(decision.remaining, 1);
  EXPECT_GT(decision.retry_after, absl::ZeroDuration());
  EXPECT_LT(decision.retry_after, absl::InfiniteDuration());
  EXPECT_EQ(Dump(), stored);
  limits.back().cost = 8;
  ASSERT_OK_AND_ASSIGN(decision, RateLimiter::TakeAll(client_, limits));
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.limiting_index, limits.size() - 1);
  EXPECT_EQ(decision.retry_after, absl::InfiniteDuration());
  EXPECT_EQ(Dump(), stored);
  limits.back().cost = 1;
  ASSERT_OK_AND_ASSIGN(decision, RateLimiter::TakeAll(client_, limits));
  EXPECT_TRUE(decision.allowed);
  ExpectAllExpire();
}

TEST_P(TakeAllTest, AnOperationIdTakesOfAllOnceAndIsResolved) {
  const LimitedKey limits[] = {{Slow(GetParam(), 10), "few", 4},
                               {Slow(Algorithm::kGcra, 100), "many", 2}};
  const auto left = [&](const LimitedKey& limit) {
    const absl::StatusOr<RateDecision> decision = RateLimiter(client_, limit.limit).Peek(limit.key);
    return decision.ok() ? decision->remaining + (decision->allowed ? 1 : 0) : -1;
  };
  const TakeOptions once{.operation_id = OperationId::New()};
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision,
                         RateLimiter::TakeAll(client_, limits, {}, once));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.remaining, 6);
    EXPECT_EQ(decision.taken, 4);
    EXPECT_EQ(left(limits[0]), 6);
    EXPECT_EQ(left(limits[1]), 98);
  }
  ASSERT_OK_AND_ASSIGN(std::optional<RateDecision> kept,
                       RateLimiter::ResolveAll(client_, limits, *once.operation_id));
  ASSERT_TRUE(kept.has_value());
  EXPECT_TRUE(kept->allowed);
  EXPECT_EQ(kept->remaining, 6);
  EXPECT_EQ(kept->taken, 4);
  EXPECT_EQ(kept->limit, 10);
  // The same id for anything else.
  LimitedKey others[] = {limits[0], limits[1]};
  others[1].key = "more";
  EXPECT_THAT(RateLimiter::TakeAll(client_, others, {}, once),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments")));
  EXPECT_THAT(RateLimiter(client_, limits[0].limit).Take("few", 4, {}, once),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments")));
  EXPECT_FALSE(RateLimiter(client_, limits[0].limit).Resolve("few", *once.operation_id).ok());

  // A denial stays one, and takes of none.
  ASSERT_OK(RateLimiter::TakeAll(client_, limits).status());
  const TakeOptions late{.operation_id = OperationId::New()};
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision denied,
                         RateLimiter::TakeAll(client_, limits, {}, late));
    EXPECT_FALSE(denied.allowed);
    EXPECT_EQ(denied.limiting_index, 0u);
    EXPECT_EQ(left(limits[1]), 96);
    ASSERT_OK(RateLimiter(client_, limits[0].limit).Reset("few"));
  }
  ASSERT_OK_AND_ASSIGN(kept, RateLimiter::ResolveAll(client_, limits, *late.operation_id));
  ASSERT_TRUE(kept.has_value());
  EXPECT_FALSE(kept->allowed);
  EXPECT_EQ(kept->limiting_index, 0u);

  // What was resolved before it came never comes.
  const TakeOptions void_one{.operation_id = OperationId::New()};
  ASSERT_OK_AND_ASSIGN(kept, RateLimiter::ResolveAll(client_, limits, *void_one.operation_id));
  EXPECT_FALSE(kept.has_value());
  EXPECT_FALSE(RateLimiter::TakeAll(client_, limits, {}, void_one).ok());
  EXPECT_EQ(left(limits[1]), 96);
  EXPECT_THAT(RateLimiter::TakeAll(client_, limits, {}, {.operation_id = OperationId("a b")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  ExpectAllExpire();
}

TEST_P(TakeAllTest, AKeyOfAnotherKindIsReportedAndNothingIsTaken) {
  const LimitedKey limits[] = {{Slow(Algorithm::kGcra, 10), "first"},
                               {Slow(GetParam(), 10), "odd"}};
  ASSERT_OK(RateLimiter::TakeAll(client_, limits).status());
  for (const std::string& key : Keys()) {
    if (key.find("odd") == std::string::npos) continue;
    redis_.Command({"DEL", key});
    redis_.Command({"HSET", key, "a", "b"});
  }
  const std::string stored = Dump();
  EXPECT_THAT(RateLimiter::TakeAll(client_, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("first")));
  EXPECT_EQ(Dump(), stored);
}

TEST_P(TakeAllTest, NeverOverWithThreeProcessesThatShareOneOfTheirLimits) {
  RedisServer server;
  const Algorithm algorithm = GetParam();
  std::vector<Process> processes;
  for (int i = 0; i < 3; ++i) {
    processes.push_back(ForkAndRun([&, i]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server.url());
      if (!client.ok()) return 201;
      const LimitedKey limits[] = {
          {Slow(algorithm, 60), std::string(1, static_cast<char>('a' + i))},
          {Slow(algorithm, 150), "all"}};
      int taken = 0;
      for (int denied = 0; denied < 20;) {
        const absl::StatusOr<RateDecision> decision = RateLimiter::TakeAll(*client, limits);
        if (!decision.ok()) return 202;
        ++(decision->allowed ? taken : denied);
      }
      return taken;
    }));
  }
  int taken = 0;
  for (Process& process : processes) {
    const int own = process.Wait().exit_code;
    EXPECT_LE(own, 60);
    taken += own;
  }
  EXPECT_EQ(taken, 150);
  // What one's own limit allowed and the common one denied was not taken of either.
  const Client client = ConnectTo(server.url());
  std::int64_t left = 0;
  for (const char* const name : {"a", "b", "c"}) {
    ASSERT_OK_AND_ASSIGN(const RateDecision decision,
                         RateLimiter(client, Slow(algorithm, 60)).Peek(name));
    left += decision.remaining;
    if (decision.allowed) ++left;  // Peek answers as if it had taken
  }
  EXPECT_EQ(left, 180 - 150);
}

class LimiterArgumentsTest : public LimiterFixture, public ::testing::Test {};

TEST_F(LimiterArgumentsTest, WhatMakesNoSenseIsRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = [&](RateLimit limit, const std::string& why) {
    EXPECT_THAT(RateLimiter(client_, limit).Take("user"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  for (const Algorithm algorithm :
       {Algorithm::kFixedWindow, Algorithm::kSlidingWindow, Algorithm::kSlidingLog}) {
    RateLimit limit = Slow(algorithm, 10);
    limit.burst = 11;
    refused(limit, "burst is 11");
    limit.burst = 9;
    refused(limit, "burst is 9");
    limit.burst = 10;
    EXPECT_OK(RateLimiter(client_, limit).Reset("user"));
  }
  refused(Slow(Algorithm::kSlidingLog, 10'001), "10000, since the server remembers each");
  refused(Limit(Algorithm::kSlidingWindow, 104'167, absl::Hours(24)), "104166");
  RateLimit bucket = Limit(Algorithm::kTokenBucket, 999'983, absl::Hours(24));
  bucket.burst = 200'000;
  refused(bucket, "burst is 200000");
  for (const Algorithm algorithm : kAll) {
    refused(Limit(algorithm, 0, absl::Seconds(1)), "permits");
    refused(Limit(algorithm, 1, absl::ZeroDuration()), "period");
    refused(Limit(algorithm, 1'000'001, absl::Seconds(1)), "microsecond");
    const RateLimiter limiter(client_, Slow(algorithm, 5));
    for (const std::int64_t count : {0, -1}) {
      EXPECT_THAT(limiter.TakeUpTo("user", count),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("most")));
      EXPECT_THAT(limiter.Refund("user", count),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("count")));
    }
  }
  const auto all_refused = [&](const std::vector<LimitedKey>& limits, const std::string& why) {
    EXPECT_THAT(RateLimiter::TakeAll(client_, limits),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  const RateLimit gcra = Slow(Algorithm::kGcra, 5);
  all_refused({}, "there are 0 limits");
  std::vector<LimitedKey> many;
  for (int i = 0; i < 33; ++i) many.push_back({gcra, std::to_string(i)});
  all_refused(many, "there are 33 limits");
  all_refused({{gcra, "a"}, {gcra, "b"}, {gcra, "a"}}, "twice");
  all_refused({{gcra, "a", 0}}, "cost");
  all_refused({{gcra, "a"}, {Limit(Algorithm::kGcra, 0, absl::Seconds(1)), "b"}}, "limit of");
  all_refused({{gcra, ""}}, "rate limiter");
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 3);  // the three Resets
}

TEST_F(LimiterArgumentsTest, ThirtyTwoLimitsAreOneRoundTrip) {
  std::vector<LimitedKey> many;
  for (int i = 0; i < 32; ++i) many.push_back({Slow(kAll[i % 5], 5), std::to_string(i)});
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, RateLimiter::TakeAll(client_, many));
  EXPECT_TRUE(decision.allowed);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  EXPECT_EQ(Keys().size(), 32u);
  ExpectAllExpire();
}

TEST_F(LimiterArgumentsTest, TheGreatestLimitsAreExact) {
  RateLimit bucket = Limit(Algorithm::kTokenBucket, 999'983, absl::Hours(24));
  bucket.burst = 104'166;
  for (const RateLimit& limit :
       {bucket, Limit(Algorithm::kSlidingWindow, 104'166, absl::Hours(24)),
        Slow(Algorithm::kSlidingLog, 10'000), Slow(Algorithm::kFixedWindow, 1'000'000'000'000)}) {
    const RateLimiter limiter(client_, limit);
    const std::int64_t burst = limit.burst.value_or(limit.permits);
    ASSERT_OK_AND_ASSIGN(RateDecision decision, limiter.Take("user", burst - 1));
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.remaining, 1);
    ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", burst));
    EXPECT_FALSE(decision.allowed);
    ASSERT_OK_AND_ASSIGN(decision, limiter.Take("user", 1));
    EXPECT_TRUE(decision.allowed);
    ExpectAllExpire();
  }
}

TEST_F(LimiterArgumentsTest, GcraKeepsOneKeyOfAtMostOneHundredAndTwentyBytes) {
  ASSERT_OK(RateLimiter(client_, Slow(Algorithm::kGcra, 10)).Take("user:42").status());
  EXPECT_EQ(Keys(), std::vector<std::string>{"coord:{user:42}:gcra"});
  EXPECT_LE(redis_.Integer({"MEMORY", "USAGE", "coord:{user:42}:gcra"}), 120);
}

TEST(RateLimitHeadersTest, AreWrittenAsHttpApisSendThem) {
  using Fields = std::vector<std::pair<std::string, std::string>>;
  const RateLimit limit = Limit(Algorithm::kGcra, 100, absl::Seconds(60));
  RateDecision decision;
  decision.allowed = true;
  decision.limit = 100;
  decision.remaining = 50;
  decision.reset_after = absl::Milliseconds(29'001);
  EXPECT_EQ(RateLimitHeaders(decision, limit), (Fields{
                                                   {"RateLimit-Policy", "\"default\";q=100;w=60"},
                                                   {"RateLimit", "\"default\";r=50;t=30"},
                                                   {"X-RateLimit-Limit", "100"},
                                                   {"X-RateLimit-Remaining", "50"},
                                                   {"X-RateLimit-Reset", "30"},
                                               }));
  decision.allowed = false;
  decision.remaining = 0;
  decision.retry_after = absl::Microseconds(1);
  EXPECT_EQ(RateLimitHeaders(decision, limit).back(),
            (std::pair<std::string, std::string>("Retry-After", "1")));
  decision.retry_after = absl::Seconds(7);
  EXPECT_EQ(RateLimitHeaders(decision, limit).back().second, "7");
  decision.retry_after = absl::InfiniteDuration();  // no use in coming again
  EXPECT_EQ(RateLimitHeaders(decision, limit).size(), 5u);
  EXPECT_EQ(RateLimitHeaders(decision, limit, "a\"b\\c\r\n\x80").at(1).second,
            R"("a\"b\\c";r=0;t=30)");
}

}  // namespace
}  // namespace coord
