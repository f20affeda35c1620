// The judge of the lock's fault tests must itself be shown to see what it is there for.
#include "tests/support/lock_history.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/guarded_resource.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = LockViolation::Kind;

constexpr std::int64_t kMs = 1'000'000;

std::vector<Kind> Kinds(const LockVerdict& verdict) {
  std::vector<Kind> kinds;
  for (const LockViolation& violation : verdict.violations) kinds.push_back(violation.kind);
  return kinds;
}

// ---- Planted histories, in milliseconds ----

constexpr LockPromises kPromises = {.ttl = absl::Milliseconds(1000),
                                    .backstop = absl::Milliseconds(1000),
                                    .expiries = 1,
                                    .slack = absl::Milliseconds(500),
                                    .exclusive = true};

class PlantedHistory : public ::testing::Test {
 protected:
  // Asked, and told that it may hold it until `until`.
  Acquisition& Grant(int worker, std::int64_t asked, std::int64_t told, std::uint64_t token,
                     std::int64_t until, std::optional<std::int64_t> released = {}) {
    Acquisition& a = Ask(worker, asked, 10'000);
    a.completed = told * kMs;
    a.result = AcquireResult::kGranted;
    a.token = token;
    a.promised_until = until * kMs;
    if (released) a.release_invoked = *released * kMs;
    history_.end = std::max(history_.end, std::max(told, released.value_or(0)) * kMs);
    return a;
  }
  Acquisition& Busy(int worker, std::int64_t asked, std::int64_t timeout, std::int64_t told) {
    Acquisition& a = Ask(worker, asked, timeout);
    a.completed = told * kMs;
    a.result = AcquireResult::kBusy;
    history_.end = std::max(history_.end, told * kMs);
    return a;
  }
  Acquisition& Ask(int worker, std::int64_t asked, std::int64_t timeout) {
    history_.acquisitions.push_back({.worker = worker,
                                     .process = 100 + worker,
                                     .name = "lock",
                                     .timeout = absl::Milliseconds(timeout),
                                     .invoked = asked * kMs});
    history_.end = std::max(history_.end, asked * kMs);
    return history_.acquisitions.back();
  }
  void Fault(ProcessFault::Kind kind, int worker, std::int64_t at) {
    history_.faults.push_back({kind, 100 + worker, at * kMs});
  }
  LockVerdict Check(LockPromises promises = kPromises) {
    return CheckLockHistory(history_, promises);
  }

  LockHistory history_;
};

TEST_F(PlantedHistory, OneAfterAnotherIsNoViolation) {
  Grant(1, 0, 1, 10, 1000, 20);
  Grant(2, 0, 21, 11, 1020, 30);
  Grant(1, 22, 30, 12, 1030, 40);
  const LockVerdict verdict = Check();
  EXPECT_THAT(verdict.violations, IsEmpty()) << verdict.Summary();
  EXPECT_EQ(verdict.grants, 3);
  EXPECT_EQ(verdict.work_overlaps, 0);
  EXPECT_THAT(verdict.shares, ElementsAre(std::pair(1, 2), std::pair(2, 1)));
  EXPECT_EQ(verdict.longest_wait, absl::Milliseconds(21));
}

TEST_F(PlantedHistory, TwoLeasesValidAtOnceAreAnOverlap) {
  Grant(1, 0, 1, 10, 1000, 22);
  Grant(2, 0, 21, 11, 1020, 30);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kOverlap));
}

TEST_F(PlantedHistory, ALeaseIsPromisedToItsEndThoughItsHolderVanished) {
  Grant(1, 0, 1, 10, 1000);
  Grant(2, 0, 999, 11, 2000, 1010);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kOverlap));
}

TEST_F(PlantedHistory, AnOverlapWithAnEarlierLongerPromiseIsFoundBehindAShorterOne) {
  Grant(1, 0, 1, 10, 1000);
  Grant(2, 0, 100, 11, 1100, 110);
  Grant(3, 0, 500, 12, 1500, 510);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kOverlap, Kind::kOverlap));
}

TEST_F(PlantedHistory, ALeaseThatWasOverBeforeItWasToldOfIsNoPromise) {
  Grant(1, 0, 900, 10, 899, 905);
  Grant(2, 0, 890, 11, 1500, 910);
  EXPECT_THAT(Check().violations, IsEmpty());
}

TEST_F(PlantedHistory, LeasesOfTwoNamesMayOverlap) {
  Grant(1, 0, 1, 10, 1000, 50);
  Grant(2, 0, 2, 10, 1000, 50).name = "other";
  EXPECT_THAT(Check().violations, IsEmpty());
}

TEST_F(PlantedHistory, AWorkerBeyondItsLeaseIsAnOverlapOfWorkOnly) {
  Grant(1, 0, 1, 10, 900, 1500);
  Grant(2, 0, 1000, 11, 2000, 1010);
  const LockVerdict verdict = Check();
  EXPECT_THAT(verdict.violations, IsEmpty()) << verdict.Summary();
  EXPECT_EQ(verdict.work_overlaps, 1);
}

TEST_F(PlantedHistory, ATokenThatFallsOrStaysIsFound) {
  Grant(1, 0, 1, 10, 1000, 20);
  Grant(2, 0, 21, 9, 1020, 30);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kToken));
  history_.acquisitions.clear();
  Grant(1, 0, 1, 10, 1000, 20);
  Grant(2, 0, 21, 10, 1020, 30);
  EXPECT_THAT(Kinds(Check()), Contains(Kind::kToken));
}

TEST_F(PlantedHistory, WhereTheServerForgetsTokensStillRiseFromWhoWasServedToWhoAskedLater) {
  LockPromises promises = kPromises;
  promises.exclusive = false;
  Grant(1, 0, 5, 10, 1000, 100);
  Grant(2, 0, 6, 9, 1000, 100);  // asked before, so either order is right
  EXPECT_THAT(Check(promises).violations, IsEmpty());
  Grant(3, 7, 8, 8, 1000, 100);
  EXPECT_THAT(Kinds(Check(promises)), ElementsAre(Kind::kToken));
}

TEST_F(PlantedHistory, ATimeoutThatComesLateIsFound) {
  Busy(1, 0, 1000, 1499);
  EXPECT_THAT(Check().violations, IsEmpty());
  Busy(1, 1500, 1000, 3100);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kLate));
}

TEST_F(PlantedHistory, ATimeoutThatComesEarlyIsFound) {
  Busy(1, 0, 1000, 900);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kEarly));
}

TEST_F(PlantedHistory, AWaiterThatNeverReturnsIsFound) {
  Grant(1, 0, 1, 10, 3100, 3000);
  Ask(2, 100, 1000);
  history_.end = 3100 * kMs;
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kLate, Kind::kWait));
}

TEST_F(PlantedHistory, AWaiterThatWasKilledIsNotMissed) {
  Grant(1, 0, 1, 10, 3100, 3000);
  Ask(2, 100, 1000);
  Fault(ProcessFault::Kind::kKilled, 2, 300);
  EXPECT_THAT(Check().violations, IsEmpty());
}

TEST_F(PlantedHistory, TimeForWhichAProcessWasStoppedIsNotCounted) {
  Grant(1, 0, 1, 10, 4000, 3000);
  Busy(2, 0, 1000, 3200);
  EXPECT_THAT(Kinds(Check()), Contains(Kind::kLate));
  Fault(ProcessFault::Kind::kStopped, 2, 500);
  Fault(ProcessFault::Kind::kContinued, 2, 3000);
  EXPECT_THAT(Check().violations, IsEmpty()) << Check().Summary();
}

TEST_F(PlantedHistory, ALockThatNobodyHoldsWhileSomebodyWaitsIsFound) {
  Grant(1, 0, 1, 10, 1000, 20);
  Grant(2, 10, 2515, 11, 3510, 2520);  // its own wait is just short enough
  Busy(3, 100, 100, 200);
  EXPECT_THAT(Check().violations, ElementsAre(::testing::Field(&LockViolation::kind, Kind::kWait)));
  LockPromises promises = kPromises;
  promises.backstop = absl::Milliseconds(900);
  EXPECT_THAT(Kinds(Check(promises)), Contains(Kind::kIdle));
  EXPECT_EQ(Check().longest_idle, absl::Milliseconds(2495));
}

TEST_F(PlantedHistory, WaitersThatComeAndGoInTurnDoNotHideAnIdleLock) {
  Grant(1, 0, 1, 10, 1000, 20);
  for (int i = 0; i < 8; ++i) Busy(2 + i, 20 + 400 * i, 450, 470 + 400 * i);
  EXPECT_THAT(Kinds(Check()), ElementsAre(Kind::kIdle));
}

TEST_F(PlantedHistory, ALockWhoseHolderWasKilledIsIdleFromThen) {
  Grant(1, 0, 1, 10, 2000);
  Fault(ProcessFault::Kind::kKilled, 1, 100);
  Grant(2, 1000, 3100, 11, 4000, 3110);
  EXPECT_EQ(Check().longest_idle, absl::Milliseconds(2100));
}

TEST_F(PlantedHistory, ALockWhoseHolderStandsStillIsIdleFromThen) {
  Grant(1, 0, 1, 10, 1000, 5000);
  Fault(ProcessFault::Kind::kStopped, 1, 100);
  Fault(ProcessFault::Kind::kContinued, 1, 4900);
  Grant(2, 50, 1050, 11, 2000, 1060);
  const LockVerdict verdict = Check();
  EXPECT_THAT(verdict.violations, IsEmpty()) << verdict.Summary();
  EXPECT_EQ(verdict.longest_idle, absl::Milliseconds(950));
  EXPECT_EQ(verdict.work_overlaps, 1);
}

// ---- The files ----

TEST(LockHistoryFileTest, WhatWasWrittenIsRead) {
  const TempDir directory;
  {
    LockHistoryWriter writer(directory.path(), 7);
    const std::int64_t first = writer.AcquireBegins("lock", absl::Milliseconds(1500));
    const std::int64_t second = writer.AcquireBegins("lock", absl::Seconds(2));
    const std::int64_t third = writer.AcquireBegins("other", absl::Seconds(3));
    writer.AcquireEnds(second, absl::CancelledError("stopped"));
    writer.Granted(first, 42, 5000);
    writer.ReleaseBegins(first);
    writer.ReleaseEnds(first, absl::OkStatus());
    (void)third;
    writer.Stopped(77);
    writer.Continued(77);
    writer.Killed(78);
  }
  LockHistoryWriter another(directory.path(), 8);
  (void)another.AcquireBegins("lock", absl::Seconds(4));
  const LockHistory history = ReadLockHistory(directory.path());
  ASSERT_THAT(history.acquisitions, SizeIs(4));
  const auto of_seven = std::find_if(history.acquisitions.begin(), history.acquisitions.end(),
                                     [](const Acquisition& a) { return a.worker == 7; });
  const Acquisition& first = of_seven[0];
  EXPECT_EQ(first.process, getpid());
  EXPECT_EQ(first.name, "lock");
  EXPECT_EQ(first.timeout, absl::Milliseconds(1500));
  EXPECT_EQ(first.result, AcquireResult::kGranted);
  EXPECT_EQ(first.token, 42u);
  EXPECT_EQ(first.promised_until, 5000);
  EXPECT_EQ(first.release_result, ReleaseResult::kReleased);
  EXPECT_LE(first.invoked, *first.completed);
  EXPECT_LE(*first.release_invoked, *first.release_completed);
  EXPECT_EQ(of_seven[1].result, AcquireResult::kCancelled);
  EXPECT_EQ(of_seven[2].result, AcquireResult::kOpen);
  ASSERT_THAT(history.faults, SizeIs(3));
  EXPECT_EQ(history.faults[0].kind, ProcessFault::Kind::kStopped);
  EXPECT_EQ(history.faults[2].process, 78);
  EXPECT_GE(history.end, history.faults[2].at);
}

TEST(LockHistoryFileTest, ATornLastLineIsIgnored) {
  const TempDir directory;
  std::ofstream(directory.File("5.0")) << "A 1 100 lock 1000 3\nG 1 200 7 9000\nR 1 3";
  const LockHistory history = ReadLockHistory(directory.path());
  ASSERT_THAT(history.acquisitions, SizeIs(1));
  EXPECT_EQ(history.acquisitions[0].token, 7u);
  EXPECT_FALSE(history.acquisitions[0].release_invoked);
  EXPECT_EQ(history.end, 200);
}

TEST(LockHistoryFileTest, ALookProlongsAPromiseAndALookAtALeaseThatIsOverDoesNot) {
  const TempDir directory;
  std::ofstream(directory.File("5.0"))
      << "A 1 100 lock 1000 3\nG 1 200 7 900\nP 1 500 1200\nP 1 1500 1500\n"
      << "A 2 2000 lock 1000 3\nG 2 2100 8 3000\nP 2 2500 2500\n";
  const LockHistory history = ReadLockHistory(directory.path());
  ASSERT_THAT(history.acquisitions, SizeIs(2));
  EXPECT_EQ(history.acquisitions[0].promised_until, 1200);  // it ran out unseen
  EXPECT_EQ(history.acquisitions[1].promised_until, 2500);  // it was lost before its time
}

TEST(LockHistoryFileTest, AHistoryWrittenUpToAKillIsRead) {
  const TempDir directory;
  Process child = ForkAndRun([&] {
    LockHistoryWriter writer(directory.path(), 1);
    while (true) (void)writer.AcquireBegins("lock", absl::Seconds(1));
  });
  while (ReadLockHistory(directory.path()).acquisitions.size() < 50) {
  }
  child.Kill();
  EXPECT_GE(ReadLockHistory(directory.path()).acquisitions.size(), 50u);
}

// ---- Planted bugs ----

// A lock with a queue and its users, simulated: time is a number, and the same run comes again.
// Their clocks differ by 0.9 %, which drift allows for.
class SimulatedLock {
 public:
  struct Bugs {
    bool release_without_owner_check = false;
    bool no_drift = false;
    bool timeout_counted_as_grant = false;
    bool lost_wake_up = false;  // one message in ten is lost, and nobody asks again
  };

  explicit SimulatedLock(Bugs bugs) : bugs_(bugs) {}

  LockHistory Run(std::int64_t duration) {
    for (int worker = 0; worker < kWorkers; ++worker)
      At(worker * kMs, [this, worker] { Ask(worker); });
    while (!events_.empty() && events_.begin()->first.first <= duration) {
      const auto event = events_.extract(events_.begin());
      now_ = event.key().first;
      event.mapped()();
    }
    history_.end = now_;
    return std::move(history_);
  }

  static constexpr absl::Duration kTtl = absl::Seconds(1);

 private:
  static constexpr int kWorkers = 4;
  static constexpr std::int64_t kServerTtl = 991 * kMs;  // of its faster clock
  static constexpr std::int64_t kTrust = 988 * kMs;      // the ttl less 1 % and 2 ms
  static constexpr std::int64_t kLatency = kMs / 2;

  void At(std::int64_t after, std::function<void()> what) {
    events_.emplace(std::pair(now_ + after, ++sequence_), std::move(what));
  }
  bool OneIn(int n) { return random_() % static_cast<unsigned>(n) == 0; }
  Acquisition& Of(std::size_t id) { return history_.acquisitions[id]; }
  bool Waits(std::size_t id) { return !Of(id).completed; }

  // ---- A worker ----

  void Ask(int worker) {
    const std::size_t id = history_.acquisitions.size();
    const std::int64_t timeout = OneIn(20) ? 3 * kMs : 10'000 * kMs;
    history_.acquisitions.push_back({.worker = worker,
                                     .process = worker,
                                     .name = "lock",
                                     .timeout = absl::Nanoseconds(timeout),
                                     .invoked = now_});
    Send(id);
    At(timeout, [this, id] { TimeOut(id); });
    if (!bugs_.lost_wake_up) Recheck(id);
  }
  void Recheck(std::size_t id) {
    At(1000 * kMs, [this, id] {
      if (!Waits(id)) return;
      Send(id);
      Recheck(id);
    });
  }
  void Send(std::size_t id) {
    At(kLatency, [this, id, sent = now_] { Request(id, sent); });
  }
  void TimeOut(std::size_t id) {
    if (!Waits(id)) return;
    Of(id).completed = now_;
    Of(id).result = AcquireResult::kBusy;
    At(kLatency, [this, id] { Leave(id); });
    if (bugs_.timeout_counted_as_grant) return Granted(id, now_, token_);
    At(2 * kMs, [this, id] { Ask(Of(id).worker); });
  }
  void Granted(std::size_t id, std::int64_t sent, std::uint64_t token) {
    Acquisition& a = Of(id);
    if (a.completed && !bugs_.timeout_counted_as_grant) return;  // Leave() has given it back
    a.completed = now_;
    a.result = AcquireResult::kGranted;
    a.token = token;
    a.promised_until = sent + (bugs_.no_drift ? absl::ToInt64Nanoseconds(kTtl) : kTrust);
    // Some are held up in their work beyond their lease, and do not notice.
    At(OneIn(50) ? 1500 * kMs : 5 * kMs, [this, id] {
      Of(id).release_invoked = now_;
      At(kLatency, [this, id] { Release(id); });
      At(2 * kMs, [this, id] { Ask(Of(id).worker); });
    });
  }

  // ---- The server ----

  void Request(std::size_t id, std::int64_t sent) {
    if (!Waits(id)) return;
    if (!holder_) {
      std::erase(queue_, id);
      holder_ = id;
      const std::uint64_t token = ++token_;
      At(kServerTtl, [this, token] {
        if (holder_ && token_ == token) Free();
      });
      At(kLatency, [this, id, sent, token] { Granted(id, sent, token); });
    } else if (holder_ != id && std::find(queue_.begin(), queue_.end(), id) == queue_.end()) {
      queue_.push_back(id);
    }
  }
  void Leave(std::size_t id) {
    std::erase(queue_, id);
    if (holder_ == id && Of(id).result == AcquireResult::kBusy) Free();
  }
  void Release(std::size_t id) {
    if (holder_ && (holder_ == id || bugs_.release_without_owner_check)) Free();
  }
  void Free() {
    holder_.reset();
    if (queue_.empty()) return;
    const std::size_t next = queue_.front();
    queue_.pop_front();
    if (bugs_.lost_wake_up && OneIn(10)) return;
    At(kLatency, [this, next] {
      if (Waits(next)) Send(next);
    });
  }

  const Bugs bugs_;
  std::minstd_rand random_{7};
  std::int64_t now_ = 0;
  std::uint64_t sequence_ = 0;
  std::map<std::pair<std::int64_t, std::uint64_t>, std::function<void()>> events_;
  std::optional<std::size_t> holder_;
  std::deque<std::size_t> queue_;
  std::uint64_t token_ = 0;
  LockHistory history_;
};

LockVerdict Simulate(SimulatedLock::Bugs bugs) {
  SimulatedLock lock(bugs);
  return CheckLockHistory(lock.Run(60'000 * kMs), {.ttl = SimulatedLock::kTtl});
}

TEST(PlantedBugTest, WithoutABugNothingIsFound) {
  const LockVerdict verdict = Simulate({});
  EXPECT_THAT(verdict.violations, IsEmpty()) << verdict.Summary();
  EXPECT_GT(verdict.grants, 500);
  EXPECT_GT(verdict.timeouts, 20);
  EXPECT_GT(verdict.work_overlaps, 5);  // leases did run out under their holders
}

TEST(PlantedBugTest, AReleaseWithoutOwnerCheckIsCaught) {
  EXPECT_THAT(Kinds(Simulate({.release_without_owner_check = true})), Contains(Kind::kOverlap));
}

TEST(PlantedBugTest, ValidityWithoutDriftIsCaught) {
  EXPECT_THAT(Kinds(Simulate({.no_drift = true})), Contains(Kind::kOverlap));
}

TEST(PlantedBugTest, ATimeoutCountedAsAGrantIsCaught) {
  EXPECT_THAT(Kinds(Simulate({.timeout_counted_as_grant = true})), Contains(Kind::kOverlap));
}

TEST(PlantedBugTest, ALostWakeUpIsCaught) {
  EXPECT_THAT(Kinds(Simulate({.lost_wake_up = true})), Contains(Kind::kWait));
}

// ---- The guarded resource ----

TEST(GuardedResourceTest, VisitorsInTurnLoseNothing) {
  RedisServer server;
  GuardedResource resource(server.unix_url());
  for (std::uint64_t token = 1; token <= 3; ++token) {
    const auto visit = resource.Enter(token);
    EXPECT_EQ(resource.Inside(), getpid());
    EXPECT_TRUE(resource.Leave(visit));
    EXPECT_EQ(resource.Inside(), 0);
  }
  const auto account = resource.Read();
  EXPECT_EQ(account.fenced, 3);
  EXPECT_EQ(account.plain, 3);
  EXPECT_EQ(account.plain_writes, 3);
  EXPECT_EQ(account.refused, 0);
  ASSERT_THAT(account.entries, SizeIs(6));
  EXPECT_EQ(account.entries[3].token, 2u);
  EXPECT_TRUE(account.entries[3].leaving);
}

TEST(GuardedResourceTest, AVisitorWithASmallerTokenIsRefusedAndWithoutFencingAnUpdateIsLost) {
  RedisServer server;
  GuardedResource resource(server.unix_url());
  const auto slow = resource.Enter(5);
  const auto next = resource.Enter(6);
  EXPECT_TRUE(resource.Leave(next));
  EXPECT_FALSE(resource.Leave(slow));
  const auto account = resource.Read();
  EXPECT_EQ(account.fenced, 1);
  EXPECT_EQ(account.fenced_writes, 1);
  EXPECT_EQ(account.plain, 1);
  EXPECT_EQ(account.plain_writes, 2);
  EXPECT_EQ(account.refused, 1);
}

}  // namespace
}  // namespace coord::testing
