// Mutex and Lease on one server that works: what a holder and its rivals see, and what is sent.
#include "coord/mutex.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/json_document.h"
#include "coord/rate_limiter.h"
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
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLease[] = "coord:{deploy}:lease";
constexpr char kFence[] = "coord:{deploy}:fence";
constexpr char kQueue[] = "coord:{deploy}:queue";
const std::vector<std::string> kKeys = {kLease, kFence, kQueue, "coord:{deploy}:readers"};

Client ConnectTo(const RedisServer& server, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(server.url(), std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

std::string ScriptText(const std::string& name) {
  for (const internal::ScriptText* script : internal::AllScripts()) {
    if (script->name == name) return std::string(script->text);
  }
  testing::Fatal("no script " + name);
}

// Scripts answer numbers as integers or as decimal strings.
bool IsNumber(const Reply& reply) {
  return reply.is_integer() ||
         (reply.is_string() && reply.text().find_first_not_of("0123456789") == std::string::npos);
}
std::int64_t Number(const Reply& reply) {
  return reply.is_integer() ? reply.integer() : std::stoll("0" + reply.text());
}

class MutexTest : public ::testing::Test {
 protected:
  bool Held() { return redis_.Integer({"EXISTS", kLease}) == 1; }
  std::int64_t Left() { return redis_.Integer({"PTTL", kLease}); }

  // What a script answers, on the keys of the mutex "deploy".
  std::vector<std::int64_t> Acquire(const std::string& owner, int ttl_ms) {
    const Reply reply = Run("mutex_acquire", kKeys, {owner, std::to_string(ttl_ms), "t"});
    std::vector<std::int64_t> numbers;
    for (const Reply& item : reply.items()) {
      if (IsNumber(item)) numbers.push_back(Number(item));
    }
    return numbers;
  }
  std::int64_t Release(const std::string& owner) {
    return Run("mutex_release", kKeys, {owner}).integer();
  }
  std::int64_t Renew(const std::string& owner, int ttl_ms) {
    return Run("mutex_renew", {kLease, kFence}, {owner, std::to_string(ttl_ms)}).integer();
  }
  std::int64_t Withdraw(const std::string& owner, int memory_ms) {
    return Run("mutex_withdraw", kKeys, {owner, std::to_string(memory_ms)}).integer();
  }
  Reply Run(const std::string& script, const std::vector<std::string>& keys,
            const std::vector<std::string>& args) {
    std::vector<std::string> command = {"EVAL", ScriptText(script), std::to_string(keys.size())};
    command.insert(command.end(), keys.begin(), keys.end());
    command.insert(command.end(), args.begin(), args.end());
    Reply reply = redis_.Command(command);
    EXPECT_FALSE(reply.is_error()) << script << ": " << reply.text();
    return reply;
  }
  // A token as if it had been given out so far ahead of the server's clock.
  std::int64_t SetFenceAhead(absl::Duration ahead) {
    const Reply now = redis_.Command({"TIME"});
    const std::int64_t token = std::stoll(now.items()[0].text()) * 1'000'000 +
                               std::stoll(now.items()[1].text()) + absl::ToInt64Microseconds(ahead);
    char record[64];
    std::snprintf(record, sizeof(record), "%016lld", static_cast<long long>(token));
    redis_.Command({"SET", kFence, record, "PX", "172800000"});
    return token;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  Mutex mutex_{client_, "deploy"};
};

// ---- Exclusion and waiting ----

TEST_F(MutexTest, OneHolderAtATime) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  EXPECT_TRUE(lease.valid());
  EXPECT_EQ(lease.name(), "deploy");
  const Client other = ConnectTo(server_);
  EXPECT_TRUE(IsBusy(Mutex(other, "deploy").TryAcquire().status()));
  EXPECT_TRUE(IsBusy(Mutex(client_, "deploy").TryAcquire().status()));  // no reentrance
  EXPECT_TRUE(IsBusy(mutex_.TryAcquire().status()));
  EXPECT_OK(Mutex(other, "another").TryAcquire().status());
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(lease.valid());
  EXPECT_OK(Mutex(other, "deploy").TryAcquire().status());
}

TEST_F(MutexTest, PrefixesKeepLocksOfOneNameApart) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const Client other = ConnectTo(server_, {.prefix = "elsewhere:"});
  ASSERT_OK_AND_ASSIGN(Lease second, Mutex(other, "deploy").TryAcquire());
  EXPECT_EQ(redis_.Integer({"EXISTS", "elsewhere:{deploy}:lease"}), 1);
}

TEST_F(MutexTest, BusyNamesTheLockItsHolderAndTheTimeLeft) {
  const Client alice = ConnectTo(server_, {.client_name = "alice-of-accounting"});
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(alice, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  const absl::Status busy = mutex_.TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy));
  EXPECT_FALSE(IsOutcomeUnknown(busy));
  EXPECT_FALSE(coord::IsUnavailable(busy));
  EXPECT_THAT(busy,
              StatusIs(absl::StatusCode::kAborted,
                       AllOf(HasSubstr("deploy"), HasSubstr("alice-of-accounting"),
                             ContainsRegex("(5[0-9]([.][0-9]+)? ?s|1 ?m(in)?|[45][0-9]+ ?ms)"))));
}

TEST_F(MutexTest, AcquireWaitsUntilTheHolderReleases) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::atomic<bool> releasing = false;
  std::atomic<bool> got_it = false;
  std::jthread waiter([&] {
    const absl::StatusOr<Lease> second = mutex_.Acquire(absl::Seconds(20));
    EXPECT_OK(second.status());
    EXPECT_TRUE(releasing);
    got_it = true;
  });
  ASSERT_TRUE(Eventually([&] { return CommandCalls(redis_, "evalsha") >= 2; }));  // asked, again
  EXPECT_FALSE(got_it);
  releasing = true;
  EXPECT_OK(lease.Release());
  waiter.join();
  EXPECT_TRUE(got_it);
}

TEST_F(MutexTest, AcquireGetsTheLockOfAHolderThatVanishedWhenItsTimeIsOver) {
  redis_.Command({"SET", kLease, "a-ghost", "PX", "400"});
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.Acquire(absl::Seconds(20)));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(350));
  EXPECT_TRUE(lease.valid());
}

TEST_F(MutexTest, AcquireEndsBusyAtItsTimeout) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const Stopwatch watch;
  const absl::Status busy = mutex_.Acquire(absl::Milliseconds(250)).status();
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(240));
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("deploy")));
  EXPECT_TRUE(lease.valid());
}

TEST_F(MutexTest, AStopTokenEndsAWaitWithoutEnd) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::stop_source stop;
  std::atomic<bool> ended = false;
  absl::Status status;
  std::jthread waiter([&] {
    status = mutex_.Acquire(absl::InfiniteDuration(), stop.get_token()).status();
    ended = true;
  });
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "evalsha") >= 1 || ended; }));
  EXPECT_FALSE(ended) << status;
  stop.request_stop();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }, absl::Seconds(5)));
  if (!ended) lease = Lease();  // or it would wait for ever
  waiter.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(lease.Release());
  EXPECT_OK(mutex_.TryAcquire().status());
}

TEST_F(MutexTest, AStopTokenThatHasTrippedTakesNothing) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(mutex_.Acquire(absl::Seconds(1), stop.get_token()),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(mutex_.TryAcquire({.stop = stop.get_token()}),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(mutex_.Acquire(absl::Seconds(5)).status());
}

TEST_F(MutexTest, ManyThreadsAreNeverInsideTogether) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 8;
  std::atomic<int> inside = 0;
  std::atomic<int> overlaps = 0;
  std::atomic<int> entered = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          absl::StatusOr<Lease> lease = mutex_.Acquire(absl::Seconds(30));
          EXPECT_OK(lease.status());
          if (!lease.ok()) return;
          if (inside.fetch_add(1) != 0) ++overlaps;
          std::this_thread::yield();
          inside.fetch_sub(1);
          ++entered;
          EXPECT_OK(lease->Release());
        }
      });
    }
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(entered, kThreads * kRounds);
}

// ---- Fencing ----

TEST_F(MutexTest, TokensRiseFromHolderToHolder) {
  FencingToken last;
  const Client other = ConnectTo(server_);
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(i % 2 == 0 ? client_ : other, "deploy").TryAcquire());
    ASSERT_GT(lease.token(), last);
    ASSERT_LT(lease.token().value(), std::uint64_t{1} << 53);
    last = lease.token();
    ASSERT_OK(lease.Release());
  }
}

TEST_F(MutexTest, TokensRiseThoughTheClockHasSteppedBackAndTheDataIsKept) {
  const std::int64_t ahead = SetFenceAhead(absl::Hours(1));
  auto last = static_cast<std::uint64_t>(ahead);
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
    ASSERT_GT(lease.token().value(), last);
    last = lease.token().value();
    ASSERT_OK(lease.Release());
  }
  EXPECT_LT(last, static_cast<std::uint64_t>(ahead) + 1000);
}

TEST_F(MutexTest, TheFenceOutlivesTheLongestLeaseByADayThoughItsTimeIsSeldomWritten) {
  constexpr std::int64_t kHour = 3'600'000;
  const Client other = ConnectTo(server_);
  // A token of 20 minutes ago whose record is about to go: found by an acquire, then by a release
  // that hands the lock on.
  for (const bool waited : {false, true}) {
    SetFenceAhead(-absl::Minutes(20));
    redis_.Command({"PEXPIRE", kFence, "60000"});
    ASSERT_OK_AND_ASSIGN(Lease first, mutex_.TryAcquire());
    EXPECT_GT(redis_.Integer({"PTTL", kFence}), 48 * kHour);
    if (!waited) continue;
    absl::StatusOr<Lease> second = absl::UnknownError("");
    std::jthread waiter([&] { second = Mutex(other, "deploy").Acquire(absl::Seconds(10)); });
    while (redis_.Integer({"LLEN", kQueue}) == 0) std::this_thread::yield();
    redis_.Command({"SETRANGE", kFence, "1", "1700000000000000"});  // behind its mark
    redis_.Command({"PEXPIRE", kFence, "60000"});
    EXPECT_OK(first.Release());
    waiter.join();
    EXPECT_OK(second.status());
    EXPECT_GT(redis_.Integer({"PTTL", kFence}), 48 * kHour);
  }
  // And one of just now, which has at least two days left.
  redis_.Command({"PEXPIRE", kFence, std::to_string(48 * kHour)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  EXPECT_GT(redis_.Integer({"PTTL", kFence}), 47 * kHour);
}

TEST_F(MutexTest, ALeaseIsNotRenewedBeyondMaxHold) {
  const Mutex bounded(client_, "deploy",
                      {.ttl = absl::Milliseconds(300), .max_hold = absl::Milliseconds(700)});
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(Lease lease, bounded.TryAcquire());
  EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(650));  // so it was renewed
  const absl::Status lost = lease.Renew(absl::Seconds(10));
  EXPECT_TRUE(IsLost(lost)) << lost;
  EXPECT_THAT(std::string(lost.message()), HasSubstr("max_hold"));
  EXPECT_OK(mutex_.Acquire(absl::Seconds(10)).status());
}

TEST_F(MutexTest, AHolderWhoHadToWaitReleasesThoughTheServerHasForgottenTheScripts) {
  const Client other = ConnectTo(server_);
  ASSERT_OK_AND_ASSIGN(Lease first, Mutex(other, "deploy").TryAcquire());
  std::jthread releases([&] {
    while (redis_.Integer({"LLEN", kQueue}) == 0) std::this_thread::yield();
    EXPECT_OK(first.Release());
  });
  ASSERT_OK_AND_ASSIGN(Lease second, mutex_.Acquire(absl::Seconds(10)));
  releases.join();
  redis_.Command({"SCRIPT", "FLUSH"});
  EXPECT_OK(second.Release());
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

TEST_F(MutexTest, TokensRiseWithinOneMicrosecond) {
  // In one script the server's clock stands still, so all of these have the same microsecond.
  std::string body = ScriptText("mutex_acquire");
  const std::string release = ScriptText("mutex_release");
  const std::string script =
      "local keys = KEYS\nlocal tokens = {}\n"
      "local function acquire(KEYS, ARGV)\n" +
      body +
      "\nend\n"
      "local function release(KEYS, ARGV)\n" +
      release +
      "\nend\n"
      "for i = 1, 5 do\n"
      "  local owner = 'owner' .. i\n"
      "  tokens[i] = acquire(keys, {owner, '10000'})[1]\n"
      "  assert(release({keys[1]}, {owner}) == 1)\n"
      "end\nreturn tokens\n";
  const Reply reply = redis_.Command({"EVAL", script, "2", kLease, kFence});
  ASSERT_EQ(reply.items().size(), 5u) << reply.ToDebugString();
  for (std::size_t i = 1; i < 5; ++i) {
    EXPECT_GT(Number(reply.items()[i]), Number(reply.items()[i - 1]));
  }
}

TEST_F(MutexTest, TokensRiseThoughTheServerForgotEverything) {
  FencingToken last;
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
    EXPECT_GT(lease.token(), last);
    last = lease.token();
    redis_.Command({"FLUSHALL"});
  }
}

TEST_F(MutexTest, TheFenceOutlivesTheLeaseByADay) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Hours(24)}).TryAcquire());
  EXPECT_GE(redis_.Integer({"PTTL", kFence}), Left() + 24 * 3'600'000 - 5000);
  EXPECT_OK(lease.Renew(absl::Hours(24)));
  EXPECT_GE(redis_.Integer({"PTTL", kFence}), Left() + 24 * 3'600'000 - 5000);
  EXPECT_OK(lease.Release());
  EXPECT_GE(redis_.Integer({"PTTL", kFence}), 24 * 3'600'000);
}

// ---- Idempotence, at the level of the scripts ----

TEST_F(MutexTest, AReplayedAcquireGetsTheSameTokenAndTheTimeLeft) {
  const std::vector<std::int64_t> first = Acquire("me", 5000);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_GT(first[0], 0);
  EXPECT_EQ(first[1], 5000);
  ASSERT_TRUE(Eventually([&] { return Left() <= 4900; }));
  const std::vector<std::int64_t> again = Acquire("me", 60'000);
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0], first[0]);
  EXPECT_LE(again[1], 4900);
  EXPECT_GT(again[1], 0);
  EXPECT_LE(Left(), 4900);
}

TEST_F(MutexTest, AReplayedAcquireGetsTheSameTokenAfterAWithdrawalOfAnother) {
  const std::vector<std::int64_t> first = Acquire("me", 60'000);
  EXPECT_EQ(Withdraw("a stranger", 60'000), 0);
  EXPECT_EQ(Acquire("me", 60'000).at(0), first.at(0));
}

TEST_F(MutexTest, ARefusalNamesTheHolderAndItsTime) {
  Acquire("me", 5000);
  const Reply reply = Run("mutex_acquire", kKeys, {"you", "5000", "t"});
  ASSERT_EQ(reply.items().size(), 3u);
  EXPECT_EQ(Number(reply.items()[0]), 0);
  EXPECT_GT(Number(reply.items()[1]), 0);
  EXPECT_LE(Number(reply.items()[1]), 5000);
  EXPECT_EQ(reply.items()[2].text(), "me");
}

TEST_F(MutexTest, AWithdrawnOwnerIsRefusedLater) {
  EXPECT_EQ(Withdraw("late", 60'000), 0);
  EXPECT_THAT(Acquire("late", 5000), ElementsAre(-1, 0));
  EXPECT_FALSE(Held());
  // Also when others have come and gone since.
  for (const char* owner : {"a", "b", "c"}) {
    EXPECT_GT(Acquire(owner, 5000).at(0), 0);
    EXPECT_THAT(Acquire("late", 5000), ElementsAre(0, ::testing::Gt(0)));
    EXPECT_EQ(Release(owner), 1);
    EXPECT_THAT(Acquire("late", 5000), ElementsAre(-1, 0));
    EXPECT_FALSE(Held());
  }
}

TEST_F(MutexTest, ManyWithdrawnOwnersAreAllRefused) {
  Acquire("first", 5000);
  for (int i = 0; i < 20; ++i) Withdraw("late" + std::to_string(i), 60'000);
  EXPECT_EQ(Release("first"), 1);
  const std::int64_t token = Acquire("second", 5000).at(0);
  EXPECT_GT(token, 0);
  EXPECT_EQ(Release("second"), 1);
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Acquire("late" + std::to_string(i), 5000), ElementsAre(-1, 0)) << i;
  }
  EXPECT_FALSE(Held());
  EXPECT_GT(Acquire("third", 5000).at(0), token);
}

TEST_F(MutexTest, AWithdrawalIsForgottenAfterItsTime) {
  Withdraw("late", 100);
  EXPECT_TRUE(Eventually([&] { return Acquire("late", 5000).at(0) > 0; }, absl::Seconds(5)));
}

TEST_F(MutexTest, AWithdrawalReleasesAndTheNextHolderHasALargerToken) {
  const std::int64_t token = Acquire("me", 60'000).at(0);
  EXPECT_EQ(Withdraw("me", 60'000), 1);
  EXPECT_FALSE(Held());
  EXPECT_EQ(Withdraw("me", 60'000), 0);
  EXPECT_THAT(Acquire("me", 5000), ElementsAre(-1, 0));
  EXPECT_GT(Acquire("you", 5000).at(0), token);
}

TEST_F(MutexTest, AWithdrawalOfAStrangerLeavesTheHolderAlone) {
  const std::int64_t token = Acquire("me", 60'000).at(0);
  EXPECT_EQ(Withdraw("you", 60'000), 0);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "me");
  EXPECT_EQ(Acquire("me", 60'000).at(0), token);
  EXPECT_EQ(Renew("me", 60'000), 1);
}

TEST_F(MutexTest, TokensRiseThroughWithdrawalsThoughTheClockHasSteppedBack) {
  const std::int64_t ahead = SetFenceAhead(absl::Hours(1));
  Withdraw("late", 60'000);
  const std::int64_t first = Acquire("a", 5000).at(0);
  EXPECT_GT(first, ahead);
  Release("a");
  EXPECT_GT(Acquire("b", 5000).at(0), first);
}

TEST_F(MutexTest, AnAcquireThatComesAfterTheRepetitionOfItsReleaseTakesNothing) {
  Acquire("me", 5000);
  EXPECT_EQ(Release("me"), 1);
  EXPECT_EQ(Withdraw("me", 60'000), 0);
  EXPECT_THAT(Acquire("me", 5000), ElementsAre(-1, 0));
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, OnlyTheOwnerCanReleaseOrRenew) {
  Acquire("me", 5000);
  EXPECT_EQ(Release("you"), 0);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "me");
  EXPECT_EQ(Renew("you", 60'000), 0);
  EXPECT_EQ(redis_.Text({"GET", kLease}), "me");
  EXPECT_LE(Left(), 5000);
  EXPECT_EQ(Renew("me", 60'000), 1);
  EXPECT_GT(Left(), 5000);
  EXPECT_EQ(Release("me"), 1);
  EXPECT_EQ(Release("me"), 0);
  EXPECT_EQ(Renew("me", 60'000), 0);
  EXPECT_FALSE(Held());
}

// ---- A lease's life ----

TEST_F(MutexTest, ALeaseIsValidForLessThanTheServerKeepsIt) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  const absl::Duration drift = absl::Milliseconds(602);  // 1 % and 2 ms
  EXPECT_LE(lease.remaining(), absl::Seconds(60) - drift);
  EXPECT_GT(lease.remaining(), absl::Seconds(50));
  EXPECT_OK(lease.Renew(absl::Seconds(60)));
  EXPECT_LE(lease.remaining(), absl::Seconds(60) - drift);
  const absl::Duration remaining = lease.remaining();
  EXPECT_GT(Left(), absl::ToInt64Milliseconds(remaining));
}

TEST_F(MutexTest, TheServerKnowsTheLeaseByItsOwner) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  EXPECT_EQ(redis_.Text({"GET", kLease}), lease.owner());
  ASSERT_OK_AND_ASSIGN(Lease other, Mutex(client_, "other").TryAcquire());
  EXPECT_NE(lease.owner(), other.owner());
}

TEST_F(MutexTest, RenewalKeepsAShortLeaseAliveForManyTimesItsTime) {
  const Mutex mutex(client_, "deploy", {.ttl = absl::Milliseconds(500)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  const Client other = ConnectTo(server_);
  EXPECT_FALSE(Mutex(other, "deploy").Acquire(absl::Milliseconds(2500)).ok());
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  ASSERT_OK_AND_ASSIGN(LockHolder holder, mutex.Holder());
  EXPECT_EQ(holder.owner, lease.owner());
  EXPECT_LE(Left(), 500);
  EXPECT_OK(lease.Release());
}

TEST_F(MutexTest, SeveralLeasesAreAllRenewed) {
  std::vector<Lease> leases;
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(
        Lease lease,
        Mutex(client_, "m" + std::to_string(i), {.ttl = absl::Milliseconds(600)}).TryAcquire());
    leases.push_back(std::move(lease));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // the scenario: 2.5 times the ttl
  for (Lease& lease : leases) {
    EXPECT_TRUE(lease.valid());
    EXPECT_OK(lease.Release());
  }
}

TEST_F(MutexTest, AReleasedLeaseIsNotRenewed) {
  const Mutex mutex(client_, "deploy", {.ttl = absl::Milliseconds(90)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_OK(lease.Release());
  redis_.Command({"SET", kLease, lease.owner(), "PX", "400"});  // a renewal would find it
  EXPECT_TRUE(Eventually([&] { return !Held(); }, absl::Seconds(5)));
}

void ExpectLostSoon(const Lease& lease, absl::Duration ttl) {
  const std::stop_token token = lease.stop_token();
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] { return token.stop_requested(); }, absl::Seconds(8)));
  // By the next renewal, a third of the ttl away; not only when the time is over.
  EXPECT_LT(watch.elapsed(), ttl * 3 / 4);
  EXPECT_FALSE(lease.valid());
  EXPECT_EQ(lease.remaining(), absl::ZeroDuration());
}

TEST_F(MutexTest, ALeaseDeletedOnTheServerIsLostAtTheNextRenewal) {
  const absl::Duration ttl = absl::Seconds(3);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = ttl}).TryAcquire());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  redis_.Command({"DEL", kLease});
  ExpectLostSoon(lease, ttl);
  const absl::Status released = lease.Release();
  EXPECT_TRUE(IsLost(released)) << released;
  EXPECT_THAT(released, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("deploy")));
}

TEST_F(MutexTest, ALeaseLostInAFlushIsLostAtTheNextRenewal) {
  const absl::Duration ttl = absl::Seconds(3);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = ttl}).TryAcquire());
  redis_.Command({"FLUSHALL"});
  ExpectLostSoon(lease, ttl);
  EXPECT_TRUE(IsLost(lease.Renew(absl::Seconds(10))));
}

TEST_F(MutexTest, ALeaseThatAnotherTookIsLostAndTheOthersStays) {
  const absl::Duration ttl = absl::Seconds(3);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = ttl}).TryAcquire());
  redis_.Command({"SET", kLease, "a usurper", "PX", "60000"});
  ExpectLostSoon(lease, ttl);
  EXPECT_TRUE(IsLost(lease.Release()));
  { const Lease gone = std::move(lease); }
  EXPECT_EQ(redis_.Text({"GET", kLease}), "a usurper");
}

TEST_F(MutexTest, RenewFindsALossAtOnce) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = absl::Hours(1)}).TryAcquire());
  redis_.Command({"DEL", kLease});
  const absl::Status lost = lease.Renew(absl::Hours(1));
  EXPECT_TRUE(IsLost(lost)) << lost;
  EXPECT_THAT(lost, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(lease.valid());
  EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, ReleaseFindsALoss) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = absl::Hours(1)}).TryAcquire());
  redis_.Command({"DEL", kLease});
  EXPECT_TRUE(IsLost(lease.Release()));
  EXPECT_FALSE(lease.valid());
}

TEST_F(MutexTest, TheStopTokensCallbackRuns) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(1)}).TryAcquire());
  std::atomic<bool> called = false;
  const std::stop_callback callback(lease.stop_token(), [&] { called = true; });
  redis_.Command({"DEL", kLease});
  EXPECT_TRUE(Eventually([&] { return called.load(); }));
}

TEST_F(MutexTest, AReleaseDoesNotTripTheStopToken) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Milliseconds(150)}).TryAcquire());
  const std::stop_token token = lease.stop_token();
  ASSERT_OK(lease.Release());
  std::this_thread::sleep_for(std::chrono::milliseconds(400));  // the scenario: its time is over
  EXPECT_FALSE(token.stop_requested());
}

TEST_F(MutexTest, ALongerRenewalHolds) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(2)}).TryAcquire());
  ASSERT_OK(lease.Renew(absl::Seconds(100)));
  EXPECT_GT(lease.remaining(), absl::Seconds(90));
  EXPECT_GT(Left(), 90'000);
}

TEST_F(MutexTest, AShorterRenewalIsItselfRenewedInItsOwnTime) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  ASSERT_OK(lease.Renew(absl::Milliseconds(600)));
  EXPECT_LE(lease.remaining(), absl::Milliseconds(592));
  EXPECT_LE(Left(), 600);
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // the scenario: 2.5 times the ttl
  EXPECT_TRUE(lease.valid());
  EXPECT_TRUE(Held());
  EXPECT_LE(Left(), 600);
}

TEST_F(MutexTest, AReleaseMayBeRepeated) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  EXPECT_OK(lease.Release());
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(Held());
  ASSERT_OK_AND_ASSIGN(Lease next, mutex_.TryAcquire());
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(Held());
  EXPECT_TRUE(next.valid());
}

TEST_F(MutexTest, AReleasedLeaseCannotBeRenewed) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  ASSERT_OK(lease.Release());
  EXPECT_THAT(lease.Renew(absl::Seconds(10)), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(lease.valid());
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, TheDestructorReleases) {
  {
    ASSERT_OK_AND_ASSIGN(const Lease lease, mutex_.TryAcquire());
    EXPECT_TRUE(Held());
  }
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, NoLeaseIsNotValidAndHarmless) {
  Lease lease;
  EXPECT_FALSE(lease.valid());
  EXPECT_EQ(lease.token().value(), 0u);
  EXPECT_EQ(lease.remaining(), absl::ZeroDuration());
  EXPECT_EQ(lease.name(), "");
  EXPECT_EQ(lease.owner(), "");
  EXPECT_FALSE(lease.Renew(absl::Seconds(1)).ok());
  (void)lease.stop_token();
  (void)lease.Release();
}

TEST_F(MutexTest, AMovedLeaseGoesOnAndItsSourceIsNone) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const FencingToken token = lease.token();
  const std::string owner = lease.owner();
  std::optional<Lease> source(std::move(lease));
  Lease moved(std::move(*source));
  EXPECT_FALSE(source->valid());
  EXPECT_EQ(source->token(), FencingToken());
  source.reset();
  EXPECT_TRUE(Held());
  EXPECT_TRUE(moved.valid());
  EXPECT_EQ(moved.token(), token);
  EXPECT_EQ(moved.owner(), owner);
  EXPECT_EQ(moved.name(), "deploy");
  EXPECT_OK(moved.Release());
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, MovingALeaseOverAnotherReleasesTheOther) {
  ASSERT_OK_AND_ASSIGN(Lease first, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(Lease second, Mutex(client_, "other").TryAcquire());
  first = std::move(second);
  EXPECT_FALSE(Held());
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{other}:lease"}), 1);
  EXPECT_EQ(first.name(), "other");
  EXPECT_TRUE(first.valid());
}

TEST_F(MutexTest, ALeaseOutlivesTheMutexAndTheHandlesItCameFrom) {
  std::optional<Lease> lease;
  {
    const Client client = ConnectTo(server_);
    absl::StatusOr<Lease> got =
        Mutex(client, "short", {.ttl = absl::Milliseconds(500)}).TryAcquire();
    ASSERT_OK(got);
    lease = *std::move(got);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // the scenario: twice the ttl
  EXPECT_TRUE(lease->valid());
  EXPECT_OK(lease->Release());
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{short}:lease"}), 0);
}

TEST_F(MutexTest, ClosingTheClientEndsItsLeases) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "deploy", {.ttl = absl::Hours(1)}).TryAcquire());
  const std::stop_token token = lease.stop_token();
  client_.Close();
  EXPECT_TRUE(Eventually([&] { return token.stop_requested(); }));
  EXPECT_FALSE(lease.valid());
  EXPECT_THAT(mutex_.TryAcquire(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(mutex_.Acquire(absl::Seconds(5)), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(lease.Renew(absl::Seconds(10)).ok());
  const Stopwatch watch;
  EXPECT_FALSE(lease.Release().ok());
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
}

TEST_F(MutexTest, ClosingTheClientEndsAWait) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::atomic<bool> ended = false;
  absl::Status status;
  std::jthread waiter([&] {
    status = mutex_.Acquire(absl::Seconds(60)).status();
    ended = true;
  });
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "evalsha") >= 1; }));
  client_.Close();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  if (!ended) lease = Lease();
  waiter.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

// ---- Fork ----

TEST_F(MutexTest, AForkedChildsLeaseIsVoidAndTheParentsUnaffected) {
  const Mutex mutex(client_, "deploy", {.ttl = absl::Seconds(1)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  Process child = ForkAndRun([&]() -> int {
    if (lease.valid()) return 1;
    if (lease.remaining() != absl::ZeroDuration()) return 2;
    if (lease.Renew(absl::Seconds(10)).ok()) return 3;
    if (mutex.TryAcquire().status().code() != absl::StatusCode::kFailedPrecondition) return 4;
    (void)lease.Release();
    { const Lease gone = std::move(lease); }
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(redis_.Text({"GET", kLease}), lease.owner());
  EXPECT_EQ(CommandCalls(redis_, "del"), 0);
  EXPECT_TRUE(lease.valid());
  // Still renewed, and released by the parent alone.
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // the scenario: 1.5 times the ttl
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
  EXPECT_FALSE(Held());
}

TEST_F(MutexTest, AForkedChildHasItsOwnOwnersWhenItConnects) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "in a child of a process with threads one sanitizer starts no threads, and the "
                  "other may find its allocator locked for ever";
#endif
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  Process child = ForkAndRun([&]() -> int {
    const absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    if (!IsBusy(Mutex(*client, "deploy").TryAcquire().status())) return 2;
    absl::StatusOr<Lease> own = Mutex(*client, "other").TryAcquire();
    if (!own.ok() || !own->valid()) return 3;
    std::printf("%s", own->owner().c_str());
    std::fflush(stdout);
    return own->Release().ok() ? 0 : 4;
  });
  EXPECT_EQ(child.Wait().exit_code, 0) << child.err();
  ASSERT_OK_AND_ASSIGN(Lease mine, Mutex(client_, "other").TryAcquire());
  EXPECT_NE(mine.owner(), child.out());
  EXPECT_TRUE(lease.valid());
}

// ---- What is sent ----

TEST_F(MutexTest, EveryOperationIsOneCall) {
  const Counter counter(client_, "hits");
  const RateLimiter limiter(client_, {.permits = 10});
  const CappedList list(client_, "events", {.max_items = 3});
  const JsonDocument document(client_, "doc");
  ASSERT_OK(document.Set(R"({"a":1})"));
  const Mutex mutex(client_, "deploy", {.ttl = absl::Hours(1)});
  std::optional<Lease> lease;
  struct Case {
    const char* what;
    std::function<absl::Status()> run;
  };
  const Case cases[] = {
      {"acquire",
       [&] {
         absl::StatusOr<Lease> got = mutex.Acquire(absl::Seconds(5));
         if (got.ok()) lease = *std::move(got);
         return got.status();
       }},
      {"renew", [&] { return lease->Renew(absl::Hours(1)); }},
      {"busy",
       [&] {
         const absl::Status busy = mutex.TryAcquire().status();
         return IsBusy(busy) ? absl::OkStatus() : absl::InternalError("not busy");
       }},
      {"release", [&] { return lease->Release(); }},
      {"add", [&] { return counter.Add(1).status(); }},
      {"take", [&] { return limiter.Take("user").status(); }},
      {"peek", [&] { return limiter.Peek("user").status(); }},
      {"push", [&] { return list.Push("item").status(); }},
      {"cas", [&] { return document.CompareAndSetField("/a", "1", "2").status(); }},
  };
  for (const Case& c : cases) {
    redis_.Command({"CONFIG", "RESETSTAT"});
    EXPECT_OK(c.run()) << c.what;
    EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1) << c.what;
    EXPECT_EQ(CommandCalls(redis_, "eval"), 0) << c.what;
    EXPECT_EQ(CommandCalls(redis_, "script|load"), 0) << c.what;
  }
}

// ---- Bad input ----

TEST_F(MutexTest, BadNamesAndTimesAreRefusedBeforeAnythingIsSent) {
  struct Case {
    std::string name;
    absl::Duration ttl;
    std::vector<std::string> parts;  // of the message: argument, value, limit
  };
  const absl::Duration good = absl::Seconds(10);
  const Case cases[] = {
      {"", good, {"name", "0 bytes", "512"}},
      {std::string(513, 'x'), good, {"name", "513", "512"}},
      {std::string(100'000, 'x'), good, {"name", "100000", "512"}},
      {"}deploy", good, {"name", "}deploy", "'}'"}},
      {"deploy", absl::ZeroDuration(), {"ttl", "0", "20ms", "24h"}},
      {"deploy", -absl::Seconds(1), {"ttl", "-1s", "20ms", "24h"}},
      {"deploy", absl::Milliseconds(19), {"ttl", "19ms", "20ms"}},
      {"deploy", absl::Hours(24) + absl::Milliseconds(1), {"ttl", "24h0.001s", "20ms to 24h"}},
      {"deploy", absl::Hours(24 * 365 * 200), {"ttl", "24h"}},
      {"deploy", absl::InfiniteDuration(), {"ttl", "inf", "24h"}},
      {"deploy", -absl::InfiniteDuration(), {"ttl", "-inf", "24h"}},
  };
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const Case& c : cases) {
    const Mutex mutex(client_, c.name, {.ttl = c.ttl});
    for (const absl::Status& status :
         {mutex.TryAcquire().status(), mutex.Acquire(absl::Seconds(5)).status()}) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
      for (const std::string& part : c.parts) {
        EXPECT_THAT(std::string(status.message()), HasSubstr(part))
            << c.name.substr(0, 20) << c.ttl;
      }
      EXPECT_LT(status.message().size(), 1000u);
    }
  }
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(MutexTest, TheLongestNameAndTheLimitsOfTheTimeAreTaken) {
  EXPECT_OK(Mutex(client_, std::string(512, 'x')).TryAcquire().status());
  EXPECT_OK(Mutex(client_, std::string("\0{\n*\xff", 5)).TryAcquire().status());
  EXPECT_OK(Mutex(client_, "long", {.ttl = absl::Hours(24)}).TryAcquire().status());
  // Not always granted: 20 ms may pass on the way.
  const absl::Status shortest =
      Mutex(client_, "short", {.ttl = absl::Milliseconds(20)}).Acquire(absl::Seconds(5)).status();
  EXPECT_NE(shortest.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(MutexTest, BadTimeoutsAreRefusedBeforeAnythingIsSent) {
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client_, "other", {.ttl = absl::Hours(1)}).TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const absl::Duration timeout : {-absl::Seconds(1), -absl::InfiniteDuration()}) {
    EXPECT_THAT(mutex_.Acquire(timeout),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("timeout"), HasSubstr(absl::FormatDuration(timeout)))));
  }
  for (const absl::Duration timeout : {absl::ZeroDuration(), -absl::Seconds(1)}) {
    const auto refused =
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("timeout"), HasSubstr(absl::FormatDuration(timeout))));
    EXPECT_THAT(mutex_.TryAcquire({.timeout = timeout}), refused);
    EXPECT_THAT(lease.Renew(absl::Seconds(10), {.timeout = timeout}), refused);
  }
  for (const absl::Duration ttl : {absl::ZeroDuration(), -absl::Seconds(1), absl::Hours(25)}) {
    EXPECT_THAT(
        lease.Renew(ttl),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("ttl"), HasSubstr(absl::FormatDuration(ttl)), HasSubstr("24h"))));
  }
  EXPECT_EQ(AllCalls(redis_), 0);
  EXPECT_TRUE(lease.valid());
  EXPECT_OK(lease.Release());
}

TEST_F(MutexTest, ALeaseKeyOfAnotherTypeIsReportedAndLeftAlone) {
  redis_.Command({"RPUSH", kLease, "a", "b"});
  const absl::Status status = mutex_.TryAcquire().status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("deploy")));
  EXPECT_FALSE(IsBusy(status));
  EXPECT_FALSE(IsLost(status));
  EXPECT_EQ(redis_.Integer({"LLEN", kLease}), 2);
}

TEST_F(MutexTest, AFenceKeyOfAnotherTypeIsReportedAndLeftAloneAndTheLockIsNotHeld) {
  redis_.Command({"RPUSH", kFence, "a", "b"});
  const Mutex mutex(client_, "deploy", {.ttl = absl::Seconds(60)});
  EXPECT_THAT(mutex.TryAcquire(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Eventually([&] { return !Held(); }, absl::Seconds(5)));
  EXPECT_EQ(redis_.Integer({"LLEN", kFence}), 2);
}

}  // namespace
}  // namespace coord
