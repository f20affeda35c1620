// What LocalBudget lets through in one thread, of a limit that a server keeps.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/local_budget.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr char kId[] = "limiter.local_budget.mops";

}  // namespace

void MeasureLocalBudget(Run& run) {
  if (!run.report.Wants(kId)) return;
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(StrCat("cannot connect: ", client.status().ToString()));
  // A burst that is not spent meanwhile: each take is let through.
  constexpr std::int64_t kBurst = 2'000'000'000;
  RateLimit limit;
  limit.permits = 1'000'000;
  limit.burst = kBurst;
  std::int64_t all = 0;
  std::vector<double> rates;
  {
    LocalBudget budget(*client, limit, "budget");
    const auto slice = [&] {
      using Clock = std::chrono::steady_clock;
      const Clock::time_point start = Clock::now();
      std::int64_t taken = 0;
      do {
        for (int i = 0; i < 1000; ++i, ++taken) {
          const absl::StatusOr<RateDecision> decision = budget.Take();
          if (!decision.ok()) Fatal(decision.status().ToString());
          if (!decision->allowed) Fatal("a budget denies, though the burst is not spent");
        }
      } while (Clock::now() - start < run.effort.slice);
      all += taken;
      const std::chrono::duration<double, std::micro> took = Clock::now() - start;
      return static_cast<double>(taken) / took.count();
    };
    (void)slice();
    for (int i = 0; i < run.effort.rounds; ++i) rates.push_back(slice());
  }
  char line[160];
  std::snprintf(line, sizeof(line), "%.1f million takes a second, one thread (%.1f to %.1f)",
                Median(rates), Quantile(rates, 0), Quantile(rates, 1));
  run.report.Add(kId, Mode::kAny, Median(rates), Bound::AtLeast(5), line,
                 {{"median", Median(rates)},
                  {"least", Quantile(rates, 0)},
                  {"most", Quantile(rates, 1)},
                  {"takes", all}});
}

}  // namespace coord::bench
