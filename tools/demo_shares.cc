#include "tools/demo_shares.h"

#include <map>

#include "absl/strings/str_format.h"

namespace coord::tools {

absl::Status RunCrew(Crew& crew, const std::string& letters, std::string_view role,
                     const std::vector<std::string>& arguments) {
  for (const char letter : letters) {
    if (absl::Status status = crew.Add(letter, role, arguments); !status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  for (const char letter : letters) {
    if (absl::Status status = crew.Join(letter); !status.ok()) return status;
  }
  return absl::OkStatus();
}

Shares Sum(const std::vector<Entry>& log, std::string_view event, std::size_t number) {
  std::map<char, std::int64_t> by_worker;
  for (const Entry& entry : log) {
    if (entry.event == event && entry.numbers.size() > number) {
      by_worker[entry.who] += entry.numbers[number];
    }
  }
  Shares shares;
  for (const auto& [who, value] : by_worker) {
    absl::StrAppendFormat(&shares.text, "%s%c %d", shares.text.empty() ? "" : ", ", who, value);
    shares.sum += value;
    ++shares.workers;
  }
  return shares;
}

}  // namespace coord::tools
