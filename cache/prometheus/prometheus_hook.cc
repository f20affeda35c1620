#include "cache/prometheus/prometheus_hook.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <exception>
#include <functional>
#include <string_view>

#include "absl/time/time.h"
#include "cache/internal/hook_parts.h"

namespace coord {

namespace {

constexpr std::size_t kCodes = 17;         // absl::StatusCode has 0 to 16
constexpr std::size_t kFellBack = kCodes;  // an outcome beside the codes
constexpr std::size_t kOutcomes = kCodes + 1;
constexpr std::size_t kResults = 5;
constexpr std::array<const char*, kResults> kResultNames = {"hit", "null", "stale", "miss",
                                                            "undecodable"};

std::string OutcomeName(std::size_t outcome) {
  return outcome == kFellBack ? "fell_back"
                              : internal::CodeName(static_cast<absl::StatusCode>(outcome));
}

// A family's own finding takes a lock and a hash of all labels, so what it found is kept. Two who
// ask at once get the same one.
template <typename Metric, typename Make>
Metric& Kept(std::atomic<Metric*>& place, Make make) {
  Metric* metric = place.load(std::memory_order_acquire);
  if (metric == nullptr) {
    metric = &make();
    place.store(metric, std::memory_order_release);
  }
  return *metric;
}

struct OfOperation {
  std::array<std::atomic<prometheus::Counter*>, kOutcomes> outcomes{};
  std::atomic<prometheus::Histogram*> seconds{nullptr};
};

struct OfCache {
  explicit OfCache(std::string_view) {}
  std::array<OfOperation, internal::kCacheOperations> operations{};
  std::array<std::atomic<prometheus::Counter*>, kResults> results{};
};

}  // namespace

struct PrometheusHook::State {
  std::shared_ptr<prometheus::Registry> registry;  // owns the families
  PrometheusHookOptions options;
  absl::Status status;
  prometheus::Family<prometheus::Counter>* operations = nullptr;
  prometheus::Family<prometheus::Counter>* lookups = nullptr;
  prometheus::Family<prometheus::Histogram>* seconds = nullptr;
  internal::PerCache<OfCache> caches;

  absl::Status Register() {
    if (registry == nullptr) return absl::InvalidArgumentError("PrometheusHook: no registry");
    // The library only asserts this.
    const std::vector<double>& buckets = options.buckets;
    const auto bad = [](double end) { return !std::isfinite(end); };
    if (std::any_of(buckets.begin(), buckets.end(), bad) ||
        std::adjacent_find(buckets.begin(), buckets.end(), std::greater_equal<>()) !=
            buckets.end()) {
      return absl::InvalidArgumentError("PrometheusHook: buckets must be finite and ascending");
    }
    for (const char* taken : {"cache", "operation", "outcome", "result", "le"}) {
      if (options.labels.contains(taken)) {
        return absl::InvalidArgumentError(
            "PrometheusHook: a label of the options is the hook's own");
      }
    }
    try {
      operations = &prometheus::BuildCounter()
                        .Name("coord_cache_operations_total")
                        .Help("Operations on caches, by how they ended.")
                        .Labels(options.labels)
                        .Register(*registry);
      lookups = &prometheus::BuildCounter()
                     .Name("coord_cache_lookups_total")
                     .Help("Keys looked up in caches, by what was found.")
                     .Labels(options.labels)
                     .Register(*registry);
      seconds = &prometheus::BuildHistogram()
                     .Name("coord_cache_operation_seconds")
                     .Help("How long operations on caches took.")
                     .Labels(options.labels)
                     .Register(*registry);
      return absl::OkStatus();
    } catch (const std::exception& error) {
      return absl::FailedPreconditionError(error.what());
    }
  }

  void Count(const CacheEvent& event, std::size_t outcome) {
    if (!status.ok()) return;
    OfCache& cache = caches.Of(event.cache);
    OfOperation& operation = cache.operations[static_cast<std::size_t>(event.operation)];
    const auto labels = [&] {
      return prometheus::Labels{{"cache", std::string(event.cache)},
                                {"operation", std::string(ToString(event.operation))}};
    };
    Kept(operation.outcomes[outcome], [&]() -> prometheus::Counter& {
      prometheus::Labels all = labels();
      all["outcome"] = OutcomeName(outcome);
      return operations->Add(all);
    }).Increment();
    Kept(operation.seconds, [&]() -> prometheus::Histogram& {
      return seconds->Add(labels(), options.buckets);
    }).Observe(absl::ToDoubleSeconds(event.took));

    const internal::LookupResults found = internal::ResultsOf(event);
    const std::array<std::size_t, kResults> counts = {found.hit, found.null, found.stale,
                                                      found.miss, found.undecodable};
    for (std::size_t i = 0; i < kResults; ++i) {
      if (counts[i] == 0) continue;
      Kept(cache.results[i], [&]() -> prometheus::Counter& {
        return lookups->Add({{"cache", std::string(event.cache)}, {"result", kResultNames[i]}});
      }).Increment(static_cast<double>(counts[i]));
    }
  }
};

PrometheusHook::PrometheusHook(std::shared_ptr<prometheus::Registry> registry,
                               PrometheusHookOptions options)
    : state_(std::make_unique<State>()) {
  state_->registry = std::move(registry);
  state_->options = std::move(options);
  state_->status = state_->Register();
}

PrometheusHook::~PrometheusHook() = default;

absl::Status PrometheusHook::status() const { return state_->status; }

void PrometheusHook::After(const CacheEvent& event) {
  state_->Count(event,
                event.fell_back ? kFellBack : static_cast<std::size_t>(absl::StatusCode::kOk));
}

void PrometheusHook::Error(const CacheEvent& event, const absl::Status& error) {
  const auto code = static_cast<std::size_t>(error.code());
  state_->Count(event, code < kCodes ? code : static_cast<std::size_t>(absl::StatusCode::kUnknown));
}

}  // namespace coord
