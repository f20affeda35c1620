// What connecting again costs: round trips, attempts, and how they spread over time; and how soon
// it begins when packets vanish.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "scripts.h"
#include "tests/support/deployment.h"
#include "tests/support/fake_server.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/own_namespaces.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/servers.h"

namespace coord {
namespace {

using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FakeAnswer;
using ::coord::testing::FakeCommand;
using ::coord::testing::FakeServer;
using ::coord::testing::FaultProxy;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(30);

// ---- Round trips ----

// Says nothing until the last command of signing in has come: who waits for an answer before, waits
// in vain.
class ReticentServer {
 public:
  std::string url() const { return server_.url(); }
  std::size_t accepted() { return server_.accepted(); }
  std::vector<FakeCommand> commands() { return server_.commands(); }

 private:
  struct Signing {
    std::size_t loads = 0;
    std::string answers;
    bool done = false;
  };
  FakeAnswer Answer(const FakeCommand& command) {
    Signing& signing = signing_[command.connection];
    const std::string& name = command.arguments[0];
    std::string answer = "+OK\r\n";
    if (name == "HELLO") answer = "%2\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n";
    if (name == "SUBSCRIBE") {
      const std::string& channel = command.arguments.at(1);
      answer = internal::StrCat(">3\r\n$9\r\nsubscribe\r\n$", channel.size(), "\r\n", channel,
                                "\r\n:1\r\n");
    }
    if (signing.done) return {.bytes = name == "PING" ? "+PONG\r\n" : answer};
    if (name == "SCRIPT") ++signing.loads;
    signing.answers += answer;
    signing.done = signing.loads == internal::AllScripts().size();
    return {.bytes = signing.done ? signing.answers : ""};
  }

  std::map<std::size_t, Signing> signing_;  // the server's thread's
  FakeServer server_{
      testing::Answers([this](const FakeCommand& command) { return Answer(command); })};
};

TEST(ReconnectCostTest, SigningInWithAllScriptsIsOneRoundTripForBothConnections) {
  ReticentServer server;
  ClientOptions options;
  options.health_check_period = absl::Milliseconds(50);  // the background connection
  options.connect_timeout = kLong;
  const std::string rest = server.url().substr(std::string("redis://").size());
  const Client client = OrFatal(Client::Connect("redis://worker:secret@" + rest + "/3", options));
  EXPECT_OK(client.Command({"PING"}).status());
  EXPECT_TRUE(Eventually([&] { return server.accepted() == 2; }, kLong));
  for (std::size_t round = 0; round < 2; ++round) {
    // Each has to have said its PING, behind all the rest.
    std::vector<std::vector<FakeCommand>> of(2 * round + 2);
    EXPECT_TRUE(Eventually(
        [&] {
          (void)client.Command({"PING"});
          for (auto& commands : of) commands.clear();
          for (FakeCommand& command : server.commands()) {
            if (command.connection < of.size()) of[command.connection].push_back(command);
          }
          return std::all_of(of.begin(), of.end(), [](const auto& commands) {
            return !commands.empty() && commands.back().arguments[0] == "PING";
          });
        },
        kLong));
    for (const auto& commands : of) {
      ASSERT_FALSE(commands.empty());
      EXPECT_THAT(commands[0].arguments,
                  ::testing::ElementsAre("HELLO", "3", "AUTH", "worker", "secret"));
      EXPECT_EQ(std::count_if(commands.begin(), commands.end(),
                              [](const FakeCommand& c) { return c.arguments[0] == "SELECT"; }),
                1);
    }
    if (round == 0) {
      ASSERT_OK(client.Reconnect());
      EXPECT_TRUE(Eventually([&] { return server.accepted() == 4; }, kLong));
    }
  }
  EXPECT_EQ(server.accepted(), 4u);
}

// About 6 s. TLS 1.3 takes one round trip; the server's side of it cannot be played by a fake.
TEST(ReconnectCostTest, OverTlsItIsOneRoundTripMore) {
  const auto server =
      OrFatal(dev::TlsServer::Start({.credentials = {.user = "", .password = "secret"}}));
  FaultProxy proxy(internal::StrCat("redis://127.0.0.1:", server->server().port()));
  const std::string url = internal::StrCat("rediss://:secret@localhost:", proxy.port(),
                                           "/3?ca_file=", server->ca_file());
  ClientOptions options;
  options.connect_timeout = options.timeout = kLong;
  const Client client = OrFatal(Client::Connect(url, options));
  // Long against what a busy machine does meanwhile.
  const absl::Duration one_way = absl::Milliseconds(700);
  proxy.Set(Direction::kRequests, {.delay = one_way});
  proxy.Set(Direction::kReplies, {.delay = one_way});
  const Stopwatch watch;
  EXPECT_OK(client.Reconnect({.timeout = kLong}));
  const double round_trips = absl::FDivDuration(watch.elapsed(), 2 * one_way);
  std::printf("TLS and signing in: %.2f round trips\n", round_trips);
  EXPECT_GE(round_trips, 1.9);
  EXPECT_LT(round_trips, 2.9);
}

// ---- Many at once ----

// About 8 s. Behind a proxy that counts each attempt, whether the server is there or not.
TEST(HerdTest, TwoHundredClientsComeBackSpreadOverTimeAndAllOfThem) {
  constexpr int kClients = 200;
  constexpr auto kWindow = std::chrono::milliseconds(50);
  testing::RedisServerOptions over_tcp;
  over_tcp.port = 0;
  RedisServer server(over_tcp);
  FaultProxy proxy(server.tcp_url());
  std::vector<Client> clients;
  for (int i = 0; i < kClients; ++i) {
    ClientOptions options;
    options.timeout = kLong;
    options.fail_fast_after = absl::InfiniteDuration();
    clients.push_back(OrFatal(Client::Connect(proxy.url(), options)));
  }
  const std::size_t before = proxy.accepted();
  ASSERT_EQ(before, static_cast<std::size_t>(kClients));

  std::atomic<int> back = 0;
  std::atomic<bool> killed = false;
  std::vector<std::jthread> callers;
  for (const Client& client : clients) {
    callers.emplace_back([&](const std::stop_token& stop) {
      while (!stop.stop_requested() && !killed) std::this_thread::yield();
      while (!stop.stop_requested()) {
        if (client.Command({"PING"}).ok()) break;
      }
      ++back;
    });
  }
  server.Kill();
  killed = true;
  // By the time of arrival, as seen every few milliseconds.
  std::vector<std::pair<std::chrono::steady_clock::time_point, std::size_t>> arrivals;
  std::size_t seen = before;
  const auto look = [&] {
    const std::size_t now = proxy.accepted();
    if (now != seen) arrivals.emplace_back(std::chrono::steady_clock::now(), now - seen);
    seen = now;
  };
  const Stopwatch away;
  EXPECT_TRUE(Eventually([&] {
    look();
    return away.elapsed() > absl::Seconds(4);
  }));
  const std::size_t attempts = seen - before;
  const auto started = std::chrono::steady_clock::now();
  server.Start();
  const Stopwatch returned;
  EXPECT_TRUE(Eventually(
      [&] {
        look();
        return back == kClients;
      },
      kLong));
  const absl::Duration all_back = returned.elapsed();

  // From 1.5 s on each client's delay is uniform within a second, so 200 clients make 400 attempts
  // a second and 20 in a window. Poisson's chance of 60 or more in one of a hundred windows is
  // below 1e-9; if all of them waited for the same time, all 200 came in one. A machine that stalls
  // for a moment makes a full window or two, so those may hold a quarter of all attempts.
  constexpr std::size_t kFull = 60;
  std::map<long, std::size_t> windows;
  std::size_t counted = 0;
  for (const auto& [when, count] : arrivals) {
    const auto after = when - (started - std::chrono::milliseconds(2500));
    if (after.count() < 0) continue;
    windows[static_cast<long>(after / kWindow)] += count;
    counted += count;
  }
  std::size_t most = 0, in_full = 0;
  for (const auto& [window, count] : windows) {
    most = std::max(most, count);
    if (count >= kFull) in_full += count;
  }
  std::printf(
      "%zu attempts in 4 s, most in a window %zu, %zu of %zu in full windows; all back "
      "after %.0f ms\n",
      attempts, most, in_full, counted, absl::ToDoubleMilliseconds(all_back));
  EXPECT_GT(counted, 400u) << "too few to judge";
  EXPECT_LE(in_full * 4, counted);
  // Seven or so until the bound is a second, then two a second: 14.
  EXPECT_LE(attempts, kClients * 24u);
  // Meant: 5 s, of which a second is backoff.
  EXPECT_LT(all_back, absl::Seconds(10));
}

// ---- Packets that vanish ----

class KeepaliveTest : public testing::OwnNamespacesTest {
 protected:
  static void Run(const std::string& line) {
    const testing::ProcessResult result = testing::RunSystemProgram({"sh", "-c", line});
    if (!result.ok()) GTEST_SKIP() << "not allowed here: " << line << ": " << result.err;
  }
};

// About 6 s.
TEST_F(KeepaliveTest, AConnectionIntoABlackHoleIsGivenUpAfterKeepaliveThoughNobodyCalls) {
  if (RanInside()) return;
  if (!testing::HasSystemProgram("iptables")) GTEST_SKIP() << "no program \"iptables\"";
  setenv("XTABLES_LOCKFILE", "/dev/null", 1);
  Run("ip link set lo up");
  if (IsSkipped()) return;
  testing::RedisServerOptions over_tcp;
  over_tcp.port = 0;
  RedisServer server(over_tcp);
  ClientOptions options;
  options.keepalive = absl::Seconds(2);
  options.timeout = absl::Seconds(3);
  const Client client = OrFatal(Client::Connect(server.tcp_url(), options));
  // Its renewals keep the background thread listening; a whole minute between them.
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Minutes(3)}).TryAcquire());
  ASSERT_OK(lease.Renew(absl::Minutes(3)));
  ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(server.unix_url()));
  ASSERT_OK_AND_ASSIGN(Lease held, Mutex(other, "wanted").TryAcquire());
  std::jthread waiter([&] { (void)Mutex(client, "wanted").Acquire(absl::Seconds(3)); });
  RawRedis redis(server);
  ASSERT_TRUE(Eventually([&] {
    return redis.Text({"CLIENT", "LIST"}).find(" sub=1 ") != std::string::npos;
  }));
  waiter.join();

  const std::string rule = internal::StrCat("OUTPUT -p tcp --dport ", server.port(), " -j DROP");
  Run("iptables -w -A " + rule);
  if (IsSkipped()) return;
  const absl::Status cut =
      client.Command({"INCR", "hits"}, {.timeout = absl::Milliseconds(300)}).status();
  EXPECT_TRUE(IsOutcomeUnknown(cut)) << cut;
  const Stopwatch watch;
  const auto open = [&] {
    // Of the client's own side, as the kernel sees it.
    const std::string connections =
        testing::RunSystemProgram(
            {"sh", "-c",
             internal::StrCat("grep -ci ' 0100007F:[0-9A-F]* 0100007F:",
                              absl::StrCat(absl::Hex(server.port(), absl::kZeroPad4)),
                              " 01 ' /proc/net/tcp")})
            .out;
    return std::stoi(connections);
  };
  EXPECT_GT(open(), 0);
  EXPECT_TRUE(Eventually([&] { return open() == 0; }, absl::Seconds(15)));
  std::printf("given up after %.1f s\n", absl::ToDoubleSeconds(watch.elapsed()));
  Run("iptables -w -D " + rule);
  const Stopwatch healed;
  EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }, absl::Seconds(15)));
  std::printf("back %.0f ms after healing\n", absl::ToDoubleMilliseconds(healed.elapsed()));
  EXPECT_TRUE(lease.valid());
  EXPECT_OK(lease.Release());
}

}  // namespace
}  // namespace coord
