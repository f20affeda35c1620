#include "tests/support/simulated_redis.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coord/reply.h"
#include "coord/script.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"

namespace coord::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Kind = Reply::Kind;
using Strings = std::vector<std::string>;

constexpr std::uint64_t kNow = 1'700'000'000'123'456;

Reply Int(std::int64_t value) { return Reply::Integer(value); }
Reply Text(std::string text) { return Reply::Text(Kind::kString, std::move(text)); }
Reply Error(std::string text) { return Reply::Text(Kind::kError, std::move(text)); }
Reply Array(std::vector<Reply> items) { return Reply::Items(Kind::kArray, std::move(items)); }
const Reply kOk = Reply::Text(Kind::kStatus, "OK");

class SimulatedRedisTest : public ::testing::Test {
 protected:
  Reply Command(const Strings& args) { return redis_.Command(args); }
  Reply Eval(std::string_view text, const Strings& keys = {}, const Strings& args = {}) {
    const Script script(text);
    return redis_.Run({"test", script.text(), script.sha1(), false}, keys, args);
  }

  SimulatedRedis redis_{kNow};
};

TEST_F(SimulatedRedisTest, TimeIsWhatTheTestSaysAndNothingElse) {
  EXPECT_EQ(Command({"TIME"}), Array({Text("1700000000"), Text("123456")}));
  redis_.Advance(1'000'000);
  EXPECT_EQ(Command({"TIME"}), Array({Text("1700000001"), Text("123456")}));
  redis_.SetTime(5'000'007);
  EXPECT_EQ(Command({"TIME"}), Array({Text("5"), Text("7")}));
  EXPECT_EQ(Eval("return redis.call('TIME')"), Array({Text("5"), Text("7")}));
}

TEST_F(SimulatedRedisTest, AKeyIsThereInTheMillisecondOfItsExpiryAndGoneInTheNext) {
  EXPECT_EQ(Command({"SET", "k", "v", "PX", "100"}), kOk);
  redis_.Advance(40'000);
  EXPECT_EQ(Command({"PTTL", "k"}), Int(60));
  redis_.Advance(60'000);
  EXPECT_EQ(Command({"PTTL", "k"}), Int(0));
  EXPECT_EQ(Command({"GET", "k"}), Text("v"));
  redis_.Advance(1'000);
  EXPECT_EQ(Command({"PTTL", "k"}), Int(-2));
  EXPECT_EQ(Command({"GET", "k"}), Reply());
}

TEST_F(SimulatedRedisTest, AnExpiredKeyComesBackWithTheClockUnlessItWasRemoved) {
  Command({"SET", "seen", "v", "PX", "10"});
  Command({"SET", "unseen", "v", "PX", "10"});
  redis_.Advance(1'000'000);
  EXPECT_EQ(Command({"EXISTS", "seen"}), Int(0));
  redis_.SetTime(kNow);
  EXPECT_EQ(Command({"EXISTS", "seen"}), Int(0));
  EXPECT_EQ(Command({"EXISTS", "unseen"}), Int(1));
  redis_.Advance(1'000'000);
  redis_.RemoveExpired();
  redis_.SetTime(kNow);
  EXPECT_EQ(Command({"EXISTS", "unseen"}), Int(0));
}

TEST_F(SimulatedRedisTest, ScriptsReturnWhatTheProtocolCanSay) {
  EXPECT_EQ(Eval("return 3.99"), Int(3));
  EXPECT_EQ(Eval("return -3.99"), Int(-3));
  EXPECT_EQ(Eval("return true"), Int(1));
  EXPECT_EQ(Eval("return false"), Reply());
  EXPECT_EQ(Eval("return"), Reply());
  EXPECT_EQ(Eval("return {1, 'two', {3}, nil, 5}"), Array({Int(1), Text("two"), Array({Int(3)})}));
  EXPECT_EQ(Eval("return {1, false, 3}"), Array({Int(1), Reply(), Int(3)}));
  EXPECT_EQ(Eval("return {ok = 'FINE'}"), Reply::Text(Kind::kStatus, "FINE"));
  EXPECT_EQ(Eval("return {err = 'MINE why'}"), Error("MINE why"));
  EXPECT_EQ(Eval("return redis.error_reply('why')"), Error("ERR why"));
  EXPECT_EQ(Eval("return redis.call('SET', 'k', 'v')"), kOk);
  EXPECT_EQ(Eval("return {KEYS[1], ARGV[2], #ARGV}", {"a"}, {"b", "c"}),
            Array({Text("a"), Text("c"), Int(2)}));
}

TEST_F(SimulatedRedisTest, CallRaisesWhatACommandRefusesAndPcallReturnsIt) {
  Command({"RPUSH", "list", "item"});
  const std::string wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
  const Reply raised =
      Eval("redis.call('SET', 'before', '1')\nredis.call('INCR', 'list')\nreturn 1");
  EXPECT_THAT(raised.text(), StartsWith(wrong + " script: "));
  EXPECT_THAT(raised.text(), HasSubstr(", on @user_script:2."));
  EXPECT_EQ(Command({"GET", "before"}), Text("1")) << "nothing rolls back";
  EXPECT_EQ(Eval("return redis.pcall('INCR', 'list')"), Error(wrong));
  EXPECT_EQ(Eval("local e = redis.pcall('INCR', 'list') return e.err"), Text(wrong));
  EXPECT_EQ(Eval("local ok, e = pcall(redis.call, 'INCR', 'list') return e"), Text(wrong));
  EXPECT_THAT(Eval("return nil + 1").text(),
              StartsWith("ERR user_script:1: attempt to perform arithmetic on a nil value"));
}

TEST_F(SimulatedRedisTest, AScriptLeavesNothingBehindButData) {
  for (const char* const text : {"x = 1", "function f() end", "string.x = 1", "redis.x = 1"}) {
    EXPECT_THAT(Eval(text).text(),
                StartsWith("ERR user_script:1: Attempt to modify a readonly table"))
        << text;
  }
  EXPECT_THAT(Eval("return x").text(), HasSubstr("nonexistent global variable 'x'"));
  Eval("KEYS[1] = 'changed'", {"k"});
  EXPECT_EQ(Eval("return #KEYS"), Int(0));
}

TEST_F(SimulatedRedisTest, WhatIsPublishedIsKeptInOrderAndCountedByTheTest) {
  EXPECT_EQ(Command({"PUBLISH", "c", "1"}), Int(0));
  EXPECT_EQ(Eval("return redis.call('SPUBLISH', 'd', '2')"), Int(0));
  EXPECT_THAT(redis_.TakePublished(),
              ElementsAre(Published{"c", "1", false}, Published{"d", "2", true}));
  EXPECT_THAT(redis_.TakePublished(), IsEmpty());
  redis_.SetReceivers([](const Published& message) { return message.channel == "c" ? 3 : 0; });
  EXPECT_EQ(Command({"PUBLISH", "c", "1"}), Int(3));
}

TEST_F(SimulatedRedisTest, CallsAreCounted) {
  Eval("redis.call('SET', 'k', '1') redis.pcall('GET', 'k') return redis.call('get', 'k')");
  EXPECT_EQ(redis_.calls(), 3u);
  Command({"GET", "k"});
  EXPECT_EQ(redis_.calls(), 3u);
  EXPECT_EQ(redis_.CommandCalls("get"), 3u);
  EXPECT_EQ(redis_.CommandCalls("del"), 0u);
}

TEST_F(SimulatedRedisTest, ARestartIsAnotherRunWithOrWithoutTheData) {
  Command({"SET", "k", "v"});
  const Reply first = Command({"INFO", "server"});
  EXPECT_THAT(first.text(), HasSubstr("\r\nrun_id:"));
  redis_.Restart(SimulatedRedis::Data::kKeep);
  EXPECT_NE(Command({"INFO", "server"}), first);
  EXPECT_EQ(Command({"GET", "k"}), Text("v"));
  redis_.Restart(SimulatedRedis::Data::kDrop);
  EXPECT_EQ(Command({"DBSIZE"}), Int(0));
}

TEST_F(SimulatedRedisTest, OurScriptsRunAsTheyAre) {
  const Strings keys = {"lease", "fence"};
  const Reply granted = redis_.Run(internal::kMutexAcquire, keys, {"one", "1000"});
  EXPECT_EQ(granted, Array({Text("1700000000123456"), Text("1000")}));
  redis_.Advance(400'000);
  EXPECT_EQ(redis_.Run(internal::kMutexAcquire, keys, {"two", "1000"}),
            Array({Int(0), Int(600), Text("one")}));
  redis_.Advance(601'000);
  EXPECT_EQ(redis_.Run(internal::kMutexAcquire, keys, {"two", "1000"}),
            Array({Text("1700000001124456"), Text("1000")}));
  EXPECT_EQ(redis_.Run(internal::kMutexRelease, {"lease"}, {"one"}), Int(0));
}

using SimulatedRedisDeathTest = SimulatedRedisTest;

TEST_F(SimulatedRedisDeathTest, WhatIsNotSimulatedEndsTheTest) {
  EXPECT_DEATH(Command({"XADD", "k", "*", "f", "v"}), "does not know the command XADD");
  EXPECT_DEATH(Command({"ZADD", "k", "INCR", "1", "m"}), "does not know ZADD INCR");
  EXPECT_DEATH(Command({"INFO", "stats"}), "does not know INFO of another section");
  EXPECT_DEATH(Eval("return redis.call('XLEN', 'k')"), "does not know the command XLEN");
  EXPECT_DEATH(Eval("return cjson.encode({})"), "no Lua name encode");
  EXPECT_DEATH(Eval("return math.random()"), "no Lua name random");
  EXPECT_DEATH(Eval("return redis.sha1hex('')"), "no Lua name sha1hex");
  EXPECT_DEATH(Eval("return 1 +"), "does not compile");
}

}  // namespace
}  // namespace coord::testing
