// Stampedes: many callers in many processes want a key that nobody has made yet.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "bench/contenders.h"
#include "bench/machine.h"
#include "bench/targets.h"
#include "cache/cache.h"
#include "cache/redis_backend.h"
#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr int kProcesses = 8, kCallers = 25;
constexpr int kMostRounds = 16;
constexpr std::chrono::milliseconds kFactory{200};
constexpr std::chrono::seconds kGiveUp{60};

// What the processes see of each other; times as Nanoseconds() has them.
struct Stage {
  struct Round {
    std::atomic<std::int64_t> begin{0};  // 0: not yet
    std::atomic<std::int64_t> last{0};   // when the last caller had the value
    std::atomic<std::int64_t> factory{0};
    std::atomic<int> runs{0};
    std::atomic<int> right{0};
  };
  std::atomic<int> connected{0};
  std::array<Round, kMostRounds> rounds;
};

template <typename Predicate>
bool Eventually(Predicate predicate) {
  const auto until = std::chrono::steady_clock::now() + kGiveUp;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void Ask(const Cache& cache, const std::string& key, Stage::Round& round) {
  ComputeOptions options;
  options.across_processes = true;
  std::this_thread::sleep_for(std::chrono::nanoseconds(round.begin - Nanoseconds()));
  const auto made = cache.GetOrCompute(
      key,
      [&round] {
        ++round.runs;
        const std::int64_t began = Nanoseconds();
        std::this_thread::sleep_for(kFactory);
        round.factory = Nanoseconds() - began;
        return std::string(200, 'v');
      },
      options);
  const std::int64_t now = Nanoseconds();
  for (std::int64_t last = round.last;
       last < now && !round.last.compare_exchange_weak(last, now);) {
  }
  if (made.ok() && made->hit()) ++round.right;
}

// One process: in each round as many threads as there are callers.
int Storm(const std::string& url, Stage& stage, int rounds) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) return 1;
  const Cache cache(std::make_shared<RedisBackend>(*std::move(client)));
  ++stage.connected;
  for (int i = 0; i < rounds; ++i) {
    Stage::Round& round = stage.rounds[static_cast<std::size_t>(i)];
    if (!Eventually([&] { return round.begin != 0; })) return 1;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller) {
      callers.emplace_back([&] { Ask(cache, StrCat("stampede:", i), round); });
    }
    for (std::thread& caller : callers) caller.join();
  }
  return 0;
}

}  // namespace

void MeasureCompute(Run& run) {
  const std::string factor = "compute.stampede.factor", runs = "compute.stampede.runs";
  if (!run.report.Wants(factor) && !run.report.Wants(runs)) return;
  const Mode mode = Mode::kAny;
  // The first round connects and subscribes, and does not count.
  const int rounds = std::min(run.effort.rounds + 1, kMostRounds);
  void* const memory =
      mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Fatal("mmap failed");
  Stage& stage = *new (memory) Stage();
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    if (child < 0) Fatal("fork failed");
    if (child == 0) _exit(Storm(run.server.url(), stage, rounds));
    children.push_back(child);
  }
  bool whole = Eventually([&] { return stage.connected == kProcesses; });
  std::vector<double> factors;
  int most_runs = 0;
  for (int i = 0; i < rounds && whole; ++i) {
    Stage::Round& round = stage.rounds[static_cast<std::size_t>(i)];
    // Time enough for all to have their threads.
    round.begin = Nanoseconds() + 100'000'000;
    whole = Eventually([&] { return round.right == kProcesses * kCallers; });
    most_runs = std::max(most_runs, round.runs.load());
    if (i == 0 || !whole) continue;
    factors.push_back(static_cast<double>(round.last - round.begin) /
                      static_cast<double>(round.factory));
  }
  for (const pid_t child : children) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) whole = false;
  }
  munmap(memory, sizeof(Stage));
  if (!whole) Fatal("a stampede did not come to its end");
  char line[200];
  std::snprintf(line, sizeof(line),
                "%d callers in %d processes; the last has the value after %.3f to %.3f of the "
                "factory's %d ms; at most %d runs a round",
                kProcesses * kCallers, kProcesses, Quantile(factors, 0), Quantile(factors, 1),
                static_cast<int>(kFactory.count()), most_runs);
  if (run.report.Wants(factor)) {
    run.report.Add(factor, mode, Median(factors), Bound::AtMost(1.2), line, {{"factors", factors}});
  }
  if (run.report.Wants(runs)) {
    run.report.Add(runs, mode, most_runs, Bound::AtMost(1), line, {{"rounds", rounds}});
  }
}

}  // namespace coord::bench
