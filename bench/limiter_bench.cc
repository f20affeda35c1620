// One permit taken and granted, each caller of a key of its own.
#include "bench/microbench.h"
#include "coord/internal/strings.h"
#include "coord/rate_limiter.h"
#include "scripts.h"

namespace coord::bench {
namespace {

// One permit a microsecond: never denied.
void LimiterTakeCoord(benchmark::State& state) {
  const RateLimiter limiter(SharedClient(), {.permits = 1'000'000, .period = absl::Seconds(1)});
  const std::string key = internal::StrCat("ours-", state.thread_index());
  Repeat(state, [&] {
    const absl::StatusOr<RateDecision> decision = limiter.Take(key);
    return decision.ok() && decision->allowed;
  });
}
BENCHMARK(LimiterTakeCoord)->Name("LimiterTake/coord")->Apply(OnTheServer);

void LimiterTakeHiredis(benchmark::State& state) {
  HiredisCaller caller(Server().socket_path());
  caller.Load(internal::kLimiterTake);
  const std::string key = internal::StrCat("coord:{them-", state.thread_index(), "}:gcra");
  Repeat(state, [&] {
    const HiredisReply reply =
        caller.Run(internal::kLimiterTake, {key}, {"1", "1000000", "1", "take"});
    return reply != nullptr && reply->elements == 4 && reply->element[0]->integer == 1;
  });
}
BENCHMARK(LimiterTakeHiredis)->Name("LimiterTake/hiredis")->Apply(OnTheServer);

}  // namespace
}  // namespace coord::bench
