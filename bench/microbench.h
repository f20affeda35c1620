// What the microbenchmarks share: one server for the program, one client for all callers.
//
// Every subject is measured twice, as <Subject>/coord and <Subject>/hiredis. hiredis runs the same
// script with the same keys and arguments, over a connection a thread; what is compared is the way
// to the server and back.
#ifndef COORD_BENCH_MICROBENCH_H_
#define COORD_BENCH_MICROBENCH_H_

#include <benchmark/benchmark.h>

#include "bench/hiredis_caller.h"
#include "bench/redis_server.h"
#include "coord/client.h"

namespace coord::bench {

// From main() on.
RedisServer& Server();
const Client& SharedClient();

// A benchmark against the server: by real time, since most of it is waiting, for one caller and for
// eight.
inline void OnTheServer(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseRealTime()->Threads(1)->Threads(8)->Unit(benchmark::kMicrosecond);
}

// Repeats `operation`, which returns false on failure.
template <typename Operation>
void Repeat(benchmark::State& state, const Operation& operation) {
  for (auto _ : state) {
    if (!operation()) {
      state.SkipWithError("an operation failed");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
}

}  // namespace coord::bench

#endif  // COORD_BENCH_MICROBENCH_H_
