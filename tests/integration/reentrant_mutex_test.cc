// A handle that may take again what it has.
#include "coord/reentrant_mutex.h"

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using Hold = ReentrantMutex::Hold;

constexpr char kLease[] = "coord:{deploy}:lease";

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class ReentrantMutexTest : public ::testing::Test {
 protected:
  bool Held() { return redis_.Integer({"EXISTS", kLease}) == 1; }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  ReentrantMutex mutex_{client_, "deploy", {.ttl = absl::Seconds(60)}};
};

TEST_F(ReentrantMutexTest, FurtherHoldsCostNothingAndKeepTheToken) {
  ASSERT_OK_AND_ASSIGN(Hold outer, mutex_.Acquire(absl::Seconds(5)));
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(Hold inner, mutex_.Acquire(absl::ZeroDuration()));
  ASSERT_OK_AND_ASSIGN(Hold third, mutex_.TryAcquire());
  EXPECT_EQ(inner.token(), outer.token());
  EXPECT_EQ(third.token(), outer.token());
  EXPECT_EQ(mutex_.depth(), 3);
  EXPECT_OK(third.Release());
  EXPECT_OK(outer.Release());  // in any order
  EXPECT_TRUE(inner.valid());
  EXPECT_GT(inner.remaining(), absl::Seconds(50));
  EXPECT_EQ(AllCalls(redis_), 0);
  EXPECT_TRUE(Held());
  EXPECT_OK(inner.Release());
  EXPECT_FALSE(Held());
  EXPECT_EQ(mutex_.depth(), 0);
}

TEST_F(ReentrantMutexTest, TheDestructorOfTheLastHoldGivesItBack) {
  {
    ASSERT_OK_AND_ASSIGN(Hold outer, mutex_.TryAcquire());
    { ASSERT_OK_AND_ASSIGN(Hold inner, mutex_.TryAcquire()); }
    EXPECT_TRUE(Held());
  }
  EXPECT_FALSE(Held());
  ASSERT_OK_AND_ASSIGN(Hold next, mutex_.TryAcquire());
  next = Hold();
  EXPECT_FALSE(Held());
}

TEST_F(ReentrantMutexTest, AReleaseOfAHoldMayBeRepeatedAndCountsOnce) {
  ASSERT_OK_AND_ASSIGN(Hold outer, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(Hold inner, mutex_.TryAcquire());
  for (int i = 0; i < 3; ++i) EXPECT_OK(inner.Release());
  EXPECT_EQ(mutex_.depth(), 1);
  EXPECT_TRUE(Held());
  EXPECT_FALSE(inner.valid());
  EXPECT_EQ(inner.token(), FencingToken());
  EXPECT_TRUE(inner.stop_token().stop_requested());
  EXPECT_OK(outer.Release());
}

TEST_F(ReentrantMutexTest, BelongsToTheHandleNotToTheThread) {
  ASSERT_OK_AND_ASSIGN(Hold outer, mutex_.TryAcquire());
  ReentrantMutex another(client_, "deploy", {.ttl = absl::Seconds(60)});
  EXPECT_TRUE(IsBusy(another.TryAcquire().status()));  // the same thread
  EXPECT_TRUE(IsBusy(Mutex(client_, "deploy").TryAcquire().status()));
  std::jthread([&] {
    const absl::StatusOr<Hold> inner = mutex_.TryAcquire();  // another thread
    EXPECT_OK(inner.status());
    EXPECT_EQ(inner->token(), outer.token());
  }).join();
  EXPECT_EQ(mutex_.depth(), 1);
}

TEST_F(ReentrantMutexTest, ALostLockIsReportedUntilAllHoldsAreGoneAndThenStartsAnew) {
  ReentrantMutex mutex(client_, "deploy", {.ttl = absl::Milliseconds(600)});
  ASSERT_OK_AND_ASSIGN(Hold outer, mutex.TryAcquire());
  ASSERT_OK_AND_ASSIGN(Hold inner, mutex.TryAcquire());
  const FencingToken token = outer.token();
  redis_.Command({"FLUSHALL"});
  ASSERT_TRUE(Eventually([&] { return !outer.valid(); }));
  EXPECT_TRUE(Eventually([&] { return inner.stop_token().stop_requested(); }));
  EXPECT_TRUE(IsLost(mutex.Acquire(absl::Seconds(1)).status()));
  EXPECT_TRUE(IsLost(mutex.TryAcquire().status()));
  EXPECT_TRUE(IsLost(inner.Release()));
  EXPECT_TRUE(IsLost(mutex.TryAcquire().status()));
  EXPECT_TRUE(IsLost(outer.Release()));
  ASSERT_OK_AND_ASSIGN(Hold fresh, mutex.TryAcquire());
  EXPECT_GT(fresh.token(), token);
}

TEST_F(ReentrantMutexTest, ThreadsThatAskAHandleTogetherEnterTogether) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  std::atomic<int> entered = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const absl::StatusOr<Hold> hold = mutex_.Acquire(absl::Seconds(20));
      EXPECT_OK(hold.status());
      ++entered;
      EXPECT_TRUE(Eventually([&] { return entered == 4; }));  // all at once inside
    });
  }
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  EXPECT_EQ(entered, 0);
  EXPECT_TRUE(IsBusy(mutex_.TryAcquire().status()));
  EXPECT_OK(rival.Release());
  threads.clear();
  EXPECT_EQ(entered, 4);
  EXPECT_FALSE(Held());
}

TEST_F(ReentrantMutexTest, AThreadThatWaitsForAnotherOfTheHandleKeepsItsOwnTimeAndStop) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  std::stop_source stop;
  std::jthread first([&] {
    EXPECT_THAT(mutex_.Acquire(absl::InfiniteDuration(), stop.get_token()).status(),
                StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  EXPECT_TRUE(IsBusy(mutex_.Acquire(absl::Milliseconds(50)).status()));
  std::stop_source other;
  std::jthread second([&] {
    EXPECT_THAT(mutex_.Acquire(absl::InfiniteDuration(), other.get_token()).status(),
                StatusIs(absl::StatusCode::kCancelled));
  });
  other.request_stop();
  second.join();
  stop.request_stop();
  first.join();
  EXPECT_EQ(mutex_.depth(), 0);
}

TEST_F(ReentrantMutexTest, HoldsOutliveTheHandle) {
  std::optional<ReentrantMutex> handle(std::in_place, client_, "deploy");
  ASSERT_OK_AND_ASSIGN(Hold hold, handle->TryAcquire());
  handle.reset();
  EXPECT_TRUE(hold.valid());
  EXPECT_OK(hold.Release());
  EXPECT_FALSE(Held());
}

TEST_F(ReentrantMutexTest, AForkedChildsHoldsAreVoid) {
  ASSERT_OK_AND_ASSIGN(Hold hold, mutex_.TryAcquire());
  Process child = ForkAndRun([&] {
    if (hold.valid() || !hold.stop_token().stop_requested()) return 1;
    if (mutex_.TryAcquire().ok() || mutex_.depth() != 0) return 2;
    if (hold.Release().ok()) return 3;
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_TRUE(hold.valid());
  EXPECT_TRUE(Held());
}

TEST_F(ReentrantMutexTest, BadArgumentsReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  ReentrantMutex bad(client_, "");
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(bad.TryAcquire().status(), refused);
  EXPECT_THAT(bad.Acquire(absl::Seconds(1)).status(), refused);
  EXPECT_THAT(mutex_.Acquire(-absl::Seconds(1)).status(), refused);
  EXPECT_THAT(mutex_.TryAcquire({.timeout = absl::ZeroDuration()}).status(), refused);
  EXPECT_EQ(AllCalls(redis_), 0);
  ASSERT_OK_AND_ASSIGN(Hold hold, mutex_.TryAcquire());
  EXPECT_THAT(mutex_.TryAcquire({.timeout = absl::ZeroDuration()}).status(), refused);
  EXPECT_THAT(mutex_.Acquire(-absl::Seconds(1)).status(), refused);
  EXPECT_THAT(hold.Release({.timeout = absl::ZeroDuration()}), refused);
  EXPECT_TRUE(hold.valid());
}

}  // namespace
}  // namespace coord
