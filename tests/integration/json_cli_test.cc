// coord json update, from outside.
#ifdef COORD_PROGRAM

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class JsonCliTest : public ::testing::Test {
 protected:
  ProcessResult Update(const Words& words) const {
    Words argv = {COORD_PROGRAM, "json", "update", "d"};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram(argv, {.env = {{"COORD_URL", server_.url()}}});
  }

  void ExpectApplied(const Words& words, const std::string& after) {
    const ProcessResult result = Update(words);
    EXPECT_EQ(result.out, "applied\n") << result.err;
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(Stored(), after);
  }

  void ExpectMismatch(const Words& words, const std::string& out) {
    const std::string before = Stored();
    const ProcessResult result = Update(words);
    EXPECT_EQ(result.out, out) << result.err;
    EXPECT_EQ(result.exit_code, 75);
    EXPECT_EQ(Stored(), before);
  }

  void Store(const std::string& text) { redis_.Command({"SET", kKey, text}); }
  std::string Stored() { return redis_.Text({"GET", kKey}); }

  static constexpr char kKey[] = "coord:{d}:json";
  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(JsonCliTest, ChangesAreMadeInTheOrderInWhichTheyStand) {
  Store(R"({"a": 1.0, "tags": ["x"]})");
  ExpectApplied({"--set", "/b={}", "--set", "/b/c=1", "/tags/-=2", "--remove", "/a", "--set",
                 "/a=\"new\"", "--remove", "/tags/0", "/none"},
                R"({"tags": [2],"b":{"c":1},"a":"new"})");
  ExpectApplied({"--set", "/b=1", "--remove", "/b"}, R"({"tags": [2],"a":"new"})");
  ExpectApplied({"--remove", "/a", "--set", "/a=3", "--remove", "/tags"}, R"({"a":3})");
  ExpectApplied({"--set", "=[1]"}, "[1]");
  EXPECT_EQ(Update({"--remove", ""}).out, "applied\n");
  EXPECT_EQ(redis_.Integer({"EXISTS", kKey}), 0);
}

TEST_F(JsonCliTest, EachConditionIsAskedAndTheFirstThatFailsIsShown) {
  const std::string document = R"({"n":5,"s":"b"})";
  const Words set = {"--set", "/x=1", "--remove", "/x"};
  const auto with = [&](Words words) {
    words.insert(words.end(), set.begin(), set.end());
    return words;
  };
  Store(document);
  for (const Words& words :
       {Words{"--if", "/n=5.0", "/s=\"b\""}, Words{"--if-not", "/n=6"}, Words{"--if-not", "/z=6"},
        Words{"--if-less", "/n=5.1"}, Words{"--if-less", "/s=\"c\""}, Words{"--if-greater", "/n=4"},
        Words{"--if-greater", "/s=\"a\""}, Words{"--if-absent", "/z"}, Words{"--if-present", "/n"},
        Words{"--if", "/n=5", "--if-less", "/n=6", "--if-present", "/s"}}) {
    SCOPED_TRACE(words.back());
    ExpectApplied(with(words), document);
  }
  ExpectMismatch(with({"--if", "/n=6"}), "mismatch /n=5\n");
  ExpectMismatch(with({"--if-not", "/n=5.0"}), "mismatch /n=5\n");
  ExpectMismatch(with({"--if-less", "/n=5"}), "mismatch /n=5\n");
  ExpectMismatch(with({"--if-greater", "/n=5"}), "mismatch /n=5\n");
  ExpectMismatch(with({"--if-greater", "/s=5"}), "mismatch /s=\"b\"\n");
  ExpectMismatch(with({"--if-absent", "/s"}), "mismatch /s=\"b\"\n");
  ExpectMismatch(with({"--if-present", "/z"}), "mismatch /z absent\n");
  ExpectMismatch(with({"--if-present", "/n", "--if", "/s=1", "/n=1"}), "mismatch /s=\"b\"\n");
  redis_.Command({"DEL", kKey});
  EXPECT_EQ(Update(with({})).out, "missing\n");
  EXPECT_EQ(Update(with({"--if-not", "/n=5"})).exit_code, 75);
}

TEST_F(JsonCliTest, AStaleClaimIsTakenOverAndAFreshOneIsNot) {
  const Words take = {
      "--if",      "/state=\"free\"",  "--or",          "--if",        "/state=\"taken\"",
      "--if-less", "/seen=1000",       "--or",          "--if-absent", "/state",
      "--set",     "/state=\"taken\"", "/owner=\"me\"", "/seen=1060"};
  const std::string mine = R"({"state":"taken","owner":"me","seen":1060})";
  Store(R"({"state":"free","owner":null,"seen":0})");
  ExpectApplied(take, mine);
  ExpectMismatch(take, "mismatch /state=\"taken\"\n");  // it is fresh now
  Store(R"({"state":"taken","owner":"other","seen":999})");
  ExpectApplied(take, mine);
  Store(R"({"state":"done","owner":"other","seen":1})");
  ExpectMismatch(take, "mismatch /state=\"done\"\n");
  Store("{}");
  ExpectApplied(take, mine);
}

TEST_F(JsonCliTest, WhereThereIsNoneItIsCreatedWithTheChangesMade) {
  const Words push = {"--create", R"({"tags": []})", "--if-present", "/tags/0",
                      "--set",    "/tags/-=1",       "--ttl",        "1h"};
  ExpectApplied(push, R"({"tags": [1]})");
  EXPECT_GT(redis_.Integer({"TTL", kKey}), 3500);
  ExpectApplied(push, R"({"tags": [1,1]})");
  Store(R"({"tags":[]})");
  ExpectMismatch(push, "mismatch /tags/0 absent\n");
}

TEST_F(JsonCliTest, TheTimeToLiveIsKeptSetAndCleared) {
  Store("{}");
  redis_.Command({"EXPIRE", kKey, "5000"});
  ExpectApplied({"--set", "/a=1"}, R"({"a":1})");
  EXPECT_GT(redis_.Integer({"TTL", kKey}), 4900);
  ExpectApplied({"--ttl", "100s"}, R"({"a":1})");
  const std::int64_t left = redis_.Integer({"TTL", kKey});
  EXPECT_TRUE(left > 50 && left <= 100) << left;
  ExpectApplied({"--keep-forever", "--if", "/a=1"}, R"({"a":1})");
  EXPECT_EQ(redis_.Integer({"TTL", kKey}), -1);
}

TEST_F(JsonCliTest, AnOperationIdMakesTheChangeOnceAndRepeatsItsAnswer) {
  Store(R"({"tags":[]})");
  const Words push = {"--set", "/tags/-=1", "--operation-id", "push-1"};
  ExpectApplied(push, R"({"tags":[1]})");
  ExpectApplied(push, R"({"tags":[1]})");
  EXPECT_EQ(Update({"--set", "/tags/-=2", "--operation-id", "push-1"}).exit_code, 2);
  Store("{\"long\":\"" + std::string(2000, 'x') + "\"}");
  const Words asked = {"--if", "/long=1", "--set", "/a=1", "--operation-id", "ask-1"};
  EXPECT_THAT(Update(asked).out, HasSubstr("mismatch /long=\"xxx"));
  EXPECT_EQ(Update(asked).out, "mismatch /long omitted\n");
  Words json = asked;
  json.emplace_back("--json");
  EXPECT_EQ(Json::parse(Update(json).out), Json({{"outcome", "mismatch"},
                                                 {"failed_test", 0},
                                                 {"path", "/long"},
                                                 {"current", nullptr},
                                                 {"omitted", true}}));
}

TEST_F(JsonCliTest, JsonHasTheFieldsOfTheResult) {
  Store(R"({"a":1})");
  EXPECT_EQ(Json::parse(Update({"--set", "/a=2", "--json"}).out), Json({{"outcome", "applied"}}));
  EXPECT_EQ(
      Json::parse(Update({"--if-present", "/a", "--if", "/a=1", "--set", "/a=3", "--json"}).out),
      Json({{"outcome", "mismatch"}, {"failed_test", 1}, {"path", "/a"}, {"current", "2"}}));
  redis_.Command({"DEL", kKey});
  EXPECT_EQ(Json::parse(Update({"--set", "/a=2", "--json"}).out), Json({{"outcome", "missing"}}));
}

TEST_F(JsonCliTest, WhatMakesNoSenseIsRefusedAndNothingIsWritten) {
  Store(R"({"a":1})");
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"--if", "/a=1"}, "a change is missing"},
      {{}, "a change is missing"},
      {{"--or", "--if", "/a=1", "--set", "/a=2"}, "--or stands between conditions"},
      {{"--if", "/a=1", "--or", "--set", "/a=2"}, "--or stands between conditions"},
      {{"--if", "/a=1", "--or", "--or", "--if", "/a=2", "--set", "/a=2"}, "--or stands"},
      {{"--set", "a=2"}, "--set is"},
      {{"--set", "/a=b"}, "not JSON"},
      {{"--if-less", "/a=x", "--set", "/a=2"}, "--if-less is"},
      {{"--if-less", "/a=[]", "--set", "/a=2"}, "have an order"},
      {{"--remove", "a"}, "JSON Pointer"},
      {{"--set", "/a=2", "--ttl", "0s"}, "--ttl"},
      {{"--set", "/a=2", "--ttl", "1s", "--keep-forever"}, "--keep-forever"},
      {{"--set", "/a=2", "--create", "{"}, "--create"},
      {{"--set", "=2", "--create", "{}"}, "--create"},
      {{"--set", "/a=2", "--create", "{}", "--operation-id", "x"}, "--operation-id"},
      {{"--set", "/a=2", "--operation-id", "x y"}, "operation id"},
      {{"--remove", "", "--set", "/a=1"}, "whole document"},
  };
  for (const auto& [words, part] : cases) {
    SCOPED_TRACE(::testing::PrintToString(words));
    const ProcessResult result = Update(words);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr(part));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(Update({"--set", "/x/y=1"}).exit_code, 1);
  EXPECT_EQ(Stored(), R"({"a":1})");
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
