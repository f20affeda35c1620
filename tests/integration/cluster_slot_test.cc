// What is known of a Cluster without a server, compared with a server that has cluster support.
#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "coord/deployment/cluster_topology.h"
#include "coord/deployment/request_route.h"
#include "coord/deployment/slot.h"
#include "coord/internal/strings.h"
#include "coord/wire/resp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::internal {
namespace {

using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Form = CommandKeys::Form;

class ClusterSlotTest : public ::testing::Test {
 protected:
  RedisServer server_{{.port = 0, .args = {"--cluster-enabled", "yes"}}};
  RawRedis redis_{server_};
};

TEST_F(ClusterSlotTest, TheServerFindsTheSameSlots) {
  std::mt19937 random(11);
  const std::string_view letters("{}{}ab\0\r\n ", 10);
  for (int i = 0; i < 1000; ++i) {
    std::string key(random() % 40, '\0');
    for (char& c : key)
      c = random() % 2 == 0 ? letters[random() % 10] : static_cast<char>(random());
    ASSERT_EQ(redis_.Integer({"CLUSTER", "KEYSLOT", key}), SlotOf(key)) << Quoted(key);
  }
}

TEST_F(ClusterSlotTest, TheServersTopologyIsRead) {
  const ClusterAddress asked{"127.0.0.1", static_cast<std::uint16_t>(server_.port())};
  ASSERT_OK_AND_ASSIGN(const Topology empty,
                       ReadClusterSlots(redis_.Command({"CLUSTER", "SLOTS"}), asked));
  EXPECT_EQ(empty, Topology());

  ASSERT_EQ(redis_.Text({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}), "OK");
  ASSERT_OK_AND_ASSIGN(const Topology slots,
                       ReadClusterSlots(redis_.Command({"CLUSTER", "SLOTS"}), asked));
  EXPECT_EQ(slots.covered(), kSlots);
  EXPECT_THAT(slots.masters, ElementsAre(asked));
  EXPECT_THAT(slots.others, IsEmpty());
  const Reply shards = redis_.Command({"CLUSTER", "SHARDS"});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterShards(shards, asked, false));
  EXPECT_EQ(topology, slots) << shards.ToDebugString(1000);
}

TEST_F(ClusterSlotTest, ARedirectOfTheServerIsRead) {
  const ClusterAddress asked{"127.0.0.1", static_cast<std::uint16_t>(server_.port())};
  const int slot = SlotOf("k");
  ASSERT_EQ(redis_.Text({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}), "OK");
  const auto served = [&] { return !redis_.Command({"GET", "k"}).is_error(); };
  ASSERT_TRUE(coord::testing::Eventually(served, absl::Seconds(20)));
  RedisServer other({.port = 0, .args = {"--cluster-enabled", "yes"}});
  RawRedis its(other);
  ASSERT_EQ(its.Text({"CLUSTER", "MEET", "127.0.0.1", std::to_string(server_.port())}), "OK");
  const auto moved = [&] {
    const Reply answer = its.Command({"GET", "k"});
    const ClusterAddress from{"127.0.0.1", static_cast<std::uint16_t>(other.port())};
    return answer.is_error() && ReadRedirect(answer.text(), from) == Redirect{false, slot, asked};
  };
  EXPECT_TRUE(coord::testing::Eventually(moved, absl::Seconds(20)));
}

TEST_F(ClusterSlotTest, TheTableAgreesWithTheServers) {
  const Reply commands = redis_.Command({"COMMAND"});
  ASSERT_GT(commands.items().size(), 200u);
  std::string unknown;
  for (const Reply& info : commands.items()) {
    ASSERT_GE(info.items().size(), 6u);
    const std::string& name = info.items()[0].text();
    bool movable = false;
    for (const Reply& flag : info.items()[2].items()) movable |= flag.text() == "movablekeys";
    const std::int64_t first = info.items()[3].integer();
    const std::int64_t last = info.items()[4].integer();
    const std::int64_t step = info.items()[5].integer();
    const CommandKeys* const known = FindCommandKeys(name);
    if (known == nullptr) {
      unknown += " " + name;
      continue;
    }
    SCOPED_TRACE(name);
    const bool container =
        name == "object" || name == "memory" || name == "xinfo" || name == "xgroup";
    switch (known->form) {
      case Form::kKeys:
        if (container) break;  // the server tells the keys of the subcommands only
        EXPECT_EQ(known->first, first);
        EXPECT_EQ(known->last, last);
        EXPECT_EQ(known->step, step);
        // Its movable keys are patterns, which are no keys.
        EXPECT_EQ(movable, name == "sort_ro");
        break;
      case Form::kCounted:
      case Form::kStreams:
        EXPECT_TRUE(movable);
        EXPECT_EQ(first, 0);
        break;
      case Form::kCountedBehind:
      case Form::kSort:
      case Form::kGeoRadius:
        EXPECT_TRUE(movable);
        EXPECT_EQ(first, 1);
        EXPECT_EQ(last, 1);
        break;
      case Form::kMigrate:
        EXPECT_TRUE(movable);
        EXPECT_EQ(first, 3);
        break;
      default:
        EXPECT_FALSE(movable);
        EXPECT_EQ(first, 0);
    }
  }
  std::cout << "The table lacks:" << unknown << "\n";
}

// The forms that COMMAND does not tell, by asking the server about examples.
TEST_F(ClusterSlotTest, TheServerFindsTheSameKeys) {
  const std::vector<std::vector<std::string>> examples = {
      {"EVAL", "return 1", "2", "{t}1", "{t}2", "other"},
      {"EVALSHA", "x", "1", "k", "other"},
      {"ZUNIONSTORE", "{t}1", "2", "{t}2", "{t}3", "WEIGHTS", "1", "2"},
      {"ZDIFF", "2", "{t}2", "{t}3", "WITHSCORES"},
      {"SINTERCARD", "1", "k", "LIMIT", "7"},
      {"BLMPOP", "0", "2", "{t}1", "{t}2", "LEFT"},
      {"ZMPOP", "1", "k", "MIN"},
      {"XREAD", "COUNT", "5", "BLOCK", "0", "STREAMS", "{t}1", "{t}2", "0", "0"},
      {"XREADGROUP", "GROUP", "STREAMS", "me", "NOACK", "STREAMS", "k", ">"},
      {"SORT", "{t}1", "BY", "STORE", "LIMIT", "0", "1", "STORE", "{t}2"},
      {"GEORADIUS", "{t}1", "1", "2", "3", "m", "COUNT", "1", "STOREDIST", "{t}2"},
      {"GEORADIUSBYMEMBER", "{t}1", "STORE", "3", "m", "STORE", "{t}2"},
      {"MIGRATE", "h", "1", "", "0", "5", "AUTH2", "u", "KEYS", "KEYS", "{t}1", "{t}2"},
      {"MIGRATE", "h", "1", "k", "0", "5"},
      {"OBJECT", "ENCODING", "k"},
      {"MEMORY", "USAGE", "k"},
      {"XINFO", "STREAM", "k"},
      {"XGROUP", "CREATE", "k", "g", "0"},
      {"MSET", "{t}1", "a", "{t}2", "b"},
      {"BLPOP", "{t}1", "{t}2", "9"},
      {"BITOP", "AND", "{t}1", "{t}2", "{t}3"},
      {"LCS", "{t}1", "{t}2", "LEN"}};
  for (const std::vector<std::string>& example : examples) {
    std::vector<std::string> ask = {"COMMAND", "GETKEYS"};
    ask.insert(ask.end(), example.begin(), example.end());
    const Reply keys = redis_.Command(ask);
    ASSERT_TRUE(keys.is_array()) << example[0] << ": " << keys.ToDebugString();
    KeysRoute expected("Command");
    for (const Reply& key : keys.items()) ASSERT_TRUE(expected.Add(key.text())) << example[0];
    const std::vector<std::string_view> args(example.begin(), example.end());
    std::string bytes;
    AppendCommand(bytes, args);
    EXPECT_THAT(RouteOf(bytes, "Command"), coord::testing::IsOkAndHolds(expected.route()))
        << example[0];
    // Each key is looked at: put elsewhere, it is a stray one.
    if (keys.items().size() < 2) continue;
    for (const Reply& key : keys.items()) {
      std::vector<std::string> strayed = example;
      for (std::string& argument : strayed) {
        if (argument == key.text()) argument = "elsewhere";
      }
      bytes.clear();
      AppendCommand(bytes, std::vector<std::string_view>(strayed.begin(), strayed.end()));
      EXPECT_EQ(RouteOf(bytes, "Command").status().code(), absl::StatusCode::kInvalidArgument)
          << example[0] << " " << key.text();
    }
  }
}

}  // namespace
}  // namespace coord::internal
