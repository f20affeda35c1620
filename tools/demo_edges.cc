// The scenes of `coord demo` about what goes wrong: several limits at once, a reader who comes too
// late, an owner who is gone, connections that are cut.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "coord/capped_list.h"
#include "coord/counter.h"
#include "coord/json_document.h"
#include "coord/rate_limiter.h"
#include "tools/demo.h"
#include "tools/demo_shares.h"

namespace coord::tools {
namespace {

constexpr std::string_view kEight = "ABCDEFGH";

// Breaks all connections that are called so; how many there were.
absl::StatusOr<std::int64_t> Cut(const Client& client, const std::string& called) {
  const absl::StatusOr<Reply> list = client.Command({"CLIENT", "LIST"});
  if (!list.ok()) return list.status();
  std::int64_t cut = 0;
  std::istringstream lines(list->text());
  for (std::string line; std::getline(lines, line);) {
    // "id=7 addr=... name=... ..."
    if (line.find(" name=" + called + " ") == std::string::npos) continue;
    const std::string id = line.substr(3, line.find(' ') - 3);
    const absl::StatusOr<Reply> killed = client.Command({"CLIENT", "KILL", "ID", id});
    if (!killed.ok()) return killed.status();
    cut += killed->integer();
  }
  return cut;
}

}  // namespace

absl::Status PlayLimits(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kTries = 40;
  report.Scene("limits",
               absl::StrFormat("Eight processes must each keep two limits at once: %d of its own, "
                               "and %d that all share. It gets both or none.",
                               kOwnBurst, kBurst));
  const std::string name = stage.Name("both");
  const std::int64_t start = BootNanoseconds();
  Crew crew(stage.place);
  absl::Status status =
      RunCrew(crew, std::string(kEight), "take-both", {name, absl::StrFormat("%d", kTries)});
  if (!status.ok()) return status;
  const std::vector<Entry> log = crew.Log();
  const Shares allowed = Sum(log, "taken", 0);
  std::int64_t most = 0, untrue = 0;
  for (const Entry& entry : log) {
    if (entry.event != "taken") continue;
    most = std::max(most, entry.numbers.at(0));
    const RateLimiter own(stage.client, OwnLimit());
    const absl::StatusOr<RateDecision> left = own.Peek(OwnName(name, entry.who));
    if (!left.ok()) return left.status();
    // What would be left behind one more.
    if (left->remaining != kOwnBurst - entry.numbers.at(0) - 1) ++untrue;
  }
  const std::int64_t refilled = absl::Nanoseconds(BootNanoseconds() - start) / kRefill;
  report.Line(absl::StrFormat("  allowed: %s", allowed.text));
  report.Line();
  report.Check(allowed.sum == kBurst + refilled && most <= kOwnBurst + refilled,
               absl::StrFormat("exactly %d together, and nobody more than %d", allowed.sum, most),
               absl::StrFormat("%d together, one %d; it must be %d, and at most %d", allowed.sum,
                               most, kBurst + refilled, kOwnBurst + refilled));
  report.Check(untrue == 0 || refilled > 0, "what one limit denied was not taken of the other",
               absl::StrFormat("of %d processes the own limit is not what they have left", untrue));
  report.Fact("allowed", allowed.sum);
  return absl::OkStatus();
}

absl::Status PlayGap(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kBefore = 30, kLive = 6;
  report.Scene("gap", absl::StrFormat("A process has read the first of %d events, of which the "
                                      "list keeps %d, and follows on from there.",
                                      kBefore, kListCap));
  const std::string name = stage.Name("gap");
  const CappedList list(stage.client, name, {.max_items = kListCap, .ttl = kKeysLive});
  const absl::StatusOr<PushResult> first = list.Push("event 1");
  if (!first.ok()) return first.status();
  const std::vector<std::string_view> more(kBefore - 1, "event");
  if (auto pushed = list.Push(more); !pushed.ok()) return pushed.status();
  Crew crew(stage.place);
  absl::Status status = crew.Add('F', "tail", {name, absl::StrFormat("%d", first->sequence)});
  if (!status.ok()) return status;
  if (status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  if (status = crew.Await('F', "read"); !status.ok()) return status;
  for (std::int64_t i = 1; i <= kLive; ++i) {
    const absl::StatusOr<PushResult> pushed = list.Push(i < kLive ? "event" : "end");
    if (!pushed.ok()) return pushed.status();
  }
  if (status = crew.Join(); !status.ok()) return status;
  std::int64_t missed = 0, read = 0, jumps = 0;
  for (const Entry& entry : crew.Log()) {
    if (entry.event != "read") continue;
    missed += entry.numbers.at(0);
    read += entry.numbers.at(1);
    jumps += entry.numbers.at(2);
  }
  constexpr std::int64_t kMissed = kBefore - 1 - kListCap, kRead = kListCap + kLive;
  report.Check(
      missed == kMissed, absl::StrFormat("it was told that it had missed %d", missed),
      absl::StrFormat("it was told that it had missed %d; it must be %d", missed, kMissed));
  report.Check(read == kRead && jumps == 0,
               absl::StrFormat("it read the %d others in order, each once", read),
               absl::StrFormat("it read %d, with %d out of order; it must be %d and none", read,
                               jumps, kRead));
  report.Fact("missed", missed);
  report.Fact("read", read);
  return absl::OkStatus();
}

absl::Status PlayTakeover(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("takeover",
               "A job is claimed by a process that has not been heard of for long. Eight others "
               "take it over if it is free, or its claim is stale.");
  const std::string name = stage.Name("stale");
  const JsonDocument job(stage.client, name);
  const std::string before =
      absl::StrFormat(R"({"status":"running", "owner":"Z", "seen":%d})", kStaleBefore - 1);
  if (absl::Status status = job.Set(before, {.ttl = kKeysLive}); !status.ok()) return status;
  Crew crew(stage.place);
  if (absl::Status status = RunCrew(crew, std::string(kEight), "take-over", {name}); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::optional<std::string>> after = job.Get();
  if (!after.ok()) return after.status();
  const std::vector<Entry> log = crew.Log();
  const Shares won = Sum(log, "claim", 0);
  std::string winner = "nobody";
  for (const Entry& entry : log) {
    if (entry.event == "claim" && entry.numbers.at(0) == 1) winner = std::string(1, entry.who);
  }
  const std::string expected =
      absl::StrFormat(R"({"status":"running", "owner":"%s", "seen":%d})", winner, kStaleBefore + 1);
  report.Line("  before  " + before);
  report.Line("  after   " + after->value_or("(nothing)"));
  report.Line();
  report.Check(won.sum == 1 && won.workers == 8,
               absl::StrFormat("exactly one took it over: %s", winner),
               absl::StrFormat("%d of %d took it over", won.sum, won.workers));
  report.Check(*after == expected, "its fresh claim was left alone by the other seven",
               "the document must be " + expected);
  report.Fact("winners", won.sum);
  return absl::OkStatus();
}

absl::Status PlayCuts(DemoStage& stage) {
  DemoReport& report = stage.report;
  constexpr std::int64_t kCuts = 20;
  report.Scene("cuts",
               "Four processes add 1 to two counters in turn, one with operation ids, one without, "
               "while their connections are cut again and again.");
  const std::string name = stage.Name("cut");
  Crew crew(stage.place);
  for (const char letter : {'A', 'B', 'C', 'D'}) {
    if (absl::Status status = crew.Add(letter, "add-through", {name}); !status.ok()) return status;
  }
  if (absl::Status status = crew.Ready(); !status.ok()) return status;
  crew.Go();
  std::int64_t cuts = 0;
  absl::Status status = crew.Await("connections to cut", [&]() -> absl::StatusOr<bool> {
    const absl::StatusOr<std::int64_t> cut = Cut(stage.client, name);
    // A user who may not: then nothing breaks, and all the same nothing counts twice.
    if (absl::IsPermissionDenied(cut.status())) return true;
    if (!cut.ok()) return cut.status();
    cuts += *cut;
    return cuts >= kCuts;
  });
  if (!status.ok()) return status;
  crew.DismissAll();
  if (status = crew.Join(); !status.ok()) return status;
  const absl::StatusOr<std::int64_t> once = Counter(stage.client, name).Get();
  const absl::StatusOr<std::int64_t> plain = Counter(stage.client, name + "-plain").Get();
  if (!once.ok()) return once.status();
  if (!plain.ok()) return plain.status();
  const std::vector<Entry> log = crew.Log();
  const std::int64_t counted = Sum(log, "added", 0).sum, failed = Sum(log, "added", 1).sum;
  const std::int64_t known = Sum(log, "added", 2).sum, unknown = Sum(log, "added", 3).sum;
  report.Line(absl::StrFormat("  %d connections cut", cuts));
  report.Line();
  report.Check(*once == counted && failed == 0 && counted > 0,
               absl::StrFormat("with ids all %d additions counted exactly once", counted),
               absl::StrFormat("with ids %d additions counted as %d, and %d failed", counted, *once,
                               failed));
  report.Check(
      *plain >= known && *plain <= known + unknown,
      absl::StrFormat("without, %d counted for sure; %d were reported unknown, of which %d did",
                      known, unknown, *plain - known),
      absl::StrFormat("without ids %d counted; %d were promised, %d reported unknown", *plain,
                      known, unknown));
  report.Fact("cuts", cuts);
  report.Fact("total", *once);
  report.Fact("unknown", unknown);
  return absl::OkStatus();
}

}  // namespace coord::tools
