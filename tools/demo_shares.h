// What the scenes about counting have in common: a crew whose members all do the same once, and
// what they did together.
#ifndef COORD_TOOLS_DEMO_SHARES_H_
#define COORD_TOOLS_DEMO_SHARES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "tools/demo_crew.h"

namespace coord::tools {

// Starts one worker a letter, lets all go at one moment, and waits for their ends.
absl::Status RunCrew(Crew& crew, const std::string& letters, std::string_view role,
                     const std::vector<std::string>& arguments);

// "A 7, B 6": one number of each worker's line, and their sum.
struct Shares {
  std::string text;
  std::int64_t sum = 0;
  int workers = 0;
};

// Of the lines with `event`, by their number at the place `number`.
Shares Sum(const std::vector<Entry>& log, std::string_view event, std::size_t number);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_SHARES_H_
