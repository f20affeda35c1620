// A lock of five voting servers, acquired and released by one caller: coord, which goes on with the
// first majority, against hiredis, which asks all five at once and waits for all of them.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "bench/command_stats.h"
#include "bench/contenders.h"
#include "bench/hiredis_caller.h"
#include "bench/machine.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr std::size_t kServers = 5;

using Servers = std::deque<RedisServer>;

std::vector<std::string> Urls(const Servers& servers) {
  std::vector<std::string> urls;
  for (const RedisServer& server : servers) urls.push_back(server.url());
  return urls;
}

void ApplyMode(Mode mode, const Servers& servers) {
  for (const RedisServer& server : servers) ApplyMode(mode, server.pid());
}

class CoordQuorum {
 public:
  CoordQuorum(const Servers& servers, SpinMode spin) : mutex_(Connect(servers, spin), "ours") {}

  const Mutex& mutex() const { return mutex_; }
  bool Pair() const {
    absl::StatusOr<Lease> lease = mutex_.TryAcquire();
    return lease.ok() && lease->Release().ok();
  }

 private:
  static Quorum Connect(const Servers& servers, SpinMode spin) {
    absl::StatusOr<Quorum> quorum = Quorum::Connect(Urls(servers), {.spin = spin});
    if (!quorum.ok()) Fatal(quorum.status().ToString());
    return *std::move(quorum);
  }

  const Mutex mutex_;
};

// The same two scripts by hand, on a blocking connection to each server.
class HiredisFanOut {
 public:
  explicit HiredisFanOut(const Servers& servers) {
    for (const RedisServer& server : servers) {
      callers_.emplace_back(server.socket_path());
      callers_.back().Load(internal::kQuorumAcquire);
      callers_.back().Load(internal::kQuorumRelease);
    }
  }

  // False when a single server does not grant the lease or had none to release.
  bool Pair() {
    const std::string& owner = owners_.Next();
    const std::int64_t now = std::chrono::duration_cast<std::chrono::microseconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();
    ballot_ = std::max(ballot_ + 1, now);
    const std::string ballot = StrCat(ballot_);  // 16 digits until the year 2286
    for (HiredisCaller& caller : callers_) {
      if (!caller.Append(internal::kQuorumAcquire,
                         {"coord:{them}:lease", "coord:{them}:fence", "coord:{quorum}:birth"},
                         {owner, "10000", ballot, "30000 15000"})) {
        return false;
      }
    }
    const bool granted = TakeAll([](const redisReply& reply) {
      return reply.elements == 3 && reply.element[0]->type == REDIS_REPLY_INTEGER &&
             reply.element[0]->integer == 1;
    });
    if (!granted) return false;
    for (HiredisCaller& caller : callers_) {
      if (!caller.Append(internal::kQuorumRelease,
                         {"coord:{them}:lease", "coord:{them}:fence", "coord:{them}:hints"},
                         {owner, "0"})) {
        return false;
      }
    }
    return TakeAll([](const redisReply& reply) {
      return reply.type == REDIS_REPLY_INTEGER && reply.integer == 1;
    });
  }

 private:
  template <typename Good>
  bool TakeAll(const Good& good) {
    for (HiredisCaller& caller : callers_) {
      if (!caller.Flush()) return false;
    }
    bool all = true;
    for (HiredisCaller& caller : callers_) {
      const HiredisReply reply = caller.Receive();
      all = all && reply != nullptr && good(*reply);
    }
    return all;
  }

  std::deque<HiredisCaller> callers_;
  CheapOwnerIds owners_;
  std::int64_t ballot_ = 0;
};

using Counts = std::vector<std::map<std::string, std::int64_t>>;

// What each server ran for 100 pairs.
class Work {
 public:
  explicit Work(const Servers& servers) {
    for (const RedisServer& server : servers) callers_.emplace_back(server.socket_path());
  }

  void Of(const std::function<bool()>& pair) {
    if (!pair()) Fatal("the first acquire and release on a quorum failed");
    // What the pair left to be answered later.
    for (Counts before, now = Read(); before != now; now = Read()) {
      before = now;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    for (HiredisCaller& caller : callers_) {
      if (caller.Command({"CONFIG", "RESETSTAT"}) == nullptr) Fatal("CONFIG RESETSTAT failed");
    }
    for (int i = 0; i < 100; ++i) {
      if (!pair()) Fatal("an acquire and release on a quorum failed");
    }
  }

  Counts Read() {
    Counts counts;
    for (HiredisCaller& caller : callers_) {
      counts.push_back(CommandCounts(caller));
      counts.back().erase("cmdstat_config|resetstat");
    }
    return counts;
  }

 private:
  std::deque<HiredisCaller> callers_;
};

// As for one server; but coord does not wait for the slowest, which is still at work then.
void CheckEqualWork(const Servers& servers, const std::function<bool()>& a,
                    const std::function<bool()>& b) {
  Work work(servers);
  work.Of(a);
  const Counts of_a = work.Read();
  work.Of(b);
  Counts of_b = work.Read();
  for (int attempt = 0; of_a != of_b && attempt < 100; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    of_b = work.Read();
  }
  if (of_a == of_b) return;
  std::string text = "the two sides give the servers different work; 100 pairs are:";
  for (std::size_t i = 0; i < servers.size(); ++i) {
    for (const auto& [command, count] : of_a[i]) {
      text += StrCat("\n  server ", i, ": yardstick ", command, " ", count);
    }
    for (const auto& [command, count] : of_b[i]) {
      text += StrCat("\n  server ", i, ": coord ", command, " ", count);
    }
  }
  Fatal(text);
}

void Against(Run& run, const Servers& servers, const std::string& id, SpinMode spin, Bound bound) {
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(Mode::kPin)) return run.report.Skip(id, "it needs two CPUs");
  ApplyMode(Mode::kPin, servers);
  HiredisFanOut theirs(servers);
  const CoordQuorum ours(servers, spin);
  const auto a = [&](int) { return theirs.Pair(); };
  const auto b = [&](int) { return ours.Pair(); };
  CheckEqualWork(
      servers, [&] { return a(0); }, [&] { return b(0); });
  run.report.Add(id, Mode::kPin, Alternate(run.effort, 1, a, b), bound,
                 "hiredis, waiting for all five");
}

// The p50 of `count` acquisitions.
double AcquireMicroseconds(const Mutex& mutex, int count) {
  std::vector<double> times;
  for (int i = 0; i < count; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    absl::StatusOr<Lease> lease = mutex.TryAcquire();
    const std::chrono::duration<double, std::micro> taken =
        std::chrono::steady_clock::now() - begin;
    if (!lease.ok()) Fatal(lease.status().ToString());
    times.push_back(taken.count());
    if (absl::Status status = lease->Release(); !status.ok()) Fatal(status.ToString());
  }
  return Median(times);
}

void Signal(const RedisServer& server, int signal) {
  if (kill(server.pid(), signal) != 0) Fatal("cannot signal a server");
}

// A server that does not answer costs nothing while a majority does.
void MeasureStopped(Run& run, const Servers& servers) {
  const std::string id = "quorum.t1.first_majority_us";
  if (!run.report.Wants(id)) return;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, servers);
  const CoordQuorum ours(servers, SpinMode::kAdaptive);
  // So few that what piles up for the stopped server fits its socket and is answered before it
  // counts as lost.
  constexpr int kPairs = 200;
  AcquireMicroseconds(ours.mutex(), kPairs);
  std::vector<double> all;
  std::vector<double> four;
  // Each is stopped in its turn: they are asked in a fixed order.
  for (int round = 0; round < std::max(run.effort.rounds, static_cast<int>(kServers)); ++round) {
    all.push_back(AcquireMicroseconds(ours.mutex(), kPairs));
    const RedisServer& stopped = servers[static_cast<std::size_t>(round) % kServers];
    Signal(stopped, SIGSTOP);
    four.push_back(AcquireMicroseconds(ours.mutex(), kPairs));
    Signal(stopped, SIGCONT);
    HiredisCaller caller(stopped.socket_path());
    if (caller.Command({"PING"}) == nullptr) Fatal("a server did not come back");
    AcquireMicroseconds(ours.mutex(), kPairs);
  }
  char line[160];
  std::snprintf(line, sizeof(line),
                "acquire p50: %.1f us with one of five servers stopped, %.1f us with all five up; "
                "%zu rounds",
                Median(four), Median(all), all.size());
  run.report.Add(id, mode, Median(four), Bound(), line,
                 {{"one_stopped_us", Median(four)}, {"all_up_us", Median(all)}});
}

// Two callers, each waiting for the other. Both pause after a release, so that it is not the one
// who has just had it who gets it again.
void MeasureHandOff(Run& run, const Servers& servers) {
  const std::string id = "quorum.hand_off_us";
  if (!run.report.Wants(id)) return;
  const Mode mode = ModeIsPossible(Mode::kPin) ? Mode::kPin : Mode::kSame;
  ApplyMode(mode, servers);
  const int turns = 10 * run.effort.rounds;
  std::vector<Turn> all;
  std::vector<std::vector<Turn>> own(2);
  {
    std::vector<std::jthread> threads;
    for (int who = 0; who < 2; ++who) {
      threads.emplace_back([&, who] {
        const CoordQuorum quorum(servers, SpinMode::kAdaptive);
        for (int i = 0; i < turns; ++i) {
          Turn turn{Nanoseconds(), 0, 0, who};
          absl::StatusOr<Lease> lease = quorum.mutex().Acquire(absl::Seconds(20));
          if (!lease.ok()) Fatal(lease.status().ToString());
          turn.got = Nanoseconds();
          std::this_thread::sleep_for(std::chrono::milliseconds(30));
          turn.released = Nanoseconds();
          if (absl::Status status = lease->Release(); !status.ok()) Fatal(status.ToString());
          own[static_cast<std::size_t>(who)].push_back(turn);
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      });
    }
  }
  for (const std::vector<Turn>& turns_of_one : own) {
    all.insert(all.end(), turns_of_one.begin(), turns_of_one.end());
  }
  const Outcome outcome = Judge(std::move(all), 2, 1);
  char line[160];
  std::snprintf(line, sizeof(line),
                "from a release to the other's return from Acquire: p50 %.0f, p99 %.0f us; 2 "
                "clients, a section of 30 ms, %zu acquisitions",
                outcome.hand_off_p50_us, outcome.hand_off_p99_us, outcome.acquisitions);
  run.report.Add(id, mode, outcome.hand_off_p50_us, Bound(), line,
                 {{"p50_us", outcome.hand_off_p50_us}, {"p99_us", outcome.hand_off_p99_us}});
}

}  // namespace

void MeasureQuorum(Run& run) {
  const std::string sleeping = "quorum.t1.pin.vs_fanout";
  const std::string spinning = "quorum.t1.pin.spin.vs_fanout";
  if (!run.report.Wants(sleeping) && !run.report.Wants(spinning) &&
      !run.report.Wants("quorum.t1.first_majority_us") && !run.report.Wants("quorum.hand_off_us")) {
    return;
  }
  static Servers servers;  // Fatal's exit() still ends them
  for (std::size_t i = 0; i < kServers; ++i) servers.emplace_back();
  if (absl::Status status = Quorum::DeclareNew(Urls(servers)); !status.ok()) {
    Fatal(status.ToString());
  }
  Against(run, servers, sleeping, SpinMode::kNever, Bound::AtLeast(1.4));
  Against(run, servers, spinning, SpinMode::kAdaptive, Bound::AtLeast(2.2));
  MeasureStopped(run, servers);
  MeasureHandOff(run, servers);
  servers.clear();
}

}  // namespace coord::bench
