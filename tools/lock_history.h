// What a file says in which the holders of a lock wrote when they came and went: who held it when,
// and whether they were alone. Pure.
#ifndef COORD_TOOLS_LOCK_HISTORY_H_
#define COORD_TOOLS_LOCK_HISTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/demo_crew.h"

namespace coord::tools {

struct Hold {
  char who = 0;
  std::int64_t token = 0;
  std::int64_t enter = 0;  // BootNanoseconds
  std::int64_t leave = 0;
};

struct LockHistory {
  std::vector<Hold> holds;  // in the file's order
  std::vector<std::string>
      together;  // where two were inside at once, by the order in the file or by the clock
  std::vector<std::string> unordered;  // where a token did not rise
  std::vector<std::string> broken;     // what makes no sense otherwise
  // From one's leaving to another's coming.
  std::vector<absl::Duration> hand_overs;
};

LockHistory ReadLockHistory(const std::vector<Entry>& log);

// One row a holder, one column a slice of time, marked for who had the lock for the most of it.
std::vector<std::string> DrawTimeline(const std::vector<Hold>& holds, const std::string& holders,
                                      int columns);

}  // namespace coord::tools

#endif  // COORD_TOOLS_LOCK_HISTORY_H_
