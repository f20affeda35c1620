// One acquire and release, each caller on a name of its own.
#include "bench/microbench.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"

namespace coord::bench {
namespace {

void MutexPairCoord(benchmark::State& state) {
  const Mutex mutex(SharedClient(), internal::StrCat("ours-", state.thread_index()));
  Repeat(state, [&] {
    absl::StatusOr<Lease> lease = mutex.TryAcquire();
    return lease.ok() && lease->Release().ok();
  });
}
BENCHMARK(MutexPairCoord)->Name("MutexPair/coord")->Apply(OnTheServer);

void MutexPairHiredis(benchmark::State& state) {
  HiredisMutex mutex(Server().socket_path(), internal::StrCat("them-", state.thread_index()));
  Repeat(state, [&] { return mutex.Pair(); });
}
BENCHMARK(MutexPairHiredis)->Name("MutexPair/hiredis")->Apply(OnTheServer);

}  // namespace
}  // namespace coord::bench
