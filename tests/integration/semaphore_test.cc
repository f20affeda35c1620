// Semaphore and Permit on one server: how many hold at a time, who is next, and what is left
// behind.
#include "coord/semaphore.h"

#include <sys/mman.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kPermits[] = "coord:{s}:permits";
constexpr char kFence[] = "coord:{s}:permits-fence";
constexpr char kQueue[] = "coord:{s}:permits-queue";

Client ConnectTo(const RedisServer& server, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(server.url(), std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class SemaphoreTest : public ::testing::Test {
 protected:
  Semaphore Of(std::int64_t permits, absl::Duration ttl = absl::Seconds(10)) const {
    return Semaphore(client_, "s", {.permits = permits, .ttl = ttl});
  }
  std::int64_t Holders() { return redis_.Integer({"ZCARD", kPermits}); }
  std::int64_t Waiters() { return redis_.Integer({"LLEN", kQueue}); }
  bool WaitersBecome(std::int64_t count) {
    return Eventually([&] { return Waiters() == count; });
  }
  bool NothingIsLeft() {
    return Eventually([&] { return redis_.Integer({"EXISTS", kPermits, kQueue}) == 0; });
  }
  // What a script answers on the keys of the semaphore "s".
  Reply Run(const std::string& name, std::vector<std::string> args) {
    for (const internal::ScriptText* script : internal::AllScripts()) {
      if (script->name != name) continue;
      const bool renews = name == "semaphore_renew";
      std::vector<std::string> command = {"EVAL", std::string(script->text), renews ? "2" : "3",
                                          kPermits, kFence};
      if (!renews) command.emplace_back(kQueue);
      command.insert(command.end(), args.begin(), args.end());
      Reply reply = redis_.Command(command);
      EXPECT_FALSE(reply.is_error()) << name << ": " << reply.text();
      return reply;
    }
    testing::Fatal("no script " + name);
  }
  static std::string First(const Reply& reply) {
    if (reply.items().empty()) return reply.ToDebugString();
    const Reply& item = reply.items()[0];
    return item.is_integer() ? std::to_string(item.integer()) : item.text();
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
};

// ---- How many at a time ----

TEST_F(SemaphoreTest, SoManyHoldersAtATimeAndNoMore) {
  const Semaphore semaphore = Of(2);
  ASSERT_OK_AND_ASSIGN(Permit first, semaphore.TryAcquire());
  const Client other = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Permit second, Semaphore(other, "s", {.permits = 2}).TryAcquire());
  EXPECT_TRUE(first.valid());
  EXPECT_TRUE(second.valid());
  EXPECT_NE(first.id(), second.id());
  EXPECT_EQ(first.name(), "s");
  EXPECT_EQ(first.count(), 1);
  const absl::Status busy = semaphore.TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted,
                             AllOf(HasSubstr("semaphore \"s\""), HasSubstr("2 of 2 permits"))));
  EXPECT_OK(second.Release());
  EXPECT_FALSE(second.valid());
  EXPECT_OK(semaphore.TryAcquire().status());
}

TEST_F(SemaphoreTest, ManyThreadsOfTwoClientsAreNeverMoreThanThePermits) {
  constexpr int kPermitCount = 3;
  const Client other = ConnectTo(server_);
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::atomic<int> entered = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        const Semaphore semaphore(i % 2 == 0 ? client_ : other, "s", {.permits = kPermitCount});
        for (int round = 0; round < 25; ++round) {
          absl::StatusOr<Permit> permit = semaphore.Acquire(absl::Seconds(60));
          EXPECT_OK(permit.status());
          if (!permit.ok()) return;
          const int now = ++inside;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
          }
          std::this_thread::yield();
          --inside;
          ++entered;
          EXPECT_OK(permit->Release());
        }
      });
    }
  }
  EXPECT_LE(most, kPermitCount);
  EXPECT_EQ(entered, 8 * 25);
  EXPECT_TRUE(NothingIsLeft());
}

// Counts in memory that forked children share.
struct Crowd {
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<int> entered{0};
};

TEST_F(SemaphoreTest, SixProcessesAreNeverMoreThanThePermits) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  void* shared =
      mmap(nullptr, sizeof(Crowd), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* crowd = new (shared) Crowd;
  std::vector<Process> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(ForkAndRun([&]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server_.url());
      if (!client.ok()) return 1;
      const Semaphore semaphore(*client, "s", {.permits = 2});
      for (int round = 0; round < 20; ++round) {
        absl::StatusOr<Permit> permit = semaphore.Acquire(absl::Seconds(60));
        if (!permit.ok()) return 2;
        const int now = ++crowd->inside;
        for (int seen = crowd->most; now > seen && !crowd->most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::yield();
        --crowd->inside;
        ++crowd->entered;
        if (!permit->Release().ok()) return 3;
      }
      return 0;
    }));
  }
  for (Process& child : children) EXPECT_EQ(child.Wait(absl::Seconds(90)).exit_code, 0);
  EXPECT_LE(crowd->most, 2);
  EXPECT_EQ(crowd->entered, 6 * 20);
  EXPECT_TRUE(NothingIsLeft());
  munmap(shared, sizeof(Crowd));
}

TEST_F(SemaphoreTest, SeveralAreTakenAllOrNone) {
  const Semaphore semaphore = Of(5);
  ASSERT_OK_AND_ASSIGN(Permit three, semaphore.TryAcquire(3));
  EXPECT_EQ(three.count(), 3);
  EXPECT_TRUE(IsBusy(semaphore.TryAcquire(3).status()));
  ASSERT_OK_AND_ASSIGN(SemaphoreUse use, semaphore.Available());
  EXPECT_EQ(use.available, 2);
  ASSERT_OK_AND_ASSIGN(Permit two, semaphore.TryAcquire(2));
  EXPECT_TRUE(IsBusy(semaphore.TryAcquire().status()));
  EXPECT_OK(three.Release());
  EXPECT_TRUE(IsBusy(semaphore.TryAcquire(4).status()));
  EXPECT_OK(semaphore.TryAcquire(3).status());
}

TEST_F(SemaphoreTest, AMutexOfTheSameNameIsAnother) {
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(1).TryAcquire());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "s").TryAcquire());
  EXPECT_OK(lease.Release());
  EXPECT_OK(permit.Renew(absl::Seconds(10)));
}

TEST_F(SemaphoreTest, AnotherNumberOfPermitsIsRefusedWhileItIsInUse) {
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(2).TryAcquire());
  for (const absl::Status& refused :
       {Of(3).TryAcquire().status(), Of(3).Acquire(absl::Seconds(5)).status()}) {
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition,
                                  AllOf(HasSubstr("2 permits"), HasSubstr("asked for with 3"))));
    EXPECT_FALSE(IsBusy(refused));
  }
  EXPECT_EQ(Holders(), 1);
  EXPECT_TRUE(WaitersBecome(0));
  EXPECT_OK(permit.Release());
  EXPECT_OK(Of(3).TryAcquire(3).status());
}

TEST_F(SemaphoreTest, AvailableShowsWhoHoldsAndWhoWaits) {
  ASSERT_OK_AND_ASSIGN(SemaphoreUse idle, Of(4).Available());
  EXPECT_EQ(idle.permits, 4);
  EXPECT_EQ(idle.available, 4);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(4).TryAcquire(3));
  std::jthread waiter([&] { EXPECT_OK(Of(4).Acquire(absl::Seconds(20), 2).status()); });
  EXPECT_TRUE(WaitersBecome(1));
  ASSERT_OK_AND_ASSIGN(SemaphoreUse use, Of(7).Available());
  EXPECT_EQ(use.permits, 4);
  EXPECT_EQ(use.available, 1);
  ASSERT_EQ(use.holders.size(), 1u);
  EXPECT_EQ(use.holders[0].id, permit.id());
  EXPECT_EQ(use.holders[0].count, 3);
  EXPECT_GT(use.holders[0].left, absl::Seconds(5));
  ASSERT_EQ(use.waiters.size(), 1u);
  EXPECT_EQ(use.waiters[0].count, 2);
  EXPECT_GT(use.waiters[0].left, absl::ZeroDuration());
  EXPECT_OK(permit.Release());
}

// ---- Waiting ----

TEST_F(SemaphoreTest, AReleaseServesAWaiterAtOnceAndNobodyPolls) {
  const Semaphore semaphore = Of(1);
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::atomic<bool> got_it = false;
  std::jthread waiter([&] {
    const absl::StatusOr<Permit> second = semaphore.Acquire(absl::Seconds(30));
    EXPECT_OK(second.status());
    got_it = true;
  });
  ASSERT_TRUE(WaitersBecome(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(2200));  // the scenario: a long wait
  // Two to take the place and at most one a second since, with some slack.
  EXPECT_LE(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 8);
  EXPECT_FALSE(got_it);
  const Stopwatch watch;
  EXPECT_OK(permit.Release());
  EXPECT_TRUE(Eventually([&] { return got_it.load(); }));
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(800));
}

TEST_F(SemaphoreTest, OneReleaseServesAsManyAsFit) {
  const Semaphore semaphore = Of(4);
  ASSERT_OK_AND_ASSIGN(Permit all, semaphore.TryAcquire(4));
  std::atomic<int> got = 0;
  std::atomic<bool> done = false;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 5; ++i) {
    waiters.emplace_back([&] {
      const absl::StatusOr<Permit> permit = semaphore.Acquire(absl::Seconds(30));
      EXPECT_OK(permit.status());
      ++got;
      EXPECT_TRUE(Eventually([&] { return done.load(); }, absl::Seconds(30)));
    });
  }
  EXPECT_TRUE(WaitersBecome(5));
  EXPECT_OK(all.Release());
  EXPECT_EQ(Holders(), 4);
  EXPECT_EQ(Waiters(), 1);
  EXPECT_TRUE(Eventually([&] { return got == 4; }));
  done = true;
}

TEST_F(SemaphoreTest, ABigRequestIsNotStarvedBySmallOnes) {
  const Semaphore semaphore = Of(3);
  ASSERT_OK_AND_ASSIGN(Permit one, semaphore.TryAcquire());
  ASSERT_OK_AND_ASSIGN(Permit two, semaphore.TryAcquire());
  std::atomic<bool> big_has_it = false;
  std::atomic<bool> small_has_it = false;
  std::jthread big([&] {
    absl::StatusOr<Permit> permit = semaphore.Acquire(absl::Seconds(30), 3);
    EXPECT_OK(permit.status());
    EXPECT_FALSE(small_has_it);
    big_has_it = true;
  });
  ASSERT_TRUE(WaitersBecome(1));
  // One is free, but not for those who come later.
  EXPECT_TRUE(IsBusy(semaphore.TryAcquire().status()));
  std::jthread small([&] {
    const absl::StatusOr<Permit> permit = semaphore.Acquire(absl::Seconds(30));
    EXPECT_OK(permit.status());
    EXPECT_TRUE(big_has_it);
    small_has_it = true;
  });
  ASSERT_TRUE(WaitersBecome(2));
  EXPECT_OK(one.Release());
  EXPECT_EQ(Waiters(), 2);
  EXPECT_FALSE(small_has_it);
  EXPECT_OK(two.Release());
  big.join();
  small.join();
  EXPECT_TRUE(small_has_it);
}

TEST_F(SemaphoreTest, WhoLeavesTheHeadOfTheQueueLetsThoseBehindGoOn) {
  const Semaphore semaphore = Of(2);
  ASSERT_OK_AND_ASSIGN(Permit one, semaphore.TryAcquire());
  std::stop_source stop;
  std::jthread big([&] {
    EXPECT_THAT(semaphore.Acquire(absl::Seconds(30), 2, stop.get_token()),
                StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(WaitersBecome(1));
  std::jthread small([&] { EXPECT_OK(semaphore.Acquire(absl::Seconds(30)).status()); });
  ASSERT_TRUE(WaitersBecome(2));
  const Stopwatch watch;
  stop.request_stop();
  small.join();
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(800));
  EXPECT_TRUE(one.valid());
}

TEST_F(SemaphoreTest, ATimeoutOrAStopLeavesNothingBehind) {
  const Semaphore semaphore = Of(1);
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  const Stopwatch watch;
  EXPECT_TRUE(IsBusy(semaphore.Acquire(absl::Milliseconds(200)).status()));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(190));
  EXPECT_TRUE(WaitersBecome(0));
  std::stop_source stop;
  std::jthread waiter([&] {
    EXPECT_THAT(semaphore.Acquire(absl::InfiniteDuration(), 1, stop.get_token()),
                StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(WaitersBecome(1));
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(WaitersBecome(0));
  EXPECT_OK(permit.Release());
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(SemaphoreTest, AGrantThatCrossesTheTimeoutIsGivenBack) {
  const Semaphore semaphore = Of(1);
  for (int i = 0; i < 30; ++i) {
    ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.Acquire(absl::Seconds(10)));
    std::jthread waiter([&] { (void)semaphore.Acquire(absl::Milliseconds(20)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the scenario: at the same time
    EXPECT_OK(permit.Release());
  }
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(SemaphoreTest, AKilledHoldersPermitsGoToAWaiterAfterTheTtlAndNobodyPolls) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  constexpr absl::Duration kTtl = absl::Milliseconds(1500);
  Process holder = ForkAndRun([&]() -> int {
    const absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    const absl::StatusOr<Permit> permit =
        Semaphore(*client, "s", {.permits = 2, .ttl = kTtl}).TryAcquire(2);
    if (!permit.ok()) return 2;
    std::this_thread::sleep_for(std::chrono::seconds(60));
    return 3;
  });
  ASSERT_TRUE(Eventually([&] { return Holders() == 1; }));
  std::jthread waiter([&] { EXPECT_OK(Of(2).Acquire(absl::Seconds(30), 2).status()); });
  ASSERT_TRUE(WaitersBecome(1));
  redis_.Command({"CONFIG", "RESETSTAT"});
  holder.Kill();
  const Stopwatch watch;
  waiter.join();
  EXPECT_GT(watch.elapsed(), kTtl / 2);  // the last renewal is at most a third of it ago
  EXPECT_LT(watch.elapsed(), kTtl + absl::Seconds(2));
  EXPECT_LE(CommandCalls(redis_, "evalsha"), 8);
}

TEST_F(SemaphoreTest, ADeadWaiterAtTheHeadIsSkipped) {
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(2).TryAcquire());
  EXPECT_EQ(
      First(Run("semaphore_acquire", {"ghost@x", "10000", "2", "2", "300", "nowhere", "0", "0"})),
      "0");
  const Stopwatch watch;
  EXPECT_OK(Of(2).Acquire(absl::Seconds(20)).status());
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));
  EXPECT_TRUE(WaitersBecome(0));
}

TEST_F(SemaphoreTest, AWaiterOutlivesAServerThatForgot) {
  const Semaphore semaphore = Of(1);
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  std::jthread waiter([&] { EXPECT_OK(semaphore.Acquire(absl::Seconds(30)).status()); });
  ASSERT_TRUE(WaitersBecome(1));
  redis_.Command({"FLUSHALL"});
  waiter.join();
}

TEST_F(SemaphoreTest, ClosingTheClientEndsAWait) {
  const Client other = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Permit permit, Semaphore(other, "s", {.permits = 1}).TryAcquire());
  std::jthread waiter([&] {
    EXPECT_THAT(Of(1).Acquire(absl::Seconds(60)), StatusIs(absl::StatusCode::kFailedPrecondition));
  });
  ASSERT_TRUE(WaitersBecome(1));
  client_.Close();
  waiter.join();
}

// ---- Idempotence, at the level of the scripts ----

TEST_F(SemaphoreTest, AReplayedAcquireTakesNothingMore) {
  ASSERT_NE(First(Run("semaphore_acquire", {"me", "5000", "2", "5"})), "0");
  ASSERT_NE(First(Run("semaphore_acquire", {"me", "60000", "2", "5"})), "0");
  EXPECT_EQ(Holders(), 1);
  EXPECT_LE(redis_.Integer({"PTTL", kPermits}), 5100);
  ASSERT_OK_AND_ASSIGN(SemaphoreUse use, Of(5).Available());
  EXPECT_EQ(use.available, 3);
}

TEST_F(SemaphoreTest, AWithdrawnOwnerIsRefusedLater) {
  EXPECT_EQ(Run("semaphore_withdraw", {"late", "1", "60000"}).integer(), 0);
  EXPECT_EQ(First(Run("semaphore_acquire", {"late", "5000", "1", "5"})), "-1");
  EXPECT_EQ(First(Run("semaphore_acquire", {"late", "5000", "1", "5", "3000", "c", "0", "0"})),
            "-1");
  ASSERT_NE(First(Run("semaphore_acquire", {"me", "5000", "1", "5"})), "0");
  EXPECT_EQ(First(Run("semaphore_acquire", {"late", "5000", "1", "5"})), "-1");
  EXPECT_EQ(Holders(), 1);
}

TEST_F(SemaphoreTest, AWithdrawalGivesBackWhatWasGranted) {
  ASSERT_NE(First(Run("semaphore_acquire", {"me", "5000", "2", "2"})), "0");
  EXPECT_EQ(Run("semaphore_withdraw", {"me", "2", "0"}).integer(), 1);
  EXPECT_EQ(Run("semaphore_withdraw", {"me", "2", "0"}).integer(), 0);
  EXPECT_EQ(Holders(), 0);
}

TEST_F(SemaphoreTest, OnlyTheOwnerCanReleaseOrRenew) {
  ASSERT_NE(First(Run("semaphore_acquire", {"me", "5000", "1", "2"})), "0");
  EXPECT_EQ(Run("semaphore_release", {"you", "1"}).integer(), 0);
  EXPECT_EQ(Run("semaphore_renew", {"you", "60000", "1"}).integer(), 0);
  EXPECT_EQ(Holders(), 1);
  EXPECT_EQ(Run("semaphore_renew", {"me", "60000", "1"}).integer(), 1);
  EXPECT_EQ(Run("semaphore_release", {"me", "1"}).integer(), 1);
  EXPECT_EQ(Run("semaphore_release", {"me", "1"}).integer(), 0);
}

TEST_F(SemaphoreTest, APlaceThatWasLostIsTakenAgainInOrder) {
  ASSERT_NE(First(Run("semaphore_acquire", {"holder", "60000", "1", "1"})), "0");
  const Reply early =
      Run("semaphore_acquire", {"early@x", "5000", "1", "1", "30000", "c", "0", "0"});
  ASSERT_EQ(early.items().size(), 6u);
  const std::string ticket = early.items()[3].text();
  Run("semaphore_acquire", {"late@x", "5000", "1", "1", "30000", "c", "0", "0"});
  redis_.Command({"LPOP", kQueue});
  Run("semaphore_acquire",
      {"early@x", "5000", "1", "1", "30000", "c", ticket, early.items()[4].text()});
  EXPECT_THAT(redis_.Text({"LINDEX", kQueue, "0"}), HasSubstr(" early@x "));
  EXPECT_EQ(Waiters(), 2);
  Run("semaphore_acquire", {"early@x", "5000", "1", "1", "30000", "c", "1", "0"});
  EXPECT_EQ(Waiters(), 2);
}

// ---- A permit's life ----

TEST_F(SemaphoreTest, PermitsAreRenewedAndEveryKeyHasATime) {
  const Semaphore semaphore = Of(3, absl::Milliseconds(500));
  ASSERT_OK_AND_ASSIGN(Permit one, semaphore.TryAcquire());
  ASSERT_OK_AND_ASSIGN(Permit two, semaphore.TryAcquire(2));
  std::jthread waiter([&] { EXPECT_OK(semaphore.Acquire(absl::Seconds(20)).status()); });
  ASSERT_TRUE(WaitersBecome(1));
  std::this_thread::sleep_for(
      std::chrono::milliseconds(1500));  // the scenario: three times the ttl
  EXPECT_TRUE(one.valid());
  EXPECT_TRUE(two.valid());
  EXPECT_LE(redis_.Integer({"PTTL", kPermits}), 600);
  for (const char* key : {kPermits, kFence, kQueue}) {
    EXPECT_GT(redis_.Integer({"PTTL", key}), 0) << key;
  }
  EXPECT_OK(one.Release());
  EXPECT_OK(two.Release());
}

TEST_F(SemaphoreTest, PermitsDeletedOnTheServerAreLost) {
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(1, absl::Seconds(3)).TryAcquire());
  redis_.Command({"DEL", kPermits});
  EXPECT_TRUE(Eventually([&] { return permit.stop_token().stop_requested(); }, absl::Seconds(3)));
  EXPECT_FALSE(permit.valid());
  EXPECT_TRUE(IsLost(permit.Release()));
}

TEST_F(SemaphoreTest, AReleaseMayBeRepeatedAndTheDestructorReleases) {
  const Semaphore semaphore = Of(2);
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  EXPECT_OK(permit.Release());
  ASSERT_OK_AND_ASSIGN(Permit next, semaphore.TryAcquire());
  EXPECT_OK(permit.Release());
  EXPECT_EQ(Holders(), 1);
  { const Permit gone = std::move(next); }
  EXPECT_EQ(Holders(), 0);
  Permit none;
  EXPECT_FALSE(none.valid());
  EXPECT_EQ(none.count(), 0);
  EXPECT_EQ(none.id(), PermitId());
  EXPECT_FALSE(none.Release().ok());
}

TEST_F(SemaphoreTest, APermitIsNotRenewedBeyondMaxHold) {
  const Semaphore semaphore(
      client_, "s",
      {.permits = 1, .ttl = absl::Milliseconds(300), .max_hold = absl::Milliseconds(700)});
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  EXPECT_TRUE(Eventually([&] { return permit.stop_token().stop_requested(); }, absl::Seconds(5)));
  EXPECT_OK(semaphore.Acquire(absl::Seconds(10)).status());
}

TEST_F(SemaphoreTest, AForkedChildsPermitIsVoid) {
  ASSERT_OK_AND_ASSIGN(Permit permit, Of(1).TryAcquire());
  Process child = ForkAndRun([&]() -> int {
    if (permit.valid()) return 1;
    if (Of(1).Acquire(absl::Seconds(1)).status().code() != absl::StatusCode::kFailedPrecondition) {
      return 2;
    }
    { const Permit gone = std::move(permit); }
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(Holders(), 1);
  EXPECT_TRUE(permit.valid());
}

// ---- A full server ----

TEST_F(SemaphoreTest, AFullServerRefusesToGiveButTakesBackRenewsAndHandsOn) {
  const Semaphore semaphore = Of(1, absl::Hours(1));
  ASSERT_OK_AND_ASSIGN(Permit permit, semaphore.TryAcquire());
  EXPECT_EQ(
      First(Run("semaphore_acquire", {"next@x", "9000", "1", "1", "9000", "nowhere", "0", "0"})),
      "0");
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_THAT(Semaphore(client_, "other", {.permits = 1}).TryAcquire(),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(permit.Renew(absl::Hours(2)));
  EXPECT_OK(permit.Release());
  ASSERT_OK_AND_ASSIGN(SemaphoreUse use, semaphore.Available());
  ASSERT_EQ(use.holders.size(), 1u);
  EXPECT_EQ(use.holders[0].id.value(), "next@x");
}

// ---- What is sent ----

TEST_F(SemaphoreTest, EveryOperationIsOneCall) {
  const Semaphore semaphore = Of(2, absl::Hours(1));
  std::optional<Permit> permit;
  struct Case {
    const char* what;
    std::function<absl::Status()> run;
  };
  const Case cases[] = {
      {"acquire",
       [&] {
         absl::StatusOr<Permit> got = semaphore.Acquire(absl::Seconds(5), 2);
         if (got.ok()) permit = *std::move(got);
         return got.status();
       }},
      {"renew", [&] { return permit->Renew(absl::Hours(1)); }},
      {"busy",
       [&] {
         return IsBusy(semaphore.TryAcquire().status()) ? absl::OkStatus()
                                                        : absl::InternalError("not busy");
       }},
      {"available", [&] { return semaphore.Available().status(); }},
      {"release", [&] { return permit->Release(); }},
      {"try",
       [&] {
         absl::StatusOr<Permit> got = semaphore.TryAcquire();
         if (got.ok()) permit = *std::move(got);
         return got.status();
       }},
  };
  for (const Case& c : cases) {
    redis_.Command({"CONFIG", "RESETSTAT"});
    EXPECT_OK(c.run()) << c.what;
    EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1) << c.what;
    EXPECT_EQ(CommandCalls(redis_, "eval"), 0) << c.what;
  }
}

// ---- Bad input ----

TEST_F(SemaphoreTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  struct Case {
    std::string name;
    SemaphoreOptions options;
    std::int64_t count;
    std::vector<std::string> parts;
  };
  const Case cases[] = {
      {"", {.permits = 1}, 1, {"name", "0 bytes", "512"}},
      {"}s", {.permits = 1}, 1, {"name", "'}'"}},
      {"s", {}, 1, {"permits is 0", "1 to 1000000"}},
      {"s", {.permits = -1}, 1, {"permits is -1"}},
      {"s", {.permits = 1'000'001}, 1, {"permits is 1000001"}},
      {"s", {.permits = 1, .ttl = absl::Milliseconds(19)}, 1, {"ttl", "20ms"}},
      {"s", {.permits = 1, .ttl = absl::InfiniteDuration()}, 1, {"ttl", "24h"}},
      {"s", {.permits = 1, .max_hold = absl::ZeroDuration()}, 1, {"max_hold"}},
      {"s", {.permits = 3}, 0, {"count is 0", "1 to 3"}},
      {"s", {.permits = 3}, -5, {"count is -5"}},
      {"s", {.permits = 3}, 4, {"count is 4", "1 to 3"}},
  };
  for (const Case& c : cases) {
    const Semaphore semaphore(client_, c.name, c.options);
    for (const absl::Status& status : {semaphore.TryAcquire(c.count).status(),
                                       semaphore.Acquire(absl::Seconds(5), c.count).status()}) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
      for (const std::string& part : c.parts) {
        EXPECT_THAT(std::string(status.message()), HasSubstr(part));
      }
    }
  }
  EXPECT_THAT(Of(1).Acquire(-absl::Seconds(1)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(SemaphoreTest, KeysOfAnotherTypeAreReportedAndLeftAlone) {
  for (const char* key : {kPermits, kFence, kQueue}) {
    redis_.Command({"FLUSHALL"});
    redis_.Command({"HSET", key, "a", "b"});
    const absl::Status status = Of(1).TryAcquire().status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"s\"")));
    EXPECT_FALSE(IsBusy(status));
    EXPECT_EQ(redis_.Integer({"HLEN", key}), 1);
    EXPECT_EQ(redis_.Integer({"EXISTS", kPermits, kFence, kQueue}), 1) << key;
  }
}

}  // namespace
}  // namespace coord
