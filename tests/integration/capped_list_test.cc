// CappedList on one server: never over its cap, and a sequence that never goes back.
#include "coord/capped_list.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
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
constexpr char kFollowers[] = "coord:{events}:followers";

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

  // That so many have asked to be woken by the next push.
  bool Awaited(int followers = 1) {
    return Eventually([&] {
      const std::string record = redis_.Command({"GET", kSequence}).text();
      const bool marked = std::strtod(record.c_str(), nullptr) >= 4e15;
      return marked && Followers() == followers;
    });
  }
  // Who stands there, woken or not.
  int Followers() {
    const std::string text = redis_.Command({"GET", kFollowers}).text();
    int count = 0;
    for (auto at = text.find(" pushed"); at != std::string::npos; at = text.find(" pushed", at)) {
      ++count;
      ++at;
    }
    return count;
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
  ASSERT_OK(list.Push(large, {}, {.timeout = absl::Seconds(30)}).status());
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
  EXPECT_THAT(list.Push("a", {}, {.timeout = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "lrange"), 0);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(CappedListTest, TheNumbersOutliveTheItemsByAWeekAtEveryPush) {
  const CappedList list = Of(3, absl::Seconds(60));
  constexpr std::int64_t kWeek = 7 * 24 * 3600 * 1000;
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK(list.Push("a").status());
    ASSERT_GT(redis_.Integer({"PTTL", kSequence}), kWeek);
    // As if the next came only just in time.
    const std::int64_t left = redis_.Integer({"PTTL", kSequence});
    redis_.Command({"PEXPIRE", kSequence, std::to_string(left - 59'900)});
  }
}

// ---- Rejecting ----

class RejectingListTest : public CappedListTest {
 protected:
  CappedList Rejecting(std::int64_t max_items) {
    CappedListOptions options;
    options.max_items = max_items;
    options.overflow = CappedListOptions::Overflow::kReject;
    return CappedList(client_, "events", options);
  }
};

TEST_F(RejectingListTest, APushThatWouldExceedTheCapChangesNothing) {
  const CappedList list = Rejecting(3);
  ASSERT_OK_AND_ASSIGN(const PushResult first, Push(list, {"a", "b"}));
  EXPECT_TRUE(first.applied);
  ASSERT_OK_AND_ASSIGN(const PushResult rejected, Push(list, {"c", "d"}));
  EXPECT_FALSE(rejected.applied);
  EXPECT_EQ(rejected.length, 2);
  EXPECT_EQ(rejected.evicted, 0);
  EXPECT_EQ(rejected.sequence, first.sequence);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b")));
  ASSERT_OK_AND_ASSIGN(const PushResult fits, list.Push("c"));
  EXPECT_TRUE(fits.applied);
  EXPECT_EQ(fits.sequence, first.sequence + 1);
  ASSERT_OK_AND_ASSIGN(const PushResult full, list.Push("d"));
  EXPECT_FALSE(full.applied);
  EXPECT_EQ(full.length, 3);
}

TEST_F(RejectingListTest, APushThatNeverFitsIsRefusedBeforeItIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_THAT(Push(Rejecting(2), {"a", "b", "c"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("3 items"), HasSubstr("max_items is 2"))));
  CappedListOptions options;
  options.max_items = 10;
  options.max_bytes = 4;
  EXPECT_THAT(CappedList(client_, "events", options).Push("12345"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("5 bytes"), HasSubstr("max_bytes is 4"))));
  options.overflow = CappedListOptions::Overflow::kReject;
  EXPECT_THAT(Push(CappedList(client_, "events", options), {"123", "45"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_bytes is 4")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
}

// ---- Operation ids ----

TEST_F(CappedListTest, ARepetitionWithAnIdGetsTheFirstAnswerAndPushesNothing) {
  const CappedList list = Of(3);
  const OperationId id = OperationId::New();
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a", {.operation_id = id}));
  ASSERT_OK(Push(list, {"b", "c", "d"}).status());
  ASSERT_OK_AND_ASSIGN(const PushResult second, list.Push("a", {.operation_id = id}));
  EXPECT_EQ(second.length, first.length);
  EXPECT_EQ(second.evicted, first.evicted);
  EXPECT_EQ(second.sequence, first.sequence);
  EXPECT_TRUE(second.applied);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("b", "c", "d")));
}

TEST_F(CappedListTest, AnIdWithOtherItemsOrAnotherCapIsRefused) {
  const OperationId id = OperationId::New();
  const std::vector<std::string_view> items = {"ab", "c"}, other = {"a", "bc"};
  ASSERT_OK(Of(3).Push(items, {.operation_id = id}).status());
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments"));
  EXPECT_THAT(Of(3).Push(other, {.operation_id = id}), refused);
  EXPECT_THAT(Of(4).Push(items, {.operation_id = id}), refused);
  EXPECT_THAT(Of(3, absl::Seconds(9)).Push(items, {.operation_id = id}), refused);
  EXPECT_THAT(Of(3).Push("a", {.operation_id = OperationId("a b")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  EXPECT_THAT(Of(3).Range(), IsOkAndHolds(ElementsAre("ab", "c")));
}

TEST_F(RejectingListTest, ResolveTellsWhatBecameOfAPush) {
  const CappedList list = Rejecting(1);
  const OperationId applied = OperationId::New(), rejected = OperationId::New(),
                    never = OperationId::New();
  ASSERT_OK_AND_ASSIGN(const PushResult pushed, list.Push("a", {.operation_id = applied}));
  ASSERT_OK(list.Push("b", {.operation_id = rejected}).status());
  redis_.Command({"DEL", kList});
  ASSERT_OK_AND_ASSIGN(const std::optional<PushResult> first, list.Resolve(applied));
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(first->applied);
  EXPECT_EQ(first->length, 1);
  EXPECT_EQ(first->sequence, pushed.sequence);
  ASSERT_OK_AND_ASSIGN(const std::optional<PushResult> second, list.Resolve(rejected));
  ASSERT_TRUE(second.has_value());
  EXPECT_FALSE(second->applied);
  // A rejection stays one, though there is room now.
  ASSERT_OK_AND_ASSIGN(const PushResult again, list.Push("b", {.operation_id = rejected}));
  EXPECT_FALSE(again.applied);
  ASSERT_OK_AND_ASSIGN(const std::optional<PushResult> third, list.Resolve(never));
  EXPECT_FALSE(third.has_value());
  EXPECT_THAT(list.Push("c", {.operation_id = never}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("void")));
  EXPECT_EQ(redis_.Integer({"EXISTS", kList}), 0);
}

// ---- Reading by number ----

std::vector<std::string> ValuesOf(const ListSlice& slice) {
  std::vector<std::string> values;
  for (const ListItem& item : slice.items) values.push_back(item.value);
  return values;
}

TEST_F(CappedListTest, SinceAnswersWhatCameAfterWithItsNumbers) {
  const CappedList list = Of(10);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  ASSERT_OK_AND_ASSIGN(ListSlice slice, list.Since(first.sequence));
  EXPECT_THAT(slice.items, IsEmpty());
  EXPECT_EQ(slice.newest, first.sequence);
  EXPECT_EQ(slice.missed, 0);
  ASSERT_OK(Push(list, {"b", "c"}).status());
  ASSERT_OK_AND_ASSIGN(slice, list.Since(first.sequence));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("b", "c"));
  EXPECT_EQ(slice.items[0].sequence, first.sequence + 1);
  EXPECT_EQ(slice.items[1].sequence, first.sequence + 2);
  EXPECT_EQ(slice.newest, first.sequence + 2);
  ASSERT_OK_AND_ASSIGN(slice, list.Since(first.sequence, 1));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("b"));
  ASSERT_OK_AND_ASSIGN(slice, list.Since(0));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("a", "b", "c"));
  EXPECT_EQ(slice.missed, 0);
}

TEST_F(CappedListTest, SinceCountsWhatWasTrimmedBetween) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  ASSERT_OK(Push(list, {"b", "c", "d", "e", "f"}).status());
  ASSERT_OK_AND_ASSIGN(const ListSlice slice, list.Since(first.sequence));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("d", "e", "f"));
  EXPECT_EQ(slice.missed, 2);
  EXPECT_EQ(slice.items[0].sequence, first.sequence + 3);
}

TEST_F(CappedListTest, SinceShowsAGapWhenTheListWasLost) {
  const CappedList list = Of(3);
  EXPECT_EQ(list.Since(0)->newest, 0);
  EXPECT_EQ(list.Since(12345)->missed, 0);
  ASSERT_OK_AND_ASSIGN(const PushResult first, Push(list, {"a", "b"}));
  redis_.Command({"DEL", kList});
  ASSERT_OK_AND_ASSIGN(ListSlice slice, list.Since(first.sequence - 1));
  EXPECT_THAT(slice.items, IsEmpty());
  EXPECT_EQ(slice.missed, 1);
  redis_.Command({"FLUSHALL"});
  ASSERT_OK(list.Push("c").status());
  ASSERT_OK_AND_ASSIGN(slice, list.Since(first.sequence));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("c"));
  EXPECT_GT(slice.missed, 0);
}

TEST_F(CappedListTest, NewestAnswersTheLastOldestFirst) {
  const CappedList list = Of(10);
  EXPECT_THAT(list.Newest(5)->items, IsEmpty());
  ASSERT_OK_AND_ASSIGN(const PushResult pushed, Push(list, {"a", "b", "c", "d"}));
  ASSERT_OK_AND_ASSIGN(ListSlice slice, list.Newest(2));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("c", "d"));
  EXPECT_EQ(slice.items[1].sequence, pushed.sequence);
  EXPECT_EQ(slice.missed, 0);
  ASSERT_OK_AND_ASSIGN(slice, list.Newest(4096));
  EXPECT_THAT(ValuesOf(slice), ElementsAre("a", "b", "c", "d"));
}

TEST_F(CappedListTest, AReaderInPiecesGetsAllOfALongList) {
  const CappedList list = Of(10'000);
  std::vector<std::string> texts;
  for (int i = 0; i < 4000; ++i) texts.push_back(std::to_string(i));
  const std::vector<std::string_view> items(texts.begin(), texts.end());
  ASSERT_OK(list.Push(items).status());
  std::vector<std::string> read;
  std::int64_t at = 0;
  for (int pieces = 0; pieces < 10; ++pieces) {
    ASSERT_OK_AND_ASSIGN(const ListSlice slice, list.Since(at, 777));
    if (slice.items.empty()) break;
    EXPECT_EQ(slice.missed, 0);
    for (const ListItem& item : slice.items) read.push_back(item.value);
    at = slice.items.back().sequence;
  }
  EXPECT_EQ(read, texts);
}

TEST_F(CappedListTest, ASliceOfLargeItemsIsBounded) {
  const CappedList list = Of(10'000);
  const std::string large(100'000, 'L');
  const std::vector<std::string_view> items(300, large);
  ASSERT_OK(list.Push(items, {}, {.timeout = absl::Seconds(30)}).status());
  ASSERT_OK_AND_ASSIGN(const ListSlice slice, list.Since(0, 4096, {.timeout = absl::Seconds(30)}));
  EXPECT_EQ(slice.items.size(), 128u);
}

TEST_F(CappedListTest, LimitsOfReadersAreSaid) {
  const CappedList list = Of(3);
  const auto refused = [](std::string_view what) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr(std::string(what)), HasSubstr("4096")));
  };
  EXPECT_THAT(list.Newest(0).status(), refused("n is 0"));
  EXPECT_THAT(list.Newest(4097).status(), refused("n is 4097"));
  EXPECT_THAT(list.Since(0, 0).status(), refused("max_items is 0"));
  EXPECT_THAT(list.Since(0, 4097).status(), refused("max_items is 4097"));
  EXPECT_THAT(list.Since(-1).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sequence is -1")));
  EXPECT_THAT(list.Follow(-1, [](const ListSlice&) { return false; }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sequence is -1")));
}

// ---- Following ----

// Follows in a thread of its own.
class FollowingThread {
 public:
  FollowingThread(const CappedList& list, std::int64_t from)
      : thread_([this, list, from](std::stop_token stop) {
          status_ = list.Follow(
              from,
              [this](const ListSlice& slice) {
                const std::scoped_lock lock(mutex_);
                missed_ += slice.missed;
                for (const ListItem& item : slice.items) items_.push_back(item);
                return true;
              },
              stop);
        }) {}
  std::vector<ListItem> items() {
    const std::scoped_lock lock(mutex_);
    return items_;
  }
  std::int64_t missed() {
    const std::scoped_lock lock(mutex_);
    return missed_;
  }
  absl::Status Stop() {
    thread_.request_stop();
    thread_.join();
    return status_;
  }

 private:
  std::mutex mutex_;
  std::vector<ListItem> items_;
  std::int64_t missed_ = 0;
  absl::Status status_;
  std::jthread thread_;
};

class FollowedListTest : public CappedListTest {
 protected:
};

TEST_F(FollowedListTest, GetsEachItemOnceInOrder) {
  const CappedList list = Of(10'000);
  ASSERT_OK_AND_ASSIGN(const PushResult before, list.Push("before"));
  FollowingThread follower(list, before.sequence);
  {
    std::vector<std::jthread> writers;
    for (int i = 0; i < 4; ++i) {
      writers.emplace_back([&list] {
        for (int round = 0; round < 100; ++round) EXPECT_OK(list.Push("x").status());
      });
    }
  }
  EXPECT_TRUE(Eventually([&] { return follower.items().size() >= 400; }));
  EXPECT_THAT(follower.Stop(), StatusIs(absl::StatusCode::kCancelled));
  const std::vector<ListItem> items = follower.items();
  ASSERT_EQ(items.size(), 400u);
  for (std::size_t i = 0; i < items.size(); ++i) {
    ASSERT_EQ(items[i].sequence, before.sequence + 1 + static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(follower.missed(), 0);
}

TEST_F(FollowedListTest, WaitsForAListThatIsNotThereAndIsWoken) {
  const CappedList list = Of(10);
  FollowingThread follower(list, 0);
  ASSERT_TRUE(Awaited());
  // Ten times in a row, each within far less than the backstop on average.
  const absl::Time start = absl::Now();
  for (std::size_t i = 1; i <= 10; ++i) {
    ASSERT_TRUE(Awaited());
    ASSERT_OK(list.Push("x").status());
    ASSERT_TRUE(Eventually([&] { return follower.items().size() >= i; }));
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(4));
  EXPECT_THAT(follower.Stop(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(follower.items().size(), 10u);
}

TEST_F(FollowedListTest, AFollowerIsAskedForAndPaidForOnce) {
  const CappedList list = Of(10);
  ASSERT_OK_AND_ASSIGN(const PushResult before, list.Push("before"));
  FollowingThread follower(list, before.sequence);
  ASSERT_TRUE(Awaited());
  EXPECT_THAT(follower.Stop(), StatusIs(absl::StatusCode::kCancelled));
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 10; ++i) ASSERT_OK(list.Push("x").status());
  EXPECT_EQ(CommandCalls(redis_, "publish"), 1);
  EXPECT_EQ(redis_.Text({"GET", kSequence}), std::to_string(list.Since(0)->newest));
  EXPECT_EQ(redis_.Integer({"PTTL", kSequence}), -1);
}

TEST_F(FollowedListTest, EveryKindOfPushWakes) {
  CappedListOptions bounded;
  bounded.max_items = 10;
  bounded.max_bytes = 100;
  FollowingThread follower(Of(10), 0);
  const absl::Time start = absl::Now();
  for (std::size_t i = 0; i < 6; i += 3) {
    ASSERT_TRUE(Awaited());
    ASSERT_OK(Of(10).Push("x", {.operation_id = OperationId::New()}).status());
    ASSERT_TRUE(Eventually([&] { return follower.items().size() == i + 1; }));
    ASSERT_TRUE(Awaited());
    ASSERT_OK(CappedList(client_, "events", bounded).Push("x").status());
    ASSERT_TRUE(Eventually([&] { return follower.items().size() == i + 2; }));
    ASSERT_TRUE(Awaited());
    ASSERT_OK(Of(10).Push("x").status());
    ASSERT_TRUE(Eventually([&] { return follower.items().size() == i + 3; }));
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
}

TEST_F(FollowedListTest, EachOfManyFollowersIsWoken) {
  const CappedList list = Of(10);
  FollowingThread first(list, 0), second(list, 0);
  const Client other = ConnectTo(server_.url());
  FollowingThread third(CappedList(other, "events", {}), 0);
  ASSERT_TRUE(Awaited(3));
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK(list.Push("x").status());
  for (FollowingThread* follower : {&first, &second, &third}) {
    EXPECT_TRUE(Eventually([&] { return follower->items().size() == 1; }));
  }
  EXPECT_EQ(CommandCalls(redis_, "publish"), 3);
}

TEST_F(FollowedListTest, ThoseWhoseTimeIsPastAreForgottenByTheNextWhoAsks) {
  const CappedList list = Of(10);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  // Two who asked, one of them long ago.
  const auto entry = [](std::string_view until, std::string_view message) {
    std::string text = {static_cast<char>(message.size()), '\0', '\7'};
    return text.append(until).append(message).append("channel");
  };
  redis_.Command({"SET", kFollowers,
                  entry("1000000000000", "old pushed") + entry("3000000000000", "young pushed")});
  redis_.Command({"INCRBY", kSequence, "4000000000000000"});
  ASSERT_EQ(Followers(), 2);
  FollowingThread follower(list, first.sequence);
  EXPECT_TRUE(Eventually([&] {
    const std::string text = redis_.Text({"GET", kFollowers});
    return Followers() == 2 && text.find("old ") == std::string::npos &&
           text.find("young ") != std::string::npos;
  }));
  EXPECT_GT(redis_.Integer({"PTTL", kFollowers}), 0);
}

TEST_F(FollowedListTest, NumbersAreTheSameWhileSomebodyWaits) {
  CappedListOptions bounded;
  bounded.max_items = 2;
  bounded.max_bytes = 100;
  bounded.max_age = absl::Hours(1);
  bounded.overflow = CappedListOptions::Overflow::kReject;
  const CappedList lists[] = {Of(2), CappedList(client_, "events", bounded)};
  for (const CappedList& list : lists) {
    redis_.Command({"FLUSHALL"});
    ASSERT_OK_AND_ASSIGN(const PushResult pushed, Push(list, {"a", "b"}));
    FollowingThread follower(list, pushed.sequence);
    ASSERT_TRUE(Awaited());
    EXPECT_EQ(list.Newest(1)->newest, pushed.sequence);
    EXPECT_EQ(list.Newest(1)->items[0].sequence, pushed.sequence);
    EXPECT_EQ(list.Since(pushed.sequence - 1)->items[0].sequence, pushed.sequence);
    EXPECT_THAT(list.Range(-1, -1), IsOkAndHolds(ElementsAre("b")));
    ASSERT_OK_AND_ASSIGN(const PushResult rejected,
                         CappedList(client_, "events", bounded).Push("c"));
    EXPECT_FALSE(rejected.applied);
    EXPECT_EQ(rejected.sequence, pushed.sequence);
    ASSERT_TRUE(Awaited());
    ASSERT_OK_AND_ASSIGN(const PushResult last, Of(3).Push("c"));
    EXPECT_EQ(last.sequence, pushed.sequence + 1);
    EXPECT_TRUE(Eventually([&] { return follower.items().size() == 1; }));
    EXPECT_EQ(follower.missed(), 0);
  }
}

TEST_F(FollowedListTest, AFailedPushLeavesWhoWaitsWaiting) {
  const CappedList list = Of(10);
  FollowingThread follower(list, 0);
  ASSERT_TRUE(Awaited());
  redis_.Command({"SET", kList, "text"});
  EXPECT_FALSE(list.Push("a").ok());
  EXPECT_TRUE(Awaited());
  EXPECT_EQ(redis_.Text({"GET", kSequence}), "4000000000000000");
}

TEST_F(FollowedListTest, AFollowersKeyOfAnotherTypeLosesNoPush) {
  const CappedList list = Of(10);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  redis_.Command({"RPUSH", kFollowers, "theirs"});
  redis_.Command({"INCRBY", kSequence, "4000000000000000"});
  ASSERT_OK_AND_ASSIGN(const PushResult second, list.Push("b"));
  EXPECT_EQ(second.sequence, first.sequence + 1);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b")));
  EXPECT_EQ(redis_.Integer({"LLEN", kFollowers}), 1);
}

TEST_F(FollowedListTest, IsToldWhatItMissed) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  ASSERT_OK(Push(list, {"b", "c", "d", "e", "f"}).status());
  std::vector<std::string> got;
  std::int64_t missed = 0;
  EXPECT_OK(list.Follow(first.sequence, [&](const ListSlice& slice) {
    got = ValuesOf(slice);
    missed = slice.missed;
    return false;
  }));
  EXPECT_THAT(got, ElementsAre("d", "e", "f"));
  EXPECT_EQ(missed, 2);
}

TEST_F(FollowedListTest, GoesOnThroughALossOfAllData) {
  const CappedList list = Of(10);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  FollowingThread follower(list, first.sequence);
  ASSERT_TRUE(Awaited());
  redis_.Command({"FLUSHALL"});
  ASSERT_OK(list.Push("b").status());
  EXPECT_TRUE(Eventually([&] { return follower.items().size() == 1; }));
  EXPECT_GT(follower.missed(), 0);
  EXPECT_THAT(follower.Stop(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(FollowedListTest, AStoppedFollowerReturnsAtOnce) {
  FollowingThread follower(Of(10), 0);
  ASSERT_TRUE(Awaited());
  const absl::Time start = absl::Now();
  EXPECT_THAT(follower.Stop(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("events")));
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(900));
}

TEST_F(FollowedListTest, AKeyOfAnotherTypeEndsIt) {
  redis_.Command({"SET", kList, "text"});
  EXPECT_THAT(Of(3).Follow(0, [](const ListSlice&) { return true; }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("events")));
}

// ---- Caps by bytes and age ----

class BoundedListTest : public CappedListTest {
 protected:
  CappedList Bytes(std::int64_t max_bytes, std::int64_t max_items = 1000) {
    CappedListOptions options;
    options.max_items = max_items;
    options.max_bytes = max_bytes;
    return CappedList(client_, "events", options);
  }
  CappedList Aged(absl::Duration max_age) {
    CappedListOptions options;
    options.max_items = 1000;
    options.max_age = max_age;
    return CappedList(client_, "events", options);
  }
  // As the record has counted them.
  std::int64_t CountedBytes() {
    const std::string record = redis_.Text({"GET", kSequence});
    return std::stoll(record.substr(record.find(' ') + 1));
  }
  std::int64_t RealBytes() {
    std::int64_t bytes = 0;
    const Reply items = redis_.Command({"LRANGE", kList, "0", "-1"});
    for (const Reply& item : items.items()) bytes += static_cast<std::int64_t>(item.text().size());
    return bytes;
  }
};

TEST_F(BoundedListTest, TheOldestGoUntilTheBytesFit) {
  const CappedList list = Bytes(10);
  ASSERT_OK(Push(list, {"1234", "5678"}).status());
  ASSERT_OK_AND_ASSIGN(PushResult result, list.Push("9a"));
  EXPECT_EQ(result.evicted, 0);
  ASSERT_OK_AND_ASSIGN(result, list.Push("b"));
  EXPECT_EQ(result.evicted, 1);
  EXPECT_EQ(result.length, 3);
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("5678", "9a", "b")));
  ASSERT_OK_AND_ASSIGN(result, Push(list, {"cccccc", "dddddd"}));
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("dddddd")));
  EXPECT_EQ(result.evicted, 4);
  EXPECT_EQ(CountedBytes(), 6);
}

TEST_F(BoundedListTest, BytesAreCountedThroughEveryKindOfPush) {
  for (int i = 0; i < 5; ++i) ASSERT_OK(Of(1000).Push("plain").status());
  ASSERT_OK(Bytes(1000).Push("counted").status());
  EXPECT_EQ(CountedBytes(), 32);
  for (int i = 0; i < 100; ++i) {
    const std::string item(static_cast<std::size_t>(i * 37 % 90), 'x');
    // One that knows of no bytes, one with a cap by number, one by both.
    ASSERT_OK(Of(30).Push(item).status());
    ASSERT_OK(Bytes(800, 25).Push(item).status());
    ASSERT_EQ(CountedBytes(), RealBytes()) << i;
    ASSERT_LE(RealBytes(), 800);
  }
  redis_.Command({"DEL", kList});
  ASSERT_OK(Bytes(1000).Push("anew").status());
  EXPECT_EQ(CountedBytes(), 4);
}

TEST_F(BoundedListTest, AWriterWithoutCapsLeavesNothingOfItsFirstTry) {
  ASSERT_OK(Bytes(100).Push("a").status());
  redis_.Command({"PEXPIRE", kList, "60000"});
  ASSERT_OK_AND_ASSIGN(const PushResult result, Push(Of(10), {"b", "c"}));
  EXPECT_EQ(result.length, 3);
  EXPECT_THAT(Of(10).Range(), IsOkAndHolds(ElementsAre("a", "b", "c")));
  EXPECT_EQ(CountedBytes(), 3);
  EXPECT_GT(redis_.Integer({"PTTL", kList}), 50'000);
}

TEST_F(BoundedListTest, APushBeyondTheBytesIsRejectedWhole) {
  CappedListOptions options;
  options.max_items = 100;
  options.max_bytes = 10;
  options.overflow = CappedListOptions::Overflow::kReject;
  const CappedList list(client_, "events", options);
  ASSERT_OK(list.Push("12345678").status());
  ASSERT_OK_AND_ASSIGN(PushResult result, Push(list, {"9", "ab"}));
  EXPECT_FALSE(result.applied);
  ASSERT_OK_AND_ASSIGN(result, Push(list, {"9", "a"}));
  EXPECT_TRUE(result.applied);
  EXPECT_EQ(CountedBytes(), 10);
}

TEST_F(BoundedListTest, WhatIsTooOldIsReadNoMoreAndGoesWithTheNextPush) {
  const CappedList list = Aged(absl::Milliseconds(300));
  ASSERT_OK_AND_ASSIGN(const PushResult first, Push(list, {"a", "b"}));
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b")));
  // Younger ones keep the list alive until the first are too old.
  PushResult last;
  std::int64_t young = 0;
  ASSERT_TRUE(Eventually([&] {
    last = *list.Push("c");
    ++young;
    return last.length < young + 2;
  }));
  ASSERT_OK_AND_ASSIGN(const ListSlice slice, list.Since(first.sequence - 2));
  EXPECT_GE(slice.missed, 2);
  for (const std::string& value : ValuesOf(slice)) EXPECT_EQ(value, "c");
  ASSERT_OK(list.Push("d").status());
  ASSERT_TRUE(Eventually([&] { return list.Range()->empty(); }));
  EXPECT_THAT(list.Newest(10)->items, IsEmpty());
}

TEST_F(BoundedListTest, ReadersSkipWhatIsTooOldThoughNobodyPushes) {
  const CappedList list = Aged(absl::Hours(1));
  ASSERT_OK(Push(list, {"a", "b"}).status());
  ASSERT_OK(list.Push("c").status());
  ASSERT_OK_AND_ASSIGN(const PushResult last, list.Push("d"));
  // As if the first two pushes had been two hours ago.
  const std::string times = "coord:{events}:times";
  ASSERT_EQ(redis_.Integer({"LLEN", times}), 3);
  const Reply now = redis_.Command({"TIME"});
  const std::string long_ago = std::to_string((std::stoll(now.items()[0].text()) - 7200) * 1000);
  redis_.Command({"LSET", times, "0", long_ago + " " + std::to_string(last.sequence - 2)});
  redis_.Command({"LSET", times, "1", long_ago + " " + std::to_string(last.sequence - 1)});
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("d")));
  EXPECT_THAT(list.Range(0, 0), IsOkAndHolds(ElementsAre("d")));
  EXPECT_THAT(list.Range(-5, -2), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(ValuesOf(*list.Newest(10)), ElementsAre("d"));
  EXPECT_THAT(ValuesOf(*Of(9).Since(0)), ElementsAre("d"));
  EXPECT_EQ(list.Since(last.sequence - 3)->missed, 2);
  // Also while somebody waits.
  const std::string record = redis_.Text({"GET", kSequence});
  redis_.Command(
      {"SET", kSequence,
       std::to_string(last.sequence + 4'000'000'000'000'000) + record.substr(record.find(' '))});
  EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("d")));
  EXPECT_THAT(ValuesOf(*list.Newest(10)), ElementsAre("d"));
  EXPECT_EQ(redis_.Integer({"LLEN", kList}), 4);
  ASSERT_OK_AND_ASSIGN(const PushResult next, list.Push("e"));
  EXPECT_EQ(next.evicted, 3);
  EXPECT_EQ(next.length, 2);
  EXPECT_EQ(redis_.Integer({"LLEN", times}), 2);
}

TEST_F(BoundedListTest, RangeWithAnAgeCountsFromBothEnds) {
  const CappedList list = Aged(absl::Hours(1));
  EXPECT_THAT(list.Range(), IsOkAndHolds(IsEmpty()));
  ASSERT_OK(Push(list, {"a", "b", "c", "d", "e"}).status());
  EXPECT_THAT(list.Range(1, 3), IsOkAndHolds(ElementsAre("b", "c", "d")));
  EXPECT_THAT(list.Range(-2, -1), IsOkAndHolds(ElementsAre("d", "e")));
  EXPECT_THAT(list.Range(3, 1), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(list.Range(5, 9), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(list.Range(INT64_MIN, INT64_MAX), IsOkAndHolds(ElementsAre("a", "b", "c", "d", "e")));
}

TEST_F(BoundedListTest, LimitsAreSaidBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::int64_t bytes : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX}) {
    EXPECT_THAT(Bytes(bytes).Push("a"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("max_bytes"), HasSubstr("1099511627776"))));
  }
  for (const absl::Duration age :
       {absl::ZeroDuration(), -absl::Seconds(1), absl::InfiniteDuration()}) {
    EXPECT_THAT(Aged(age).Push("a"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_age")));
  }
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
}

TEST_F(BoundedListTest, AFullServerLeavesEverythingAsItWas) {
  CappedListOptions both;
  both.max_items = 2;
  both.max_bytes = 100;
  both.max_age = absl::Hours(1);
  const CappedList lists[] = {Of(2), CappedList(client_, "events", both)};
  for (const CappedList& list : lists) {
    redis_.Command({"FLUSHALL"});
    ASSERT_OK(Push(list, {"a", "b"}).status());
    const std::string record = redis_.Text({"GET", kSequence});
    redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
    EXPECT_FALSE(list.Push("c").ok());
    EXPECT_FALSE(list.Push("c", {.operation_id = OperationId::New()}).ok());
    redis_.Command({"CONFIG", "SET", "maxmemory", "0"});
    EXPECT_EQ(redis_.Text({"GET", kSequence}), record);
    EXPECT_THAT(list.Range(), IsOkAndHolds(ElementsAre("a", "b")));
  }
}

TEST_F(BoundedListTest, KeysOfAnotherTypeAreReportedAndLeftAlone) {
  redis_.Command({"SET", kList, "text"});
  const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("events"));
  EXPECT_THAT(Bytes(10).Push("a"), refused);
  EXPECT_THAT(Aged(absl::Hours(1)).Push("a"), refused);
  EXPECT_THAT(Of(3).Push("a"), refused);
  EXPECT_THAT(Of(3).Since(0).status(), refused);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
  redis_.Command({"DEL", kList});
  redis_.Command({"SET", kSequence, "text"});
  EXPECT_THAT(Bytes(10).Push("a"), refused);
  EXPECT_THAT(Of(3).Newest(1).status(), refused);
  EXPECT_EQ(redis_.Text({"GET", kSequence}), "text");
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

#ifdef COORD_PROGRAM
// ---- The program ----

using Json = nlohmann::json;

class ListProgramTest : public CappedListTest {
 protected:
  std::vector<std::string> CommandLine(std::vector<std::string> words) const {
    words.insert(words.begin(), {COORD_PROGRAM, "list"});
    return words;
  }
  testing::ProcessOptions Options() const { return {.env = {{"COORD_URL", server_.url()}}}; }
  testing::ProcessResult Run(const std::vector<std::string>& words) const {
    return testing::RunProgram(CommandLine(words), Options());
  }
};

TEST_F(ListProgramTest, NewestAndSincePrintOneALine) {
  const CappedList list = Of(3);
  ASSERT_OK_AND_ASSIGN(const PushResult first, list.Push("a"));
  ASSERT_OK(Push(list, {"b", "c", "d"}).status());
  EXPECT_EQ(Run({"newest", "events", "2"}).out, "c\nd\n");
  EXPECT_EQ(Run({"newest", "events"}).out, "b\nc\nd\n");
  EXPECT_EQ(Run({"since", "events", std::to_string(first.sequence + 1)}).out, "c\nd\n");
  EXPECT_EQ(Run({"since", "events", "0", "--limit", "1"}).out, "b\n");
  const testing::ProcessResult gap = Run({"since", "events", std::to_string(first.sequence - 1)});
  EXPECT_EQ(gap.out, "b\nc\nd\n");
  EXPECT_THAT(gap.err, HasSubstr("1 items were missed"));
  EXPECT_EQ(Run({"newest", "events", "0"}).exit_code, 2);
  EXPECT_EQ(Run({"newest", "events", "4097"}).exit_code, 2);
  EXPECT_EQ(Run({"since", "events"}).exit_code, 2);
}

TEST_F(ListProgramTest, JsonIsAnObjectALineWithTheNumberAndWhatWasMissedFirst) {
  ASSERT_OK_AND_ASSIGN(const PushResult first, Of(2).Push("a"));
  ASSERT_OK(Push(Of(2), {"b", "c", "\xff"}).status());
  const auto lines = [](const std::string& out) {
    std::vector<Json> values;
    std::istringstream text(out);
    for (std::string line; std::getline(text, line);) {
      values.push_back(Json::parse(line, nullptr, false));
    }
    return values;
  };
  const Json missed = {{"missed", 1}, {"newest", first.sequence + 3}};
  const Json third = {{"sequence", first.sequence + 2}, {"value", "c"}};
  const Json last = {{"sequence", first.sequence + 3}, {"value", {{"base64", "/w=="}}}};
  EXPECT_THAT(lines(Run({"newest", "events", "--json"}).out), ElementsAre(third, last));
  const std::string from = std::to_string(first.sequence);
  const testing::ProcessResult since = Run({"since", "events", from, "--json"});
  EXPECT_THAT(lines(since.out), ElementsAre(missed, third, last));
  EXPECT_EQ(since.err, "");
  EXPECT_EQ(Run({"since", "events", std::to_string(first.sequence + 3), "--json"}).out, "");
  testing::Process follow(CommandLine({"follow", "events", "--from", from, "--json"}), Options());
  EXPECT_TRUE(Eventually([&] { return follow.out() == since.out; })) << follow.out();
  const Json pushed = Json::parse(Run({"push", "events", "d", "--max", "2", "--json"}).out);
  EXPECT_EQ(
      pushed,
      Json({{"length", 2}, {"evicted", 1}, {"sequence", first.sequence + 4}, {"applied", true}}));
}

TEST_F(ListProgramTest, FollowCountsWhatItMissedOnStandardError) {
  ASSERT_OK_AND_ASSIGN(const PushResult first, Of(1).Push("a"));
  ASSERT_OK(Push(Of(1), {"b", "c"}).status());
  testing::Process follow(
      CommandLine({"follow", "events", "--from", std::to_string(first.sequence)}), Options());
  ASSERT_TRUE(Eventually([&] { return follow.out() == "c\n"; })) << follow.out();
  follow.Signal(SIGTERM);
  EXPECT_THAT(follow.Wait().err, HasSubstr("1 items were missed"));
}

TEST_F(ListProgramTest, WithKeyTheNameIsARedisKey) {
  redis_.Command({"RPUSH", "app:{x", "theirs"});
  EXPECT_EQ(Run({"push", "--key", "app:{x", "a", "b", "--max", "2"}).out, "2\n");
  EXPECT_EQ(Run({"range", "app:{x", "--key"}).out, "a\nb\n");
  EXPECT_EQ(Run({"newest", "app:{x", "1", "--key"}).out, "b\n");
  EXPECT_EQ(Run({"push", "app:{x", "c", "--key", "--max", "2", "--reject"}).exit_code, 75);
  const testing::ProcessResult id =
      Run({"push", "app:{x", "c", "--key", "--max", "2", "--operation-id", "x"});
  EXPECT_EQ(id.exit_code, 2);
  EXPECT_THAT(id.err, HasSubstr("operation id"));
  EXPECT_EQ(Run({"since", "app:{x", "0", "--key"}).exit_code, 2);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

TEST_F(ListProgramTest, FollowPrintsWhatArrivesUntilASignalComes) {
  const CappedList list = Of(100);
  ASSERT_OK(list.Push("before").status());
  testing::Process process(CommandLine({"follow", "events"}), Options());
  ASSERT_TRUE(Awaited());
  ASSERT_OK(list.Push("a").status());
  ASSERT_TRUE(Eventually([&] { return process.out() == "a\n"; })) << process.out();
  ASSERT_OK(Push(list, {"b", "c"}).status());
  ASSERT_TRUE(Eventually([&] { return process.out() == "a\nb\nc\n"; })) << process.out();
  process.Signal(SIGTERM);
  const testing::ProcessResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 128 + SIGTERM);
  EXPECT_FALSE(result.timed_out);
}

TEST_F(ListProgramTest, FollowFromTheBeginningPrintsWhatIsThere) {
  ASSERT_OK(Push(Of(100), {"a", "b"}).status());
  testing::Process process(CommandLine({"follow", "events", "--from", "0"}), Options());
  EXPECT_TRUE(Eventually([&] { return process.out() == "a\nb\n"; })) << process.out();
}

TEST_F(ListProgramTest, PushTakesCapsAndAnId) {
  EXPECT_EQ(Run({"push", "events", "a", "--max", "1", "--reject"}).exit_code, 0);
  const testing::ProcessResult full = Run({"push", "events", "b", "--max", "1", "--reject"});
  EXPECT_EQ(full.exit_code, 75);
  EXPECT_EQ(full.out, "1\n");
  EXPECT_EQ(Run({"push", "events", "cc", "--max", "9", "--max-bytes", "2"}).out, "1\n");
  EXPECT_EQ(Run({"push", "events", "ccc", "--max", "9", "--max-bytes", "2"}).exit_code, 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Run({"push", "events", "d", "--max", "9", "--operation-id", "x"}).out, "2\n");
  }
  EXPECT_EQ(Run({"push", "events", "e", "--max", "9", "--max-age", "1h"}).out, "3\n");
  EXPECT_THAT(Of(9).Range(), IsOkAndHolds(ElementsAre("cc", "d", "e")));
}
#endif  // COORD_PROGRAM

}  // namespace
}  // namespace coord
