// Where a run took place, and which CPU does what in it.
#ifndef COORD_BENCH_MACHINE_H_
#define COORD_BENCH_MACHINE_H_

#include <sys/types.h>

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace coord::bench {

// Ends the program: a number that was measured while something was broken is worse than none. Main
// thread only.
[[noreturn]] void Fatal(std::string_view what);

// As performance.md has them. kAny: nothing is pinned.
enum class Mode { kAny, kSame, kPin };
std::string_view ModeName(Mode mode);

// False where there is only one CPU and `mode` needs two.
bool ModeIsPossible(Mode mode);

// Puts all threads of the server and of this process where `mode` wants them. Threads made later
// inherit it from their makers.
void ApplyMode(Mode mode, pid_t server);

// CPU, kernel, compiler and the versions of what took part.
nlohmann::ordered_json DescribeMachine();

// How much of the machine other programs took while this was alive: ratios taken beside a compiler
// mean little.
class Neighbours {
 public:
  Neighbours() : busy_(BusySeconds()), since_(std::chrono::steady_clock::now()) {}
  // 0 to 1 of all CPUs. `ours`: CPU time that this process, its children and its server have used.
  double Share(std::chrono::duration<double> ours) const;

 private:
  static double BusySeconds();

  const double busy_;
  const std::chrono::steady_clock::time_point since_;
};

}  // namespace coord::bench

#endif  // COORD_BENCH_MACHINE_H_
