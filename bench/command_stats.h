// How often the server ran each command, those inside scripts included.
#ifndef COORD_BENCH_COMMAND_STATS_H_
#define COORD_BENCH_COMMAND_STATS_H_

#include <cstdint>
#include <map>
#include <string>

#include "bench/hiredis_caller.h"

namespace coord::bench {

// "cmdstat_get" -> calls, since the server started or CONFIG RESETSTAT.
std::map<std::string, std::int64_t> CommandCounts(HiredisCaller& caller);

}  // namespace coord::bench

#endif  // COORD_BENCH_COMMAND_STATS_H_
