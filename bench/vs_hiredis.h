// Callers of coord against as many that have hiredis, a connection each, and the same scripts.
#ifndef COORD_BENCH_VS_HIREDIS_H_
#define COORD_BENCH_VS_HIREDIS_H_

#include <functional>
#include <string>
#include <string_view>

#include "bench/machine.h"
#include "bench/targets.h"

namespace coord::bench {

// By the caller of that number, from 0; false on any error.
using Operation = std::function<bool(int caller)>;

struct Contest {
  Operation theirs;
  Operation ours;
};

// Ends the program unless both give the server the same commands to do: a ratio of unequal work
// would mean nothing.
void CheckEqualWork(const std::string& socket_path, const Contest& contest);

// Adds to the report how many times as often ours ran, as "<subject>.t<callers>.<mode>.vs_hiredis".
// `make` connects both sides, when the server runs where `mode` wants it.
void AgainstHiredis(Run& run, std::string_view subject, int callers, Mode mode, Bound bound,
                    const std::function<Contest()>& make);

}  // namespace coord::bench

#endif  // COORD_BENCH_VS_HIREDIS_H_
