// What a call costs the server, against another way to do the same.
#ifndef COORD_BENCH_SERVER_COST_H_
#define COORD_BENCH_SERVER_COST_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/hiredis_caller.h"
#include "bench/targets.h"
#include "coord/internal/script.h"
#include "coord/script.h"

namespace coord::bench {

// Deep pipelines, so that system calls are shared by many commands and what is left is the
// commands; over as many objects.
inline constexpr int kDepth = 128;

// Adds the call for the object `i` to a pipeline.
using Append = std::function<bool(HiredisCaller& caller, int i)>;

struct Side {
  std::string name;
  std::vector<const internal::ScriptText*> scripts;
  Append append;
  int replies = 1;  // to each call
};

// Adds to the report the ratio of the server's CPU time a call, ours to theirs, both measured in
// turns on one connection.
void Compare(Run& run, const std::string& id, Bound bound, const Side& ours, const Side& theirs);

// A script as HiredisCaller takes it; `script` must outlive the result.
internal::ScriptText TextOf(const Script& script, std::string_view name);

}  // namespace coord::bench

#endif  // COORD_BENCH_SERVER_COST_H_
