// The shared connection on a network that delays, splits, cuts and resets: every caller gets its
// own reply or an error, never another's.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/acl_rights.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AsAdmin;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;

using SteadyClock = std::chrono::steady_clock;

class ConnectionFaultTest : public ::testing::Test {
 protected:
  Client Connect(absl::Duration timeout = absl::Seconds(5)) {
    ClientOptions options;
    options.timeout = timeout;
    // With all rights: its commands are those of a caller.
    absl::StatusOr<Client> client = Client::Connect(AsAdmin(proxy_.url()), options);
    if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
    return *std::move(client);
  }

  // Errors that a broken or slow connection may end in.
  static bool IsFault(const absl::Status& status) {
    return IsOutcomeUnknown(status) || coord::IsUnavailable(status) ||
           status.code() == absl::StatusCode::kDeadlineExceeded;
  }

  // Once nothing disturbs any more, work goes on within a bound.
  static void ExpectWorks(const Client& client) {
    absl::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = client.Command({"PING"}).status();
      return status.ok();
    })) << status;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  FaultProxy proxy_{server_.url()};
};

std::string ValueOf(int key) {
  return "value-" + std::to_string(key) + "-" + std::string(static_cast<std::size_t>(key) * 7, '.');
}

TEST_F(ConnectionFaultTest, LateRepliesNeverReachTheWrongCaller) {
  constexpr int kThreads = 16;
  constexpr int kKeys = 50;
  for (int key = 0; key < kKeys; ++key) {
    redis_.Command({"SET", "key-" + std::to_string(key), ValueOf(key)});
  }
  const Client client = Connect();
  std::atomic<int> answered = 0;
  std::atomic<int> timed_out = 0;
  std::atomic<int> wrong = 0;
  std::atomic<int> strange = 0;
  std::atomic<bool> stop = false;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        std::mt19937 random(static_cast<unsigned>(i));
        for (int round = 0; !stop; ++round) {
          const int key = static_cast<int>(random() % kKeys);
          const std::string echo = "echo-" + std::to_string(i) + "-" + std::to_string(round);
          const std::string name = "key-" + std::to_string(key);
          const bool get = random() % 2 == 0;
          const CallOptions options{
              .timeout = absl::Microseconds(100 + static_cast<int>(random() % 12'000))};
          const absl::StatusOr<Reply> reply = get ? client.Command({"GET", name}, options)
                                                  : client.Command({"ECHO", echo}, options);
          if (reply.ok()) {
            ++answered;
            if (reply->text() != (get ? ValueOf(key) : echo)) ++wrong;
          } else if (reply.status().code() == absl::StatusCode::kDeadlineExceeded ||
                     IsFault(reply.status())) {
            ++timed_out;
          } else {
            ++strange;
            ADD_FAILURE() << reply.status();
          }
        }
      });
    }
    // Now and then replies are kept beyond the deadlines of some callers, and let go in a burst.
    for (int i = 0; i < 60; ++i) {
      proxy_.Set(Direction::kReplies, {.hold = true});
      std::this_thread::sleep_for(std::chrono::milliseconds(5 + i % 5 * 3));
      proxy_.Set(Direction::kReplies, {});
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    stop = true;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(strange, 0);
  EXPECT_GT(answered, 100);
  EXPECT_GT(timed_out, 100);
  ExpectWorks(client);
}

TEST_F(ConnectionFaultTest, AReplyAfterItsDeadlineIsNotTheNextCommandsReply) {
  const Client client = Connect();
  proxy_.Set(Direction::kReplies, {.hold = true});
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(IsOutcomeUnknown(
        client.Command({"ECHO", "late"}, {.timeout = absl::Milliseconds(20)}).status()));
  }
  proxy_.Set(Direction::kReplies, {});
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"ECHO", std::to_string(i)}));
    EXPECT_EQ(reply.text(), std::to_string(i));
  }
}

TEST_F(ConnectionFaultTest, ACallerLeavesInTheMiddleOfItsReplyAndTheNextGetsItsOwn) {
  const Client client = Connect();
  redis_.Command({"SET", "big", std::string(200'000, 'b')});
  proxy_.Set(Direction::kReplies, {.chunk = 2000, .chunk_pause = absl::Milliseconds(4)});
  const absl::StatusOr<Reply> cut =
      client.Command({"GET", "big"}, {.timeout = absl::Milliseconds(60)});
  EXPECT_THAT(cut, StatusIs(absl::StatusCode::kDeadlineExceeded));
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"ECHO", "mine"}));
  EXPECT_EQ(reply.text(), "mine");
}

TEST_F(ConnectionFaultTest, SingleByteSplitsChangeNoResult) {
  const Client client = Connect(absl::Seconds(20));
  proxy_.Set(Direction::kReplies, {.chunk = 1});
  proxy_.Set(Direction::kRequests, {.chunk = 1});
  constexpr char kBinary[] = "\r\n$5\r\n\0\xff*3\r\n";
  const std::string binary(kBinary, sizeof(kBinary) - 1);
  ASSERT_OK_AND_ASSIGN(Reply reply, client.Command({"SET", binary, binary}));
  EXPECT_EQ(reply.text(), "OK");
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"GET", binary}));
  EXPECT_EQ(reply.text(), binary);
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"GET", "nothing"}));
  EXPECT_TRUE(reply.is_nil());
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"INCRBY", "n", "-9223372036854775808"}));
  EXPECT_EQ(reply.integer(), INT64_MIN);
  ASSERT_OK(client.Command({"RPUSH", "list", "a", "", "ccc"}).status());
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"LRANGE", "list", "0", "-1"}));
  ASSERT_EQ(reply.items().size(), 3u);
  EXPECT_EQ(reply.items()[0].text(), "a");
  EXPECT_EQ(reply.items()[1].text(), "");
  EXPECT_EQ(reply.items()[2].text(), "ccc");
  ASSERT_OK(client.Command({"HSET", "hash", "field", "x"}).status());
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"HGETALL", "hash"}));
  ASSERT_EQ(reply.items().size(), 2u);
  EXPECT_EQ(reply.items()[1].text(), "x");
  EXPECT_FALSE(client.Command({"LPOP", "n"}).ok());
  const std::string large(5000, 'z');
  ASSERT_OK_AND_ASSIGN(reply, client.Command({"ECHO", large}));
  EXPECT_EQ(reply.text(), large);
  EXPECT_EQ(proxy_.accepted(), 1u);
}

TEST_F(ConnectionFaultTest, ATruncatedReplyIsAnErrorAndNeverAShortValue) {
  const Client client = Connect();
  const std::string value = "0123456789";  // "$10\r\n0123456789\r\n": 17 bytes
  redis_.Command({"SET", "key", value});
  for (std::uint64_t bytes = 0; bytes < 17; ++bytes) {
    proxy_.Set(Direction::kReplies, {.truncate_after = bytes, .once = true});
    const absl::StatusOr<Reply> cut = client.Command({"GET", "key"});
    EXPECT_TRUE(IsOutcomeUnknown(cut.status())) << bytes << " bytes: " << cut.status();
    EXPECT_THAT(cut, StatusIs(absl::StatusCode::kUnavailable));
    proxy_.Set(Direction::kReplies, {});
    // A new connection, whatever the old one had half delivered.
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "key"}));
    ASSERT_EQ(reply.text(), value);
  }
}

TEST_F(ConnectionFaultTest, ATruncatedArrayIsAnErrorAndNeverAShortArray) {
  const Client client = Connect();
  redis_.Command({"RPUSH", "list", "a", "b", "c"});  // "*3\r\n" and 7 bytes an item
  for (const std::uint64_t bytes : {2u, 4u, 11u, 18u, 24u}) {
    proxy_.Set(Direction::kReplies, {.truncate_after = bytes, .once = true});
    EXPECT_TRUE(IsOutcomeUnknown(client.Command({"LRANGE", "list", "0", "-1"}).status()));
    proxy_.Set(Direction::kReplies, {});
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"LRANGE", "list", "0", "-1"}));
    ASSERT_EQ(reply.items().size(), 3u);
  }
}

TEST_F(ConnectionFaultTest, ATruncatedPipelineIsAnError) {
  const Client client = Connect();
  Pipeline pipeline;
  for (int i = 0; i < 10; ++i) pipeline.Add({"ECHO", "0123456789"});
  for (const std::uint64_t bytes : {17u, 20u, 85u, 169u}) {
    proxy_.Set(Direction::kReplies, {.truncate_after = bytes, .once = true});
    EXPECT_TRUE(IsOutcomeUnknown(client.Execute(pipeline).status())) << bytes;
    proxy_.Set(Direction::kReplies, {});
    ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies, client.Execute(pipeline));
    ASSERT_EQ(replies.size(), 10u);
  }
}

TEST_F(ConnectionFaultTest, AReplyThatIsNoRespIsAnErrorAndTheConnectionIsReplaced) {
  const Client client = Connect();
  redis_.Command({"SET", "key", "0123456789"});
  for (const std::uint64_t offset : {0u, 1u, 3u, 15u, 16u}) {  // type, length, both line ends
    proxy_.Set(Direction::kReplies, {.corrupt_at = offset, .corrupt_xor = 0x40, .once = true});
    const std::int64_t before = static_cast<std::int64_t>(proxy_.accepted());
    const absl::StatusOr<Reply> reply = client.Command({"GET", "key"});
    EXPECT_FALSE(reply.ok()) << "byte " << offset << ": " << reply->ToDebugString();
    EXPECT_TRUE(IsOutcomeUnknown(reply.status()) ||
                reply.status().code() == absl::StatusCode::kDataLoss)
        << reply.status();
    proxy_.Set(Direction::kReplies, {});
    ExpectWorks(client);
    EXPECT_GT(static_cast<std::int64_t>(proxy_.accepted()), before);
  }
}

TEST_F(ConnectionFaultTest, AResetInTheMiddleOfAReplyIsUnknownForAllWhoWait) {
  const Client client = Connect();
  redis_.Command({"SET", "big", std::string(300'000, 'b')});
  const std::uint64_t before = proxy_.passed(Direction::kReplies);
  proxy_.Set(Direction::kReplies, {.chunk = 1000, .chunk_pause = absl::Milliseconds(5)});
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        const absl::StatusOr<Reply> reply = client.Command({"GET", "big"});
        EXPECT_THAT(reply, StatusIs(absl::StatusCode::kUnavailable));
        EXPECT_TRUE(IsOutcomeUnknown(reply.status())) << reply.status();
      });
    }
    EXPECT_TRUE(Eventually([&] { return proxy_.passed(Direction::kReplies) > before + 5000; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // all have sent, by now
    proxy_.ResetConnections();
    proxy_.Set(Direction::kReplies, {});
  }
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "big"}));
  EXPECT_EQ(reply.text().size(), 300'000u);
}

TEST_F(ConnectionFaultTest, ACommandThatWasSentIsNeverRepeated) {
  const Client client = Connect();
  for (int i = 1; i <= 20; ++i) {
    proxy_.ResetBeforeReply();
    const absl::Status status = client.Command({"INCR", "count"}).status();
    EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
    EXPECT_EQ(redis_.Text({"GET", "count"}), std::to_string(i));
    ExpectWorks(client);
  }
}

TEST_F(ConnectionFaultTest, AConnectionThatWasResetWhileIdleIsReplaced) {
  const Client client = Connect();
  for (int i = 0; i < 10; ++i) {
    proxy_.ResetConnections();
    // The reset may be noticed only by sending; then it is unknown, and the next one works.
    const absl::Status status = client.Command({"PING"}).status();
    EXPECT_TRUE(status.ok() || IsFault(status)) << status;
    EXPECT_OK(client.Command({"PING"}).status());
  }
}

TEST_F(ConnectionFaultTest, AHalfClosedConnectionIsReplaced) {
  const Client client = Connect();
  for (const Direction direction : {Direction::kReplies, Direction::kRequests}) {
    const std::size_t before = proxy_.accepted();
    proxy_.HalfClose(direction);
    const absl::Status status = client.Command({"PING"}, {.timeout = absl::Seconds(1)}).status();
    EXPECT_TRUE(status.ok() || IsFault(status)) << status;
    ExpectWorks(client);
    EXPECT_GT(proxy_.accepted(), before);
  }
}

TEST_F(ConnectionFaultTest, AHalfCloseWhileAReplyIsAwaitedIsUnknown) {
  const Client client = Connect();
  server_.Pause();
  const std::uint64_t before = proxy_.passed(Direction::kRequests);
  std::jthread caller([&] {
    const absl::Status status = client.Command({"INCR", "count"}).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
  });
  EXPECT_TRUE(Eventually([&] { return proxy_.passed(Direction::kRequests) > before; }));
  proxy_.HalfClose(Direction::kReplies);
  caller.join();
  server_.Resume();
  ExpectWorks(client);
  EXPECT_TRUE(Eventually([&] { return redis_.Command({"GET", "count"}).text() == "1"; }));
}

TEST_F(ConnectionFaultTest, SixtyFourThreadsGoOnThroughReconnects) {
  constexpr int kThreads = 64;
  const Client client = Connect(absl::Seconds(10));
  std::vector<std::int64_t> acknowledged(kThreads);
  std::vector<std::int64_t> unknown(kThreads);
  std::vector<std::int64_t> after_healing(kThreads);
  std::atomic<bool> stop = false;
  std::atomic<bool> healed = false;
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const std::string key = "count-" + std::to_string(i);
        while (!stop) {
          const bool well = healed;
          const absl::StatusOr<Reply> reply = client.Command({"INCR", key});
          if (reply.ok()) {
            ++acknowledged[i];
            if (well) ++after_healing[i];
            // Nobody else counts on this key: more than was acknowledged and unknown is another's
            // reply.
            EXPECT_GE(reply->integer(), acknowledged[i]);
            EXPECT_LE(reply->integer(), acknowledged[i] + unknown[i]);
          } else {
            EXPECT_TRUE(IsFault(reply.status())) << reply.status();
            if (IsOutcomeUnknown(reply.status())) ++unknown[i];
          }
        }
      });
    }
    for (int i = 0; i < 60; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (i % 3 == 0) {
        redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
      } else {
        proxy_.ResetConnections();
      }
    }
    healed = true;
    // Every one of them goes on.
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ExpectWorks(client);
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    stop = true;
  }
  std::int64_t reconnected = static_cast<std::int64_t>(proxy_.accepted());
  EXPECT_GT(reconnected, 5);
  for (std::size_t i = 0; i < kThreads; ++i) {
    const std::string text = redis_.Command({"GET", "count-" + std::to_string(i)}).text();
    const std::int64_t final_value = text.empty() ? 0 : std::stoll(text);
    EXPECT_GE(final_value, acknowledged[i]) << i;
    EXPECT_LE(final_value, acknowledged[i] + unknown[i]) << i;
    EXPECT_GT(after_healing[i], 0) << i;
  }
  EXPECT_LE(proxy_.open(), 2u) << "connections were left behind";
}

TEST_F(ConnectionFaultTest, ManyThreadsShareOneConnection) {
  const Client client = Connect();
  std::vector<std::jthread> threads;
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 100; ++round) {
        const std::string text = std::to_string(i) + "/" + std::to_string(round);
        const absl::StatusOr<Reply> reply = client.Command({"ECHO", text});
        EXPECT_OK(reply.status());
        if (reply.ok()) {
          EXPECT_EQ(reply->text(), text);
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(proxy_.accepted(), 1u);
}

}  // namespace
}  // namespace coord
