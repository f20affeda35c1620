// Who of a process reads the messages that wake its waiters: one of those who wait, and when he
// has gone another of them, or the background thread. A message that nobody reads shows as a wait
// until the next question, a second later.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/election.h"
#include "coord/mutex.h"
#include "gtest/gtest.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Stopwatch;

// Far below the second after which a waiter asks by itself, and wide for a loaded machine.
constexpr absl::Duration kSoon = absl::Milliseconds(600);
constexpr absl::Duration kPatience = absl::Seconds(20);
const MutexOptions kLong = {.ttl = absl::Seconds(30)};

class MessageReaderTest : public ::testing::Test {
 protected:
  Client Connect() {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    EXPECT_OK(client.status());
    return *std::move(client);
  }
  void AwaitWaiters(const std::string& name, int count) {
    EXPECT_TRUE(Eventually([&] {
      return redis_.Integer({"LLEN", "coord:{" + name + "}:queue"}) == count;
    }));
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client holder_ = Connect();
  Client waiter_ = Connect();
};

// Four threads of one process wait for locks of their own, and are let in one after the other.
TEST_F(MessageReaderTest, WhoeverReadsLeavesAnotherWhoDoes) {
  constexpr int kNames = 4;
  absl::Duration slow = absl::ZeroDuration();
  int slow_ones = 0;
  for (int round = 0; round < 12; ++round) {
    std::vector<Lease> held;
    std::vector<std::jthread> threads;
    std::atomic<int> in{0};
    for (int i = 0; i < kNames; ++i) {
      const std::string name = std::to_string(i);
      ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder_, name, kLong).TryAcquire());
      held.push_back(std::move(lease));
      threads.emplace_back([this, name, &in] {
        const absl::StatusOr<Lease> got = Mutex(waiter_, name, kLong).Acquire(kPatience);
        EXPECT_OK(got.status());
        ++in;
      });
      AwaitWaiters(name, 1);
    }
    for (int i = 0; i < kNames; ++i) {
      // Not always the one who began to wait first.
      const auto next = static_cast<std::size_t>((i * 3 + round) % kNames);
      const Stopwatch watch;
      EXPECT_OK(held[next].Release());
      ASSERT_TRUE(Eventually([&] { return in == i + 1; }));
      slow = std::max(slow, watch.elapsed());
      if (watch.elapsed() > kSoon) ++slow_ones;
    }
  }
  // One may be the machine's fault.
  EXPECT_LE(slow_ones, 1) << "the slowest took " << slow;
}

// The same thread waits again and again, with pauses in which the background thread reads or not.
TEST_F(MessageReaderTest, AWaiterIsWokenAfterAnyPause) {
  int slow_ones = 0;
  for (const int pause_ms : {0, 1, 20, 200, 900, 1050, 1300, 0, 30}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder_, "m", kLong).TryAcquire());
    std::jthread thread([this] {
      const absl::StatusOr<Lease> got = Mutex(waiter_, "m", kLong).Acquire(kPatience);
      EXPECT_OK(got.status());
    });
    AwaitWaiters("m", 1);
    const Stopwatch watch;
    EXPECT_OK(lease.Release());
    thread.join();
    if (watch.elapsed() > kSoon) ++slow_ones;
  }
  EXPECT_LE(slow_ones, 1);
}

TEST_F(MessageReaderTest, AnObserverIsToldWhileNobodyElseReads) {
  const Election election(holder_, "e");
  const Election observed(waiter_, "e");
  // Somebody has just waited, so the background thread may be asleep.
  {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder_, "m", kLong).TryAcquire());
    std::jthread thread(
        [this] { EXPECT_OK(Mutex(waiter_, "m", kLong).Acquire(kPatience).status()); });
    AwaitWaiters("m", 1);
    EXPECT_OK(lease.Release());
  }
  std::atomic<bool> told = false;
  std::jthread thread([&] {
    absl::StatusOr<std::optional<Leader>> leader = observed.AwaitChange(std::nullopt, kPatience);
    EXPECT_OK(leader.status());
    told = true;
  });
  EXPECT_TRUE(Eventually([&] { return redis_.Integer({"ZCARD", "coord:{e}:observers"}) == 1; }));
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(Leadership lead, election.Campaign("here", kPatience));
  EXPECT_TRUE(Eventually([&] { return told.load(); }));
  EXPECT_LT(watch.elapsed(), kSoon);
  EXPECT_OK(lead.Resign());
}

// The connection with the messages is cut while a waiter reads it.
TEST_F(MessageReaderTest, ALinkThatBreaksUnderAReaderIsReplaced) {
  int slow_ones = 0;
  for (int round = 0; round < 5; ++round) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder_, "m", kLong).TryAcquire());
    std::jthread thread(
        [this] { EXPECT_OK(Mutex(waiter_, "m", kLong).Acquire(kPatience).status()); });
    AwaitWaiters("m", 1);
    redis_.Command({"CLIENT", "KILL", "TYPE", "pubsub"});
    // Both clients subscribe again.
    EXPECT_TRUE(Eventually([&] {
      return redis_.Command({"PUBSUB", "CHANNELS"}).items().size() >= 1;
    }));
    const Stopwatch watch;
    EXPECT_OK(lease.Release());
    thread.join();
    if (watch.elapsed() > kSoon) ++slow_ones;
  }
  EXPECT_LE(slow_ones, 1);
}

}  // namespace
}  // namespace coord
