#include "tools/lock_history.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_format.h"

namespace coord::tools {

LockHistory ReadLockHistory(const std::vector<Entry>& log) {
  LockHistory history;
  std::optional<Hold> inside;
  std::int64_t last_token = 0;
  for (const Entry& entry : log) {
    if (entry.event != "enter" && entry.event != "leave") continue;
    const std::int64_t token = entry.numbers.empty() ? 0 : entry.numbers[0];
    if (entry.event == "enter") {
      if (inside) {
        history.together.push_back(
            absl::StrFormat("%c came in while %c was inside", entry.who, inside->who));
      }
      if (token <= last_token) {
        history.unordered.push_back(
            absl::StrFormat("%c's token %d comes after %d", entry.who, token, last_token));
      }
      last_token = token;
      inside = Hold{entry.who, token, entry.at, 0};
      continue;
    }
    if (!inside || inside->who != entry.who || inside->token != token) {
      history.broken.push_back(absl::StrFormat("%c left without being inside", entry.who));
      continue;
    }
    if (entry.numbers.size() > 1 && entry.numbers[1] == 0) {
      history.broken.push_back(absl::StrFormat("%c lost the lock inside", entry.who));
    }
    inside->leave = entry.at;
    history.holds.push_back(*inside);
    inside.reset();
  }
  if (inside) history.broken.push_back(absl::StrFormat("%c never left", inside->who));

  // The same by the clock that all processes share, whatever the file's order is.
  std::vector<Hold> by_time = history.holds;
  std::sort(by_time.begin(), by_time.end(),
            [](const Hold& a, const Hold& b) { return a.enter < b.enter; });
  for (std::size_t i = 1; i < by_time.size(); ++i) {
    const Hold& before = by_time[i - 1];
    const Hold& after = by_time[i];
    if (after.enter < before.leave) {
      history.together.push_back(absl::StrFormat("%c came in %d ns before %c left", after.who,
                                                 before.leave - after.enter, before.who));
    }
    if (after.token <= before.token) {
      history.unordered.push_back(
          absl::StrFormat("by the clock, %d comes after %d", after.token, before.token));
    }
    if (after.who != before.who) {
      history.hand_overs.push_back(absl::Nanoseconds(after.enter - before.leave));
    }
  }
  return history;
}

std::vector<std::string> DrawTimeline(const std::vector<Hold>& holds, const std::string& holders,
                                      int columns) {
  std::map<char, std::string> rows;
  for (const char who : holders) rows[who] = std::string(static_cast<std::size_t>(columns), ' ');
  if (!holds.empty()) {
    const std::int64_t start = holds.front().enter;
    const std::int64_t slice = (holds.back().leave - start) / columns + 1;
    for (int column = 0; column < columns; ++column) {
      const std::int64_t from = start + column * slice;
      const Hold* longest = nullptr;
      std::int64_t most = 0;
      for (const Hold& hold : holds) {
        const std::int64_t shared = std::min(hold.leave, from + slice) - std::max(hold.enter, from);
        if (shared > most) {
          most = shared;
          longest = &hold;
        }
      }
      if (longest != nullptr) rows[longest->who][static_cast<std::size_t>(column)] = '#';
    }
  }
  std::vector<std::string> lines;
  for (const auto& [who, row] : rows) lines.push_back(absl::StrFormat("%c |%s|", who, row));
  return lines;
}

}  // namespace coord::tools
