// Redirections that lead in circles, to strangers or nowhere, by nodes that lie; and how much is
// asked when many find out at once that something has moved.
#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/deployment/slot.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/deployment.h"
#include "tests/support/fake_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::FakeAnswer;
using ::coord::testing::FakeCommand;
using ::coord::testing::FakeServer;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::OrFatal;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using internal::StrCat;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Bulk(std::string_view text) { return StrCat("$", text.size(), "\r\n", text, "\r\n"); }

// Nodes that share the slots evenly and say what a test wants of everything with a key.
class FakeCluster {
 public:
  using Answer = std::function<std::string(std::size_t node, const FakeCommand& command)>;

  explicit FakeCluster(std::size_t nodes) {
    for (std::size_t i = 0; i < nodes; ++i) {
      nodes_.push_back(std::make_unique<FakeServer>(
          testing::Answers([this, i](const FakeCommand& command) -> FakeAnswer {
            const std::scoped_lock lock(mutex_);
            return {.bytes = Say(i, command)};
          })));
    }
    const std::scoped_lock lock(mutex_);
    for (const auto& node : nodes_) ports_.push_back(node->port());
  }

  void SetAnswer(Answer answer) {
    const std::scoped_lock lock(mutex_);
    answer_ = std::move(answer);
  }
  // Instead of who serves what.
  void SetTopology(std::string bytes) {
    const std::scoped_lock lock(mutex_);
    topology_ = std::move(bytes);
  }
  std::string Topology() {
    const std::scoped_lock lock(mutex_);
    return Shards();
  }

  std::string url() const {
    std::string url = "redis+cluster://";
    for (const int port : ports_) url += StrCat(url.back() == '/' ? "" : ",", "127.0.0.1:", port);
    return url;
  }
  std::string address(std::size_t i) const { return StrCat("127.0.0.1:", ports_[i]); }
  void Kill(std::size_t i) { nodes_[i].reset(); }
  // How often all nodes together were asked that.
  std::size_t Asked(const std::string& command) {
    std::size_t asked = 0;
    for (const auto& node : nodes_) {
      if (node == nullptr) continue;
      for (const FakeCommand& each : node->commands()) asked += each.arguments[0] == command;
    }
    return asked;
  }

 private:
  std::string Say(std::size_t i, const FakeCommand& command) const {
    const std::string& name = command.arguments[0];
    if (name == "HELLO") {
      return StrCat("%3\r\n", Bulk("server"), Bulk("redis"), Bulk("version"), Bulk("7.0.15"),
                    Bulk("proto"), ":3\r\n");
    }
    if (name == "SUBSCRIBE" || name == "SSUBSCRIBE") {
      return StrCat(">3\r\n", Bulk(name == "SUBSCRIBE" ? "subscribe" : "ssubscribe"),
                    Bulk(command.arguments[1]), ":1\r\n");
    }
    if (name == "CLUSTER") return topology_.empty() ? Shards() : topology_;
    if (name == "GET" || name == "EVALSHA" || name == "EVAL") {
      return answer_ ? answer_(i, command) : Bulk("value");
    }
    return "+OK\r\n";
  }

  std::string Shards() const {
    std::string shards = StrCat("*", ports_.size(), "\r\n");
    const std::size_t count = ports_.size();
    for (std::size_t i = 0; i < count; ++i) {
      shards += StrCat("*4\r\n", Bulk("slots"), "*2\r\n:", i * 16384 / count,
                       "\r\n:", (i + 1) * 16384 / count - 1, "\r\n", Bulk("nodes"), "*1\r\n*8\r\n",
                       Bulk("port"), ":", ports_[i], "\r\n", Bulk("ip"), Bulk("127.0.0.1"));
      shards += StrCat(Bulk("role"), Bulk("master"), Bulk("health"), Bulk("online"));
    }
    return shards;
  }

  std::mutex mutex_;
  Answer answer_;
  std::string topology_;
  std::vector<int> ports_;
  std::vector<std::unique_ptr<FakeServer>> nodes_;
};

Client Connect(const std::string& url, absl::Duration timeout = absl::Seconds(20)) {
  ClientOptions options;
  options.timeout = timeout;
  return OrFatal(Client::Connect(url, options));
}

TEST(ClusterRedirectTest, MovedInCirclesEndsByTheNumberOfHops) {
  FakeCluster cluster(2);
  cluster.SetAnswer([&](std::size_t i, const FakeCommand&) {
    return StrCat("-MOVED 1 ", cluster.address(1 - i), "\r\n");
  });
  const Client client = Connect(cluster.url());
  EXPECT_THAT(client.Command({"GET", "k"}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("redirections"), HasSubstr("MOVED 1 "))));
  EXPECT_LE(cluster.Asked("GET"), 20u);
}

TEST(ClusterRedirectTest, AskInCirclesEndsByTheNumberOfHops) {
  FakeCluster cluster(2);
  cluster.SetAnswer([&](std::size_t i, const FakeCommand&) {
    return StrCat("-ASK 1 ", cluster.address(1 - i), "\r\n");
  });
  const Client client = Connect(cluster.url());
  EXPECT_THAT(client.Command({"GET", "k"}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("redirections")));
  EXPECT_LE(cluster.Asked("GET"), 20u);
}

TEST(ClusterRedirectTest, StrangersAreNeverConnectedTo) {
  for (const char* how : {"-MOVED ", "-ASK "}) {
    FakeServer stranger(testing::AnswersAll("+OK\r\n"));
    FakeCluster cluster(2);
    cluster.SetAnswer([&](std::size_t, const FakeCommand&) {
      return StrCat(how, "1 127.0.0.1:", stranger.port(), "\r\n");
    });
    const Client client = Connect(cluster.url(), absl::Seconds(1));
    const Stopwatch watch;
    EXPECT_THAT(
        client.Command({"GET", "k"}),
        StatusIs(absl::StatusCode::kUnavailable, HasSubstr(StrCat("127.0.0.1:", stranger.port()))));
    EXPECT_LT(watch.elapsed(), absl::Seconds(10));
    // What runs behind it is led there too.
    Pipeline pipeline;
    pipeline.Add({"GET", "a"}).Add({"GET", "b"});
    EXPECT_FALSE(client.Execute(pipeline).ok());
    EXPECT_FALSE(Counter(client, "n").Add(1, {.operation_id = OperationId::New()}).ok());
    EXPECT_EQ(stranger.accepted(), 0u);
    EXPECT_LE(cluster.Asked("GET"), 100u);
  }
}

TEST(ClusterRedirectTest, RedirectionsThatCannotBeReadAreToldToTheCaller) {
  FakeCluster cluster(2);
  const Client client = Connect(cluster.url(), absl::Seconds(2));
  for (const std::string error :
       {"MOVED", "MOVED ", "MOVED 1", "MOVED x 127.0.0.1:1", "MOVED 16384 127.0.0.1:6379",
        "MOVED -1 127.0.0.1:6379", "MOVED 1 127.0.0.1:0", "MOVED 1 127.0.0.1:65536",
        "MOVED 1 127.0.0.1", "MOVED 1 ?:6379", "ASK 1 :", "ASK 99999999999999999999 :1",
        "MOVED 1 []:6379"}) {
    cluster.SetAnswer([&](std::size_t, const FakeCommand&) { return StrCat("-", error, "\r\n"); });
    EXPECT_THAT(client.Command({"GET", "k"}),
                StatusIs(absl::StatusCode::kUnavailable,
                         HasSubstr(error.substr(0, error.find_last_not_of(' ') + 1))))
        << error;
  }
  cluster.SetAnswer({});
  EXPECT_OK(client.Command({"GET", "k"}));
}

// A Cluster that answers that about itself.
const char* const kGarbage[] = {"+OK\r\n",
                                "*0\r\n",
                                "*1\r\n:1\r\n",
                                "$-1\r\n",
                                "-ERR no\r\n",
                                "-NOPERM no\r\n",
                                "*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\nh\r\n:1\r\n",
                                "*1\r\n*3\r\n:5\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
                                "*1\r\n*4\r\n$5\r\nslots\r\n*1\r\n:1\r\n$5\r\nnodes\r\n*0\r\n",
                                "*1\r\n*4\r\n$5\r\nslots\r\n*0\r\n$5\r\nnodes\r\n:7\r\n"};

TEST(ClusterRedirectTest, AnUnreadableTopologyFailsTheConnect) {
  for (const char* garbage : kGarbage) {
    FakeCluster cluster(2);
    cluster.SetTopology(garbage);
    ClientOptions options;
    options.connect_timeout = absl::Seconds(5);
    const absl::StatusOr<Client> client = Client::Connect(cluster.url(), options);
    EXPECT_FALSE(client.ok()) << garbage;
    EXPECT_FALSE(client.status().message().empty());
    EXPECT_LE(cluster.Asked("CLUSTER"), 8u) << garbage;
  }
}

TEST(ClusterRedirectTest, AnUnreadableTopologyLaterIsNotAskedForInAStorm) {
  FakeCluster cluster(2);
  const Client client = Connect(cluster.url());
  std::atomic<bool> moved = false;
  cluster.SetAnswer([&](std::size_t i, const FakeCommand&) {
    return moved.exchange(false) ? StrCat("-MOVED 1 ", cluster.address(1 - i), "\r\n")
                                 : Bulk("value");
  });
  for (const char* garbage : {kGarbage[0], kGarbage[1], kGarbage[4], kGarbage[5], kGarbage[6]}) {
    cluster.SetTopology(garbage);
    const std::size_t before = cluster.Asked("CLUSTER");
    moved = true;
    const Stopwatch watch;
    int calls = 0;
    while (watch.elapsed() < absl::Seconds(2)) {
      ASSERT_OK(client.Command({"GET", "k"}));
      ++calls;
    }
    const std::size_t asked = cluster.Asked("CLUSTER") - before;
    std::cout << "asked " << asked << " times in 2 s, beside " << calls << " calls\n";
    EXPECT_GT(asked, 0u);
    EXPECT_LE(asked, 30u) << garbage;
  }
  cluster.SetTopology("");
  EXPECT_OK(client.Command({"GET", "k"}));
}

TEST(ClusterRedirectTest, ACallWaitsForAClusterThatIsDownForAWhile) {
  for (const char* error : {"-CLUSTERDOWN The cluster is down\r\n", "-TRYAGAIN Multiple keys\r\n",
                            "-LOADING Redis is loading the dataset in memory\r\n"}) {
    FakeCluster cluster(2);
    const Stopwatch watch;
    cluster.SetAnswer([&](std::size_t, const FakeCommand&) {
      return watch.elapsed() < absl::Seconds(1) ? std::string(error) : Bulk("value");
    });
    const Client client = Connect(cluster.url());
    ASSERT_OK_AND_ASSIGN(const Reply reply, client.Command({"GET", "k"}));
    EXPECT_EQ(reply.text(), "value");
    EXPECT_LE(cluster.Asked("GET"), 100u);
    // It ends by its own time if that is shorter.
    cluster.SetAnswer([&](std::size_t, const FakeCommand&) { return std::string(error); });
    EXPECT_THAT(
        client.Command({"GET", "k"}, {.timeout = absl::Milliseconds(200)}),
        StatusIs(absl::StatusCode::kUnavailable, HasSubstr(std::string(error).substr(1, 7))));
  }
}

// So it is for a call of several keys, some of which are missing, all the time that their slot
// moves.
TEST(ClusterRedirectTest, ASlotThatMovesForLongIsWaitedForWithinTheCallsTime) {
  FakeCluster cluster(2);
  const std::size_t from = internal::SlotOf("k") < 8192 ? 0 : 1;
  const Stopwatch watch;
  cluster.SetAnswer([&](std::size_t i, const FakeCommand&) {
    if (watch.elapsed() > absl::Seconds(3)) return Bulk("value");
    return i == from
               ? StrCat("-ASK ", internal::SlotOf("k"), " ", cluster.address(1 - from), "\r\n")
               : std::string("-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
  });
  const Client client = Connect(cluster.url());
  EXPECT_OK(client.Command({"GET", "k"}));
  EXPECT_LE(cluster.Asked("GET"), 400u);
}

TEST(ClusterRedirectTest, WithAllNodesDownCallsFailInTimeAndThenAtOnce) {
  FakeCluster cluster(3);
  ClientOptions options;
  options.timeout = absl::Milliseconds(500);
  options.fail_fast_after = absl::Seconds(1);
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(cluster.url(), options));
  std::vector<std::string> keys;
  for (int i = 0; i < 12; ++i) keys.push_back(StrCat("k", i));
  for (const std::string& key : keys) ASSERT_OK(client.Command({"GET", key}));
  for (std::size_t i = 0; i < 3; ++i) cluster.Kill(i);
  const Stopwatch down;
  absl::Duration longest;
  const auto call = [&](const std::string& key) {
    const Stopwatch watch;
    const auto reply = client.Command({"GET", key});
    EXPECT_TRUE(coord::IsUnavailable(reply.status())) << reply.status();
    longest = std::max(longest, watch.elapsed());
    return watch.elapsed();
  };
  while (down.elapsed() < absl::Seconds(4)) {
    for (const std::string& key : keys) call(key);
  }
  EXPECT_LT(longest, absl::Seconds(3));
  std::vector<absl::Duration> quick;
  for (const std::string& key : keys) quick.push_back(call(key));
  std::sort(quick.begin(), quick.end());
  std::cout << "longest " << longest << ", after being given up " << quick[quick.size() / 2]
            << "\n";
  EXPECT_LT(quick[quick.size() / 2], absl::Milliseconds(250));
}

// ---- With real nodes ----

std::int64_t TopologiesAsked(dev::Cluster& cluster) {
  std::int64_t calls = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    for (const char* command : {"cmdstat_cluster|shards", "cmdstat_cluster|slots"}) {
      const std::string line = OrFatal(cluster.node(i).Info("commandstats", command));
      if (!line.empty()) calls += std::stoll(line.substr(line.find("calls=") + 6));
    }
  }
  return calls;
}

TEST(ClusterRedirectTest, ManyClientsThatAreMovedAskOnceEach) {
  constexpr int kClients = 50;
  const auto cluster = OrFatal(dev::Cluster::Start({.replicas = 0}));
  const std::string key = "{moved}";
  const int slot = internal::SlotOf(key);
  std::vector<Client> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(Connect(cluster->url()));
    ASSERT_OK(clients.back().Command({"SET", key, "value"}));
  }
  const std::size_t to = (OrFatal(cluster->master_of(slot)) + 1) % 3;
  OrFatal(cluster->MigrateSlot(slot, to));
  const std::int64_t before = TopologiesAsked(*cluster);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2 * kClients; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 10; ++k) {
        EXPECT_OK(clients[static_cast<std::size_t>(i / 2)].Command({"GET", key}));
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(Eventually([&] { return TopologiesAsked(*cluster) >= before + kClients; }));
  const std::int64_t asked = TopologiesAsked(*cluster) - before;
  std::cout << kClients << " clients asked " << asked << " times\n";
  EXPECT_LE(asked, 2 * kClients);
}

}  // namespace
}  // namespace coord
