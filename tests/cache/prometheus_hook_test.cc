#include "cache/prometheus/prometheus_hook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/text_serializer.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace coord {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CacheEvent Event(std::string_view cache, CacheOperation operation) {
  CacheEvent event;
  event.cache = cache;
  event.operation = operation;
  event.key = "secret-key";
  event.took = absl::Microseconds(30);
  return event;
}

class PrometheusHookTest : public ::testing::Test {
 protected:
  std::string Text() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
};

TEST_F(PrometheusHookTest, TellsOperationsByTheirOutcome) {
  PrometheusHook hook(registry_);
  ASSERT_TRUE(hook.status().ok()) << hook.status();
  const CacheEvent get = Event("users", CacheOperation::kGet);
  hook.After(get);
  hook.After(get);
  hook.Error(get, absl::UnavailableError("away"));
  CacheEvent fell_back = get;
  fell_back.fell_back = true;
  hook.After(fell_back);
  const std::string text = Text();
  const std::string line =
      "coord_cache_operations_total{cache=\"users\",operation=\"get\",outcome=";
  EXPECT_THAT(text, HasSubstr("# TYPE coord_cache_operations_total counter"));
  EXPECT_THAT(text, HasSubstr(line + "\"ok\"} 2"));
  EXPECT_THAT(text, HasSubstr(line + "\"unavailable\"} 1"));
  EXPECT_THAT(text, HasSubstr(line + "\"fell_back\"} 1"));
}

TEST_F(PrometheusHookTest, EachLookupIsInOneResult) {
  PrometheusHook hook(registry_);
  CacheEvent many = Event("users", CacheOperation::kGetMany);
  many.hits = 7;
  many.nulls = 2;
  many.stale = 1;
  many.misses = 5;
  many.undecodable = 1;
  hook.After(many);
  const std::string text = Text();
  const std::string line = "coord_cache_lookups_total{cache=\"users\",result=";
  EXPECT_THAT(text, HasSubstr(line + "\"hit\"} 4"));
  EXPECT_THAT(text, HasSubstr(line + "\"null\"} 2"));
  EXPECT_THAT(text, HasSubstr(line + "\"stale\"} 1"));
  EXPECT_THAT(text, HasSubstr(line + "\"miss\"} 4"));
  EXPECT_THAT(text, HasSubstr(line + "\"undecodable\"} 1"));
}

TEST_F(PrometheusHookTest, TheHistogramIsInSeconds) {
  PrometheusHook hook(registry_, {.buckets = {1e-5, 1e-4}});
  hook.After(Event("users", CacheOperation::kSet));
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("# TYPE coord_cache_operation_seconds histogram"));
  const std::string line =
      "coord_cache_operation_seconds_bucket{cache=\"users\",operation=\"set\",";
  EXPECT_THAT(text, HasSubstr(line + "le=\"1e-05\"} 0"));
  EXPECT_THAT(text, HasSubstr(line + "le=\"0.0001\"} 1"));
  EXPECT_THAT(text,
              HasSubstr("coord_cache_operation_seconds_sum{cache=\"users\",operation=\"set\"} 3"));
}

TEST_F(PrometheusHookTest, NoKeyIsALabel) {
  PrometheusHook hook(registry_);
  hook.After(Event("users", CacheOperation::kGet));
  EXPECT_THAT(Text(), Not(HasSubstr("secret")));
}

TEST_F(PrometheusHookTest, HooksThatShareARegistryCountTogether) {
  PrometheusHook one(registry_);
  PrometheusHook other(registry_);
  one.After(Event("a", CacheOperation::kGet));
  other.After(Event("a", CacheOperation::kGet));
  EXPECT_THAT(Text(), HasSubstr("operation=\"get\",outcome=\"ok\"} 2"));
}

TEST_F(PrometheusHookTest, CountsOfManyThreadsAddUp) {
  PrometheusHook hook(registry_, {.buckets = {1}, .labels = {{"host", "h"}}});
  ASSERT_TRUE(hook.status().ok()) << hook.status();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      CacheEvent event = Event("a", CacheOperation::kGet);
      event.hits = 1;
      for (int i = 0; i < 5000; ++i) hook.After(event);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Text(), HasSubstr("outcome=\"ok\"} 20000"));
  EXPECT_THAT(Text(), HasSubstr("host=\"h\""));
  EXPECT_THAT(Text(), HasSubstr("result=\"hit\"} 20000"));
}

TEST_F(PrometheusHookTest, WhatCannotBeRegisteredIsSaidAndCountsNothing) {
  prometheus::BuildGauge().Name("coord_cache_lookups_total").Register(*registry_);
  PrometheusHook taken(registry_);
  EXPECT_FALSE(taken.status().ok());
  taken.After(Event("a", CacheOperation::kGet));
  EXPECT_FALSE(PrometheusHook(nullptr).status().ok());
  const auto other = std::make_shared<prometheus::Registry>();
  EXPECT_FALSE(PrometheusHook(other, {.buckets = {2, 1}}).status().ok());
  EXPECT_FALSE(PrometheusHook(other, {.labels = {{"cache", "x"}}}).status().ok());
  EXPECT_FALSE(PrometheusHook(other, {.labels = {{"0 bad", "x"}}}).status().ok());
}

}  // namespace
}  // namespace coord
