// The scenes of `coord demo` about the lock.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coord/mutex.h"
#include "tools/demo.h"
#include "tools/duration_text.h"
#include "tools/lock_history.h"
#include "tools/server_facts.h"

namespace coord::tools {
namespace {

constexpr char kCrew[] = "ABCDEFGH";
constexpr absl::Duration kTurnsFor = absl::Milliseconds(1500);
// Longer than the ttl, so that it is seen to be renewed.
constexpr absl::Duration kHeldBeforeKill = absl::Milliseconds(1700);
// Waiting asks every 500 ms here; the rest is for a machine that is busy with other things.
constexpr absl::Duration kTakesOverWithin = absl::Seconds(3);
// The server counts the ttl in whole milliseconds.
constexpr absl::Duration kRounding = absl::Milliseconds(2);

std::string FirstOf(const std::vector<std::string>& faults) {
  if (faults.empty()) return "";
  return absl::StrFormat("%d times, first: %s", faults.size(), faults[0]);
}

// The only one of that process; what it did not write is 0.
Hold VisitOf(char who, const std::vector<Entry>& log) {
  Hold visit;
  visit.who = who;
  for (const Entry& entry : log) {
    if (entry.who != who || entry.numbers.empty()) continue;
    if (entry.event == "enter") {
      visit.token = entry.numbers[0];
      visit.enter = entry.at;
    } else if (entry.event == "leave") {
      visit.leave = entry.at;
    }
  }
  return visit;
}

// Waits until so many stand in the queue of that lock.
absl::Status AwaitQueue(Crew& crew, const Mutex& mutex, std::size_t count) {
  return crew.Await("a process in the queue", [&]() -> absl::StatusOr<bool> {
    const absl::StatusOr<LockHolder> holder = mutex.Holder();
    if (!holder.ok()) return holder.status();
    return holder->waiters.size() >= count;
  });
}

void ReportTimes(const LockHistory& history, DemoReport& report) {
  const auto hand_overs = Summarize(history.hand_overs);
  const auto waits = Summarize(history.waits);
  if (!hand_overs || !waits) return;
  report.Line(
      absl::StrFormat("  from one's release to the next one's grant: p50 %s, p99 %s; the longest "
                      "wait %s",
                      Brief(hand_overs->p50), Brief(hand_overs->p99), Brief(waits->max)));
  report.Fact("hand_over_ms", {{"count", hand_overs->samples},
                               {"p50", absl::ToDoubleMilliseconds(hand_overs->p50)},
                               {"p99", absl::ToDoubleMilliseconds(hand_overs->p99)},
                               {"max", absl::ToDoubleMilliseconds(hand_overs->max)}});
  report.Fact("longest_wait_ms", absl::ToDoubleMilliseconds(waits->max));
}

// The queue is fair; a process that the machine keeps from asking is not in it, so this is said of
// most.
void CheckFairness(const LockHistory& history, DemoReport& report) {
  std::map<char, std::size_t> shares;
  for (const char who : std::string(kCrew)) shares[who] = 0;
  for (const Hold& hold : history.holds) ++shares[hold.who];
  const auto [least, most] =
      std::minmax_element(shares.begin(), shares.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; });
  const std::size_t held = history.holds.size();
  report.Line("  turns: " + absl::StrJoin(shares, ", ", [](std::string* out, const auto& share) {
                absl::StrAppendFormat(out, "%c %d", share.first, share.second);
              }));
  ReportTimes(history, report);
  report.Line();
  report.Check(least->second > 0 && 2 * least->second * shares.size() >= held,
               absl::StrFormat("held %d times, by each process at least %d times and at most %d",
                               held, least->second, most->second),
               absl::StrFormat("held %d times, by %c only %d times: less than half of its share",
                               held, least->first, least->second));
  const std::string in_turn = absl::StrFormat("in %d of %d waits nobody else came in twice",
                                              history.in_turn, history.waits.size());
  report.Check(4 * history.in_turn >= 3 * history.waits.size(),
               "first come, first served: " + in_turn, "not first come, first served: " + in_turn);
  report.Fact("held", held);
  report.Fact("in_turn", history.in_turn);
  for (const auto& [who, share] : shares) report.Fact(absl::StrFormat("held_by_%c", who), share);
}

}  // namespace

void CheckTurns(const LockHistory& history, DemoReport& report) {
  report.Check(history.unordered.empty(), "every token is larger than all before it",
               "tokens do not rise: " + FirstOf(history.unordered));
  report.Check(history.together.empty(),
               "never two inside at once, by the order in the file and by the clock",
               "two were inside at once: " + FirstOf(history.together));
  report.Check(history.broken.empty(), "whoever came in left, and still had the lock then",
               FirstOf(history.broken));
  if (history.holds.empty()) return;
  report.Fact("first_token", history.holds.front().token);
  report.Fact("last_token", history.holds.back().token);
}

absl::Status PlayLock(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("lock",
               "Eight processes want one lock for 1 ms, again and again. Who has it appends to a "
               "shared file when it came and went.");
  Crew crew(stage.place);
  for (const char letter : std::string(kCrew)) {
    absl::Status status = crew.Add(letter, "turns", {stage.Name("lock")});
    if (!status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  absl::Status status =
      SignalWatch::SleepUntil(BootNanoseconds() + absl::ToInt64Nanoseconds(kTurnsFor));
  if (!status.ok()) return status;
  crew.DismissAll();
  if (status = crew.Join(); !status.ok()) return status;
  const LockHistory history = ReadLockHistory(crew.Log());
  CheckFairness(history, report);
  CheckTurns(history, report);
  return absl::OkStatus();
}

absl::Status PlayKilledHolder(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("killed_holder",
               absl::StrFormat("A holder is killed while others queue. Its lease has a time to "
                               "live of %s, and ends by itself.",
                               Brief(kKilledTtl)));
  const std::string name = stage.Name("killed");
  const Mutex mutex(stage.client, name, {.ttl = kKilledTtl});
  Crew crew(stage.place);
  for (const auto& [letter, role] :
       {std::pair('A', "hold"), std::pair('B', "follow"), std::pair('C', "follow")}) {
    if (absl::Status status = crew.Add(letter, role, {name}); !status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go('A');
  if (absl::Status status = crew.Await('A', "enter"); !status.ok()) return status;
  crew.Go('B');
  if (absl::Status status = AwaitQueue(crew, mutex, 1); !status.ok()) return status;
  crew.Go('C');
  if (absl::Status status = AwaitQueue(crew, mutex, 2); !status.ok()) return status;
  const Hold a = VisitOf('A', crew.Log());
  absl::Status status =
      SignalWatch::SleepUntil(a.enter + absl::ToInt64Nanoseconds(kHeldBeforeKill));
  if (!status.ok()) return status;
  crew.Kill('A');
  const std::int64_t killed = BootNanoseconds();
  // What the dead one's lease has left, from the server itself; asked after the kill, so that no
  // renewal can come behind it.
  const std::string key = stage.client.options().prefix + "{" + name + "}:lease";
  const absl::StatusOr<Reply> left = stage.client.Command({"PTTL", key});
  if (!left.ok()) return left.status();
  if (status = crew.Join(); !status.ok()) return status;

  const Hold b = VisitOf('B', crew.Log());
  const Hold c = VisitOf('C', crew.Log());
  const absl::Duration had_left = absl::Milliseconds(left->integer());
  const absl::Duration waited = absl::Nanoseconds(b.enter - killed);
  report.Line(absl::StrFormat(
      "  A takes the lock with token %d and renews it; B waits, and C behind B", a.token));
  report.Line(absl::StrFormat("  A is killed (SIGKILL) after %s; its lease has %s left",
                              Brief(absl::Nanoseconds(killed - a.enter)), Brief(had_left)));
  report.Line(absl::StrFormat(
      "  B goes on %s after the kill, with token %d, and C %s after B, with token %d",
      Brief(waited), b.token, Brief(absl::Nanoseconds(c.enter - b.leave)), c.token));
  report.Line();
  report.Check(had_left > absl::ZeroDuration() && had_left <= kKilledTtl,
               "at its death A had the lock, for no longer than the time to live",
               absl::StrFormat("at its death A's lease had %d ms left", left->integer()));
  report.Check(waited >= had_left - kRounding, "B waited until A's lease was over",
               absl::StrFormat("B came in after %s, before A's lease was over", Brief(waited)));
  report.Check(waited <= had_left + kTakesOverWithin, "B went on soon after that",
               absl::StrFormat("B came in %s after A's lease was over", Brief(waited - had_left)));
  report.Check(
      c.enter >= b.leave && b.token > a.token && c.token > b.token,
      "C came in after B had left, and each token is larger than the one before",
      absl::StrFormat("B came in with token %d and C %s with %d, after A's %d", b.token,
                      c.enter < b.leave ? "before it had left" : "after it", c.token, a.token));
  report.Fact("lease_left_ms", absl::ToDoubleMilliseconds(had_left));
  report.Fact("waited_ms", absl::ToDoubleMilliseconds(waited));
  report.Fact("tokens", {a.token, b.token, c.token});
  return absl::OkStatus();
}

absl::Status PlayReaders(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("readers",
               "Three processes read under one lock. Then W wants to write, and D to "
               "read as well.");
  const std::string name = stage.Name("shared");
  const Mutex mutex(stage.client, name);
  Crew crew(stage.place);
  for (const char reader : {'A', 'B', 'C', 'D'}) {
    if (absl::Status status = crew.Add(reader, "read", {name}); !status.ok()) return status;
  }
  if (absl::Status status = crew.Add('W', "write", {name}); !status.ok()) return status;
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  for (const char reader : {'A', 'B', 'C'}) crew.Go(reader);
  if (absl::Status status = crew.Await("enter", 3); !status.ok()) return status;
  crew.Go('W');
  if (absl::Status status = AwaitQueue(crew, mutex, 1); !status.ok()) return status;
  crew.Go('D');
  if (absl::Status status = AwaitQueue(crew, mutex, 2); !status.ok()) return status;
  crew.DismissAll();
  if (absl::Status status = crew.Join(); !status.ok()) return status;

  const std::vector<Entry> log = crew.Log();
  const Hold w = VisitOf('W', log);
  const Hold d = VisitOf('D', log);
  std::set<std::int64_t> tokens;
  std::int64_t last_came = 0;
  std::int64_t first_left = std::numeric_limits<std::int64_t>::max();
  std::int64_t last_left = 0;
  for (const char reader : {'A', 'B', 'C'}) {
    const Hold hold = VisitOf(reader, log);
    tokens.insert(hold.token);
    last_came = std::max(last_came, hold.enter);
    first_left = std::min(first_left, hold.leave);
    last_left = std::max(last_left, hold.leave);
  }
  report.Line(absl::StrFormat("  A, B and C read with token %d; W waits, and D behind W",
                              *tokens.rbegin()));
  report.Line(absl::StrFormat("  when they have left W writes with token %d, then D reads with %d",
                              w.token, d.token));
  report.Line();
  report.Check(last_came < first_left && tokens.size() == 1,
               "A, B and C were inside together, with one token",
               absl::StrFormat("A, B and C were %sinside together, with %d tokens",
                               last_came < first_left ? "" : "not ", tokens.size()));
  report.Check(w.enter > last_left && d.enter >= w.leave, "W was alone, and D waited for it",
               "W was not alone: it was inside with a reader");
  report.Check(w.token > *tokens.rbegin() && d.token > w.token,
               "W's token is larger than theirs, and D's than W's",
               absl::StrFormat("W's token %d and D's %d do not rise above %d", w.token, d.token,
                               *tokens.rbegin()));
  report.Fact("tokens", {*tokens.rbegin(), w.token, d.token});
  return absl::OkStatus();
}

}  // namespace coord::tools
