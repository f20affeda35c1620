// Rate limiters.
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

}  // namespace

void MeasureLimiters(Run& run) {
  MeasureLimiter(run);
  MeasureSeveralLimits(run);
}

}  // namespace coord::bench
