// A quorum of servers that all work.
#include "coord/quorum.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "coord/errors.h"
#include "coord/lock/quorum_wait.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/quorum_servers.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::internal::SteadyTime;
using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::QuorumServers;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kLease[] = "coord:{deploy}:lease";
constexpr char kFence[] = "coord:{deploy}:fence";
constexpr char kHints[] = "coord:{deploy}:hints";
constexpr char kMarker[] = "coord:{quorum}:birth";

QuorumOptions Named(absl::Duration max_ttl, absl::Duration tolerance) {
  QuorumOptions options;
  options.max_ttl = max_ttl;
  options.clock_tolerance = tolerance;
  return options;
}

TEST(QuorumTest, ALeaseExcludesOthersUntilItIsReleased) {
  QuorumServers servers;
  const Quorum one = servers.Connect({.client_name = "one"});
  const Quorum two = servers.Connect({.client_name = "two"});
  Mutex mine(one, "deploy");
  Mutex theirs(two, "deploy");
  ASSERT_OK_AND_ASSIGN(Lease lease, mine.TryAcquire());
  EXPECT_TRUE(lease.valid());
  EXPECT_GT(lease.remaining(), absl::Seconds(9));
  const absl::Status busy = theirs.TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("\"one\"")));
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(lease.valid());
  ASSERT_OK_AND_ASSIGN(Lease next, theirs.Acquire(absl::Seconds(5)));
  EXPECT_GT(next.token(), lease.token());
}

TEST(QuorumTest, TokensRiseOverClientsNamesThatAreNewAndFlushedFences) {
  QuorumServers servers(3);
  const Quorum one = servers.Connect();
  const Quorum two = servers.Connect();
  std::uint64_t last = 0;
  for (int i = 0; i < 50; ++i) {
    Mutex mutex(i % 2 == 0 ? one : two, "deploy");
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(absl::Seconds(5)));
    EXPECT_GT(lease.token().value(), last);
    last = lease.token().value();
    EXPECT_LT(last, std::uint64_t{1} << 53);
    if (i == 25) {
      for (std::size_t s = 0; s < 3; ++s) RawRedis(servers[s]).Command({"DEL", kFence});
    }
    EXPECT_OK(lease.Release());
  }
}

TEST(QuorumTest, ThreadsAndClientsExcludeEachOther) {
  QuorumServers servers;
  const Quorum quorums[] = {servers.Connect(), servers.Connect()};
  std::atomic<int> inside{0};
  std::atomic<int> overlaps{0};
  std::atomic<int> entered{0};
  std::atomic<std::uint64_t> last{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      const Mutex mutex(quorums[t % 2], "deploy");
      for (int i = 0; i < 15; ++i) {
        absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(60));
        if (!lease.ok()) {
          ADD_FAILURE() << lease.status();
          return;
        }
        if (inside.fetch_add(1) != 0) ++overlaps;
        ++entered;
        const std::uint64_t token = lease->token().value();
        if (last.exchange(token) >= token) ++overlaps;
        std::this_thread::yield();
        inside.fetch_sub(1);
        EXPECT_OK(lease->Release());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(overlaps.load(), 0);
  EXPECT_EQ(entered.load(), 6 * 15);
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
}

TEST(QuorumTest, AnUncontendedAcquireAndReleaseAreOneCommandEachOnEachServer) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK(mutex.TryAcquire());
  ASSERT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
  for (std::size_t i = 0; i < servers.size(); ++i) {
    RawRedis(servers[i]).Command({"CONFIG", "RESETSTAT"});
  }
  for (int i = 0; i < 20; ++i) ASSERT_OK(mutex.TryAcquire());
  ASSERT_TRUE(Eventually([&] {
    for (std::size_t i = 0; i < servers.size(); ++i) {
      RawRedis redis(servers[i]);
      if (CommandCalls(redis, "evalsha") < 40) return false;
    }
    return true;
  }));
  for (std::size_t i = 0; i < servers.size(); ++i) {
    RawRedis redis(servers[i]);
    EXPECT_EQ(CommandCalls(redis, "evalsha"), 40);
    EXPECT_EQ(CommandCalls(redis, "eval"), 0);
  }
}

TEST(QuorumTest, ALeaseIsRenewedWhileItIsHeld) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(quorum, "deploy", {.ttl = absl::Milliseconds(600)}).TryAcquire());
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] { return watch.elapsed() > absl::Milliseconds(1500); }));
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
}

TEST(QuorumTest, RenewingGivesAnotherTimeToLive) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(quorum, "deploy", {.ttl = absl::Seconds(2)}).TryAcquire());
  EXPECT_OK(lease.Renew(absl::Seconds(20)));
  EXPECT_GT(lease.remaining(), absl::Seconds(18));
  EXPECT_OK(lease.Renew(absl::Seconds(1)));
  EXPECT_LT(lease.remaining(), absl::Seconds(1));
  EXPECT_THAT(lease.Renew(absl::Seconds(31)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_ttl")));
  EXPECT_OK(lease.Release());
}

TEST(QuorumTest, ATtlAboveTheLongestReachesNoServer) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  for (std::size_t i = 0; i < 3; ++i) RawRedis(servers[i]).Command({"CONFIG", "RESETSTAT"});
  EXPECT_THAT(Mutex(quorum, "deploy", {.ttl = absl::Seconds(31)}).TryAcquire(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_ttl")));
  for (std::size_t i = 0; i < 3; ++i) {
    RawRedis redis(servers[i]);
    EXPECT_EQ(AllCalls(redis), 0);
  }
}

TEST(QuorumTest, VotesThatWereMissingAreStillAskedFor) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  RawRedis first(servers[0]);
  first.Command({"SET", kLease, "somebody", "PX", "300"});
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(quorum, "deploy", {.ttl = absl::Seconds(1)}).TryAcquire());
  EXPECT_TRUE(Eventually([&] {
    return first.Command({"GET", kLease}).text() == lease.owner();
  })) << first.Command({"GET", kLease}).text();
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
}

TEST(QuorumTest, AFailedRoundLeavesNothingBehind) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  for (std::size_t i = 0; i < 3; ++i) {
    RawRedis(servers[i]).Command({"SET", kLease, "0123@somebody", "PX", "60000"});
  }
  const absl::Status busy = Mutex(quorum, "deploy").TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("\"somebody\" on 3 of 5")));
  EXPECT_TRUE(Eventually([&] { return servers.Leases("deploy") == 3; }));
}

TEST(QuorumTest, AMarkOfWaitersBeforeTheHolderIsNoPartOfItsName) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  for (std::size_t i = 0; i < 3; ++i) {
    RawRedis(servers[i]).Command({"SET", kLease, "~0123@somebody", "PX", "60000"});
  }
  EXPECT_THAT(Mutex(quorum, "deploy").TryAcquire(),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("held by \"somebody\"")));
}

TEST(QuorumTest, AScriptFlushGoesUnnoticed) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  for (int i = 0; i < 5; ++i) {
    for (std::size_t s = 0; s < 3; ++s) RawRedis(servers[s]).Command({"SCRIPT", "FLUSH"});
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
    for (std::size_t s = 0; s < 3; ++s) RawRedis(servers[s]).Command({"SCRIPT", "FLUSH"});
    EXPECT_OK(lease.Release());
  }
}

TEST(QuorumTest, TheSameServerTwiceIsRefused) {
  RedisServer one, two;
  const std::string urls[] = {one.url(), two.url(), one.url()};
  EXPECT_THAT(Quorum::DeclareNew(urls),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("same server")));
  EXPECT_THAT(Quorum::Connect(urls),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("same server")));
}

TEST(QuorumTest, FewerThanThreeServersAreRefused) {
  const std::string urls[] = {"redis://a", "redis://b"};
  EXPECT_THAT(Quorum::Connect(urls),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 to 31")));
}

TEST(QuorumTest, AServerThatEvictsIsRefused) {
  QuorumServers servers(3);
  RawRedis(servers[1]).Command({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  EXPECT_THAT(Quorum::Connect(servers.urls()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("noeviction")));
}

TEST(QuorumTest, AServerOfAClusterIsRefused) {
  RedisServer one, two;
  RedisServer cluster({.port = 0, .args = {"--cluster-enabled", "yes"}});
  const std::string urls[] = {one.url(), two.url(), cluster.url()};
  EXPECT_THAT(Quorum::Connect(urls),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("Cluster")));
}

TEST(QuorumTest, AClientWithOtherSettingsIsRefused) {
  QuorumServers servers(3);
  EXPECT_THAT(Quorum::Connect(servers.urls(), {}, Named(absl::Seconds(20), absl::Seconds(15))),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("max_ttl")));
}

TEST(QuorumTest, ServersThatWereNotDeclaredNewDoNotVoteAtFirst) {
  QuorumServers servers(3, Named(absl::Milliseconds(500), absl::Milliseconds(300)), false);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy", {.ttl = absl::Milliseconds(500)});
  const absl::Status status = mutex.TryAcquire().status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("does not vote for")));
  EXPECT_OK(mutex.Acquire(absl::Seconds(10)));
}

TEST(QuorumTest, DeclaringIsIdempotentAndRefusedWhereAMarkerDoesNotVote) {
  QuorumServers servers(3);
  EXPECT_OK(Quorum::DeclareNew(servers.urls()));
  QuorumOptions other = Named(absl::Seconds(5), absl::Seconds(1));
  EXPECT_THAT(Quorum::DeclareNew(servers.urls(), {}, other),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("belongs to a quorum")));
  RawRedis redis(servers[0]);
  EXPECT_THAT(redis.Text({"GET", kMarker}), HasSubstr(" 30000 15000"));
  EXPECT_OK(Quorum::DeclareNew(servers.urls(), {}, other, /*force=*/true));
  EXPECT_THAT(redis.Text({"GET", kMarker}), HasSubstr(" 5000 1000"));
}

TEST(QuorumTest, AClockThatIsAheadWithinTheToleranceStillGivesRisingTokens) {
  QuorumServers servers(3);
  QuorumOptions ahead = servers.options();
  ahead.calendar = [] { return absl::Now() + absl::Seconds(10); };
  const Quorum fast = servers.Connect({}, ahead);
  const Quorum right = servers.Connect();
  std::uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease,
                         Mutex(i % 2 == 0 ? fast : right, "deploy").Acquire(absl::Seconds(5)));
    EXPECT_GT(lease.token().value(), last);
    last = lease.token().value();
  }
}

TEST(QuorumTest, AClockThatIsBehindCostsNothingButARoundTrip) {
  QuorumServers servers(3);
  QuorumOptions behind = servers.options();
  behind.calendar = [] { return absl::Now() - absl::Hours(100); };
  const Quorum slow = servers.Connect({}, behind);
  const Quorum right = servers.Connect();
  std::uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(i % 2 == 0 ? slow : right, "deploy").TryAcquire());
    EXPECT_GT(lease.token().value(), last);
    last = lease.token().value();
    EXPECT_OK(lease.Release());
    ASSERT_TRUE(Eventually([&] { return servers.Leases("deploy") == 0; }));
  }
}

TEST(QuorumTest, AClockThatIsTooFarAheadIsRefusedByName) {
  QuorumServers servers(3);
  QuorumOptions ahead = servers.options();
  ahead.calendar = [] { return absl::Now() + absl::Seconds(60); };
  const Quorum quorum = servers.Connect({}, ahead);
  EXPECT_THAT(Mutex(quorum, "deploy").Acquire(absl::Seconds(5)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("our clock is"), HasSubstr("ahead"))));
  EXPECT_EQ(servers.Leases("deploy"), 0);
}

TEST(QuorumTest, AClosedQuorumTellsItsHolders) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  const std::stop_token lost = lease.stop_token();
  quorum.Close();
  EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }));
  EXPECT_THAT(mutex.TryAcquire(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(QuorumTest, AForkedChildsLeaseIsVoidAndItsQuorumSendsNothing) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex mutex(quorum, "deploy");
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  Process child = ForkAndRun([&]() -> int {
    if (lease.valid() || !lease.stop_token().stop_requested()) return 1;
    if (lease.Release().code() != absl::StatusCode::kFailedPrecondition) return 2;
    if (mutex.TryAcquire().status().code() != absl::StatusCode::kFailedPrecondition) return 3;
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_TRUE(lease.valid());
  EXPECT_OK(lease.Release());
}

TEST(QuorumTest, FlushingAMajorityIsReportedAsLoss) {
  QuorumServers servers;
  const Quorum quorum = servers.Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(quorum, "deploy", {.ttl = absl::Milliseconds(900)}).TryAcquire());
  const std::stop_token lost = lease.stop_token();
  for (std::size_t i = 0; i < 3; ++i) RawRedis(servers[i]).Command({"FLUSHALL"});
  EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }, absl::Seconds(2)));
  EXPECT_FALSE(lease.valid());
  EXPECT_TRUE(IsLost(lease.Release()));
  // The servers do not vote until what they forgot is over.
  EXPECT_THAT(Mutex(quorum, "deploy").TryAcquire(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("does not vote for")));
}

TEST(QuorumTest, ALeaseIsNotRenewedBeyondMaxHoldNeitherByItselfNorByHand) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  const Mutex bounded(quorum, "deploy",
                      {.ttl = absl::Milliseconds(300), .max_hold = absl::Milliseconds(700)});
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(Lease lease, bounded.TryAcquire());
  EXPECT_OK(lease.Renew(absl::Milliseconds(400)));
  EXPECT_OK(lease.Renew(absl::Seconds(10)));
  EXPECT_LE(lease.remaining(), absl::Milliseconds(700));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LE(RawRedis(servers[i]).Integer({"PTTL", kLease}), 700);
  }
  EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(650));
  const absl::Status lost = lease.Renew(absl::Milliseconds(300));
  EXPECT_TRUE(IsLost(lost)) << lost;
  EXPECT_THAT(std::string(lost.message()), HasSubstr("max_hold"));
  EXPECT_OK(Mutex(quorum, "deploy").Acquire(absl::Seconds(10)).status());
}

TEST(QuorumTest, WhatOnlyOneDeploymentHasIsRefused) {
  QuorumServers servers(3);
  EXPECT_THAT(Mutex(servers.Connect(), "deploy", {.wait_replicas = 1}).TryAcquire(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wait_replicas")));
}

// ---- Hints to those who wait ----

TEST(QuorumWaiterTest, IsWokenWhenAMajorityTellsOfOneRelease) {
  QuorumServers servers(3);
  const Quorum quorum = servers.Connect();
  internal::QuorumCore& core = *internal::CoreOf(quorum);
  internal::QuorumWaiter waiter(core);
  const auto listened = [&] {
    for (std::size_t i = 0; i < 3; ++i) {
      if (!core.member(i).session()->node().subscribed()) return false;
    }
    return true;
  };
  ASSERT_TRUE(Eventually(listened));
  const auto tell = [&](std::size_t i, const std::string& owner) {
    const std::string& listener = waiter.listener(i);
    const auto space = listener.find(' ');
    EXPECT_EQ(RawRedis(servers[i])
                  .Integer({"PUBLISH", listener.substr(space + 1),
                            listener.substr(0, space) + " " + owner}),
              1);
  };
  // Grown to where no pause is shorter than 25 ms.
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(waiter.Wait(absl::Hours(1), {SteadyTime::max(), {}}));
  const auto wait = [&] {
    const Stopwatch watch;
    EXPECT_TRUE(waiter.Wait(absl::Hours(1), {SteadyTime::max(), {}}));
    return watch.elapsed();
  };
  constexpr absl::Duration kShortestPause = absl::Milliseconds(25);
  absl::Duration soonest = absl::InfiniteDuration();
  for (int i = 0; i < 20; ++i) {
    waiter.BeginRound();
    const std::string holder = "holder-" + std::to_string(i);
    tell(0, holder);
    tell(1, "another");
    tell(1, holder);
    soonest = std::min(soonest, wait());
  }
  EXPECT_LT(soonest, kShortestPause);
  // One server's word, and that of two about different holders, is no news; nor what was said
  // before the round.
  waiter.BeginRound();
  tell(0, "one");
  tell(1, "two");
  EXPECT_GE(wait(), kShortestPause);
  tell(1, "one");
  EXPECT_LT(wait(), absl::Seconds(10));
  waiter.BeginRound();
  EXPECT_GE(wait(), kShortestPause);
}

TEST(QuorumTest, WhoWaitsIsKnownToTheServersAndForgottenAfterwards) {
  QuorumServers servers(3);
  const Quorum one = servers.Connect();
  const Quorum two = servers.Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(one, "deploy").TryAcquire());
  absl::StatusOr<Lease> waited = absl::UnknownError("");
  std::jthread waiter([&] { waited = Mutex(two, "deploy").Acquire(absl::Seconds(20)); });
  const auto waiting = [&](std::size_t i) {
    return RawRedis(servers[i]).Integer({"ZCARD", kHints});
  };
  ASSERT_TRUE(Eventually([&] { return waiting(0) == 1 && waiting(1) == 1 && waiting(2) == 1; }));
  // Nobody who only tries is entered, and what little it had granted tells nobody.
  EXPECT_TRUE(IsBusy(Mutex(two, "deploy").TryAcquire().status()));
  EXPECT_EQ(waiting(0), 1);
  const auto told = [&](std::size_t i) {
    RawRedis redis(servers[i]);
    return CommandCalls(redis, "publish");
  };
  EXPECT_EQ(told(0) + told(1) + told(2), 0);
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(Eventually([&] { return told(0) == 1 && told(1) == 1 && told(2) == 1; }));
  waiter.join();
  EXPECT_OK(waited.status());
  EXPECT_TRUE(Eventually([&] { return waiting(0) + waiting(1) + waiting(2) == 0; }));
}

// ---- The scripts themselves ----

class QuorumScriptTest : public ::testing::Test {
 protected:
  QuorumScriptTest() { Run("quorum_declare", {kMarker}, {"30000", "15000", "new"}); }

  Reply Run(const std::string& script, const std::vector<std::string>& keys,
            const std::vector<std::string>& args) {
    std::ifstream file(std::string(COORD_SOURCE_DIR) + "/lua/" + script + ".lua");
    std::ostringstream text;
    text << file.rdbuf();
    std::vector<std::string> command = {"EVAL", text.str(), std::to_string(keys.size())};
    command.insert(command.end(), keys.begin(), keys.end());
    command.insert(command.end(), args.begin(), args.end());
    Reply reply = redis_.Command(command);
    EXPECT_FALSE(reply.is_error()) << script << ": " << reply.text();
    return reply;
  }
  // What the vote's answer begins with; the rest in answer_.
  std::int64_t Acquire(const std::string& owner, const std::string& ballot) {
    answer_ =
        Run("quorum_acquire", {kLease, kFence, kMarker}, {owner, "10000", ballot, "30000 15000"});
    return answer_.items()[0].integer();
  }
  std::int64_t Release(const std::string& owner, const std::string& memory_ms) {
    return Run("quorum_release", {kLease, kFence}, {owner, memory_ms}).integer();
  }
  std::int64_t Renew(const std::string& owner, const std::string& ballot) {
    return Run("quorum_renew", {kLease, kFence, kMarker}, {owner, "20000", ballot})
        .items()[0]
        .integer();
  }
  // A ballot so far from the server's clock.
  std::string Ballot(absl::Duration ahead) {
    const Reply now = redis_.Command({"TIME"});
    return std::to_string(std::stoll(now.items()[0].text()) * 1'000'000 +
                          std::stoll(now.items()[1].text()) + absl::ToInt64Microseconds(ahead));
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Reply answer_;
};

TEST_F(QuorumScriptTest, AMemoRefusesALateAcquireAndNobodyElse) {
  EXPECT_EQ(Release("me", "60000"), 0);
  EXPECT_EQ(Acquire("me", Ballot(absl::Seconds(1))), -6);
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
  EXPECT_EQ(Acquire("you", Ballot(absl::Seconds(1))), 1);
  EXPECT_EQ(Acquire("me", Ballot(absl::Seconds(2))), -6);
  EXPECT_EQ(Release("you", "60000"), 1);
  EXPECT_EQ(Acquire("you", Ballot(absl::Seconds(3))), -6);
  EXPECT_EQ(Acquire("me", Ballot(absl::Seconds(3))), -6);
  EXPECT_EQ(redis_.Text({"GET", kFence}).substr(0, 1), "~");
}

TEST_F(QuorumScriptTest, ReleasesTellTheOneWhoWaitsLongestUntilNobodyDoes) {
  RawRedis ear(server_);
  ear.Command({"SUBSCRIBE", "ch a"});
  const auto wait = [&](const std::string& owner, const std::string& waiter) {
    answer_ = Run("quorum_acquire", {kLease, kFence, kMarker, kHints},
                  {owner, "10000", Ballot(absl::Seconds(1)), "30000 15000", waiter + " ch a"});
    return answer_.items()[0].integer();
  };
  const auto release = [&](const std::string& owner) {
    return Run("quorum_release", {kLease, kFence, kHints}, {owner, "0"}).integer();
  };
  EXPECT_EQ(Acquire("one", Ballot(absl::Seconds(1))), 1);
  EXPECT_EQ(wait("two-1", "two"), 0);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "~one");
  EXPECT_GT(redis_.Integer({"PTTL", kLease}), 9'000);
  redis_.Command({"ZADD", kHints, "XX", "1000", "two ch a"});  // long ago
  EXPECT_EQ(wait("three-1", "three"), 0);
  EXPECT_EQ(answer_.items()[3].text(), "one");
  EXPECT_EQ(wait("two-2", "two"), 0);  // keeps its turn
  EXPECT_EQ(release("two-2"), 0);      // a stranger's release tells nobody
  EXPECT_EQ(release("one"), 1);
  EXPECT_EQ(ear.NextMessage(), "two one");
  EXPECT_EQ(redis_.Command({"ZRANGE", kHints, "0", "-1"}).items()[0].text(), "three ch a");

  // Whose lease it is now knows of the other who waits; the votes of a lost round tell nobody.
  EXPECT_EQ(wait("two-3", "two"), 1);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "~two-3");
  EXPECT_EQ(Release("two-3", "0"), 1);
  EXPECT_EQ(wait("two-4", "two"), 1);
  EXPECT_EQ(release("two-4"), 1);
  EXPECT_EQ(ear.NextMessage(), "three two-4");
  EXPECT_EQ(redis_.Integer({"EXISTS", kHints}), 0);
  EXPECT_EQ(wait("three-2", "three"), 1);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "three-2");
  EXPECT_EQ(release("three-2"), 1);
}

TEST_F(QuorumScriptTest, AServerThatIsFullSaysWhoHasItAllTheSame) {
  EXPECT_EQ(Acquire("one", Ballot(absl::Seconds(1))), 1);
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  const Reply reply = Run("quorum_acquire", {kLease, kFence, kMarker, kHints},
                          {"two", "10000", Ballot(absl::Seconds(1)), "30000 15000", "two channel"});
  ASSERT_EQ(reply.items().size(), 4u);
  EXPECT_EQ(reply.items()[3].text(), "one");
  redis_.Command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(redis_.Text({"GET", kLease}), "one");
}

TEST_F(QuorumScriptTest, AReleaseIsRepeatedWithoutHarm) {
  EXPECT_EQ(Acquire("me", Ballot(absl::Seconds(1))), 1);
  EXPECT_EQ(Release("you", "0"), 0);
  EXPECT_EQ(Release("me", "0"), 1);
  EXPECT_EQ(Release("me", "0"), 0);
}

TEST_F(QuorumScriptTest, TheSameOwnerRaisesItsBallotAndExtendsNothing) {
  const std::string low = Ballot(absl::Seconds(1));
  const std::string high = Ballot(absl::Seconds(2));
  EXPECT_EQ(Acquire("me", low), 1);
  redis_.Command({"PEXPIRE", kLease, "3000"});
  EXPECT_EQ(Acquire("me", high), 1);
  EXPECT_EQ(answer_.items()[1].text(), high);
  EXPECT_LE(answer_.items()[2].integer(), 3000);
  EXPECT_EQ(Acquire("me", low), 1);  // a late one
  EXPECT_EQ(answer_.items()[1].text(), high);
  EXPECT_EQ(redis_.Text({"GET", kFence}), high);
  EXPECT_EQ(Renew("me", low), 0);
  EXPECT_EQ(Renew("me", high), 1);
  EXPECT_GT(redis_.Integer({"PTTL", kLease}), 10000);
}

TEST_F(QuorumScriptTest, OnlyBallotsAboveTheFenceAndNotTooFarAheadAreGranted) {
  const std::string first = Ballot(absl::Seconds(14));
  EXPECT_EQ(Acquire("me", first), 1);
  EXPECT_EQ(Release("me", "0"), 1);
  EXPECT_EQ(Acquire("you", first), -1);
  EXPECT_EQ(answer_.items()[1].text(), first);
  EXPECT_EQ(Acquire("you", Ballot(absl::Seconds(16))), -2);
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

TEST_F(QuorumScriptTest, WhatWasForgottenIsBelowWhatIsGranted) {
  // Below the moment from which it votes, though nothing is remembered.
  EXPECT_EQ(Acquire("me", Ballot(-absl::Seconds(60))), -1);
  EXPECT_EQ(Acquire("me", "0000000000000007"), -1);
}

TEST_F(QuorumScriptTest, NobodyVotesOrRenewsInQuarantineOrWithoutAMarker) {
  const std::string ballot = Ballot(absl::Seconds(1));
  EXPECT_EQ(Acquire("me", ballot), 1);
  redis_.Command({"DEL", kMarker});
  EXPECT_EQ(Acquire("me", ballot), -4);
  EXPECT_EQ(Renew("me", ballot), -4);
  Run("quorum_birth", {kMarker}, {"30000", "15000"});
  EXPECT_EQ(Acquire("me", ballot), -3);
  EXPECT_EQ(Renew("me", ballot), -3);
  EXPECT_EQ(Release("me", "0"), 1);
  // Other settings write nothing.
  const std::string marker = redis_.Text({"GET", kMarker});
  EXPECT_EQ(Run("quorum_birth", {kMarker}, {"20000", "15000"}).items()[1].text(), "settings");
  EXPECT_EQ(redis_.Text({"GET", kMarker}), marker);
}

TEST_F(QuorumScriptTest, AWaitersMarkIsKeptByWhoeverRenews) {
  const std::string ballot = Ballot(absl::Seconds(1));
  EXPECT_EQ(Acquire("me", ballot), 1);
  redis_.Command({"SET", kLease, "~me", "KEEPTTL"});
  EXPECT_EQ(Renew("me", ballot), 1);
  EXPECT_EQ(Acquire("me", ballot), 1);
  EXPECT_EQ(Acquire("you", ballot), 0);
  EXPECT_EQ(answer_.items()[3].text(), "me");
  EXPECT_EQ(Release("me", "0"), 1);
}

}  // namespace
}  // namespace coord
