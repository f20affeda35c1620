// What is done in memory and brought to the server now and then: so many a second, in one thread.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/local_budget.h"
#include "coord/sharded_counter.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr int kBatch = 1000;

Client Connect(const Run& run) {
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(StrCat("cannot connect: ", client.status().ToString()));
  return *std::move(client);
}

// `batch` does it kBatch times.
void Measure(Run& run, const std::string& id, double least, const char* what,
             const std::function<void()>& batch) {
  using Clock = std::chrono::steady_clock;
  const auto slice = [&] {
    const Clock::time_point start = Clock::now();
    std::int64_t done = 0;
    do {
      batch();
      done += kBatch;
    } while (Clock::now() - start < run.effort.slice);
    const std::chrono::duration<double, std::micro> took = Clock::now() - start;
    return static_cast<double>(done) / took.count();
  };
  (void)slice();
  std::vector<double> rates;
  for (int i = 0; i < run.effort.rounds; ++i) rates.push_back(slice());
  char line[160];
  std::snprintf(line, sizeof(line), "%.1f million %s a second, one thread (%.1f to %.1f)",
                Median(rates), what, Quantile(rates, 0), Quantile(rates, 1));
  run.report.Add(
      id, Mode::kAny, Median(rates), Bound::AtLeast(least), line,
      {{"median", Median(rates)}, {"least", Quantile(rates, 0)}, {"most", Quantile(rates, 1)}});
}

void MeasureBudget(Run& run) {
  constexpr char kId[] = "limiter.local_budget.mops";
  if (!run.report.Wants(kId)) return;
  // A burst that is not spent meanwhile: each take is let through.
  RateLimit limit;
  limit.permits = 1'000'000;
  limit.burst = 2'000'000'000;
  LocalBudget budget(Connect(run), limit, "budget");
  Measure(run, kId, 5, "takes", [&] {
    for (int i = 0; i < kBatch; ++i) {
      const absl::StatusOr<RateDecision> decision = budget.Take();
      if (!decision.ok()) Fatal(decision.status().ToString());
      if (!decision->allowed) Fatal("a budget denies, though the burst is not spent");
    }
  });
}

void MeasureShards(Run& run) {
  constexpr char kId[] = "counter.sharded.mops";
  if (!run.report.Wants(kId)) return;
  const Client client = Connect(run);
  ShardedCounter counter(client, "shards");
  std::int64_t added = 0;
  Measure(run, kId, 20, "additions", [&] {
    for (int i = 0; i < kBatch; ++i) counter.Add();
    added += kBatch;
  });
  const absl::StatusOr<std::int64_t> exact = counter.Exact();
  if (!exact.ok() || *exact != added) Fatal("the server's count is not what was added");
}

}  // namespace

void MeasureInMemory(Run& run) {
  MeasureBudget(run);
  MeasureShards(run);
}

}  // namespace coord::bench
