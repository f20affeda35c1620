#include "tests/support/readme_example.h"

#include <sstream>

namespace coord::testing {

std::string OnOneLine(std::string_view text) {
  std::string line;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) line += (line.empty() ? "" : " ") + word;
  return line;
}

std::string ClaimedOutput(const std::string& text) {
  std::string claimed;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (const std::size_t at = line.find("// -> "); at != std::string::npos) {
      claimed += line.substr(at + 6) + "\n";
    }
  }
  return OnOneLine(claimed);
}

}  // namespace coord::testing
