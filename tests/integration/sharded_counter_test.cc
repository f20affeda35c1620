// ShardedCounter: exact whatever breaks, and what it cannot bring is said.
#include "coord/sharded_counter.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
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

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr char kKey[] = "coord:{hits}:count";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// Only flushes that are asked for.
ShardedCounterOptions Lazy() { return {.flush_interval = absl::Hours(1)}; }
ShardedCounterOptions Eager() { return {.flush_interval = absl::Milliseconds(1)}; }

// What on_loss was told.
struct Losses {
  std::int64_t lost = 0;
  std::int64_t unknown = 0;
  std::vector<absl::Status> why;

  ShardedCounterOptions Into(ShardedCounterOptions options) {
    options.on_loss = [this](std::int64_t amount, absl::Status status) {
      (IsOutcomeUnknown(status) ? unknown : lost) += amount;
      why.push_back(std::move(status));
    };
    return options;
  }
};

class ShardedCounterTest : public ::testing::Test {
 protected:
  std::string Stored() { return redis_.Command({"GET", kKey}).text(); }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(ShardedCounterTest, AddsInMemoryAndFlushesInOneRoundTrip) {
  ShardedCounter hits(client_, "hits", Lazy());
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 1000; ++i) hits.Add(3);
  hits.Add(-1000);
  EXPECT_EQ(hits.pending(), 2000);
  EXPECT_EQ(hits.Approximate(), 2000);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  ASSERT_OK(hits.Flush());
  EXPECT_EQ(Stored(), "2000");
  EXPECT_EQ(hits.pending(), 0);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  ASSERT_OK(hits.Flush());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
}

TEST_F(ShardedCounterTest, FlushesInTheBackgroundAndRestsWhenNothingIsAdded) {
  ShardedCounter hits(client_, "hits", Eager());
  for (int i = 1; i <= 5; ++i) {
    hits.Add(1);
    EXPECT_TRUE(Eventually([&] { return Stored() == std::to_string(i); }));
  }
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 5);
}

TEST_F(ShardedCounterTest, ExactIsAllOfUsAndApproximateIsWhatIsKnownHere) {
  ShardedCounter hits(client_, "hits", Lazy());
  hits.Add(5);
  ASSERT_OK(Counter(client_, "hits").Add(100).status());
  EXPECT_EQ(hits.Approximate(), 5);
  EXPECT_THAT(hits.Exact(), IsOkAndHolds(105));
  hits.Add(1);
  EXPECT_EQ(hits.Approximate(), 106);
}

TEST_F(ShardedCounterTest, ThreadsOfSeveralClientsAddUp) {
  constexpr int kThreads = 8;
  constexpr int kEach = 200'000;
  const Client other = ConnectTo(server_.url());
  {
    ShardedCounter a(client_, "hits", Eager()), b(other, "hits", Eager());
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        ShardedCounter& mine = i % 2 == 0 ? a : b;
        for (int n = 0; n < kEach; ++n) {
          mine.Add(1);
          if (n % 50'000 == 0) {
            EXPECT_OK(mine.Flush());
          }
        }
      });
    }
    threads.clear();
    ASSERT_OK(b.Flush());
    EXPECT_THAT(a.Exact(), IsOkAndHolds(kThreads * kEach));
  }
  EXPECT_EQ(Stored(), std::to_string(kThreads * kEach));
}

TEST_F(ShardedCounterTest, TheLocalSumDoesNotWrap) {
  ASSERT_OK(Counter(client_, "hits").Set(kLeast).status());
  ShardedCounter hits(client_, "hits", Lazy());
  hits.Add(kMost);
  hits.Add(kMost);
  EXPECT_EQ(hits.pending(), kMost);
  hits.Add(1);
  EXPECT_THAT(hits.Exact(), IsOkAndHolds(kMost));
  for (int i = 0; i < 3; ++i) hits.Add(kLeast);
  for (int i = 0; i < 2; ++i) hits.Add(kMost);
  EXPECT_THAT(hits.Exact(), IsOkAndHolds(kMost + kLeast - 2));
}

TEST_F(ShardedCounterTest, WhatWouldLeave64BitsOnTheServerStaysLocalUntilItFits) {
  ASSERT_OK(Counter(client_, "hits").Set(kMost - 1).status());
  ShardedCounter hits(client_, "hits", Lazy());
  hits.Add(5);
  EXPECT_THAT(hits.Flush(), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("5 not flushed")));
  EXPECT_EQ(Stored(), std::to_string(kMost - 1));
  EXPECT_EQ(hits.Approximate(), kMost);
  hits.Add(-4);
  EXPECT_THAT(hits.Exact(), IsOkAndHolds(kMost));
}

TEST_F(ShardedCounterTest, AKeyThatHoldsSomethingElseIsReportedAndNothingIsLost) {
  redis_.Command({"SET", kKey, "text"});
  ShardedCounter hits(client_, "hits", Eager());
  hits.Add(5);
  EXPECT_THAT(hits.Flush(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("5 not flushed")));
  hits.Add(2);
  redis_.Command({"DEL", kKey});
  EXPECT_THAT(hits.Exact(), IsOkAndHolds(7));
}

TEST_F(ShardedCounterTest, TheDestructorFlushes) {
  Losses losses;
  {
    ShardedCounter hits(client_, "hits", losses.Into(Lazy()));
    hits.Add(7);
  }
  EXPECT_EQ(Stored(), "7");
  EXPECT_TRUE(losses.why.empty());
}

TEST_F(ShardedCounterTest, CloseFlushesAndWhatIsAddedLaterIsReported) {
  Losses losses;
  {
    ShardedCounter hits(client_, "hits", losses.Into(Lazy()));
    hits.Add(7);
    EXPECT_OK(hits.Close());
    hits.Add(2);
    EXPECT_OK(hits.Close());
    EXPECT_THAT(hits.Flush(), StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  EXPECT_EQ(Stored(), "7");
  EXPECT_EQ(losses.lost, 2);
  EXPECT_EQ(losses.unknown, 0);
}

TEST_F(ShardedCounterTest, AClientThatClosesBringsWhatIsThere) {
  ShardedCounter hits(client_, "hits", Lazy()), idle(client_, "idle", Lazy());
  hits.Add(7);
  client_.Close();
  EXPECT_EQ(Stored(), "7");
  hits.Add(1);
  EXPECT_THAT(hits.Close(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("1 were not counted")));
}

TEST_F(ShardedCounterTest, BadArgumentsAreReportedByFlushAndTheirAdditionsAreLost) {
  const auto status_of = [&](std::string_view name, ShardedCounterOptions options) {
    Losses losses;
    absl::Status status;
    {
      ShardedCounter hits(client_, name, losses.Into(std::move(options)));
      hits.Add(3);
      status = hits.Flush();
    }
    EXPECT_EQ(losses.lost, 3);
    return status;
  };
  const auto invalid = [](const char* what) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what));
  };
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_THAT(status_of("", {}), invalid("name"));
  EXPECT_THAT(status_of("hits", {.flush_interval = absl::ZeroDuration()}), invalid("interval"));
  EXPECT_THAT(status_of("hits", {.flush_interval = absl::Hours(2)}), invalid("interval"));
  EXPECT_THAT(status_of("hits", {.close_timeout = absl::ZeroDuration()}), invalid("close_timeout"));
  ShardedCounter hits(client_, "hits", Lazy());
  EXPECT_THAT(hits.Flush({.timeout = absl::ZeroDuration()}), invalid("timeout"));
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(ShardedCounterTest, AForkedChildSendsNothingOfItsParents) {
  Losses losses;
  auto hits = std::make_unique<ShardedCounter>(client_, "hits", losses.Into(Lazy()));
  hits->Add(7);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    bool good = hits->pending() == 0;
    hits->Add(2);
    good = good && hits->Flush().code() == absl::StatusCode::kFailedPrecondition;
    hits.reset();
    _exit(good && losses.lost == 2 && losses.unknown == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  hits.reset();
  EXPECT_EQ(Stored(), "7");
}
#endif

// ---- When things break ----

TEST(ShardedCounterFaultTest, NothingIsLostOrDoubledThoughTheServerIsKilledAndRepliesAreLost) {
  constexpr int kThreads = 4;
  RedisServer server({.port = 0, .append_only = true});
  FaultProxy proxy(server.url());
  const Client one = ConnectTo(proxy.url(), {.timeout = absl::Milliseconds(300)});
  const Client two = ConnectTo(proxy.url(), {.timeout = absl::Milliseconds(300)});
  ShardedCounter a(one, "hits", Eager()), b(two, "hits", Eager());
  std::atomic<std::int64_t> added = 0;
  RawRedis redis(server);
  std::atomic<bool> stop = false;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        ShardedCounter& mine = i % 2 == 0 ? a : b;
        for (int n = 0; !stop; ++n) {
          mine.Add(1);
          ++added;
          if (n % 1000 == 0 && i < 2) (void)mine.Flush();  // may well fail
        }
      });
    }
    for (int round = 0; round < 30; ++round) {
      const std::int64_t before = proxy.passed(Direction::kReplies);
      if (round % 10 == 9) {
        server.Restart(RedisServer::Data::kKeep);
      } else if (round % 2 == 0) {
        proxy.ResetBeforeReply();
      } else {
        proxy.ResetConnections();
      }
      // Work goes on in between, so that the next fault meets something.
      EXPECT_TRUE(Eventually([&] {
        return proxy.passed(Direction::kReplies) > static_cast<std::uint64_t>(before) + 2000;
      }));
    }
    stop = true;
  }
  proxy.Heal();
  EXPECT_TRUE(Eventually([&] { return a.Flush().ok() && b.Flush().ok(); }));
  EXPECT_EQ(redis.Text({"GET", kKey}), std::to_string(added));
}

TEST(ShardedCounterFaultTest, DroppedRepliesAreAskedForAgainAndCountOnce) {
  RedisServer server({.port = 0});
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url(), {.timeout = absl::Milliseconds(100)});
  ShardedCounter hits(client, "hits", Lazy());
  for (int i = 1; i <= 5; ++i) {
    proxy.Set(Direction::kReplies, {.drop = true});
    hits.Add(1);
    const absl::Status status = hits.Flush();
    EXPECT_THAT(status.ToString(), HasSubstr("1 not flushed"));
    EXPECT_FALSE(IsOutcomeUnknown(status)) << "it is found out: " << status;
    EXPECT_TRUE(Eventually([&] {
      return redis.Command({"GET", kKey}).text() == std::to_string(2 * i - 1);
    }));
    hits.Add(1);
    proxy.Heal();
    proxy.ResetConnections();
    EXPECT_TRUE(Eventually([&] { return hits.Flush().ok(); }));
    EXPECT_EQ(redis.Text({"GET", kKey}), std::to_string(2 * i));
  }
}

TEST(ShardedCounterFaultTest, PastHalfTheWindowAFlushIsResolvedAndNotRepeated) {
  RedisServer server({.port = 0});
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(
      proxy.url(), {.timeout = absl::Milliseconds(50), .operation_window = absl::Seconds(6)});
  for (const bool arrives : {true, false}) {
    redis.Command({"FLUSHALL"});
    ShardedCounter hits(client, "hits", Lazy());
    EXPECT_TRUE(Eventually([&] { return Counter(client, "hits").Get().ok(); }));
    hits.Add(7);
    proxy.Set(arrives ? Direction::kReplies : Direction::kRequests, {.drop = true});
    const testing::Stopwatch since;
    EXPECT_FALSE(hits.Flush().ok());
    ASSERT_TRUE(Eventually([&] { return since.elapsed() > absl::Milliseconds(3200); }));
    // Before, since the background may be quicker than we are; it sends a script's text at first.
    redis.Command({"CONFIG", "RESETSTAT"});
    proxy.Heal();
    proxy.ResetConnections();
    ASSERT_TRUE(Eventually([&] { return hits.Flush().ok(); }));
    EXPECT_EQ(redis.Text({"GET", kKey}), "7");
    // One to ask; one more to add what had not arrived.
    EXPECT_GE(CommandCalls(redis, "evalsha") + CommandCalls(redis, "eval"), arrives ? 1 : 2);
  }
}

TEST(ShardedCounterFaultTest, WhatTheServerMayHaveForgottenIsReportedOnceAndNotSentAgain) {
  RedisServer server({.port = 0});
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(
      proxy.url(), {.timeout = absl::Milliseconds(50), .operation_window = absl::Seconds(1)});
  for (const bool told : {false, true}) {
    redis.Command({"FLUSHALL"});
    std::atomic<std::int64_t> unknown = 0;
    ShardedCounterOptions options = Lazy();
    if (told)
      options.on_loss = [&](std::int64_t amount, const absl::Status& why) {
        EXPECT_TRUE(IsOutcomeUnknown(why)) << why;
        unknown += amount;
      };
    ShardedCounter hits(client, "hits", options);
    EXPECT_TRUE(Eventually([&] { return Counter(client, "hits").Get().ok(); }));
    hits.Add(7);
    proxy.Set(Direction::kReplies, {.drop = true});
    const testing::Stopwatch since;
    EXPECT_FALSE(hits.Flush().ok());
    ASSERT_TRUE(Eventually([&] { return since.elapsed() > absl::Milliseconds(1000); }));
    proxy.Heal();
    proxy.ResetConnections();
    hits.Add(1);
    int said = 0;
    ASSERT_TRUE(Eventually([&] {
      const absl::Status status = hits.Flush();
      if (IsOutcomeUnknown(status)) ++said;
      return status.ok();
    }));
    EXPECT_EQ(said, told ? 0 : 1);
    if (told) {
      EXPECT_TRUE(Eventually([&] { return unknown == 7; }));
    }
    EXPECT_EQ(redis.Text({"GET", kKey}), "8");
  }
}

TEST(ShardedCounterFaultTest, OnLossIsToldOfWhatIsForgottenThoughNothingElseIsToBeFlushed) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(
      proxy.url(), {.timeout = absl::Milliseconds(50), .operation_window = absl::Seconds(1)});
  std::atomic<std::int64_t> unknown = 0;
  ShardedCounterOptions options = Lazy();
  options.on_loss = [&](std::int64_t amount, const absl::Status& why) {
    EXPECT_TRUE(IsOutcomeUnknown(why)) << why;
    unknown += amount;
  };
  ShardedCounter hits(client, "hits", options);
  EXPECT_TRUE(Eventually([&] { return Counter(client, "hits").Get().ok(); }));
  hits.Add(7);
  // Nothing of it is answered for longer than the server remembers.
  proxy.Set(Direction::kReplies, {.drop = true});
  const testing::Stopwatch since;
  EXPECT_FALSE(hits.Flush().ok());
  ASSERT_TRUE(Eventually([&] { return since.elapsed() > absl::Milliseconds(1000); }));
  EXPECT_TRUE(Eventually([&] { return hits.Flush().ok(); })) << "it is on_loss that says it";
  EXPECT_TRUE(Eventually([&] { return unknown == 7; }));
}

TEST(ShardedCounterFaultTest, WithoutAServerTheDestructorReportsTheLossInTime) {
  RedisServer server;
  const Client client = ConnectTo(server.url());
  Losses losses;
  auto hits = std::make_unique<ShardedCounter>(
      client, "hits",
      losses.Into({.flush_interval = absl::Hours(1), .close_timeout = absl::Milliseconds(100)}));
  hits->Add(7);
  ASSERT_OK(hits->Flush());
  server.Kill();
  ASSERT_TRUE(Eventually(
      [&] { return !Counter(client, "x").Get({.timeout = absl::Milliseconds(20)}).ok(); }));
  hits->Add(5);
  const testing::Stopwatch time;
  hits.reset();
  EXPECT_LT(time.elapsed(), absl::Seconds(3));
  EXPECT_EQ(losses.lost + losses.unknown, 5);
  ASSERT_FALSE(losses.why.empty());
  EXPECT_THAT(losses.why[0].ToString(), AllOf(HasSubstr("hits"), HasSubstr("5 ")));
}

TEST(ShardedCounterFaultTest, ALossOfUnknownOutcomeIsReportedAsSuch) {
  RedisServer server({.port = 0});
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  Losses losses;
  {
    ShardedCounter hits(client, "hits", losses.Into({.close_timeout = absl::Milliseconds(100)}));
    ASSERT_OK(hits.Flush());
    proxy.Set(Direction::kReplies, {.drop = true});
    hits.Add(5);
  }
  EXPECT_EQ(losses.unknown, 5);
  EXPECT_EQ(losses.lost, 0);
  EXPECT_EQ(redis.Text({"GET", kKey}), "5");
}

}  // namespace
}  // namespace coord
