// What a file says in which the holders of a lock wrote when they came and went: who held it when,
// and whether they were alone. Pure.
#ifndef COORD_TOOLS_LOCK_HISTORY_H_
#define COORD_TOOLS_LOCK_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/demo_crew.h"

namespace coord::tools {

struct Hold {
  char who = 0;
  std::int64_t token = 0;
  std::int64_t asked = 0;  // BootNanoseconds; 0: not said
  std::int64_t enter = 0;
  std::int64_t leave = 0;
};

struct LockHistory {
  std::vector<Hold> holds;  // in the file's order
  std::vector<std::string>
      together;  // where two were inside at once, by the order in the file or by the clock
  std::vector<std::string> unordered;  // where a token did not rise
  std::vector<std::string> broken;     // what makes no sense otherwise
  // From one's leaving to the coming of another who had asked before that.
  std::vector<absl::Duration> hand_overs;
  // From asking to coming.
  std::vector<absl::Duration> waits;
  // In how many of those nobody else came in twice, which in a queue can only be who asked between
  // the writing down of "ask" and its arrival at the server.
  std::size_t in_turn = 0;
};

LockHistory ReadLockHistory(const std::vector<Entry>& log);

}  // namespace coord::tools

#endif  // COORD_TOOLS_LOCK_HISTORY_H_
