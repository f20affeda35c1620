// One addition, each caller to a counter of its own.
#include "bench/microbench.h"
#include "coord/counter.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::bench {
namespace {

void CounterAddCoord(benchmark::State& state) {
  const Counter counter(SharedClient(), internal::StrCat("ours-", state.thread_index()));
  Repeat(state, [&] {
    const absl::StatusOr<CounterResult> result = counter.Add(1);
    return result.ok() && result->applied;
  });
}
BENCHMARK(CounterAddCoord)->Name("CounterAdd/coord")->Apply(OnTheServer);

void CounterAddHiredis(benchmark::State& state) {
  HiredisCaller caller(Server().socket_path());
  caller.Load(internal::kCounterAdd);
  const std::string key = internal::StrCat("coord:{them-", state.thread_index(), "}:count");
  Repeat(state, [&] {
    const HiredisReply reply =
        caller.Run(internal::kCounterAdd, {key}, {"1", "", "", "reject", "", "create"});
    return reply != nullptr && reply->elements == 2 && reply->element[1]->integer == 1;
  });
}
BENCHMARK(CounterAddHiredis)->Name("CounterAdd/hiredis")->Apply(OnTheServer);

}  // namespace
}  // namespace coord::bench
