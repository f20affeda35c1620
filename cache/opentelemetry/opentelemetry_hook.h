// Spans and metrics of what caches do, through OpenTelemetry's API. In the target
// coord::cache_opentelemetry, which needs that API's headers alone; the program chooses an SDK.
//
// A span an operation, "cache get", "cache get_or_compute", ..., which is the current one while the
// operation runs on its thread: what a factory does there stands below it. No semantic convention
// is about caches, so the attributes are of our own namespace:
//   cache.name, cache.operation, cache.keys (how many), and where they are not zero cache.hits,
//   cache.misses, cache.nulls, cache.stale, cache.undecodable; cache.fell_back; on request
//   cache.key
// and, by the conventions, error.type ("unavailable") where it failed, and db.system.name,
// db.operation.name and db.operation.batch.size where the options name a system.
//
// Metrics: coord.cache.operation.duration, a histogram in seconds {cache.name, cache.operation,
// error.type}, and coord.cache.lookups, a counter {cache.name, cache.result: "hit", "null",
// "stale", "miss" or "undecodable"}.
#ifndef COORD_CACHE_OPENTELEMETRY_OPENTELEMETRY_HOOK_H_
#define COORD_CACHE_OPENTELEMETRY_OPENTELEMETRY_HOOK_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "cache/hook.h"
#include "opentelemetry/metrics/meter_provider.h"
#include "opentelemetry/nostd/shared_ptr.h"
#include "opentelemetry/trace/tracer_provider.h"

namespace coord {

struct OpenTelemetryHookOptions {
  // Null: the program's own at the moment when the hook is made (trace::Provider,
  // metrics::Provider), which do nothing where none was set.
  opentelemetry::nostd::shared_ptr<opentelemetry::trace::TracerProvider> tracers = {};
  opentelemetry::nostd::shared_ptr<opentelemetry::metrics::MeterProvider> meters = {};
  bool spans = true;
  bool metrics = true;
  // Whether spans say the key, and the errors' texts, which may quote it. Keys may hold secrets.
  bool record_keys = false;
  // Of the backend, where it is a database: "redis". Makes spans of kind "client".
  std::string db_system = {};
};

// Thread-safe. One may serve many caches.
class OpenTelemetryHook : public CacheHook {
 public:
  explicit OpenTelemetryHook(OpenTelemetryHookOptions options = {});
  ~OpenTelemetryHook() override;

  void Before(const CacheEvent& event) override;
  void After(const CacheEvent& event) override;
  void Error(const CacheEvent& event, const absl::Status& error) override;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_CACHE_OPENTELEMETRY_OPENTELEMETRY_HOOK_H_
