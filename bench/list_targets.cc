// Capped lists.
#include <string>
#include <string_view>

#include "bench/server_cost.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

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

void MeasureLists(Run& run) { MeasureList(run); }

}  // namespace coord::bench
