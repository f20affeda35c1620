// A server whose wall clock jumps by an hour: locks that run out by it may have two holders for a
// while, and live on for an hour when it goes back. Tokens rise, and no holder believes more than
// its own clock tells it.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/fenced_store.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/raw_redis.h"
#include "tests/support/settable_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::SettableClock;
using ::coord::testing::Stopwatch;

constexpr std::int64_t kHour = 3'600'000'000;  // us

// Runs a server's clock on, with jumps.
class RunningClock {
 public:
  RunningClock() {
    Tick();
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        Tick();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  }

  void Jump(std::int64_t us) {
    offset_ += us;
    Tick();
  }
  SettableClock& clock() { return clock_; }

 private:
  void Tick() { clock_.Set(static_cast<std::uint64_t>(absl::ToUnixMicros(absl::Now()) + offset_)); }

  SettableClock clock_;
  std::atomic<std::int64_t> offset_ = 0;
  std::jthread thread_;
};

class ServerClockTest : public ::testing::Test {
 protected:
  Client Connect() const {
    absl::StatusOr<Client> client = Client::Connect(server_->url());
    EXPECT_OK(client.status());
    return *std::move(client);
  }
  bool Waits(std::int64_t how_many) {
    return Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == how_many; });
  }

  RunningClock clock_;
  const std::unique_ptr<RedisServer> server_ = clock_.clock().StartServer();
  RawRedis redis_{*server_};
  Client first_ = Connect();
  Client second_ = Connect();
  Mutex mine_{first_, "deploy", {.ttl = absl::Seconds(3)}};
  Mutex theirs_{second_, "deploy", {.ttl = absl::Seconds(3)}};
};

TEST_F(ServerClockTest, AJumpAheadEndsLeasesTheirHoldersAreToldAndTheFenceHolds) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mine_.TryAcquire());
  const FencedStore store(second_, "state");
  ASSERT_OK(store.Set(lease.token(), "mine").status());
  const absl::Duration believed = lease.remaining();
  const Stopwatch watch;
  clock_.Jump(kHour);
  // The server has forgotten the first: for a while there may be two. That is the documented limit.
  ASSERT_OK_AND_ASSIGN(const Lease next, theirs_.Acquire(absl::Seconds(10)));
  EXPECT_GT(next.token(), lease.token());
  ASSERT_OK(store.Set(next.token(), "theirs").status());
  ASSERT_OK_AND_ASSIGN(const FencedResult late, store.Set(lease.token(), "late"));
  EXPECT_FALSE(late.applied);
  ASSERT_OK_AND_ASSIGN(const FencedValue value, store.Get());
  EXPECT_EQ(value.value, "theirs");
  // The first believes no more than it has been promised, by its own clock.
  const std::stop_token lost = lease.stop_token();
  EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }));
  EXPECT_FALSE(lease.valid());
  EXPECT_LE(believed, absl::Seconds(3));
  EXPECT_TRUE(IsLost(lease.Release()));
  EXPECT_TRUE(next.valid()) << "the loser's release is not the winner's";
  EXPECT_TRUE(IsBusy(mine_.TryAcquire().status()));
}

TEST_F(ServerClockTest, AJumpAheadKeepsNobodyWaiting) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mine_.TryAcquire());
  absl::StatusOr<Lease> next;
  std::jthread waiter([&] { next = theirs_.Acquire(absl::Seconds(20)); });
  ASSERT_TRUE(Waits(1));
  clock_.Jump(kHour);  // by it the place in the queue is long dead
  waiter.join();
  ASSERT_OK(next.status());
  EXPECT_TRUE(next->valid());
  EXPECT_LE(next->remaining(), absl::Seconds(3));
  EXPECT_GT(next->token(), lease.token());
}

TEST_F(ServerClockTest, AJumpBackChangesNothingForWhoHoldsAndTokensRise) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mine_.TryAcquire());
  clock_.Jump(-kHour);
  ASSERT_OK(lease.Renew(absl::Seconds(3)));
  EXPECT_LE(lease.remaining(), absl::Seconds(3)) << "the server has an hour more";
  EXPECT_LE(redis_.Integer({"PTTL", "coord:{deploy}:lease"}), 3000);
  // Renewed for longer than it would live without.
  EXPECT_FALSE(Eventually([&] { return !lease.valid(); }, absl::Seconds(4)));
  EXPECT_TRUE(IsBusy(theirs_.TryAcquire().status()));
  FencingToken last = lease.token();
  ASSERT_OK(lease.Release());
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease next, (i % 2 == 0 ? theirs_ : mine_).Acquire(absl::Seconds(10)));
    EXPECT_GT(next.token(), last);
    last = next.token();
    ASSERT_OK(next.Release());
  }
}

TEST_F(ServerClockTest, AJumpBackLetsAnAbandonedLockLiveAnHourUnlessAnOperatorEndsIt) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mine_.TryAcquire());
  ASSERT_OK(lease.Detach().status());  // as if its holder had died: nobody renews it
  clock_.Jump(-kHour);
  // The documented limit: it would have been free after 3 s.
  EXPECT_TRUE(IsBusy(theirs_.Acquire(absl::Seconds(4)).status()));
  EXPECT_GT(redis_.Integer({"PTTL", "coord:{deploy}:lease"}), 3'000'000);
  ASSERT_OK_AND_ASSIGN(const std::string who, theirs_.ForceRelease());
  EXPECT_FALSE(who.empty());
  ASSERT_OK_AND_ASSIGN(const Lease next, theirs_.Acquire(absl::Seconds(10)));
  EXPECT_GT(next.token(), lease.token());
}

TEST_F(ServerClockTest, ADeadWaiterThatAJumpBackKeepsAliveIsPassedOver) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mine_.TryAcquire());
  // One that will never claim what it is given, alive for 9 s more.
  const std::int64_t ms = absl::ToUnixMillis(absl::Now());
  redis_.Integer(
      {"RPUSH", "coord:{deploy}:queue",
       std::to_string(ms + 9000) + " " + std::to_string(ms - 100) + "000 2000 w ghost nowhere"});
  redis_.Text({"SET", "coord:{deploy}:lease", "~" + lease.owner(), "KEEPTTL"});
  redis_.Text({"SET", "coord:{deploy}:fence", "~" + std::to_string(lease.token().value())});
  absl::StatusOr<Lease> next;
  std::jthread waiter([&] { next = theirs_.Acquire(absl::Seconds(20)); });
  ASSERT_TRUE(Waits(2));
  clock_.Jump(-kHour);
  ASSERT_OK(lease.Release());
  waiter.join();
  ASSERT_OK(next.status());  // after the ghost's claim
  EXPECT_GT(next->token(), lease.token());
}

TEST_F(ServerClockTest, CountersAndTheirAnswersLiveThroughJumps) {
  const Counter counter(first_, "hits");
  const auto id = OperationId::New();
  ASSERT_OK(counter.Add(3, {.operation_id = id}).status());
  clock_.Jump(-kHour);
  ASSERT_OK_AND_ASSIGN(const CounterResult again, counter.Add(3, {.operation_id = id}));
  EXPECT_EQ(again.value, 3) << "applied twice";
  clock_.Jump(2 * kHour);
  ASSERT_OK_AND_ASSIGN(const std::int64_t value, counter.Get());
  EXPECT_EQ(value, 3);
}

}  // namespace
}  // namespace coord
