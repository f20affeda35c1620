// The lock in the hands of eight processes, under faults, judged by the history that each of them
// writes.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "coord/client.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/lock_history.h"
#include "tests/support/lock_workers.h"
#include "tests/support/process.h"
#include "tests/support/push_filter.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::LockPromises;
using ::coord::testing::LockVerdict;
using ::coord::testing::LockViolation;
using ::coord::testing::LockWorkerBug;
using ::coord::testing::LockWorkersTest;
using ::coord::testing::Process;
using ::coord::testing::PushFilter;
using ::coord::testing::PushMessage;
using ::coord::testing::PushVerdict;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Sleep;
using ::testing::Contains;
using ::testing::Field;
using ::testing::IsEmpty;

constexpr int kWorkers = 8;

// The server may not be there yet, or not again.
absl::StatusOr<Client> ConnectPatiently(const std::string& url) {
  absl::StatusOr<Client> client;
  (void)Eventually([&] { return (client = Client::Connect(url)).ok(); });
  return client;
}

class LockHistoryTest : public LockWorkersTest {
 protected:
  LockHistoryTest() : LockWorkersTest(kWorkers) {
    work_.server_url = server_.url();
    work_.connect = [this](int) -> absl::StatusOr<Mutex> {
      const absl::StatusOr<Client> client = ConnectPatiently(work_.server_url);
      if (!client.ok()) return client.status();
      return Mutex(*client, work_.name, {.ttl = work_.ttl});
    };
  }

  // The eight run for `duration`; `disturb` is called in a loop until it says that it has done
  // enough or half a second before the end, so that what it did must heal.
  void Run(absl::Duration duration, const std::function<bool()>& disturb = nullptr) {
    const std::int64_t until = BootNanos() + absl::ToInt64Nanoseconds(duration);
    StartAll(until);
    if (started_) started_();
    const std::int64_t enough = until - absl::ToInt64Nanoseconds(absl::Milliseconds(500));
    while (disturb && BootNanos() < enough && disturb()) {
    }
    WaitForAll();
  }

  // For PushFilter, which must not be there when workers are forked.
  void OnceStarted(std::function<void()> started) { started_ = std::move(started); }

  RedisServer server_;
  RawRedis redis_{server_};
  std::function<void()> started_;
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
  const LockVerdict verdict = Verdict({.ttl = work_.ttl, .expiries = 2});
  EXPECT_THAT(verdict.violations, IsEmpty());
  EXPECT_GE(kills, 4);
  EXPECT_GT(verdict.grants, 50);
  ExpectFenced();
}

TEST_F(LockHistoryTest, StoppedHoldersOverlapInTheirWorkAndNeverInTheirLeases) {
  work_.section = absl::Milliseconds(15);  // so that it is easily hit
  int holders = 0;
  Run(absl::Seconds(6), [&] {
    Process* const inside = holders < 3 ? Inside() : &Random();
    if (inside == nullptr) return true;
    Stop(*inside);
    if (Inside() == inside) ++holders;  // it was hit where it hurts
    Sleep(work_.ttl + absl::Milliseconds(300));
    Continue(*inside);
    return true;
  });
  const LockVerdict verdict = Verdict({.ttl = work_.ttl, .expiries = 2});
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
  const LockVerdict verdict = Verdict({.ttl = work_.ttl});
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
  const LockVerdict verdict = Verdict({.ttl = work_.ttl, .exclusive = false});
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
      Verdict({.ttl = work_.ttl, .slack = absl::Seconds(3), .exclusive = false});
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
  work_.server_url = "unix://" + path;
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
  work_.bug = LockWorkerBug::kReleaseWithoutOwnerCheck;
  work_.section = absl::Milliseconds(15);
  int stops = 0;
  Run(absl::Seconds(5), [&] {
    if (Process* const inside = Inside()) {
      StopFor(*inside, work_.ttl + absl::Milliseconds(200));
      ++stops;
    }
    return true;
  });
  EXPECT_GE(stops, 2);
  EXPECT_THAT(Verdict({.ttl = work_.ttl, .expiries = 2}).violations,
              Contains(Field(&LockViolation::kind, LockViolation::Kind::kOverlap)));
}

TEST_F(LockHistoryTest, ATimeoutCountedAsAGrantIsCaught) {
  work_.bug = LockWorkerBug::kTimeoutCountedAsGrant;
  Run(absl::Seconds(1));
  EXPECT_THAT(Verdict({.ttl = work_.ttl}).violations,
              Contains(Field(&LockViolation::kind, LockViolation::Kind::kOverlap)));
}

}  // namespace
}  // namespace coord
