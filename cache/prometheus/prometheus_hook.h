// Counts what caches do in a Prometheus registry. In the target coord::cache_prometheus.
//
//   coord_cache_operations_total{cache,operation,outcome}   "ok", "fell_back", or the error's code:
//                                                           "unavailable", "deadline_exceeded", ...
//   coord_cache_lookups_total{cache,result}                 "hit", "null", "stale", "miss",
//                                                           "undecodable": each lookup is in one
//   coord_cache_operation_seconds{cache,operation}          a histogram, of failed calls too
//
//   auto registry = std::make_shared<prometheus::Registry>();
//   options.hooks = {std::make_shared<coord::PrometheusHook>(registry)};
//
// No label is a key: each of them would be a time series that never ends.
#ifndef COORD_CACHE_PROMETHEUS_PROMETHEUS_HOOK_H_
#define COORD_CACHE_PROMETHEUS_PROMETHEUS_HOOK_H_

#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cache/hook.h"

namespace coord {

struct PrometheusHookOptions {
  // Upper ends of the histogram's buckets in seconds, ascending. By default three for each power of
  // ten from 1 us (the memory tier) to 10 s (factories).
  std::vector<double> buckets = {1e-6, 2.5e-6, 5e-6,   1e-5, 2.5e-5, 5e-5,   1e-4, 2.5e-4,
                                 5e-4, 1e-3,   2.5e-3, 5e-3, 1e-2,   2.5e-2, 5e-2, 0.1,
                                 0.25, 0.5,    1,      2.5,  5,      10};
  // On every time series, beside those above.
  std::map<std::string, std::string> labels = {};
};

// Thread-safe. One may serve many caches; several may share a registry, and then count together.
class PrometheusHook : public CacheHook {
 public:
  explicit PrometheusHook(std::shared_ptr<prometheus::Registry> registry,
                          PrometheusHookOptions options = {});
  ~PrometheusHook() override;

  // OK, or why nothing is counted: no registry, bad buckets or labels, or a name that the registry
  // has for something else.
  absl::Status status() const;

  void After(const CacheEvent& event) override;
  void Error(const CacheEvent& event, const absl::Status& error) override;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_CACHE_PROMETHEUS_PROMETHEUS_HOOK_H_
