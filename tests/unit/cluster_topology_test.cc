#include "coord/deployment/cluster_topology.h"

#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const ClusterAddress kAsked{"asked", 6379};

Reply Text(std::string text) { return Reply::Text(Reply::Kind::kString, std::move(text)); }
Reply Number(std::int64_t value) { return Reply::Integer(value); }
Reply Array(std::vector<Reply> items) {
  return Reply::Items(Reply::Kind::kArray, std::move(items));
}

Reply SlotsNode(Reply host, std::int64_t port) {
  return Array({std::move(host), Number(port), Text("id"), Array({})});
}
Reply SlotsNode(const char* host, std::int64_t port) { return SlotsNode(Text(host), port); }

struct Node {
  std::string endpoint;
  int port = 0;  // 0: none
  int tls_port = 0;
  std::string role = "master";
  std::string health = "online";
};

Reply Map(Reply::Kind kind, std::vector<std::pair<std::string, Reply>> fields) {
  std::vector<Reply> items;
  for (auto& [name, value] : fields) {
    items.push_back(Text(name));
    items.push_back(std::move(value));
  }
  return Reply::Items(kind, std::move(items));
}

Reply Shard(Reply::Kind kind, const std::vector<std::int64_t>& slots,
            const std::vector<Node>& nodes) {
  std::vector<Reply> numbers, maps;
  for (const std::int64_t slot : slots) numbers.push_back(Number(slot));
  for (const Node& node : nodes) {
    std::vector<std::pair<std::string, Reply>> fields = {{"id", Text("x")}};
    if (node.port != 0) fields.emplace_back("port", Number(node.port));
    if (node.tls_port != 0) fields.emplace_back("tls-port", Number(node.tls_port));
    fields.emplace_back("ip", Text("ip-of-" + node.endpoint));
    fields.emplace_back("endpoint", Text(node.endpoint));
    fields.emplace_back("role", Text(node.role));
    fields.emplace_back("replication-offset", Number(7));
    fields.emplace_back("health", Text(node.health));
    maps.push_back(Map(kind, std::move(fields)));
  }
  std::vector<std::pair<std::string, Reply>> fields;
  fields.emplace_back("slots", Array(std::move(numbers)));
  fields.emplace_back("nodes", Array(std::move(maps)));
  return Map(kind, std::move(fields));
}

class ShardsTest : public ::testing::TestWithParam<Reply::Kind> {};
INSTANTIATE_TEST_SUITE_P(Resp2AndResp3, ShardsTest,
                         ::testing::Values(Reply::Kind::kArray, Reply::Kind::kMap));

TEST(ClusterSlotsTest, MastersOwnTheirRangesAndReplicasAreOthers) {
  const Reply reply =
      Array({Array({Number(5461), Number(16383), SlotsNode("b", 2), SlotsNode("r", 4)}),
             Array({Number(0), Number(99), SlotsNode("a", 1), SlotsNode("b", 3)}),
             Array({Number(200), Number(200), SlotsNode("a", 1)})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterSlots(reply, kAsked));
  EXPECT_THAT(topology.masters, ElementsAre(ClusterAddress{"a", 1}, ClusterAddress{"b", 2}));
  EXPECT_THAT(topology.others, ElementsAre(ClusterAddress{"b", 3}, ClusterAddress{"r", 4}));
  EXPECT_EQ(topology.owner[0], 0);
  EXPECT_EQ(topology.owner[99], 0);
  EXPECT_EQ(topology.owner[100], kNobody);
  EXPECT_EQ(topology.owner[200], 0);
  EXPECT_EQ(topology.owner[5461], 1);
  EXPECT_EQ(topology.owner[16383], 1);
  EXPECT_EQ(topology.covered(), 100 + 1 + 16384 - 5461);
}

TEST(ClusterSlotsTest, AnEmptyHostIsTheOneAskedAndAnUnknownOneIsLeftOut) {
  const Reply reply = Array({Array({Number(0), Number(0), SlotsNode("", 1)}),
                             Array({Number(1), Number(1), SlotsNode(Reply(), 2)}),
                             Array({Number(2), Number(2), SlotsNode("?", 3)})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterSlots(reply, kAsked));
  EXPECT_THAT(topology.masters,
              ElementsAre(ClusterAddress{"asked", 1}, ClusterAddress{"asked", 2}));
  EXPECT_EQ(topology.owner[2], kNobody);
  EXPECT_THAT(topology.others, IsEmpty());
}

TEST(ClusterSlotsTest, ASlotClaimedTwiceGoesToTheLaterClaim) {
  const Reply reply = Array({Array({Number(0), Number(9), SlotsNode("a", 1)}),
                             Array({Number(5), Number(5), SlotsNode("b", 2)})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterSlots(reply, kAsked));
  EXPECT_EQ(topology.masters[topology.owner[5]], (ClusterAddress{"b", 2}));
  EXPECT_EQ(topology.masters[topology.owner[6]], (ClusterAddress{"a", 1}));
}

TEST(ClusterSlotsTest, AnEmptyClusterHasNoOwners) {
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterSlots(Array({}), kAsked));
  EXPECT_EQ(topology.covered(), 0);
  EXPECT_EQ(topology, Topology());
}

TEST(ClusterSlotsTest, WhatIsNotAsDocumentedIsDataLoss) {
  const auto range = [](std::int64_t first, std::int64_t last, std::int64_t port) {
    return Array({Array({Number(first), Number(last), SlotsNode("a", port)})});
  };
  EXPECT_OK(ReadClusterSlots(range(0, 16383, 65535), kAsked));
  const std::pair<Reply, std::string> wrong[] = {
      {range(0, 16384, 1), "slots outside"},
      {range(-1, 5, 1), "slots outside"},
      {range(5, 4, 1), "slots outside"},
      {range(0, 1, 0), "port outside"},
      {range(0, 1, 65536), "port outside"},
      {Reply(), "no array"},
      {Array({Number(1)}), "not a range"},
      {Array({Array({Number(0), Number(1)})}), "not a range"},
      {Array({Array({Number(0), Number(1), Text("a")})}), "not a node"},
      {Array({Array({Text("0"), Number(1), SlotsNode("a", 1)})}), "slots outside"},
      {Array({Array({Number(0), Number(1), Array({Number(1), Number(1)})})}), "not a node"},
  };
  for (const auto& [reply, why] : wrong) {
    EXPECT_THAT(ReadClusterSlots(reply, kAsked),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(why)));
  }
  EXPECT_THAT(ReadClusterSlots(Reply::Text(Reply::Kind::kError,
                                           "ERR This instance has cluster support disabled"),
                               kAsked),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("disabled")));
}

TEST(ClusterSlotsTest, NodesAreBounded) {
  std::vector<Reply> entries;
  for (int i = 0; i < 1000; ++i) {
    entries.push_back(Array({Number(i), Number(i), SlotsNode("a", i + 1)}));
  }
  EXPECT_OK(ReadClusterSlots(Array(entries), kAsked));
  entries.push_back(Array({Number(1000), Number(1000), SlotsNode("b", 1)}));
  EXPECT_THAT(ReadClusterSlots(Array(entries), kAsked),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("1000 nodes")));
  const std::vector<Reply> ranges(kSlots + 1, Array({Number(0), Number(0), SlotsNode("a", 1)}));
  EXPECT_THAT(ReadClusterSlots(Array(ranges), kAsked),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ranges")));
}

TEST_P(ShardsTest, TheMasterOfAShardOwnsItsSlots) {
  const Reply reply =
      Array({Shard(GetParam(), {0, 5, 10, 15}, {{"r", 1, 0, "replica"}, {"a", 1}}),
             Shard(GetParam(), {}, {{"empty", 9}}), Shard(GetParam(), {16, 16383}, {{"b", 2}})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterShards(reply, kAsked, false));
  EXPECT_THAT(topology.masters, ElementsAre(ClusterAddress{"a", 1}, ClusterAddress{"b", 2}));
  EXPECT_THAT(topology.others, ElementsAre(ClusterAddress{"empty", 9}, ClusterAddress{"r", 1}));
  EXPECT_EQ(topology.covered(), 6 + 6 + 16384 - 16);
}

TEST_P(ShardsTest, TlsTakesTheTlsPortWhereThereIsOne) {
  const Reply reply =
      Array({Shard(GetParam(), {0, 0}, {{"a", 1, 11}}), Shard(GetParam(), {1, 1}, {{"b", 2, 0}}),
             Shard(GetParam(), {2, 2}, {{"c", 0, 13}})});
  ASSERT_OK_AND_ASSIGN(const Topology secure, ReadClusterShards(reply, kAsked, true));
  EXPECT_THAT(secure.masters, ElementsAre(ClusterAddress{"a", 11}, ClusterAddress{"b", 2},
                                          ClusterAddress{"c", 13}));
  ASSERT_OK_AND_ASSIGN(const Topology plain, ReadClusterShards(reply, kAsked, false));
  EXPECT_THAT(plain.masters, ElementsAre(ClusterAddress{"a", 1}, ClusterAddress{"b", 2}));
  EXPECT_EQ(plain.owner[2], kNobody);
}

TEST_P(ShardsTest, AnOnlineMasterIsPreferredAndAFailedOneIsBetterThanNone) {
  const Reply reply =
      Array({Shard(GetParam(), {0, 0}, {{"dead", 1, 0, "master", "failed"}, {"alive", 2}}),
             Shard(GetParam(), {1, 1}, {{"ill", 3, 0, "master", "failed"}}),
             Shard(GetParam(), {2, 2}, {{"r", 4, 0, "replica"}})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterShards(reply, kAsked, false));
  EXPECT_THAT(topology.masters, ElementsAre(ClusterAddress{"alive", 2}, ClusterAddress{"ill", 3}));
  EXPECT_THAT(topology.others, ElementsAre(ClusterAddress{"dead", 1}, ClusterAddress{"r", 4}));
  EXPECT_EQ(topology.owner[2], kNobody);
}

TEST_P(ShardsTest, AFailedMasterTakesNoSlotFromAnother) {
  const Node dead{"dead", 1, 0, "master", "failed"};
  const Node alive{"alive", 2};
  for (const bool dead_first : {true, false}) {
    const Reply reply = Array({Shard(GetParam(), {0, 0}, {dead_first ? dead : alive}),
                               Shard(GetParam(), {0, 0}, {dead_first ? alive : dead})});
    ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterShards(reply, kAsked, false));
    EXPECT_THAT(topology.masters, ElementsAre(ClusterAddress{"alive", 2})) << dead_first;
  }
}

TEST_P(ShardsTest, UnknownEndpointsAreLeftOutAndEmptyOnesAreTheHostAsked) {
  const Reply reply =
      Array({Shard(GetParam(), {0, 0}, {{"?", 1}}), Shard(GetParam(), {1, 1}, {{"", 2}})});
  ASSERT_OK_AND_ASSIGN(const Topology topology, ReadClusterShards(reply, kAsked, false));
  EXPECT_THAT(topology.masters, ElementsAre(ClusterAddress{"asked", 2}));
  EXPECT_EQ(topology.owner[0], kNobody);
}

TEST_P(ShardsTest, WhatIsNotAsDocumentedIsDataLoss) {
  const auto fails = [](const Reply& reply) {
    return ReadClusterShards(reply, kAsked, false).status().code() == absl::StatusCode::kDataLoss;
  };
  EXPECT_TRUE(fails(Reply()));
  EXPECT_TRUE(fails(Array({Text("x")})));
  EXPECT_TRUE(fails(Array({Shard(GetParam(), {0}, {{"a", 1}})})));
  EXPECT_TRUE(fails(Array({Shard(GetParam(), {0, 16384}, {{"a", 1}})})));
  EXPECT_TRUE(fails(Array({Shard(GetParam(), {0, 1}, {{"a", 70000}})})));
  EXPECT_TRUE(fails(Array({Map(GetParam(), {{"slots", Array({})}})})));
}

// Turns one random part of `reply` into something else.
void Mutate(Reply& reply, std::mt19937& random) {
  if (!reply.items().empty() && random() % 8 != 0) {
    std::vector<Reply>& items = reply.mutable_items();
    const std::size_t at = random() % items.size();
    if (random() % 16 == 0) {
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    }
    Mutate(items[at], random);
    return;
  }
  switch (random() % 6) {
    case 0:
      reply = Reply();
      break;
    case 1:
      reply = Number(static_cast<std::int64_t>(random() % 70000) - 10);
      break;
    case 2:
      reply = Text(random() % 2 == 0 ? "?" : "");
      break;
    case 3:
      reply = Array({});
      break;
    case 4:
      reply = Reply::Text(Reply::Kind::kError, "ERR no");
      break;
    default:
      reply = Reply::Items(Reply::Kind::kMap, {Text("slots")});
  }
}

TEST(ClusterTopologyTest, MutatedRepliesNeverCrashAndOwnersAreMasters) {
  using Kind = Reply::Kind;
  const Reply slots =
      Array({Array({Number(0), Number(99), SlotsNode("a", 1), SlotsNode("b", 3)}),
             Array({Number(100), Number(16383), SlotsNode("b", 2), SlotsNode("r", 4)})});
  const Reply shards[] = {
      Array({Shard(Kind::kArray, {0, 5, 10, 15}, {{"r", 1, 0, "replica"}, {"a", 1}}),
             Shard(Kind::kArray, {16, 99}, {{"b", 2, 3}})}),
      Array({Shard(Kind::kMap, {0, 5}, {{"r", 1, 0, "replica"}, {"a", 1}}),
             Shard(Kind::kMap, {16, 99}, {{"b", 2, 3}})})};
  std::mt19937 random(3);
  const auto check = [](const absl::StatusOr<Topology>& topology) {
    if (!topology.ok()) return;
    ASSERT_EQ(topology->owner.size(), static_cast<std::size_t>(kSlots));
    for (const std::uint16_t owner : topology->owner) {
      ASSERT_TRUE(owner == kNobody || owner < topology->masters.size());
    }
  };
  for (int i = 0; i < 4000; ++i) {
    Reply first = slots;
    Reply second = shards[i % 2];
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
      Mutate(first, random);
      Mutate(second, random);
    }
    check(ReadClusterSlots(first, kAsked));
    check(ReadClusterShards(second, kAsked, i % 3 == 0));
  }
}

TEST(RedirectTest, MovedAndAskAreRead) {
  EXPECT_EQ(ReadRedirect("MOVED 3999 127.0.0.1:6381", kAsked),
            (Redirect{false, 3999, {"127.0.0.1", 6381}}));
  EXPECT_EQ(ReadRedirect("ASK 16383 host.example:1", kAsked),
            (Redirect{true, 16383, {"host.example", 1}}));
  EXPECT_EQ(ReadRedirect("ASK 0 [::1]:6381", kAsked), (Redirect{true, 0, {"::1", 6381}}));
  EXPECT_EQ(ReadRedirect("ASK 0 ::1:6381", kAsked), (Redirect{true, 0, {"::1", 6381}}));
  EXPECT_EQ(ReadRedirect("MOVED 1 :6381", kAsked), (Redirect{false, 1, {"asked", 6381}}));
}

TEST(RedirectTest, WhatIsMalformedIsNoRedirect) {
  for (const std::string_view error : {"",
                                       "MOVED",
                                       "MOVED ",
                                       "MOVED 1",
                                       "MOVED 1 ",
                                       "MOVED 1 a",
                                       "MOVED 1 a:",
                                       "MOVED 1 a:0",
                                       "MOVED 1 a:65536",
                                       "MOVED 1 a:6x",
                                       "MOVED x a:1",
                                       "MOVED -1 a:1",
                                       "MOVED 16384 a:1",
                                       "MOVED 1 a b:1",
                                       "MOVED  1 a:1",
                                       "moved 1 a:1",
                                       "MOVED 1 ?:1",
                                       "MOVED 1 []:1",
                                       "ERR MOVED 1 a:1",
                                       "ASKING 1 a:1",
                                       "MOVED 1 [::1:1",
                                       "MOVED 99999999999999999999 a:1"}) {
    EXPECT_EQ(ReadRedirect(error, kAsked), std::nullopt) << error;
  }
}

}  // namespace
}  // namespace coord::internal
