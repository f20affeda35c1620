// Capped lists when replies, connections and messages are lost: each item is pushed once, and read
// once.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/push_filter.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::testing::ElementsAre;

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

CappedList ListOf(const Client& client) {
  CappedListOptions options;
  options.max_items = 1000;
  return CappedList(client, "events", options);
}

TEST(ListFaultTest, WithIdsEachItemIsThereOnceThoughRepliesAreLost) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const CappedList list = ListOf(ConnectTo(proxy.url()));
  std::vector<std::string> pushed;
  std::int64_t first = 0;
  for (int i = 1; i <= 50; ++i) {
    ASSERT_OK(list.Range(0, 0).status());  // connected again
    proxy.ResetBeforeReply();
    pushed.push_back(std::to_string(i));
    ASSERT_OK_AND_ASSIGN(const PushResult result,
                         list.Push(pushed.back(), {.operation_id = OperationId::New()}));
    if (first == 0) first = result.sequence;
    EXPECT_EQ(result.length, i);
    EXPECT_EQ(result.sequence, first + i - 1);
  }
  EXPECT_THAT(ListOf(ConnectTo(server.url())).Range(), IsOkAndHolds(pushed));
}

TEST(ListFaultTest, ATimedOutPushIsResolvedOneWayOrTheOther) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const CappedList slow = ListOf(ConnectTo(proxy.url(), {.timeout = absl::Milliseconds(100)}));
  const CappedList list = ListOf(ConnectTo(server.url()));
  ASSERT_OK(slow.Range().status());
  // It arrived, and its answer did not.
  proxy.Set(Direction::kReplies, {.hold = true});
  const OperationId arrived = OperationId::New();
  EXPECT_TRUE(IsOutcomeUnknown(slow.Push("a", {.operation_id = arrived}).status()));
  ASSERT_OK_AND_ASSIGN(const std::optional<PushResult> result, list.Resolve(arrived));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->length, 1);
  // It is still under way when it is declared void, and refused when it arrives.
  proxy.Heal();
  ASSERT_TRUE(Eventually([&] { return slow.Range().ok(); }));
  proxy.Set(Direction::kRequests, {.hold = true});
  const OperationId held = OperationId::New();
  EXPECT_TRUE(IsOutcomeUnknown(slow.Push("b", {.operation_id = held}).status()));
  ASSERT_OK_AND_ASSIGN(const std::optional<PushResult> none, list.Resolve(held));
  EXPECT_FALSE(none.has_value());
  RawRedis redis(server);
  const std::int64_t before = CommandCalls(redis, "evalsha");
  proxy.Heal();
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis, "evalsha") > before; }));
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a")));
}

TEST(ListFaultTest, AFollowerGetsEachItemOnceThroughBrokenConnections) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const CappedList list = ListOf(ConnectTo(server.url()));
  const CappedList followed = ListOf(ConnectTo(proxy.url()));
  ASSERT_OK_AND_ASSIGN(const PushResult before, list.Push("before"));
  std::atomic<std::int64_t> last = before.sequence;
  std::atomic<bool> orderly = true;
  std::jthread follower([&](std::stop_token stop) {
    (void)followed.Follow(
        before.sequence,
        [&](const ListSlice& slice) {
          if (slice.missed != 0) orderly = false;
          for (const ListItem& item : slice.items) {
            if (item.sequence != last + 1) orderly = false;
            last = item.sequence;
          }
          return true;
        },
        stop);
  });
  for (int i = 1; i <= 20; ++i) {
    if (i % 4 == 0) proxy.ResetBeforeReply();
    ASSERT_OK(list.Push("x").status());
    ASSERT_TRUE(Eventually([&] { return last == before.sequence + i; })) << i;
  }
  EXPECT_TRUE(orderly);
}

TEST(ListFaultTest, AFollowerWhoseMessagesAreLostIsLateByABackstopOnly) {
  RedisServer server;
  testing::PushFilter filter(server.url());
  filter.OnMessage([](const testing::PushMessage&) { return testing::PushVerdict::kDrop; });
  const CappedList list = ListOf(ConnectTo(server.url()));
  const CappedList followed = ListOf(ConnectTo(filter.url()));
  RawRedis redis(server);
  std::atomic<int> items = 0;
  std::jthread follower([&](std::stop_token stop) {
    (void)followed.Follow(
        0,
        [&](const ListSlice& slice) {
          items += static_cast<int>(slice.items.size());
          return true;
        },
        stop);
  });
  for (int i = 1; i <= 2; ++i) {
    ASSERT_TRUE(Eventually([&] {
      // Marked: somebody waits.
      return std::strtod(redis.Command({"GET", "coord:{events}:seq"}).text().c_str(), nullptr) >=
             4e15;
    }));
    const absl::Time pushed = absl::Now();
    ASSERT_OK(list.Push("x").status());
    ASSERT_TRUE(Eventually([&] { return items == i; }));
    EXPECT_LT(absl::Now() - pushed, absl::Seconds(3));
  }
}

}  // namespace
}  // namespace coord
