// Latch and Barrier on one server: who goes on, and when.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "coord/barrier.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/latch.h"
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
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kLatch[] = "coord:{l}:latch";
constexpr char kLatchWaiters[] = "coord:{l}:latch-waiters";
constexpr char kCounted[] = "coord:{l}:latch-counted";
constexpr char kBarrier[] = "coord:{b}:barrier";
constexpr char kAlive[] = "coord:{b}:barrier-alive";
constexpr char kOrder[] = "coord:{b}:barrier-order";
constexpr char kMet[] = "coord:{b}:barrier-met";

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class MeetingTest : public ::testing::Test {
 protected:
  Reply Run(const std::string& name, const std::vector<std::string>& keys,
            const std::vector<std::string>& args) {
    for (const internal::ScriptText* script : internal::AllScripts()) {
      if (script->name != name) continue;
      std::vector<std::string> command = {"EVAL", std::string(script->text),
                                          std::to_string(keys.size())};
      command.insert(command.end(), keys.begin(), keys.end());
      command.insert(command.end(), args.begin(), args.end());
      Reply reply = redis_.Command(command);
      EXPECT_FALSE(reply.is_error()) << name << ": " << reply.text();
      return reply;
    }
    testing::Fatal("no script " + name);
  }
  std::int64_t Size(const char* zset) { return redis_.Integer({"ZCARD", zset}); }
  bool Becomes(const char* zset, std::int64_t size) {
    return Eventually([&] { return Size(zset) == size; });
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
};

// ---- Latch ----

class LatchTest : public MeetingTest {
 protected:
  Latch Of(std::int64_t count) const { return Latch(client_, "l", {.count = count}); }
};

TEST_F(LatchTest, OpensWhenItHasBeenCountedDownAndStaysOpen) {
  const Latch latch = Of(3);
  EXPECT_THAT(latch.Count(), IsOkAndHolds(3));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  EXPECT_THAT(latch.CountDown(), IsOkAndHolds(2));
  EXPECT_TRUE(IsBusy(latch.Wait(absl::ZeroDuration())));
  EXPECT_THAT(latch.CountDown(2), IsOkAndHolds(0));
  EXPECT_OK(latch.Wait(absl::ZeroDuration()));
  EXPECT_OK(Latch(ConnectTo(server_), "l", {.count = 3}).Wait(absl::Seconds(5)));
  EXPECT_THAT(latch.CountDown(), IsOkAndHolds(0));
  EXPECT_THAT(latch.Count(), IsOkAndHolds(0));
}

TEST_F(LatchTest, CountingBelowZeroStopsThere) {
  EXPECT_THAT(Of(3).CountDown(1'000'000'000), IsOkAndHolds(0));
  EXPECT_OK(Of(3).Wait(absl::ZeroDuration()));
}

TEST_F(LatchTest, AllWhoWaitAreWokenAtOnceAndNobodyPolls) {
  const Client other = ConnectTo(server_);
  std::atomic<int> open = 0;
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 6; ++i) {
    waiters.emplace_back([&, i] {
      EXPECT_OK(Latch(i % 2 == 0 ? client_ : other, "l", {.count = 1}).Wait(absl::Seconds(30)));
      ++open;
    });
  }
  ASSERT_TRUE(Becomes(kLatchWaiters, 6));
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::this_thread::sleep_for(std::chrono::milliseconds(2200));  // the scenario: a long wait
  EXPECT_LE(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 6 * 4);
  EXPECT_EQ(open, 0);
  EXPECT_EQ(Size(kLatchWaiters), 6);
  const Stopwatch watch;
  EXPECT_THAT(Of(1).CountDown(), IsOkAndHolds(0));
  EXPECT_TRUE(Eventually([&] { return open == 6; }));
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(800));
  EXPECT_TRUE(Becomes(kLatchWaiters, 0));
}

TEST_F(LatchTest, ALostMessageCostsOneSignOfLife) {
  std::jthread waiter([&] { EXPECT_OK(Of(1).Wait(absl::Seconds(30))); });
  ASSERT_TRUE(Becomes(kLatchWaiters, 1));
  redis_.Command({"DEL", kLatchWaiters});  // so that nobody is woken
  const Stopwatch watch;
  EXPECT_THAT(Of(1).CountDown(), IsOkAndHolds(0));
  waiter.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(2));
}

TEST_F(LatchTest, ATimeoutOrAStopLeavesNobodyWaiting) {
  const Stopwatch watch;
  const absl::Status busy = Of(2).Wait(absl::Milliseconds(200));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(190));
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("2 of 2 are left")));
  EXPECT_TRUE(Becomes(kLatchWaiters, 0));
  std::stop_source stop;
  std::jthread waiter([&] {
    EXPECT_THAT(Of(2).Wait(absl::InfiniteDuration(), stop.get_token()),
                StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(Becomes(kLatchWaiters, 1));
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(Becomes(kLatchWaiters, 0));
}

TEST_F(LatchTest, AReplayedCountDownCountsOnce) {
  const std::vector<std::string> keys = {kLatch, kLatchWaiters, kCounted};
  const std::vector<std::string> once = {"5", "60000", "2", "operation", "10000"};
  EXPECT_EQ(Run("latch_count", keys, once).text(), "3");
  EXPECT_EQ(Run("latch_count", keys, once).text(), "3");
  EXPECT_EQ(Run("latch_count", keys, {"5", "60000", "2", "another", "10000"}).text(), "1");
  EXPECT_EQ(Run("latch_count", keys, once).text(), "1");
  EXPECT_THAT(Of(5).Count(), IsOkAndHolds(1));
}

TEST_F(LatchTest, CountedByManyThreadsItIsExact) {
  constexpr int kThreads = 8;
  constexpr int kEach = 25;
  std::atomic<int> opened = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < kEach; ++k) {
          const absl::StatusOr<std::int64_t> left = Of(kThreads * kEach).CountDown();
          EXPECT_OK(left.status());
          if (left.ok() && *left == 0) ++opened;
        }
      });
    }
  }
  EXPECT_EQ(opened, 1);
  EXPECT_THAT(Of(kThreads * kEach).Count(), IsOkAndHolds(0));
}

TEST_F(LatchTest, AnotherCountIsRefused) {
  EXPECT_OK(Of(3).CountDown().status());
  for (const absl::Status& refused : {Of(4).CountDown().status(), Of(4).Wait(absl::Seconds(5))}) {
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kFailedPrecondition,
                                  AllOf(HasSubstr("count of 3"), HasSubstr("with 4"))));
  }
  EXPECT_THAT(Of(4).Count(), IsOkAndHolds(2));
}

TEST_F(LatchTest, AWaitForALatchThatTheServerLostFails) {
  EXPECT_OK(Of(2).CountDown().status());
  std::jthread waiter([&] {
    EXPECT_THAT(Of(2).Wait(absl::Seconds(30)),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("lost")));
  });
  ASSERT_TRUE(Becomes(kLatchWaiters, 1));
  redis_.Command({"FLUSHALL"});
  waiter.join();
}

TEST_F(LatchTest, EveryKeyHasATime) {
  const Latch latch(client_, "l", {.count = 2, .ttl = absl::Seconds(100)});
  EXPECT_OK(latch.CountDown().status());
  std::jthread waiter([&] { EXPECT_OK(latch.Wait(absl::Seconds(30))); });
  ASSERT_TRUE(Becomes(kLatchWaiters, 1));
  for (const char* key : {kLatch, kLatchWaiters, kCounted}) {
    EXPECT_GT(redis_.Integer({"PTTL", key}), 0) << key;
    EXPECT_LE(redis_.Integer({"PTTL", key}), 100'000) << key;
  }
  EXPECT_OK(latch.CountDown().status());
}

TEST_F(LatchTest, EveryOperationIsOneCall) {
  const Latch latch = Of(1);
  const auto calls = [&](auto operation) {
    redis_.Command({"CONFIG", "RESETSTAT"});
    EXPECT_TRUE(operation().ok());
    return CommandCalls(redis_, "evalsha");
  };
  EXPECT_EQ(calls([&] { return latch.Count(); }), 1);
  EXPECT_EQ(calls([&] { return latch.CountDown(); }), 1);
  EXPECT_EQ(calls([&] { return latch.Wait(absl::Seconds(5)); }), 1);
}

TEST_F(LatchTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  struct Case {
    std::string name;
    LatchOptions options;
    std::string part;
  };
  const Case cases[] = {
      {"", {.count = 1}, "name"},
      {"}", {.count = 1}, "'}'"},
      {"l", {}, "count is 0"},
      {"l", {.count = -1}, "count is -1"},
      {"l", {.count = 1'000'000'001}, "1 to 1000000000"},
      {"l", {.count = 1, .ttl = absl::Seconds(9)}, "10s"},
      {"l", {.count = 1, .ttl = absl::InfiniteDuration()}, "ttl is inf"},
  };
  for (const Case& c : cases) {
    const Latch latch(client_, c.name, c.options);
    for (const absl::Status& status :
         {latch.CountDown().status(), latch.Wait(absl::Seconds(1)), latch.Count().status()}) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.part)));
    }
  }
  for (const std::int64_t n : {-1, 0}) {
    EXPECT_THAT(Of(1).CountDown(n),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("n is")));
  }
  EXPECT_THAT(Of(1).Wait(-absl::Seconds(1)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(LatchTest, KeysOfAnotherTypeAreReportedAndLeftAlone) {
  for (const char* key : {kLatch, kLatchWaiters, kCounted}) {
    redis_.Command({"FLUSHALL"});
    redis_.Command({"HSET", key, "a", "b"});
    EXPECT_THAT(Of(1).CountDown(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"l\"")));
    EXPECT_EQ(redis_.Integer({"HLEN", key}), 1);
    EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1) << key;
  }
}

// ---- Barrier ----

class BarrierTest : public MeetingTest {
 protected:
  Barrier Of(int parties) const { return Barrier(client_, "b", {.parties = parties}); }
};

TEST_F(BarrierTest, OnePartyMeetsItselfAgainAndAgain) {
  for (std::uint64_t generation = 1; generation <= 3; ++generation) {
    ASSERT_OK_AND_ASSIGN(const BarrierTurn turn, Of(1).Await(absl::Seconds(5)));
    EXPECT_EQ(turn.generation, generation);
    EXPECT_EQ(turn.index, 0);
  }
}

// What forked children share.
struct Progress {
  std::atomic<int> round[8];
  std::atomic<int> early{0};
  std::atomic<int> last[64];  // how many were last to come, by generation
};

TEST_F(BarrierTest, FiveProcessesMeetTwentyTimesAndNobodyPassesEarly) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  constexpr int kParties = 5;
  constexpr int kRounds = 20;
  void* shared =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* progress = new (shared) Progress{};
  std::vector<Process> children;
  for (int i = 0; i < kParties; ++i) {
    children.push_back(ForkAndRun([&, i]() -> int {
      const absl::StatusOr<Client> client = Client::Connect(server_.url());
      if (!client.ok()) return 1;
      const Barrier barrier(*client, "b", {.parties = kParties});
      for (int round = 1; round <= kRounds; ++round) {
        progress->round[i] = round;
        const absl::StatusOr<BarrierTurn> turn = barrier.Await(absl::Seconds(60));
        if (!turn.ok()) return 2;
        if (turn->generation != static_cast<std::uint64_t>(round)) return 3;
        if (turn->index == 0) ++progress->last[round];
        for (int k = 0; k < kParties; ++k) {
          if (progress->round[k] < round) ++progress->early;
        }
      }
      return 0;
    }));
  }
  for (Process& child : children) EXPECT_EQ(child.Wait(absl::Seconds(90)).exit_code, 0);
  EXPECT_EQ(progress->early, 0);
  for (int round = 1; round <= kRounds; ++round) EXPECT_EQ(progress->last[round], 1) << round;
  EXPECT_EQ(Size(kOrder), 0);
  munmap(shared, sizeof(Progress));
}

TEST_F(BarrierTest, AllGoOnWithTheSameGenerationAndTheirOrderOfComing) {
  std::mutex mutex;
  std::set<int> indices;
  std::set<std::uint64_t> generations;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const absl::StatusOr<BarrierTurn> turn = Of(4).Await(absl::Seconds(30));
      ASSERT_OK(turn.status());
      EXPECT_EQ(turn->index, 3 - i);
      const std::lock_guard<std::mutex> lock(mutex);
      indices.insert(turn->index);
      generations.insert(turn->generation);
    });
    if (i < 3) {
      ASSERT_TRUE(Becomes(kOrder, i + 1));
    }
  }
  for (std::jthread& thread : threads) thread.join();
  EXPECT_THAT(indices, ::testing::ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(generations.size(), 1u);
}

TEST_F(BarrierTest, WhoGivesUpIsNotCountedAndTheOthersGoOnWaiting) {
  std::atomic<bool> met = false;
  std::jthread first([&] {
    EXPECT_OK(Of(3).Await(absl::Seconds(30)).status());
    met = true;
  });
  ASSERT_TRUE(Becomes(kOrder, 1));
  const absl::Status busy = Of(3).Await(absl::Milliseconds(200)).status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_FALSE(IsOutcomeUnknown(busy));
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("2 of 3 parties")));
  EXPECT_EQ(Size(kOrder), 1);
  std::stop_source stop;
  std::jthread second([&] {
    EXPECT_THAT(Of(3).Await(absl::InfiniteDuration(), stop.get_token()),
                StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(Becomes(kOrder, 2));
  stop.request_stop();
  second.join();
  EXPECT_EQ(Size(kOrder), 1);
  EXPECT_FALSE(met);
  std::jthread third([&] { EXPECT_OK(Of(3).Await(absl::Seconds(30)).status()); });
  ASSERT_TRUE(Becomes(kOrder, 2));
  EXPECT_OK(Of(3).Await(absl::Seconds(30)).status());
}

TEST_F(BarrierTest, WhoMetAtTheVeryTimeoutIsToldSo) {
  // However the two fall, both say the same.
  const Client other = ConnectTo(server_);
  for (int i = 0; i < 20; ++i) {
    absl::StatusOr<BarrierTurn> one;
    std::jthread thread(
        [&] { one = Barrier(other, "b", {.parties = 2}).Await(absl::Milliseconds(20)); });
    std::this_thread::sleep_for(std::chrono::milliseconds(18 + i % 5));  // the scenario
    const absl::StatusOr<BarrierTurn> two = Of(2).Await(absl::Milliseconds(1));
    thread.join();
    EXPECT_EQ(one.ok(), two.ok()) << one.status() << two.status();
  }
  EXPECT_EQ(Size(kOrder), 0);
}

TEST_F(BarrierTest, ADeadPartyIsNotCounted) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  Process dead = ForkAndRun([&]() -> int {
    const absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    (void)Barrier(*client, "b", {.parties = 3}).Await(absl::Seconds(60));
    return 0;
  });
  ASSERT_TRUE(Becomes(kOrder, 1));
  dead.Kill();
  std::this_thread::sleep_for(std::chrono::milliseconds(3300));  // the scenario: it has been silent
  std::jthread first([&] { EXPECT_OK(Of(3).Await(absl::Seconds(30)).status()); });
  ASSERT_TRUE(Eventually([&] { return Size(kAlive) == 1 && Size(kOrder) == 1; }));
  EXPECT_TRUE(IsBusy(Of(3).Await(absl::Milliseconds(300)).status()));
  std::jthread second([&] { EXPECT_OK(Of(3).Await(absl::Seconds(30)).status()); });
  ASSERT_TRUE(Becomes(kOrder, 2));
  EXPECT_OK(Of(3).Await(absl::Seconds(30)).status());
}

TEST_F(BarrierTest, ALostMessageCostsOneSignOfLife) {
  const std::vector<std::string> keys = {kBarrier, kAlive, kOrder, kMet};
  std::jthread waiter([&] {
    const absl::StatusOr<BarrierTurn> turn = Of(2).Await(absl::Seconds(30));
    EXPECT_OK(turn.status());
    if (turn.ok()) {
      EXPECT_EQ(turn->index, 1);
    }
  });
  ASSERT_TRUE(Becomes(kOrder, 1));
  redis_.Command({"CLIENT", "KILL", "TYPE", "pubsub"});
  Run("barrier_join", keys, {"2", "60000", "other@x", "3000", "nowhere"});
  const Stopwatch watch;
  waiter.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));
}

TEST_F(BarrierTest, WhoHasLeftIsRefusedAndWhoHasMetMeetsNoMore) {
  const std::vector<std::string> keys = {kBarrier, kAlive, kOrder, kMet};
  const std::vector<std::string> late = {"2", "60000", "late@x", "3000", "c"};
  Run("barrier_join", keys, late);
  EXPECT_EQ(Run("barrier_leave", {kAlive, kOrder, kMet}, {"late@x", "c", "60000"}).integer(), 0);
  EXPECT_EQ(Run("barrier_join", keys, late).items()[0].integer(), -1);
  EXPECT_EQ(Size(kOrder), 0);
  Run("barrier_join", keys, {"2", "60000", "a@x", "3000", "c"});
  const Reply met = Run("barrier_join", keys, {"2", "60000", "b@x", "3000", "c"});
  EXPECT_EQ(met.items()[0].text(), "65536");
  EXPECT_EQ(Run("barrier_join", keys, {"2", "60000", "a@x", "3000", "c"}).items()[0].text(),
            "65537");
  EXPECT_EQ(Size(kOrder), 0);
  EXPECT_EQ(Run("barrier_leave", {kAlive, kOrder, kMet}, {"a@x", "c", "0"}).text(), "65537");
}

TEST_F(BarrierTest, AnotherNumberOfPartiesIsRefusedWhileSomebodyWaits) {
  std::stop_source stop;
  std::jthread waiter([&] { (void)Of(3).Await(absl::Seconds(30), stop.get_token()); });
  ASSERT_TRUE(Becomes(kOrder, 1));
  EXPECT_THAT(Of(2).Await(absl::Seconds(5)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("3 parties"), HasSubstr("with 2"))));
  EXPECT_EQ(Size(kOrder), 1);
  stop.request_stop();
  waiter.join();
  EXPECT_OK(Of(1).Await(absl::Seconds(5)).status());
}

TEST_F(BarrierTest, AWaitOutlivesAServerThatForgot) {
  std::jthread waiter([&] { EXPECT_OK(Of(2).Await(absl::Seconds(30)).status()); });
  ASSERT_TRUE(Becomes(kOrder, 1));
  redis_.Command({"FLUSHALL"});
  EXPECT_OK(Of(2).Await(absl::Seconds(30)).status());
}

TEST_F(BarrierTest, EveryKeyHasATimeAndAMeetingIsOneCallEach) {
  const Barrier barrier(client_, "b", {.parties = 2, .ttl = absl::Seconds(100)});
  EXPECT_OK(Of(1).Await(absl::Seconds(5)).status());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::jthread waiter([&] { EXPECT_OK(barrier.Await(absl::Seconds(30)).status()); });
  ASSERT_TRUE(Becomes(kOrder, 1));
  for (const char* key : {kBarrier, kAlive, kOrder, kMet}) {
    EXPECT_GT(redis_.Integer({"PTTL", key}), 0) << key;
  }
  EXPECT_OK(barrier.Await(absl::Seconds(30)).status());
  waiter.join();
  EXPECT_LE(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 3);
}

TEST_F(BarrierTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  struct Case {
    std::string name;
    BarrierOptions options;
    std::string part;
  };
  const Case cases[] = {
      {"", {.parties = 1}, "name"},
      {"b", {}, "parties is 0"},
      {"b", {.parties = -1}, "parties is -1"},
      {"b", {.parties = 10'001}, "1 to 10000"},
      {"b", {.parties = 1, .ttl = absl::Seconds(1)}, "10s"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(Barrier(client_, c.name, c.options).Await(absl::Seconds(1)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.part)));
  }
  EXPECT_THAT(Of(1).Await(-absl::Seconds(1)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(BarrierTest, AKeyOfAnotherTypeIsReportedAndLeftAlone) {
  redis_.Command({"HSET", kBarrier, "a", "b"});
  EXPECT_THAT(Of(1).Await(absl::Seconds(5)), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"HLEN", kBarrier}), 1);
}

}  // namespace
}  // namespace coord
