#include "cache/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>

#include "cache/internal/hook_parts.h"
#include "cache/internal/latency_steps.h"
#include "coord/internal/strings.h"

namespace coord {

namespace {

using internal::LatencySteps;

using Number = std::atomic<std::uint64_t>;

void Add(Number& number, std::uint64_t amount) {
  // Most of an event's counts are zero.
  if (amount != 0) number.fetch_add(amount, std::memory_order_relaxed);
}

// What one group of threads has counted of one operation.
struct Cell {
  static constexpr std::size_t kCodes = 17;  // absl::StatusCode has 0 to 16

  std::array<Number, kCodes> ends{};  // calls, by their status
  Number keys{0};
  Number fell_back{0};
  Number hits{0};
  Number misses{0};
  Number nulls{0};
  Number stale{0};
  Number undecodable{0};
  std::atomic<std::int64_t> max_ns{0};
  std::array<Number, LatencySteps::kCount> latency{};

  void Count(const CacheEvent& event, absl::StatusCode code) {
    const auto place = static_cast<std::size_t>(code);
    Add(ends[place < kCodes ? place : static_cast<std::size_t>(absl::StatusCode::kUnknown)], 1);
    Add(keys, event.keys);
    Add(fell_back, event.fell_back ? 1 : 0);
    Add(hits, event.hits);
    Add(misses, event.misses);
    Add(nulls, event.nulls);
    Add(stale, event.stale);
    Add(undecodable, event.undecodable);
    Add(latency[LatencySteps::Of(event.took)], 1);
    const std::int64_t ns = absl::ToInt64Nanoseconds(event.took);
    std::int64_t longest = max_ns.load(std::memory_order_relaxed);
    while (ns > longest && !max_ns.compare_exchange_weak(longest, ns, std::memory_order_relaxed)) {
    }
  }
};

// By thread, so that two that run at once seldom write the same line of the processor's cache.
class Cells {
 public:
  explicit Cells(std::string_view) {}
  ~Cells() {
    for (auto& group : groups_) {
      for (auto& cell : group) delete cell.load();
    }
  }
  Cells(const Cells&) = delete;
  Cells& operator=(const Cells&) = delete;

  Cell& Of(CacheOperation operation) {
    // The ids are addresses, as a rule, whose lowest bits are all alike.
    const std::uint64_t id = std::hash<std::thread::id>{}(std::this_thread::get_id());
    std::atomic<Cell*>& place = groups_[(id * 0x9E3779B97F4A7C15u) >> (64 - kGroupBits)]
                                       [static_cast<std::size_t>(operation)];
    if (Cell* const cell = place.load(std::memory_order_acquire)) return *cell;
    auto added = std::make_unique<Cell>();
    Cell* expected = nullptr;
    if (!place.compare_exchange_strong(expected, added.get(), std::memory_order_acq_rel)) {
      return *expected;
    }
    return *added.release();
  }

  template <typename Receive>
  void ForEach(CacheOperation operation, Receive receive) {
    for (auto& group : groups_) {
      Cell* const cell = group[static_cast<std::size_t>(operation)].load(std::memory_order_acquire);
      if (cell != nullptr) receive(*cell);
    }
  }

 private:
  static constexpr int kGroupBits = 3;
  std::array<std::array<std::atomic<Cell*>, internal::kCacheOperations>, 1 << kGroupBits> groups_{};
};

// `step` by the number of calls that took at most so long.
absl::Duration Percentile(const std::array<std::uint64_t, LatencySteps::kCount>& latency,
                          std::uint64_t all, double share, absl::Duration max) {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
  std::uint64_t seen = 0;
  for (std::size_t step = 0; step < latency.size(); ++step) {
    seen += latency[step];
    if (seen >= std::max<std::uint64_t>(1, wanted))
      return std::min(LatencySteps::Middle(step), max);
  }
  return max;
}

OperationMetrics Gather(Cells& cells, CacheOperation operation, bool take) {
  const auto read = [take](auto& number) {
    return take ? number.exchange(0, std::memory_order_relaxed)
                : number.load(std::memory_order_relaxed);
  };
  OperationMetrics metrics{.operation = operation};
  std::array<std::uint64_t, LatencySteps::kCount> latency{};
  std::int64_t max_ns = 0;
  cells.ForEach(operation, [&](Cell& cell) {
    for (std::size_t code = 0; code < Cell::kCodes; ++code) {
      const std::uint64_t ends = read(cell.ends[code]);
      metrics.calls += ends;
      if (ends != 0 && code != 0) {
        metrics.errors_by_code[static_cast<absl::StatusCode>(code)] += ends;
      }
    }
    metrics.keys += read(cell.keys);
    metrics.fell_back += read(cell.fell_back);
    metrics.lookups.hits += read(cell.hits);
    metrics.lookups.misses += read(cell.misses);
    metrics.lookups.nulls += read(cell.nulls);
    metrics.lookups.stale += read(cell.stale);
    metrics.lookups.undecodable += read(cell.undecodable);
    max_ns = std::max(max_ns, read(cell.max_ns));
    for (std::size_t step = 0; step < latency.size(); ++step)
      latency[step] += read(cell.latency[step]);
  });
  std::uint64_t all = 0;
  for (const std::uint64_t count : latency) all += count;
  if (all == 0) return metrics;
  metrics.max = absl::Nanoseconds(max_ns);
  metrics.p50 = Percentile(latency, all, 0.5, metrics.max);
  metrics.p90 = Percentile(latency, all, 0.9, metrics.max);
  metrics.p99 = Percentile(latency, all, 0.99, metrics.max);
  return metrics;
}

MetricsSnapshot Gather(internal::PerCache<Cells>& caches, bool take) {
  MetricsSnapshot snapshot;
  caches.ForEach([&](const std::string& name, Cells& cells) {
    CacheMetrics cache{.cache = name, .operations = {}};
    for (std::size_t i = 0; i < internal::kCacheOperations; ++i) {
      OperationMetrics metrics = Gather(cells, static_cast<CacheOperation>(i), take);
      if (metrics.calls == 0) continue;
      cache.lookups.hits += metrics.lookups.hits;
      cache.lookups.misses += metrics.lookups.misses;
      cache.lookups.nulls += metrics.lookups.nulls;
      cache.lookups.stale += metrics.lookups.stale;
      cache.lookups.undecodable += metrics.lookups.undecodable;
      cache.operations.push_back(std::move(metrics));
    }
    if (!cache.operations.empty()) snapshot.caches.push_back(std::move(cache));
  });
  std::sort(snapshot.caches.begin(), snapshot.caches.end(),
            [](const CacheMetrics& a, const CacheMetrics& b) { return a.cache < b.cache; });
  return snapshot;
}

void AddLookups(nlohmann::ordered_json& to, const LookupCounts& lookups) {
  to["hits"] = lookups.hits;
  to["misses"] = lookups.misses;
  to["nulls"] = lookups.nulls;
  to["stale"] = lookups.stale;
  to["undecodable"] = lookups.undecodable;
  const std::optional<double> rate = lookups.HitRate();
  to["hit_rate"] = rate ? nlohmann::ordered_json(*rate) : nlohmann::ordered_json();
}

std::string Percent(std::optional<double> rate) {
  if (!rate) return "-";
  char text[16];
  std::snprintf(text, sizeof(text), "%.1f%%", *rate * 100);
  return text;
}

// Three digits are all that is known of a percentile.
std::string Short(absl::Duration duration) {
  const double ns = absl::ToDoubleNanoseconds(duration);
  constexpr std::pair<const char*, double> kUnits[] = {{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}};
  for (const auto& [unit, size] : kUnits) {
    if (ns < size) continue;
    char text[32];
    std::snprintf(text, sizeof(text), "%.3g%s", std::min(ns / size, 1e9), unit);
    return text;
  }
  return internal::StrCat(absl::ToInt64Nanoseconds(duration), "ns");
}

}  // namespace

std::optional<double> LookupCounts::HitRate() const {
  if (hits + misses == 0) return std::nullopt;
  return static_cast<double>(hits) / static_cast<double>(hits + misses);
}

std::uint64_t OperationMetrics::errors() const {
  std::uint64_t all = 0;
  for (const auto& [code, count] : errors_by_code) all += count;
  return all;
}

const CacheMetrics* MetricsSnapshot::Find(std::string_view cache) const {
  for (const CacheMetrics& metrics : caches) {
    if (metrics.cache == cache) return &metrics;
  }
  return nullptr;
}

const OperationMetrics* MetricsSnapshot::Find(std::string_view cache,
                                              CacheOperation operation) const {
  const CacheMetrics* const found = Find(cache);
  if (found == nullptr) return nullptr;
  for (const OperationMetrics& metrics : found->operations) {
    if (metrics.operation == operation) return &metrics;
  }
  return nullptr;
}

std::string MetricsSnapshot::ToJson() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const CacheMetrics& cache : caches) {
    nlohmann::ordered_json operations = nlohmann::ordered_json::array();
    for (const OperationMetrics& metrics : cache.operations) {
      nlohmann::ordered_json codes = nlohmann::ordered_json::object();
      for (const auto& [code, count] : metrics.errors_by_code) {
        codes[internal::CodeName(code)] = count;
      }
      nlohmann::ordered_json operation = {{"operation", coord::ToString(metrics.operation)},
                                          {"calls", metrics.calls},
                                          {"keys", metrics.keys},
                                          {"errors", metrics.errors()},
                                          {"errors_by_code", std::move(codes)},
                                          {"fell_back", metrics.fell_back}};
      AddLookups(operation, metrics.lookups);
      operation["latency_seconds"] = {{"p50", absl::ToDoubleSeconds(metrics.p50)},
                                      {"p90", absl::ToDoubleSeconds(metrics.p90)},
                                      {"p99", absl::ToDoubleSeconds(metrics.p99)},
                                      {"max", absl::ToDoubleSeconds(metrics.max)}};
      operations.push_back(std::move(operation));
    }
    nlohmann::ordered_json object = {{"cache", cache.cache}};
    AddLookups(object, cache.lookups);
    object["operations"] = std::move(operations);
    all.push_back(std::move(object));
  }
  // A name need not be UTF-8.
  return nlohmann::ordered_json{{"caches", std::move(all)}}.dump(
      -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string MetricsSnapshot::ToString() const {
  std::string text;
  for (const CacheMetrics& cache : caches) {
    text += internal::StrCat("cache ", cache.cache, ": hit rate ", Percent(cache.lookups.HitRate()),
                             "\n");
    char line[256];
    const auto add = [&](auto... columns) {
      std::snprintf(line, sizeof(line), "  %-16s%12s%9s%12s%12s%9s%9s%9s%9s%9s\n", columns...);
      text += line;
    };
    add("operation", "calls", "errors", "hits", "misses", "hit rate", "p50", "p90", "p99", "max");
    for (const OperationMetrics& metrics : cache.operations) {
      add(std::string(coord::ToString(metrics.operation)).c_str(),
          std::to_string(metrics.calls).c_str(), std::to_string(metrics.errors()).c_str(),
          std::to_string(metrics.lookups.hits).c_str(),
          std::to_string(metrics.lookups.misses).c_str(),
          Percent(metrics.lookups.HitRate()).c_str(), Short(metrics.p50).c_str(),
          Short(metrics.p90).c_str(), Short(metrics.p99).c_str(), Short(metrics.max).c_str());
    }
  }
  return text;
}

struct MetricsCollector::State {
  internal::PerCache<Cells> caches;
};

MetricsCollector::MetricsCollector() : state_(std::make_unique<State>()) {}
MetricsCollector::~MetricsCollector() = default;

void MetricsCollector::After(const CacheEvent& event) {
  state_->caches.Of(event.cache).Of(event.operation).Count(event, absl::StatusCode::kOk);
}

void MetricsCollector::Error(const CacheEvent& event, const absl::Status& error) {
  state_->caches.Of(event.cache).Of(event.operation).Count(event, error.code());
}

MetricsSnapshot MetricsCollector::Snapshot() const { return Gather(state_->caches, false); }
MetricsSnapshot MetricsCollector::Reset() { return Gather(state_->caches, true); }

}  // namespace coord
