// Counter while connections break and the server restarts: what was acknowledged is there, and what
// is there was at most asked for.
#include "coord/counter.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
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

using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;

Client ConnectTo(const std::string& url, absl::Duration timeout) {
  ClientOptions options;
  options.timeout = timeout;
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

TEST(CounterFaultTest, AcknowledgedIsAtMostFinalIsAtMostAcknowledgedAndUnknown) {
  constexpr int kThreads = 64;
  RedisServer server({.append_only = true});
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url(), absl::Seconds(5));
  const Counter counter(client, "hits");
  std::atomic<std::int64_t> acknowledged = 0;
  std::atomic<std::int64_t> unknown = 0;
  std::atomic<std::int64_t> not_applied = 0;
  std::atomic<bool> stop = false;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        while (!stop) {
          const absl::StatusOr<CounterResult> result = counter.Add(1);
          if (result.ok()) {
            EXPECT_TRUE(result->applied);
            ++acknowledged;
          } else if (IsOutcomeUnknown(result.status())) {
            ++unknown;
          } else {
            EXPECT_TRUE(coord::IsUnavailable(result.status())) << result.status();
            ++not_applied;
          }
        }
      });
    }
    for (int i = 0; i < 40; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      if (i == 13 || i == 26) {
        server.Restart(RedisServer::Data::kKeep);
      } else if (i % 2 == 0) {
        proxy.ResetConnections();
      } else {
        proxy.ResetBeforeReply();
      }
    }
    proxy.Heal();
    const std::int64_t before = acknowledged;
    EXPECT_TRUE(Eventually([&] { return acknowledged > before + 100; })) << "work does not go on";
    stop = true;
  }
  RawRedis redis(server);
  const std::int64_t final_value = std::stoll(redis.Text({"GET", "coord:{hits}:count"}));
  EXPECT_LE(acknowledged, final_value);
  EXPECT_LE(final_value, acknowledged + unknown);
  EXPECT_GT(acknowledged, 100);
  EXPECT_GT(unknown, 0) << "no reply was lost, so nothing was shown";
}

TEST(CounterFaultTest, AnAdditionWhoseReplyIsLostIsUnknownAndAppliedOnce) {
  RedisServer server;
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url(), absl::Seconds(5));
  const Counter counter(client, "hits");
  for (int i = 1; i <= 20; ++i) {
    ASSERT_OK(counter.Get().status());  // connected again
    proxy.ResetBeforeReply();
    const absl::Status status = counter.Add(1).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, ::testing::HasSubstr("hits")));
    EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
    EXPECT_EQ(redis.Text({"GET", "coord:{hits}:count"}), std::to_string(i));
  }
}

TEST(CounterFaultTest, AnAdditionThatCouldNotBeSentIsNotApplied) {
  RedisServer server;
  const Client client = ConnectTo(server.url(), absl::Milliseconds(200));
  const Counter counter(client, "hits");
  ASSERT_OK(counter.Add(1).status());
  server.Kill();
  // What finds the connection broken may be unknown; from then on nothing can be sent.
  (void)counter.Add(1);
  const absl::Status status = counter.Add(1).status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
}

TEST(CounterFaultTest, FlushingScriptsInALoopLosesNothing) {
  RedisServer server;
  RawRedis redis(server);
  const Client client = ConnectTo(server.url(), absl::Seconds(10));
  const Counter counter(client, "hits");
  constexpr int kThreads = 16;
  constexpr int kRounds = 100;
  std::atomic<int> running = kThreads;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) EXPECT_OK(counter.Add(1).status());
        --running;
      });
    }
    while (running > 0) redis.Command({"SCRIPT", "FLUSH"});
  }
  EXPECT_EQ(redis.Text({"GET", "coord:{hits}:count"}), std::to_string(kThreads * kRounds));
}

// What a GetAndReset returned, from its reply or later.
TEST(CounterFaultTest, WhatGetAndResetReturnedAndWhatIsLeftIsWhatWasAdded) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 150;
  RedisServer server;
  FaultProxy proxy(server.url());
  const Client adding = ConnectTo(server.url(), absl::Seconds(10));
  const Client resetting = ConnectTo(proxy.url(), absl::Milliseconds(60));
  std::atomic<std::int64_t> added = 0;
  std::atomic<bool> stop = false;
  std::int64_t taken = 0, by_reply = 0, applied_unseen = 0, never_applied = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const Counter counter(adding, "hits");
        for (std::int64_t n = i; !stop; ++n) {
          const std::int64_t amount = n % 17 + 1;
          const absl::StatusOr<CounterResult> result = counter.Add(amount);
          ASSERT_OK(result.status());
          added += amount;
        }
      });
    }
    threads.emplace_back([&] {
      std::mt19937 random(20261121);
      while (!stop) {
        // Each fault meets something before the next.
        const Direction where = random() % 2 == 0 ? Direction::kRequests : Direction::kReplies;
        const std::uint64_t before = proxy.arrived(where);
        switch (random() % 5) {
          case 0:
          case 1:
            proxy.Set(where, {.drop = true});
            break;
          case 2:
            proxy.Set(where, {.reset = true, .once = true});
            break;
          case 3:
            proxy.ResetConnections();
            break;
          default:
            proxy.Set(where, {.delay = absl::Milliseconds(20), .jitter = absl::Milliseconds(60)});
        }
        const std::uint64_t bytes = random() % 1000;
        const absl::Duration most = absl::Milliseconds(150);  // a connection may wait for an answer
        (void)Eventually([&] { return stop || proxy.arrived(where) > before + bytes; }, most);
        proxy.Heal();
        if (random() % 2 == 0) proxy.ResetConnections();
        const std::uint64_t well = proxy.passed(Direction::kReplies);
        (void)Eventually([&] { return stop || proxy.passed(Direction::kReplies) > well + 50; },
                         most);
      }
    });
    const Counter counter(resetting, "hits");
    // On a busy machine the faults may have missed all of one kind by then.
    const auto shown = [&] { return applied_unseen > 0 && never_applied > 0; };
    for (int round = 0; round < kRounds || (!shown() && round < 10 * kRounds); ++round) {
      const OperationId id = OperationId::New();
      absl::StatusOr<std::int64_t> value = counter.GetAndReset(id);
      // Asked again by hand, it is the same one.
      if (!value.ok() && round % 2 == 0) value = counter.GetAndReset(id);
      if (value.ok()) {
        taken += *value;
        ++by_reply;
        continue;
      }
      absl::StatusOr<std::optional<CounterResult>> became = value.status();
      EXPECT_TRUE(Eventually([&] {
        became = counter.Resolve(id);
        return became.ok();
      })) << became.status();
      if (!became.ok()) break;
      if (*became) taken += (*became)->value;
      ++(*became ? applied_unseen : never_applied);
    }
    stop = true;
  }
  // What is still held on its way must not be applied either.
  proxy.Heal();
  const absl::StatusOr<std::int64_t> left = Counter(adding, "hits").Get();
  ASSERT_OK(left.status());
  EXPECT_EQ(taken + *left, added);
  EXPECT_GT(by_reply, 0);
  EXPECT_GT(applied_unseen, 0) << "no reply was lost for good, so nothing was shown";
  EXPECT_GT(never_applied, 0) << "no request was lost, so nothing was shown";
}

TEST(CounterFaultTest, AReadOnlyServerAppliesNothing) {
  RedisServer server;
  RawRedis redis(server);
  const Client client = ConnectTo(server.url(), absl::Milliseconds(300));
  const Counter counter(client, "hits");
  redis.Command({"REPLICAOF", "127.0.0.1", "1"});
  const absl::Status status = counter.Add(1).status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
  EXPECT_EQ(redis.Integer({"EXISTS", "coord:{hits}:count"}), 0);
}

}  // namespace
}  // namespace coord
