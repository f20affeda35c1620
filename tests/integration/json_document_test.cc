#include "coord/json_document.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
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

class JsonDocumentTest : public ::testing::Test {
 protected:
  JsonDocumentTest() : redis_(Server()) { redis_.Command({"FLUSHALL"}); }

  static Client Connect() {
    absl::StatusOr<Client> client = Client::Connect(Server().url());
    if (!client.ok()) ADD_FAILURE() << client.status();
    return *std::move(client);
  }

  void Store(const std::string& text) { redis_.Command({"SET", kKey, text}); }
  std::string Stored() { return redis_.Text({"GET", kKey}); }

  // A compare-and-set of one field of `before`, which must be applied and give `after`.
  void ExpectField(const std::string& before, std::string_view path,
                   std::optional<std::string_view> expected, std::string_view value,
                   const std::string& after) {
    Store(before);
    EXPECT_THAT(document_.CompareAndSetField(path, expected, value), IsOkAndHolds(kApplied))
        << before;
    EXPECT_EQ(Stored(), after);
  }

  // The call ends with this code and a message that has `part`, and the key is as it was.
  void ExpectRefused(const std::string& before, std::string_view path, absl::StatusCode code,
                     const std::string& part) {
    Store(before);
    EXPECT_THAT(document_.CompareAndSetField(path, "1", "2"), StatusIs(code, HasSubstr(part)))
        << before;
    EXPECT_EQ(Stored(), before);
  }

  static constexpr char kKey[] = "coord:{doc}:json";
  RawRedis redis_;
  Client client_ = Connect();
  JsonDocument document_{client_, "doc"};
};

TEST_F(JsonDocumentTest, SetStoresTheTextAsItIsAndGetReturnsIt) {
  EXPECT_THAT(document_.Get(), IsOkAndHolds(std::nullopt));
  EXPECT_OK(document_.Set(" {\"b\": 1.0,\n\"a\":[]} "));
  EXPECT_THAT(document_.Get(), IsOkAndHolds(Optional(std::string(" {\"b\": 1.0,\n\"a\":[]} "))));
  EXPECT_EQ(redis_.Integer({"PTTL", kKey}), -1);
}

TEST_F(JsonDocumentTest, SetGivesATimeToLiveOrLeavesTheOneThatIsThere) {
  EXPECT_OK(document_.Set("1", {.ttl = absl::Seconds(100)}));
  EXPECT_OK(document_.Set("2"));
  EXPECT_EQ(Stored(), "2");
  const std::int64_t left = redis_.Integer({"PTTL", kKey});
  EXPECT_TRUE(left > 90'000 && left <= 100'000) << left;
  EXPECT_THAT(document_.Set("3", {.ttl = absl::ZeroDuration()}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ttl")));
}

TEST_F(JsonDocumentTest, AFieldIsReplacedAndEveryOtherByteStays) {
  ExpectField("{\"z\":1.0, \"big\":9223372036854775808,\n\t\"e\":[],\"a\":{ },\"n\":1e2}", "/n",
              "100", "[ 1 ]",
              "{\"z\":1.0, \"big\":9223372036854775808,\n\t\"e\":[],\"a\":{ },\"n\":[ 1 ]}");
  ExpectField(R"({"a":1.0,"s":"old","b":[],"c":9223372036854775808})", "/s", R"("old")",
              R"("longer")", R"({"a":1.0,"s":"longer","b":[],"c":9223372036854775808})");
  ExpectField(R"({"a":1.0,"s":"old","b":[],"c":9223372036854775808})", "/s", R"("old")", R"("new")",
              R"({"a":1.0,"s":"new","b":[],"c":9223372036854775808})");
}

TEST_F(JsonDocumentTest, NumbersAreComparedByTheirExactDecimalValue) {
  for (const char* one : {"1", "1.0", "1e0", "10e-1", "0.1E+1", "100e-2", "1.000e0000"}) {
    for (const char* other : {"1", "1.00", "1E0", "1000e-3"}) {
      ExpectField("[" + std::string(one) + "]", "/0", other, "2", "[2]");
    }
  }
  ExpectField("[-0.0]", "/0", "0", "2", "[2]");
  ExpectField("[9223372036854775808]", "/0", "9223372036854775808.0", "2", "[2]");
  ExpectField("[1e400]", "/0", "0.1e401", "2", "[2]");
  ExpectField("[0e999999999999999999999]", "/0", "0", "2", "[2]");
  const struct {
    const char* stored;
    const char* expected;
  } different[] = {{"9007199254740992", "9007199254740993"},
                   {"9223372036854775808", "9223372036854775807"},
                   {"1", "-1"},
                   {"1", "1.00000000000000000001"},
                   {"1e400", "1e401"},
                   {"10", "1"},
                   {"1", "\"1\""},
                   {"0", "false"},
                   {"0", "null"}};
  for (const auto& pair : different) {
    Store("[" + std::string(pair.stored) + "]");
    EXPECT_THAT(document_.CompareAndSetField("/0", pair.expected, "2"),
                IsOkAndHolds(Mismatch(0, pair.stored)));
  }
}

TEST_F(JsonDocumentTest, StringsAreComparedByWhatTheyMean) {
  ExpectField(R"({"s":"\u0061\u0062\b\/\ud83D\uDE00\n\"\\"})", "/s",
              "\"ab\\u0008/\xf0\x9f\x98\x80\\u000a\\u0022\\u005C\"", "1", R"({"s":1})");
  ExpectField(R"({"\u0061\u0000":"x"})", R"(/a)" + std::string(1, '\0'), R"("x")", "1",
              R"({"\u0061\u0000":1})");
  Store(R"({"s":"\\ud83d\ude00"})");  // a backslash, "ud83d", and half a pair
  EXPECT_THAT(document_.CompareAndSetField("/s", "\"\\\\\xf0\x9f\x98\x80\"", "1"),
              IsOkAndHolds(Mismatch(0, R"("\\ud83d\ude00")")));
}

TEST_F(JsonDocumentTest, ObjectsAreComparedWithoutRegardToOrder) {
  ExpectField(R"({"o":{"a":[1,2.0,{"x":null,"y":true}],"b":"\u0062"}})", "/o",
              R"( { "b":"b", "a":[1.0, 2, {"y":true,"x":null}] } )", "0", R"({"o":0})");
  for (const char* other : {R"({"a":[2,1]})", R"({"a":[1]})", R"({"a":[1,2],"b":1})",
                            R"({"b":[1,2]})", R"([1,2])", R"({"a":{"0":1,"1":2}})", "{}"}) {
    Store(R"({"o":{"a":[1,2]}})");
    EXPECT_THAT(document_.CompareAndSetField("/o", other, "0"),
                IsOkAndHolds(Mismatch(0, R"({"a":[1,2]})")))
        << other;
  }
  Store(R"({"o":[]})");
  EXPECT_THAT(document_.CompareAndSetField("/o", "{}", "0"), IsOkAndHolds(Mismatch(0, "[]")));
}

TEST_F(JsonDocumentTest, PathsFollowRfc6901) {
  const std::string text =
      R"({"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8,"~1":9,"-":10})";
  const struct {
    const char* path;
    const char* value;
  } cases[] = {{"/foo/0", "\"bar\""}, {"/", "0"},     {"/a~1b", "1"}, {"/c%d", "2"},
               {"/e^f", "3"},         {"/g|h", "4"},  {"/i\\j", "5"}, {"/k\"l", "6"},
               {"/ ", "7"},           {"/m~0n", "8"}, {"/~01", "9"},  {"/-", "10"},
               {"/foo/1", "\"baz\""}};
  for (const auto& test : cases) {
    Store(text);
    EXPECT_THAT(document_.CompareAndSetField(test.path, "[[]]", "0"),
                IsOkAndHolds(Mismatch(0, test.value)));
    EXPECT_THAT(document_.CompareAndSetField(test.path, test.value, "0"), IsOkAndHolds(kApplied));
  }
  for (const char* absent : {"/foo/2", "/foo/00", "/foo/01", "/foo/x", "/foo/0/x", "/foo/", "/x/y",
                             "//", "/foo/1e0", "/foo/+1", "/foo/99999999999999999999"}) {
    Store(text);
    EXPECT_THAT(document_.CompareAndSetField(absent, "1", "0"),
                IsOkAndHolds(Mismatch(0, std::nullopt)))
        << absent;
  }
  ExpectRefused(R"({"foo":[]})", "/foo/-", absl::StatusCode::kFailedPrecondition, "\"-\"");
}

TEST_F(JsonDocumentTest, AnAbsentMemberIsAddedAtTheEndOfItsObject) {
  ExpectField("{}", "/a", std::nullopt, "1", R"({"a":1})");
  ExpectField("{ }", "/a", std::nullopt, "1", R"({"a":1 })");
  ExpectField("{\n \"x\": 1\n}\n", "/a", std::nullopt, "[]", "{\n \"x\": 1,\"a\":[]\n}\n");
  ExpectField(R"({"o":{"x":{"a":0}},"b":2})", "/o/a", std::nullopt, "1",
              R"({"o":{"x":{"a":0},"a":1},"b":2})");
  ExpectField("{}", "/a~1\"\\\n~0", std::nullopt, "1", R"({"a/\"\\\u000a~":1})");
  Store(R"({"a":null})");
  EXPECT_THAT(document_.CompareAndSetField("/a", std::nullopt, "1"),
              IsOkAndHolds(Mismatch(0, "null")));
}

TEST_F(JsonDocumentTest, ARawDeleteCharacterInANameIsFoundInShortAndInLongDocuments) {
  for (const std::size_t length : {10U, 1000U}) {
    const std::string front = "{\"long\":\"" + std::string(length, 'x') + "\",\"a\x7f\":";
    ExpectField(front + "1}", "/a\x7f", "1", "2", front + "2}");
    Store(front + "1}");
    EXPECT_THAT(document_.CompareAndSetField("/a\x7f", std::nullopt, "2"),
                IsOkAndHolds(Mismatch(0, "1")));
  }
}

TEST_F(JsonDocumentTest, NothingIsSetBelowWhatDoesNotExist) {
  for (const char* path : {"/x/y", "/s/y", "/l/2", "/l/x", "/o/p/q"}) {
    Store(R"({"s":"","l":[1,2],"o":{}})");
    EXPECT_THAT(document_.CompareAndSetFields({{"/s", "\"\""}}, {{"/s", "1"}, {path, "1"}}),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("assignment 2")));
    EXPECT_EQ(Stored(), R"({"s":"","l":[1,2],"o":{}})");
  }
}

TEST_F(JsonDocumentTest, AllTestsMustHoldAndTheFirstThatFailsIsReported) {
  Store(R"({"state":"open","n":{"v":7},"owner":null})");
  EXPECT_THAT(document_.CompareAndSetFields(
                  {{"/state", R"("open")"}, {"/n/v", "8"}, {"/owner", "1"}}, {{"/state", "0"}}),
              IsOkAndHolds(Mismatch(1, "7")));
  EXPECT_THAT(
      document_.CompareAndSetFields({{"/state", R"("open")"}, {"/gone", "8"}}, {{"/state", "0"}}),
      IsOkAndHolds(Mismatch(1, std::nullopt)));
  EXPECT_THAT(document_.CompareAndSetFields(
                  {{"/state", R"("open")"},
                   {"/n/v", "7.0"},
                   {"/gone", std::nullopt},
                   {"/n/v/x", std::nullopt}},
                  {{"/state", R"("taken")"}, {"/n/w", "[]"}, {"/owner", "9223372036854775808"}}),
              IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"state":"taken","n":{"v":7,"w":[]},"owner":9223372036854775808})");
}

TEST_F(JsonDocumentTest, ALaterAssignmentSeesAnEarlierOne) {
  Store(R"({"a":1})");
  EXPECT_THAT(
      document_.CompareAndSetFields(
          {{"/a", "1"}},
          {{"/a", "{}"}, {"/a/b", "[0]"}, {"/a/b/0", R"("\u0078")"}, {"/c", "2"}, {"/a/d", "3"}}),
      IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"a":{"b":["\u0078"],"d":3},"c":2})");
  EXPECT_THAT(
      document_.CompareAndSetFields({{"/c", "2"}}, {{"", R"({"n":1})"}, {"/n", "2"}, {"/n", "3"}}),
      IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"n":3})");
}

TEST_F(JsonDocumentTest, TheWholeDocumentIsReplacedWhenTheFieldMatches) {
  Store(" {\"version\": 3, \"x\": 1}\n");
  EXPECT_THAT(document_.CompareAndSet("/version", "4", "{}"), IsOkAndHolds(Mismatch(0, "3")));
  EXPECT_THAT(document_.CompareAndSet("/version", "3.0", " {\"version\":4}"),
              IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), " {\"version\":4}");
  EXPECT_THAT(document_.CompareAndSet("", R"({"version":4})", "5"), IsOkAndHolds(kApplied));
  EXPECT_THAT(document_.CompareAndSet("", "5", "6"), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), "6");
}

TEST_F(JsonDocumentTest, AMissingDocumentIsMissingUnlessTheWholeIsToBeAbsent) {
  EXPECT_THAT(document_.CompareAndSetField("/a", "1", "2"), IsOkAndHolds(kMissing));
  EXPECT_THAT(document_.CompareAndSetField("/a", std::nullopt, "2"), IsOkAndHolds(kMissing));
  EXPECT_THAT(document_.CompareAndSet("/a", std::nullopt, "{}"), IsOkAndHolds(kMissing));
  EXPECT_THAT(document_.CompareAndSetFields({{"", std::nullopt}}, {{"/a", "1"}}),
              IsOkAndHolds(kMissing));
  EXPECT_EQ(redis_.Integer({"EXISTS", kKey}), 0);
  EXPECT_THAT(document_.CompareAndSetFields({{"", std::nullopt}, {"/a", "1"}}, {{"", "{}"}}),
              IsOkAndHolds(Mismatch(1, std::nullopt)));
  EXPECT_EQ(redis_.Integer({"EXISTS", kKey}), 0);
  EXPECT_THAT(document_.CompareAndSet("", std::nullopt, R"({"a":1})"), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"a":1})");
  EXPECT_THAT(document_.CompareAndSet("", std::nullopt, "{}"),
              IsOkAndHolds(Mismatch(0, R"({"a":1})")));
}

TEST_F(JsonDocumentTest, TheTimeToLiveStays) {
  for (const char* value : {"2", "22"}) {
    redis_.Command({"SET", kKey, R"({"a":1})", "PX", "100000"});
    EXPECT_THAT(document_.CompareAndSetField("/a", "1", value), IsOkAndHolds(kApplied));
    EXPECT_GT(redis_.Integer({"PTTL", kKey}), 90'000);
  }
  EXPECT_THAT(document_.CompareAndSet("/a", "22", "{}"), IsOkAndHolds(kApplied));
  EXPECT_GT(redis_.Integer({"PTTL", kKey}), 90'000);
}

TEST_F(JsonDocumentTest, ARepeatedNameOnThePathIsRefused) {
  const auto code = absl::StatusCode::kFailedPrecondition;
  for (const char* text :
       {R"({"a":1,"a":1})", R"({"a":1,"b":2,"\u0061":1})", R"({"\u0061":1,"a":1})",
        "{\"a\":1,\n\"a\":1}", R"({"a":1,"x":{"a":0},"a":1})", R"({"a":1,"x":"a","y":[],"a":1})"}) {
    ExpectRefused(text, "/a", code, "repeats");
  }
  ExpectRefused(R"({"a":{"b":1},"a":{"b":1}})", "/a/b", code, "repeats");
  ExpectRefused(R"({"a":{"b":1,"b":1}})", "/a/b", code, "repeats");
  ExpectRefused(R"({"a":{"x":1,"\u0078":1},"b":1})", "/a", code, "repeats");  // in what is compared
  ExpectField(R"({"x":1,"x":2,"a":1})", "/a", "1", "2", R"({"x":1,"x":2,"a":2})");
  ExpectField(R"({"b":{"a":0},"a":1,"c":["a",{"a":1}]})", "/a", "1", "2",
              R"({"b":{"a":0},"a":2,"c":["a",{"a":1}]})");
}

TEST_F(JsonDocumentTest, WhatIsNotJsonIsLeftAsItWas) {
  for (const char* text : {"",
                           "not json",
                           R"({"a":1)",
                           R"({"a":1,})",
                           R"({"a":1}})",
                           R"({"a":1}x)",
                           R"({"a":1 "b":2})",
                           R"({a:1})",
                           R"({'a':1})",
                           R"({"b":01,"a":1})",
                           R"({"b":+1,"a":1})",
                           R"({"b":NaN,"a":1})",
                           R"({"b":0x10,"a":1})",
                           R"({"b":1.,"a":1})",
                           R"({"b":"\x","a":1})",
                           "{\"b\":\"\n\",\"a\":1}",
                           R"({"b":[1,],"a":1})",
                           R"({"b":[1 2],"a":1})",
                           R"({"b":{"c"},"a":1})",
                           R"({"b",5:1,"a":1})",
                           R"({"a" 1})",
                           R"({"a":})",
                           "nul",
                           "[1,]",
                           "\xc1",
                           R"({"b":tru,"a":1})",
                           R"({"b":"x" "y","a":1})",
                           R"({"b":"x"1,"a":1})",
                           R"({,"a":1})",
                           R"(["a":1])",
                           R"({"a":1])",
                           R"({"note":"x,"a":1})",
                           R"({"a":1,)"}) {
    ExpectRefused(text, "/a", absl::StatusCode::kDataLoss, "not JSON");
  }
  ExpectRefused("1 2", "", absl::StatusCode::kDataLoss, "byte 3");
}

TEST_F(JsonDocumentTest, ExtremeStoredDocumentsAreRefusedNotSuffered) {
  const auto code = absl::StatusCode::kFailedPrecondition;
  ExpectRefused(std::string(200, '[') + std::string(200, ']'), "", code, "deep");
  ExpectRefused("{\"b\":" + std::string(100'000, '[') + ",\"a\":1}", "/a", code, "deep");
  ExpectRefused("[1e1000000000000000]", "/0", code, "exponent");
  std::string deep = "1";
  std::string path;
  for (int i = 0; i < 128; ++i) {
    deep = "{\"k\":" + deep + "}";
    path += "/k";
  }
  Store(deep);
  EXPECT_THAT(document_.CompareAndSetField(path, "1", "2"), IsOkAndHolds(kApplied));
  EXPECT_THAT(document_.CompareAndSetField(path, "2", "[]"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deep")));
}

// Also where a quick look would find the member behind them.
TEST_F(JsonDocumentTest, ContainersBeforeAMemberAreAsDeepAsAnyMayBe) {
  const auto before = [](int depth) {
    const auto levels = static_cast<std::size_t>(depth - 1);  // the document itself is one
    return R"({"b":)" + std::string(levels, '[') + std::string(levels, ']') + R"(,"a":1})";
  };
  Store(before(128));
  EXPECT_THAT(document_.CompareAndSetField("/a", "1", "2"), IsOkAndHolds(kApplied));
  ExpectRefused(before(129), "/a", absl::StatusCode::kFailedPrecondition, "deep");
  ExpectRefused(before(900), "/a", absl::StatusCode::kFailedPrecondition, "deep");
  // What other scripts may decode is as it was.
  EXPECT_EQ(redis_.Text({"EVAL",
                         "return tostring(cjson.decode_max_depth()) .. ' ' .. "
                         "tostring(cjson.decode_invalid_numbers())",
                         "0"}),
            "1000 true");
}

TEST_F(JsonDocumentTest, ADocumentDoesNotGrowBeyondItsLimit) {
  const std::string big = "\"" + std::string(10 << 20, 'x') + "\"";
  EXPECT_OK(document_.Set("{\"a\":1,\"b\":" + big + "}"));
  EXPECT_THAT(document_.CompareAndSetField("/a", "1", big),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("16777216")));
  EXPECT_EQ(redis_.Text({"GETRANGE", kKey, "0", "10"}), R"({"a":1,"b":)");
  EXPECT_THAT(document_.CompareAndSetField("/b", big, "2"), IsOkAndHolds(kApplied));
  EXPECT_EQ(Stored(), R"({"a":1,"b":2})");
}

TEST_F(JsonDocumentTest, AnotherRedisTypeIsLeftAsItWas) {
  redis_.Command({"RPUSH", kKey, "x"});
  const auto code = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(document_.Get(), StatusIs(code, HasSubstr("WRONGTYPE")));
  EXPECT_THAT(document_.Set("1"), StatusIs(code, AllOf(HasSubstr("WRONGTYPE"), HasSubstr("doc"))));
  EXPECT_THAT(document_.CompareAndSetField("/a", "1", "2"), StatusIs(code, HasSubstr("WRONGTYPE")));
  EXPECT_THAT(document_.CompareAndSet("", std::nullopt, "2"),
              StatusIs(code, HasSubstr("WRONGTYPE")));
  EXPECT_EQ(redis_.Text({"LINDEX", kKey, "0"}), "x");
}

TEST_F(JsonDocumentTest, BadArgumentsAreRefusedBeforeAnythingIsSent) {
  Store(R"({"a":1})");
  const std::int64_t before = CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval");
  const auto bad = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(document_.Set("{"), bad);
  EXPECT_THAT(document_.Set(R"({"a":1,"a":2})"), bad);
  EXPECT_THAT(document_.CompareAndSet("/a", "1", "nope"), bad);
  EXPECT_THAT(document_.CompareAndSet("/a", "", "1"), bad);
  EXPECT_THAT(document_.CompareAndSetField("a", "1", "2"), bad);
  EXPECT_THAT(document_.CompareAndSetField("/~", "1", "2"), bad);
  EXPECT_THAT(document_.CompareAndSetField("/a", "1", ""), bad);
  EXPECT_THAT(document_.CompareAndSetField("/a", "01", "2"), bad);
  EXPECT_THAT(document_.CompareAndSetFields({}, {{"/a", "1"}}), bad);
  EXPECT_THAT(document_.CompareAndSetFields({{"/a", "1"}}, {}), bad);
  EXPECT_THAT(document_.CompareAndSetFields(std::vector<JsonTest>(129, {"/a", "1"}),
                                            std::vector<JsonAssignment>{{"/a", "1"}}),
              bad);
  EXPECT_THAT(JsonDocument(client_, "").CompareAndSetField("/a", "1", "2"), bad);
  EXPECT_THAT(JsonDocument(client_, "}x").Get(), bad);
  EXPECT_EQ(CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"), before);
  EXPECT_EQ(Stored(), R"({"a":1})");
}

TEST_F(JsonDocumentTest, OfManyWhoRaceOneWins) {
  constexpr int kThreads = 32;
  for (int round = 0; round < 20; ++round) {
    Store(R"({"id":7,"state":"pending"})");
    std::vector<Client> clients;
    for (int i = 0; i < 4; ++i) clients.push_back(Connect());
    std::atomic<int> applied = 0;
    std::atomic<int> told = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        JsonDocument document(clients[static_cast<std::size_t>(i) % clients.size()], "doc");
        const std::string mine = "\"worker-" + std::to_string(i) + "\"";
        const auto result = document.CompareAndSetField("/state", R"("pending")", mine);
        ASSERT_OK(result);
        if (result->applied()) ++applied;
        if (result->outcome == Outcome::kMismatch &&
            result->current.value_or("").starts_with("\"worker-")) {
          ++told;
        }
      });
    }
    threads.clear();
    EXPECT_EQ(applied, 1);
    EXPECT_EQ(told, kThreads - 1);
  }
}

TEST_F(JsonDocumentTest, IncrementsByCompareAndSetAreNeverLost) {
  constexpr int kThreads = 8;
  constexpr int kEach = 50;
  Store(R"({"n": 9007199254740990 })");
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this] {
      std::string seen = "0";
      for (int done = 0; done < kEach;) {
        const auto result =
            document_.CompareAndSetField("/n", seen, std::to_string(std::stoll(seen) + 1));
        ASSERT_OK(result);
        if (result->applied()) ++done;
        seen = result->applied() ? std::to_string(std::stoll(seen) + 1) : *result->current;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(Stored(), R"({"n": )" + std::to_string(9007199254740990 + kThreads * kEach) + " }");
}

}  // namespace
}  // namespace coord
