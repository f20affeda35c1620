// JsonDocument::Apply, CreateIfAbsent, Update, and documents under raw keys.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/json_document.h"
#include "gtest/gtest.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;
using Operator = JsonTest::Operator;
using Outcome = CasResult::Outcome;

const CasResult kApplied{Outcome::kApplied};
const CasResult kMissing{Outcome::kMissing};
CasResult Mismatch(std::size_t test, std::optional<std::string> current) {
  return {Outcome::kMismatch, test, std::move(current)};
}

RedisServer& Server() {
  static RedisServer server;
  return server;
}

class JsonChangeTest : public ::testing::Test {
 protected:
  JsonChangeTest() : redis_(Server()) { redis_.Command({"FLUSHALL"}); }

  static Client Connect(ClientOptions options = {}) {
    absl::StatusOr<Client> client = Client::Connect(Server().url(), std::move(options));
    if (!client.ok()) ADD_FAILURE() << client.status();
    return *std::move(client);
  }

  void Store(const std::string& text) { redis_.Command({"SET", kKey, text}); }
  std::string Stored() { return redis_.Text({"GET", kKey}); }
  std::int64_t TimeLeft() { return redis_.Integer({"PTTL", kKey}); }

  // Whether one test holds of `text`.
  bool Holds(const std::string& text, JsonTest test) {
    Store(text);
    const auto result = document_.Apply({.when = {{std::move(test)}}, .set = {{"/done", "1"}}});
    EXPECT_OK(result);
    if (!result.ok()) return false;
    EXPECT_EQ(result->applied(), Stored() != text);
    return result->applied();
  }

  // What assignments, without a test, make of `text`.
  std::string After(const std::string& text, std::vector<JsonAssignment> set) {
    Store(text);
    EXPECT_THAT(document_.Apply({.set = std::move(set)}), IsOkAndHolds(kApplied));
    return Stored();
  }

  void ExpectRefused(const std::string& text, const JsonChange& change, absl::StatusCode code,
                     const std::string& part) {
    Store(text);
    EXPECT_THAT(document_.Apply(change), StatusIs(code, HasSubstr(part)));
    EXPECT_EQ(Stored(), text);
  }

  static constexpr char kKey[] = "coord:{doc}:json";
  RawRedis redis_;
  Client client_ = Connect();
  JsonDocument document_{client_, "doc"};
};

// ---- Tests ----

TEST_F(JsonChangeTest, NotEqualsHoldsOfAnotherValueAndOfNone) {
  EXPECT_TRUE(Holds(R"({"a":1})", {"/a", "2", Operator::kNotEquals}));
  EXPECT_TRUE(Holds(R"({"a":1})", {"/a", "\"1\"", Operator::kNotEquals}));
  EXPECT_TRUE(Holds(R"({"a":1})", {"/b", "2", Operator::kNotEquals}));
  EXPECT_FALSE(Holds(R"({"a":1})", {"/a", "1.0", Operator::kNotEquals}));
  EXPECT_FALSE(
      Holds(R"({"a":[{"x":1,"y":2}]})", {"/a", R"([ {"y":2, "x":1e0} ])", Operator::kNotEquals}));
}

TEST_F(JsonChangeTest, NotEqualsToNothingWantsAValue) {
  EXPECT_TRUE(Holds(R"({"a":null})", {"/a", std::nullopt, Operator::kNotEquals}));
  EXPECT_FALSE(Holds(R"({"a":null})", {"/b", std::nullopt, Operator::kNotEquals}));
  EXPECT_TRUE(Holds(R"({"a":null})", {"/b", std::nullopt}));
  EXPECT_FALSE(Holds(R"({"a":null})", {"/a", std::nullopt}));
}

TEST_F(JsonChangeTest, NumbersAreOrderedByTheirExactDecimalValue) {
  const std::vector<std::string> rising = {"-1e400",
                                           "-9007199254740993",
                                           "-9007199254740992",
                                           "-10",
                                           "-9.5",
                                           "-0.001",
                                           "0",
                                           "1e-400",
                                           "0.0010",
                                           "0.01",
                                           "1",
                                           "1.5",
                                           "9",
                                           "10",
                                           "99e1",
                                           "1000",
                                           "9007199254740992",
                                           "9007199254740993",
                                           "123456789012345678901234567890",
                                           "1e400"};
  for (std::size_t i = 0; i < rising.size(); ++i) {
    for (std::size_t j = 0; j < rising.size(); ++j) {
      const std::string text = "{\"n\": " + rising[i] + "}";
      SCOPED_TRACE(rising[i] + " and " + rising[j]);
      EXPECT_EQ(Holds(text, {"/n", rising[j], Operator::kLess}), i < j);
      EXPECT_EQ(Holds(text, {"/n", rising[j], Operator::kGreater}), i > j);
    }
  }
  EXPECT_FALSE(Holds(R"({"n":-0})", {"/n", "0", Operator::kLess}));
  EXPECT_FALSE(Holds(R"({"n":1.0})", {"/n", "10e-1", Operator::kGreater}));
}

TEST_F(JsonChangeTest, StringsAreOrderedByTheBytesOfWhatTheyMean) {
  const std::vector<std::string> rising = {
      R"("")",  R"("2026-11-21T09:00:00Z")", R"("2026-11-21T10:00:00Z")",
      R"("a")", R"("\u0061\u0062")",         R"("b")",
      R"("ü")"};
  for (std::size_t i = 0; i < rising.size(); ++i) {
    for (std::size_t j = 0; j < rising.size(); ++j) {
      const std::string text = "{\"s\": " + rising[i] + "}";
      SCOPED_TRACE(rising[i] + " and " + rising[j]);
      EXPECT_EQ(Holds(text, {"/s", rising[j], Operator::kLess}), i < j);
      EXPECT_EQ(Holds(text, {"/s", rising[j], Operator::kGreater}), i > j);
    }
  }
}

TEST_F(JsonChangeTest, WhatHasNoOrderIsNeitherLessNorGreater) {
  for (const char* value : {"null", "true", "[1]", R"({"a":1})", R"("5")"}) {
    for (const Operator op : {Operator::kLess, Operator::kGreater}) {
      EXPECT_FALSE(Holds(std::string("{\"x\":") + value + "}", {"/x", "5", op})) << value;
      EXPECT_FALSE(Holds(R"({"x":5})", {"/gone", "5", op}));
      EXPECT_FALSE(Holds(R"({"x":5})", {"/x", R"("5")", op}));
    }
  }
}

TEST_F(JsonChangeTest, SameTextComparesBytes) {
  EXPECT_TRUE(Holds(R"({"n":1.0})", {"/n", "1.0", Operator::kSameText}));
  EXPECT_FALSE(Holds(R"({"n":1.0})", {"/n", "1", Operator::kSameText}));
  EXPECT_FALSE(Holds(R"({"n":1.0})", {"", R"({"n": 1.0})", Operator::kSameText}));
  EXPECT_TRUE(Holds(R"({"n":1.0})", {"", R"({"n":1.0})", Operator::kSameText}));
}

TEST_F(JsonChangeTest, OneOfSeveralListsOfTestsMustHoldWhole) {
  const auto try_with = [&](const std::string& text) {
    Store(text);
    return document_.Apply({.when = {{{"/a", "1"}, {"/b", "1"}},
                                     {{"/a", "2"}, {"/b", "2"}},
                                     {{"/c", std::nullopt}, {"/b", "3"}}},
                            .set = {{"/a", "0"}}});
  };
  EXPECT_THAT(try_with(R"({"a":1,"b":1,"c":1})"), IsOkAndHolds(kApplied));
  EXPECT_THAT(try_with(R"({"a":2,"b":2,"c":1})"), IsOkAndHolds(kApplied));
  EXPECT_THAT(try_with(R"({"a":2,"b":3})"), IsOkAndHolds(kApplied));
  // No list whole: the answer is the first list's.
  EXPECT_THAT(try_with(R"({"a":1,"b":2,"c":1})"), IsOkAndHolds(Mismatch(1, "2")));
  EXPECT_THAT(try_with(R"({"a":2,"b":1})"), IsOkAndHolds(Mismatch(0, "2")));
  EXPECT_THAT(try_with(R"({"b":7,"c":7})"), IsOkAndHolds(Mismatch(0, std::nullopt)));
  EXPECT_EQ(Stored(), R"({"b":7,"c":7})");
}

TEST_F(JsonChangeTest, AStaleClaimIsTakenOverByOneOfMany) {
  const auto claim = [](const JsonDocument& document, const std::string& me, int now) {
    return document.Apply(
        {.when = {{{"/state", "\"free\""}},
                  {{"/state", "\"taken\""}, {"/seen", std::to_string(now - 30), Operator::kLess}}},
         .set = {{"/state", "\"taken\""}, {"/by", me}, {"/seen", std::to_string(now)}}});
  };
  Store(R"({"id":7,"state":"free"})");
  EXPECT_THAT(claim(document_, "\"a\"", 1000), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"id":7,"state":"taken","by":"a","seen":1000})");
  EXPECT_THAT(claim(document_, "\"b\"", 1030), IsOkAndHolds(Mismatch(0, "\"taken\"")));
  std::atomic<int> winners = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&, i] {
        const auto result = claim(document_, std::to_string(i), 1031);
        ASSERT_OK(result);
        winners += result->applied() ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(winners, 1);
}

TEST_F(JsonChangeTest, WithoutTestsTheDocumentMustBeThere) {
  EXPECT_THAT(document_.Apply({.set = {{"/a", "1"}}}), IsOkAndHolds(kMissing));
  EXPECT_THAT(document_.Apply({.set = {{"", "{}"}}}), IsOkAndHolds(kMissing));
  EXPECT_THAT(document_.Apply({.ttl = absl::Seconds(5)}), IsOkAndHolds(kMissing));
  EXPECT_EQ(redis_.Integer({"EXISTS", kKey}), 0);
}

// ---- Changes ----

TEST_F(JsonChangeTest, AMemberIsRemovedWithOneCommaAndItsWhiteSpace) {
  const std::string text = R"({"a":1,"b":[2, 3],"c":"x"})";
  EXPECT_EQ(After(text, {{"/a", std::nullopt}}), R"({"b":[2, 3],"c":"x"})");
  EXPECT_EQ(After(text, {{"/b", std::nullopt}}), R"({"a":1,"c":"x"})");
  EXPECT_EQ(After(text, {{"/c", std::nullopt}}), R"({"a":1,"b":[2, 3]})");
  EXPECT_EQ(After(R"({"a":1})", {{"/a", std::nullopt}}), "{}");
  EXPECT_EQ(After(R"({ "a" : 1 })", {{"/a", std::nullopt}}), "{  }");
  const std::string pretty = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}\n";
  EXPECT_EQ(After(pretty, {{"/a", std::nullopt}}), "{\n  \"b\": 2,\n  \"c\": 3\n}\n");
  EXPECT_EQ(After(pretty, {{"/b", std::nullopt}}), "{\n  \"a\": 1,\n  \"c\": 3\n}\n");
  EXPECT_EQ(After(pretty, {{"/c", std::nullopt}}), "{\n  \"a\": 1,\n  \"b\": 2\n}\n");
}

TEST_F(JsonChangeTest, NamesWithEscapesAreRemovedWhole) {
  EXPECT_EQ(
      After(R"({"x":0,"say \"a\", \\":{"\u0061":[]},"y":1})", {{R"(/say "a", \)", std::nullopt}}),
      R"({"x":0,"y":1})");
  EXPECT_EQ(After(R"({"\\":1,"\"":2})", {{"/\"", std::nullopt}}), R"({"\\":1})");
  EXPECT_EQ(After(R"({"a/b":1,"a~b":2})", {{"/a~1b", std::nullopt}}), R"({"a~b":2})");
}

TEST_F(JsonChangeTest, AnElementIsRemovedAndThoseBehindMoveUp) {
  EXPECT_EQ(After("[1, 2, 3]", {{"/0", std::nullopt}}), "[2, 3]");
  EXPECT_EQ(After("[1, 2, 3]", {{"/1", std::nullopt}}), "[1, 3]");
  EXPECT_EQ(After("[1, 2, 3]", {{"/2", std::nullopt}}), "[1, 2]");
  EXPECT_EQ(After(R"({"a":[["x"]]})", {{"/a/0/0", std::nullopt}}), R"({"a":[[]]})");
  EXPECT_EQ(After("[0,1,2,3]", {{"/0", std::nullopt}, {"/0", std::nullopt}, {"/1", "9"}}), "[2,9]");
}

TEST_F(JsonChangeTest, RemovingWhatIsNotThereChangesNothing) {
  EXPECT_EQ(After(R"({"a":[1]})", {{"/b", std::nullopt}}), R"({"a":[1]})");
  EXPECT_EQ(After(R"({"a":[1]})", {{"/a/7", std::nullopt}}), R"({"a":[1]})");
  EXPECT_EQ(After(R"({"a":[1]})", {{"/x/y/z", std::nullopt}}), R"({"a":[1]})");
}

TEST_F(JsonChangeTest, TheWholeIsRemovedWhenItsTestHolds) {
  Store(R"({"by":"me"})");
  redis_.Command({"PEXPIRE", kKey, "100000"});
  const JsonChange remove{.when = {{{"/by", "\"me\""}}}, .set = {{"", std::nullopt}}};
  EXPECT_THAT(document_.Apply(remove), IsOkAndHolds(kApplied));
  EXPECT_EQ(redis_.Integer({"EXISTS", kKey}), 0);
  EXPECT_THAT(document_.Apply(remove), IsOkAndHolds(kMissing));
  Store(R"({"by":"you"})");
  EXPECT_THAT(document_.Apply(remove), IsOkAndHolds(Mismatch(0, "\"you\"")));
}

TEST_F(JsonChangeTest, ADashAppendsBehindTheLastElement) {
  EXPECT_EQ(After("[]", {{"/-", "1"}}), "[1]");
  EXPECT_EQ(After("[ ]", {{"/-", "1"}}), "[1 ]");
  EXPECT_EQ(After("[1, 2 ]", {{"/-", "\"x\""}, {"/-", "[]"}}), "[1, 2,\"x\",[] ]");
  EXPECT_EQ(After(R"({"log":[[0]],"n":1})", {{"/log/0/-", "1"}, {"/log/-", "2"}}),
            R"({"log":[[0,1],2],"n":1})");
  // In an object it is a name as any other.
  EXPECT_EQ(After(R"({"-":1})", {{"/-", "2"}}), R"({"-":2})");
  EXPECT_EQ(After(R"({"-":1})", {{"/-", std::nullopt}}), "{}");
  const auto result = document_.CompareAndSetFields({{"/done", std::nullopt}}, {{"/done", "[]"}});
  EXPECT_THAT(result, IsOkAndHolds(kApplied));
  EXPECT_THAT(document_.CompareAndSetFields({{"/done", "[]"}}, {{"/done/-", "1"}}),
              IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"done":[1]})");
}

TEST_F(JsonChangeTest, ADashThatNamesNoPlaceIsRefused) {
  const auto code = absl::StatusCode::kFailedPrecondition;
  ExpectRefused("[1]", {.when = {{{"/-", std::nullopt}}}, .set = {{"/0", "2"}}}, code, "\"-\"");
  ExpectRefused("[1]", {.set = {{"/-", std::nullopt}}}, code, "\"-\"");
  ExpectRefused("[1]", {.set = {{"/-/x", "1"}}}, code, "parent");
  ExpectRefused("[1]", {.set = {{"/0", "2"}, {"/7", "1"}}}, code, "assignment 2");
}

TEST_F(JsonChangeTest, AllAssignmentsAreMadeOrNone) {
  ExpectRefused(R"({"a":1,"b":2})", {.set = {{"/a", std::nullopt}, {"/b", "3"}, {"/x/y", "1"}}},
                absl::StatusCode::kFailedPrecondition, "assignment 3");
  EXPECT_EQ(After(R"({"a":1,"b":2})", {{"/c", "{}"}, {"/c/d", "1"}, {"/a", std::nullopt}}),
            R"({"b":2,"c":{"d":1}})");
}

TEST_F(JsonChangeTest, TheTimeToLiveIsKeptSetOrCleared) {
  Store(R"({"a":1})");
  redis_.Command({"PEXPIRE", kKey, "100000"});
  EXPECT_OK(document_.Apply({.set = {{"/a", std::nullopt}, {"/b", "1"}}}));
  EXPECT_GT(TimeLeft(), 90'000);
  EXPECT_OK(document_.Apply({.set = {{"/a", "2"}}, .ttl = absl::Seconds(1000)}));
  EXPECT_GT(TimeLeft(), 990'000);
  EXPECT_LE(TimeLeft(), 1'000'000);
  EXPECT_OK(document_.Apply({.ttl = absl::InfiniteDuration()}));
  EXPECT_EQ(TimeLeft(), -1);
  EXPECT_EQ(Stored(), R"({"b":1,"a":2})");
  EXPECT_OK(document_.Apply({.when = {{{"/a", "2"}}}, .ttl = absl::Microseconds(1500)}));
  EXPECT_LE(TimeLeft(), 2);
  EXPECT_OK(document_.Set("1", {.ttl = absl::Seconds(5)}));
  EXPECT_OK(document_.Set("2", {.ttl = absl::InfiniteDuration()}));
  EXPECT_EQ(TimeLeft(), -1);
}

// ---- Limits ----

TEST_F(JsonChangeTest, BadChangesAreRefusedBeforeAnythingIsSent) {
  Store(R"({"a":1})");
  const std::int64_t before = CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval");
  const auto bad = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(document_.Apply({}), bad);
  EXPECT_THAT(document_.Apply({.when = {{{"/a", "1"}}}}), bad);
  EXPECT_THAT(document_.Apply({.when = {{}}, .set = {{"/a", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.when = {{{"/a", "1"}}, {}}, .set = {{"/a", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.when = {{{"/a", "01"}}}, .set = {{"/a", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.when = {{{"a", "1"}}}, .set = {{"/a", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"a", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"a", std::nullopt}}}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"/a", ""}}}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"", std::nullopt}, {"", "1"}}}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"", std::nullopt}}, .ttl = absl::Seconds(1)}), bad);
  for (const absl::Duration ttl : {absl::ZeroDuration(), absl::Seconds(-1),
                                   -absl::InfiniteDuration(), absl::Hours(24 * 365 * 101)}) {
    EXPECT_THAT(document_.Apply({.ttl = ttl}), bad);
    EXPECT_THAT(document_.CreateIfAbsent("1", {.ttl = ttl}), bad);
  }
  for (const char* value : {"null", "true", "[1]", "{}", " 1"}) {
    EXPECT_THAT(document_.Apply({.when = {{{"/a", value, Operator::kLess}}}, .set = {{"/a", "1"}}}),
                bad);
  }
  EXPECT_THAT(
      document_.Apply({.when = {{{"/a", std::nullopt, Operator::kGreater}}}, .set = {{"/a", "1"}}}),
      bad);
  EXPECT_THAT(document_.Apply({.when = {std::vector<JsonTest>(64, {"/a", "1"}),
                                        std::vector<JsonTest>(64, {"/a", "1"})},
                               .set = {{"/a", "1"}}}),
              bad);
  EXPECT_THAT(document_.Apply({.set = std::vector<JsonAssignment>(129, {"/a", "1"})}), bad);
  EXPECT_THAT(document_.Apply({.set = {{"/a", "1"}}, .operation_id = OperationId("no good")}), bad);
  EXPECT_THAT(document_.CreateIfAbsent("{"), bad);
  EXPECT_THAT(document_.Update([](const auto&) { return "nope"; }), bad);
  EXPECT_THAT(document_.Update([](const auto&) { return "1"; }, {.max_attempts = 0}), bad);
  EXPECT_THAT(JsonDocument::OnKey(client_, "").Get(), bad);
  EXPECT_THAT(JsonDocument::OnKey(client_, std::string(513, 'k')).Set("1"), bad);
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), before);
  EXPECT_EQ(Stored(), R"({"a":1})");
}

TEST_F(JsonChangeTest, WhatIsStoredAndNoJsonIsLeftAsItWas) {
  for (const char* text : {"", "{", R"({"a":01,"b":1})", R"({"b":1,})", R"({"b":1 "c":2})",
                           R"(["\x"])", R"({"b":nul})"}) {
    ExpectRefused(text, {.set = {{"/b", std::nullopt}}}, absl::StatusCode::kDataLoss, "not JSON");
  }
  ExpectRefused(R"({"b":1,"c":2,"b":3})", {.set = {{"/b", std::nullopt}}},
                absl::StatusCode::kFailedPrecondition, "repeats");
  redis_.Command({"DEL", kKey});
  redis_.Command({"RPUSH", kKey, "x"});
  EXPECT_THAT(document_.Apply({.set = {{"", "1"}}}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("WRONGTYPE")));
  EXPECT_EQ(redis_.Integer({"LLEN", kKey}), 1);
}

// ---- Exactly once ----

TEST_F(JsonChangeTest, AnOperationIsAppliedOnceAndItsAnswerRepeated) {
  Store("[]");
  const auto id = OperationId::New();
  const JsonChange change{.set = {{"/-", "1"}}, .operation_id = id};
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(kApplied));
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), "[1]");
  EXPECT_THAT(document_.Resolve(id), IsOkAndHolds(Optional(kApplied)));
  EXPECT_THAT(document_.Apply({.set = {{"/-", "2"}}, .operation_id = id}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("other arguments")));
  EXPECT_EQ(Stored(), "[1]");
}

TEST_F(JsonChangeTest, AMismatchIsTheAnswerAlsoLater) {
  const auto id = OperationId::New();
  const JsonChange change{
      .when = {{{"/n", "0"}, {"/s", "1"}}}, .set = {{"/n", "5"}}, .operation_id = id};
  EXPECT_THAT(document_.Resolve(OperationId("early")), IsOkAndHolds(std::nullopt));
  Store(R"({"n":0,"s":"a b = ~"})");
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(Mismatch(1, R"("a b = ~")")));
  Store(R"({"n":0,"s":1})");
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(Mismatch(1, R"("a b = ~")")));
  EXPECT_THAT(document_.Resolve(id), IsOkAndHolds(Optional(Mismatch(1, R"("a b = ~")"))));
  EXPECT_EQ(Stored(), R"({"n":0,"s":1})");

  const JsonChange absent{
      .when = {{{"/gone", "0"}}}, .set = {{"/n", "5"}}, .operation_id = OperationId("absent")};
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(document_.Apply(absent), IsOkAndHolds(Mismatch(0, std::nullopt)));
  }
  EXPECT_THAT(document_.Resolve(OperationId("absent")),
              IsOkAndHolds(Optional(Mismatch(0, std::nullopt))));
}

TEST_F(JsonChangeTest, OfALargeValueInTheWayOnlyThatItWasThereIsKept) {
  const std::string large = "\"" + std::string(1023, 'x') + "\"";
  const std::string small = "\"" + std::string(1022, 'x') + "\"";
  const JsonChange change{
      .when = {{{"/s", "1"}}}, .set = {{"/s", "2"}}, .operation_id = OperationId("large")};
  Store("{\"s\":" + large + "}");
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(Mismatch(0, large)));
  const CasResult left_out{Outcome::kMismatch, 0, std::nullopt, true};
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(left_out));
  EXPECT_THAT(document_.Resolve(OperationId("large")), IsOkAndHolds(Optional(left_out)));
  Store("{\"s\":" + small + "}");
  JsonChange other = change;
  other.operation_id = OperationId("small");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(document_.Apply(other), IsOkAndHolds(Mismatch(0, small)));
  }
}

TEST_F(JsonChangeTest, AnOperationThatWasResolvedAsNotAppliedNeverIs) {
  Store("[]");
  const auto id = OperationId::New();
  EXPECT_THAT(document_.Resolve(id), IsOkAndHolds(std::nullopt));
  EXPECT_FALSE(document_.Apply({.set = {{"/-", "1"}}, .operation_id = id}).ok());
  EXPECT_EQ(Stored(), "[]");
}

TEST_F(JsonChangeTest, ARefusedOperationMayBeTriedAgain) {
  Store("{");
  const JsonChange change{.set = {{"/a", "1"}}, .operation_id = OperationId("again")};
  EXPECT_THAT(document_.Apply(change), StatusIs(absl::StatusCode::kDataLoss));
  Store("{}");
  EXPECT_THAT(document_.Apply(change), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"a":1})");
}

// ---- CreateIfAbsent and Update ----

TEST_F(JsonChangeTest, OnlyWhereThereIsNoneADocumentIsCreated) {
  EXPECT_THAT(document_.CreateIfAbsent(R"({"v":1})", {.ttl = absl::Seconds(100)}),
              IsOkAndHolds(kApplied));
  EXPECT_GT(TimeLeft(), 90'000);
  EXPECT_THAT(document_.CreateIfAbsent(R"({"v":2})"), IsOkAndHolds(Mismatch(0, R"({"v":1})")));
  EXPECT_THAT(document_.CreateIfAbsent(R"({"v":2})", {.ttl = absl::Seconds(1)}),
              IsOkAndHolds(Mismatch(0, R"({"v":1})")));
  EXPECT_GT(TimeLeft(), 90'000);
  EXPECT_EQ(Stored(), R"({"v":1})");
}

TEST_F(JsonChangeTest, UpdateStoresWhatTheFunctionMakesOfTheDocument) {
  std::vector<std::optional<std::string>> seen;
  const auto append = [&](const std::optional<std::string>& text) {
    seen.push_back(text);
    return text.value_or("") + "1";
  };
  EXPECT_THAT(document_.Update(append), IsOkAndHolds(std::string("1")));
  EXPECT_THAT(document_.Update(append, {.ttl = absl::Seconds(100)}),
              IsOkAndHolds(std::string("11")));
  EXPECT_EQ(seen, (std::vector<std::optional<std::string>>{std::nullopt, "1"}));
  EXPECT_EQ(Stored(), "11");
  EXPECT_GT(TimeLeft(), 90'000);
}

TEST_F(JsonChangeTest, AnErrorOfTheFunctionEndsAnUpdateAndNothingIsWritten) {
  Store("1");
  EXPECT_THAT(document_.Update([](const auto&) -> absl::StatusOr<std::string> {
    return absl::OutOfRangeError("enough");
  }),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("enough")));
  EXPECT_EQ(Stored(), "1");
}

TEST_F(JsonChangeTest, TheSameTextIsNotWrittenAgain) {
  Store(" 1");
  const std::int64_t before = CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval");
  EXPECT_THAT(document_.Update([](const auto& text) { return *text; }),
              IsOkAndHolds(std::string(" 1")));
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), before);
}

TEST_F(JsonChangeTest, AnUpdateThatIsOvertakenTriesAgainAndAtLastGivesUp) {
  Store("0");
  int calls = 0;
  const auto result = document_.Update([&](const std::optional<std::string>& text) {
    if (++calls < 3) redis_.Command({"SET", kKey, *text + " "});  // another's white space counts
    return "[" + *text + "]";
  });
  EXPECT_THAT(result, IsOkAndHolds(std::string("[0  ]")));
  EXPECT_EQ(calls, 3);

  calls = 0;
  const auto never = document_.Update(
      [&](const auto&) {
        redis_.Command({"SET", kKey, std::to_string(++calls)});
        return "\"mine\"";
      },
      {.max_attempts = 4});
  EXPECT_THAT(never, StatusIs(absl::StatusCode::kAborted, HasSubstr("4 times")));
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(Stored(), "4");
}

TEST_F(JsonChangeTest, UpdatesOfManyAreAllMade) {
  Store("0");
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        for (int k = 0; k < 25; ++k) {
          EXPECT_OK(document_.Update(
              [](const std::optional<std::string>& text) {
                return std::to_string(std::stoi(*text) + 1);
              },
              {.max_attempts = 1000, .exactly_once = i % 2 == 0}));
        }
      });
    }
  }
  EXPECT_EQ(Stored(), "200");
}

// ---- Raw keys ----

TEST_F(JsonChangeTest, ADocumentLiesUnderExactlyTheKeyThatIsGiven) {
  redis_.Command({"SET", "app:cfg", R"({"v":1})"});
  const JsonDocument document = JsonDocument::OnKey(client_, "app:cfg");
  EXPECT_THAT(document.Get(), IsOkAndHolds(Optional(std::string(R"({"v":1})"))));
  EXPECT_THAT(document.CompareAndSetField("/v", "1", "2"), IsOkAndHolds(kApplied));
  EXPECT_THAT(document.Apply({.set = {{"/w", "3"}}, .operation_id = OperationId("x")}),
              IsOkAndHolds(kApplied));
  EXPECT_THAT(document.Resolve(OperationId("x")), IsOkAndHolds(Optional(kApplied)));
  EXPECT_THAT(document.Update([](const auto& text) { return *text + " "; }),
              IsOkAndHolds(std::string(R"({"v":2,"w":3} )")));
  EXPECT_EQ(redis_.Text({"GET", "app:cfg"}), R"({"v":2,"w":3} )");
}

TEST_F(JsonChangeTest, AnIdOfOneRawKeyIsNoneOfAnotherWithTheSameTag) {
  redis_.Command({"MSET", "{t}a", "[]", "{t}b", "[]"});
  const JsonChange change{.set = {{"/-", "1"}}, .operation_id = OperationId("same")};
  EXPECT_THAT(JsonDocument::OnKey(client_, "{t}a").Apply(change), IsOkAndHolds(kApplied));
  EXPECT_THAT(JsonDocument::OnKey(client_, "{t}b").Apply(change),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(redis_.Text({"GET", "{t}b"}), "[]");
}

}  // namespace
}  // namespace coord
