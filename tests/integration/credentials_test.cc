// Passwords that change while a client runs, from a provider that may be slow, fail, or throw; and
// that no password gets into any output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "coord/mutex.h"
#include "tests/support/deployment.h"
#include "tests/support/fake_server.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::FakeAnswer;
using ::coord::testing::FakeCommand;
using ::coord::testing::FakeServer;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using enum NodeState;

constexpr absl::Duration kLong = absl::Seconds(30);

// What the provider says, and what it does before: to be changed while it is asked.
class Vault {
 public:
  absl::StatusOr<Credentials> Ask() {
    ++asked_;
    std::function<absl::StatusOr<Credentials>()> answer;
    {
      const internal::MutexLock lock(mutex_);
      answer = answer_;
    }
    return answer();
  }
  void Set(std::function<absl::StatusOr<Credentials>()> answer) {
    const internal::MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }
  void SetPassword(const std::string& password) {
    Set([password]() -> absl::StatusOr<Credentials> { return Credentials{"worker", password}; });
  }
  int asked() const { return asked_; }

 private:
  std::atomic<int> asked_ = 0;
  internal::Mutex mutex_;
  std::function<absl::StatusOr<Credentials>()> answer_;
};

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() { SetPassword("canary-1"); }

  // Of the server's; whoever has signed in stays.
  void SetPassword(const std::string& password) {
    EXPECT_EQ(redis_.Text(
                  {"ACL", "SETUSER", "worker", "reset", "on", ">" + password, "~*", "&*", "+@all"}),
              "OK");
  }
  void KillConnections() { redis_.Command({"CLIENT", "KILL", "USER", "worker"}); }
  bool Listens() { return redis_.Text({"CLIENT", "LIST"}).find(" sub=1 ") != std::string::npos; }

  ClientOptions Options() {
    ClientOptions options;
    options.credentials = [vault = vault_] { return vault->Ask(); };
    options.fail_fast_after = absl::Milliseconds(300);
    options.on_node_event = [events = events_](const NodeEvent& event) {
      const internal::MutexLock lock(events->mutex);
      events->all.push_back(event);
    };
    return options;
  }
  Client Connect(ClientOptions options) {
    return OrFatal(Client::Connect(server_.url(), std::move(options)));
  }
  Client Connect() {
    vault_->SetPassword("canary-1");
    return Connect(Options());
  }
  static absl::Status Ping(const Client& client) { return client.Command({"PING"}).status(); }

  struct Events {
    internal::Mutex mutex;
    std::vector<NodeEvent> all;
  };
  std::vector<NodeState> States() {
    const internal::MutexLock lock(events_->mutex);
    std::vector<NodeState> states;
    for (const NodeEvent& event : events_->all) states.push_back(event.state);
    return states;
  }

  const std::shared_ptr<Vault> vault_ = std::make_shared<Vault>();
  const std::shared_ptr<Events> events_ = std::make_shared<Events>();
  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(CredentialsTest, TheProviderIsAskedOnceForEachConnection) {
  const Client client = Connect();
  EXPECT_EQ(vault_->asked(), 1);
  for (int i = 0; i < 10; ++i) ASSERT_OK(Ping(client));
  EXPECT_EQ(vault_->asked(), 1);
  ASSERT_OK_AND_ASSIGN(const Lease lease, Mutex(client, "deploy").TryAcquire());
  EXPECT_OK(Mutex(client, "other").TryAcquire().status());
  // The background connection; it is also asked for who waits.
  ASSERT_OK_AND_ASSIGN(const Client elsewhere, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Lease held, Mutex(elsewhere, "third").TryAcquire());
  std::jthread waiter([&] { EXPECT_OK(Mutex(client, "third").Acquire(kLong).status()); });
  EXPECT_TRUE(Eventually([&] { return Listens(); }));
  EXPECT_OK(held.Release());
  waiter.join();
  EXPECT_EQ(vault_->asked(), 2);
  // That the second one takes a while is no news of the server.
  EXPECT_THAT(States(), ElementsAre(kReady));
  EXPECT_EQ(client.Health().nodes.at(0).last_error, "");
}

TEST_F(CredentialsTest, ANewPasswordIsUsedByTheNextConnectionsAndALeaseLivesOn) {
  const Client client = Connect();
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(6)}).TryAcquire());
  ASSERT_TRUE(Eventually([&] { return Listens(); }));
  for (const std::string password : {"canary-2", "canary-3"}) {
    SetPassword(password);
    vault_->SetPassword(password);
    EXPECT_OK(Ping(client)) << "who is signed in stays so";
    KillConnections();
    EXPECT_TRUE(Eventually([&] { return Ping(client).ok(); }, kLong));
    EXPECT_TRUE(Eventually([&] { return Listens(); }, kLong));
    EXPECT_TRUE(lease.valid());
  }
  // Renewed since, by the background connection.
  EXPECT_TRUE(Eventually(
      [&] {
        return redis_.Integer({"PTTL", "coord:{deploy}:lease"}) > 5500;
      },
      kLong));
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
}

TEST_F(CredentialsTest, ReconnectUsesTheNewPasswordBeforeTheOldConnectionEnds) {
  const Client client = Connect();
  SetPassword("canary-2");
  vault_->SetPassword("canary-2");
  const int before = vault_->asked();
  EXPECT_OK(client.Reconnect());
  EXPECT_GT(vault_->asked(), before);
  EXPECT_OK(Ping(client));
}

TEST_F(CredentialsTest, AProviderThatFailsOrThrowsIsAnErrorThatSaysSoAndIsAskedAgain) {
  const std::pair<std::function<absl::StatusOr<Credentials>()>, std::string> failures[] = {
      {[]() -> absl::StatusOr<Credentials> { return absl::NotFoundError("vault is sealed"); },
       "vault is sealed"},
      {[]() -> absl::StatusOr<Credentials> { throw std::runtime_error("no vault"); }, "no vault"},
      {[]() -> absl::StatusOr<Credentials> { throw 7; }, "thrown"},
  };
  for (const auto& [failure, words] : failures) {
    vault_->Set(failure);
    const absl::Status status = Client::Connect(server_.url(), Options()).status();
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kUnavailable,
                         ::testing::AllOf(HasSubstr("credentials provider"), HasSubstr(words))));
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;

    const Client client = Connect();
    ASSERT_OK_AND_ASSIGN(Lease lease,
                         Mutex(client, "deploy", {.ttl = absl::Seconds(10)}).TryAcquire());
    ASSERT_TRUE(Eventually([&] { return Listens(); }));
    vault_->Set(failure);
    KillConnections();
    absl::Status called;
    EXPECT_TRUE(Eventually([&] {
      called = client.Command({"PING"}, {.timeout = absl::Milliseconds(100)}).status();
      return called.message().find(words) != absl::string_view::npos;
    })) << called;
    EXPECT_FALSE(IsOutcomeUnknown(called));
    vault_->SetPassword("canary-1");
    EXPECT_TRUE(Eventually([&] { return Ping(client).ok(); }, kLong));
    EXPECT_TRUE(Eventually([&] { return Listens(); }, kLong));
    EXPECT_TRUE(lease.valid());
    EXPECT_OK(lease.Release());
  }
}

TEST_F(CredentialsTest, WhileAProviderIsSlowHoldersAreToldInTime) {
  const Client client = Connect();
  ASSERT_OK_AND_ASSIGN(Lease brief, Mutex(client, "brief", {.ttl = absl::Seconds(1)}).TryAcquire());
  ASSERT_OK_AND_ASSIGN(Lease lasting,
                       Mutex(client, "lasting", {.ttl = absl::Seconds(60)}).TryAcquire());
  ASSERT_TRUE(Eventually([&] { return Listens(); }));
  std::atomic<bool> go = false;
  vault_->Set([&]() -> absl::StatusOr<Credentials> {
    EXPECT_TRUE(Eventually([&] { return go.load(); }, absl::Seconds(60)));
    return Credentials{"worker", "canary-1"};
  });
  const int before = vault_->asked();
  KillConnections();
  // It is being asked, by the background thread's word: nobody else calls.
  EXPECT_TRUE(Eventually([&] { return vault_->asked() > before; }));
  EXPECT_TRUE(Eventually([&] { return brief.stop_token().stop_requested(); }));
  EXPECT_FALSE(brief.valid());
  EXPECT_EQ(vault_->asked(), before + 1) << "one question at a time";
  EXPECT_FALSE(go);
  EXPECT_TRUE(lasting.valid());
  go = true;
  EXPECT_TRUE(Eventually([&] { return Listens(); }, kLong));
  EXPECT_OK(lasting.Release());
}

TEST_F(CredentialsTest, ForTheBackgroundThreadTheProviderRunsOnTheUsersExecutor) {
  internal::Mutex mutex;
  std::vector<std::thread::id> askers;
  std::vector<std::jthread> threads;
  internal::Mutex threads_mutex;
  vault_->Set([&]() -> absl::StatusOr<Credentials> {
    const internal::MutexLock lock(mutex);
    askers.push_back(std::this_thread::get_id());
    return Credentials{"worker", "canary-1"};
  });
  std::atomic<int> posted = 0;
  {
    ClientOptions options = Options();
    options.executor = [&](std::function<void()> task) {
      ++posted;
      const internal::MutexLock lock(threads_mutex);
      threads.emplace_back(std::move(task));
    };
    const Client client = Connect(std::move(options));
    EXPECT_TRUE(Eventually([&] { return posted >= 1; }));  // its event
    ASSERT_OK_AND_ASSIGN(const Lease lease, Mutex(client, "deploy").TryAcquire());
    EXPECT_TRUE(Eventually([&] { return Listens(); }));
    client.Close();
  }
  EXPECT_GE(posted, 2);
  const internal::MutexLock lock(mutex);
  ASSERT_EQ(askers.size(), 2u);
  EXPECT_EQ(askers[0], std::this_thread::get_id()) << "the caller's own thread";
  const internal::MutexLock threads_lock(threads_mutex);
  bool on_executor = false;
  for (const std::jthread& thread : threads) {
    on_executor = on_executor || thread.get_id() == askers[1];
  }
  EXPECT_TRUE(on_executor);
}

// The breaker is for servers that cannot be reached. One that refuses us is asked again, be it for
// a caller or for nobody, and never locks us out for good.
TEST_F(CredentialsTest, AfterAWrongPasswordThatLastedTheRightOneIsTakenWithoutReconnect) {
  for (const bool calling : {true, false}) {
    SetPassword("canary-1");
    const Client client = Connect();
    SetPassword("canary-2");
    KillConnections();
    // For longer than it takes to give a server up.
    const Stopwatch watch;
    absl::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = Ping(client);
      return watch.elapsed() > absl::Seconds(2);
    }));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("WRONGPASS")));
    EXPECT_FALSE(coord::IsUnavailable(status)) << status;
    const int before = vault_->asked();
    vault_->SetPassword("canary-2");
    if (calling) {
      EXPECT_TRUE(Eventually([&] { return Ping(client).ok(); }, kLong));
    } else {
      EXPECT_TRUE(Eventually([&] { return States().back() == kReady; }, kLong));
    }
    EXPECT_GT(vault_->asked(), before);
    client.Close();
  }
}

TEST_F(CredentialsTest, AWrongPasswordIsNoStorm) {
  const Client client = Connect();
  SetPassword("canary-2");
  KillConnections();
  const int before = vault_->asked();
  const Stopwatch watch;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        while (watch.elapsed() < absl::Seconds(3)) EXPECT_FALSE(Ping(client).ok());
      });
    }
  }
  // Two connections, each with a handful of attempts until its backoff is at a second, then two in
  // a second.
  EXPECT_LE(vault_->asked() - before, 2 * (25 + 4 * absl::ToDoubleSeconds(watch.elapsed())));
}

TEST_F(CredentialsTest, NoPasswordIsInAnyOutput) {
  std::vector<std::string> said;
  const auto say = [&](const absl::Status& status) { said.push_back(status.ToString()); };
  const Client client = Connect();
  said.push_back(client.ToString());
  SetPassword("canary-2");
  KillConnections();
  for (int i = 0; i < 5; ++i) {
    say(Ping(client));
    say(Counter(client, "hits").Add(1).status());
    say(Mutex(client, "deploy").TryAcquire().status());
    say(client.Reconnect());
  }
  const Health health = client.Health();
  for (const NodeHealth& node : health.nodes) {
    said.push_back(node.last_error);
    say(node.status);
  }
  for (const NodeEvent& event : health.history) said.push_back(event.node + event.reason);
  say(Client::Connect("redis://worker:canary-9@127.0.0.1:1").status());
  say(Client::Connect("redis://worker:canary-9@127.0.0.1:1x").status());
  // Servers, and what stands before them, that quote what they do not know.
  for (const char* code : {"ERR", "NOPERM", "WRONGPASS", "NOAUTH", "X"}) {
    const FakeServer quoting(testing::Answers([&](const FakeCommand& command) -> FakeAnswer {
      std::string line = internal::StrCat("-", code, " unknown command '", command.arguments[0],
                                          "', with args beginning with:");
      for (const std::string& argument : command.arguments) {
        if (argument.find('\n') != std::string::npos) continue;  // a script: an error is one line
        line += " '" + argument + "'";
      }
      return {.bytes = line + "\r\n"};
    }));
    for (const std::string user : {"worker", ""}) {
      const std::string rest = quoting.url().substr(std::string("redis://").size());
      const absl::Status status = Client::Connect("redis://" + user + ":canary-9@" + rest).status();
      EXPECT_FALSE(status.ok());
      say(status);
    }
    vault_->SetPassword("canary-3");
    say(Client::Connect(quoting.url(), Options()).status());
  }
  for (const std::string& text : said) EXPECT_THAT(text, Not(HasSubstr("canary")));
  EXPECT_GT(said.size(), 30u);
}

}  // namespace
}  // namespace coord
