// The lock in the hands of eight processes, under faults, judged by the history that each of them
// writes.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/guarded_resource.h"
#include "tests/support/lock_history.h"
#include "tests/support/process.h"
#include "tests/support/push_filter.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::GuardedResource;
using ::coord::testing::LockHistoryWriter;
using ::coord::testing::LockPromises;
using ::coord::testing::LockVerdict;
using ::coord::testing::LockViolation;
using ::coord::testing::Process;
using ::coord::testing::ProcessResult;
using ::coord::testing::PushFilter;
using ::coord::testing::PushMessage;
using ::coord::testing::PushVerdict;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::TempDir;
using ::testing::Contains;
using ::testing::Field;
using ::testing::IsEmpty;

constexpr int kWorkers = 8;
constexpr char kName[] = "contended";

// What a worker may do wrong, to see that it is found.
enum class Bug { kNone, kReleaseWithoutOwnerCheck, kTimeoutCountedAsGrant };

struct Plan {
  std::string url{};
  std::string resource_url{};
  std::string directory{};  // for histories
  absl::Duration ttl = absl::Milliseconds(600);
  absl::Duration section = absl::Milliseconds(3);
  absl::Duration patience = absl::Seconds(8);
  std::int64_t until = 0;  // BootNanos()
  Bug bug = Bug::kNone;
};

void Sleep(absl::Duration duration) {
  std::this_thread::sleep_for(absl::ToChronoNanoseconds(duration));
}

// The server may not be there yet, or not again.
absl::StatusOr<Client> ConnectPatiently(const std::string& url) {
  absl::StatusOr<Client> client;
  (void)Eventually([&] { return (client = Client::Connect(url)).ok(); });
  return client;
}

// Takes the lock again and again, and works on the resource whether or not it still has the lock:
// such is a program that was stopped at the wrong moment.
int Work(const Plan& plan, int worker) {
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  const absl::StatusOr<Client> client = ConnectPatiently(plan.url);
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 2;
  }
  LockHistoryWriter history(plan.directory, worker);
  GuardedResource resource(plan.resource_url);
  RawRedis redis(plan.url);
  const Mutex mutex(*client, kName, {.ttl = plan.ttl});
  while (BootNanos() < plan.until) {
    // Some give up soon, so that grants cross with time-outs.
    const absl::Duration timeout = random() % 8 == 0 ? absl::Milliseconds(10) : plan.patience;
    const std::int64_t asked = history.AcquireBegins(kName, timeout);
    absl::StatusOr<Lease> lease = mutex.Acquire(timeout);
    std::uint64_t token = 0;
    if (lease.ok()) {
      token = lease->token().value();
      history.AcquireEnds(asked, lease);
    } else if (plan.bug == Bug::kTimeoutCountedAsGrant && IsBusy(lease.status())) {
      history.Granted(asked, token, BootNanos() + absl::ToInt64Nanoseconds(plan.ttl));
    } else {
      history.AcquireEnds(asked, lease);
      continue;
    }
    const GuardedResource::Visit visit = resource.Enter(token);
    Sleep(plan.section);
    if (lease.ok()) history.Look(asked, *lease);
    resource.Leave(visit);
    history.ReleaseBegins(asked);
    if (plan.bug == Bug::kReleaseWithoutOwnerCheck) {
      redis.Command({"DEL", std::string("coord:{") + kName + "}:lease"});
    }
    if (lease.ok()) history.ReleaseEnds(asked, lease->Release());
    Sleep(absl::Milliseconds(2));
  }
  return 0;
}

class LockHistoryTest : public ::testing::Test {
 protected:
  // The eight run for `duration`; `disturb` is called in a loop until it says that it has done
  // enough or half a second before the end, so that what it did must heal.
  void Run(absl::Duration duration, const std::function<bool()>& disturb = nullptr) {
    plan_.resource_url = elsewhere_.unix_url();
    plan_.directory = histories_;
    plan_.until = BootNanos() + absl::ToInt64Nanoseconds(duration);
    for (int worker = 0; worker < kWorkers; ++worker) workers_.push_back(Start(worker));
    if (started_) started_();
    const std::int64_t enough = plan_.until - absl::ToInt64Nanoseconds(absl::Milliseconds(500));
    while (disturb && BootNanos() < enough && disturb()) {
    }
    for (Process& worker : workers_) {
      const ProcessResult result = worker.Wait();
      EXPECT_EQ(result.exit_code, 0) << result.err;
    }
  }

  // For PushFilter, which must not be there when workers are forked.
  void OnceStarted(std::function<void()> started) { started_ = std::move(started); }

  Process Start(int worker) {
    return ForkAndRun([&] { return Work(plan_, worker); });
  }
  Process& Random() { return workers_[random_() % workers_.size()]; }
  // Who works on the resource now; null when nobody does.
  Process* Inside() {
    const std::int64_t pid = resource_.Inside();
    for (Process& worker : workers_) {
      if (worker.pid() == pid) return &worker;
    }
    return nullptr;
  }

  void KillAndReplace(Process& victim) {
    chaos_.Killed(victim.pid());
    victim.Kill();
    victim = Start(static_cast<int>(&victim - workers_.data()));
  }
  void StopFor(Process& victim, absl::Duration duration) {
    chaos_.Stopped(victim.pid());
    victim.Pause();
    Sleep(duration);
    victim.Resume();
    chaos_.Continued(victim.pid());
  }

  LockVerdict Verdict(const LockPromises& promises) {
    const LockVerdict verdict =
        testing::CheckLockHistory(testing::ReadLockHistory(histories_), promises);
    account_ = resource_.Read();
    std::printf("%s%s", verdict.Summary().c_str(), account_.Summary().c_str());
    return verdict;
  }

  // What must hold whatever happens.
  void ExpectFenced() {
    EXPECT_EQ(account_.fenced, account_.fenced_writes) << "an update was lost though fenced";
    std::uint64_t largest = 0;
    for (const GuardedResource::Entry& entry : account_.entries) {
      if (!entry.admitted) continue;
      EXPECT_GE(entry.token, largest);
      largest = entry.token;
    }
  }

  RedisServer server_;
  RawRedis redis_{server_};
  RedisServer elsewhere_;
  GuardedResource resource_{elsewhere_.unix_url()};
  const TempDir directory_;
  const std::string histories_ = [this] {
    const std::string path = directory_.File("histories");
    std::filesystem::create_directory(path);
    return path;
  }();
  LockHistoryWriter chaos_{histories_, -1};
  Plan plan_{.url = server_.url()};
  std::vector<Process> workers_;
  std::function<void()> started_;
  GuardedResource::Account account_;
  std::minstd_rand random_{11};
};

TEST_F(LockHistoryTest, UndisturbedTheyExcludeEachOtherAndNobodyWaitsLong) {
  Run(absl::Seconds(3));
  const LockVerdict verdict = Verdict({.ttl = absl::ZeroDuration()});  // no lease has to run out
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GT(verdict.grants, 50);
  EXPECT_EQ(verdict.others, 0);
  ExpectFenced();
}

TEST_F(LockHistoryTest, KilledHoldersAndWaitersCostAtMostTheirLeases) {
  int kills = 0;
  Run(absl::Seconds(5), [&] {
    Sleep(absl::Milliseconds(700));
    Process* const inside = kills % 2 == 0 ? Inside() : nullptr;
    KillAndReplace(inside != nullptr ? *inside : Random());
    ++kills;
    return true;
  });
  const LockVerdict verdict = Verdict({.ttl = plan_.ttl, .expiries = 2});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GE(kills, 4);
  EXPECT_GT(verdict.grants, 50);
  ExpectFenced();
}

TEST_F(LockHistoryTest, StoppedHoldersOverlapInTheirWorkAndNeverInTheirLeases) {
  plan_.section = absl::Milliseconds(15);  // so that it is easily hit
  int holders = 0;
  Run(absl::Seconds(6), [&] {
    Process* const inside = holders < 3 ? Inside() : &Random();
    if (inside == nullptr) return true;
    chaos_.Stopped(inside->pid());
    inside->Pause();
    if (Inside() == inside) ++holders;  // it was hit where it hurts
    Sleep(plan_.ttl + absl::Milliseconds(300));
    inside->Resume();
    chaos_.Continued(inside->pid());
    return true;
  });
  const LockVerdict verdict = Verdict({.ttl = plan_.ttl, .expiries = 2});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GE(holders, 2);
  EXPECT_GE(verdict.work_overlaps, 1) << "no fault reached a holder";
  EXPECT_GT(account_.plain_writes, account_.plain) << "without fencing, updates are lost";
  EXPECT_GE(account_.refused, 1);
  ExpectFenced();
}

TEST_F(LockHistoryTest, ConnectionsKilledInALoopLetNobodyInTwice) {
  std::int64_t kills = 0;
  Run(absl::Seconds(4), [&] {
    kills += redis_.Integer({"CLIENT", "KILL", "TYPE", "normal"});
    kills += redis_.Integer({"CLIENT", "KILL", "TYPE", "pubsub"});
    Sleep(absl::Milliseconds(25));
    return true;
  });
  const LockVerdict verdict = Verdict({.ttl = plan_.ttl});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GT(kills, 50);
  EXPECT_GT(verdict.grants, 50);
  ExpectFenced();
}

// The server is made to forget, so leases may overlap. What is promised still: tokens rise, a
// fenced resource loses nothing, nobody is kept beyond the timeout, and the work goes on.
TEST_F(LockHistoryTest, ThroughFlushesTokensRiseAndWorkGoesOn) {
  int flushes = 0;
  Run(absl::Seconds(4), [&] {
    Sleep(absl::Milliseconds(20 + random_() % 200));
    redis_.Command({"FLUSHALL"});
    ++flushes;
    return true;
  });
  const LockVerdict verdict = Verdict({.ttl = plan_.ttl, .exclusive = false});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GT(flushes, 10);
  EXPECT_GT(verdict.grants, 50);
  ExpectFenced();
}

TEST_F(LockHistoryTest, ThroughRestartsWithoutDataTokensRiseAndWorkGoesOn) {
  int restarts = 0;
  std::int64_t last = 0;
  Run(absl::Seconds(6), [&] {
    if (restarts == 4) return false;
    Sleep(absl::Milliseconds(900));
    server_.Restart(RedisServer::Data::kDrop);
    last = BootNanos();
    ++restarts;
    return true;
  });
  // While the server is away nobody can be served: more slack.
  const LockVerdict verdict =
      Verdict({.ttl = plan_.ttl, .slack = absl::Seconds(3), .exclusive = false});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_EQ(restarts, 4);
  int after = 0;
  for (const auto& acquisition : testing::ReadLockHistory(histories_).acquisitions) {
    if (acquisition.invoked > last && acquisition.token > 0) ++after;
  }
  EXPECT_GT(after, 10) << "work did not go on";
  ExpectFenced();
}

TEST_F(LockHistoryTest, WhereEveryTenthMessageIsLostNobodyWaitsBeyondTheBackstop) {
  const std::string path = directory_.File("filter.sock");
  plan_.url = "unix://" + path;
  std::unique_ptr<PushFilter> filter;
  OnceStarted([&] {
    filter = std::make_unique<PushFilter>(server_.url(), path);
    filter->OnMessage([](const PushMessage& message) {
      return message.number % 10 == 9 ? PushVerdict::kDrop : PushVerdict::kPass;
    });
  });
  Run(absl::Seconds(5));
  // A grant whose message was lost is found at the next re-check: no lease has to run out.
  const LockVerdict verdict = Verdict({.ttl = absl::ZeroDuration()});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GT(verdict.grants, 50);
  EXPECT_EQ(verdict.others, 0);
  EXPECT_GE(filter->dropped(), 5u) << "of " << filter->messages() << " messages";
  ExpectFenced();
}

// ---- Bugs planted into the workers are found by the same runs ----

TEST_F(LockHistoryTest, AReleaseWithoutOwnerCheckIsCaught) {
  plan_.bug = Bug::kReleaseWithoutOwnerCheck;
  plan_.section = absl::Milliseconds(15);
  int stops = 0;
  Run(absl::Seconds(5), [&] {
    if (Process* const inside = Inside()) {
      StopFor(*inside, plan_.ttl + absl::Milliseconds(200));
      ++stops;
    }
    return true;
  });
  EXPECT_GE(stops, 2);
  EXPECT_THAT(Verdict({.ttl = plan_.ttl, .expiries = 2}).violations,
              Contains(Field(&LockViolation::kind, LockViolation::Kind::kOverlap)));
}

TEST_F(LockHistoryTest, ATimeoutCountedAsAGrantIsCaught) {
  plan_.bug = Bug::kTimeoutCountedAsGrant;
  Run(absl::Seconds(1));
  EXPECT_THAT(Verdict({.ttl = plan_.ttl}).violations,
              Contains(Field(&LockViolation::kind, LockViolation::Kind::kOverlap)));
}

}  // namespace
}  // namespace coord
