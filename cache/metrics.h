// Counts what caches do, to be read in the program itself.
//
//   auto metrics = std::make_shared<coord::MetricsCollector>();
//   options.hooks = {metrics};                   // of as many caches as you like
//   std::cout << metrics->Snapshot().ToString();
#ifndef COORD_CACHE_METRICS_H_
#define COORD_CACHE_METRICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/hook.h"

namespace coord {

// What lookups found; see CacheEvent.
struct LookupCounts {
  std::uint64_t hits = 0;  // stale ones and nulls, too
  std::uint64_t misses = 0;
  std::uint64_t nulls = 0;
  std::uint64_t stale = 0;
  std::uint64_t undecodable = 0;  // of the misses

  // From 0 to 1; unset when nothing was looked up.
  std::optional<double> HitRate() const;
};

struct OperationMetrics {
  CacheOperation operation = CacheOperation::kGet;
  std::uint64_t calls = 0;      // those that failed, too
  std::uint64_t keys = 0;       // that they named
  std::uint64_t fell_back = 0;  // of the calls
  std::map<absl::StatusCode, std::uint64_t> errors_by_code = {};
  LookupCounts lookups = {};
  // Of all calls, failed ones too. Percentiles to 4 %; up to 18 minutes, `max` beyond.
  absl::Duration p50 = absl::ZeroDuration();
  absl::Duration p90 = absl::ZeroDuration();
  absl::Duration p99 = absl::ZeroDuration();
  absl::Duration max = absl::ZeroDuration();

  std::uint64_t errors() const;
};

struct CacheMetrics {
  std::string cache;                         // CacheOptions::name
  LookupCounts lookups = {};                 // of all operations
  std::vector<OperationMetrics> operations;  // those that were called, as CacheOperation has them
};

struct MetricsSnapshot {
  std::vector<CacheMetrics> caches;  // by name

  // Null when there was no such call.
  const CacheMetrics* Find(std::string_view cache) const;
  const OperationMetrics* Find(std::string_view cache, CacheOperation operation) const;
  // One object: {"caches": [{"cache": ..., "hit_rate": ..., "operations": [...]}]}; durations in
  // seconds.
  std::string ToJson() const;
  // A table for people.
  std::string ToString() const;
};

// Thread-safe. An operation costs some ten relaxed additions, in counters that few other threads
// share, and no lock. Each name of a cache keeps about 5 KB for every kind of operation and up to
// eight groups of threads that use it, until the collector goes.
class MetricsCollector : public CacheHook {
 public:
  MetricsCollector();
  ~MetricsCollector() override;

  void After(const CacheEvent& event) override;
  void Error(const CacheEvent& event, const absl::Status& error) override;

  // Of calls that end meanwhile, some numbers may be in it and others not.
  MetricsSnapshot Snapshot() const;
  // The same, and counting begins anew: what is counted is in exactly one of two such snapshots.
  MetricsSnapshot Reset();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_CACHE_METRICS_H_
