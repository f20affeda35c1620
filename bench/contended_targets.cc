// Many who want the same lock: processes of their own, as on many hosts, and threads of one
// process.
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/command_stats.h"
#include "bench/contenders.h"
#include "bench/hiredis_caller.h"
#include "bench/raw_pipeline.h"
#include "bench/targets.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/script.h"
#include "scripts.h"

extern char** environ;

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr int kClients = 8;
constexpr int kSectionMicroseconds = 1000;
constexpr int kRounds = 7;

std::vector<Turn> RunProcesses(const Run& run, int clients, int section, double seconds,
                               const std::string& name, std::function<void()> warm = {}) {
  return RunCrowd({.url = run.server.url(),
                   .directory = run.server.directory(),
                   .name = name,
                   .size = clients,
                   .section_us = section,
                   .warm = std::move(warm)},
                  seconds);
}

// What one question and its answer take, measured in the same run.
double RoundTripMicroseconds(const Run& run) {
  HiredisCaller caller(run.server.socket_path());
  std::vector<double> times;
  for (int i = 0; i < 500; ++i) {
    const std::int64_t begin = Nanoseconds();
    if (caller.Command({"GET", "nothing"}) == nullptr) Fatal("GET failed");
    times.push_back(static_cast<double>(Nanoseconds() - begin) / 1e3);
    // As far apart as hand-offs are: a server just asked is still awake.
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  return Median(times);
}

double Seconds(const Run& run) {
  return std::chrono::duration<double>(run.effort.slice * run.effort.rounds).count();
}

void MeasureProcesses(Run& run) {
  const std::string hand_off = "contended.p8.hand_off_vs_rtt";
  const std::string shares = "contended.p8.shares";
  const std::string longest = "contended.p8.longest_wait";
  if (!run.report.Wants(hand_off) && !run.report.Wants(shares) && !run.report.Wants(longest)) {
    return;
  }
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const double seconds = Seconds(run) / kRounds;
  std::vector<double> ratios, p50s, p99s, round_trips, longest_waits;
  std::size_t acquisitions = 0;
  double least = 0, most = 0;
  for (int round = 0; round < kRounds; ++round) {
    round_trips.push_back(RoundTripMicroseconds(run));
    const Outcome outcome = Judge(
        RunProcesses(run, kClients, kSectionMicroseconds, seconds, "contended"), kClients, seconds);
    p50s.push_back(outcome.hand_off_p50_us);
    p99s.push_back(outcome.hand_off_p99_us);
    ratios.push_back(p50s.back() / round_trips.back());
    longest_waits.push_back(outcome.longest_wait_ms);
    acquisitions += outcome.acquisitions;
    least += outcome.least_share;
    most += outcome.largest_share;
  }
  const auto [lowest, highest] = std::minmax_element(ratios.begin(), ratios.end());
  char line[240];
  std::snprintf(line, sizeof(line),
                "hand-off p50 %.0f, p99 %.0f us; hiredis' round trip p50 %.0f us; %zu "
                "acquisitions; %d rounds, ratio %.2f to %.2f",
                Median(p50s), Median(p99s), Median(round_trips), acquisitions, kRounds, *lowest,
                *highest);
  if (run.report.Wants(hand_off)) {
    run.report.Add(hand_off, mode, Median(ratios), Bound::AtMost(1.5), line,
                   {{"p50_us", p50s}, {"p99_us", p99s}, {"hiredis_round_trip_us", round_trips}});
  }
  if (run.report.Wants(shares)) {
    std::snprintf(line, sizeof(line), "acquisitions of a process: %.0f to %.0f", least, most);
    run.report.Add(shares, mode, least / most, Bound::AtLeast(0.9), line,
                   {{"least", least}, {"most", most}});
  }
  if (run.report.Wants(longest)) {
    const double section_ms = kClients * kSectionMicroseconds / 1e3;
    std::snprintf(line, sizeof(line),
                  "the longest wait of a round was %.1f ms, of all rounds %.1f ms; clients x "
                  "section is %.1f ms",
                  Median(longest_waits),
                  *std::max_element(longest_waits.begin(), longest_waits.end()), section_ms);
    run.report.Add(longest, mode, Median(longest_waits) / section_ms, Bound::AtMost(1.5), line,
                   {{"longest_ms", longest_waits}});
  }
}

// Whether `words` can be started and ends with 0. Says nothing.
bool Succeeds(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  return error == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

// Locks that poll, of other libraries, in the place of ours. For the picture: the first of
// `interpreters` that has the library runs `script`.
void MeasurePeer(Run& run, const std::string& peer, const std::vector<std::string>& interpreters,
                 const std::string& script) {
  const std::string id = StrCat("contended.p8.peer.", peer);
  if (!run.report.Wants(id)) return;
  const std::string path = StrCat(COORD_PEERS "/", script);
  std::string interpreter;
  for (const std::string& candidate : interpreters) {
    if (interpreter.empty() && Succeeds({candidate, path, "--available"})) interpreter = candidate;
  }
  if (interpreter.empty()) return run.report.Skip(id, StrCat(peer, " is not installed"));
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const double round_trip = RoundTripMicroseconds(run);
  const double seconds = Seconds(run);
  const Outcome outcome = Judge(RunCrowd({.program = {interpreter, path},
                                          .url = run.server.url(),
                                          .directory = run.server.directory(),
                                          .name = StrCat("peer-", peer),
                                          .size = kClients,
                                          .section_us = kSectionMicroseconds},
                                         seconds),
                                kClients, seconds);
  char line[400];
  std::snprintf(
      line, sizeof(line),
      "hand-off p50 %.0f, p99 %.0f us; hiredis' round trip p50 %.0f us; %zu acquisitions\n"
      "    acquisitions of a process: %.0f to %.0f\n"
      "    the longest wait was %.1f ms; clients x section is %.1f ms",
      outcome.hand_off_p50_us, outcome.hand_off_p99_us, round_trip, outcome.acquisitions,
      outcome.least_share, outcome.largest_share, outcome.longest_wait_ms,
      kClients * kSectionMicroseconds / 1e3);
  run.report.Add(id, mode, outcome.hand_off_p50_us / round_trip, Bound(), line,
                 {{"p50_us", outcome.hand_off_p50_us},
                  {"p99_us", outcome.hand_off_p99_us},
                  {"hiredis_round_trip_us", round_trip},
                  {"least", outcome.least_share},
                  {"most", outcome.largest_share},
                  {"longest_ms", outcome.longest_wait_ms}});
}

// No polling storm: what the server runs for one acquisition, however many wait.
void MeasureCommands(Run& run, int clients) {
  const std::string id = StrCat("contended.commands.w", clients);
  if (!run.report.Wants(id)) return;
  ApplyMode(ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame, run.server.pid());
  HiredisCaller caller(run.server.socket_path());
  std::map<std::string, std::int64_t> before;
  const double seconds = 2;
  const std::vector<Turn> turns =
      RunProcesses(run, clients, kSectionMicroseconds, seconds, StrCat("crowd-", clients),
                   [&] { before = CommandCounts(caller); });
  const auto after = CommandCounts(caller);
  double all = 0, scripts = 0;
  for (const auto& [command, count] : after) {
    // Connecting is once a process.
    if (command.find("script") != std::string::npos || command.find("hello") != std::string::npos ||
        command.find("client") != std::string::npos || command.find("info") != std::string::npos ||
        command.find("subscribe") != std::string::npos) {
      continue;
    }
    const auto it = before.find(command);
    const double more = static_cast<double>(count - (it == before.end() ? 0 : it->second));
    all += more;
    if (command.find("eval") != std::string::npos) scripts += more;
  }
  const double acquisitions = static_cast<double>(turns.size());
  char line[160];
  std::snprintf(line, sizeof(line),
                "%.1f commands an acquisition, %.2f of them EVALSHA; %zu in %g s",
                all / acquisitions, scripts / acquisitions, turns.size(), seconds);
  run.report.Add(id, Mode::kPin, all / acquisitions, Bound::AtMost(18), line,
                 {{"evalsha", scripts / acquisitions}, {"acquisitions", turns.size()}});
}

void MeasureThreads(Run& run) {
  const std::string id = "contended.t8.vs_p8";
  if (!run.report.Wants(id)) return;
  constexpr int kCallers = 8;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const double seconds = 1;
  std::vector<double> ratios, of_processes, of_threads;
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(client.status().ToString());
  for (int round = 0; round < 3; ++round) {
    const Outcome processes =
        Judge(RunProcesses(run, kCallers, 0, seconds, "empty-p"), kCallers, seconds);
    const Mutex mutex(*client, "empty-t");
    const std::int64_t begin = Nanoseconds() + 10'000'000;
    std::vector<std::vector<Turn>> turns(kCallers);
    std::vector<std::thread> threads;
    for (int who = 0; who < kCallers; ++who) {
      threads.emplace_back([&, who] {
        turns[static_cast<std::size_t>(who)] =
            TakeTurns(mutex, begin, begin + static_cast<std::int64_t>(seconds * 1e9), 0, who);
      });
    }
    for (std::thread& thread : threads) thread.join();
    double sum = 0;
    for (const auto& own : turns) sum += static_cast<double>(own.size());
    of_processes.push_back(processes.per_second);
    of_threads.push_back(sum / seconds);
    ratios.push_back(of_threads.back() / of_processes.back());
  }
  char line[160];
  std::snprintf(line, sizeof(line),
                "empty section: 8 threads of a process %.0f/s, 8 processes %.0f/s",
                Median(of_threads), Median(of_processes));
  run.report.Add(id, mode, Median(ratios), Bound::AtLeast(1.5), line,
                 {{"threads_per_second", of_threads}, {"processes_per_second", of_processes}});
}

// A release that hands the lock on, by the length of the queue, against the plain pair of scripts.
void MeasureGrant(Run& run) {
  const std::string id = "contended.grant.server_cpu";
  if (!run.report.Wants(id)) return;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const Script plain_acquire("return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])");
  const Script plain_release(
      "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end "
      "return 0");
  const internal::ScriptText acquire{"plain_acquire", plain_acquire.text(), plain_acquire.sha1(),
                                     false};
  const internal::ScriptText release{"plain_release", plain_release.text(), plain_release.sha1(),
                                     false};
  RawPipeline pipeline(run.server.socket_path());
  pipeline.Load(acquire);
  pipeline.Load(release);
  pipeline.Load(internal::kMutexRelease);
  HiredisCaller caller(run.server.socket_path());
  constexpr int kLocks = 32;
  const auto owner = [](int i) { return StrCat(10'000'000 + i, "0123456789abcdef01234567@vm:1"); };
  const auto cpu = [&](int operations, const auto& batch) {
    const std::chrono::nanoseconds before = run.server.CpuTime();
    batch();
    return std::chrono::duration<double, std::micro>(run.server.CpuTime() - before).count() /
           operations;
  };
  std::map<int, std::vector<double>> pairs, grants, ratios;
  for (int round = 0; round < 5; ++round) {
    for (const int length : {8, 2000}) {
      // About as many grants either way, in one go: a server that has just done something else is
      // slower at first. The plain pairs have as many names, whose records come as far into its
      // caches.
      const int turns = length == 8 ? 7 : 200;
      const int locks = length == 8 ? 28 * kLocks : kLocks;
      pairs[length].push_back(cpu(locks * turns, [&] {
        for (int turn = 0; turn < turns; ++turn) {
          for (int i = 0; i < locks; ++i) {
            const std::string key = StrCat("coord:{plain-", i, "}:lease");
            pipeline.Add(acquire, {key}, {owner(turn), "10000"});
            pipeline.Add(release, {key}, {owner(turn)});
            if ((i + 1) % kLocks == 0 && !pipeline.Run()) Fatal("a plain pair failed");
          }
        }
      }));
      for (int i = 0; i < locks; ++i) {
        const std::string tag = StrCat("coord:{grant-", i, "}:");
        if (!caller.Command({"DEL", StrCat(tag, "queue"), StrCat(tag, "lease")})) Fatal("DEL");
        for (int j = 1; j <= length; ++j) {
          if (!caller.Command({"RPUSH", StrCat(tag, "queue"),
                               StrCat("9999999999999 1700000000000000 3000 w ", owner(j),
                                      " coord:wake:0123456789abcdef0123456789abcdef")})) {
            Fatal("RPUSH");
          }
        }
        if (!caller.Command({"SET", StrCat(tag, "lease"), StrCat("~", owner(0))})) Fatal("SET");
        if (!caller.Command(
                {"SET", StrCat(tag, "fence"), StrCat("~", absl::ToUnixMicros(absl::Now()))}))
          Fatal("SET");
      }
      const double each = cpu(locks * turns, [&] {
        for (int turn = 0; turn < turns; ++turn) {
          for (int i = 0; i < locks; ++i) {
            const std::string tag = StrCat("coord:{grant-", i, "}:");
            pipeline.Add(internal::kMutexRelease,
                         {StrCat(tag, "lease"), StrCat(tag, "fence"), StrCat(tag, "queue"),
                          StrCat(tag, "readers")},
                         {owner(turn)});
            if ((i + 1) % kLocks == 0 && !pipeline.Run()) Fatal("a granting release failed");
          }
        }
      });
      grants[length].push_back(each);
      ratios[length].push_back(each / pairs[length].back());
    }
  }
  char line[240];
  std::snprintf(
      line, sizeof(line),
      "server CPU: 8 wait for each of 896 locks: plain pair %.2f us, a release that grants "
      "%.2f us: %.2f; 2000 for each of 32: %.2f us, %.2f us: %.2f",
      Median(pairs[8]), Median(grants[8]), Median(ratios[8]), Median(pairs[2000]),
      Median(grants[2000]), Median(ratios[2000]));
  run.report.Add(id, mode, std::max(Median(ratios[8]), Median(ratios[2000])), Bound::AtMost(1.5),
                 line, {{"ratio_8", Median(ratios[8])}, {"ratio_2000", Median(ratios[2000])}});
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// What has been allocated, the allocator's own share included. Not the resident memory: that may be
// there already from what ran before.
double AllocatedKilobytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd) / 1024;
}

void MeasureRenewals(Run& run) {
  const std::string cpu_id = "renewal.10k.cpu_percent";
  const std::string memory_id = "renewal.10k.kb_each";
  const std::string late_id = "renewal.10k.lateness";
  if (!run.report.Wants(cpu_id) && !run.report.Wants(memory_id) && !run.report.Wants(late_id)) {
    return;
  }
  constexpr int kLocks = 10'000;
  const absl::Duration ttl = absl::Seconds(10);
  ApplyMode(Mode::kAny, run.server.pid());
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(client.status().ToString());
  std::vector<Lease> leases;
  leases.reserve(kLocks);
  const double kilobytes = AllocatedKilobytes();
  for (int i = 0; i < kLocks; ++i) {
    absl::StatusOr<Lease> lease = Mutex(*client, StrCat("many-", i), {.ttl = ttl}).TryAcquire();
    if (!lease.ok()) Fatal(lease.status().ToString());
    leases.push_back(*std::move(lease));
  }
  const double each = (AllocatedKilobytes() - kilobytes) / kLocks;
  const double cpu_before = CpuSeconds();
  const std::int64_t began = Nanoseconds();
  // Renewed at a third of the ttl, so two thirds of it are always left, but for how late that is.
  absl::Duration least = ttl;
  while (Nanoseconds() - began < 10'000'000'000) {
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    for (int i = 0; i < kLocks; i += 100) {
      least = std::min(least, leases[static_cast<std::size_t>(i)].remaining());
    }
  }
  const double seconds = static_cast<double>(Nanoseconds() - began) / 1e9;
  const double percent = 100 * (CpuSeconds() - cpu_before) / seconds;
  int valid = 0;
  for (const Lease& lease : leases) valid += lease.valid() ? 1 : 0;
  if (valid != kLocks) Fatal(StrCat("only ", valid, " leases are still valid"));
  const double drift = 0.01 * 10 + 0.002;
  const double late = 10.0 * 2 / 3 - drift - absl::ToDoubleSeconds(least);
  char line[160];
  std::snprintf(line, sizeof(line), "%d leases of 10 s, renewed for 10 s by one thread", kLocks);
  if (run.report.Wants(cpu_id)) {
    run.report.Add(cpu_id, Mode::kAny, percent, Bound::AtMost(10), line, {{"percent", percent}});
  }
  if (run.report.Wants(memory_id)) {
    run.report.Add(memory_id, Mode::kAny, each, Bound::AtMost(1), line, {{"kb", each}});
  }
  if (run.report.Wants(late_id)) {
    std::snprintf(line, sizeof(line), "renewed at most %.0f ms late; a tenth of ttl/3 is 333 ms",
                  1e3 * std::max(0.0, late));
    run.report.Add(late_id, Mode::kAny, std::max(0.0, late) / (10.0 / 3), Bound::AtMost(0.1), line,
                   {{"late_ms", 1e3 * late}});
  }
}

}  // namespace

void MeasureContended(Run& run) {
  MeasureProcesses(run);
  // Debian's packages are for its own Python, which need not be the first in the path.
  MeasurePeer(run, "redis_py", {"python3", "/usr/bin/python3"}, "redis_py_lock.py");
  MeasurePeer(run, "redlock", {"node"}, "redlock.js");
  MeasureCommands(run, 8);
  MeasureCommands(run, 64);
  MeasureThreads(run);
  MeasureGrant(run);
  MeasureRenewals(run);
}

}  // namespace coord::bench
