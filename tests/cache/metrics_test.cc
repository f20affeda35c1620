#include "cache/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cache/internal/hook_parts.h"
#include "cache/internal/latency_steps.h"

namespace coord {
namespace {

using internal::LatencySteps;
using ::testing::HasSubstr;

CacheEvent Event(std::string_view cache, CacheOperation operation,
                 absl::Duration took = absl::Microseconds(10)) {
  CacheEvent event;
  event.cache = cache;
  event.operation = operation;
  event.took = took;
  return event;
}

TEST(CacheOperationTest, EveryOperationHasANameOfItsOwn) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < internal::kCacheOperations; ++i) {
    names.emplace(ToString(static_cast<CacheOperation>(i)));
  }
  EXPECT_EQ(names.size(), internal::kCacheOperations);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_TRUE(names.contains("get_or_compute"));
}

TEST(LatencyStepsTest, AStepIsWithinFourPercentOfWhatItHolds) {
  std::size_t last = 0;
  for (double ns = 1; ns < 1e12; ns *= 1.003) {
    const absl::Duration exact = absl::Nanoseconds(static_cast<std::int64_t>(ns));
    const std::size_t step = LatencySteps::Of(exact);
    ASSERT_LT(step, LatencySteps::kCount);
    ASSERT_GE(step, last) << exact;
    last = step;
    const double share = absl::FDivDuration(LatencySteps::Middle(step), exact);
    ASSERT_NEAR(share, 1, 0.04) << exact;
  }
  EXPECT_EQ(LatencySteps::Of(absl::Hours(100)), LatencySteps::kCount - 1);
  EXPECT_EQ(LatencySteps::Of(absl::InfiniteDuration()), LatencySteps::kCount - 1);
  EXPECT_EQ(LatencySteps::Of(absl::Seconds(-1)), 0u);
}

TEST(MetricsTest, CountsWhatEventsSayByCacheAndOperation) {
  MetricsCollector metrics;
  CacheEvent get = Event("users", CacheOperation::kGetMany);
  get.keys = 5;
  get.hits = 3;
  get.nulls = 1;
  get.stale = 1;
  get.misses = 2;
  get.undecodable = 1;
  metrics.After(get);
  metrics.After(get);
  CacheEvent away = Event("users", CacheOperation::kSet);
  away.fell_back = true;
  metrics.After(away);
  metrics.After(Event("orders", CacheOperation::kPing));

  const MetricsSnapshot snapshot = metrics.Snapshot();
  ASSERT_EQ(snapshot.caches.size(), 2u);
  EXPECT_EQ(snapshot.caches[0].cache, "orders");
  const OperationMetrics* found = snapshot.Find("users", CacheOperation::kGetMany);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->calls, 2u);
  EXPECT_EQ(found->keys, 10u);
  EXPECT_EQ(found->errors(), 0u);
  EXPECT_EQ(found->lookups.hits, 6u);
  EXPECT_EQ(found->lookups.misses, 4u);
  EXPECT_EQ(found->lookups.nulls, 2u);
  EXPECT_EQ(found->lookups.stale, 2u);
  EXPECT_EQ(found->lookups.undecodable, 2u);
  EXPECT_EQ(found->lookups.HitRate(), 0.6);
  EXPECT_EQ(snapshot.Find("users")->lookups.HitRate(), 0.6);
  EXPECT_EQ(snapshot.Find("users", CacheOperation::kSet)->fell_back, 1u);
  EXPECT_EQ(snapshot.Find("orders")->lookups.HitRate(), std::nullopt);
  EXPECT_EQ(snapshot.Find("orders", CacheOperation::kGet), nullptr);
  EXPECT_EQ(snapshot.Find("nobody"), nullptr);
}

TEST(MetricsTest, ErrorsAreCountedByCodeAndAreCalls) {
  MetricsCollector metrics;
  const CacheEvent event = Event("c", CacheOperation::kGet);
  metrics.After(event);
  metrics.Error(event, absl::UnavailableError("away"));
  metrics.Error(event, absl::UnavailableError("away"));
  metrics.Error(event, absl::DataLossError("what"));
  // A code that Abseil does not have.
  metrics.Error(event, absl::Status(static_cast<absl::StatusCode>(99), "odd"));
  const MetricsSnapshot snapshot = metrics.Snapshot();
  const OperationMetrics* const found = snapshot.Find("c", CacheOperation::kGet);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->calls, 5u);
  EXPECT_EQ(found->errors(), 4u);
  EXPECT_EQ(found->errors_by_code.at(absl::StatusCode::kUnavailable), 2u);
  EXPECT_EQ(found->errors_by_code.at(absl::StatusCode::kDataLoss), 1u);
  EXPECT_EQ(found->errors_by_code.at(absl::StatusCode::kUnknown), 1u);
}

TEST(MetricsTest, PercentilesAreRightToFivePercentAndTheLongestIsExact) {
  MetricsCollector metrics;
  for (int i = 1; i <= 1000; ++i) {
    metrics.After(Event("c", CacheOperation::kGet, absl::Microseconds(i)));
  }
  const MetricsSnapshot snapshot = metrics.Snapshot();
  const OperationMetrics* const found = snapshot.Find("c", CacheOperation::kGet);
  ASSERT_NE(found, nullptr);
  EXPECT_NEAR(absl::FDivDuration(found->p50, absl::Microseconds(500)), 1, 0.05);
  EXPECT_NEAR(absl::FDivDuration(found->p90, absl::Microseconds(900)), 1, 0.05);
  EXPECT_NEAR(absl::FDivDuration(found->p99, absl::Microseconds(990)), 1, 0.05);
  EXPECT_EQ(found->max, absl::Microseconds(1000));
}

TEST(MetricsTest, NoPercentileIsBeyondTheLongestCall) {
  MetricsCollector metrics;
  metrics.After(Event("c", CacheOperation::kGet, absl::Nanoseconds(1024)));
  const MetricsSnapshot snapshot = metrics.Snapshot();
  const OperationMetrics* const found = snapshot.Find("c", CacheOperation::kGet);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->p99, absl::Nanoseconds(1024));
}

TEST(MetricsTest, EveryCallIsInExactlyOneOfTheSnapshotsThatResetTakes) {
  MetricsCollector metrics;
  constexpr int kThreads = 6;
  constexpr int kCalls = 20'000;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      // Names and operations that several threads use for the first time at once.
      const std::string name = "cache" + std::to_string(t % 3);
      for (int i = 0; i < kCalls; ++i) {
        CacheEvent event = Event(name, static_cast<CacheOperation>(i % 3));
        event.hits = 1;
        metrics.After(event);
      }
      running.fetch_sub(1);
    });
  }
  std::uint64_t calls = 0;
  const auto take = [&] {
    for (const CacheMetrics& cache : metrics.Reset().caches) {
      for (const OperationMetrics& operation : cache.operations) calls += operation.calls;
    }
  };
  while (running.load() > 0) take();
  for (std::thread& thread : threads) thread.join();
  take();
  EXPECT_EQ(calls, std::uint64_t{kThreads} * kCalls);
  EXPECT_TRUE(metrics.Snapshot().caches.empty());
}

TEST(MetricsTest, ManyNamesAreKeptApart) {
  MetricsCollector metrics;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "cache" + std::to_string(i);
    for (int n = 0; n <= i; ++n) metrics.After(Event(name, CacheOperation::kGet));
  }
  const MetricsSnapshot snapshot = metrics.Snapshot();
  ASSERT_EQ(snapshot.caches.size(), 100u);
  for (int i = 0; i < 100; ++i) {
    const OperationMetrics* const found =
        snapshot.Find("cache" + std::to_string(i), CacheOperation::kGet);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->calls, static_cast<std::uint64_t>(i + 1));
  }
}

TEST(MetricsTest, JsonSaysWhatTheSnapshotDoes) {
  MetricsCollector metrics;
  CacheEvent get = Event("odd \"\xff name", CacheOperation::kGet, absl::Milliseconds(2));
  get.hits = 1;
  metrics.After(get);
  metrics.Error(get, absl::UnavailableError("away"));
  const nlohmann::json json = nlohmann::json::parse(metrics.Snapshot().ToJson());
  const nlohmann::json& cache = json.at("caches").at(0);
  EXPECT_EQ(cache.at("hit_rate"), 1.0);
  const nlohmann::json& operation = cache.at("operations").at(0);
  EXPECT_EQ(operation.at("operation"), "get");
  EXPECT_EQ(operation.at("calls"), 2);
  EXPECT_EQ(operation.at("errors_by_code").at("unavailable"), 1);
  EXPECT_NEAR(operation.at("latency_seconds").at("max").get<double>(), 0.002, 1e-9);
  EXPECT_EQ(nlohmann::json::parse(MetricsCollector().Snapshot().ToJson()).at("caches").size(), 0u);
}

TEST(MetricsTest, TheTableForPeopleHasALineForEachOperation) {
  MetricsCollector metrics;
  CacheEvent get = Event("users", CacheOperation::kGet, absl::Microseconds(1500));
  get.hits = 3;
  get.misses = 1;
  metrics.After(get);
  metrics.After(Event("users", CacheOperation::kSet, absl::Seconds(2)));
  const std::string text = metrics.Snapshot().ToString();
  EXPECT_THAT(text, HasSubstr("cache users: hit rate 75.0%\n"));
  EXPECT_THAT(text, HasSubstr("\n  get "));
  EXPECT_THAT(text, HasSubstr("1.5ms"));
  EXPECT_THAT(text, HasSubstr("\n  set "));
  EXPECT_THAT(text, HasSubstr("2s"));
}

TEST(LookupResultsTest, EachLookupIsInOneResult) {
  CacheEvent event;
  event.hits = 1;
  event.nulls = 1;
  event.stale = 1;
  internal::LookupResults results = internal::ResultsOf(event);
  EXPECT_EQ(results.stale, 1u);
  EXPECT_EQ(results.hit + results.null, 0u);
  event.hits = 10;
  event.misses = 4;
  event.undecodable = 3;
  results = internal::ResultsOf(event);
  EXPECT_EQ(results.hit + results.null + results.stale, 10u);
  EXPECT_EQ(results.miss, 1u);
  EXPECT_EQ(results.undecodable, 3u);
}

}  // namespace
}  // namespace coord
