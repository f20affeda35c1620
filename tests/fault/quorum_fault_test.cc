// A quorum while its servers are killed, paused and forget.
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "coord/errors.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/quorum_servers.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::QuorumServers;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

// A deployment whose quarantine a test can wait for.
QuorumOptions Short() {
  QuorumOptions options;
  options.max_ttl = absl::Seconds(2);
  options.clock_tolerance = absl::Milliseconds(500);
  return options;
}

TEST(QuorumFaultTest, AMinorityMayBeKilled) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  std::uint64_t last = 0;
  for (std::size_t killed = 0; killed <= 2; ++killed) {
    if (killed > 0) servers[killed].Kill();
    for (int i = 0; i < 5; ++i) {
      ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
      EXPECT_GT(lease.token().value(), last);
      last = lease.token().value();
      EXPECT_OK(lease.Release());
    }
  }
}

TEST(QuorumFaultTest, AMinorityMayBeDeadWhenTheClientConnects) {
  QuorumServers servers;
  servers[0].Kill();
  servers[4].Kill();
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  EXPECT_OK(mutex.TryAcquire());
  // It may vote again at once: that nothing was forgotten is said so.
  servers[0].Start();
  ASSERT_TRUE(Eventually([&] {
    EXPECT_OK(mutex.Acquire(absl::Seconds(5)));
    return RawRedis(servers[0]).Integer({"EXISTS", "coord:{quorum}:birth"}) == 1;
  }));
}

TEST(QuorumFaultTest, WithoutAMajorityThereIsNoQuorum) {
  QuorumServers servers(3);
  servers[0].Kill();
  servers[1].Kill();
  const Stopwatch watch;
  EXPECT_THAT(Quorum::Connect(servers.urls()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no majority")));
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));
}

TEST(QuorumFaultTest, AMinorityMayStandStill) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK(mutex.TryAcquire());
  servers[1].Pause();
  servers[3].Pause();
  for (int i = 0; i < 5; ++i) {
    const Stopwatch watch;
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(absl::Seconds(5)));
    EXPECT_OK(lease.Release());
  }
  servers[1].Resume();
  servers[3].Resume();
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
}

TEST(QuorumFaultTest, AKilledMajorityIsAClearFailureAtOnceAndLeavesNothingBehind) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK(mutex.TryAcquire());
  ASSERT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
  for (std::size_t i = 0; i < 3; ++i) servers[i].Kill();
  for (int i = 0; i < 3; ++i) {
    const Stopwatch watch;
    const absl::Status status = mutex.TryAcquire().status();
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("refused")));
    EXPECT_LT(watch.elapsed(), absl::Milliseconds(500));
  }
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }, absl::Seconds(2)));
}

TEST(QuorumFaultTest, AMajorityThatStandsStillIsWaitedForNoLongerThanAServerIs) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Seconds(2)});
  for (std::size_t i = 0; i < 3; ++i) servers[i].Pause();
  const Stopwatch watch;
  const absl::Status status = mutex.TryAcquire().status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_LT(watch.elapsed(), absl::Seconds(2));  // a quarter of the ttl, and some to spare
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy", {0, 1, 2}) == 0; }));
  // What the others were asked for is taken back when they go on, also where it was granted late.
  for (std::size_t i = 0; i < 3; ++i) servers[i].Resume();
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }, absl::Seconds(1)));
  EXPECT_OK(mutex.Acquire(absl::Seconds(5)));
}

TEST(QuorumFaultTest, ALeaseIsRenewedThoughAMinorityIsKilled) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(quorum, "deploy", {.ttl = absl::Seconds(1)}).TryAcquire());
  servers[0].Kill();
  servers[2].Kill();
  const Stopwatch watch;
  EXPECT_FALSE(Eventually([&] { return !lease.valid(); }, absl::Seconds(3)));
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Renew(absl::Seconds(2)));
  EXPECT_OK(lease.Release());
}

TEST(QuorumFaultTest, LossIsToldInTimeWhenAMajorityIsKilled) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const absl::Duration ttl = absl::Seconds(1);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(quorum, "deploy", {.ttl = ttl}).TryAcquire());
  const std::stop_token lost = lease.stop_token();
  for (std::size_t i = 1; i < 4; ++i) servers[i].Kill();
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }, absl::Seconds(5)));
  EXPECT_LT(watch.elapsed(), ttl + absl::Milliseconds(500));
  EXPECT_FALSE(lease.valid());
  EXPECT_TRUE(IsLost(lease.Release()));
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
}

TEST(QuorumFaultTest, AServerThatForgotDoesNotVoteBeforeItsQuarantineIsOver) {
  QuorumServers servers(3, Short());
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Seconds(2)});
  const Quorum rival = servers.Connect();
  const Mutex theirs(rival, "deploy", {.ttl = absl::Seconds(2)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  // Two of the three forget that it is held; without quarantine they would make a majority.
  servers[0].Restart(RedisServer::Data::kDrop);
  servers[1].Restart(RedisServer::Data::kDrop);
  const std::uint64_t token = lease.token().value();
  while (lease.valid()) {
    const bool valid_before = lease.valid();
    const absl::Status status = theirs.TryAcquire().status();
    if (valid_before && lease.valid()) {
      EXPECT_FALSE(status.ok()) << "two hold it";
    }
    std::this_thread::yield();
  }
  const absl::Status status = theirs.TryAcquire().status();
  // What is left of the lease on the third may still be said, too.
  EXPECT_TRUE(status.code() == absl::StatusCode::kUnavailable || IsBusy(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("does not vote for"));
  // After the quarantine it goes on, with higher tokens.
  ASSERT_OK_AND_ASSIGN(Lease next, theirs.Acquire(absl::Seconds(10)));
  EXPECT_GT(next.token().value(), token);
}

TEST(QuorumFaultTest, OneThatForgotDoesNotKeepTheOthersFromWorking) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    servers[i].Restart(RedisServer::Data::kDrop);
    for (int round = 0; round < 3; ++round) {
      ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(absl::Seconds(5)));
      EXPECT_GT(lease.token().value(), last);
      last = lease.token().value();
      EXPECT_OK(lease.Release());
    }
  }
}

TEST(QuorumFaultTest, AFlushedServerIsQuarantinedToo) {
  QuorumServers servers(3, Short());
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Seconds(1)});
  ASSERT_OK(mutex.TryAcquire());
  RawRedis(servers[0]).Command({"FLUSHALL"});
  RawRedis(servers[1]).Command({"FLUSHALL"});
  EXPECT_THAT(mutex.TryAcquire(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("does not vote for")));
  EXPECT_OK(mutex.Acquire(absl::Seconds(10)));
}

TEST(QuorumFaultTest, ReleaseReturnsWithTheFirstMajorityAndTheOthersFollow) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_TRUE(Eventually([&] { return servers.Leases("deploy") == 5; }));
  servers[0].Pause();
  servers[1].Pause();
  const Stopwatch watch;
  EXPECT_OK(lease.Release());
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(900));
  EXPECT_EQ(servers.Leases("deploy", {0, 1}), 0);
  servers[0].Resume();
  servers[1].Resume();
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }, absl::Seconds(3)));
}

TEST(QuorumFaultTest, AHolderThatGoesWhileAServerIsCutOffStillFreesIt) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Seconds(20)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_TRUE(Eventually([&] { return servers.Leases("deploy") == 3; }));
  RawRedis(servers[0]).Command({"CLIENT", "KILL", "TYPE", "normal"});
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }, absl::Seconds(5)));
}

TEST(QuorumFaultTest, WorkGoesOnThoughConnectionsAreKilled) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Seconds(2)});
  std::uint64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    RawRedis(servers[static_cast<std::size_t>(i) % 3])
        .Command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(absl::Seconds(10)));
    EXPECT_GT(lease.token().value(), last);
    last = lease.token().value();
    const absl::Status released = lease.Release();
    EXPECT_TRUE(released.ok()) << released;
  }
}

}  // namespace
}  // namespace coord
