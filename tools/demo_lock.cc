// The scenes of `coord demo` about the lock.
#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/demo.h"
#include "tools/duration_text.h"
#include "tools/lock_history.h"
#include "tools/server_facts.h"

namespace coord::tools {
namespace {

constexpr char kFighters[] = "ABCDE";
constexpr int kFightMilliseconds = 2500;
constexpr std::size_t kShown = 6;
constexpr int kColumns = 80;
// Longer than the ttl, so that it is seen to be renewed.
constexpr absl::Duration kHeldBeforeKill = absl::Milliseconds(1200);
// Waiting polls every 100 ms at most; the rest is for a machine that is busy with other things.
constexpr absl::Duration kTakesOverWithin = absl::Seconds(2);
// The server counts the ttl in whole milliseconds.
constexpr absl::Duration kRounding = absl::Milliseconds(2);

void ShowHolds(const std::vector<Hold>& holds, DemoReport& report) {
  if (holds.empty()) return;
  const std::int64_t start = holds.front().enter;
  for (const std::string& row : DrawTimeline(holds, kFighters, kColumns)) report.Line("  " + row);
  const std::string end = Brief(absl::Nanoseconds(holds.back().leave - start));
  report.Line(absl::StrFormat("     0 s%*s", kColumns - 4, end));
  report.Line();
  report.Line("  who  came in at   token              stayed    after the one before left");
  for (std::size_t i = 0; i < std::min(kShown, holds.size()); ++i) {
    const Hold& hold = holds[i];
    const std::string gap =
        i == 0 ? "-" : Brief(absl::Nanoseconds(hold.enter - holds[i - 1].leave));
    report.Line(absl::StrFormat("  %c    %-11s  %-17d  %-8s  %s", hold.who,
                                Brief(absl::Nanoseconds(hold.enter - start)), hold.token,
                                Brief(absl::Nanoseconds(hold.leave - hold.enter)), gap));
  }
  if (holds.size() > kShown) {
    report.Line(absl::StrFormat("  ... and %d times more", holds.size() - kShown));
  }
  report.Line();
}

std::string FirstOf(const std::vector<std::string>& faults) {
  if (faults.empty()) return "";
  return absl::StrFormat("%d times, first: %s", faults.size(), faults[0]);
}

}  // namespace

absl::Status PlayLock(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene(
      "lock",
      "Five processes want one lock. Who has it appends to a shared file when it came and went.");
  Crew crew(stage.place);
  for (const char letter : std::string(kFighters)) {
    absl::Status status =
        crew.Add(letter, "fight", {stage.Name("lock"), absl::StrFormat("%d", kFightMilliseconds)});
    if (!status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  if (absl::Status status = crew.Join(); !status.ok()) return status;

  const LockHistory history = ReadLockHistory(crew.Log());
  ShowHolds(history.holds, report);
  std::map<char, int> shares;
  for (const Hold& hold : history.holds) ++shares[hold.who];
  const std::string counts = absl::StrJoin(shares, ", ", [](std::string* out, const auto& share) {
    *out += absl::StrFormat("%c %d", share.first, share.second);
  });
  report.Check(shares.size() > 1,
               absl::StrFormat("held %d times: %s", history.holds.size(), counts),
               "fewer than two processes ever got the lock");
  report.Check(history.unordered.empty(), "every token is larger than all before it",
               "tokens do not rise: " + FirstOf(history.unordered));
  report.Check(history.together.empty(),
               "never two inside at once, by the order in the file and by the clock",
               "two were inside at once: " + FirstOf(history.together));
  report.Check(history.broken.empty(), "whoever came in left, and still had the lock then",
               FirstOf(history.broken));
  report.Fact("held", history.holds.size());
  if (!history.holds.empty()) {
    report.Fact("first_token", history.holds.front().token);
    report.Fact("last_token", history.holds.back().token);
  }
  if (const auto times = Summarize(history.hand_overs)) {
    report.Line(absl::StrFormat("  from one to another: half within %s, the slowest %s",
                                Brief(times->p50), Brief(times->max)));
    report.Fact("hand_over_ms", {{"p50", absl::ToDoubleMilliseconds(times->p50)},
                                 {"max", absl::ToDoubleMilliseconds(times->max)}});
  }
  return absl::OkStatus();
}

absl::Status PlayKilledHolder(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene(
      "killed_holder",
      absl::StrFormat("A holder is killed. Its lease has a time to live of %s, and ends by itself.",
                      Brief(kKilledTtl)));
  const std::string name = stage.Name("killed");
  Crew crew(stage.place);
  for (const auto& [letter, role] : {std::pair('A', "hold"), std::pair('B', "follow")}) {
    if (absl::Status status = crew.Add(letter, role, {name}); !status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go('A');
  if (absl::Status status = crew.Await('A', "enter"); !status.ok()) return status;
  crew.Go('B');
  if (absl::Status status = crew.Await('B', "ask"); !status.ok()) return status;
  const std::vector<Entry> before = crew.Log();
  const std::int64_t entered = before.front().at;
  const std::int64_t first_token = before.front().numbers.at(0);
  const std::int64_t kill_at = entered + absl::ToInt64Nanoseconds(kHeldBeforeKill);
  while (BootNanoseconds() < kill_at) {
    if (SignalWatch::Caught() != 0) return absl::CancelledError("interrupted");
    poll(nullptr, 0, 5);
  }
  crew.Kill('A');
  const std::int64_t killed = BootNanoseconds();
  // What the dead one's lease has left, from the server itself; asked after the kill, so that no
  // renewal can come behind it.
  const std::string key = stage.client.options().prefix + "{" + name + "}:lease";
  const absl::StatusOr<Reply> left = stage.client.Command({"PTTL", key});
  if (!left.ok()) return left.status();
  if (absl::Status status = crew.Join('B'); !status.ok()) return status;

  std::int64_t next = 0;
  std::int64_t second_token = 0;
  for (const Entry& entry : crew.Log()) {
    if (entry.who != 'B' || entry.event != "enter" || entry.numbers.empty()) continue;
    next = entry.at;
    second_token = entry.numbers[0];
  }
  const absl::Duration had_left = absl::Milliseconds(left->integer());
  const absl::Duration waited = absl::Nanoseconds(next - killed);
  report.Line(
      absl::StrFormat("  A takes the lock with token %d and renews it; B waits", first_token));
  report.Line(absl::StrFormat("  A is killed (SIGKILL) after %s, longer than the time to live",
                              Brief(absl::Nanoseconds(killed - entered))));
  report.Line(absl::StrFormat("  its lease has %s left", Brief(had_left)));
  report.Line(
      absl::StrFormat("  B goes on %s after the kill, with token %d", Brief(waited), second_token));
  report.Line();
  report.Check(had_left > absl::ZeroDuration() && had_left <= kKilledTtl,
               "at its death A had the lock, for no longer than the time to live",
               absl::StrFormat("at its death A's lease had %d ms left", left->integer()));
  report.Check(waited >= had_left - kRounding, "B waited until A's lease was over",
               absl::StrFormat("B came in after %s, before A's lease was over", Brief(waited)));
  report.Check(waited <= had_left + kTakesOverWithin, "B went on soon after that",
               absl::StrFormat("B came in %s after A's lease was over", Brief(waited - had_left)));
  report.Check(
      second_token > first_token, "B's token is larger than A's",
      absl::StrFormat("B's token %d is not larger than A's, %d", second_token, first_token));
  report.Fact("lease_left_ms", absl::ToDoubleMilliseconds(had_left));
  report.Fact("waited_ms", absl::ToDoubleMilliseconds(waited));
  report.Fact("tokens", {first_token, second_token});
  return absl::OkStatus();
}

}  // namespace coord::tools
