#include "cache/opentelemetry/opentelemetry_hook.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/internal/hook_parts.h"
#include "coord/internal/strings.h"
#include "opentelemetry/common/attribute_value.h"
#include "opentelemetry/context/context.h"
#include "opentelemetry/context/runtime_context.h"
#include "opentelemetry/metrics/meter.h"
#include "opentelemetry/metrics/provider.h"
#include "opentelemetry/metrics/sync_instruments.h"
#include "opentelemetry/nostd/string_view.h"
#include "opentelemetry/nostd/unique_ptr.h"
#include "opentelemetry/trace/provider.h"
#include "opentelemetry/trace/scope.h"
#include "opentelemetry/trace/span.h"
#include "opentelemetry/trace/span_startoptions.h"
#include "opentelemetry/trace/tracer.h"

namespace coord {

namespace {

namespace otel = opentelemetry;

constexpr char kLibrary[] = "coord.cache";

otel::nostd::string_view Text(std::string_view text) { return {text.data(), text.size()}; }

// An operation of this thread that has begun.
struct Open {
  const void* hook;
  CacheOperation operation;
  otel::nostd::shared_ptr<otel::trace::Span> span;
  otel::trace::Scope scope;
};

// Operations nest: a factory may use a cache. The current context, of which the scopes are a part,
// is the thread's as well.
std::vector<Open>& OpenHere() {
  thread_local std::vector<Open> open;
  return open;
}

}  // namespace

struct OpenTelemetryHook::State {
  OpenTelemetryHookOptions options;
  otel::nostd::shared_ptr<otel::trace::Tracer> tracer;
  otel::nostd::unique_ptr<otel::metrics::Histogram<double>> duration;
  otel::nostd::unique_ptr<otel::metrics::Counter<std::uint64_t>> lookups;

  otel::nostd::shared_ptr<otel::trace::Span> Start(const CacheEvent& event) const {
    otel::trace::StartSpanOptions how;
    how.kind = options.db_system.empty() ? otel::trace::SpanKind::kInternal
                                         : otel::trace::SpanKind::kClient;
    const std::string_view operation = ToString(event.operation);
    const auto span = tracer->StartSpan(Text(internal::StrCat("cache ", operation)), how);
    // What is not recorded costs nothing further.
    if (!span->IsRecording()) return span;
    span->SetAttribute("cache.name", Text(event.cache));
    span->SetAttribute("cache.operation", Text(operation));
    span->SetAttribute("cache.keys", static_cast<std::int64_t>(event.keys));
    if (!options.db_system.empty()) {
      span->SetAttribute("db.system.name", Text(options.db_system));
      span->SetAttribute("db.operation.name", Text(operation));
      // The conventions have a batch of one be none.
      if (event.keys > 1) {
        span->SetAttribute("db.operation.batch.size", static_cast<std::int64_t>(event.keys));
      }
    }
    if (options.record_keys && !event.key.empty()) {
      span->SetAttribute("cache.key", Text(event.key));
    }
    return span;
  }

  void Finish(otel::trace::Span& span, const CacheEvent& event, const absl::Status& error) const {
    if (span.IsRecording()) {
      const std::pair<const char*, std::size_t> counts[] = {
          {"cache.hits", event.hits},
          {"cache.misses", event.misses},
          {"cache.nulls", event.nulls},
          {"cache.stale", event.stale},
          {"cache.undecodable", event.undecodable}};
      for (const auto& [name, count] : counts) {
        if (count != 0) span.SetAttribute(name, static_cast<std::int64_t>(count));
      }
      if (event.fell_back) span.SetAttribute("cache.fell_back", true);
      if (!error.ok()) {
        const std::string type = internal::CodeName(error.code());
        span.SetAttribute("error.type", Text(type));
        span.SetStatus(
            otel::trace::StatusCode::kError,
            options.record_keys ? Text(internal::FromAbsl(error.message())) : Text(type));
      }
    }
    span.End();
  }

  void Trace(const CacheEvent& event, const absl::Status& error) const {
    std::vector<Open>& open = OpenHere();
    std::size_t at = open.size();
    while (at > 0 && !(open[at - 1].hook == this && open[at - 1].operation == event.operation)) {
      --at;
    }
    // Its Before has failed, for want of memory, say: the operation is the worse for no span.
    if (at == 0) return;
    Finish(*open[at - 1].span, event, error);
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(at - 1));
  }

  void Measure(const CacheEvent& event, const absl::Status& error) const {
    using Attribute = std::pair<otel::nostd::string_view, otel::common::AttributeValue>;
    const Attribute name = {"cache.name", Text(event.cache)};
    const Attribute operation = {"cache.operation", Text(ToString(event.operation))};
    const otel::context::Context context = otel::context::RuntimeContext::GetCurrent();
    const double seconds = absl::ToDoubleSeconds(event.took);
    if (error.ok()) {
      duration->Record(seconds, {name, operation}, context);
    } else {
      const std::string type = internal::CodeName(error.code());
      duration->Record(seconds, {name, operation, {"error.type", Text(type)}}, context);
    }
    const internal::LookupResults found = internal::ResultsOf(event);
    const std::pair<const char*, std::size_t> results[] = {{"hit", found.hit},
                                                           {"null", found.null},
                                                           {"stale", found.stale},
                                                           {"miss", found.miss},
                                                           {"undecodable", found.undecodable}};
    for (const auto& [result, count] : results) {
      if (count != 0) lookups->Add(count, {name, {"cache.result", result}}, context);
    }
  }

  void End(const CacheEvent& event, const absl::Status& error) const {
    // While the span is the current one, from which an exemplar may be taken.
    if (duration != nullptr) Measure(event, error);
    if (tracer != nullptr) Trace(event, error);
  }
};

OpenTelemetryHook::OpenTelemetryHook(OpenTelemetryHookOptions options)
    : state_(std::make_unique<State>()) {
  if (options.spans) {
    if (options.tracers == nullptr) {
      options.tracers = otel::trace::Provider::GetTracerProvider();
    }
    state_->tracer = options.tracers->GetTracer(kLibrary);
  }
  if (options.metrics) {
    if (options.meters == nullptr) {
      options.meters = otel::metrics::Provider::GetMeterProvider();
    }
    const auto meter = options.meters->GetMeter(kLibrary);
    state_->duration = meter->CreateDoubleHistogram("coord.cache.operation.duration",
                                                    "How long operations on caches took.", "s");
    state_->lookups = meter->CreateUInt64Counter(
        "coord.cache.lookups", "Keys looked up in caches, by what was found.", "{lookup}");
  }
  state_->options = std::move(options);
}

OpenTelemetryHook::~OpenTelemetryHook() = default;

void OpenTelemetryHook::Before(const CacheEvent& event) {
  if (state_->tracer == nullptr) return;
  auto span = state_->Start(event);
  OpenHere().push_back({state_.get(), event.operation, span, otel::trace::Scope(span)});
}

void OpenTelemetryHook::After(const CacheEvent& event) { state_->End(event, absl::OkStatus()); }

void OpenTelemetryHook::Error(const CacheEvent& event, const absl::Status& error) {
  state_->End(event, error);
}

}  // namespace coord
