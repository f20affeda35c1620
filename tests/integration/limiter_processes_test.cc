// Each of a limiter's algorithms while permits come back, with 32 threads in three processes: never
// over what it promises for the time that has passed on the server.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/rate_limiter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Shared;
using Algorithm = RateLimit::Algorithm;

constexpr std::int64_t kPermits = 40;
constexpr std::int64_t kPeriodUs = 200'000;

struct Stage {
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  std::atomic<bool> stop = false;
  std::atomic<std::int64_t> taken = 0;
  std::atomic<std::int64_t> denied = 0;
  std::atomic<std::int64_t> failed = 0;
};

std::int64_t ServerMicros(RawRedis& redis) {
  const Reply now = redis.Command({"TIME"});
  return std::stoll(now.items()[0].text()) * 1'000'000 + std::stoll(now.items()[1].text());
}

// The most that may be taken from `begin` to `end`.
std::int64_t Most(Algorithm algorithm, std::int64_t begin, std::int64_t end) {
  switch (algorithm) {
    case Algorithm::kGcra:
    case Algorithm::kTokenBucket:
      return kPermits + (end - begin) * kPermits / kPeriodUs;
    case Algorithm::kFixedWindow:
    case Algorithm::kSlidingWindow:
      return kPermits * (end / kPeriodUs - begin / kPeriodUs + 1);
    case Algorithm::kSlidingLog:
      return kPermits * ((end - begin) / kPeriodUs + 1);
  }
  return 0;
}

class LimiterProcessesTest : public ::testing::TestWithParam<Algorithm> {};

TEST_P(LimiterProcessesTest, NeverOverTheRateWithThirtyTwoThreadsInThreeProcesses) {
  RedisServer server;
  Shared<Stage> stage;
  RateLimit limit;
  limit.permits = kPermits;
  limit.period = absl::Microseconds(kPeriodUs);
  limit.algorithm = GetParam();
  std::vector<Process> processes;
  for (const int threads : {11, 11, 10}) {
    processes.push_back(ForkAndRun([&, threads]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server.url());
      if (!client.ok()) return 1;
      const RateLimiter limiter(*client, limit);
      std::vector<std::jthread> takers;
      for (int i = 0; i < threads; ++i) {
        takers.emplace_back([&] {
          ++stage->ready;
          while (!stage->go) std::this_thread::yield();
          while (!stage->stop) {
            const absl::StatusOr<RateDecision> decision = limiter.Take("user");
            ++(!decision.ok() ? stage->failed : decision->allowed ? stage->taken : stage->denied);
          }
        });
      }
      takers.clear();
      return 0;
    }));
  }
  RawRedis redis(server);
  ASSERT_TRUE(Eventually([&] { return stage->ready == 32; }));
  const std::int64_t begin = ServerMicros(redis);
  stage->go = true;
  // Time for the burst and three times as much again.
  ASSERT_TRUE(Eventually([&] { return stage->taken >= 4 * kPermits; }, absl::Seconds(20)));
  stage->stop = true;
  for (Process& process : processes) EXPECT_EQ(process.Wait().exit_code, 0);
  const std::int64_t end = ServerMicros(redis);
  EXPECT_LE(stage->taken, Most(GetParam(), begin, end));
  EXPECT_EQ(stage->failed, 0);
  EXPECT_GT(stage->denied, 32) << "nobody was in another's way, so nothing was shown";
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LimiterProcessesTest,
                         ::testing::Values(Algorithm::kGcra, Algorithm::kTokenBucket,
                                           Algorithm::kFixedWindow, Algorithm::kSlidingWindow,
                                           Algorithm::kSlidingLog));

}  // namespace
}  // namespace coord
