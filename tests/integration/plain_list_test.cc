// CappedList::OnKey on one server: a plain list that other programs may share.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Overflow = CappedListOptions::Overflow;

constexpr char kKey[] = "their:events";

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class PlainListTest : public ::testing::Test {
 protected:
  CappedList Of(const CappedListOptions& options, std::string_view key = kKey) {
    return CappedList::OnKey(client_, key, options);
  }
  CappedList Of(std::int64_t max_items) {
    CappedListOptions options;
    options.max_items = max_items;
    return Of(options);
  }
  CappedList Rejecting(std::int64_t max_items) {
    CappedListOptions options;
    options.max_items = max_items;
    options.overflow = Overflow::kReject;
    return Of(options);
  }
  static absl::StatusOr<PushResult> Push(const CappedList& list,
                                         const std::vector<std::string_view>& items) {
    return list.Push(items);
  }
  std::vector<std::string> Values(const ListSlice& slice) {
    std::vector<std::string> values;
    for (const ListItem& item : slice.items) {
      EXPECT_EQ(item.sequence, 0);
      values.push_back(item.value);
    }
    return values;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(PlainListTest, LiesUnderItsKeyAndKeepsNothingElse) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(list, {"a", "b", "c"}));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 0);
  ASSERT_OK_AND_ASSIGN(result, list.Push("d"));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 1);
  EXPECT_EQ(result.sequence, 0);
  EXPECT_TRUE(result.applied);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("b", "c", "d")));
  EXPECT_EQ(redis_.Integer({"LLEN", kKey}), 3);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

TEST_F(PlainListTest, CountsWhatWentAlsoOfAPushLargerThanTheCap) {
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(Of(3), {"1", "2", "3", "4", "5"}));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 2);
  ASSERT_OK_AND_ASSIGN(result, Push(Of(3), {"6", "7", "8", "9"}));
  EXPECT_EQ(result.evicted, 4);
  EXPECT_THAT(Of(3).Range(), IsOkAndHolds(ElementsAre("7", "8", "9")));
  ASSERT_OK_AND_ASSIGN(result, Of(1).Push("10"));
  EXPECT_EQ(result.length, 1);
  EXPECT_EQ(result.evicted, 3);
}

TEST_F(PlainListTest, WhatAnotherProgramHasPushedIsReadAndCounts) {
  redis_.Command({"RPUSH", kKey, "1", "2", "3", "4", "5"});
  const CappedList list = Of(4);
  EXPECT_THAT(list.Range(-2, -1), IsOkAndHolds(ElementsAre("4", "5")));
  ASSERT_OK_AND_ASSIGN(PushResult result, list.Push("6"));
  EXPECT_EQ(result.length, 4);
  EXPECT_EQ(result.evicted, 2);
  redis_.Command({"LPUSH", kKey, "0"});
  ASSERT_OK_AND_ASSIGN(result, list.Push("7"));
  EXPECT_EQ(result.evicted, 2);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("4", "5", "6", "7")));
}

TEST_F(PlainListTest, NewestGoesByPlacesWithoutNumbers) {
  const CappedList list = Of(10);
  EXPECT_THAT(list.Newest(5)->items, IsEmpty());
  ASSERT_OK(Push(list, {"a", "b", "c"}).status());
  ASSERT_OK_AND_ASSIGN(const ListSlice slice, list.Newest(2));
  EXPECT_THAT(Values(slice), ElementsAre("b", "c"));
  EXPECT_EQ(slice.newest, 0);
  EXPECT_EQ(slice.missed, 0);
  EXPECT_THAT(Values(*list.Newest(4096)), ElementsAre("a", "b", "c"));
}

TEST_F(PlainListTest, APushThatWouldExceedTheCapIsRejectedWhole) {
  const CappedList list = Rejecting(3);
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(list, {"a", "b"}));
  EXPECT_TRUE(result.applied);
  EXPECT_EQ(result.length, 2);
  ASSERT_OK_AND_ASSIGN(result, Push(list, {"c", "d"}));
  EXPECT_FALSE(result.applied);
  EXPECT_EQ(result.length, 2);
  EXPECT_EQ(result.evicted, 0);
  ASSERT_OK_AND_ASSIGN(result, list.Push("c"));
  EXPECT_TRUE(result.applied);
  EXPECT_EQ(result.length, 3);
  // Another program knows of no cap.
  redis_.Command({"RPUSH", kKey, "d"});
  ASSERT_OK_AND_ASSIGN(result, list.Push("e"));
  EXPECT_FALSE(result.applied);
  EXPECT_EQ(result.length, 4);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b", "c", "d")));
  EXPECT_THAT(Push(list, {"1", "2", "3", "4"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("4 items"), HasSubstr("max_items is 3"))));
}

TEST_F(PlainListTest, TheTimeToLiveIsSetByEveryPushOrLeftAlone) {
  for (const Overflow overflow : {Overflow::kDropOldest, Overflow::kReject}) {
    redis_.Command({"DEL", kKey});
    CappedListOptions options;
    options.max_items = 10;
    options.overflow = overflow;
    ASSERT_OK(Of(options).Push("a").status());
    EXPECT_EQ(redis_.Integer({"PTTL", kKey}), -1);
    options.ttl = absl::Seconds(60);
    ASSERT_OK(Of(options).Push("b").status());
    EXPECT_GT(redis_.Integer({"PTTL", kKey}), 50'000);
    EXPECT_LE(redis_.Integer({"PTTL", kKey}), 60'000);
    options.ttl = std::nullopt;
    ASSERT_OK(Of(options).Push("c").status());
    EXPECT_GT(redis_.Integer({"PTTL", kKey}), 50'000);
    options.ttl = absl::Nanoseconds(1);  // rounded up to 1 ms
    ASSERT_OK(Of(options).Push("d").status());
    EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kKey}) == 0; }));
  }
}

TEST_F(PlainListTest, AKeyOfAnotherTypeIsReportedAndLeftAlone) {
  redis_.Command({"SET", kKey, "text", "PX", "60000"});
  const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(kKey));
  CappedListOptions options;
  options.max_items = 3;
  options.ttl = absl::Hours(1);
  EXPECT_THAT(Of(options).Push("a"), refused);
  options.overflow = Overflow::kReject;
  EXPECT_THAT(Of(options).Push("a"), refused);
  EXPECT_THAT(Of(3).Range(), refused);
  EXPECT_THAT(Of(3).Newest(1).status(), refused);
  EXPECT_EQ(redis_.Text({"GET", kKey}), "text");
  EXPECT_LE(redis_.Integer({"PTTL", kKey}), 60'000);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

TEST_F(PlainListTest, KeysAndItemsAreAnyBytesUpToTheirLimits) {
  CappedListOptions options;
  options.max_items = 1'000'000'000;
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  for (const std::string& key :
       {std::string("}"), std::string("x"), std::string("a{b}c\r\n"), bytes + bytes}) {
    const CappedList list = Of(options, key);
    ASSERT_OK(Push(list, {bytes, ""}).status());
    EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre(bytes, "")));
    EXPECT_EQ(redis_.Integer({"LLEN", key}), 2);
  }
  const std::vector<std::string_view> items(4096, "x");
  EXPECT_EQ(Of(options).Push(items)->length, 4096);
  options.overflow = Overflow::kReject;
  EXPECT_EQ(Of(options).Push(items)->length, 8192);
}

TEST_F(PlainListTest, WhatNeedsARecordIsRefusedBeforeAnythingIsSentAndSaysWhatToUse) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = [](std::string_view what, std::string_view instead) {
    return StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr(kKey), HasSubstr(std::string(what)), HasSubstr(std::string(instead))));
  };
  const CappedList list = Of(3);
  EXPECT_THAT(list.Since(0).status(), refused("Since", "Newest"));
  EXPECT_THAT(list.Follow(0, [](const ListSlice&) { return false; }), refused("Follow", "name"));
  EXPECT_THAT(list.Resolve(OperationId("x")).status(), refused("Resolve", "name"));
  EXPECT_THAT(list.Push("a", {.operation_id = OperationId("x")}), refused("operation id", "name"));
  CappedListOptions bytes;
  bytes.max_items = 3;
  bytes.max_bytes = 10;
  EXPECT_THAT(Of(bytes).Push("a"), refused("max_bytes", "max_items"));
  CappedListOptions age;
  age.max_items = 3;
  age.max_age = absl::Hours(1);
  EXPECT_THAT(Of(age).Push("a"), refused("max_age", "ttl"));
  EXPECT_THAT(Of(age).Range(), refused("max_age", "ttl"));
  EXPECT_THAT(Of(age).Newest(1).status(), refused("max_age", "ttl"));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "lrange"), 0);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(PlainListTest, EveryLimitIsSaidBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  CappedListOptions options;
  options.max_items = 3;
  for (const std::string& key : {std::string(), std::string(513, 'x')}) {
    const auto refused = StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr("key"), HasSubstr(std::to_string(key.size())), HasSubstr("1 to 512")));
    EXPECT_THAT(Of(options, key).Push("a"), refused);
    EXPECT_THAT(Of(options, key).Range(), refused);
    EXPECT_THAT(Of(options, key).Newest(1).status(), refused);
    EXPECT_THAT(Of(options, key).Since(0).status(), refused);
  }
  for (const std::int64_t max : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'000'000'001}}) {
    EXPECT_THAT(Of(max).Push("a"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000000000")));
  }
  options.ttl = absl::ZeroDuration();
  EXPECT_THAT(Of(options).Push("a"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ttl")));
  EXPECT_THAT(Push(Of(3), {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  EXPECT_THAT(Push(Of(9999), std::vector<std::string_view>(4097, "x")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  const std::string half((32 << 20) + 1, 'x');
  EXPECT_THAT(Push(Of(3), {half, half}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("67108864")));
  EXPECT_THAT(Of(3).Newest(0).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  EXPECT_THAT(Of(3).Newest(4097).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "lrange"), 0);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(PlainListTest, AFullServerLeavesEverythingAsItWas) {
  ASSERT_OK(Push(Of(2), {"a", "b"}).status());
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_FALSE(Of(2).Push("c").ok());
  EXPECT_FALSE(Rejecting(9).Push("c").ok());
  redis_.Command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_THAT(Of(2).Range(), IsOkAndHolds(ElementsAre("a", "b")));
}

TEST_F(PlainListTest, APushWhoseReplyIsLostIsUnknownAndPushedOnce) {
  FaultProxy proxy(server_.url());
  const Client client = ConnectTo(proxy.url());
  CappedListOptions options;
  options.max_items = 100;
  const CappedList list = CappedList::OnKey(client, kKey, options);
  ASSERT_OK(list.Range(0, 0).status());  // connected
  proxy.ResetBeforeReply();
  EXPECT_TRUE(IsOutcomeUnknown(list.Push("item").status()));
  EXPECT_EQ(redis_.Integer({"LLEN", kKey}), 1);
}

}  // namespace
}  // namespace coord
