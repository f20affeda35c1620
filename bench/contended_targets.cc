// Many who want the same lock: processes of their own, as on many hosts, and threads of one
// process.
#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "bench/command_stats.h"
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

constexpr int kSectionMicroseconds = 1000;

std::int64_t Nanoseconds() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// One acquisition, as its process saw it; on the clock that all processes share.
struct Turn {
  std::int64_t asked, got, released;
  int who;
};

// ---- In a process of its own ----

void Section(int microseconds) {
  if (microseconds > 0) std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

std::vector<Turn> TakeTurns(const Mutex& mutex, std::int64_t begin, std::int64_t end, int section,
                            int who) {
  std::vector<Turn> turns;
  turns.reserve(1 << 16);
  while (Nanoseconds() < begin) std::this_thread::sleep_for(std::chrono::microseconds(200));
  while (true) {
    Turn turn{Nanoseconds(), 0, 0, who};
    if (turn.asked >= end) return turns;
    absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(20));
    if (!lease.ok()) Fatal(lease.status().ToString());
    turn.got = Nanoseconds();
    Section(section);
    turn.released = Nanoseconds();
    if (absl::Status status = lease->Release(); !status.ok()) Fatal(status.ToString());
    turns.push_back(turn);
  }
}

// ---- What came of it ----

struct Outcome {
  std::size_t acquisitions = 0;
  double per_second = 0;
  double hand_off_p50_us = 0;  // from the release to another's return from Acquire
  double hand_off_p99_us = 0;
  double least_share = 0, largest_share = 0;
  double longest_wait_ms = 0;
};

Outcome Judge(std::vector<Turn> turns, int clients, double seconds) {
  if (turns.size() < 2) Fatal("nobody got the lock");
  std::sort(turns.begin(), turns.end(), [](const Turn& a, const Turn& b) { return a.got < b.got; });
  Outcome outcome;
  outcome.acquisitions = turns.size();
  outcome.per_second = static_cast<double>(turns.size()) / seconds;
  std::vector<double> hand_offs;
  std::map<int, double> shares;
  for (int who = 0; who < clients; ++who) shares[who] = 0;
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    ++shares[turns[i].who];
    longest = std::max(longest, turns[i].got - turns[i].asked);
    if (i > 0 && turns[i].who != turns[i - 1].who) {
      hand_offs.push_back(static_cast<double>(turns[i].got - turns[i - 1].released) / 1e3);
    }
  }
  if (!hand_offs.empty()) {
    outcome.hand_off_p50_us = Quantile(hand_offs, 0.5);
    outcome.hand_off_p99_us = Quantile(hand_offs, 0.99);
  }
  outcome.least_share = outcome.largest_share = shares[0];
  for (const auto& [who, share] : shares) {
    outcome.least_share = std::min(outcome.least_share, share);
    outcome.largest_share = std::max(outcome.largest_share, share);
  }
  outcome.longest_wait_ms = static_cast<double>(longest) / 1e6;
  return outcome;
}

std::vector<Turn> RunProcesses(const Run& run, int clients, int section, double seconds,
                               const std::string& name) {
  const std::int64_t begin = Nanoseconds() + 500'000'000;
  const std::int64_t end = begin + static_cast<std::int64_t>(seconds * 1e9);
  std::vector<pid_t> pids;
  std::vector<std::string> files;
  for (int who = 0; who < clients; ++who) {
    files.push_back(StrCat(run.server.directory(), "/turns-", who));
    std::vector<std::string> words = {
        "/proc/self/exe", "--contender", run.server.url(), name,        StrCat(section),
        StrCat(begin),    StrCat(end),   StrCat(who),      files.back()};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) {
      Fatal("cannot start a contender");
    }
    pids.push_back(pid);
  }
  for (const pid_t pid : pids) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) Fatal("a contender failed");
  }
  std::vector<Turn> turns;
  for (const std::string& path : files) {
    std::ifstream file(path, std::ios::binary);
    for (Turn turn{}; file.read(reinterpret_cast<char*>(&turn), sizeof(turn));) {
      turns.push_back(turn);
    }
  }
  return turns;
}

// What one question and its answer take, measured in the same run.
double RoundTripMicroseconds(const Run& run) {
  HiredisCaller caller(run.server.socket_path());
  std::vector<double> times;
  for (int i = 0; i < 2000; ++i) {
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
  constexpr int kClients = 8;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, run.server.pid());
  const double round_trip = RoundTripMicroseconds(run);
  const double seconds = Seconds(run);
  const Outcome outcome = Judge(
      RunProcesses(run, kClients, kSectionMicroseconds, seconds, "contended"), kClients, seconds);
  char line[200];
  std::snprintf(line, sizeof(line),
                "hand-off p50 %.0f, p99 %.0f us; hiredis' round trip p50 %.0f us; %zu acquisitions",
                outcome.hand_off_p50_us, outcome.hand_off_p99_us, round_trip, outcome.acquisitions);
  if (run.report.Wants(hand_off)) {
    run.report.Add(hand_off, mode, outcome.hand_off_p50_us / round_trip, Bound::AtMost(1.5), line,
                   {{"p50_us", outcome.hand_off_p50_us},
                    {"p99_us", outcome.hand_off_p99_us},
                    {"hiredis_round_trip_us", round_trip}});
  }
  if (run.report.Wants(shares)) {
    std::snprintf(line, sizeof(line), "acquisitions of a process: %.0f to %.0f",
                  outcome.least_share, outcome.largest_share);
    run.report.Add(shares, mode, outcome.least_share / outcome.largest_share, Bound::AtLeast(0.9),
                   line, {{"least", outcome.least_share}, {"most", outcome.largest_share}});
  }
  if (run.report.Wants(longest)) {
    std::snprintf(line, sizeof(line), "the longest wait was %.1f ms; clients x section is %.1f ms",
                  outcome.longest_wait_ms, kClients * kSectionMicroseconds / 1e3);
    run.report.Add(longest, mode, outcome.longest_wait_ms / (kClients * kSectionMicroseconds / 1e3),
                   Bound::AtMost(1.5), line, {{"longest_ms", outcome.longest_wait_ms}});
  }
}

// No polling storm: what the server runs for one acquisition, however many wait.
void MeasureCommands(Run& run, int clients) {
  const std::string id = StrCat("contended.commands.w", clients);
  if (!run.report.Wants(id)) return;
  ApplyMode(ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame, run.server.pid());
  HiredisCaller caller(run.server.socket_path());
  const auto before = CommandCounts(caller);
  const double seconds = 2;
  const std::vector<Turn> turns =
      RunProcesses(run, clients, kSectionMicroseconds, seconds, StrCat("crowd-", clients));
  const auto after = CommandCounts(caller);
  double all = 0, scripts = 0;
  for (const auto& [command, count] : after) {
    // Connecting is once a process.
    if (command.find("script") != std::string::npos || command.find("hello") != std::string::npos ||
        command.find("client") != std::string::npos || command.find("info") != std::string::npos ||
        command.find("subscribe") != std::string::npos ||
        command.find("ping") != std::string::npos) {
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
  std::vector<double> pairs, ratios_short, ratios_long;
  std::map<int, std::vector<double>> grants;
  for (int round = 0; round < 5; ++round) {
    pairs.push_back(cpu(kLocks * 200, [&] {
      for (int turn = 0; turn < 200; ++turn) {
        for (int i = 0; i < kLocks; ++i) {
          const std::string key = StrCat("coord:{plain-", i, "}:lease");
          pipeline.Add(acquire, {key}, {owner(turn), "10000"});
          pipeline.Add(release, {key}, {owner(turn)});
        }
        if (!pipeline.Run()) Fatal("plain pair failed");
      }
    }));
    for (const int length : {8, 2000}) {
      const int turns = length == 8 ? 7 : 200;
      double sum = 0;
      for (int again = 0; again < (length == 8 ? 20 : 1); ++again) {
        for (int i = 0; i < kLocks; ++i) {
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
          if (!caller.Command({"SET", StrCat(tag, "fence"), "~1700000000000000"})) Fatal("SET");
        }
        sum += cpu(1, [&] {
          for (int turn = 0; turn < turns; ++turn) {
            for (int i = 0; i < kLocks; ++i) {
              const std::string tag = StrCat("coord:{grant-", i, "}:");
              pipeline.Add(internal::kMutexRelease,
                           {StrCat(tag, "lease"), StrCat(tag, "fence"), StrCat(tag, "queue"),
                            StrCat(tag, "readers")},
                           {owner(turn)});
            }
            if (!pipeline.Run()) Fatal("a granting release failed");
          }
        });
      }
      const double each = sum / (kLocks * turns * (length == 8 ? 20 : 1));
      grants[length].push_back(each);
      (length == 8 ? ratios_short : ratios_long).push_back(each / pairs.back());
    }
  }
  char line[200];
  std::snprintf(line, sizeof(line),
                "server CPU: plain pair %.2f us; a release that grants %.2f us (8 wait), %.2f us "
                "(2000 wait): %.2f and %.2f",
                Median(pairs), Median(grants[8]), Median(grants[2000]), Median(ratios_short),
                Median(ratios_long));
  run.report.Add(id, mode, std::max(Median(ratios_short), Median(ratios_long)), Bound::AtMost(1.5),
                 line, {{"ratio_8", Median(ratios_short)}, {"ratio_2000", Median(ratios_long)}});
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double ResidentKilobytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
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
  const double kilobytes = ResidentKilobytes();
  for (int i = 0; i < kLocks; ++i) {
    absl::StatusOr<Lease> lease = Mutex(*client, StrCat("many-", i), {.ttl = ttl}).TryAcquire();
    if (!lease.ok()) Fatal(lease.status().ToString());
    leases.push_back(*std::move(lease));
  }
  const double each = (ResidentKilobytes() - kilobytes) / kLocks;
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
  MeasureCommands(run, 8);
  MeasureCommands(run, 64);
  MeasureThreads(run);
  MeasureGrant(run);
  MeasureRenewals(run);
}

int RunContender(char** words) {
  const std::string url = words[0], name = words[1], path = words[6];
  const int section = std::atoi(words[2]);
  const std::int64_t begin = std::strtoll(words[3], nullptr, 10);
  const std::int64_t end = std::strtoll(words[4], nullptr, 10);
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) Fatal(client.status().ToString());
  const std::vector<Turn> turns =
      TakeTurns(Mutex(*client, name), begin, end, section, std::atoi(words[5]));
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(turns.data()),
             static_cast<std::streamsize>(turns.size() * sizeof(Turn)));
  return file.flush() ? 0 : 1;
}

}  // namespace coord::bench
