// Two sides measured in turn: short slices of the one and the other, so that what disturbs the
// machine disturbs both.
#ifndef COORD_BENCH_SLICE_H_
#define COORD_BENCH_SLICE_H_

#include <chrono>
#include <functional>
#include <vector>

namespace coord::bench {

// What several callers did in a while.
struct Slice {
  double per_second = 0;
  double p50_us = 0;
  double p99_us = 0;
};

// Runs `operation(caller)` over and over in `callers` threads of their own for `length`, all
// started together. Ends the program when an operation returns false.
Slice RunSlice(int callers, std::chrono::nanoseconds length,
               const std::function<bool(int caller)>& operation);

struct Effort {
  int rounds = 11;
  int cpu_rounds = 15;  // where CPU time is compared
  std::chrono::milliseconds slice{300};
  int processes = 50;

  static Effort Quick() {
    return {.rounds = 5, .cpu_rounds = 9, .slice = std::chrono::milliseconds(120), .processes = 20};
  }
};

// A is the yardstick, B is ours.
struct Comparison {
  std::vector<Slice> a;
  std::vector<Slice> b;
  std::vector<double> ratios;  // of each round, B by A
};

// One slice of each as warm-up, then `effort.rounds` of both; who goes first changes every round.
Comparison Alternate(const Effort& effort, int callers, const std::function<bool(int)>& a,
                     const std::function<bool(int)>& b);

// Of at least one value.
double Quantile(std::vector<double> values, double q);
inline double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

}  // namespace coord::bench

#endif  // COORD_BENCH_SLICE_H_
