// Counters: what an operation id costs.
#include <string>
#include <string_view>

#include "bench/server_cost.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::StrCat;

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

}  // namespace

void MeasureCounters(Run& run) { MeasureOnce(run); }

}  // namespace coord::bench
