// Counter on one server: arithmetic to the edges of 64 bits, times to live, and keys that hold
// something else.
#include "coord/counter.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Overflow = AddOptions::Overflow;
using TtlMode = AddOptions::TtlMode;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr char kKey[] = "coord:{hits}:count";

MATCHER_P2(Is, value, applied, "") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  *result_listener << arg->value << (arg->applied ? ", applied" : ", not applied");
  return arg->value == value && arg->applied == applied;
}

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

AddOptions Within(std::optional<std::int64_t> min, std::optional<std::int64_t> max,
                  Overflow overflow) {
  AddOptions options;
  options.min = min;
  options.max = max;
  options.overflow = overflow;
  return options;
}

AddOptions Living(absl::Duration ttl, TtlMode mode) {
  AddOptions options;
  options.ttl = ttl;
  options.ttl_mode = mode;
  return options;
}

class CounterTest : public ::testing::Test {
 protected:
  std::string Stored() { return redis_.Text({"GET", kKey}); }
  std::int64_t Left() { return redis_.Integer({"PTTL", kKey}); }
  bool Exists() { return redis_.Integer({"EXISTS", kKey}) == 1; }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  Counter counter_{client_, "hits"};
};

TEST_F(CounterTest, CountsFromZeroUpAndDown) {
  EXPECT_THAT(counter_.Get(), IsOkAndHolds(0));
  EXPECT_FALSE(Exists());
  EXPECT_THAT(counter_.Add(5), Is(5, true));
  EXPECT_THAT(counter_.Add(-7), Is(-2, true));
  EXPECT_THAT(counter_.Add(0), Is(-2, true));
  EXPECT_THAT(counter_.Get(), IsOkAndHolds(-2));
  EXPECT_EQ(Stored(), "-2");
  EXPECT_EQ(Left(), -1);
}

TEST_F(CounterTest, SetAndResetReturnTheValueBefore) {
  EXPECT_THAT(counter_.Set(kMost), IsOkAndHolds(0));
  EXPECT_THAT(counter_.Set(kLeast), IsOkAndHolds(kMost));
  EXPECT_THAT(counter_.Get(), IsOkAndHolds(kLeast));
  EXPECT_THAT(counter_.Reset(), IsOkAndHolds(kLeast));
  EXPECT_FALSE(Exists());
  EXPECT_THAT(counter_.Reset(), IsOkAndHolds(0));
}

TEST_F(CounterTest, GetAndResetTakesTheTimeToLiveToo) {
  ASSERT_OK(counter_.Add(3, Living(absl::Seconds(60), TtlMode::kOnCreate)).status());
  EXPECT_THAT(counter_.GetAndReset(), IsOkAndHolds(3));
  EXPECT_THAT(counter_.GetAndReset(), IsOkAndHolds(0));
  EXPECT_THAT(counter_.Add(1), Is(1, true));
  EXPECT_EQ(Left(), -1);
}

TEST_F(CounterTest, GetAndResetWithAnIdHappensOnceAndAnswersAlike) {
  const OperationId id = OperationId::New();
  ASSERT_OK(counter_.Set(kMost).status());
  EXPECT_THAT(counter_.GetAndReset(id), IsOkAndHolds(kMost));
  ASSERT_OK(counter_.Add(7).status());
  EXPECT_THAT(counter_.GetAndReset(id), IsOkAndHolds(kMost));
  EXPECT_EQ(Stored(), "7");
  ASSERT_OK_AND_ASSIGN(const std::optional<CounterResult> kept, counter_.Resolve(id));
  ASSERT_TRUE(kept.has_value());
  EXPECT_EQ(kept->value, kMost);
  EXPECT_THAT(counter_.Add(1, {.operation_id = id}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  const OperationId none = OperationId::New();
  ASSERT_OK(counter_.Reset().status());
  EXPECT_THAT(counter_.GetAndReset(none), IsOkAndHolds(0));
  EXPECT_THAT(counter_.GetAndReset(none), IsOkAndHolds(0));
}

TEST_F(CounterTest, NothingIsLostBetweenResets) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 100;
  std::int64_t taken = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) EXPECT_OK(counter_.Add(1).status());
      });
    }
    while (taken < kThreads * kRounds / 2) {
      ASSERT_OK_AND_ASSIGN(const std::int64_t value, counter_.GetAndReset());
      taken += value;
    }
  }
  ASSERT_OK_AND_ASSIGN(const std::int64_t rest, counter_.GetAndReset());
  EXPECT_EQ(taken + rest, kThreads * kRounds);
}

TEST_F(CounterTest, AFullServerStillResets) {
  ASSERT_OK(counter_.Set(5).status());
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_THAT(counter_.Add(1), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(counter_.GetAndReset(), IsOkAndHolds(5));
  EXPECT_FALSE(Exists());
}

// ---- Many in one round trip ----

TEST_F(CounterTest, ManyAreAddedToInOrderEachWithItsOwnOptions) {
  redis_.Command({"RPUSH", "coord:{list}:count", "a"});
  redis_.Command({"CONFIG", "RESETSTAT"});
  AddOptions capped = Within(std::nullopt, 4, Overflow::kSaturate);
  const std::vector<CounterAddition> additions = {
      {"hits", 3}, {"list", 1}, {"hits", 3, capped}, {"other", -2}, {"hits", 1, capped}};
  ASSERT_OK_AND_ASSIGN(const auto results, AddToCounters(client_, additions));
  ASSERT_EQ(results.size(), 5u);
  EXPECT_THAT(results[0], Is(3, true));
  EXPECT_THAT(results[1],
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("counter \"list\"")));
  EXPECT_THAT(results[2], Is(4, false));
  EXPECT_THAT(results[3], Is(-2, true));
  EXPECT_THAT(results[4], Is(4, false));
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 5);
  const std::vector<std::string> names = {"other", "none", "list", "hits"};
  ASSERT_OK_AND_ASSIGN(const auto values, GetCounters(client_, names));
  ASSERT_EQ(values.size(), 4u);
  EXPECT_THAT(values[0], IsOkAndHolds(-2));
  EXPECT_THAT(values[1], IsOkAndHolds(0));
  EXPECT_THAT(values[2], StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("list")));
  EXPECT_THAT(values[3], IsOkAndHolds(4));
}

TEST_F(CounterTest, ManyWithIdsAreAppliedOnceEach) {
  const std::vector<CounterAddition> additions = {
      {"hits", 3, {.operation_id = OperationId::New()}},
      {"other", 4, {.operation_id = OperationId::New()}}};
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto results, AddToCounters(client_, additions));
    EXPECT_THAT(results.at(0), Is(3, true));
    EXPECT_THAT(results.at(1), Is(4, true));
  }
}

TEST_F(CounterTest, BadInputInOneOfManyRefusesAllAndSendsNothing) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = [](const char* why) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr("number 2"), HasSubstr(why)));
  };
  const auto add = [&](CounterAddition second) {
    const std::vector<CounterAddition> additions = {{"hits", 1}, std::move(second)};
    return AddToCounters(client_, additions).status();
  };
  EXPECT_THAT(add({"", 1}), refused("name"));
  EXPECT_THAT(add({"x", 1, Within(4, 3, Overflow::kReject)}), refused("min"));
  EXPECT_THAT(add({"x", 1, Living(absl::ZeroDuration(), TtlMode::kRefresh)}), refused("ttl"));
  EXPECT_THAT(add({"x", 1, {.operation_id = OperationId("a b")}}), refused("operation id"));
  const std::vector<std::string> names = {"hits", "}x"};
  EXPECT_THAT(GetCounters(client_, names).status(), refused("name"));
  const auto many = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1024"));
  EXPECT_THAT(AddToCounters(client_, std::vector<CounterAddition>(1025, {"hits"})).status(), many);
  EXPECT_THAT(GetCounters(client_, std::vector<std::string>(1025, "hits")).status(), many);
  ASSERT_OK_AND_ASSIGN(const auto none, AddToCounters(client_, {}));
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), 0);
  EXPECT_EQ(CommandCalls(redis_, "get"), 0);
  ASSERT_OK_AND_ASSIGN(const auto results,
                       AddToCounters(client_, std::vector<CounterAddition>(1024, {"hits"})));
  EXPECT_THAT(results.back(), Is(1024, true));
}

TEST_F(CounterTest, IsExactWhereADoubleIsNot) {
  const std::int64_t beyond = (std::int64_t{1} << 53) + 1;
  ASSERT_OK(counter_.Set(beyond).status());
  EXPECT_THAT(counter_.Add(1), Is(beyond + 1, true));
  EXPECT_THAT(counter_.Add(1), Is(beyond + 2, true));
  EXPECT_THAT(counter_.Add(1, Within(std::nullopt, beyond + 2, Overflow::kReject)),
              Is(beyond + 2, false));
  EXPECT_THAT(counter_.Add(2, Within(std::nullopt, beyond + 3, Overflow::kSaturate)),
              Is(beyond + 3, false));
  ASSERT_OK(counter_.Set(kMost - 3).status());
  EXPECT_THAT(counter_.Add(1, Within(std::nullopt, kMost - 2, Overflow::kReject)),
              Is(kMost - 2, true));
  EXPECT_THAT(counter_.Add(1, Within(std::nullopt, kMost - 2, Overflow::kReject)),
              Is(kMost - 2, false));
}

// Every combination near the edges, against arithmetic in 128 bits.
TEST_F(CounterTest, RejectsAndSaturatesExactlyAtTheEdges) {
  __extension__ using Wide = __int128;
  const std::int64_t starts[] = {kLeast, kLeast + 1, -1, 0, 1, kMost - 1, kMost};
  const std::int64_t amounts[] = {kLeast, kLeast + 1, -2, -1, 0, 1, 2, kMost - 1, kMost};
  for (const std::int64_t start : starts) {
    for (const std::int64_t amount : amounts) {
      for (const Overflow overflow : {Overflow::kReject, Overflow::kSaturate}) {
        ASSERT_OK(counter_.Set(start).status());
        const Wide sum = Wide{start} + amount;
        const bool fits = sum >= kLeast && sum <= kMost;
        const std::int64_t expected = fits ? static_cast<std::int64_t>(sum)
                                      : overflow == Overflow::kReject ? start
                                      : sum > kMost                   ? kMost
                                                                      : kLeast;
        AddOptions options;
        options.overflow = overflow;
        ASSERT_THAT(counter_.Add(amount, options), Is(expected, fits))
            << start << " + " << amount
            << (overflow == Overflow::kReject ? " reject" : " saturate");
        ASSERT_EQ(Stored(), std::to_string(expected));
      }
    }
  }
}

TEST_F(CounterTest, StaysWithinItsBounds) {
  const AddOptions reject = Within(-3, 3, Overflow::kReject);
  EXPECT_THAT(counter_.Add(3, reject), Is(3, true));
  EXPECT_THAT(counter_.Add(1, reject), Is(3, false));
  EXPECT_THAT(counter_.Add(-6, reject), Is(-3, true));
  EXPECT_THAT(counter_.Add(-1, reject), Is(-3, false));
  const AddOptions saturate = Within(-3, 3, Overflow::kSaturate);
  EXPECT_THAT(counter_.Add(100, saturate), Is(3, false));
  EXPECT_THAT(counter_.Add(-100, saturate), Is(-3, false));
  EXPECT_THAT(counter_.Add(6, saturate), Is(3, true));
  EXPECT_EQ(Stored(), "3");
}

TEST_F(CounterTest, ARejectionOfTheFirstAdditionMakesNoKey) {
  EXPECT_THAT(counter_.Add(5, Within(std::nullopt, 3, Overflow::kReject)), Is(0, false));
  EXPECT_FALSE(Exists());
  AddOptions options = Within(std::nullopt, 3, Overflow::kReject);
  options.ttl = absl::Seconds(10);
  EXPECT_THAT(counter_.Add(5, options), Is(0, false));
  EXPECT_FALSE(Exists());
}

TEST_F(CounterTest, BoundsAtTheEdgesAreBounds) {
  ASSERT_OK(counter_.Set(kMost - 1).status());
  EXPECT_THAT(counter_.Add(1, Within(kLeast, kMost, Overflow::kReject)), Is(kMost, true));
  EXPECT_THAT(counter_.Add(1, Within(kLeast, kMost, Overflow::kSaturate)), Is(kMost, false));
  ASSERT_OK(counter_.Set(kLeast + 1).status());
  EXPECT_THAT(counter_.Add(-1, Within(kLeast, kLeast, Overflow::kReject)), Is(kLeast, true));
}

TEST_F(CounterTest, ManyThreadsAddUpAndNeverPassABound) {
  constexpr int kThreads = 16;
  constexpr int kRounds = 40;
  std::vector<std::int64_t> applied(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        for (int round = 0; round < kRounds; ++round) {
          const auto result = counter_.Add(1, Within(std::nullopt, 500, Overflow::kReject));
          EXPECT_OK(result.status());
          if (!result.ok()) return;
          EXPECT_LE(result->value, 500);
          if (result->applied) ++applied[i];
        }
      });
    }
  }
  std::int64_t sum = 0;
  for (const std::int64_t n : applied) sum += n;
  EXPECT_EQ(sum, 500);
  EXPECT_EQ(Stored(), "500");
}

// ---- Times to live ----

TEST_F(CounterTest, AWindowBeginsWithTheFirstAddition) {
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(60), TtlMode::kOnCreate)).status());
  EXPECT_GT(Left(), 50'000);
  EXPECT_LE(Left(), 60'000);
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(600), TtlMode::kOnCreate)).status());
  EXPECT_LE(Left(), 60'000);
  ASSERT_OK(counter_.Add(1).status());
  EXPECT_GT(Left(), 50'000);
  EXPECT_LE(Left(), 60'000);
}

TEST_F(CounterTest, OnCreateGivesATimeToACounterThatHasNone) {
  ASSERT_OK(counter_.Add(1).status());
  EXPECT_EQ(Left(), -1);
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(60), TtlMode::kOnCreate)).status());
  EXPECT_GT(Left(), 50'000);
}

TEST_F(CounterTest, RefreshGivesANewTimeAtEveryAddition) {
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(60), TtlMode::kRefresh)).status());
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(600), TtlMode::kRefresh)).status());
  EXPECT_GT(Left(), 500'000);
  ASSERT_OK(counter_.Add(1, Living(absl::Seconds(6), TtlMode::kRefresh)).status());
  EXPECT_LE(Left(), 6'000);
}

TEST_F(CounterTest, ARejectionAddsNoTime) {
  ASSERT_OK(counter_.Add(3, Living(absl::Seconds(60), TtlMode::kOnCreate)).status());
  AddOptions options = Living(absl::Seconds(600), TtlMode::kOnCreate);
  options.max = 3;
  EXPECT_THAT(counter_.Add(1, options), Is(3, false));
  EXPECT_LE(Left(), 60'000);
}

TEST_F(CounterTest, AnExpiredCounterStartsAgain) {
  ASSERT_OK(counter_.Add(41, Living(absl::Milliseconds(60), TtlMode::kOnCreate)).status());
  EXPECT_TRUE(Eventually([&] { return !Exists(); }));
  EXPECT_THAT(counter_.Add(1), Is(1, true));
  EXPECT_EQ(Left(), -1);
}

TEST_F(CounterTest, TimesAreRoundedUpToAMillisecond) {
  EXPECT_OK(counter_.Add(1, Living(absl::Nanoseconds(1), TtlMode::kOnCreate)).status());
  EXPECT_OK(counter_.Set(1, absl::Nanoseconds(1)).status());
}

TEST_F(CounterTest, SetGivesATimeOrNone) {
  ASSERT_OK(counter_.Set(1, absl::Seconds(60)).status());
  EXPECT_GT(Left(), 50'000);
  EXPECT_LE(Left(), 60'000);
}

// ---- Keys that hold something else ----

TEST_F(CounterTest, AValueThatIsNoIntegerIsReportedAndLeftAlone) {
  for (const char* text :
       {"text", "", "1.5", " 1", "1 ", "+1", "01", "-0", "-", "1e3", "0x10", "9223372036854775808",
        "-9223372036854775809", "99999999999999999999999999", "nan", "inf"}) {
    redis_.Command({"SET", kKey, text});
    EXPECT_THAT(counter_.Add(1), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("hits")))
        << '"' << text << '"';
    EXPECT_EQ(Stored(), text);
    AddOptions options = Within(0, 10, Overflow::kSaturate);
    options.ttl = absl::Seconds(10);
    EXPECT_THAT(counter_.Add(1, options), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_EQ(Stored(), text);
    EXPECT_EQ(Left(), -1);
  }
}

TEST_F(CounterTest, EveryCallRefusesWhatAddRefusesAndLeavesItAlone) {
  const std::vector<std::string> name = {"hits"};
  for (const char* text : {"text", "", "1.5", " 1", "1 ", "01", "-01", "00", "-0", "+1", "1e3",
                           "9223372036854775808", "-9223372036854775809", "10000000000000000000"}) {
    redis_.Command({"SET", kKey, text});
    const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("hits"));
    EXPECT_THAT(counter_.Add(0), refused) << '"' << text << '"';
    EXPECT_THAT(counter_.Get(), refused) << '"' << text << '"';
    EXPECT_THAT(counter_.Set(1), refused) << '"' << text << '"';
    EXPECT_THAT(counter_.Reset(), refused) << '"' << text << '"';
    EXPECT_THAT(counter_.GetAndReset(OperationId::New()), refused) << '"' << text << '"';
    ASSERT_OK_AND_ASSIGN(const auto values, GetCounters(client_, name));
    EXPECT_THAT(values.at(0), refused) << '"' << text << '"';
    EXPECT_EQ(Stored(), text);
  }
  for (const std::int64_t value : {kLeast, kLeast + 1, kMost, kMost - 1, std::int64_t{0},
                                   std::int64_t{-1}, std::int64_t{1000000000000000000}}) {
    redis_.Command({"SET", kKey, std::to_string(value)});
    EXPECT_THAT(counter_.Get(), IsOkAndHolds(value));
    EXPECT_THAT(counter_.GetAndReset(), IsOkAndHolds(value));
    EXPECT_FALSE(Exists());
  }
}

TEST_F(CounterTest, AKeyOfAnotherTypeIsReportedAndLeftAlone) {
  redis_.Command({"RPUSH", kKey, "a", "b"});
  EXPECT_THAT(counter_.Add(1), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("hits")));
  EXPECT_THAT(counter_.Get(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(counter_.Set(1), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(counter_.Reset(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"LLEN", kKey}), 2);
  EXPECT_EQ(Left(), -1);
}

// ---- Arguments ----

TEST_F(CounterTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::string& name : {std::string(), std::string(513, 'x'), std::string("}x")}) {
    const Counter counter(client_, name);
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name"));
    EXPECT_THAT(counter.Add(1), refused);
    EXPECT_THAT(counter.Get(), refused);
    EXPECT_THAT(counter.Set(1), refused);
    EXPECT_THAT(counter.Reset(), refused);
  }
  for (const absl::Duration ttl :
       {absl::ZeroDuration(), -absl::Seconds(1), absl::Hours(24 * 366 * 100),
        absl::InfiniteDuration(), -absl::InfiniteDuration()}) {
    const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                  AllOf(HasSubstr("ttl"), HasSubstr(absl::FormatDuration(ttl))));
    EXPECT_THAT(counter_.Add(1, Living(ttl, TtlMode::kOnCreate)), refused);
    EXPECT_THAT(counter_.Set(1, ttl), refused);
  }
  EXPECT_THAT(counter_.Add(1, Within(4, 3, Overflow::kReject)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("min"), HasSubstr("4"), HasSubstr("max"), HasSubstr("3"))));
  EXPECT_THAT(counter_.Add(1, {}, {.timeout = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_THAT(counter_.Get({.timeout = -absl::Seconds(1)}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("timeout")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_EQ(CommandCalls(redis_, "get"), 0);
  EXPECT_FALSE(Exists());
}

TEST_F(CounterTest, EveryCallIsOneRoundTrip) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK(counter_.Add(1).status());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  ASSERT_OK(counter_.Set(1).status());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 2);
  ASSERT_OK(counter_.Reset().status());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 3);
  ASSERT_OK(counter_.Get().status());
  EXPECT_LE(CommandCalls(redis_, "evalsha"), 4);
  EXPECT_EQ(CommandCalls(redis_, "eval"), 0);
}

// ---- On a key of one's own ----

TEST_F(CounterTest, OnAKeyCountsWhatOtherProgramsCountAndKeepsNothingElse) {
  const Counter counter = Counter::OnKey(client_, "app:visits");
  redis_.Command({"INCRBY", "app:visits", "40"});
  EXPECT_THAT(counter.Add(2), Is(42, true));
  EXPECT_THAT(counter.Get(), IsOkAndHolds(42));
  EXPECT_EQ(redis_.Integer({"INCR", "app:visits"}), 43);
  EXPECT_THAT(counter.Set(7, absl::Seconds(60)), IsOkAndHolds(43));
  EXPECT_GT(redis_.Integer({"PTTL", "app:visits"}), 0);
  EXPECT_THAT(counter.Reset(), IsOkAndHolds(7));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(CounterTest, OnAKeyOperationsWithIdsHappenOnce) {
  for (const std::string key : {"plain", "app:{user:1}:visits"}) {
    const Counter counter = Counter::OnKey(client_, key);
    const OperationId id = OperationId::New();
    EXPECT_THAT(counter.Add(5, {.operation_id = id}), Is(5, true));
    EXPECT_THAT(counter.Add(5, {.operation_id = id}), Is(5, true));
    EXPECT_THAT(counter.Get(), IsOkAndHolds(5));
    ASSERT_OK_AND_ASSIGN(const std::optional<CounterResult> kept, counter.Resolve(id));
    ASSERT_TRUE(kept.has_value());
    EXPECT_EQ(kept->value, 5);
    const OperationId reset = OperationId::New();
    EXPECT_THAT(counter.GetAndReset(reset), IsOkAndHolds(5));
    EXPECT_THAT(counter.GetAndReset(reset), IsOkAndHolds(5));
  }
}

TEST_F(CounterTest, OnAKeyAnIdOfAnotherKeyWithTheSameHashTagIsRefused) {
  const OperationId id = OperationId::New(), reset = OperationId::New();
  const Counter one = Counter::OnKey(client_, "{user}:a"),
                two = Counter::OnKey(client_, "{user}:b");
  EXPECT_THAT(one.Add(5, {.operation_id = id}), Is(5, true));
  EXPECT_THAT(two.Add(5, {.operation_id = id}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(one.GetAndReset(reset), IsOkAndHolds(5));
  EXPECT_THAT(two.GetAndReset(reset), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(two.Get(), IsOkAndHolds(0));
}

TEST_F(CounterTest, OnAKeyThatIsEmptyOrTooLongNothingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::string& key : {std::string(), std::string(1025, 'k')}) {
    EXPECT_THAT(Counter::OnKey(client_, key).Add(1),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 to 1024")));
    EXPECT_THAT(Counter::OnKey(client_, key).Get(), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  // Such a long one has no room for ids.
  const std::string longest(1024, 'k');
  EXPECT_THAT(Counter::OnKey(client_, longest).Add(1, {.operation_id = OperationId::New()}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_THAT(Counter::OnKey(client_, longest).Add(1), Is(1, true));
}

}  // namespace
}  // namespace coord
