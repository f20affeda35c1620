// Operation ids of the coord program: each happens once, and coord resolve says what it answered.
#ifdef COORD_PROGRAM

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
using Words = std::vector<std::string>;

class ResolveCliTest : public ::testing::Test {
 protected:
  ProcessResult Run(const Words& words) const {
    Words argv = {COORD_PROGRAM};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram(argv, {.env = {{"COORD_URL", server_.url()}}});
  }

  // Run twice, the operation is applied once and prints the same.
  void ExpectOnce(const Words& words, const std::string& out) {
    for (int i = 0; i < 2; ++i) {
      const ProcessResult result = Run(words);
      EXPECT_EQ(result.exit_code, 0) << result.err;
      EXPECT_THAT(result.out, ::testing::StartsWith(out));
    }
  }

  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(ResolveCliTest, AdditionsAndResetsOfACounter) {
  ExpectOnce({"counter", "add", "n", "5", "--operation-id", "a"}, "5\n");
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "5\n");
  EXPECT_EQ(Run({"resolve", "counter", "n", "a"}).out, "5\n");
  EXPECT_EQ(Run({"resolve", "counter", "n", "a", "--json"}).out,
            "{\"applied\":true,\"found\":true,\"value\":5}\n");
  ExpectOnce({"counter", "reset", "n", "--operation-id", "r"}, "5\n");
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "0\n");
  EXPECT_EQ(Run({"resolve", "counter", "n", "r"}).out, "5\n");
}

TEST_F(ResolveCliTest, TakesOfOneLimitAndOfSeveral) {
  ExpectOnce({"limit", "take", "a", "--rate", "10/d", "--operation-id", "x"},
             "allowed remaining=9 ");
  EXPECT_EQ(Run({"resolve", "limit", "a", "x"}).out, "allowed taken=1\n");
  ExpectOnce({"limit", "take", "a", "--rate", "10/d", "b", "--rate", "3/d", "--operation-id", "y"},
             "allowed remaining=2 ");
  ExpectOnce(
      {"limit", "take", "a", "--rate", "10/d", "--cost", "20", "--up-to", "--operation-id", "z"},
      "allowed remaining=0 ");
  EXPECT_EQ(
      Run({"limit", "take", "a", "--rate", "1/d", "--wait", "1s", "--operation-id", "w"}).exit_code,
      2);
}

TEST_F(ResolveCliTest, PushesAndChangesOfDocuments) {
  ExpectOnce({"list", "push", "l", "one", "--max", "5", "--operation-id", "p"}, "1\n");
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{l}:list"}), 1);
  EXPECT_EQ(Run({"resolve", "list", "l", "p"}).out, "1\n");
  Run({"json", "set", "d", "[]"});
  ExpectOnce({"json", "update", "d", "--set", "/-=1", "--operation-id", "u"}, "applied\n");
  EXPECT_EQ(Run({"json", "get", "d"}).out, "[1]\n");
  EXPECT_EQ(Run({"resolve", "json", "d", "u"}).out, "applied\n");
  EXPECT_EQ(Run({"resolve", "json", "d", "u", "--json"}).out,
            "{\"found\":true,\"outcome\":\"applied\"}\n");
}

TEST_F(ResolveCliTest, WhatHasNotHappenedNeverWill) {
  for (const char* kind : {"counter", "limit", "list", "json"}) {
    const ProcessResult result = Run({"resolve", kind, "n", "late"});
    EXPECT_EQ(result.exit_code, 75) << kind;
    EXPECT_EQ(result.out, "not applied\n");
  }
  EXPECT_EQ(Run({"resolve", "counter", "m", "late", "--json"}).out, "{\"found\":false}\n");
  const ProcessResult late = Run({"counter", "add", "n", "--operation-id", "late"});
  EXPECT_EQ(late.exit_code, 1);
  EXPECT_THAT(late.err, HasSubstr("void"));
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "0\n");
}

TEST_F(ResolveCliTest, ABadIdIsAUsageError) {
  EXPECT_EQ(Run({"resolve", "counter", "n", "not good"}).exit_code, 2);
  EXPECT_EQ(Run({"counter", "add", "n", "--operation-id", ""}).exit_code, 2);
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
