#include "cache/opentelemetry/opentelemetry_hook.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "opentelemetry/exporters/memory/in_memory_span_exporter_factory.h"
#include "opentelemetry/sdk/metrics/meter_provider.h"
#include "opentelemetry/sdk/metrics/metric_reader.h"
#include "opentelemetry/sdk/trace/simple_processor_factory.h"
#include "opentelemetry/sdk/trace/tracer_provider_factory.h"

namespace coord {
namespace {

namespace otel = opentelemetry;

using Span = std::unique_ptr<otel::sdk::trace::SpanData>;

// Hands out what was measured when it is asked.
class AskedReader : public otel::sdk::metrics::MetricReader {
 public:
  otel::sdk::metrics::AggregationTemporality GetAggregationTemporality(
      otel::sdk::metrics::InstrumentType) const noexcept override {
    return otel::sdk::metrics::AggregationTemporality::kCumulative;
  }
  bool OnForceFlush(std::chrono::microseconds) noexcept override { return true; }
  bool OnShutDown(std::chrono::microseconds) noexcept override { return true; }
};

CacheEvent Event(CacheOperation operation, std::string_view key = "secret") {
  CacheEvent event;
  event.cache = "users";
  event.operation = operation;
  event.key = key;
  event.took = absl::Milliseconds(250);
  return event;
}

class OpenTelemetryHookTest : public ::testing::Test {
 protected:
  OpenTelemetryHookTest() {
    auto exporter = otel::exporter::memory::InMemorySpanExporterFactory::Create(spans_);
    tracers_ = std::shared_ptr<otel::trace::TracerProvider>(
        otel::sdk::trace::TracerProviderFactory::Create(
            otel::sdk::trace::SimpleSpanProcessorFactory::Create(std::move(exporter))));
  }

  OpenTelemetryHookOptions Options() const { return {.tracers = tracers_, .metrics = false}; }
  std::vector<Span> Spans() { return spans_->GetSpans(); }

  static std::string Text(const Span& span, const std::string& name) {
    const auto found = span->GetAttributes().find(name);
    if (found == span->GetAttributes().end()) return "";
    return otel::nostd::get<std::string>(found->second);
  }
  static std::int64_t Number(const Span& span, const std::string& name) {
    const auto found = span->GetAttributes().find(name);
    return found == span->GetAttributes().end() ? -1
                                                : otel::nostd::get<std::int64_t>(found->second);
  }

  std::shared_ptr<otel::exporter::memory::InMemorySpanData> spans_;
  otel::nostd::shared_ptr<otel::trace::TracerProvider> tracers_;
};

TEST_F(OpenTelemetryHookTest, ASpanTellsOfAnOperationWithoutItsKey) {
  OpenTelemetryHook hook(Options());
  CacheEvent event = Event(CacheOperation::kGetMany);
  event.keys = 3;
  hook.Before(event);
  event.hits = 2;
  event.misses = 1;
  hook.After(event);
  const std::vector<Span> spans = Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]->GetName(), "cache get_many");
  EXPECT_EQ(spans[0]->GetSpanKind(), otel::trace::SpanKind::kInternal);
  EXPECT_EQ(spans[0]->GetStatus(), otel::trace::StatusCode::kUnset);
  EXPECT_EQ(Text(spans[0], "cache.name"), "users");
  EXPECT_EQ(Text(spans[0], "cache.operation"), "get_many");
  EXPECT_EQ(Number(spans[0], "cache.keys"), 3);
  EXPECT_EQ(Number(spans[0], "cache.hits"), 2);
  EXPECT_EQ(Number(spans[0], "cache.misses"), 1);
  EXPECT_FALSE(spans[0]->GetAttributes().contains("cache.key"));
  EXPECT_FALSE(spans[0]->GetAttributes().contains("db.system.name"));
}

TEST_F(OpenTelemetryHookTest, KeysAndADatabaseAreToldOnRequest) {
  OpenTelemetryHookOptions options = Options();
  options.record_keys = true;
  options.db_system = "redis";
  OpenTelemetryHook hook(options);
  const CacheEvent event = Event(CacheOperation::kSet, "user:1");
  hook.Before(event);
  hook.After(event);
  const std::vector<Span> spans = Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(Text(spans[0], "cache.key"), "user:1");
  EXPECT_EQ(Text(spans[0], "db.system.name"), "redis");
  EXPECT_EQ(Text(spans[0], "db.operation.name"), "set");
  EXPECT_EQ(spans[0]->GetSpanKind(), otel::trace::SpanKind::kClient);
  EXPECT_FALSE(spans[0]->GetAttributes().contains("db.operation.batch.size"));
}

TEST_F(OpenTelemetryHookTest, AnErrorIsTheSpansStatusAndQuotesNothing) {
  OpenTelemetryHook hook(Options());
  const CacheEvent event = Event(CacheOperation::kGet);
  hook.Before(event);
  hook.Error(event, absl::UnavailableError("no server for \"secret\""));
  const std::vector<Span> spans = Spans();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0]->GetStatus(), otel::trace::StatusCode::kError);
  EXPECT_EQ(spans[0]->GetDescription(), "unavailable");
  EXPECT_EQ(Text(spans[0], "error.type"), "unavailable");
}

TEST_F(OpenTelemetryHookTest, WhatHappensInsideAnOperationStandsBelowItsSpan) {
  OpenTelemetryHook hook(Options());
  const CacheEvent outer = Event(CacheOperation::kGetOrCompute);
  const CacheEvent inner = Event(CacheOperation::kCompute);
  hook.Before(outer);
  hook.Before(inner);
  tracers_->GetTracer("factory")->StartSpan("query")->End();
  hook.After(inner);
  hook.After(outer);
  tracers_->GetTracer("factory")->StartSpan("afterwards")->End();
  const std::vector<Span> spans = Spans();
  ASSERT_EQ(spans.size(), 4u);
  EXPECT_EQ(spans[0]->GetName(), "query");
  EXPECT_EQ(spans[1]->GetName(), "cache compute");
  EXPECT_EQ(spans[2]->GetName(), "cache get_or_compute");
  EXPECT_EQ(spans[0]->GetParentSpanId(), spans[1]->GetSpanId());
  EXPECT_EQ(spans[1]->GetParentSpanId(), spans[2]->GetSpanId());
  EXPECT_FALSE(spans[2]->GetParentSpanId().IsValid());
  EXPECT_FALSE(spans[3]->GetParentSpanId().IsValid());
}

TEST_F(OpenTelemetryHookTest, TwoHooksOfOneCacheDoNotEndEachOthersSpans) {
  OpenTelemetryHook first(Options());
  OpenTelemetryHook second(Options());
  const CacheEvent event = Event(CacheOperation::kGet);
  first.Before(event);
  second.Before(event);
  first.After(event);
  EXPECT_EQ(Spans().size(), 1u);
  second.After(event);
  EXPECT_EQ(Spans().size(), 1u);  // taken out when read
  // An end whose beginning was never told.
  second.After(event);
  EXPECT_EQ(Spans().size(), 0u);
}

TEST_F(OpenTelemetryHookTest, MeasuresDurationsAndLookups) {
  auto provider = std::make_shared<otel::sdk::metrics::MeterProvider>();
  const auto reader = std::make_shared<AskedReader>();
  provider->AddMetricReader(reader);
  OpenTelemetryHook hook(
      {.meters = std::shared_ptr<otel::metrics::MeterProvider>(provider), .spans = false});
  CacheEvent event = Event(CacheOperation::kGet);
  event.hits = 1;
  hook.Before(event);
  hook.After(event);
  hook.Before(event);
  hook.Error(event, absl::UnavailableError("away"));

  std::map<std::string, double> seen;  // "<instrument>/<error or result>"
  reader->Collect([&](otel::sdk::metrics::ResourceMetrics& all) {
    for (const auto& scope : all.scope_metric_data_) {
      for (const auto& metric : scope.metric_data_) {
        for (const auto& point : metric.point_data_attr_) {
          std::string name = metric.instrument_descriptor.name_ + "/";
          for (const char* attribute : {"error.type", "cache.result"}) {
            const auto found = point.attributes.GetAttributes().find(attribute);
            if (found != point.attributes.GetAttributes().end()) {
              name += otel::nostd::get<std::string>(found->second);
            }
          }
          if (const auto* histogram =
                  otel::nostd::get_if<otel::sdk::metrics::HistogramPointData>(&point.point_data)) {
            seen[name] = otel::nostd::get<double>(histogram->sum_);
          } else if (const auto* sum =
                         otel::nostd::get_if<otel::sdk::metrics::SumPointData>(&point.point_data)) {
            seen[name] = static_cast<double>(otel::nostd::get<std::int64_t>(sum->value_));
          }
        }
      }
    }
    return true;
  });
  EXPECT_EQ(seen.at("coord.cache.operation.duration/"), 0.25);
  EXPECT_EQ(seen.at("coord.cache.operation.duration/unavailable"), 0.25);
  EXPECT_EQ(seen.at("coord.cache.lookups/hit"), 2);
}

TEST_F(OpenTelemetryHookTest, WithoutAnSdkNothingHappens) {
  OpenTelemetryHook hook;
  const CacheEvent event = Event(CacheOperation::kGet);
  hook.Before(event);
  hook.After(event);
  EXPECT_EQ(Spans().size(), 0u);
}

}  // namespace
}  // namespace coord
