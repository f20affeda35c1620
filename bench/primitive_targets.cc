// What the server pays for counters, limiters and lists, against the scripts that everybody has.
#include <chrono>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/hiredis_caller.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/operation_id.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

// Deep pipelines, so that system calls are shared by many commands and what is left is the
// commands; over as many objects.
constexpr int kDepth = 128;

// Adds the call for the object `i` to a pipeline.
using Append = std::function<bool(HiredisCaller& caller, int i)>;

struct Side {
  std::string name;
  std::vector<const ScriptText*> scripts;
  Append append;
  int replies = 1;  // to each call
};

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

ScriptText TextOf(const Script& script, std::string_view name) {
  return {name, script.text(), script.sha1(), false};
}

void MeasureOnce(Run& run) {
  const Append plain = [](HiredisCaller& caller, int i) {
    return caller.Append(internal::kCounterAdd, {StrCat("coord:{n-", i, "}:count")},
                         {"1", "", "", "reject", "", "create"});
  };
  int operation = 0;
  const Append once = [&](HiredisCaller& caller, int i) {
    const std::string tag = StrCat("coord:{o-", i, "}:");
    // 32 digits, as OperationId::New makes them, spread over the tables of an object.
    const std::string id = StrCat(1'000'000'000 + ++operation, "0123456789abcdef012345");
    const int table = operation / kDepth % 64;
    return caller.Append(
        internal::kCounterAdd,
        {StrCat(tag, "count"), StrCat(tag, "op:", table), StrCat(tag, "op:", table, ":older")},
        {"1", "", "", "reject", "", "create", id, "c0123456789a", "600000"});
  };
  Compare(run, "counter.once.server_cpu", Bound::AtMost(2.4),
          {"an addition with an operation id", {&internal::kCounterAdd}, once},
          {"one without", {&internal::kCounterAdd}, plain});
}

void MeasureLimiter(Run& run) {
  const Script window_script(
      "local n = redis.call('INCR', KEYS[1]) "
      "if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end "
      "return n");
  const ScriptText window = TextOf(window_script, "fixed_window");
  Compare(run, "limiter.gcra.server_cpu", Bound::AtMost(3.1),
          {"GCRA",
           {&internal::kLimiterTake},
           [](HiredisCaller& caller, int i) {
             return caller.Append(internal::kLimiterTake, {StrCat("coord:{l-", i, "}:gcra")},
                                  {"10", "10000000", "1", "take"});
           }},
          {"a fixed window by INCR", {&window}, [&](HiredisCaller& caller, int i) {
             return caller.Append(window, {StrCat("window-", i)}, {"10000"});
           }});
}

// Three limits in one call, against three calls.
void MeasureSeveralLimits(Run& run) {
  Compare(run, "limiter.three.server_cpu", Bound::AtMost(0.65),
          {"three limits in one call",
           {&internal::kLimiterTakeAll},
           [](HiredisCaller& caller, int i) {
             const std::string tag = StrCat("coord:{a-", i, "}:");
             return caller.Append(internal::kLimiterTakeAll,
                                  {StrCat(tag, "gcra"), StrCat(tag, "gcra2"), StrCat(tag, "gcra3")},
                                  {"g", "10", "10000000", "1", "", "g", "10", "10000000", "1", "",
                                   "g", "10", "10000000", "1", ""});
           }},
          {"three calls",
           {&internal::kLimiterTake},
           [](HiredisCaller& caller, int i) {
             const std::string tag = StrCat("coord:{b-", i, "}:");
             for (const char* part : {"gcra", "gcra2", "gcra3"}) {
               if (!caller.Append(internal::kLimiterTake, {StrCat(tag, part)},
                                  {"10", "10000000", "1", "take"})) {
                 return false;
               }
             }
             return true;
           },
           3});
}

void MeasureList(Run& run) {
  const Script three_script(
      "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], -tonumber(ARGV[2]), -1) "
      "return redis.call('PEXPIRE', KEYS[1], ARGV[3])");
  const ScriptText three = TextOf(three_script, "three");
  constexpr std::string_view kItem = "an event of some fifty bytes, as many lists have them";
  Compare(run, "list.push.server_cpu", Bound::AtMost(1.25),
          {"a push with sequence and counts",
           {&internal::kListPush},
           [&](HiredisCaller& caller, int i) {
             const std::string tag = StrCat("coord:{p-", i, "}:");
             return caller.Append(internal::kListPush, {StrCat(tag, "list"), StrCat(tag, "seq")},
                                  {"100", "600000", kItem});
           }},
          {"RPUSH, LTRIM and PEXPIRE", {&three}, [&](HiredisCaller& caller, int i) {
             return caller.Append(three, {StrCat("trimmed-", i)}, {kItem, "100", "600000"});
           }});
}

}  // namespace

void MeasurePrimitives(Run& run) {
  MeasureOnce(run);
  MeasureLimiter(run);
  MeasureSeveralLimits(run);
  MeasureList(run);
}

}  // namespace coord::bench
