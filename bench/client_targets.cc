// What the client costs: memory of a process with many callers, and time of a whole `coord lock`.
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/child_program.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr int kCallers = 64;

// In a process of its own: this one's memory holds what the other benchmarks left.
void MeasureMemory(Run& run) {
  const std::string id = "client.rss_mb.t64";
  if (!run.report.Wants(id)) return;
  ApplyMode(Mode::kAny, run.server.pid());
  std::vector<double> megabytes;
  for (int round = 0; round < 3; ++round) {
    const std::string path = run.server.directory() + "/memory";
    const int code = RunProgram({"/proc/self/exe", "--memory-probe", run.server.url()}, path);
    double kilobytes = 0;
    if (code != 0 || !(std::ifstream(path) >> kilobytes)) Fatal("the memory probe failed");
    megabytes.push_back(kilobytes / 1024);
  }
  run.report.Add(id, Mode::kAny, Median(megabytes), Bound::AtMost(20),
                 StrCat("peak resident memory of a process, one client, ", kCallers,
                        " callers for a second; median of 3"),
                 {{"all_mb", megabytes}});
}

// An embedded server kept in a directory of its own; ended with this, if one was started there.
class EmbeddedServer {
 public:
  EmbeddedServer(std::string program, const std::string& directory)
      : program_(std::move(program)), url_("embedded://" + directory) {}
  ~EmbeddedServer() { RunProgram({program_, "--url", url_, "embedded", "stop"}); }
  EmbeddedServer(const EmbeddedServer&) = delete;
  EmbeddedServer& operator=(const EmbeddedServer&) = delete;

  // Whether `coord lock` ran `true` under the lock.
  bool RunLocked(const std::string& name) const {
    return RunProgram({program_, "--url", url_, "lock", name, "--", "true"}) == 0;
  }

 private:
  const std::string program_;
  const std::string url_;
};

void MeasureLockProcess(Run& run) {
  const std::string id = "lock_process_ms";
  if (!run.report.Wants(id)) return;
  if (!std::filesystem::exists(run.program)) {
    return run.report.Skip(id, "the coord program is not built (target coord_program)");
  }
  ApplyMode(Mode::kAny, run.server.pid());
  // Static, so that Fatal's exit() ends it too.
  static const EmbeddedServer server(run.program, run.server.directory() + "/embedded");
  if (!server.RunLocked("bench-start")) Fatal("coord lock does not work");
  std::vector<double> all;
  std::vector<double> alone;  // `true` without the lock: what any process costs here
  for (int i = 0; i < run.effort.processes; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (RunProgram({"/bin/true"}) != 0) Fatal("/bin/true failed");
    const auto middle = std::chrono::steady_clock::now();
    if (!server.RunLocked(StrCat("bench-", i))) Fatal("coord lock failed");
    const auto end = std::chrono::steady_clock::now();
    alone.push_back(std::chrono::duration<double, std::milli>(middle - begin).count());
    all.push_back(std::chrono::duration<double, std::milli>(end - middle).count());
  }
  char line[160];
  std::snprintf(line, sizeof(line),
                "whole process: p50 %.2f, p90 %.2f, max %.2f ms of %zu; `true` alone %.2f ms",
                Median(all), Quantile(all, 0.9), Quantile(all, 1), all.size(), Median(alone));
  run.report.Add(id, Mode::kAny, Median(all), Bound::AtMost(15), line,
                 {{"p90_ms", Quantile(all, 0.9)},
                  {"max_ms", Quantile(all, 1)},
                  {"processes", all.size()},
                  {"true_alone_ms", Median(alone)}});
}

// A call to a server that is given up: what a caller pays while the breaker is open.
void MeasureDownCall(Run& run) {
  const std::string id = "client.down_call_us";
  if (!run.report.Wants(id)) return;
  auto server = std::make_unique<RedisServer>();
  ApplyMode(Mode::kAny, server->pid());
  ClientOptions options;
  options.fail_fast_after = absl::Milliseconds(100);
  absl::StatusOr<Client> client = Client::Connect(server->url(), options);
  if (!client.ok()) Fatal(client.status().ToString());
  server.reset();
  const auto refused = [&] { return !client->Command({"PING"}).ok(); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (client->Health({.timeout = absl::Milliseconds(10)}).nodes.at(0).state !=
         NodeState::kDown) {
    if (!refused() || std::chrono::steady_clock::now() > end) Fatal("the server was not given up");
  }
  std::vector<double> all;
  for (int i = 0; i < 10'000; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (!refused()) Fatal("a call to a dead server has worked");
    const auto taken = std::chrono::steady_clock::now() - begin;
    all.push_back(std::chrono::duration<double, std::micro>(taken).count());
  }
  char line[160];
  std::snprintf(line, sizeof(line), "a refused PING: p50 %.2f, p99 %.2f, max %.0f us of %zu",
                Median(all), Quantile(all, 0.99), Quantile(all, 1), all.size());
  run.report.Add(
      id, Mode::kAny, Median(all), Bound::AtMost(10), line,
      {{"p99_us", Quantile(all, 0.99)}, {"max_us", Quantile(all, 1)}, {"calls", all.size()}});
}

}  // namespace

int RunMemoryProbe(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) Fatal(client.status().ToString());
  std::vector<Mutex> mutexes;
  mutexes.reserve(kCallers);
  for (int i = 0; i < kCallers; ++i) mutexes.emplace_back(*client, StrCat("memory-", i));
  // Without RunSlice: its record of times would count as the client's memory.
  {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    std::vector<std::jthread> threads;
    threads.reserve(mutexes.size());
    for (const Mutex& mutex : mutexes) {
      threads.emplace_back([&mutex, end] {
        while (std::chrono::steady_clock::now() < end) {
          absl::StatusOr<Lease> lease = mutex.TryAcquire();
          if (!lease.ok() || !lease->Release().ok()) _exit(1);
        }
      });
    }
  }
  std::printf("%lld\n", static_cast<long long>(PeakKilobytes()));
  return 0;
}

void MeasureClient(Run& run) {
  MeasureMemory(run);
  MeasureLockProcess(run);
  MeasureDownCall(run);
}

}  // namespace coord::bench
