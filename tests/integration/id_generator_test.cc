// IdGenerator: no number twice, over threads, processes, restarts and losses of data.
#include "coord/id_generator.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
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
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kKey[] = "coord:{orders}:ids";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

std::int64_t Next(const IdGenerator& ids) {
  const absl::StatusOr<std::int64_t> id = ids.Next();
  EXPECT_OK(id.status());
  return id.value_or(0);
}

class IdGeneratorTest : public ::testing::Test {
 protected:
  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(IdGeneratorTest, ThousandNumbersAreOneRoundTripAndFollowEachOther) {
  const IdGenerator ids(client_, "orders");
  redis_.Command({"CONFIG", "RESETSTAT"});
  const std::int64_t first = Next(ids);
  EXPECT_GT(first, 0);
  EXPECT_LT(first, std::int64_t{1} << 53);
  for (int i = 1; i < 1000; ++i) ASSERT_EQ(Next(ids), first + i);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  EXPECT_GE(Next(ids), first + 1000);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 2);
}

TEST_F(IdGeneratorTest, ThreadsAndClientsGetDifferentOnesThatIncreaseForEach) {
  constexpr int kThreads = 8;
  constexpr int kEach = 20'000;
  const Client other = ConnectTo(server_.url());
  const IdGenerator a(client_, "orders", {.block = 7}), b(other, "orders", {.block = 1000});
  std::vector<std::vector<std::int64_t>> got(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const IdGenerator ids = i % 2 == 0 ? a : b;
        const int count = i % 2 == 0 ? kEach / 10 : kEach;
        for (int n = 0; n < count; ++n) got[i].push_back(Next(ids));
      });
    }
  }
  std::vector<std::int64_t> all;
  for (const auto& one : got) {
    EXPECT_EQ(std::adjacent_find(one.begin(), one.end(), std::greater_equal<>()), one.end());
    all.insert(all.end(), one.begin(), one.end());
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  EXPECT_EQ(all.size(), std::size_t{4 * kEach / 10 + 4 * kEach});
}

TEST_F(IdGeneratorTest, AfterTheServerHasLostEverythingNumbersAreAboveThoseBefore) {
  const IdGenerator ids(client_, "orders", {.block = 10});
  const std::int64_t before = Next(ids);
  redis_.Command({"FLUSHALL"});
  const IdGenerator others(client_, "orders", {.block = 10});
  EXPECT_GE(Next(others), before + 10);
  // Also one that had only lost its last writes.
  const std::int64_t later = Next(IdGenerator(client_, "orders", {.block = 10}));
  redis_.Command({"SET", kKey, std::to_string(before)});
  EXPECT_GE(Next(IdGenerator(client_, "orders", {.block = 10})), later + 10);
}

TEST_F(IdGeneratorTest, AGeneratorNeverGoesBackThoughTheServersNumbersDo) {
  const std::int64_t ahead = std::int64_t{1} << 60;  // as from a clock that has been set back since
  redis_.Command({"SET", kKey, std::to_string(ahead)});
  const IdGenerator ids(client_, "orders", {.block = 2});
  EXPECT_EQ(Next(ids), ahead + 1);
  redis_.Command({"FLUSHALL"});
  EXPECT_EQ(Next(ids), ahead + 2);
  EXPECT_EQ(Next(ids), ahead + 3);
  EXPECT_EQ(redis_.Text({"GET", kKey}), std::to_string(ahead + 4));
}

TEST_F(IdGeneratorTest, IsExactToTheEndOf64BitsAndStopsThere) {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  redis_.Command({"SET", kKey, std::to_string(most - 3)});
  const IdGenerator ids(client_, "orders", {.block = 2});
  EXPECT_EQ(Next(ids), most - 2);
  EXPECT_EQ(Next(ids), most - 1);
  EXPECT_THAT(ids.Next(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("orders")));
  EXPECT_EQ(redis_.Text({"GET", kKey}), std::to_string(most - 1));
}

TEST_F(IdGeneratorTest, AKeyThatHoldsSomethingElseIsLeftAsItIs) {
  for (const char* text : {"text", "", "0", "-5", "01", "1.5", "99999999999999999999"}) {
    redis_.Command({"SET", kKey, text});
    EXPECT_THAT(IdGenerator(client_, "orders").Next(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("orders")));
    EXPECT_EQ(redis_.Text({"GET", kKey}), text);
  }
  redis_.Command({"DEL", kKey});
  redis_.Command({"RPUSH", kKey, "a"});
  EXPECT_THAT(IdGenerator(client_, "orders").Next(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(IdGeneratorTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::int64_t block : {std::int64_t{0}, std::int64_t{-1}, kMaxIdBlock + 1}) {
    EXPECT_THAT(IdGenerator(client_, "orders", {.block = block}).Next(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("block"), HasSubstr(std::to_string(block)))));
  }
  EXPECT_THAT(IdGenerator(client_, "").Next(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  EXPECT_THAT(IdGenerator(client_, "orders").Next({.timeout = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  const IdGenerator largest(client_, "orders", {.block = kMaxIdBlock});
  const std::int64_t first = Next(largest);
  EXPECT_EQ(Next(largest), first + 1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(IdGeneratorTest, AForkedChildGetsNoneOfItsParentsNumbers) {
  const IdGenerator ids(client_, "orders");
  const std::int64_t first = Next(ids);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const absl::Status status = ids.Next().status();
    _exit(status.code() == absl::StatusCode::kFailedPrecondition ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Next(ids), first + 1);
}
#endif

TEST(IdGeneratorFaultTest, WithoutAServerTheRestOfTheBlockIsGivenOutAndThenAnError) {
  RedisServer server({.append_only = true});
  const Client client = ConnectTo(server.url(), {.timeout = absl::Milliseconds(100)});
  const IdGenerator ids(client, "orders", {.block = 3});
  const std::int64_t first = Next(ids);
  server.Kill();
  EXPECT_EQ(Next(ids), first + 1);
  EXPECT_EQ(Next(ids), first + 2);
  EXPECT_FALSE(ids.Next().ok());
  const absl::Status status = ids.Next().status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  server.Start();
  EXPECT_TRUE(testing::Eventually([&] { return ids.Next().ok(); }));
  EXPECT_GT(Next(ids), first + 3);
}

TEST(IdGeneratorFaultTest, ALostReplyIsAGapAndNoError) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  const IdGenerator ids(client, "orders", {.block = 1});
  std::int64_t before = 0;
  for (int i = 0; i < 20; ++i) {
    const std::int64_t id = Next(ids);
    EXPECT_GT(id, before);
    before = id;
    proxy.ResetBeforeReply();
  }
}

TEST_F(IdGeneratorTest, TheProgramPrintsOneALine) {
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.begin(), COORD_PROGRAM);
    args.insert(args.end(), {"--url", server_.url()});
    const testing::ProcessResult result = testing::Process(args).Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string five = run({"id", "orders", "--count", "5"});
  EXPECT_EQ(std::count(five.begin(), five.end(), '\n'), 5);
  const std::int64_t first = std::stoll(five);
  EXPECT_EQ(redis_.Text({"GET", kKey}), std::to_string(first + 4));
  EXPECT_THAT(run({"id", "orders", "--json"}), ::testing::MatchesRegex("\\{\"id\":[0-9]+\\}\n"));
}

}  // namespace
}  // namespace coord
