// The scenes of `coord demo` about the limiter, the list, the JSON document and the counter.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/str_format.h"
#include "coord/capped_list.h"
#include "coord/counter.h"
#include "coord/json_document.h"
#include "tools/demo.h"
#include "tools/demo_shares.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

constexpr char kEight[] = "ABCDEFGH";

}  // namespace

absl::Status PlayLimiter(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kTries = 50;
  constexpr std::int64_t kAll = kTries * 8;
  report.Scene("limiter",
               absl::StrFormat("Eight processes ask a rate limiter %d times each. It allows "
                               "%d at once, then one a minute.",
                               kTries, kBurst));
  const std::int64_t start = BootNanoseconds();
  Crew crew(stage.place);
  absl::Status status =
      RunCrew(crew, kEight, "take", {stage.Name("limit"), absl::StrFormat("%d", kTries)});
  if (!status.ok()) return status;
  const absl::Duration took = absl::Nanoseconds(BootNanoseconds() - start);
  const std::vector<Entry> log = crew.Log();
  const Shares allowed = Sum(log, "taken", 0);
  const std::int64_t tried = Sum(log, "taken", 1).sum;
  const std::int64_t refilled = took / kRefill;
  report.Line(absl::StrFormat("  allowed: %s", allowed.text));
  report.Line(absl::StrFormat("  in %s the passing of time has added %d", Brief(took), refilled));
  report.Line();
  report.Check(tried == kAll && allowed.sum == kBurst + refilled,
               absl::StrFormat("exactly %d of %d allowed", allowed.sum, tried),
               absl::StrFormat("%d of %d allowed; it must be %d of %d", allowed.sum, tried,
                               kBurst + refilled, kAll));
  report.Fact("allowed", allowed.sum);
  report.Fact("tried", tried);
  return absl::OkStatus();
}

absl::Status PlayList(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kEach = 200;
  constexpr std::int64_t kAll = kEach * 6;
  report.Scene("list",
               absl::StrFormat("Six processes push %d events each onto a list that keeps the "
                               "last %d. A seventh looks at it meanwhile.",
                               kEach, kListCap));
  const std::string name = stage.Name("events");
  Crew crew(stage.place);
  if (absl::Status status = crew.Add('O', "observe", {name}); !status.ok()) return status;
  if (absl::Status status = RunCrew(crew, "ABCDEF", "push", {name, absl::StrFormat("%d", kEach)});
      !status.ok()) {
    return status;
  }
  crew.Dismiss('O');
  if (absl::Status status = crew.Join(); !status.ok()) return status;

  const absl::StatusOr<std::vector<std::string>> items =
      CappedList(stage.client, name, {.max_items = kListCap}).Range();
  if (!items.ok()) return items.status();
  const std::vector<Entry> log = crew.Log();
  std::map<std::int64_t, std::string> by_sequence;
  std::int64_t longest = 0;
  for (const Entry& entry : log) {
    if (entry.event != "push" || entry.numbers.size() < 3) continue;
    by_sequence[entry.numbers[1]] = absl::StrFormat("event %d of %c", entry.numbers[0], entry.who);
    longest = std::max(longest, entry.numbers[2]);
  }
  std::vector<std::string> newest;
  for (auto it = by_sequence.rbegin(); it != by_sequence.rend() && newest.size() < kListCap; ++it) {
    newest.insert(newest.begin(), it->second);
  }
  const Shares looks = Sum(log, "seen", 0);
  const std::int64_t seen = Sum(log, "seen", 1).sum;
  report.Line("  at the end it has:");
  for (const std::string& item : *items) report.Line("    " + item);
  report.Line();
  report.Check(
      longest <= kListCap && seen <= kListCap && looks.sum > 0,
      absl::StrFormat("never more than %d: not in %d answers to a push, not in %d looks", kListCap,
                      kAll, looks.sum),
      absl::StrFormat("a push left %d in it, and %d looks saw up to %d; it must be at most %d",
                      longest, looks.sum, seen, kListCap));
  const bool all_there = static_cast<std::int64_t>(by_sequence.size()) == kAll &&
                         by_sequence.rbegin()->first - by_sequence.begin()->first == kAll - 1;
  report.Check(all_there, absl::StrFormat("all %d pushes numbered, without a gap", kAll),
               absl::StrFormat("%d pushes have %d different numbers", kAll, by_sequence.size()));
  report.Check(*items == newest, absl::StrFormat("what it has are the %d pushed last", kListCap),
               "what it has are not the ones pushed last");
  report.Fact("pushed", by_sequence.size());
  report.Fact("looks", looks.sum);
  report.Fact("longest", std::max(longest, seen));
  return absl::OkStatus();
}

absl::Status PlayJson(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene(
      "json",
      "Eight processes want the same job, a JSON document, and each takes it only if it is "
      "still queued.");
  // What other programs would round, reformat or reorder.
  const std::string before =
      R"({"job":"nightly-report", "status":"queued", "big":9007199254740993, "ratio":1.0,)"
      R"( "steps":[], "owner":null})";
  const JsonDocument job(stage.client, stage.Name("job"));
  if (absl::Status status = job.Set(before, {.ttl = kKeysLive}); !status.ok()) return status;
  Crew crew(stage.place);
  if (absl::Status status = RunCrew(crew, kEight, "claim", {stage.Name("job")}); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::optional<std::string>> after = job.Get();
  if (!after.ok()) return after.status();

  const std::vector<Entry> log = crew.Log();
  const Shares won = Sum(log, "claim", 0);
  const Shares refused = Sum(log, "claim", 1);
  std::string winner = "nobody";
  for (const Entry& entry : log) {
    if (entry.event == "claim" && entry.numbers.at(0) == 1) winner = std::string(1, entry.who);
  }
  std::string expected = before;
  const auto replace = [&expected](const std::string& from, const std::string& to) {
    expected.replace(expected.find(from), from.size(), to);
  };
  replace(R"("queued")", R"("running")");
  replace(R"("owner":null)", absl::StrFormat(R"("owner":"%s")", winner));
  report.Line("  before  " + before);
  report.Line("  after   " + after->value_or("(nothing)"));
  report.Line();
  report.Check(won.sum == 1 && won.workers == 8, absl::StrFormat("exactly one got it: %s", winner),
               absl::StrFormat("%d of %d got it", won.sum, won.workers));
  report.Check(refused.sum == 7, "the other seven were told that it is running",
               absl::StrFormat("%d were told that it is running; it must be 7", refused.sum));
  report.Check(*after == expected, "not a byte differs but for what was set",
               "the document must be " + expected);
  report.Fact("winners", won.sum);
  report.Fact("document", after->value_or(""));
  return absl::OkStatus();
}

absl::Status PlayCounter(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kEach = 500;
  constexpr std::int64_t kAll = kEach * 8;
  report.Scene("counter",
               absl::StrFormat("Eight processes add 1 to a counter, %d times each.", kEach));
  Crew crew(stage.place);
  if (absl::Status status =
          RunCrew(crew, kEight, "count", {stage.Name("visits"), absl::StrFormat("%d", kEach)});
      !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::int64_t> total = Counter(stage.client, stage.Name("visits")).Get();
  if (!total.ok()) return total.status();
  const std::vector<Entry> log = crew.Log();
  std::int64_t highest = 0;
  for (const Entry& entry : log) {
    if (entry.event != "counted" || entry.numbers.size() < 2) continue;
    highest = std::max(highest, entry.numbers[1]);
  }
  report.Line("  their last answers: " + Sum(log, "counted", 1).text);
  report.Line();
  report.Check(*total == kAll && highest == kAll && Sum(log, "counted", 0).sum == kAll,
               absl::StrFormat("the total is exactly %d", *total),
               absl::StrFormat("the total is %d and the highest answer %d; both must be %d", *total,
                               highest, kAll));
  report.Fact("total", *total);
  return absl::OkStatus();
}

}  // namespace coord::tools
