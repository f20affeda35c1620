// A master that is found through Sentinels: real ones, and fake ones that say what a test wants.
//
// Those with real Sentinels take 4 s or more: a trio needs 3 s to find itself.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/deployment.h"
#include "tests/support/fake_server.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/sentinels.h"

namespace coord {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FakeAnswer;
using ::coord::testing::FakeCommand;
using ::coord::testing::FakeServer;
using ::coord::testing::FaultProxy;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kName = "coord-sentinel-test";

std::string Bulk(std::string_view text) { return StrCat("$", text.size(), "\r\n", text, "\r\n"); }

// Says of the master "m" what it is told to.
class FakeSentinel {
 public:
  // Nothing is known yet.
  explicit FakeSentinel(bool pushes = false)
      : pushes_(pushes),
        server_(std::make_unique<FakeServer>(
            testing::Answers([this](const FakeCommand& command) { return Answer(command); }))) {}

  int port() const { return port_; }
  void Name(int port, int epoch, std::string state = "") {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> words = {"name", "m",          "ip",           "127.0.0.1",
                                      "port", StrCat(port), "config-epoch", StrCat(epoch)};
    if (!state.empty()) words.insert(words.end(), {"failover-state", std::move(state)});
    answer_ = StrCat("*", words.size(), "\r\n");
    for (const std::string& word : words) answer_ += Bulk(word);
  }
  void Say(std::string bytes) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(bytes);
  }
  // In place of an answer to whoever signs in; empty: lets him in.
  void RefuseAll(std::string error) {
    const std::lock_guard lock(mutex_);
    refusal_ = std::move(error);
  }
  void Push(int from, int to) {
    const std::string text = StrCat("m 127.0.0.1 ", from, " 127.0.0.1 ", to);
    const std::string bytes = StrCat(">3\r\n", Bulk("message"), Bulk("+switch-master"), Bulk(text));
    std::set<std::size_t> listeners;
    {
      const std::lock_guard lock(mutex_);
      listeners = listeners_;
    }
    for (const std::size_t connection : listeners) server_->Send(connection, bytes);
  }
  bool heard() {
    const std::lock_guard lock(mutex_);
    return !listeners_.empty();
  }
  int asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  std::size_t accepted() { return server_ == nullptr ? 0 : server_->accepted(); }
  // Is not there any more.
  void Die() { server_ = nullptr; }

 private:
  FakeAnswer Answer(const FakeCommand& command) {
    const std::lock_guard lock(mutex_);
    const std::vector<std::string>& words = command.arguments;
    if (words[0] == "HELLO") {
      if (!refusal_.empty()) return {.bytes = refusal_};
      if (!pushes_) return {.bytes = "-ERR unknown command 'HELLO'\r\n"};
      return {.bytes = StrCat("%1\r\n", Bulk("server"), Bulk("redis"))};
    }
    if (words[0] == "SUBSCRIBE") {
      listeners_.insert(command.connection);
      return {.bytes = StrCat(">3\r\n", Bulk("subscribe"), Bulk(words[1]), ":1\r\n")};
    }
    if (words[0] == "SENTINEL") {
      ++asked_;
      return {.bytes = answer_};
    }
    return {.bytes = "+OK\r\n"};
  }

  const bool pushes_;
  std::mutex mutex_;
  std::string answer_ = "-ERR No such master with that name\r\n";
  std::string refusal_;
  std::set<std::size_t> listeners_;
  int asked_ = 0;
  std::unique_ptr<FakeServer> server_;
  const int port_ = server_->port();
};

std::string Url(const std::vector<FakeSentinel*>& sentinels) {
  std::string hosts;
  for (FakeSentinel* sentinel : sentinels) {
    hosts += StrCat(hosts.empty() ? "" : ",", "127.0.0.1:", sentinel->port());
  }
  return StrCat("redis+sentinel://", hosts, "/m");
}

ClientOptions Options(absl::Duration timeout = absl::Seconds(10)) {
  ClientOptions options;
  options.timeout = timeout;
  options.client_name = kName;
  options.fail_fast_after = absl::InfiniteDuration();
  return options;
}

// How many connections of ours are at that server.
int OursAt(RawRedis& redis) {
  const std::string list = redis.Text({"CLIENT", "LIST"});
  const std::string wanted = StrCat("name=", kName, " ");
  int count = 0;
  for (std::size_t at = list.find(wanted); at != std::string::npos;
       at = list.find(wanted, at + 1)) {
    ++count;
  }
  return count;
}

// What happened, as on_node_event is told.
struct Events {
  std::mutex mutex;
  std::vector<NodeEvent> all;

  std::function<void(const NodeEvent&)> Listener() {
    return [this](const NodeEvent& event) {
      const std::lock_guard lock(mutex);
      all.push_back(event);
    };
  }
  int failovers() {
    const std::lock_guard lock(mutex);
    return static_cast<int>(std::count_if(all.begin(), all.end(), [](const NodeEvent& event) {
      return event.reason.find("failover") == 0;
    }));
  }
};

int FailoversInHistory(const Client& client) {
  const Health health = client.Health();
  return static_cast<int>(
      std::count_if(health.history.begin(), health.history.end(),
                    [](const NodeEvent& event) { return event.reason.find("failover") == 0; }));
}

// Two masters, and Sentinels that name the one or the other.
class FakeSentinelTest : public ::testing::Test {
 protected:
  void AllName(const RedisServer& server, int epoch) {
    for (FakeSentinel* sentinel : {&s1_, &s2_, &s3_}) sentinel->Name(server.port(), epoch);
  }
  std::string AllUrl() { return Url({&s1_, &s2_, &s3_}); }

  RedisServer a_{{.port = 0}};
  RedisServer b_{{.port = 0}};
  RawRedis at_a_{a_};
  RawRedis at_b_{b_};
  FakeSentinel s1_{true};
  FakeSentinel s2_{true};
  FakeSentinel s3_{true};
};

TEST_F(FakeSentinelTest, TheNewestAnswerOfAMajorityIsBelieved) {
  s1_.Name(a_.port(), 1);
  s2_.Name(b_.port(), 2);
  s3_.Name(a_.port(), 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "k", "v"}));
  EXPECT_EQ(at_b_.Text({"GET", "k"}), "v");
  EXPECT_TRUE(at_a_.Command({"GET", "k"}).is_nil());
}

TEST_F(FakeSentinelTest, TheLeaderOfAFailoverWhoStillNamesTheOldMasterIsOverruled) {
  s1_.Name(a_.port(), 2, "reconf_slaves");
  s2_.Name(b_.port(), 2);
  s3_.Name(b_.port(), 2);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "k", "v"}));
  EXPECT_EQ(at_b_.Text({"GET", "k"}), "v");
}

TEST_F(FakeSentinelTest, ASentinelThatHasMissedAFailoverCannotUndoIt) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "where", "a"}));
  AllName(b_, 2);
  s1_.Push(a_.port(), b_.port());
  ASSERT_TRUE(Eventually([&] { return OursAt(at_a_) == 0; }));
  ASSERT_OK(client.Command({"SET", "where", "b"}));
  const std::int64_t sets = CommandCalls(at_a_, "set");

  AllName(a_, 1);
  const absl::Status refused = client.Reconnect({.timeout = absl::Milliseconds(500)});
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("failover")));
  const absl::Status call =
      client.Command({"SET", "where", "nowhere"}, {.timeout = absl::Milliseconds(500)}).status();
  EXPECT_THAT(call, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("failover")));
  EXPECT_FALSE(IsOutcomeUnknown(call)) << call;
  EXPECT_EQ(OursAt(at_a_), 0);
  EXPECT_EQ(CommandCalls(at_a_, "set"), sets);

  s3_.Name(b_.port(), 2);
  EXPECT_OK(client.Command({"SET", "where", "b again"}));
  EXPECT_EQ(at_b_.Text({"GET", "where"}), "b again");
}

TEST_F(FakeSentinelTest, WhatOneSentinelHasPushedAnotherThatIsBehindCannotUndo) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "where", "a"}));
  // The caller has asked, and the one who watches.
  ASSERT_TRUE(Eventually([&] { return s1_.heard() && s1_.asked() >= 2; }));
  s1_.Name(b_.port(), 2);
  s1_.Push(a_.port(), b_.port());
  ASSERT_TRUE(Eventually([&] { return OursAt(at_a_) == 0; }));
  // The watch goes on to one that names the old master.
  s1_.Die();
  const int asked = s2_.asked();
  ASSERT_TRUE(Eventually([&] { return s2_.asked() > asked + 1; }));
  EXPECT_EQ(OursAt(at_a_), 0);
  const absl::Status call =
      client.Command({"SET", "where", "?"}, {.timeout = absl::Milliseconds(500)}).status();
  EXPECT_EQ(at_a_.Text({"GET", "where"}), "a") << call;
}

TEST_F(FakeSentinelTest, AnOldOrDoubledPushDoesNotMoveAnybody) {
  AllName(b_, 5);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_TRUE(Eventually([&] { return s1_.heard(); }));
  ASSERT_OK(client.Command({"SET", "where", "b"}));
  const int asked = s1_.asked();
  s1_.Push(b_.port(), a_.port());  // what came of it is over: it is asked, and names b
  s1_.Push(a_.port(), b_.port());
  s1_.Push(a_.port(), b_.port());
  ASSERT_TRUE(Eventually([&] { return s1_.asked() > asked + 1; }));
  // The real one of the next failover, whose epoch is only one higher.
  AllName(a_, 6);
  s1_.Push(b_.port(), a_.port());
  EXPECT_TRUE(Eventually([&] { return OursAt(at_b_) == 0; }));
  EXPECT_OK(client.Command({"SET", "where", "a"}));
  EXPECT_EQ(at_a_.Text({"GET", "where"}), "a");
  EXPECT_EQ(at_b_.Text({"GET", "where"}), "b");
}

TEST_F(FakeSentinelTest, APushIsHeardLongBeforeTheNextQuestion) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_TRUE(Eventually([&] { return s1_.heard(); }));
  absl::Duration least = absl::InfiniteDuration();
  for (int i = 0; i < 6; ++i) {
    const bool to_b = i % 2 == 0;
    // Just after a question, so that the next one is a second away.
    const int asked = s1_.asked();
    ASSERT_TRUE(Eventually([&] { return s1_.asked() > asked; }));
    const Stopwatch watch;
    AllName(to_b ? b_ : a_, i + 2);
    s1_.Push((to_b ? a_ : b_).port(), (to_b ? b_ : a_).port());
    ASSERT_TRUE(Eventually([&] { return OursAt(to_b ? at_a_ : at_b_) == 0; }));
    least = std::min(least, watch.elapsed());
  }
  std::cout << "left after a push: " << least << "\n";
  EXPECT_LT(least, absl::Milliseconds(500)) << "of six, none was before the next question";
}

TEST_F(FakeSentinelTest, WhenACallerFindsTheFailoverTheLeasesMoveTooAndTheProgramIsTold) {
  AllName(a_, 1);
  Events events;
  ClientOptions options = Options();
  options.on_node_event = events.Listener();
  {
    ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), options));
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "l", {.ttl = absl::Seconds(1)}).TryAcquire());
    ASSERT_TRUE(Eventually([&] { return OursAt(at_a_) == 2; })) << "the background's as well";
    // The Sentinel that is watched is behind for long; the others are not.
    s2_.Name(b_.port(), 2);
    s3_.Name(b_.port(), 2);
    const std::string list = at_a_.Text({"CLIENT", "LIST"});
    // The connection that has not subscribed is that of the callers.
    const std::size_t ours = list.find(StrCat("name=", kName, " "));
    ASSERT_NE(ours, std::string::npos);
    const std::size_t line = list.rfind('\n', ours) + 1;  // the older one comes first
    const std::string id = list.substr(line + 3, list.find(' ', line) - line - 3);
    ASSERT_EQ(at_a_.Integer({"CLIENT", "KILL", "ID", id}), 1);
    ASSERT_TRUE(Eventually([&] { return client.Command({"SET", "where", "b"}).ok(); }));
    EXPECT_EQ(at_b_.Text({"GET", "where"}), "b");
    EXPECT_TRUE(Eventually([&] { return OursAt(at_a_) == 0; }))
        << "the background thread has stayed at the old master";
    EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
    EXPECT_TRUE(Eventually([&] { return events.failovers() == 1; })) << events.failovers();
    EXPECT_EQ(FailoversInHistory(client), 1);
  }
}

TEST_F(FakeSentinelTest, AConnectionThatWasBeingMadeToTheOldMasterIsNotUsed) {
  FaultProxy slow(a_.url());
  for (FakeSentinel* sentinel : {&s1_, &s2_, &s3_}) sentinel->Name(slow.port(), 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "where", "a"}));
  ASSERT_TRUE(Eventually([&] { return s1_.heard(); }));
  slow.Set(Direction::kReplies, {.hold = true});
  const std::size_t before = slow.accepted();
  absl::Status status;
  std::thread caller([&] { status = client.Reconnect(); });
  ASSERT_TRUE(Eventually([&] { return slow.accepted() > before; }));
  // It has asked where the master is, and signs in there.
  AllName(b_, 2);
  s1_.Push(slow.port(), b_.port());
  const int asked = s1_.asked();
  EXPECT_TRUE(Eventually([&] { return s1_.asked() > asked + 1; }));
  slow.Set(Direction::kReplies, {});
  caller.join();
  ASSERT_OK(client.Command({"SET", "where", "b"})) << status;
  EXPECT_EQ(at_b_.Text({"GET", "where"}), "b");
  EXPECT_EQ(at_a_.Text({"GET", "where"}), "a");
  EXPECT_TRUE(Eventually([&] { return OursAt(at_a_) == 0; }));
}

TEST_F(FakeSentinelTest, AReplicaThatIsNamedAsMasterIsRefusedUntilThatIsCorrected) {
  ASSERT_EQ(at_b_.Text({"REPLICAOF", "127.0.0.1", StrCat(a_.port())}), "OK");
  AllName(b_, 1);
  EXPECT_THAT(Client::Connect(AllUrl(), Options()),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(StrCat(b_.port())), HasSubstr("slave"))));
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  AllName(b_, 2);
  EXPECT_THAT(client.Reconnect({.timeout = absl::Milliseconds(300)}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("slave")));
  const Stopwatch watch;
  const absl::Status late =
      client.Command({"SET", "k", "v"}, {.timeout = absl::Milliseconds(300)}).status();
  EXPECT_THAT(late, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("slave")));
  EXPECT_FALSE(IsOutcomeUnknown(late)) << late;
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(250)) << "it may become the master any moment";

  absl::Status status = absl::UnknownError("");
  std::thread caller([&] { status = client.Command({"SET", "k", "v"}).status(); });
  const int asked = s1_.asked();
  EXPECT_TRUE(Eventually([&] { return s1_.asked() > asked + 2; }));
  AllName(a_, 3);
  caller.join();
  EXPECT_OK(status);
  EXPECT_EQ(at_a_.Text({"GET", "k"}), "v");
}

TEST_F(FakeSentinelTest, AWriteThatFoundItsMasterDemotedIsDoneAtTheNewOne) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(Counter(client, "c").Add(1).status());
  ASSERT_EQ(at_a_.Text({"REPLICAOF", "127.0.0.1", StrCat(b_.port())}), "OK");
  for (FakeSentinel* sentinel : {&s1_, &s2_, &s3_}) sentinel->Name(b_.port(), 2);
  // Without an operation id, and yet without a doubt.
  ASSERT_OK_AND_ASSIGN(const CounterResult result, Counter(client, "c").Add(10));
  EXPECT_EQ(result.value, 10) << "nobody has replicated what was added before";
  EXPECT_EQ(at_b_.Text({"GET", "coord:{c}:count"}), "10");
}

TEST_F(FakeSentinelTest, ABatchThatFoundItsMasterDemotedLeavesItForTheNext) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  Pipeline batch;
  batch.Add({"SET", "k", "v"}).Add({"SET", "l", "w"});
  ASSERT_OK(client.Execute(batch));
  ASSERT_EQ(at_a_.Text({"REPLICAOF", "127.0.0.1", StrCat(b_.port())}), "OK");
  // The Sentinel that is watched is behind for long, so that nobody else finds out.
  s2_.Name(b_.port(), 2);
  s3_.Name(b_.port(), 2);
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> refused, client.Execute(batch));
  EXPECT_THAT(refused[0].text(), HasSubstr("READONLY"));
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> written, client.Execute(batch));
  EXPECT_EQ(written[0].text(), "OK");
  EXPECT_EQ(at_b_.Text({"GET", "l"}), "w");
}

TEST_F(FakeSentinelTest, WhatOneSentinelRefusesForGoodIsNotFinalWhileOthersMayComeBack) {
  AllName(a_, 1);
  s2_.Die();
  s3_.Die();
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  s1_.Say("-ERR No such master with that name\r\n");
  EXPECT_THAT(client.Reconnect({.timeout = absl::Milliseconds(300)}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("No such master")));
  absl::Status status = absl::UnknownError("");
  std::thread caller([&] { status = client.Command({"SET", "k", "v"}).status(); });
  const int asked = s1_.asked();
  EXPECT_TRUE(Eventually([&] { return s1_.asked() > asked + 2; }));
  s1_.Name(a_.port(), 1);
  caller.join();
  EXPECT_OK(status);
}

TEST_F(FakeSentinelTest, WhatAllSentinelsRefuseForGoodIsOneErrorAndNoStorm) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  const std::string refusal = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
  for (FakeSentinel* sentinel : {&s1_, &s2_, &s3_}) sentinel->RefuseAll(refusal);
  EXPECT_THAT(client.Reconnect(),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("WRONGPASS")));
  const std::size_t before = s1_.accepted() + s2_.accepted() + s3_.accepted();
  const Stopwatch watch;
  int calls = 0;
  while (watch.elapsed() < absl::Seconds(2)) {
    const absl::Status status = client.Command({"PING"}).status();
    ASSERT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("Sentinel")));
    ++calls;
  }
  const std::size_t tries = s1_.accepted() + s2_.accepted() + s3_.accepted() - before;
  EXPECT_GT(calls, 100);
  // Three by each question of a caller, and of the one that watches: backoff up to a second.
  EXPECT_LT(tries, 120u) << "of " << calls << " calls";
}

TEST_F(FakeSentinelTest, SentinelsThatAreFarBehindAreRefusedByNewestNotByNumber) {
  s1_.Name(a_.port(), 9);
  s2_.Die();
  s3_.Die();
  // The answer of one is better than none.
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  ASSERT_OK(client.Command({"SET", "k", "v"}));
  EXPECT_EQ(at_a_.Text({"GET", "k"}), "v");
  s1_.Name(b_.port(), 10);
  s1_.Push(a_.port(), b_.port());
  EXPECT_TRUE(Eventually([&] { return OursAt(at_a_) == 0; }));
}

TEST_F(FakeSentinelTest, GarbageFromASentinelIsAnErrorThatNamesIt) {
  for (FakeSentinel* sentinel : {&s1_, &s2_, &s3_}) sentinel->Say("*-1\r\n");
  EXPECT_THAT(Client::Connect(AllUrl(), Options()),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(StrCat(s1_.port())), HasSubstr("\"m\""))));
}

TEST_F(FakeSentinelTest, ManyThreadsGoThroughManyFailoversAndAreAllServed) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(AllUrl(), Options()));
  std::atomic<bool> done = false;
  std::atomic<int> failed = 0, worked = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      while (!done) {
        const absl::Status status =
            Counter(client, StrCat("c", i)).Add(1, {.operation_id = OperationId::New()}).status();
        if (status.ok()) ++worked;
        if (!status.ok() && ++failed == 1) ADD_FAILURE() << status;
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    const bool to_b = i % 2 == 0;
    AllName(to_b ? b_ : a_, i + 2);
    s1_.Push((to_b ? a_ : b_).port(), (to_b ? b_ : a_).port());
    const int before = worked;
    EXPECT_TRUE(Eventually([&] { return worked > before + 20; }));
    if (i % 5 == 4) {
      EXPECT_OK(client.Reconnect());
    }
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(FakeSentinelTest, AClientClosesAtOnceWhileItLooksForItsMaster) {
  AllName(a_, 1);
  ASSERT_OK_AND_ASSIGN(Client client, Client::Connect(AllUrl(), Options(absl::Seconds(60))));
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "l").TryAcquire());
  a_.Kill();
  std::vector<std::thread> threads;
  std::atomic<int> ended = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      EXPECT_FALSE(client.Command({"GET", "k"}).ok());
      EXPECT_FALSE(client.Command({"GET", "k"}).ok());
      ++ended;
    });
  }
  const int asked = s1_.asked();
  EXPECT_TRUE(Eventually([&] { return s1_.asked() > asked + 2; }));
  const Stopwatch watch;
  client.Close();
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  for (std::thread& thread : threads) thread.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(10)) << "they have waited for their deadlines";
  EXPECT_THAT(client.Command({"GET", "k"}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// ---- Real Sentinels ----

std::string Hosts(dev::Sentinels& trio, std::string_view host = "127.0.0.1") {
  std::string hosts;
  for (std::size_t i = 0; i < trio.sentinels(); ++i) {
    hosts += StrCat(i == 0 ? "" : ",", host, ":", trio.sentinel(i).port());
  }
  return hosts;
}

TEST(SentinelTest, TheMasterIsFoundByEveryFormOfTheUrlAndThroughWhatIsLeftOfTheSentinels) {
  const auto trio = OrFatal(dev::Sentinels::Start({}));
  const std::vector<std::string> urls = {
      trio->url(),
      StrCat("redis+sentinel://", Hosts(*trio), "/mymaster/3"),
      StrCat("redis+sentinel://mymaster@", Hosts(*trio), "/3"),
      StrCat("redis+sentinel://", Hosts(*trio, "localhost"), "/mymaster/3"),
  };
  const auto check = [&](const std::string& url, int db) {
    ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url, Options()));
    ASSERT_OK(client.Command({"SET", "k", "v"}));
    EXPECT_EQ(OrFatal(trio->server(0).Info("keyspace", StrCat("db", db))).find("keys=1"), 0u);
    // A lease is renewed, and a waiter served, over the background's connections.
    ASSERT_OK_AND_ASSIGN(Lease lease,
                         Mutex(client, "l", {.ttl = absl::Seconds(1)}).Acquire(absl::Seconds(5)));
    absl::Status waited;
    std::thread waiter([&] { waited = Mutex(client, "l").Acquire(absl::Seconds(10)).status(); });
    EXPECT_TRUE(Eventually([&] {
      const auto holder = Mutex(client, "l").Holder();
      return holder.ok() && lease.remaining() < absl::Milliseconds(900);
    }));
    EXPECT_TRUE(Eventually([&] { return lease.remaining() > absl::Milliseconds(900); }));
    EXPECT_OK(lease.Release());
    waiter.join();
    EXPECT_OK(waited);
    const Health health = client.Health();
    EXPECT_TRUE(health.ok());
    ASSERT_EQ(health.nodes.size(), 1 + trio->sentinels());
    EXPECT_EQ(health.nodes[0].node, StrCat("127.0.0.1:", trio->server(0).port()));
    EXPECT_EQ(health.nodes[0].role, "master");
    EXPECT_TRUE(health.nodes[0].needed);
    for (std::size_t i = 0; i < trio->sentinels(); ++i) {
      const NodeHealth& sentinel = health.nodes[i + 1];
      const bool up = trio->sentinel(i).Running() && !trio->sentinel(i).paused();
      EXPECT_FALSE(sentinel.needed);
      EXPECT_EQ(sentinel.status.ok(), up) << sentinel.status;
      EXPECT_EQ(sentinel.role, up ? "sentinel" : "");
    }
    ASSERT_OK(client.Command({"FLUSHDB"}));
  };
  check(urls[0], 0);
  for (std::size_t i = 1; i < urls.size(); ++i) check(urls[i], 3);

  EXPECT_THAT(Client::Connect(StrCat("redis+sentinel://", Hosts(*trio), "/other"), Options()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("\"other\""), HasSubstr("No such master"),
                             HasSubstr(StrCat("127.0.0.1:", trio->sentinel(0).port())))));
  // A plain server in place of a Sentinel.
  EXPECT_THAT(Client::Connect(StrCat("redis+sentinel://127.0.0.1:", trio->server(0).port(), "/m"),
                              Options()),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(StrCat(trio->server(0).port())), HasSubstr("SENTINEL"))));

  trio->sentinel(0).Kill();
  check(urls[0], 0);
  trio->sentinel(1).Pause();
  check(urls[0], 0);
  trio->sentinel(1).Kill();
  check(urls[3], 3);
  trio->sentinel(2).Kill();
  EXPECT_THAT(Client::Connect(urls[0], Options()),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("\"mymaster\""), HasSubstr("Sentinel"))));
}

TEST(SentinelTest, PasswordsOfSentinelsAndServersDifferAndNeitherIsTold) {
  const auto trio = OrFatal(dev::Sentinels::Start(
      {.tls = true, .credentials = {"", "data-canary"}, .sentinel_password = "watch-canary"}));
  const auto url = [&](std::string_view data, std::string_view sentinel) {
    return StrCat("rediss+sentinel://default:", data, "@", Hosts(*trio),
                  "/mymaster/2?ca_file=", trio->ca_file(), "&sentinel_password=", sentinel);
  };
  ASSERT_OK_AND_ASSIGN(const Client client,
                       Client::Connect(url("data-canary", "watch-canary"), Options()));
  ASSERT_OK(client.Command({"SET", "k", "v"}));
  ASSERT_OK_AND_ASSIGN(
      const Client named,
      Client::Connect(StrCat(url("data-canary", "watch-canary"), "&sentinel_user=default"),
                      Options()));
  ASSERT_OK(Mutex(named, "l").Acquire(absl::Seconds(5)).status());
  EXPECT_TRUE(named.Health().whole());

  const absl::Status data = Client::Connect(url("wrong-canary", "watch-canary")).status();
  EXPECT_THAT(data,
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr(StrCat(trio->server(0).port())), Not(HasSubstr("canary")))));
  const absl::Status sentinel = Client::Connect(url("data-canary", "wrong-canary")).status();
  EXPECT_THAT(sentinel, StatusIs(absl::StatusCode::kUnauthenticated,
                                 AllOf(HasSubstr(StrCat(trio->sentinel(0).port())),
                                       Not(HasSubstr("canary")))));
  // Over TLS a failover is followed as well.
  Events events;
  ClientOptions options = Options();
  options.on_node_event = events.Listener();
  {
    ASSERT_OK_AND_ASSIGN(const Client follows,
                         Client::Connect(url("data-canary", "watch-canary"), options));
    OrFatal(trio->KillMaster());
    EXPECT_OK(Counter(follows, "c")
                  .Add(1, {.operation_id = OperationId::New()}, {.timeout = absl::Seconds(30)})
                  .status());
    EXPECT_TRUE(Eventually([&] { return events.failovers() == 1; }));
    EXPECT_EQ(FailoversInHistory(follows), 1);
  }
}

}  // namespace
}  // namespace coord
