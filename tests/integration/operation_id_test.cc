// Operations with an id: applied once, answered alike, refused when misused, gone after the window.
#include "coord/operation_id.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/once.h"
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
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::HasSubstr;
using Overflow = AddOptions::Overflow;

constexpr char kCount[] = "coord:{hits}:count";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

TEST(FingerprintTest, ArgumentsAreToldApartAndSoAreTheirBorders) {
  using internal::Fingerprint;
  EXPECT_EQ(Fingerprint('c', {"a", "b"}), Fingerprint('c', {"a", "b"}));
  EXPECT_EQ(Fingerprint('c', {"1", "", "", "reject", "", "create"}), "cG849Tia4204");
  std::set<std::string> all;
  for (const std::string& one :
       {Fingerprint('c', {"ab", "c"}), Fingerprint('c', {"a", "bc"}), Fingerprint('c', {"abc"}),
        Fingerprint('c', {"abc", ""}), Fingerprint('c', {"", "abc"}), Fingerprint('l', {"abc"}),
        Fingerprint('c', {}), Fingerprint('c', {""})}) {
    EXPECT_EQ(one.size(), 12u);
    EXPECT_EQ(one.find(' '), std::string::npos);
    all.insert(one);
  }
  EXPECT_EQ(all.size(), 8u);
}

TEST(OperationIdTest, NewOnesAreValidAndDiffer) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const OperationId id = OperationId::New();
    EXPECT_TRUE(id.valid()) << id.text();
    ids.insert(id.text());
  }
  EXPECT_EQ(ids.size(), 100u);
}

class OnceTest : public ::testing::Test {
 protected:
  std::int64_t Stored() { return std::stoll("0" + redis_.Command({"GET", kCount}).text()); }
  // The tables of answers.
  std::vector<std::string> Tables() {
    std::vector<std::string> keys;
    const Reply found = redis_.Command({"KEYS", "coord:{hits}:op:*"});
    for (const Reply& key : found.items()) keys.push_back(key.text());
    return keys;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
  Counter counter_{client_, "hits"};
};

TEST_F(OnceTest, ARepetitionGetsTheFirstAnswerAndAddsNothing) {
  const OperationId id = OperationId::New();
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(CounterResult result, counter_.Add(5, {.operation_id = id}));
    EXPECT_EQ(result.value, 5);
    EXPECT_TRUE(result.applied);
    ASSERT_OK(counter_.Add(100).status());  // what came since changes no answer
  }
  EXPECT_EQ(Stored(), 305);
  // By another client, too, and under another id it is another operation.
  ASSERT_OK_AND_ASSIGN(CounterResult again,
                       Counter(ConnectTo(server_.url()), "hits").Add(5, {.operation_id = id}));
  EXPECT_EQ(again.value, 5);
  ASSERT_OK_AND_ASSIGN(CounterResult other, counter_.Add(5, {.operation_id = OperationId::New()}));
  EXPECT_EQ(other.value, 310);
}

TEST_F(OnceTest, ARejectionStaysOne) {
  const OperationId id("upload-17");
  const AddOptions bounded{.max = 3, .operation_id = id};
  ASSERT_OK(counter_.Set(2).status());
  ASSERT_OK_AND_ASSIGN(CounterResult first, counter_.Add(2, bounded));
  EXPECT_FALSE(first.applied);
  EXPECT_EQ(first.value, 2);
  ASSERT_OK(counter_.Reset().status());
  ASSERT_OK_AND_ASSIGN(CounterResult second, counter_.Add(2, bounded));
  EXPECT_FALSE(second.applied);
  EXPECT_EQ(second.value, 2);
  EXPECT_EQ(Stored(), 0);
  const AddOptions saturating{
      .max = 3, .overflow = Overflow::kSaturate, .operation_id = OperationId("upload-18")};
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(CounterResult cut, counter_.Add(9, saturating));
    EXPECT_FALSE(cut.applied);
    EXPECT_EQ(cut.value, 3);
  }
}

TEST_F(OnceTest, TheSameIdWithOtherArgumentsIsRefused) {
  const OperationId id = OperationId::New();
  ASSERT_OK(counter_.Add(5, {.operation_id = id}).status());
  const AddOptions others[] = {{.min = 0, .operation_id = id},
                               {.max = 9, .operation_id = id},
                               {.ttl = absl::Seconds(9), .operation_id = id},
                               {.overflow = Overflow::kSaturate, .operation_id = id}};
  for (const AddOptions& other : others) {
    EXPECT_THAT(counter_.Add(5, other),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments")));
  }
  EXPECT_THAT(counter_.Add(6, {.operation_id = id}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hits")));
  EXPECT_EQ(Stored(), 5);
}

TEST_F(OnceTest, ABadIdIsRefusedBeforeAnythingIsSent) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const std::string& text : {std::string(), std::string("a b"), std::string("a}"),
                                  std::string("\0", 1), std::string("ä"), std::string(65, 'x')}) {
    EXPECT_THAT(counter_.Add(1, {.operation_id = OperationId(text)}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
    EXPECT_THAT(counter_.Resolve(OperationId(text)).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  }
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 0);
  EXPECT_OK(counter_.Add(1, {.operation_id = OperationId(std::string(64, 'x'))}).status());
}

TEST_F(OnceTest, ResolveTellsWhatWasAppliedAndVoidsWhatWasNot) {
  const OperationId applied = OperationId::New();
  ASSERT_OK(counter_.Add(5, {.operation_id = applied}).status());
  ASSERT_OK_AND_ASSIGN(std::optional<CounterResult> result, counter_.Resolve(applied));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->value, 5);
  EXPECT_TRUE(result->applied);

  const OperationId late = OperationId::New();
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(std::optional<CounterResult> none, counter_.Resolve(late));
    EXPECT_FALSE(none.has_value());
  }
  EXPECT_THAT(counter_.Add(7, {.operation_id = late}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("void")));
  EXPECT_EQ(Stored(), 5);
}

TEST_F(OnceTest, AnIdOfAnotherKindOfObjectIsNotMistaken) {
  const OperationId id = OperationId::New();
  ASSERT_OK(counter_.Add(1, {.operation_id = id}).status());
  ASSERT_EQ(Tables().size(), 1u);
  redis_.Command({"HSET", Tables()[0], id.text(), "lAAAAAAAAAAA 1 2 3"});
  EXPECT_THAT(counter_.Add(1, {.operation_id = id}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation id")));
  EXPECT_THAT(counter_.Resolve(id).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("another kind")));
}

TEST_F(OnceTest, AnswersAreKeptForTheWindowAndAtMostTwiceThat) {
  const Client brief = ConnectTo(server_.url(), {.operation_window = absl::Seconds(1)});
  const Counter counter(brief, "hits");
  const OperationId id("a");
  ASSERT_OK(counter.Add(5, {.operation_id = id}).status());
  ASSERT_EQ(Tables().size(), 1u);
  const std::string recent = Tables()[0];
  EXPECT_GT(redis_.Integer({"PTTL", recent}), 1000);
  EXPECT_LE(redis_.Integer({"PTTL", recent}), 2000);
  // A window later the table takes no more answers, and is kept for another.
  redis_.Command({"PEXPIRE", recent, "999"});
  for (int i = 0; redis_.Integer({"EXISTS", recent + ":older"}) == 0; ++i) {
    ASSERT_LT(i, 5000) << "no id falls into the same table";
    ASSERT_OK(counter.Add(1, {.operation_id = OperationId("b" + std::to_string(i))}).status());
    if (redis_.Integer({"EXISTS", recent + ":older"}) == 0) {
      redis_.Command({"PEXPIRE", recent, "999"});
    }
  }
  EXPECT_LE(redis_.Integer({"PTTL", recent + ":older"}), 999);
  EXPECT_GT(redis_.Integer({"PTTL", recent}), 1000);
  const std::int64_t before = Stored();
  ASSERT_OK_AND_ASSIGN(CounterResult again, counter.Add(5, {.operation_id = id}));
  EXPECT_EQ(again.value, 5);
  EXPECT_EQ(Stored(), before);
  EXPECT_TRUE(Eventually([&] { return Tables().empty(); }));
  ASSERT_OK_AND_ASSIGN(CounterResult anew, counter.Add(5, {.operation_id = id}));
  EXPECT_EQ(anew.value, before + 5);
}

TEST_F(OnceTest, TheWindowHasLimits) {
  for (const absl::Duration window : {absl::Milliseconds(999), absl::Hours(25)}) {
    EXPECT_THAT(Client::Connect(server_.url(), {.operation_window = window}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("operation_window")));
  }
}

TEST_F(OnceTest, AnOperationTakes140BytesAtMost) {
  ASSERT_OK(counter_.Add(1).status());
  const auto used = [&] {
    const std::string info = redis_.Text({"INFO", "memory"});
    const auto at = info.find("used_memory:") + 12;
    return std::stoll(info.substr(at));
  };
  constexpr int kOperations = 20'000;
  const long long before = used();
  for (int i = 0; i < kOperations; ++i) {
    ASSERT_OK(counter_.Add(1, {.operation_id = OperationId::New()}).status());
  }
  const long long each = (used() - before) / kOperations;
  RecordProperty("bytes", std::to_string(each));
  EXPECT_LE(each, 140);
  EXPECT_EQ(Tables().size(), 64u);
}

// ---- When replies are lost ----

TEST(OnceFaultTest, WithIdsTheCountIsExactThoughRepliesAreLost) {
  RedisServer server({.port = 0});
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  const Counter counter(client, "hits");
  for (int i = 1; i <= 50; ++i) {
    ASSERT_OK(counter.Get().status());  // connected again
    proxy.ResetBeforeReply();
    ASSERT_OK_AND_ASSIGN(CounterResult result,
                         counter.Add(1, {.operation_id = OperationId::New()}));
    EXPECT_EQ(result.value, i);
    EXPECT_EQ(redis.Text({"GET", kCount}), std::to_string(i));
  }
}

TEST(OnceFaultTest, ATimedOutAdditionIsResolvedOneWayOrTheOther) {
  RedisServer server({.port = 0});
  FaultProxy proxy(server.url());
  const Client through = ConnectTo(proxy.url(), {.timeout = absl::Milliseconds(100)});
  const Counter slow(through, "hits");
  const Counter counter(ConnectTo(server.url()), "hits");
  ASSERT_OK(slow.Get().status());
  // It arrived, and its answer did not.
  proxy.Set(Direction::kReplies, {.hold = true});
  const OperationId arrived = OperationId::New();
  EXPECT_TRUE(IsOutcomeUnknown(slow.Add(1, {.operation_id = arrived}).status()));
  ASSERT_OK_AND_ASSIGN(std::optional<CounterResult> result, counter.Resolve(arrived));
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->value, 1);
  // It is still under way when it is declared void, and refused when it arrives.
  proxy.Heal();
  ASSERT_TRUE(Eventually([&] { return slow.Get().ok(); }));
  proxy.Set(Direction::kRequests, {.hold = true});
  const OperationId held = OperationId::New();
  EXPECT_TRUE(IsOutcomeUnknown(slow.Add(1, {.operation_id = held}).status()));
  ASSERT_OK_AND_ASSIGN(std::optional<CounterResult> none, counter.Resolve(held));
  EXPECT_FALSE(none.has_value());
  RawRedis redis(server);
  const std::int64_t before = CommandCalls(redis, "evalsha");
  proxy.Heal();
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis, "evalsha") > before; }));
  EXPECT_EQ(redis.Text({"GET", kCount}), "1");
}

}  // namespace
}  // namespace coord
