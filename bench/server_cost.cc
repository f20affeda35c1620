#include "bench/server_cost.h"

#include <chrono>
#include <cstdio>

#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

// Microseconds of the server's CPU time for one call, over a slice.
double CpuOfCall(const Run& run, HiredisCaller& caller, const Side& side) {
  const auto end = std::chrono::steady_clock::now() + run.effort.slice;
  const std::chrono::nanoseconds before = run.server.CpuTime();
  int calls = 0;
  do {
    for (int i = 0; i < kDepth; ++i) {
      if (!side.append(caller, i)) Fatal(StrCat(side.name, ": cannot be sent"));
    }
    if (!caller.Flush()) Fatal(StrCat(side.name, ": cannot be sent"));
    for (int i = 0; i < kDepth * side.replies; ++i) {
      if (caller.Receive() == nullptr) Fatal(StrCat(side.name, ": failed"));
    }
    calls += kDepth;
  } while (std::chrono::steady_clock::now() < end);
  return static_cast<double>((run.server.CpuTime() - before).count()) / 1e3 / calls;
}

}  // namespace

void Compare(Run& run, const std::string& id, Bound bound, const Side& ours, const Side& theirs) {
  if (!run.report.Wants(id)) return;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  HiredisCaller caller(run.server.socket_path());
  for (const Side* side : {&ours, &theirs}) {
    for (const ScriptText* script : side->scripts) caller.Load(*script);
    CpuOfCall(run, caller, *side);
  }
  std::vector<double> of_ours, of_theirs, ratios;
  for (int round = 0; round < run.effort.cpu_rounds; ++round) {
    const bool ours_first = round % 2 == 1;
    if (ours_first) of_ours.push_back(CpuOfCall(run, caller, ours));
    of_theirs.push_back(CpuOfCall(run, caller, theirs));
    if (!ours_first) of_ours.push_back(CpuOfCall(run, caller, ours));
    ratios.push_back(of_ours.back() / of_theirs.back());
  }
  char line[240];
  std::snprintf(line, sizeof(line),
                "server CPU a call: %s %.2f us; %s %.2f us; %zu rounds, ratio %.2f to %.2f",
                ours.name.c_str(), Median(of_ours), theirs.name.c_str(), Median(of_theirs),
                ratios.size(), Quantile(ratios, 0), Quantile(ratios, 1));
  run.report.Add(id, mode, Median(ratios), bound, line,
                 {{"ours_us", Median(of_ours)}, {"theirs_us", Median(of_theirs)}});
}

internal::ScriptText TextOf(const Script& script, std::string_view name) {
  return {name, script.text(), script.sha1(), false};
}

}  // namespace coord::bench
