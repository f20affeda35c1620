// Takes with operation ids while replies are lost: the permits that are gone in the end are exactly
// those of the operations that say so.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
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
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using Algorithm = RateLimit::Algorithm;

Client ConnectTo(const std::string& url) {
  ClientOptions options;
  options.timeout = absl::Seconds(5);
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

constexpr std::int64_t kPermits = 10'000;

// Next to nothing comes back, and no window ends, while a test runs.
RateLimit Slow(Algorithm algorithm) {
  RateLimit limit;
  limit.permits = kPermits;
  limit.period = absl::Hours(24 * 10);
  limit.algorithm = algorithm;
  return limit;
}

class LimiterFaultTest : public ::testing::TestWithParam<Algorithm> {};

TEST_P(LimiterFaultTest, OperationIdsTakeExactlyOnceWhileRepliesAreLost) {
  constexpr int kThreads = 16;
  constexpr int kOperations = 120;
  RedisServer server({.port = 0});
  FaultProxy proxy(server.tcp_url());
  const RateLimiter limiter(ConnectTo(proxy.url()), Slow(GetParam()));
  std::atomic<std::int64_t> taken = 0;
  std::atomic<int> running = kThreads;
  std::mutex mutex;
  std::vector<OperationId> failed;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (int round = 0; round < kOperations; ++round) {
          const OperationId id = OperationId::New();
          // Every second one has no time to find out by repeating.
          const absl::Duration timeout = absl::Milliseconds(round % 2 == 0 ? 5'000 : 8);
          const std::int64_t cost = 1 + (i + round) % 3;
          const absl::StatusOr<RateDecision> decision =
              round % 5 == 0
                  ? limiter.TakeUpTo("user", cost, {.timeout = timeout}, {.operation_id = id})
                  : limiter.Take("user", cost, {.timeout = timeout}, {.operation_id = id});
          if (decision.ok()) {
            EXPECT_EQ(decision->taken, cost);
            taken += decision->taken;
          } else {
            // All others were certainly not applied.
            const std::scoped_lock lock(mutex);
            if (IsOutcomeUnknown(decision.status())) failed.push_back(id);
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        --running;
      });
    }
    proxy.LoseRepliesWhile(running);
  }
  const RateLimiter direct(ConnectTo(server.unix_url()), Slow(GetParam()));
  std::int64_t applied = 0, never = 0;
  for (const OperationId& id : failed) {
    ASSERT_OK_AND_ASSIGN(const std::optional<RateDecision> kept, direct.Resolve("user", id));
    ++(kept ? applied : never);
    if (kept) taken += kept->taken;
  }
  RecordProperty("applied", std::to_string(applied));
  RecordProperty("never", std::to_string(never));
  EXPECT_GT(applied, 0) << "no reply was lost for good, so nothing was shown";
  ASSERT_OK_AND_ASSIGN(const RateDecision rest, direct.TakeUpTo("user", kPermits));
  EXPECT_EQ(kPermits - rest.taken, taken) << applied << " were applied, " << never << " never";
}

INSTANTIATE_TEST_SUITE_P(Algorithms, LimiterFaultTest,
                         ::testing::Values(Algorithm::kGcra, Algorithm::kTokenBucket,
                                           Algorithm::kFixedWindow, Algorithm::kSlidingWindow,
                                           Algorithm::kSlidingLog));

}  // namespace
}  // namespace coord
