// What the server pays for a lease with a fencing token, against a lock without one.
#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/hiredis_caller.h"
#include "bench/raw_pipeline.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

// The lock that every tutorial has.
constexpr std::string_view kPlainAcquire =
    "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])";
constexpr std::string_view kPlainRelease =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

// Deep pipelines, so that system calls are shared by many commands and what is left is the
// commands.
constexpr std::size_t kDepth = 128;
constexpr std::size_t kPairs = kDepth / 2;

struct Lock {
  std::string lease;
  std::string fence;
  std::string queue;
  std::string readers;
};

std::vector<Lock> MakeLocks(std::string_view who) {
  std::vector<Lock> locks;
  for (std::size_t i = 0; i < kPairs; ++i) {
    const std::string name = StrCat("coord:{", who, "-", i, "}:");
    locks.push_back({name + "lease", name + "fence", name + "queue", name + "readers"});
  }
  return locks;
}

// Server CPU time of one pair in microseconds, over a slice.
template <typename Batch>
double CpuOfPair(const RedisServer& server, std::chrono::nanoseconds length, const Batch& batch) {
  const auto end = std::chrono::steady_clock::now() + length;
  const std::chrono::nanoseconds before = server.CpuTime();
  std::size_t pairs = 0;
  do {
    if (!batch()) Fatal("a pipeline failed");
    pairs += kPairs;
  } while (std::chrono::steady_clock::now() < end);
  return static_cast<double>((server.CpuTime() - before).count()) / 1e3 /
         static_cast<double>(pairs);
}

}  // namespace

void MeasureServerCpu(Run& run) {
  const std::string id = "mutex.server_cpu";
  if (!run.report.Wants(id)) return;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());

  // Only for their SHA1.
  const Script acquire_script(kPlainAcquire);
  const Script release_script(kPlainRelease);
  const ScriptText acquire{"plain_acquire", acquire_script.text(), acquire_script.sha1(), false};
  const ScriptText release{"plain_release", release_script.text(), release_script.sha1(), false};

  RawPipeline pipeline(run.server.socket_path());
  for (const ScriptText* script : std::to_array<const ScriptText*>(
           {&acquire, &release, &internal::kMutexAcquire, &internal::kMutexRelease})) {
    pipeline.Load(*script);
  }
  CheapOwnerIds owners;
  const std::vector<Lock> plain = MakeLocks("them");
  const std::vector<Lock> fenced = MakeLocks("ours");
  const auto a = [&] {
    for (const Lock& lock : plain) {
      const std::string& owner = owners.Next();
      pipeline.Add(acquire, {lock.lease}, {owner, "10000"});
      pipeline.Add(release, {lock.lease}, {owner});
    }
    return pipeline.Run();
  };
  const auto b = [&] {
    for (const Lock& lock : fenced) {
      const std::string& owner = owners.Next();
      pipeline.Add(internal::kMutexAcquire, {lock.lease, lock.fence, lock.queue, lock.readers},
                   {owner, "10000", "t"});
      pipeline.Add(internal::kMutexRelease, {lock.lease, lock.fence, lock.queue, lock.readers},
                   {owner});
    }
    return pipeline.Run();
  };

  CpuOfPair(run.server, run.effort.slice, a);
  CpuOfPair(run.server, run.effort.slice, b);
  std::vector<double> of_a;
  std::vector<double> of_b;
  std::vector<double> ratios;
  for (int round = 0; round < run.effort.cpu_rounds; ++round) {
    const bool b_first = round % 2 == 1;
    if (b_first) of_b.push_back(CpuOfPair(run.server, run.effort.slice, b));
    of_a.push_back(CpuOfPair(run.server, run.effort.slice, a));
    if (!b_first) of_b.push_back(CpuOfPair(run.server, run.effort.slice, b));
    ratios.push_back(of_b.back() / of_a.back());
  }
  const double low = Quantile(ratios, 0);
  const double high = Quantile(ratios, 1);
  char line[160];
  std::snprintf(
      line, sizeof(line),
      "server CPU a pair: coord %.2f us; two plain scripts %.2f us; %zu rounds, ratio %.2f to %.2f",
      Median(of_b), Median(of_a), ratios.size(), low, high);
  run.report.Add(id, mode, Median(ratios), Bound::AtMost(1.75), line,
                 {{"a", {{"name", "two plain scripts"}, {"cpu_us", Median(of_a)}}},
                  {"b", {{"name", "coord"}, {"cpu_us", Median(of_b)}}},
                  {"rounds", ratios.size()},
                  {"ratio_min", low},
                  {"ratio_max", high}});
}

}  // namespace coord::bench
