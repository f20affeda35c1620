// CappedList on one server: never over its cap, and a sequence that never goes back.
#include "coord/capped_list.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

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

constexpr char kList[] = "coord:{events}:list";
constexpr char kSequence[] = "coord:{events}:seq";

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class CappedListTest : public ::testing::Test {
 protected:
  CappedList Of(std::int64_t max_items) {
    CappedListOptions options;
    options.max_items = max_items;
    return CappedList(client_, "events", options);
  }
  CappedList Of(std::int64_t max_items, absl::Duration ttl) {
    CappedListOptions options;
    options.max_items = max_items;
    options.ttl = ttl;
    return CappedList(client_, "events", options);
  }
  static absl::StatusOr<PushResult> Push(const CappedList& list,
                                         std::vector<std::string_view> items) {
    return list.Push(items);
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
};

TEST_F(CappedListTest, KeepsTheNewestOldestFirst) {
  const CappedList list = Of(3);
  EXPECT_THAT(list.Range(), IsOkAndHolds(IsEmpty()));
  for (const char* item : {"a", "b", "c"}) {
    ASSERT_OK_AND_ASSIGN(const PushResult result, list.Push(item));
    EXPECT_EQ(result.evicted, 0);
  }
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b", "c")));
  ASSERT_OK_AND_ASSIGN(const PushResult result, list.Push("d"));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 1);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("b", "c", "d")));
}

TEST_F(CappedListTest, CountsWhatWentAlsoOfAPushLargerThanTheCap) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(list, {"1", "2", "3", "4", "5"}));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 2);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("3", "4", "5")));
  ASSERT_OK_AND_ASSIGN(result, Push(list, {"6", "7"}));
  EXPECT_EQ(result.length, 3);
  EXPECT_EQ(result.evicted, 2);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("5", "6", "7")));
  ASSERT_OK_AND_ASSIGN(result, Push(list, {"8", "9", "10", "11"}));
  EXPECT_EQ(result.evicted, 4);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("9", "10", "11")));
  // A smaller cap than before goes at once.
  ASSERT_OK_AND_ASSIGN(result, Of(1).Push("12"));
  EXPECT_EQ(result.length, 1);
  EXPECT_EQ(result.evicted, 3);
}

TEST_F(CappedListTest, NobodyEverSeesItOverItsCap) {
  constexpr int kThreads = 8;
  const CappedList list = Of(10);
  std::atomic<int> running = kThreads;
  std::atomic<std::int64_t> pushed = 0;
  std::atomic<std::int64_t> evicted = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 100; ++round) {
        const std::vector<std::string_view> items(static_cast<std::size_t>(1 + (round + i) % 25),
                                                  "item");
        const absl::StatusOr<PushResult> result = list.Push(items);
        EXPECT_OK(result.status());
        if (!result.ok()) break;
        EXPECT_LE(result->length, 10);
        pushed += static_cast<std::int64_t>(items.size());
        evicted += result->evicted;
      }
      --running;
    });
  }
  int observations = 0;
  std::int64_t longest = 0;
  while (running > 0) {
    longest = std::max(longest, redis_.Integer({"LLEN", kList}));
    ++observations;
  }
  threads.clear();
  EXPECT_EQ(longest, 10);
  EXPECT_GT(observations, 50);
  EXPECT_EQ(pushed - evicted, redis_.Integer({"LLEN", kList}));
}

TEST_F(CappedListTest, APushOfManyItemsIsNotMixedWithAnother) {
  const CappedList list = Of(1000);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        const std::string item(1, static_cast<char>('a' + i));
        const std::vector<std::string_view> items(5, item);
        for (int round = 0; round < 20; ++round) EXPECT_OK(list.Push(items).status());
      });
    }
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> items, list.Range());
  ASSERT_EQ(items.size(), 400u);
  for (std::size_t i = 0; i < items.size(); ++i) ASSERT_EQ(items[i], items[i / 5 * 5]) << i;
}

// ---- The sequence ----

TEST_F(CappedListTest, TheSequenceRisesByOneAnItemThroughTrims) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  EXPECT_GT(first.sequence, 0);
  ASSERT_OK_AND_ASSIGN(const PushResult second, Push(list, {"b", "c"}));
  EXPECT_EQ(second.sequence, first.sequence + 2);
  ASSERT_OK_AND_ASSIGN(const PushResult third, Push(list, {"d", "e", "f", "g"}));
  EXPECT_EQ(third.sequence, first.sequence + 6);
}

TEST_F(CappedListTest, TheSequencesOfManyWritersAreDistinct) {
  const CappedList list = Of(5);
  std::vector<std::vector<std::int64_t>> seen(8);
  {
    std::vector<std::jthread> threads;
    for (std::vector<std::int64_t>& mine : seen) {
      threads.emplace_back([&] {
        for (int round = 0; round < 50; ++round) {
          const absl::StatusOr<PushResult> result = list.Push("item");
          if (result.ok()) mine.push_back(result->sequence);
        }
      });
    }
  }
  std::set<std::int64_t> all;
  for (const std::vector<std::int64_t>& mine : seen) {
    EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
    all.insert(mine.begin(), mine.end());
  }
  ASSERT_EQ(all.size(), 400u);
  EXPECT_EQ(*all.rbegin() - *all.begin(), 399);
}

TEST_F(CappedListTest, TheSequenceRisesThoughTheListIsLost) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(PushResult result, list.Push("a"));
  std::int64_t last = result.sequence;
  redis_.Command({"DEL", kList});
  ASSERT_OK_AND_ASSIGN(result, list.Push("b"));
  EXPECT_GT(result.sequence, last);
  EXPECT_EQ(result.length, 1);
  last = result.sequence;
  redis_.Command({"FLUSHALL"});
  ASSERT_OK_AND_ASSIGN(result, list.Push("c"));
  EXPECT_GT(result.sequence, last);
}

TEST_F(CappedListTest, TheSequenceRisesThoughTheListHasExpired) {
  const CappedList list = Of(3, absl::Milliseconds(50));
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(list, {"a", "b"}));
  const std::int64_t last = result.sequence;
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kList}) == 0; }));
  ASSERT_OK_AND_ASSIGN(result, list.Push("c"));
  EXPECT_GT(result.sequence, last);
  EXPECT_EQ(result.length, 1);
}

TEST_F(CappedListTest, TheSequenceRisesThroughARestartWithoutMemory) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(PushResult result, list.Push("a"));
  const std::int64_t last = result.sequence;
  server_.Restart(RedisServer::Data::kDrop);
  EXPECT_TRUE(Eventually([&] { return client_.Command({"PING"}).ok(); }));
  ASSERT_OK_AND_ASSIGN(result, list.Push("b"));
  EXPECT_GT(result.sequence, last);
}

TEST_F(CappedListTest, TheSequenceRisesThoughTheClockHasSteppedBackAndTheDataIsKept) {
  const CappedList list = Of(3);
  ASSERT_OK(list.Push("a").status());
  const Reply now = redis_.Command({"TIME"});
  const std::int64_t ahead = (std::stoll(now.items()[0].text()) + 3600) * 1'000'000;
  redis_.Command({"SET", kSequence, std::to_string(ahead), "KEEPTTL"});
  ASSERT_OK_AND_ASSIGN(PushResult result, list.Push("b"));
  EXPECT_EQ(result.sequence, ahead + 1);
  redis_.Command({"DEL", kList});
  ASSERT_OK_AND_ASSIGN(result, list.Push("c"));
  EXPECT_GT(result.sequence, ahead + 1);
}

// ---- Range and items ----

TEST_F(CappedListTest, RangeCountsFromBothEnds) {
  const CappedList list = Of(10);
  ASSERT_OK(Push(list, {"a", "b", "c", "d", "e"}).status());
  EXPECT_THAT(list.Range(0, 0), IsOkAndHolds(ElementsAre("a")));
  EXPECT_THAT(list.Range(1, 3), IsOkAndHolds(ElementsAre("b", "c", "d")));
  EXPECT_THAT(list.Range(-2, -1), IsOkAndHolds(ElementsAre("d", "e")));
  EXPECT_THAT(list.Range(-100, 100), IsOkAndHolds(ElementsAre("a", "b", "c", "d", "e")));
  EXPECT_THAT(list.Range(3, 1), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(list.Range(5, 9), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(list.Range(INT64_MIN, INT64_MAX), IsOkAndHolds(ElementsAre("a", "b", "c", "d", "e")));
}

TEST_F(CappedListTest, ItemsAreAnyBytes) {
  const CappedList list = Of(10);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::string protocol = "\r\n$3\r\nabc\r\n*1\r\n";
  ASSERT_OK(Push(list, {all, "", protocol}).status());
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre(all, "", protocol)));
  EXPECT_EQ(redis_.Text({"LINDEX", kList, "0"}), all);
}

TEST_F(CappedListTest, TheMostItemsOfOnePushAreTaken) {
  const CappedList list = Of(10'000);
  const std::vector<std::string_view> items(4096, "x");
  ASSERT_OK_AND_ASSIGN(const PushResult result, list.Push(items));
  EXPECT_EQ(result.length, 4096);
  const std::string large(20'000'000, 'L');
  ASSERT_OK(list.Push(large, {.timeout = absl::Seconds(30)}).status());
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> last,
                       list.Range(-1, -1, {.timeout = absl::Seconds(30)}));
  ASSERT_EQ(last.size(), 1u);
  EXPECT_TRUE(last[0] == large);
}

TEST_F(CappedListTest, TheTimeToLiveIsSetByEveryPushOrLeftAlone) {
  ASSERT_OK(Of(3).Push("a").status());
  EXPECT_EQ(redis_.Integer({"PTTL", kList}), -1);
  ASSERT_OK(Of(3, absl::Seconds(60)).Push("b").status());
  EXPECT_GT(redis_.Integer({"PTTL", kList}), 50'000);
  EXPECT_LE(redis_.Integer({"PTTL", kList}), 60'000);
  ASSERT_OK(Of(3, absl::Seconds(600)).Push("c").status());
  EXPECT_GT(redis_.Integer({"PTTL", kList}), 500'000);
  ASSERT_OK(Of(3).Push("d").status());
  EXPECT_GT(redis_.Integer({"PTTL", kList}), 500'000);
  ASSERT_OK(Of(3, absl::Nanoseconds(1)).Push("e").status());  // rounded up to 1 ms
  EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kList}) == 0; }));
}

TEST_F(CappedListTest, KeysOfAnotherTypeAreReportedAndLeftAlone) {
  redis_.Command({"SET", kList, "text"});
  EXPECT_THAT(Of(3).Push("a"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("events")));
  EXPECT_THAT(Of(3).Range(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Text({"GET", kList}), "text");
  redis_.Command({"DEL", kList, kSequence});
  redis_.Command({"RPUSH", kSequence, "a"});
  EXPECT_THAT(Of(3).Push("a"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"LLEN", kSequence}), 1);
}

TEST_F(CappedListTest, APushWhoseReplyIsLostIsUnknownAndPushedOnce) {
  FaultProxy proxy(server_.url());
  const Client client = ConnectTo(proxy.url());
  CappedListOptions options;
  options.max_items = 100;
  const CappedList list(client, "events", options);
  for (int i = 1; i <= 10; ++i) {
    ASSERT_OK(list.Range(0, 0).status());  // connected again
    proxy.ResetBeforeReply();
    const absl::Status status = list.Push("item").status();
    EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
    EXPECT_EQ(redis_.Integer({"LLEN", kList}), i);
  }
}

TEST_F(CappedListTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::int64_t max : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'000'000'001},
                                 std::int64_t{INT64_MIN}, std::int64_t{INT64_MAX}}) {
    const auto refused = StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr("max_items"), HasSubstr(std::to_string(max)), HasSubstr("1000000000")));
    EXPECT_THAT(Of(max).Push("a"), refused);
  }
  for (const absl::Duration ttl : {absl::ZeroDuration(), -absl::Seconds(1),
                                   absl::InfiniteDuration(), absl::Hours(24 * 366 * 100)}) {
    EXPECT_THAT(Of(3, ttl).Push("a"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("ttl"), HasSubstr(absl::FormatDuration(ttl)))));
  }
  for (const std::string& name : {std::string(), std::string(513, 'x'), std::string("}x")}) {
    CappedListOptions options;
    options.max_items = 3;
    const CappedList list(client_, name, options);
    EXPECT_THAT(list.Push("a"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
    EXPECT_THAT(list.Range(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  }
  const CappedList list = Of(3);
  EXPECT_THAT(list.Push(std::span<const std::string_view>()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("item"), HasSubstr("0"), HasSubstr("4096"))));
  const std::vector<std::string_view> many(4097, "x");
  EXPECT_THAT(list.Push(many),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("item"), HasSubstr("4097"), HasSubstr("4096"))));
  const std::string half((32 << 20) + 1, 'x');
  EXPECT_THAT(Push(list, {half, half}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64")));
  EXPECT_THAT(list.Push("a", {.timeout = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "lrange"), 0);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

}  // namespace
}  // namespace coord
