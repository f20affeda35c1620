#include "bench/slice.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>

#include "bench/machine.h"

namespace coord::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Work {
  std::vector<std::chrono::nanoseconds> taken;  // each operation
  SteadyClock::time_point end;
  bool failed = false;
};

void Repeat(const std::function<bool(int)>& operation, int caller, SteadyClock::time_point until,
            Work& work) {
  // One look at the clock an operation: where one ends, the next begins.
  for (SteadyClock::time_point now = SteadyClock::now(); now < until;) {
    if (!operation(caller)) {
      work.failed = true;
      break;
    }
    const SteadyClock::time_point after = SteadyClock::now();
    work.taken.push_back(after - now);
    now = after;
  }
  work.end = SteadyClock::now();
}

double Microseconds(std::vector<std::chrono::nanoseconds>& times, std::size_t per_cent) {
  if (times.empty()) return 0;
  const auto at = times.begin() + static_cast<std::ptrdiff_t>((times.size() - 1) * per_cent / 100);
  std::nth_element(times.begin(), at, times.end());
  return static_cast<double>(at->count()) / 1e3;
}

}  // namespace

Slice RunSlice(int callers, std::chrono::nanoseconds length,
               const std::function<bool(int caller)>& operation) {
  std::vector<Work> work(static_cast<std::size_t>(callers));
  // Room beforehand, so that no caller stops to allocate.
  const auto most = static_cast<std::size_t>(length.count() / 5000 / callers + 1000);
  for (Work& one : work) one.taken.reserve(most);
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  SteadyClock::time_point begin;
  {
    std::vector<std::jthread> threads;
    threads.reserve(work.size());
    for (int i = 0; i < callers; ++i) {
      threads.emplace_back([&, i] {
        ready.fetch_add(1);
        ready.notify_one();
        go.wait(false);
        Repeat(operation, i, begin + length, work[static_cast<std::size_t>(i)]);
      });
    }
    for (int n = ready.load(); n < callers; n = ready.load()) ready.wait(n);
    begin = SteadyClock::now();
    go.store(true);
    go.notify_all();
  }
  std::vector<std::chrono::nanoseconds> all;
  SteadyClock::time_point end = begin;
  for (const Work& one : work) {
    if (one.failed) Fatal("an operation failed while it was measured");
    all.insert(all.end(), one.taken.begin(), one.taken.end());
    end = std::max(end, one.end);
  }
  Slice slice;
  slice.per_second =
      static_cast<double>(all.size()) / std::chrono::duration<double>(end - begin).count();
  slice.p50_us = Microseconds(all, 50);
  slice.p99_us = Microseconds(all, 99);
  return slice;
}

Comparison Alternate(const Effort& effort, int callers, const std::function<bool(int)>& a,
                     const std::function<bool(int)>& b) {
  RunSlice(callers, effort.slice, a);
  RunSlice(callers, effort.slice, b);
  Comparison comparison;
  for (int round = 0; round < effort.rounds; ++round) {
    const bool b_first = round % 2 == 1;
    if (b_first) comparison.b.push_back(RunSlice(callers, effort.slice, b));
    comparison.a.push_back(RunSlice(callers, effort.slice, a));
    if (!b_first) comparison.b.push_back(RunSlice(callers, effort.slice, b));
    comparison.ratios.push_back(comparison.b.back().per_second / comparison.a.back().per_second);
  }
  return comparison;
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
}

}  // namespace coord::bench
