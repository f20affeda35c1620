#include "bench/vs_hiredis.h"

#include <cstdint>
#include <map>

#include "bench/command_stats.h"
#include "bench/hiredis_caller.h"
#include "bench/slice.h"
#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::StrCat;

std::map<std::string, std::int64_t> CommandsOf(HiredisCaller& caller, const Operation& operation) {
  if (!operation(0)) Fatal("the first operation failed");
  if (caller.Command({"CONFIG", "RESETSTAT"}) == nullptr) Fatal("CONFIG RESETSTAT failed");
  for (int i = 0; i < 100; ++i) {
    if (!operation(0)) Fatal("an operation failed");
  }
  std::map<std::string, std::int64_t> counts = CommandCounts(caller);
  counts.erase("cmdstat_config|resetstat");
  return counts;
}

}  // namespace

void CheckEqualWork(const std::string& socket_path, const Contest& contest) {
  HiredisCaller caller(socket_path);
  std::string text;
  // Again where it differs: once in a while a script has more to do than else.
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto of_theirs = CommandsOf(caller, contest.theirs);
    const auto of_ours = CommandsOf(caller, contest.ours);
    if (of_theirs == of_ours) return;
    text = "the two sides give the server different work; 100 operations are:";
    for (const auto& [command, count] : of_theirs) {
      text += StrCat("\n  yardstick ", command, " ", count);
    }
    for (const auto& [command, count] : of_ours) text += StrCat("\n  coord ", command, " ", count);
  }
  Fatal(text);
}

void AgainstHiredis(Run& run, std::string_view subject, int callers, Mode mode, Bound bound,
                    const std::function<Contest()>& make) {
  const std::string id = StrCat(subject, ".t", callers, ".", ModeName(mode), ".vs_hiredis");
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "it needs two CPUs");
  ApplyMode(mode, run.server.pid());
  const Contest contest = make();
  CheckEqualWork(run.server.socket_path(), contest);
  run.report.Add(id, mode, Alternate(run.effort, callers, contest.theirs, contest.ours), bound,
                 "hiredis");
}

}  // namespace coord::bench
