#include "tools/demo_cache.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "cache/cache.h"
#include "cache/redis_backend.h"
#include "tools/demo_crew.h"
#include "tools/demo_shares.h"
#include "tools/duration_text.h"

namespace coord::tools {
namespace {

constexpr absl::Duration kMaking = absl::Milliseconds(250);
constexpr absl::Duration kFresh = absl::Milliseconds(150);
constexpr char kStampede[] = "report";
constexpr char kStale[] = "rates";

Cache OpenCache(const Client& client) {
  return Cache(std::make_shared<RedisBackend>(client), {.ttl_jitter = 0});
}

}  // namespace

absl::Status AskTogether(const Client& client, const WorkerTask& task, const Post& post) {
  const Cache cache = OpenCache(client);
  const std::int64_t start = BootNanoseconds();
  const absl::StatusOr<Lookup<std::int64_t>> found =
      cache.GetOrCompute(task.name,
                         [&post]() -> std::int64_t {
                           post.Log("made");
                           timespec left = absl::ToTimespec(kMaking);
                           while (nanosleep(&left, &left) != 0) {
                           }
                           return BootNanoseconds();
                         },
                         {.ttl = kKeysLive, .across_processes = true});
  if (!found.ok()) return found.status();
  post.Log("got", {found->value_or(0), BootNanoseconds() - start});
  return absl::OkStatus();
}

absl::Status AskSource(const Client& client, const WorkerTask& task, const Post& post) {
  const Cache cache = OpenCache(client);
  const absl::StatusOr<Lookup<std::int64_t>> found =
      cache.GetOrCompute(task.name,
                         [&]() -> absl::StatusOr<std::int64_t> {
                           post.Log("asked");
                           if (task.number == 0)
                             return absl::UnavailableError("the source is down");
                           return task.number;
                         },
                         // Only the first value is to be stale soon.
                         {.ttl = task.number == 1 ? kFresh : kKeysLive,
                          .stale_for = kKeysLive,
                          .across_processes = true});
  if (!found.ok()) return found.status();
  post.Log("got", {found->value_or(0), found->stale() ? 1 : 0});
  return absl::OkStatus();
}

absl::Status PlayStampede(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("stampede",
               absl::StrFormat("Eight processes want the same value at one moment. It is not "
                               "cached, and making it takes %s.",
                               Brief(kMaking)));
  Crew crew(stage.place);
  if (absl::Status status = RunCrew(crew, "ABCDEFGH", "ask-together", {stage.Name(kStampede)});
      !status.ok()) {
    return status;
  }
  std::int64_t made = 0, got = 0, longest = 0;
  std::set<std::int64_t> values;
  for (const Entry& entry : crew.Log()) {
    if (entry.event == "made") ++made;
    if (entry.event != "got") continue;
    ++got;
    values.insert(entry.numbers.at(0));
    longest = std::max(longest, entry.numbers.at(1));
  }
  report.Line(
      absl::StrFormat("  the last of them had it after %s", Brief(absl::Nanoseconds(longest))));
  report.Line();
  report.Check(made == 1, "one of them made it, once",
               absl::StrFormat("it was made %d times; it must be once", made));
  report.Check(got == 8 && values.size() == 1, "all eight have the same value",
               absl::StrFormat("%d have a value, of %d different ones", got, values.size()));
  report.Fact("made", made);
  report.Fact("longest_ms", longest / 1'000'000);
  return absl::OkStatus();
}

absl::Status PlayStale(DemoStage& stage) {
  DemoReport& report = stage.report;
  report.Scene("stale",
               "A value was cached, and has expired. Its source is down when three processes want "
               "it, and is back when two more do.");
  // What each wants it with: the source's answer, 0 for none.
  struct Act {
    std::string letters;
    std::string answer;
  };
  std::vector<Entry> log;
  for (const Act& act : {Act{"A", "1"}, Act{"BCD", "0"}, Act{"E", "2"}, Act{"F", "3"}}) {
    Crew crew(stage.place);
    absl::Status status =
        RunCrew(crew, act.letters, "ask-source", {stage.Name(kStale), act.answer});
    if (!status.ok()) return status;
    const std::vector<Entry> more = crew.Log();
    log.insert(log.end(), more.begin(), more.end());
    if (act.letters != "A") continue;
    const absl::Duration left = kFresh + absl::Milliseconds(50);
    status = SignalWatch::SleepUntil(BootNanoseconds() + absl::ToInt64Nanoseconds(left));
    if (!status.ok()) return status;
  }
  const Shares values = Sum(log, "got", 0);
  const Shares stale = Sum(log, "got", 1);
  report.Line(absl::StrFormat("  values: %s", values.text));
  report.Line();
  report.Check(values.text.starts_with("A 1, B 1, C 1, D 1, ") &&
                   stale.text.starts_with("A 0, B 1, C 1, D 1, "),
               "B, C and D have the old value, and know that it is",
               absl::StrFormat("the values are %s and stale are %s", values.text, stale.text));
  const auto asked = [&log](char who) {
    return std::any_of(log.begin(), log.end(), [who](const Entry& entry) {
      return entry.who == who && entry.event == "asked";
    });
  };
  report.Check(values.text.ends_with("E 2, F 2") && stale.text.ends_with("E 0, F 0") &&
                   asked('E') && !asked('F'),
               "E has the new one as soon as the source is back, and F has it from the cache",
               absl::StrFormat("the values are %s and stale are %s", values.text, stale.text));
  report.Fact("values", values.text);
  return absl::OkStatus();
}

void AddRemovals(const DemoStage& stage, Pipeline& pipeline) {
  const std::string& prefix = stage.client.options().prefix;
  for (const char* const what : {kStampede, kStale}) {
    const std::string key = prefix + "cache:" + stage.Name(what);
    pipeline.Add({"DEL", key});
    for (const char* const part : {"queue", "lease", "fence", "readers"}) {
      pipeline.Add({"DEL", prefix + "{flight:" + key + "}:" + part});
    }
  }
}

}  // namespace coord::tools
