// Leases that replicas must have heard of.
#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

constexpr char kLease[] = "coord:{deploy}:lease";

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class ReplicaWaitTest : public ::testing::Test {
 protected:
  ReplicaWaitTest() {
    if (!Eventually([&] {
          redis_.Command({"SET", "probe", "1", "PX", "1000"});
          return redis_.Integer({"WAIT", "1", "1000"}) == 1;
        })) {
      testing::Fatal("the replica does not follow");
    }
  }

  Mutex Waiting(int replicas, absl::Duration timeout = absl::Seconds(5)) {
    return Mutex(client_, "deploy",
                 {.ttl = absl::Seconds(30), .wait_replicas = replicas, .replica_timeout = timeout});
  }

  RedisServer server_{{.port = 0, .args = {"--repl-diskless-sync-delay", "0"}}};
  RedisServer replica_{
      {.port = 0, .args = {"--replicaof", "127.0.0.1", std::to_string(server_.port())}}};
  RawRedis redis_{server_};
  RawRedis replica_redis_{replica_};
  Client client_ = ConnectTo(server_);
};

TEST_F(ReplicaWaitTest, ALeaseIsOnTheReplicaWhenItIsGranted) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease tried, Waiting(1).TryAcquire());
    ASSERT_THAT(replica_redis_.Text({"GET", kLease}), HasSubstr(tried.owner()));
    ASSERT_OK(tried.Release());
    ASSERT_OK_AND_ASSIGN(Lease acquired, Waiting(1).Acquire(absl::Seconds(5)));
    ASSERT_THAT(replica_redis_.Text({"GET", kLease}), HasSubstr(acquired.owner()));
    ASSERT_OK(acquired.Release());
  }
}

TEST_F(ReplicaWaitTest, AGrantThatWasWaitedForIsOnTheReplicaToo) {
  const Client other = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(other, "deploy").TryAcquire());
  std::jthread waiter([&] {
    absl::StatusOr<Lease> next = Waiting(1).Acquire(absl::Seconds(20));
    EXPECT_OK(next.status());
    if (!next.ok()) return;
    EXPECT_THAT(replica_redis_.Text({"GET", kLease}), HasSubstr(next->owner()));
    EXPECT_GT(next->remaining(), absl::Seconds(20));
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  EXPECT_OK(lease.Release());
}

TEST_F(ReplicaWaitTest, AReplicaThatStandsStillMakesTheAcquireFailAndLeavesTheLockFree) {
  const Mutex mutex = Waiting(1, absl::Milliseconds(200));
  replica_.Pause();
  for (const bool once : {true, false}) {
    const Stopwatch watch;
    const absl::Status status =
        once ? mutex.TryAcquire().status() : mutex.Acquire(absl::Seconds(5)).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("0 of the 1 replicas")));
    EXPECT_TRUE(coord::IsUnavailable(status));
    EXPECT_FALSE(IsOutcomeUnknown(status));
    EXPECT_GE(watch.elapsed(), absl::Milliseconds(190));
    EXPECT_LT(watch.elapsed(), absl::Seconds(5));
    EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kLease}) == 0; }));
  }
  replica_.Resume();
  EXPECT_TRUE(Eventually([&] { return mutex.TryAcquire().ok(); }));
}

TEST_F(ReplicaWaitTest, MoreReplicasThanThereAreIsAShortfall) {
  const absl::Status status = Waiting(2, absl::Milliseconds(1500)).TryAcquire().status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("1 of the 2 replicas")));
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

TEST_F(ReplicaWaitTest, WaitingForReplicasBlocksNobodyElse) {
  replica_.Pause();
  std::atomic<bool> done = false;
  std::jthread waiter([&] {
    EXPECT_TRUE(coord::IsUnavailable(Waiting(1, absl::Seconds(3)).TryAcquire().status()));
    done = true;
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kLease}) == 1; }));
  const Stopwatch watch;
  for (int i = 0; i < 10; ++i) EXPECT_OK(client_.Command({"PING"}).status());
  EXPECT_OK(Mutex(client_, "other").TryAcquire().status());
  EXPECT_FALSE(done) << watch.elapsed();
}

TEST_F(ReplicaWaitTest, AHeldLockIsBusyAllTheSame) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  EXPECT_TRUE(IsBusy(Waiting(1).TryAcquire().status()));
  EXPECT_TRUE(IsBusy(Waiting(1).Acquire(absl::Milliseconds(50)).status()));
}

TEST_F(ReplicaWaitTest, TryAcquireIsOneScriptAndOneWait) {
  ASSERT_OK(Waiting(1).TryAcquire().status());  // makes the connection
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(Lease lease, Waiting(1).TryAcquire());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  EXPECT_EQ(CommandCalls(redis_, "wait"), 1);
}

TEST_F(ReplicaWaitTest, AForgottenScriptIsHealed) {
  ASSERT_OK(Waiting(1).TryAcquire().status());
  redis_.Command({"SCRIPT", "FLUSH"});
  EXPECT_OK(Waiting(1).TryAcquire().status());
}

TEST_F(ReplicaWaitTest, ClosingTheClientEndsTheWaiting) {
  replica_.Pause();
  std::atomic<bool> ended = false;
  std::jthread waiter([&] {
    EXPECT_FALSE(Waiting(1, absl::Seconds(20)).TryAcquire().ok());
    ended = true;
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kLease}) == 1; }));
  client_.Close();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }, absl::Seconds(5)));
}

TEST_F(ReplicaWaitTest, BadArgumentsReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  for (const Mutex& bad : {Waiting(-1), Waiting(101), Waiting(1, absl::ZeroDuration()),
                           Waiting(1, absl::Seconds(30)), Waiting(1, absl::InfiniteDuration())}) {
    EXPECT_THAT(bad.TryAcquire().status(), refused);
    EXPECT_THAT(bad.Acquire(absl::Seconds(1)).status(), refused);
  }
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 0);
}

}  // namespace
}  // namespace coord
