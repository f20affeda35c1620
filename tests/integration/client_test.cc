// Client: commands, pipelines and scripts on a real server, signing in, closing, and what is
// refused.
#include "coord/client.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/acl_rights.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::AsAdmin;
using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

ClientOptions Named(std::string name) {
  ClientOptions options;
  options.client_name = std::move(name);
  return options;
}

// Connections that the server has, without the one that asks.
int Connections(RawRedis& redis) {
  std::istringstream lines(redis.Text({"CLIENT", "LIST"}));
  int count = -1;
  for (std::string line; std::getline(lines, line);) ++count;
  return count;
}

class ClientTest : public ::testing::Test {
 protected:
  RedisServer server_;
  RawRedis redis_{server_};
  // Sends what a caller may, which is more than the library does.
  Client client_ = ConnectTo(AsAdmin(server_.url()));
};

// ---- Commands ----

TEST_F(ClientTest, RepliesComeBackInTheirKind) {
  ASSERT_OK_AND_ASSIGN(Reply reply, client_.Command({"SET", "key", "value"}));
  EXPECT_EQ(reply.kind(), Reply::Kind::kStatus);
  EXPECT_EQ(reply.text(), "OK");
  ASSERT_OK_AND_ASSIGN(reply, client_.Command({"GET", "key"}));
  EXPECT_EQ(reply, Reply::Text(Reply::Kind::kString, "value"));
  ASSERT_OK_AND_ASSIGN(reply, client_.Command({"GET", "none"}));
  EXPECT_TRUE(reply.is_nil());
  ASSERT_OK_AND_ASSIGN(reply, client_.Command({"INCR", "count"}));
  EXPECT_EQ(reply, Reply::Integer(1));
  ASSERT_OK(client_.Command({"RPUSH", "list", "a", "b"}).status());
  ASSERT_OK_AND_ASSIGN(reply, client_.Command({"LRANGE", "list", "0", "-1"}));
  ASSERT_TRUE(reply.is_array());
  ASSERT_EQ(reply.items().size(), 2u);
  EXPECT_EQ(reply.items()[1].text(), "b");
}

TEST_F(ClientTest, Resp3RepliesComeBackInTheirKind) {
  if (RedisServer::Version().major < 6 && !RedisServer::Version().valkey) GTEST_SKIP();
  ASSERT_OK(client_.Command({"HSET", "hash", "field", "x"}).status());
  ASSERT_OK_AND_ASSIGN(Reply reply, client_.Command({"HGETALL", "hash"}));
  EXPECT_EQ(reply.kind(), Reply::Kind::kMap);
  ASSERT_EQ(reply.items().size(), 2u);
  ASSERT_OK(client_.Command({"ZADD", "z", "1.5", "m"}).status());
  ASSERT_OK_AND_ASSIGN(reply, client_.Command({"ZSCORE", "z", "m"}));
  EXPECT_EQ(reply.kind(), Reply::Kind::kDouble);
  EXPECT_EQ(reply.number(), 1.5);
}

TEST_F(ClientTest, ArgumentsAreAnyBytes) {
  const std::string binary("\0\r\n$3\r\n\xff\xfe \"'", 13);
  ASSERT_OK(client_.Command({"SET", binary, binary}).status());
  EXPECT_EQ(redis_.Text({"GET", binary}), binary);
  ASSERT_OK_AND_ASSIGN(const Reply reply, client_.Command({"GET", binary}));
  EXPECT_EQ(reply.text(), binary);
  ASSERT_OK(client_.Command({"SET", "empty", ""}).status());
  EXPECT_EQ(redis_.Integer({"STRLEN", "empty"}), 0);
}

TEST_F(ClientTest, ACommandIsOneCall) {
  ASSERT_OK(client_.Command({"PING"}).status());
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK(client_.Command({"INCR", "count"}).status());
  EXPECT_EQ(CommandCalls(redis_, "incr"), 1);
  EXPECT_EQ(AllCalls(redis_), 1);
}

TEST_F(ClientTest, AnErrorReplyIsAStatusAndTheConnectionStays) {
  ASSERT_OK(client_.Command({"SET", "key", "text"}).status());
  EXPECT_THAT(client_.Command({"LPUSH", "key", "a"}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("LPUSH")));
  const absl::Status unknown = client_.Command({"NOSUCHCOMMAND", "x"}).status();
  EXPECT_FALSE(unknown.ok());
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("NOSUCHCOMMAND"));
  EXPECT_FALSE(IsOutcomeUnknown(unknown));
  EXPECT_FALSE(coord::IsUnavailable(unknown));
  EXPECT_EQ(client_.Health().nodes.at(0).connections_made, 1);
}

TEST_F(ClientTest, AMissingRightIsPermissionDenied) {
  redis_.Command({"ACL", "SETUSER", "default", "-flushall"});
  const Client client = ConnectTo(server_.url());
  EXPECT_THAT(client.Command({"FLUSHALL"}), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(ClientTest, WhatBlocksOrChangesTheConnectionIsRefusedBeforeAnythingIsSent) {
  const std::vector<std::vector<std::string_view>> refused = {
      {"BLPOP", "list", "0"},
      {"blpop", "list", "0"},
      {"BRPOP", "list", "0"},
      {"BLMOVE", "a", "b", "LEFT", "RIGHT", "0"},
      {"BRPOPLPUSH", "a", "b", "0"},
      {"BLMPOP", "0", "1", "a", "LEFT"},
      {"BZPOPMIN", "z", "0"},
      {"BZPOPMAX", "z", "0"},
      {"WAIT", "1", "0"},
      {"WAITAOF", "1", "0", "0"},
      {"XREAD", "BLOCK", "0", "STREAMS", "s", "$"},
      {"xread", "count", "1", "block", "0", "streams", "s", "$"},
      {"XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">"},
      {"MULTI"},
      {"EXEC"},
      {"DISCARD"},
      {"WATCH", "key"},
      {"UNWATCH"},
      {"SELECT", "1"},
      {"SUBSCRIBE", "channel"},
      {"PSUBSCRIBE", "*"},
      {"SSUBSCRIBE", "channel"},
      {"UNSUBSCRIBE"},
      {"MONITOR"},
      {"HELLO", "3"},
      {"RESET"},
      {"QUIT"},
      {"AUTH", "password"},
      {"CLIENT", "REPLY", "OFF"},
      {"client", "reply", "skip"},
      {"SYNC"},
      {"PSYNC", "?", "-1"},
  };
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::vector<std::string_view>& command : refused) {
    const absl::Status status = client_.Command(command).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << command[0];
    EXPECT_THAT(std::string(status.message()),
                AnyOf(HasSubstr(std::string(command[0])), HasSubstr("BLPOP"), HasSubstr("XREAD"),
                      HasSubstr("CLIENT")));
    Pipeline pipeline;
    pipeline.Add({"SET", "key", "value"}).Add(command);
    EXPECT_THAT(client_.Execute(pipeline), StatusIs(absl::StatusCode::kInvalidArgument))
        << command[0];
  }
  EXPECT_EQ(AllCalls(redis_), 0);
  EXPECT_EQ(redis_.Integer({"EXISTS", "key"}), 0);
}

TEST_F(ClientTest, WhatOnlyLooksLikeItIsSent) {
  EXPECT_OK(client_.Command({"XADD", "s", "*", "BLOCK", "0"}).status());
  EXPECT_OK(client_.Command({"XREAD", "COUNT", "1", "STREAMS", "s", "0"}).status());
  EXPECT_OK(client_.Command({"CLIENT", "GETNAME"}).status());
  EXPECT_OK(client_.Command({"SET", "BLPOP", "MULTI"}).status());
}

TEST_F(ClientTest, NoCommandAtAllIsRefused) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_THAT(client_.Command(std::span<const std::string_view>()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client_.Command({""}), Not(testing::IsOk()));
  Pipeline pipeline;
  pipeline.Add(std::span<const std::string_view>());
  EXPECT_THAT(client_.Execute(pipeline), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ClientTest, TimeoutsThatAreNotPositiveAreRefused) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const absl::Duration timeout : {absl::ZeroDuration(), -absl::Seconds(1)}) {
    EXPECT_THAT(client_.Command({"PING"}, {.timeout = timeout}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("timeout"), HasSubstr(absl::FormatDuration(timeout)))));
  }
  EXPECT_EQ(AllCalls(redis_), 0);
}

// ---- Pipelines ----

TEST_F(ClientTest, APipelinesRepliesComeInOrderAndErrorsStopNothing) {
  Pipeline pipeline;
  pipeline.Add({"SET", "key", "text"})
      .Add({"LPUSH", "key", "a"})
      .Add({"GET", "key"})
      .Add({"NOSUCHCOMMAND"})
      .Add({"INCR", "count"})
      .Add({"INCR", "count"});
  EXPECT_EQ(pipeline.size(), 6u);
  ASSERT_OK_AND_ASSIGN(std::vector<Reply> replies, client_.Execute(pipeline));
  ASSERT_EQ(replies.size(), 6u);
  EXPECT_EQ(replies[0].text(), "OK");
  EXPECT_TRUE(replies[1].is_error());
  EXPECT_THAT(replies[1].text(), StartsWith("WRONGTYPE"));
  EXPECT_EQ(replies[2].text(), "text");
  EXPECT_TRUE(replies[3].is_error());
  EXPECT_EQ(replies[4].integer(), 1);
  EXPECT_EQ(replies[5].integer(), 2);
  // A value: it can be run again.
  ASSERT_OK_AND_ASSIGN(replies, client_.Execute(pipeline));
  EXPECT_EQ(replies[5].integer(), 4);
}

TEST_F(ClientTest, AnEmptyPipelineIsNoRoundTrip) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies, client_.Execute(Pipeline()));
  EXPECT_TRUE(replies.empty());
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(ClientTest, PipelinesOfManyThreadsKeepTheirRepliesApart) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        Pipeline pipeline;
        for (int k = 0; k < 10; ++k) {
          pipeline.Add({"ECHO", std::to_string(i * 1000 + round * 10 + k)});
        }
        const absl::StatusOr<std::vector<Reply>> replies = client_.Execute(pipeline);
        EXPECT_OK(replies.status());
        for (int k = 0; replies.ok() && k < 10; ++k) {
          EXPECT_EQ(replies->at(static_cast<std::size_t>(k)).text(),
                    std::to_string(i * 1000 + round * 10 + k));
        }
      }
    });
  }
}

TEST_F(ClientTest, AHundredThousandCommandsInOnePipelineDoNotDeadlock) {
  constexpr int kCommands = 100'000;
  const std::string payload(100, 'x');
  Pipeline pipeline;
  for (int i = 0; i < kCommands; ++i) pipeline.Add({"ECHO", payload + std::to_string(i)});
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies,
                       client_.Execute(pipeline, {.timeout = absl::Seconds(60)}));
  ASSERT_EQ(replies.size(), static_cast<std::size_t>(kCommands));
  for (const int i : {0, 1, 4095, 50'000, kCommands - 1}) {
    EXPECT_EQ(replies[static_cast<std::size_t>(i)].text(), payload + std::to_string(i));
  }
}

TEST_F(ClientTest, APipelineOfLargeValuesDoesNotDeadlock) {
  Pipeline pipeline;  // 60 MB out and 60 MB back at once
  const std::string value(20'000'000, 'v');
  for (int i = 0; i < 3; ++i) pipeline.Add({"ECHO", value});
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies,
                       client_.Execute(pipeline, {.timeout = absl::Seconds(60)}));
  ASSERT_EQ(replies.size(), 3u);
  for (const Reply& reply : replies) EXPECT_EQ(reply.text().size(), value.size());
  EXPECT_EQ(replies[2].text(), value);
}

TEST_F(ClientTest, LargePipelinesOfSeveralThreadsDoNotDeadlock) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::string value(500'000, static_cast<char>('a' + i));
      Pipeline pipeline;
      for (int k = 0; k < 10; ++k) pipeline.Add({"ECHO", value});
      const absl::StatusOr<std::vector<Reply>> replies =
          client_.Execute(pipeline, {.timeout = absl::Seconds(60)});
      EXPECT_OK(replies.status());
      if (replies.ok()) {
        EXPECT_EQ(replies->back().text(), value);
      }
    });
  }
}

TEST_F(ClientTest, AReplyOfFiftyMegabytesIsWhole) {
  std::string value(50'000'000, '\0');
  for (std::size_t i = 0; i < value.size(); ++i) value[i] = static_cast<char>(i * 31 >> 3);
  ASSERT_OK(client_.Command({"SET", "large", value}, {.timeout = absl::Seconds(60)}).status());
  EXPECT_EQ(redis_.Integer({"STRLEN", "large"}), 50'000'000);
  ASSERT_OK_AND_ASSIGN(const Reply reply,
                       client_.Command({"GET", "large"}, {.timeout = absl::Seconds(60)}));
  EXPECT_TRUE(reply.text() == value);
  EXPECT_OK(client_.Command({"PING"}).status());
}

// ---- Scripts ----

const Script& Greeting() {
  static const Script script("return {KEYS[1], ARGV[1], ARGV[2]}");
  return script;
}

TEST_F(ClientTest, AScriptGetsItsKeysAndArguments) {
  ASSERT_OK_AND_ASSIGN(const Reply reply, client_.Run(Greeting(), {"key"}, {"a", ""}));
  ASSERT_EQ(reply.items().size(), 3u);
  EXPECT_EQ(reply.items()[0].text(), "key");
  EXPECT_EQ(reply.items()[1].text(), "a");
  EXPECT_EQ(reply.items()[2].text(), "");
  EXPECT_EQ(redis_.Text({"SCRIPT", "LOAD", std::string(Greeting().text())}), Greeting().sha1());
}

TEST_F(ClientTest, AScriptIsOneEvalshaOnceTheServerHasIt) {
  ASSERT_OK(client_.Run(Greeting(), {"key"}, {"a", "b"}).status());
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK(client_.Run(Greeting(), {"key"}, {"a", "b"}).status());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  EXPECT_EQ(AllCalls(redis_), 1);
}

TEST_F(ClientTest, AForgottenScriptIsHealed) {
  const Counter counter(client_, "hits");
  for (int i = 1; i <= 5; ++i) {
    redis_.Command({"SCRIPT", "FLUSH"});
    EXPECT_OK(client_.Run(Greeting(), {"key"}, {"a", "b"}).status());
    redis_.Command({"SCRIPT", "FLUSH"});
    ASSERT_OK_AND_ASSIGN(const CounterResult result, counter.Add(1));
    EXPECT_EQ(result.value, i);
  }
}

TEST_F(ClientTest, AScriptsErrorIsAStatusWithItsText) {
  const Script fails("return redis.error_reply('MYERR no bananas')");
  EXPECT_THAT(client_.Run(fails, {}, {}).status().ToString(), HasSubstr("no bananas"));
  const Script broken("this is no Lua");
  EXPECT_FALSE(client_.Run(broken, {}, {}).ok());
  const Script crashes("local nothing\nreturn nothing.field");
  const absl::Status status = client_.Run(crashes, {}, {}).status();
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(coord::IsUnavailable(status));
  EXPECT_OK(client_.Command({"PING"}).status());
}

TEST_F(ClientTest, HealingAScriptInAPipelineDoesNotReorder) {
  const Script append("return redis.call('APPEND', KEYS[1], ARGV[1])");
  Pipeline pipeline;
  pipeline.Add({"APPEND", "text", "1"})
      .Add(append, {"text"}, {"2"})
      .Add({"APPEND", "text", "3"})
      .Add(append, {"text"}, {"4"})
      .Add({"GET", "text"});
  ASSERT_OK_AND_ASSIGN(std::vector<Reply> replies, client_.Execute(pipeline));
  ASSERT_EQ(replies.size(), 5u);
  EXPECT_EQ(replies[4].text(), "1234");
  redis_.Command({"SCRIPT", "FLUSH"});
  redis_.Command({"DEL", "text"});
  ASSERT_OK_AND_ASSIGN(replies, client_.Execute(pipeline));
  ASSERT_EQ(replies.size(), 5u);
  for (const Reply& reply : replies) EXPECT_FALSE(reply.is_error()) << reply.text();
  EXPECT_EQ(replies[4].text(), "1234");
  EXPECT_EQ(redis_.Text({"GET", "text"}), "1234");
}

// ---- Signing in ----

constexpr char kPassword[] = "s3cret-canary@/:%";
constexpr char kPasswordInUrl[] = "s3cret-canary%40%2F%3A%25";

class ClientSignInTest : public ::testing::Test {
 protected:
  ClientSignInTest() { redis_.Command({"AUTH", kPassword}); }

  std::string Url(const std::string& user_info, const std::string& rest = "") {
    return "redis://" + user_info + "127.0.0.1:" + std::to_string(proxy_.port()) + rest;
  }
  static void ExpectNoPassword(const std::string& text) {
    EXPECT_THAT(text, Not(HasSubstr("canary")));
  }

  RedisServer server_{[] {
    testing::RedisServerOptions options;
    options.args = {"--requirepass", kPassword};
    return options;
  }()};
  RawRedis redis_{server_};
  FaultProxy proxy_{server_.url()};
};

TEST_F(ClientSignInTest, TheRightPasswordOpensAndIsNotShown) {
  const Client client = ConnectTo(Url(std::string(":") + kPasswordInUrl + "@"));
  EXPECT_OK(client.Command({"SET", "key", "value"}).status());
  ExpectNoPassword(client.ToString());
  EXPECT_THAT(client.ToString(), HasSubstr("127.0.0.1"));
  ExpectNoPassword(client.Health().nodes.at(0).node);
  ExpectNoPassword(client.Command({"LPUSH", "key", "x"}).status().ToString());
  server_.Kill();
  ExpectNoPassword(
      client.Command({"PING"}, {.timeout = absl::Milliseconds(200)}).status().ToString());
  ExpectNoPassword(
      client.Health({.timeout = absl::Milliseconds(200)}).nodes.at(0).status.ToString());
}

TEST_F(ClientSignInTest, AWrongPasswordIsALastingErrorAtOnceAndNotShown) {
  const Stopwatch watch;
  for (const char* user_info : {":wrong-canary@", "somebody:wrong-canary@", "default:canary@"}) {
    const absl::Status status = Client::Connect(Url(user_info)).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("127.0.0.1")));
    EXPECT_FALSE(coord::IsUnavailable(status));
    ExpectNoPassword(status.ToString());
  }
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_LE(proxy_.accepted(), 6u) << "a retry storm";
}

TEST_F(ClientSignInTest, AMissingPasswordIsUnauthenticated) {
  EXPECT_THAT(Client::Connect(Url("")), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(ClientSignInTest, AMalformedUrlsPasswordIsNotShown) {
  for (const char* rest : {":99999", "/notanumber", "?timeout=x", "?nosuch=1"}) {
    const absl::Status status =
        Client::Connect(std::string("redis://:") + kPasswordInUrl + "@127.0.0.1" + rest).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument)) << rest;
    ExpectNoPassword(status.ToString());
  }
}

TEST_F(ClientSignInTest, AReconnectSignsInAgain) {
  const Client client = ConnectTo(Url(std::string("default:") + kPasswordInUrl + "@"));
  for (int i = 0; i < 3; ++i) {
    redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
    EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }));
  }
}

TEST_F(ClientSignInTest, APasswordThatChangedIsUnauthenticatedAtTheNextReconnect) {
  const Client client = ConnectTo(Url(std::string(":") + kPasswordInUrl + "@"));
  redis_.Command({"CONFIG", "SET", "requirepass", "another"});
  redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
  absl::Status status;
  EXPECT_TRUE(Eventually([&] {
    status = client.Command({"PING"}).status();
    return status.code() == absl::StatusCode::kUnauthenticated;
  })) << status;
  ExpectNoPassword(status.ToString());
}

// What all of the library needs, on a server that does not take HELLO.
void ExpectServedOverResp2(const Client& client, const std::string& user) {
  ASSERT_OK(client.Command({"HSET", "hash", "field", "x"}).status());
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"HGETALL", "hash"}));
  EXPECT_EQ(reply.kind(), Reply::Kind::kArray);
  ASSERT_OK_AND_ASSIGN(const Reply who, client.Command({"ACL", "WHOAMI"}));
  EXPECT_EQ(who.text(), user);
  ASSERT_OK_AND_ASSIGN(const Reply name, client.Command({"CLIENT", "GETNAME"}));
  EXPECT_EQ(name.text(), "alice");
  ASSERT_OK_AND_ASSIGN(const Reply nil, client.Command({"GET", "none"}));
  EXPECT_TRUE(nil.is_nil());
  EXPECT_OK(Counter(client, "hits").Add(1).status());
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Milliseconds(500)}).TryAcquire());
  EXPECT_FALSE(Mutex(client, "deploy").Acquire(absl::Milliseconds(1200)).ok());
  EXPECT_TRUE(lease.valid());  // renewed all the time
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(client.Health().ok());
}

// A server from before HELLO. (An ACL cannot take HELLO away: Redis lets everybody run it.)
testing::RedisServerOptions WithoutHello(const std::string& config = "") {
  testing::RedisServerOptions options;
  options.config = "rename-command HELLO \"\"\n" + config;
  return options;
}

TEST(ClientOldServerTest, AServerWithoutHelloIsServedOverResp2) {
  const RedisServer server(WithoutHello());
  ExpectServedOverResp2(ConnectTo(server.url(), Named("alice")), "default");
}

TEST(ClientOldServerTest, AServerWithoutHelloIsServedOverResp2WithAPassword) {
  const RedisServer server(WithoutHello("requirepass canary\n"));
  const FaultProxy proxy(server.url());
  const std::string at = "@" + proxy.url().substr(std::string("redis://").size());
  ASSERT_OK_AND_ASSIGN(const Client client,
                       Client::Connect("redis://:canary" + at, Named("alice")));
  ExpectServedOverResp2(client, "default");
}

TEST(ClientOldServerTest, AServerWithoutHelloRefusesAWrongPassword) {
  const RedisServer server(WithoutHello("requirepass canary\n"));
  const FaultProxy proxy(server.url());
  const std::string at = "@" + proxy.url().substr(std::string("redis://").size());
  EXPECT_THAT(Client::Connect("redis://:wrong" + at), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Client::Connect(proxy.url()), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(ClientSignInTest, TheDatabaseIsSelectedAlsoAfterAReconnect) {
  const Client client = ConnectTo(Url(std::string(":") + kPasswordInUrl + "@", "/3"));
  ASSERT_OK(client.Command({"SET", "key", "1"}).status());
  redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
  EXPECT_TRUE(Eventually([&] { return client.Command({"SET", "again", "1"}).ok(); }));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  redis_.Command({"SELECT", "3"});
  EXPECT_EQ(redis_.Integer({"EXISTS", "key", "again"}), 2);
}

TEST_F(ClientTest, AUnixUrlsDatabaseIsSelected) {
  const Client client = ConnectTo(server_.url() + "?db=5");
  ASSERT_OK(client.Command({"SET", "key", "1"}).status());
  redis_.Command({"SELECT", "5"});
  EXPECT_EQ(redis_.Integer({"EXISTS", "key"}), 1);
}

TEST_F(ClientTest, ADatabaseThatIsNotThereIsAnError) {
  const absl::Status status = Client::Connect(server_.url() + "?db=9999").status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("DB"));
  EXPECT_FALSE(Client::Connect(server_.url() + "?db=-1").ok());
}

TEST_F(ClientTest, TheClientsNameIsSetAlsoAfterAReconnect) {
  const Client client = ConnectTo(AsAdmin(server_.url()), Named("alice"));
  EXPECT_EQ(client.Command({"CLIENT", "GETNAME"})->text(), "alice");
  redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
  absl::StatusOr<Reply> name;
  EXPECT_TRUE(Eventually([&] {
    name = client.Command({"CLIENT", "GETNAME"});
    return name.ok();
  }));
  EXPECT_EQ(name->text(), "alice");
}

TEST_F(ClientTest, TheDefaultNameEndsInTheProcessId) {
  ASSERT_OK_AND_ASSIGN(const Reply name, client_.Command({"CLIENT", "GETNAME"}));
  EXPECT_THAT(name.text(), ::testing::EndsWith(":" + std::to_string(getpid())));
}

TEST_F(ClientTest, BadOptionsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  struct Case {
    const char* argument;
    std::function<void(ClientOptions&)> spoil;
  };
  const Case cases[] = {
      {"prefix", [](ClientOptions& o) { o.prefix = "a{b"; }},
      {"prefix", [](ClientOptions& o) { o.prefix = "a}b"; }},
      {"prefix", [](ClientOptions& o) { o.prefix = std::string(257, 'p'); }},
      {"timeout", [](ClientOptions& o) { o.timeout = absl::ZeroDuration(); }},
      {"timeout", [](ClientOptions& o) { o.timeout = -absl::Seconds(1); }},
      {"connect_timeout", [](ClientOptions& o) { o.connect_timeout = absl::ZeroDuration(); }},
      {"client_name", [](ClientOptions& o) { o.client_name = "two words"; }},
      {"client_name", [](ClientOptions& o) { o.client_name = "line\nbreak"; }},
  };
  for (const Case& c : cases) {
    ClientOptions options;
    c.spoil(options);
    EXPECT_THAT(Client::Connect(server_.url(), options),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.argument)));
  }
  for (const char* url :
       {"", "nonsense", "http://127.0.0.1", "redis://", "redis://h:0", "redis://h:65536",
        "redis://h/x", "unix://", "unix:///p?db=x", "redis://h?timeout=-1s", "redis://h?nosuch=1",
        "redis://[::1", "redis://u:%zz@h"}) {
    if (*url == '\0') continue;
    EXPECT_THAT(Client::Connect(url), StatusIs(absl::StatusCode::kInvalidArgument)) << url;
  }
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(ClientTest, TheUrlsPrefixGoesBeforeTheOptions) {
  ClientOptions options;
  options.prefix = "options:";
  const Client client = ConnectTo(server_.url() + "?prefix=url:", options);
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  EXPECT_EQ(redis_.Text({"GET", "url:{hits}:count"}), "1");
  ASSERT_OK(Counter(ConnectTo(server_.url(), options), "hits").Add(2).status());
  EXPECT_EQ(redis_.Text({"GET", "options:{hits}:count"}), "2");
}

TEST_F(ClientTest, AnEmptyUrlMeansTheEnvironments) {
  ASSERT_EQ(setenv("COORD_URL", server_.url().c_str(), 1), 0);
  const absl::StatusOr<Client> client = Client::Connect();
  unsetenv("COORD_URL");
  ASSERT_OK(client.status());
  ASSERT_OK(client->Command({"SET", "key", "1"}).status());
  EXPECT_EQ(redis_.Integer({"EXISTS", "key"}), 1);
}

TEST_F(ClientTest, ASocketPathThatIsTooLongIsRefusedClearly) {
  const std::string path = "/tmp/" + std::string(200, 'x') + "/redis.sock";
  const absl::Status status = Client::Connect("unix://" + path).status();
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::ContainsRegex("10[78]")));
}

// ---- Timeouts and stop tokens ----

TEST_F(ClientTest, ACommandEndsAtItsTimeoutAndIsUnknown) {
  server_.Pause();
  const Stopwatch watch;
  const absl::Status status =
      client_.Command({"INCR", "count"}, {.timeout = absl::Milliseconds(200)}).status();
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(190));
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("INCR")));
  EXPECT_TRUE(IsOutcomeUnknown(status));
  server_.Resume();
  ASSERT_OK_AND_ASSIGN(const Reply reply, client_.Command({"ECHO", "mine"}));
  EXPECT_EQ(reply.text(), "mine");
  EXPECT_EQ(redis_.Text({"GET", "count"}), "1");  // it was applied, after all
}

TEST_F(ClientTest, TheClientsTimeoutHoldsWhereNoneIsGiven) {
  const Client client = ConnectTo(server_.url() + "?timeout=200ms");
  server_.Pause();
  const Stopwatch watch;
  EXPECT_THAT(client.Command({"PING"}), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  server_.Resume();
}

TEST_F(ClientTest, TimeoutsHoldForEveryCallerWhoWaits) {
  server_.Pause();
  std::vector<std::jthread> threads;
  const Stopwatch watch;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      EXPECT_THAT(client_.Command({"PING"}, {.timeout = absl::Milliseconds(100 + 30 * i)}),
                  StatusIs(absl::StatusCode::kDeadlineExceeded));
    });
  }
  threads.clear();
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  server_.Resume();
  EXPECT_OK(client_.Command({"PING"}).status());
}

TEST_F(ClientTest, AValueThatTheServerDoesNotReadEndsAtTheTimeout) {
  server_.Pause();
  const std::string large(20'000'000, 'x');
  const Stopwatch watch;
  const absl::Status status =
      client_.Command({"SET", "large", large}, {.timeout = absl::Milliseconds(300)}).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  server_.Resume();
  EXPECT_TRUE(Eventually([&] { return client_.Command({"PING"}).ok(); }));
}

TEST_F(ClientTest, AStopTokenEndsACallThatWaits) {
  FaultProxy proxy(server_.url());
  const Client client = ConnectTo(AsAdmin(proxy.url()));
  proxy.Set(Direction::kReplies, {.hold = true});
  const std::uint64_t before = proxy.arrived(Direction::kReplies);
  std::stop_source stop;
  absl::Status status;
  std::jthread caller([&] {
    status =
        client.Command({"INCR", "count"}, {.timeout = absl::Seconds(60), .stop = stop.get_token()})
            .status();
  });
  EXPECT_TRUE(Eventually([&] { return proxy.arrived(Direction::kReplies) > before; }));
  const Stopwatch watch;
  stop.request_stop();
  caller.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(IsOutcomeUnknown(status));
  proxy.Heal();
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"ECHO", "mine"}));
  EXPECT_EQ(reply.text(), "mine");
}

TEST_F(ClientTest, AStopTokenThatHasTrippedSendsNothing) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::stop_source stop;
  stop.request_stop();
  const absl::Status status =
      client_.Command({"INCR", "count"}, {.stop = stop.get_token()}).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(IsOutcomeUnknown(status));
  EXPECT_EQ(AllCalls(redis_), 0);
}

// ---- Life ----

TEST_F(ClientTest, ThreadsShareOneConnection) {
  std::vector<std::jthread> threads;
  const Client copy = client_;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) EXPECT_OK(copy.Command({"INCR", "count"}).status());
    });
  }
  threads.clear();
  EXPECT_EQ(redis_.Text({"GET", "count"}), "800");
  EXPECT_EQ(Connections(redis_), 1);
}

TEST_F(ClientTest, TheLastHandleClosesTheConnection) {
  {
    const Client one = ConnectTo(server_.url());
    const Client two = one;
    EXPECT_EQ(Connections(redis_), 2);
  }
  EXPECT_TRUE(Eventually([&] { return Connections(redis_) == 1; }));
}

TEST_F(ClientTest, ClosingIsIdempotentAndEndsEveryCopy) {
  const Client copy = client_;
  client_.Close();
  client_.Close();
  copy.Close();
  for (const Client& client : {client_, copy}) {
    EXPECT_THAT(client.Command({"PING"}), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(client.Run(Greeting(), {"k"}, {"a", "b"}),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    Pipeline pipeline;
    pipeline.Add({"PING"});
    EXPECT_THAT(client.Execute(pipeline), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(Counter(client, "hits").Add(1), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_FALSE(client.Health().ok());
  }
  EXPECT_TRUE(Eventually([&] { return Connections(redis_) == 0; }));
}

TEST_F(ClientTest, ClosingEndsCallsThatWait) {
  FaultProxy proxy(server_.url());
  const Client client = ConnectTo(proxy.url());
  proxy.Set(Direction::kReplies, {.hold = true});
  const std::uint64_t before = proxy.arrived(Direction::kReplies);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const absl::Status status =
          client.Command({"INCR", "count"}, {.timeout = absl::Seconds(60)}).status();
      EXPECT_FALSE(status.ok());
      EXPECT_NE(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    });
  }
  EXPECT_TRUE(Eventually([&] { return proxy.arrived(Direction::kReplies) > before; }));
  const Stopwatch watch;
  client.Close();
  threads.clear();
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
}

TEST_F(ClientTest, AForkedChildsCallsFailAndSendNothing) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  Process child = ForkAndRun([&]() -> int {
    if (client_.Command({"INCR", "count"}).status().code() !=
        absl::StatusCode::kFailedPrecondition) {
      return 1;
    }
    if (Counter(client_, "hits").Add(1).status().code() != absl::StatusCode::kFailedPrecondition) {
      return 2;
    }
    Pipeline pipeline;
    pipeline.Add({"PING"});
    if (client_.Execute(pipeline).status().code() != absl::StatusCode::kFailedPrecondition)
      return 3;
    if (client_.Health().ok()) return 4;
    client_.Close();  // of its own copy only
    const absl::StatusOr<Client> own = Client::Connect(server_.url());
    if (!own.ok() || !own->Command({"SET", "child", "1"}).ok()) return 5;
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0) << child.err();
  EXPECT_EQ(CommandCalls(redis_, "incr"), 0);
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(redis_.Text({"GET", "child"}), "1");
  ASSERT_OK_AND_ASSIGN(const Reply reply, client_.Command({"ECHO", "parent"}));
  EXPECT_EQ(reply.text(), "parent");
  EXPECT_EQ(client_.Health().nodes.at(0).connections_made, 1);
}

TEST_F(ClientTest, AForkWhileThreadsAreCallingHarmsNeither) {
  std::atomic<bool> stop = false;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) EXPECT_OK(client_.Command({"INCR", "count"}).status());
    });
  }
  for (int i = 0; i < 10; ++i) {
    Process child = ForkAndRun([&]() -> int {
      return client_.Command({"PING"}).status().code() == absl::StatusCode::kFailedPrecondition ? 0
                                                                                                : 1;
    });
    const testing::ProcessResult result = child.Wait(absl::Seconds(10));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_FALSE(result.timed_out) << "the child hangs";
  }
  stop = true;
}

// ---- Health ----

TEST_F(ClientTest, HealthDescribesAServerThatIsWell) {
  const Health health = client_.Health();
  EXPECT_TRUE(health.ok());
  ASSERT_EQ(health.nodes.size(), 1u);
  const NodeHealth& node = health.nodes[0];
  EXPECT_OK(node.status);
  EXPECT_EQ(node.node, "unix:" + server_.socket_path());
  EXPECT_THAT(node.server, AnyOf(StartsWith("redis "), StartsWith("valkey ")));
  EXPECT_EQ(node.role, "master");
  EXPECT_GT(node.round_trip, absl::ZeroDuration());
  EXPECT_LT(node.round_trip, absl::Seconds(5));
  EXPECT_EQ(node.connections_made, 1);
}

TEST_F(ClientTest, HealthCountsReconnects) {
  redis_.Command({"CLIENT", "KILL", "TYPE", "normal"});
  EXPECT_TRUE(Eventually([&] { return client_.Command({"PING"}).ok(); }));
  EXPECT_EQ(client_.Health().nodes.at(0).connections_made, 2);
}

TEST_F(ClientTest, HealthSaysWhatIsWrong) {
  redis_.Command({"REPLICAOF", "127.0.0.1", "1"});
  Health health = client_.Health();
  EXPECT_FALSE(health.ok()) << "a replica takes no writes";
  EXPECT_EQ(health.nodes.at(0).role, "slave");
  redis_.Command({"REPLICAOF", "NO", "ONE"});
  EXPECT_TRUE(client_.Health().ok());

  server_.Pause();
  const Stopwatch watch;
  health = client_.Health({.timeout = absl::Milliseconds(200)});
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_FALSE(health.ok());
  ASSERT_EQ(health.nodes.size(), 1u);
  EXPECT_FALSE(health.nodes[0].status.ok());
  server_.Resume();

  server_.Kill();
  health = client_.Health({.timeout = absl::Milliseconds(300)});
  EXPECT_FALSE(health.ok());
  EXPECT_FALSE(health.nodes.at(0).status.ok());
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return client_.Health().ok(); }));
}

TEST(ClientLoadingTest, ConnectingWaitsForAServerThatIsStillReadingItsData) {
  testing::RedisServerOptions options;
  options.append_only = true;
  options.may_be_loading = true;
  // About 1.5 s for all keys. The server looks at its clients every 1,024 commands that it reads.
  options.args = {"--key-load-delay", "150"};
  RedisServer server(options);
  RawRedis redis(server);
  redis.Command({"EVAL", "for i = 1, 8000 do redis.call('SET', i, i) end", "0"});
  server.Kill();
  server.Start();
  ASSERT_THAT(redis.Command({"GET", "1"}).text(), StartsWith("LOADING")) << "not slow enough";
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AsAdmin(server.url())));
  ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"DBSIZE"}));
  EXPECT_EQ(reply.integer(), 8000);
}

}  // namespace
}  // namespace coord
