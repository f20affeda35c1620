// Several locks at once, all or none.
#include "coord/multi_mutex.h"

#include <algorithm>
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
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;
using Names = std::vector<std::string>;

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class MultiMutexTest : public ::testing::Test {
 protected:
  bool Held(const std::string& name) {
    return redis_.Integer({"EXISTS", "coord:{" + name + "}:lease"}) == 1;
  }
  std::int64_t Waiting(const std::string& name) {
    return redis_.Integer({"LLEN", "coord:{" + name + "}:queue"});
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
  Client other_ = ConnectTo(server_.url());
};

TEST_F(MultiMutexTest, AllAreHeldAndAllAreGivenBack) {
  const MultiMutex both(client_, {"b", "a"});
  ASSERT_OK_AND_ASSIGN(MultiLease lease, both.TryAcquire());
  EXPECT_TRUE(lease.valid());
  EXPECT_GT(lease.remaining(), absl::Seconds(5));
  EXPECT_FALSE(lease.stop_token().stop_requested());
  ASSERT_EQ(lease.leases().size(), 2u);
  EXPECT_EQ(lease.leases()[0].name(), "b");  // as given
  EXPECT_EQ(lease.token("a"), lease.leases()[1].token());
  EXPECT_GT(lease.token("a").value(), 0u);
  EXPECT_EQ(lease.token("c"), FencingToken());
  for (const char* name : {"a", "b"}) {
    EXPECT_TRUE(IsBusy(Mutex(other_, name).TryAcquire().status())) << name;
  }
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(lease.valid());
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(Held("a"));
  EXPECT_FALSE(Held("b"));
}

TEST_F(MultiMutexTest, TokensRiseWithThoseOfTheMutexOfTheName) {
  FencingToken last;
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(MultiLease all, MultiMutex(client_, {"a", "b"}).TryAcquire());
    EXPECT_GT(all.token("a"), last);
    last = all.token("a");
    ASSERT_OK(all.Release());
    ASSERT_OK_AND_ASSIGN(Lease one, Mutex(other_, "a").TryAcquire());
    EXPECT_GT(one.token(), last);
    last = one.token();
  }
}

TEST_F(MultiMutexTest, OneThatIsHeldKeepsAllFromBeingTaken) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(other_, "b").TryAcquire());
  const absl::Status busy = MultiMutex(client_, {"a", "b", "c"}).TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy));
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("\"b\"")));
  EXPECT_FALSE(Held("a"));
  EXPECT_FALSE(Held("c"));
  EXPECT_TRUE(rival.valid());
}

TEST_F(MultiMutexTest, TryAcquireIsOneRoundTrip) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(MultiLease lease, MultiMutex(client_, {"a", "b", "c"}).TryAcquire());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
}

TEST_F(MultiMutexTest, AcquireWaitsForTheOneThatIsHeld) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(other_, "b").TryAcquire());
  std::optional<absl::StatusOr<MultiLease>> got;
  std::jthread waiter([&] {
    got = MultiMutex(client_, {"c", "b", "a"}).Acquire(absl::Seconds(20));
  });
  ASSERT_TRUE(Eventually([&] { return Waiting("b") == 1; }));
  EXPECT_TRUE(Held("a"));
  EXPECT_FALSE(Held("c"));  // comes after b
  EXPECT_OK(rival.Release());
  waiter.join();
  ASSERT_OK(got->status());
  EXPECT_TRUE((*got)->valid());
}

TEST_F(MultiMutexTest, ATimeoutGivesBackWhatWasGranted) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(other_, "c").TryAcquire());
  const Stopwatch watch;
  const absl::Status busy =
      MultiMutex(client_, {"a", "b", "c"}).Acquire(absl::Milliseconds(200)).status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(190));
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_FALSE(Held("a"));
  EXPECT_FALSE(Held("b"));
  EXPECT_TRUE(Eventually([&] { return Waiting("c") == 0; }));
}

TEST_F(MultiMutexTest, AStopGivesBackWhatWasGranted) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(other_, "b").TryAcquire());
  std::stop_source stop;
  absl::Status status;
  std::jthread waiter([&] {
    status = MultiMutex(client_, {"a", "b"})
                 .Acquire(absl::InfiniteDuration(), stop.get_token())
                 .status();
  });
  ASSERT_TRUE(Eventually([&] { return Waiting("b") == 1; }));
  stop.request_stop();
  waiter.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(Held("a"));
}

TEST_F(MultiMutexTest, WhoWaitsForOneOfThemIsNotPassedBy) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(other_, "b").TryAcquire());
  std::optional<absl::StatusOr<Lease>> waited;
  std::jthread waiter([&] { waited = Mutex(client_, "b").Acquire(absl::Seconds(20)); });
  ASSERT_TRUE(Eventually([&] { return Waiting("b") == 1; }));
  redis_.Command({"DEL", "coord:{b}:lease"});  // free, and somebody waits
  EXPECT_TRUE(IsBusy(MultiMutex(other_, {"a", "b"}).TryAcquire().status()));
  waiter.join();
  EXPECT_OK(waited->status());
}

TEST_F(MultiMutexTest, TheLossOfOneIsTheLossOfAll) {
  const MultiMutex both(client_, {"a", "b"}, {.ttl = absl::Milliseconds(600)});
  ASSERT_OK_AND_ASSIGN(MultiLease lease, both.TryAcquire());
  std::atomic<bool> told = false;
  const std::stop_callback callback(lease.stop_token(), [&] { told = true; });
  redis_.Command({"DEL", "coord:{b}:lease"});
  EXPECT_TRUE(Eventually([&] { return told.load(); }));
  EXPECT_FALSE(lease.valid());
  EXPECT_TRUE(lease.stop_token().stop_requested());
  EXPECT_TRUE(Held("a"));
  const absl::Status lost = lease.Release();
  EXPECT_TRUE(IsLost(lost)) << lost;
  EXPECT_THAT(lost, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"b\"")));
  EXPECT_FALSE(Held("a"));  // given back all the same
}

TEST_F(MultiMutexTest, AllAreRenewed) {
  const MultiMutex both(client_, {"a", "b"}, {.ttl = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(MultiLease lease, both.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "pexpire") >= 16; }));
  EXPECT_TRUE(lease.valid());
  EXPECT_OK(lease.Renew(absl::Seconds(60)));
  EXPECT_GT(lease.remaining(), absl::Seconds(50));
}

TEST_F(MultiMutexTest, RivalsThatNameThemInAnyOrderNeverDeadlockOrOverlap) {
  std::atomic<int> inside[3] = {0, 0, 0};
  std::atomic<int> overlaps = 0;
  std::atomic<int> rounds = 0;
  const std::vector<std::vector<int>> sets = {{0, 1}, {1, 0}, {1, 2}, {2, 0}, {2, 1, 0}};
  {
    std::vector<std::jthread> threads;
    for (const std::vector<int>& set : sets) {
      threads.emplace_back([&, set] {
        const Client client = ConnectTo(server_.url());
        Names names;
        for (const int i : set) names.push_back("n" + std::to_string(i));
        for (int round = 0; round < 20; ++round) {
          absl::StatusOr<MultiLease> lease = MultiMutex(client, names).Acquire(absl::Seconds(60));
          EXPECT_OK(lease.status());
          if (!lease.ok()) return;
          for (const int i : set) overlaps += inside[i].fetch_add(1) != 0;
          std::this_thread::yield();
          for (const int i : set) inside[i].fetch_sub(1);
          ++rounds;
          EXPECT_OK(lease->Release());
        }
      });
    }
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(rounds, 100);
}

TEST_F(MultiMutexTest, SpansSeveralDeployments) {
  RedisServer second;
  RawRedis second_redis(second);
  const Client elsewhere = ConnectTo(second.url());
  const MultiMutex both({Mutex(client_, "x"), Mutex(elsewhere, "x")});
  {
    ASSERT_OK_AND_ASSIGN(MultiLease lease, both.TryAcquire());
    EXPECT_TRUE(Held("x"));
    EXPECT_EQ(second_redis.Integer({"EXISTS", "coord:{x}:lease"}), 1);
  }
  EXPECT_FALSE(Held("x"));
  for (const Client& where : {client_, elsewhere}) {
    ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(where, "x").TryAcquire());
    EXPECT_TRUE(IsBusy(both.TryAcquire().status()));
    EXPECT_TRUE(IsBusy(both.Acquire(absl::Milliseconds(50)).status()));
    ASSERT_OK(rival.Release());
    EXPECT_TRUE(Eventually([&] {
      return !Held("x") && second_redis.Integer({"EXISTS", "coord:{x}:lease"}) == 0;
    }));
  }
  ASSERT_OK_AND_ASSIGN(MultiLease lease, both.Acquire(absl::Seconds(5)));
  EXPECT_TRUE(lease.valid());
}

TEST_F(MultiMutexTest, ALostReplyIsRepeatedOrGivenBack) {
  const RedisServer remote({.port = 0});
  RawRedis raw(remote);
  FaultProxy proxy(remote.url());
  const Client far = ConnectTo(proxy.url());
  const MultiMutex both(far, {"a", "b"}, {.ttl = absl::Seconds(60)});
  proxy.ResetBeforeReply();
  {
    ASSERT_OK_AND_ASSIGN(MultiLease lease, both.TryAcquire());
    EXPECT_OK(lease.Release());
  }
  proxy.SetPresent(testing::Direction::kReplies, {.drop = true});
  const absl::Status unknown = both.TryAcquire({.timeout = absl::Milliseconds(200)}).status();
  EXPECT_TRUE(IsOutcomeUnknown(unknown)) << unknown;
  EXPECT_TRUE(Eventually([&] {
    return raw.Integer({"EXISTS", "coord:{a}:lease", "coord:{b}:lease"}) == 0;
  }));
}

TEST_F(MultiMutexTest, NoLeaseIsNotValidAndHarmless) {
  MultiLease none;
  EXPECT_FALSE(none.valid());
  EXPECT_EQ(none.remaining(), absl::ZeroDuration());
  EXPECT_TRUE(none.stop_token().stop_requested());
  EXPECT_EQ(none.token("a"), FencingToken());
  EXPECT_THAT(none.Release(), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(MultiLease lease, MultiMutex(client_, {"a"}).TryAcquire());
  none = std::move(lease);
  EXPECT_TRUE(none.valid());
  none = MultiLease();
  EXPECT_FALSE(Held("a"));
}

TEST_F(MultiMutexTest, BadArgumentsReachNoServer) {
  const Client same_url = ConnectTo(server_.url());
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  Names many;
  for (int i = 0; i < 65; ++i) many.push_back(std::to_string(i));
  for (const Names& names : {Names{}, Names{"a", "b", "a"}, Names{"a", ""}, Names{"}"}, many}) {
    EXPECT_THAT(MultiMutex(client_, names).TryAcquire().status(), refused);
    EXPECT_THAT(MultiMutex(client_, names).Acquire(absl::Seconds(1)).status(), refused);
  }
  EXPECT_THAT(MultiMutex({Mutex(client_, "a"), Mutex(same_url, "a")}).TryAcquire().status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("twice")));
  EXPECT_THAT(MultiMutex(std::vector<Mutex>()).TryAcquire().status(), refused);
  const MultiMutex good(client_, {"a", "b"});
  EXPECT_THAT(good.Acquire(-absl::Seconds(1)).status(), refused);
  EXPECT_THAT(good.TryAcquire({.timeout = absl::ZeroDuration()}).status(), refused);
  EXPECT_THAT(MultiMutex(client_, {"a"}, {.ttl = absl::Milliseconds(1)}).TryAcquire().status(),
              refused);
  EXPECT_EQ(AllCalls(redis_), 0);
  many.pop_back();
  EXPECT_OK(MultiMutex(client_, many).TryAcquire().status());
}

}  // namespace
}  // namespace coord
