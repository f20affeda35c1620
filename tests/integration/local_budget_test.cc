// LocalBudget: never over the limit, whoever holds what; and what is not spent comes back.
#include "coord/local_budget.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
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
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Shared;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

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

// Permits do not get old while a test runs.
LocalBudgetOptions Blocks(std::int64_t size) {
  return {.block = size, .max_age = absl::Minutes(10)};
}

class LocalBudgetTest : public ::testing::Test {
 protected:
  std::int64_t Remaining(const RateLimit& limit) {
    const absl::StatusOr<RateDecision> decision = RateLimiter(client_, limit).Peek("mails");
    // Peek says what is left when the one that it asks for is taken.
    return decision.ok() ? decision->remaining + (decision->allowed ? 1 : 0) : -1;
  }
  std::int64_t Calls() { return CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"); }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

bool Takes(LocalBudget& budget, std::int64_t cost = 1) {
  const absl::StatusOr<RateDecision> decision = budget.Take(cost);
  return decision.ok() && decision->allowed;
}

TEST_F(LocalBudgetTest, ABlockIsOneRoundTrip) {
  LocalBudget budget(client_, Slow(1000), "mails", Blocks(100));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Takes(budget));
  EXPECT_EQ(Calls(), 1);
  EXPECT_EQ(budget.held(), 0);
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, budget.Take(30));
  EXPECT_EQ(Calls(), 2);
  EXPECT_EQ(decision.limit, 1000);
  EXPECT_EQ(decision.remaining, 70);
  EXPECT_EQ(decision.taken, 30);
  EXPECT_EQ(Remaining(Slow(1000)), 800);
}

TEST_F(LocalBudgetTest, LetsThroughTheBurstAndNoMore) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(30));
  int allowed = 0;
  for (int i = 0; i < 200; ++i) allowed += Takes(budget) ? 1 : 0;
  EXPECT_EQ(allowed, 100);
}

TEST_F(LocalBudgetTest, DeniesWithoutARoundTripUntilTheLimiterCanSayYes) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(100));
  ASSERT_TRUE(Takes(budget, 99));
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(const RateDecision denied, budget.Take(2));
    EXPECT_FALSE(denied.allowed);
    EXPECT_EQ(denied.remaining, 1);
    EXPECT_EQ(denied.limiting_index, 0);
    EXPECT_GT(denied.retry_after, absl::Minutes(59));
    EXPECT_LE(denied.retry_after, absl::Minutes(60));
  }
  EXPECT_EQ(Calls(), 0);
  EXPECT_TRUE(Takes(budget, 1));
}

TEST_F(LocalBudgetTest, ADenialIsForgottenWhenOthersMayHaveGivenBack) {
  LocalBudget budget(client_, Slow(10), "mails", Blocks(10));
  ASSERT_TRUE(Takes(budget, 10));
  EXPECT_FALSE(Takes(budget));
  ASSERT_OK(RateLimiter(client_, Slow(10)).Reset("mails"));
  EXPECT_TRUE(Eventually([&] { return Takes(budget); }));
}

TEST_F(LocalBudgetTest, MoreThanTheBurstIsNever) {
  LocalBudget budget(client_, Slow(10), "mails");
  ASSERT_OK_AND_ASSIGN(const RateDecision decision, budget.Take(11));
  EXPECT_FALSE(decision.allowed);
  EXPECT_EQ(decision.retry_after, absl::InfiniteDuration());
  EXPECT_EQ(Calls(), 0);
}

TEST_F(LocalBudgetTest, ReturnGivesBackWhatIsHere) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(60));
  ASSERT_TRUE(Takes(budget, 7));
  EXPECT_EQ(Remaining(Slow(100)), 40);
  ASSERT_OK(budget.Return());
  EXPECT_EQ(budget.held(), 0);
  EXPECT_TRUE(Eventually([&] { return Remaining(Slow(100)) == 93; }));
  const std::int64_t calls = Calls();
  ASSERT_OK(budget.Return());
  EXPECT_EQ(Calls(), calls);
  // Here it is known later, by as long as the answer was on its way.
  EXPECT_TRUE(Eventually([&] { return Takes(budget, 93); }));
}

TEST_F(LocalBudgetTest, TheDestructorGivesBackWhatIsHere) {
  {
    LocalBudget budget(client_, Slow(100), "mails", Blocks(60));
    ASSERT_TRUE(Takes(budget, 7));
  }
  EXPECT_TRUE(Eventually([&] { return Remaining(Slow(100)) == 93; }));
}

TEST_F(LocalBudgetTest, WhatGetsTooOldIsGivenBackInTheBackground) {
  LocalBudget budget(client_, Slow(100), "mails", {.block = 60, .max_age = absl::Milliseconds(50)});
  for (int round = 1; round <= 3; ++round) {
    ASSERT_TRUE(Eventually([&] { return Takes(budget, 7); }));
    EXPECT_TRUE(Eventually([&] { return Remaining(Slow(100)) == 100 - 7 * round; }));
    EXPECT_EQ(budget.held(), 0);
  }
}

TEST_F(LocalBudgetTest, AClientThatIsClosedGivesBackWhatIsHere) {
  const Client client = ConnectTo(server_.url());
  LocalBudget budget(client, Slow(100), "mails", Blocks(60));
  ASSERT_TRUE(Takes(budget, 7));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return Remaining(Slow(100)) == 93; }));
  EXPECT_THAT(budget.Take(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// Runs on as the boot clock does, and can be put forward.
class ShiftedClock final : public Clock {
 public:
  absl::Time Now() const override { return Clock::Boot()->Now() + absl::Seconds(shift_.load()); }
  void Advance(std::int64_t seconds) { shift_ += seconds; }

 private:
  std::atomic<std::int64_t> shift_{0};
};

TEST_F(LocalBudgetTest, PermitsThatAreTooOldAreNotLetThrough) {
  ShiftedClock clock;
  const Client client = ConnectTo(server_.url(), {.clock = &clock});
  LocalBudget budget(client, Slow(100), "mails", {.block = 60, .max_age = absl::Minutes(10)});
  ASSERT_TRUE(Takes(budget));
  clock.Advance(590);
  ASSERT_TRUE(Takes(budget));
  EXPECT_EQ(budget.held(), 58);
  server_.Kill();
  clock.Advance(20);
  const absl::StatusOr<RateDecision> decision = budget.Take(1, {.timeout = absl::Seconds(1)});
  EXPECT_TRUE(coord::IsUnavailable(decision.status()) || IsOutcomeUnknown(decision.status()))
      << decision.status();
  EXPECT_EQ(budget.held(), 0);
}

TEST_F(LocalBudgetTest, AnAnswerThatIsTooOldLetsNothingThroughAndIsGivenBack) {
  LocalBudget budget(client_, Slow(100), "mails", {.block = 60, .max_age = absl::Milliseconds(1)});
  ASSERT_EQ(Remaining(Slow(100)), 100);  // connected, and knows the script
  server_.Pause();
  const Stopwatch watch;
  std::thread resume([&] {
    (void)Eventually([&] { return watch.elapsed() > absl::Milliseconds(50); });
    server_.Resume();
  });
  const absl::StatusOr<RateDecision> decision = budget.Take();
  resume.join();
  EXPECT_THAT(decision, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("max_age")));
  EXPECT_TRUE(Eventually([&] { return Remaining(Slow(100)) == 100; }));
}

TEST_F(LocalBudgetTest, WithoutAServerWhatIsHereIsLetThroughAndThenItIsUnavailable) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(10));
  ASSERT_TRUE(Takes(budget));
  server_.Kill();
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(Takes(budget));
  EXPECT_TRUE(Eventually([&] {
    const absl::StatusOr<RateDecision> decision = budget.Take(1, {.timeout = absl::Seconds(1)});
    return decision.status().code() == absl::StatusCode::kUnavailable &&
           coord::IsUnavailable(decision.status());
  }));
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return Takes(budget); }));
}

TEST_F(LocalBudgetTest, AReturnThatFailsSaysHowManyItWas) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(10));
  ASSERT_TRUE(Takes(budget));
  server_.Kill();
  const absl::Status status = budget.Return({.timeout = absl::Seconds(1)});
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(), HasSubstr("9 permits not given back"));
  EXPECT_EQ(budget.held(), 0);
}

TEST_F(LocalBudgetTest, WhoseShareOthersTookMeanwhileIsNotDeniedForIt) {
  FaultProxy proxy(server_.url());
  const Client client = ConnectTo(proxy.url());
  LocalBudget budget(client, Slow(100), "mails", Blocks(5));
  ASSERT_TRUE(Takes(budget));
  proxy.Set(Direction::kReplies, {.hold = true});
  std::atomic<bool> allowed = false;
  std::thread taker([&] { allowed = Takes(budget, 6); });  // 4 are here, and 5 are asked for
  EXPECT_TRUE(Eventually([&] { return proxy.held(Direction::kReplies) > 0; }));
  EXPECT_TRUE(Takes(budget, 4));
  proxy.Heal();
  taker.join();
  EXPECT_TRUE(allowed);
}

TEST_F(LocalBudgetTest, NobodyWaitsLongerThanItsTimeout) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(10));
  ASSERT_EQ(Remaining(Slow(100)), 100);  // connected, and knows the script
  server_.Pause();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const Stopwatch watch;
      EXPECT_FALSE(budget.Take(1, {.timeout = absl::Milliseconds(100)}).ok());
      EXPECT_LT(watch.elapsed(), absl::Seconds(3));
    });
  }
  for (std::thread& thread : threads) thread.join();
  server_.Resume();
}

TEST_F(LocalBudgetTest, AStopTokenEndsTheWaitForAnothersBlock) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(10));
  ASSERT_EQ(Remaining(Slow(100)), 100);  // connected, and knows the script
  server_.Pause();
  std::vector<std::stop_source> stops(4);
  std::vector<std::thread> threads;
  for (std::stop_source& stop : stops) {
    threads.emplace_back([&budget, &stop] {
      EXPECT_THAT(budget.Take(1, {.timeout = absl::Minutes(5), .stop = stop.get_token()}),
                  StatusIs(absl::StatusCode::kCancelled));
    });
  }
  for (std::stop_source& stop : stops) stop.request_stop();
  for (std::thread& thread : threads) thread.join();
  server_.Resume();
}

TEST_F(LocalBudgetTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  const auto refused = [&](const RateLimit& limit, const std::string& key,
                           const LocalBudgetOptions& options, const std::string& why) {
    LocalBudget budget(client_, limit, key, options);
    EXPECT_THAT(budget.Take(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_THAT(budget.Return(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused(Slow(0), "mails", {}, "burst");
  refused(Slow(10), "", {}, "name");
  refused(Slow(10), "mails", {.block = 11}, "block is 11");
  refused(Slow(10), "mails", {.block = -1}, "block is -1");
  refused(Slow(10), "mails", {.max_age = absl::ZeroDuration()}, "max_age");
  refused(Slow(10), "mails", {.max_age = absl::Hours(2)}, "max_age");
  refused(Slow(10), "mails", {.close_timeout = absl::ZeroDuration()}, "close_timeout");
  for (const RateLimit::Algorithm other :
       {RateLimit::Algorithm::kTokenBucket, RateLimit::Algorithm::kFixedWindow,
        RateLimit::Algorithm::kSlidingWindow, RateLimit::Algorithm::kSlidingLog}) {
    RateLimit limit;
    limit.permits = 10;
    limit.algorithm = other;
    refused(limit, "mails", {}, "GCRA");
  }
  LocalBudget budget(client_, Slow(10), "mails");
  EXPECT_THAT(budget.Take(0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cost is 0")));
  EXPECT_THAT(budget.Take(-1), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Calls(), 0);
}

TEST_F(LocalBudgetTest, AForkedChildSpendsNothingOfItsParents) {
  LocalBudget budget(client_, Slow(100), "mails", Blocks(10));
  ASSERT_TRUE(Takes(budget));
  Process child = ForkAndRun([&]() -> int {
    const bool refused = budget.Take().status().code() == absl::StatusCode::kFailedPrecondition;
    return refused && budget.held() == 0 ? 0 : 1;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(budget.held(), 9);
}

// What processes let through, and between which moments.
struct History {
  struct Entry {
    std::int64_t before = 0, after = 0;  // microseconds
    std::int64_t permits = 0;
  };
  std::atomic<int> size{0};
  std::atomic<bool> failed{false};
  Entry entries[200'000];
};

std::int64_t NowUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

TEST_F(LocalBudgetTest, ThreeProcessesOfEightThreadsAreNeverOverTheLimit) {
  constexpr std::int64_t kBurst = 300, kIntervalUs = 250, kMaxAgeUs = 30'000;
  RateLimit limit;
  limit.permits = 4000;
  limit.burst = kBurst;
  const Shared<History> history;
  const std::int64_t begin = NowUs();
  std::vector<Process> processes;
  for (int p = 0; p < 3; ++p) {
    processes.push_back(ForkAndRun([&]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server_.url());
      if (!client.ok()) return 1;
      LocalBudget budget(*client, limit, "mails", {.max_age = absl::Microseconds(kMaxAgeUs)});
      std::vector<std::thread> threads;
      for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
          for (int i = 0; NowUs() < begin + 1'500'000; ++i) {
            const std::int64_t before = NowUs();
            const std::int64_t cost = 1 + (i + t) % 3;
            const absl::StatusOr<RateDecision> decision = budget.Take(cost);
            if (!decision.ok()) {
              // Late answers happen on a machine that is busy, and let nothing through.
              if (!coord::IsUnavailable(decision.status())) history->failed = true;
              continue;
            }
            if (decision->allowed) {
              const int at = history->size.fetch_add(1);
              if (at >= static_cast<int>(std::size(history->entries))) {
                history->failed = true;
                return;
              }
              history->entries[at] = {before, NowUs(), cost};
            } else {
              std::this_thread::sleep_for(absl::ToChronoMicroseconds(
                  std::min(decision->retry_after, absl::Milliseconds(5))));
            }
            // Some rest, so that permits get old; some give back.
            if (i % 97 == 96) std::this_thread::sleep_for(std::chrono::milliseconds(40));
            if (i % 151 == 150 && t == 0 && !budget.Return().ok()) history->failed = true;
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      return 0;
    }));
  }
  for (Process& process : processes) EXPECT_EQ(process.Wait().exit_code, 0);
  ASSERT_FALSE(history->failed.load());
  std::vector<History::Entry> all(history->entries, history->entries + history->size.load());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.after < b.after; });

  // From the beginning, when the burst was whole.
  std::int64_t sum = 0;
  for (const History::Entry& entry : all) {
    sum += entry.permits;
    ASSERT_LE(sum, kBurst + (entry.after - begin) / kIntervalUs + 1);
  }
  EXPECT_GE(sum, kBurst + 1000);  // and they do come back
  // In any time whatever: between the moments of any two.
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::int64_t from = all[i].before;
    std::int64_t within = 0;
    for (std::size_t j = i; j < all.size(); ++j) {
      from = std::min(from, all[j].before);
      within += all[j].permits;
      ASSERT_LE(within, kBurst + (all[j].after - from + kMaxAgeUs) / kIntervalUs + 1)
          << i << " to " << j;
    }
  }
}

}  // namespace
}  // namespace coord
