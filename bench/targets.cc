// The numbers the project is judged by: ratios of coord to a yardstick, both measured in turn in
// one run.
//
//   targets [--quick] [--json | --json=FILE] [--program PATH] [FILTER]
//
// FILTER is a regular expression looked for in the ids. A number that falls short is no failure of
// the run: the exit code is 1 only when something could not be measured, 2 when nothing matches.
#include "bench/targets.h"

#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "bench/machine.h"

#ifndef COORD_PROGRAM
#define COORD_PROGRAM ""
#endif

namespace coord::bench {
namespace {

constexpr char kUsage[] =
    "usage: targets [--quick] [--json | --json=FILE] [--program PATH] [FILTER]\n";

// Per cent of the CPUs: from there on the ratios of `pin` change.
constexpr double kTooMuch = 5;

struct Arguments {
  bool quick = false;
  bool json = false;
  std::string json_file;
  std::string program = COORD_PROGRAM;
  std::string filter;
};

int Usage() {
  std::fputs(kUsage, stderr);
  return 2;
}

bool Parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--quick") {
      arguments.quick = true;
    } else if (word == "--json") {
      arguments.json = true;
    } else if (word.starts_with("--json=")) {
      arguments.json_file = word.substr(7);
    } else if (word == "--program" && i + 1 < argc) {
      arguments.program = argv[++i];
    } else if (word.starts_with("-") || !arguments.filter.empty()) {
      return false;
    } else {
      arguments.filter = word;
    }
  }
  return true;
}

void Write(const Arguments& arguments, const nlohmann::ordered_json& result) {
  const std::string text = result.dump(2) + "\n";
  if (arguments.json) std::fputs(text.c_str(), stdout);
  if (arguments.json_file.empty()) return;
  std::ofstream file(arguments.json_file);
  file << text << std::flush;
  if (!file) Fatal("cannot write " + arguments.json_file);
}

// Of this process, of its children that have ended, and of the server.
std::chrono::duration<double> OurCpuTime(const RedisServer& server) {
  std::chrono::duration<double> sum = server.CpuTime();
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    getrusage(who, &usage);
    for (const timeval& time : {usage.ru_utime, usage.ru_stime}) {
      sum += std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
    }
  }
  return sum;
}

int Main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--memory-probe") == 0) return RunMemoryProbe(argv[2]);
  if (argc == 3 && std::strcmp(argv[1], "--stream-probe") == 0) return RunStreamProbe(argv[2]);
  if (argc == 7 && std::strcmp(argv[1], "--contender") == 0) return RunContender(argv + 2);
  Arguments arguments;
  if (!Parse(argc, argv, arguments)) return Usage();
  // With --json, stdout is for a program, and people read stderr.
  std::FILE* const out = arguments.json ? stderr : stdout;
  nlohmann::ordered_json machine = DescribeMachine();
  for (const auto& [name, value] : machine.items()) {
    std::fprintf(out, "%s: %s\n", name.c_str(), value.dump().c_str());
  }
  static RedisServer server;  // Fatal's exit() still ends it
  Report report(arguments.filter, out);
  const Neighbours neighbours;
  Run run{server, arguments.quick ? Effort::Quick() : Effort(), arguments.program, report};
  MeasureMutex(run);
  MeasureServerCpu(run);
  MeasureQuorum(run);
  MeasureContended(run);
  MeasureCounters(run);
  MeasureLimiters(run);
  MeasureInMemory(run);
  MeasureMemoryCache(run);
  MeasureLists(run);
  MeasureJson(run);
  MeasureClient(run);
  MeasureDeployments(run);
  MeasureNear(run);
  MeasureRedisCache(run);
  MeasureCompute(run);
  MeasureHttp(run);
  if (report.empty()) {
    std::fprintf(stderr, "no target matches '%s'\n", arguments.filter.c_str());
    return 2;
  }
  const double others = std::round(100 * neighbours.Share(OurCpuTime(server)));
  machine["per_cent_taken_by_others"] = others;
  std::fprintf(out, "\nother programs took %.0f %% of the CPUs%s\n\n%s", others,
               others > kTooMuch ? ": take these numbers again on a quiet machine" : "",
               report.Table().c_str());
  Write(arguments, report.ToJson(machine));
  return 0;
}

}  // namespace
}  // namespace coord::bench

int main(int argc, char** argv) {
  try {
    return coord::bench::Main(argc, argv);
  } catch (const std::regex_error& error) {
    std::fprintf(stderr, "bench: the filter is no regular expression: %s\n", error.what());
    return 2;
  }
}
