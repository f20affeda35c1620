#include "tools/lock_history.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/str_format.h"

namespace coord::tools {

LockHistory ReadLockHistory(const std::vector<Entry>& log) {
  LockHistory history;
  std::optional<Hold> inside;
  std::int64_t last_token = 0;
  std::map<char, std::int64_t> asked;
  for (const Entry& entry : log) {
    if (entry.event == "ask") asked[entry.who] = entry.at;
    if (entry.event == "lost") {
      history.broken.push_back(absl::StrFormat("%c lost the lock inside", entry.who));
    }
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
      inside = Hold{entry.who, token, asked[entry.who], entry.at, 0};
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
  for (std::size_t i = 0; i < by_time.size(); ++i) {
    if (by_time[i].asked == 0) continue;
    history.waits.push_back(absl::Nanoseconds(by_time[i].enter - by_time[i].asked));
    std::set<char> came;
    bool in_turn = true;
    for (std::size_t j = i; j-- > 0 && by_time[j].enter > by_time[i].asked;) {
      in_turn = came.insert(by_time[j].who).second && in_turn;
    }
    if (in_turn) ++history.in_turn;
  }
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
    if (after.who != before.who && after.asked < before.leave) {
      history.hand_overs.push_back(absl::Nanoseconds(after.enter - before.leave));
    }
  }
  return history;
}

}  // namespace coord::tools
