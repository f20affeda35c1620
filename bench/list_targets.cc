// Capped lists.
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "bench/machine.h"
#include "bench/server_cost.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

constexpr std::string_view kItem = "an event of some fifty bytes, as many lists have them";
constexpr std::string_view kCap = "100", kTtl = "600000";

// What a list is kept short with by hand.
const Script& TrimmingScript() {
  static const Script script(
      "redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], -tonumber(ARGV[2]), -1) "
      "return redis.call('PEXPIRE', KEYS[1], ARGV[3])");
  return script;
}

bool AppendTrimming(HiredisCaller& caller, const ScriptText& three, int i) {
  return caller.Append(three, {StrCat("trimmed-", i)}, {kItem, kCap, kTtl});
}

struct ListKeys {
  ListKeys(std::string_view kind, int i)
      : tag(StrCat("coord:{", kind, "-", i, "}:")),
        list(StrCat(tag, "list")),
        record(StrCat(tag, "seq")),
        times(StrCat(tag, "times")),
        followers(StrCat(tag, "followers")) {}
  std::string tag, list, record, times, followers;
};

bool AppendPush(HiredisCaller& caller, std::string_view kind, int i) {
  const ListKeys keys(kind, i);
  return caller.Append(internal::kListPush, {keys.list, keys.record, keys.followers},
                       {kCap, kTtl, kItem});
}

void MeasurePush(Run& run) {
  const ScriptText three = TextOf(TrimmingScript(), "three");
  const Side theirs = {"RPUSH, LTRIM and PEXPIRE", {&three}, [&](HiredisCaller& caller, int i) {
                         return AppendTrimming(caller, three, i);
                       }};
  Compare(run, "list.push.server_cpu", Bound::AtMost(1.25),
          {"a push with sequence and counts",
           {&internal::kListPush},
           [](HiredisCaller& caller, int i) { return AppendPush(caller, "p", i); }},
          theirs);
  Compare(run, "list.bare.server_cpu", Bound::AtMost(0.90),
          {"a push onto a plain key",
           {&internal::kListAdd},
           [](HiredisCaller& caller, int i) {
             return caller.Append(internal::kListAdd, {StrCat("bare-", i)}, {kCap, kTtl, kItem});
           }},
          theirs);
}

// One call for each list, and their replies.
void RunBatch(HiredisCaller& caller, const Append& append) {
  for (int i = 0; i < kDepth; ++i) {
    if (!append(caller, i)) Fatal("a batch cannot be sent");
  }
  if (!caller.Flush()) Fatal("a batch cannot be sent");
  for (int i = 0; i < kDepth; ++i) {
    if (caller.Receive() == nullptr) Fatal("a call of a batch failed");
  }
}

// A push onto a list for which somebody waits, each time anew: who waits is woken by one push, so
// that each list is waited for again before the next, which is not measured. The channel has a
// subscriber, who gets every message.
void MeasureWoken(Run& run) {
  constexpr std::string_view kId = "list.push.wake.server_cpu";
  if (!run.report.Wants(kId)) return;
  constexpr std::string_view kChannel = "coord:wake:0123456789abcdef0123456789abcdef";
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const ScriptText three = TextOf(TrimmingScript(), "three");
  HiredisCaller caller(run.server.socket_path());
  for (const ScriptText* script : {static_cast<const ScriptText*>(&internal::kListPush),
                                   static_cast<const ScriptText*>(&internal::kListRead), &three}) {
    caller.Load(*script);
  }
  HiredisCaller subscriber(run.server.socket_path());
  if (subscriber.Command({"SUBSCRIBE", kChannel}) == nullptr) Fatal("cannot subscribe");
  const Append push = [](HiredisCaller& to, int i) { return AppendPush(to, "w", i); };
  const Append trimming = [&](HiredisCaller& to, int i) { return AppendTrimming(to, three, i); };
  const Append wait = [&](HiredisCaller& to, int i) {
    const ListKeys keys("w", i);
    constexpr std::string_view kBeyondAll = "9007199254740992";
    return to.Append(internal::kListRead, {keys.list, keys.record, keys.times, keys.followers},
                     {kBeyondAll, "1", "f1 pushed", kChannel, "600000"});
  };
  const auto cpu_of = [&](const Append& append) {
    const std::chrono::nanoseconds before = run.server.CpuTime();
    RunBatch(caller, append);
    return static_cast<double>((run.server.CpuTime() - before).count()) / 1e3 / kDepth;
  };
  for (int i = 0; i < 110; ++i) {  // to the cap
    RunBatch(caller, push);
    RunBatch(caller, trimming);
  }
  std::vector<double> ours, theirs, ratios;
  for (int round = 0; round < run.effort.cpu_rounds; ++round) {
    std::vector<double> of_ours, of_theirs;
    const auto end = std::chrono::steady_clock::now() + 2 * run.effort.slice;
    do {
      RunBatch(caller, wait);
      of_ours.push_back(cpu_of(push));
      for (int i = 0; i < kDepth; ++i) {
        if (subscriber.Receive() == nullptr) Fatal("a follower was not woken");
      }
      RunBatch(caller, wait);  // so that both come after the same
      of_theirs.push_back(cpu_of(trimming));
    } while (std::chrono::steady_clock::now() < end);
    ours.push_back(Median(of_ours));
    theirs.push_back(Median(of_theirs));
    ratios.push_back(ours.back() / theirs.back());
  }
  char line[240];
  std::snprintf(line, sizeof(line),
                "server CPU a call: a push that wakes a subscriber %.2f us; RPUSH, LTRIM and "
                "PEXPIRE %.2f us; %zu rounds, ratio %.2f to %.2f",
                Median(ours), Median(theirs), ratios.size(), Quantile(ratios, 0),
                Quantile(ratios, 1));
  run.report.Add(kId, mode, Median(ratios), Bound::AtMost(1.45), line,
                 {{"ours_us", Median(ours)}, {"theirs_us", Median(theirs)}});
}

}  // namespace

void MeasureLists(Run& run) {
  MeasurePush(run);
  MeasureWoken(run);
}

}  // namespace coord::bench
