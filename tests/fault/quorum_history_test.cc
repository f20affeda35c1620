// The lock of five servers that vote in the hands of six processes, under faults, judged by the
// history that each of them writes.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coord/errors.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/lock_history.h"
#include "tests/support/lock_workers.h"
#include "tests/support/process.h"
#include "tests/support/quorum_servers.h"
#include "tests/support/raw_redis.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AcquireResult;
using ::coord::testing::Acquisition;
using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::LockProgress;
using ::coord::testing::LockVerdict;
using ::coord::testing::LockViolation;
using ::coord::testing::LockWorkersTest;
using ::coord::testing::Process;
using ::coord::testing::QuorumServers;
using ::coord::testing::RawRedis;
using ::coord::testing::Sleep;
using ::coord::testing::Stopwatch;
using ::testing::Contains;
using ::testing::Field;
using ::testing::IsEmpty;

constexpr int kWorkers = 6;
constexpr std::size_t kServers = 5;
constexpr int kFewestGrants = 20;  // however slow the machine is

// A deployment whose quarantine a run can wait for.
QuorumOptions Short() {
  QuorumOptions options;
  options.max_ttl = absl::Milliseconds(600);
  options.clock_tolerance = absl::Milliseconds(300);
  options.server_timeout = absl::Milliseconds(100);
  return options;
}

class QuorumHistoryTest : public LockWorkersTest {
 protected:
  QuorumHistoryTest() : LockWorkersTest(kWorkers) {
    work_.ttl = absl::Milliseconds(400);
    work_.long_section = absl::Milliseconds(200);  // so that it is renewed
    // Without a queue, who has just released and asks at once mostly gets it again.
    work_.pause = absl::Milliseconds(40);
    work_.connect = [this](int worker) -> absl::StatusOr<Mutex> {
      QuorumOptions options = servers_.options();
      options.calendar = [ahead = ahead_[static_cast<std::size_t>(worker)]] {
        return absl::Now() + ahead;
      };
      absl::StatusOr<Quorum> quorum;
      (void)Eventually(
          [&] { return (quorum = Quorum::Connect(servers_.urls(), {}, options)).ok(); });
      if (!quorum.ok()) return quorum.status();
      return Mutex(*quorum, work_.name, {.ttl = work_.ttl});
    };
  }

  // All have worked before `disturb` is called, in a loop until it says that it has done enough or
  // `duration` is over; what it did must have been undone then. All work again after it.
  void Run(absl::Duration duration, const std::function<bool()>& disturb) {
    StartAll(BootNanos() + absl::ToInt64Nanoseconds(absl::Seconds(90)));
    ExpectAllWork("at first");
    const std::int64_t enough = BootNanos() + absl::ToInt64Nanoseconds(duration);
    while (BootNanos() < enough && disturb()) {
    }
    ExpectAllWork("after it has healed");
    progress_->until = 0;
    WaitForAll();
  }

  // Each of them gets the lease for something that it asks for from now on.
  void ExpectAllWork(const char* when) {
    std::vector<int> before;
    for (int worker = 0; worker < kWorkers; ++worker) before.push_back(Grants(worker));
    for (int worker = 0; worker < kWorkers; ++worker) {
      if (worker == excused_) continue;
      // The first may have been asked for earlier.
      EXPECT_TRUE(
          Eventually([&] { return Grants(worker) >= before[static_cast<std::size_t>(worker)] + 2; },
                     absl::Seconds(20)))
          << "worker " << worker << " does not work " << when;
    }
  }
  // Somebody does.
  bool WorkGoesOn() {
    const int before = Grants();
    return Eventually([&] { return Grants() >= before + 5; });
  }

  // The quarantine of a server that was restarted is over, by its own clock.
  bool Votes(std::size_t i) {
    RawRedis redis(servers_[i]);
    const std::string marker = redis.Command({"GET", "coord:{quorum}:birth"}).text();
    if (marker.empty()) return false;  // nobody has seen it yet
    const Reply time = redis.Command({"TIME"});
    const std::string micros = time.items()[1].text();
    const std::string now = time.items()[0].text() + std::string(6 - micros.size(), '0') + micros;
    return marker.substr(41, 16) <= now;
  }
  void ExpectVote(const std::vector<std::size_t>& which) {
    for (const std::size_t i : which) {
      EXPECT_TRUE(Eventually([&] { return Votes(i); }, absl::Seconds(20)))
          << "server " << i << " never votes again";
    }
  }

  // There is no queue, so no wait is promised; that all work again is what a run asks.
  LockVerdict Judge() { return Verdict({.ttl = work_.ttl, .slack = absl::Seconds(15)}); }
  void ExpectSound() {
    const LockVerdict verdict = Judge();
    EXPECT_THAT(verdict.violations, IsEmpty());
    EXPECT_GE(verdict.grants, kFewestGrants);
    ExpectFenced();
  }

  QuorumServers servers_{kServers, Short()};
  // By how much a worker's calendar is.
  std::vector<absl::Duration> ahead_ = std::vector<absl::Duration>(kWorkers);
  int excused_ = -1;  // a worker that need not work
};

TEST_F(QuorumHistoryTest, OneServerAfterTheOtherForgetsAndNobodyNotices) {
  std::size_t victim = 0;
  int restarts = 0;
  Run(absl::Seconds(3), [&] {
    servers_[victim].Kill();
    Sleep(absl::Milliseconds(random_() % 300));
    servers_[victim].Start();
    EXPECT_TRUE(WorkGoesOn()) << "without server " << victim;
    ExpectVote({victim});
    victim = (victim + 2) % kServers;
    ++restarts;
    return true;
  });
  EXPECT_GE(restarts, 1);
  ExpectSound();
}

TEST_F(QuorumHistoryTest, TwoOfFiveForgetAtOnceAndNobodyNotices) {
  std::size_t first = 0;
  Run(absl::Seconds(3), [&] {
    const std::size_t second = (first + 1) % kServers;
    servers_[first].Kill();
    servers_[second].Kill();
    EXPECT_TRUE(WorkGoesOn()) << "while two are dead";
    servers_[first].Start();
    servers_[second].Start();
    EXPECT_TRUE(WorkGoesOn()) << "while two do not vote";
    ExpectVote({first, second});
    first = (first + 2) % kServers;
    return true;
  });
  ExpectSound();
}

TEST_F(QuorumHistoryTest, TwoOfFiveThatStandStillForAWhileDoNoHarm) {
  int stops = 0;
  Run(absl::Seconds(3), [&] {
    const std::size_t first = random_() % kServers;
    const std::size_t second = (first + 1 + random_() % (kServers - 1)) % kServers;
    servers_[first].Pause();
    servers_[second].Pause();
    // Shorter and longer than a lease.
    Sleep(absl::Milliseconds(50 + random_() % 500));
    servers_[first].Resume();
    servers_[second].Resume();
    Sleep(absl::Milliseconds(random_() % 100));
    ++stops;
    return true;
  });
  EXPECT_GE(stops, 2);
  ExpectSound();
}

TEST_F(QuorumHistoryTest, StoppedHoldersOverlapInTheirWorkAndNeverInTheirLeases) {
  work_.section = absl::Milliseconds(15);  // so that it is easily hit
  int holders = 0;
  Run(absl::Seconds(30), [&] {
    Process* const inside = Inside();
    if (inside == nullptr) return true;
    Stop(*inside);
    if (Inside() == inside) {
      // It stands still until others have had the lock after its lease.
      ++holders;
      const int before = Grants();
      EXPECT_TRUE(Eventually([&] { return Grants() >= before + 3; })) << "a lease does not run out";
    }
    Continue(*inside);
    return holders < 3;
  });
  const LockVerdict verdict = Judge();
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_EQ(holders, 3);
  EXPECT_GE(verdict.grants, kFewestGrants);
  EXPECT_GE(verdict.work_overlaps, 1) << "no fault reached a holder";
  EXPECT_GT(account_.plain_writes, account_.plain) << "without fencing, updates are lost";
  EXPECT_GE(account_.refused, 1);
  ExpectFenced();
}

TEST_F(QuorumHistoryTest, ConnectionsKilledInALoopLetNobodyInTwice) {
  std::vector<std::unique_ptr<RawRedis>> redis;
  for (std::size_t i = 0; i < kServers; ++i) {
    redis.push_back(std::make_unique<RawRedis>(servers_[i]));
  }
  std::int64_t kills = 0;
  Run(absl::Seconds(3), [&] {
    for (const auto& server : redis) {
      kills += server->Integer({"CLIENT", "KILL", "TYPE", "normal"});
      kills += server->Integer({"CLIENT", "KILL", "TYPE", "pubsub"});
    }
    Sleep(absl::Milliseconds(50));
    return true;
  });
  EXPECT_GT(kills, 50);
  ExpectSound();
}

TEST_F(QuorumHistoryTest, ACalendarThatIsAheadIsGoneAlongWithOrRefused) {
  constexpr int kTolerated = 0;
  constexpr int kRefused = 1;
  ahead_[kTolerated] = Short().clock_tolerance - absl::Milliseconds(100);
  ahead_[kRefused] = absl::Seconds(10);
  excused_ = kRefused;
  Run(absl::Seconds(20), [&] {
    Sleep(absl::Seconds(1));
    return progress_->Ended(kRefused, absl::StatusCode::kFailedPrecondition) < 5;
  });
  EXPECT_EQ(Grants(kRefused), 0);
  EXPECT_GE(progress_->Ended(kRefused, absl::StatusCode::kFailedPrecondition), 5);
  for (int code = 1; code < static_cast<int>(LockProgress::kCodes); ++code) {
    // Its timeout may come while it is waiting for another holder like anybody else.
    if (code == static_cast<int>(absl::StatusCode::kFailedPrecondition) ||
        code == static_cast<int>(absl::StatusCode::kAborted) ||
        code == static_cast<int>(absl::StatusCode::kUnavailable)) {
      continue;
    }
    EXPECT_EQ(progress_->Ended(kRefused, static_cast<absl::StatusCode>(code)), 0) << code;
  }
  EXPECT_GE(Grants(kTolerated), 3);
  ExpectSound();
}

TEST_F(QuorumHistoryTest, WithoutAMajorityNobodyIsLetInAndAfterItsQuarantineWorkGoesOn) {
  const std::vector<std::size_t> dead = {0, 2, 4};
  std::int64_t killed = 0;
  std::int64_t restarted = 0;
  std::optional<Quorum> quorum;
  Run(absl::Seconds(30), [&] {
    quorum = servers_.Connect();  // its threads come after the workers were forked
    const Mutex mutex(*quorum, work_.name, {.ttl = work_.ttl});
    for (const std::size_t i : dead) servers_[i].Kill();
    killed = BootNanos();
    // While others try too, what they leave on the survivors for a moment may look like a holder.
    const std::int64_t tried = killed + absl::ToInt64Nanoseconds(Short().max_ttl);
    while (BootNanos() < tried) {
      const absl::Status status = mutex.TryAcquire().status();
      EXPECT_TRUE(coord::IsUnavailable(status) || IsBusy(status)) << status;
    }
    // Whatever they have asked the survivors for is gone after the ttl, though they stand still.
    for (Process& worker : workers_) Stop(worker);
    const auto nothing_is_left = [&] { return servers_.Leases(work_.name) == 0; };
    EXPECT_TRUE(Eventually(nothing_is_left, work_.ttl + absl::Seconds(5)));
    for (int i = 0; i < 3; ++i) {
      const Stopwatch watch;
      const absl::Status status = mutex.TryAcquire().status();
      EXPECT_TRUE(coord::IsUnavailable(status)) << status;
      EXPECT_LT(watch.elapsed(), absl::Seconds(2));
    }
    EXPECT_TRUE(Eventually(nothing_is_left, work_.ttl + absl::Seconds(5)));
    for (Process& worker : workers_) Continue(worker);
    restarted = BootNanos();
    for (const std::size_t i : dead) servers_[i].Start();
    ExpectVote(dead);
    return false;
  });
  // Not before the quarantine of those who forgot, but for the difference of two clocks.
  const std::int64_t voting =
      restarted +
      absl::ToInt64Nanoseconds(Short().max_ttl + Short().clock_tolerance - absl::Milliseconds(50));
  for (const Acquisition& a : testing::ReadLockHistory(histories_).acquisitions) {
    if (a.result != AcquireResult::kGranted || a.invoked < killed) continue;
    EXPECT_GT(*a.completed, voting) << "worker " << a.worker << " was let in by a minority";
  }
  ExpectSound();
}

// ---- What goes wrong is found by the same runs ----

TEST_F(QuorumHistoryTest, LeasesDeletedBehindTheirHoldersAreCaught) {
  work_.section = absl::Milliseconds(60);
  work_.pause = absl::Milliseconds(100);
  Run(absl::Seconds(2), [&] {
    for (std::size_t i = 0; i < kServers; ++i) {
      RawRedis(servers_[i]).Command({"DEL", "coord:{" + work_.name + "}:lease"});
    }
    Sleep(absl::Milliseconds(10));
    return true;
  });
  EXPECT_THAT(Judge().violations,
              Contains(Field(&LockViolation::kind, LockViolation::Kind::kOverlap)));
}

}  // namespace
}  // namespace coord
