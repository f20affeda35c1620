// Programs that a benchmark runs, and what a process takes.
#ifndef COORD_BENCH_CHILD_PROGRAM_H_
#define COORD_BENCH_CHILD_PROGRAM_H_

#include <cstdint>
#include <string>
#include <vector>

namespace coord::bench {

// Runs a program to its end, its stdout in a file; its exit code, or 128 and more when it did not
// end by itself.
int RunProgram(const std::vector<std::string>& line, const std::string& out = "/dev/null");

// VmHWM: the most that was ever resident.
std::int64_t PeakKilobytes();

}  // namespace coord::bench

#endif  // COORD_BENCH_CHILD_PROGRAM_H_
