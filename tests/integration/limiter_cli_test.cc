// coord limit, from outside: several limits at once, algorithms, refund, up to.
#ifdef COORD_PROGRAM

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class LimitCliTest : public ::testing::Test {
 protected:
  ProcessResult Run(const Words& words) const {
    Words argv = {COORD_PROGRAM, "limit"};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram(argv, {.env = {{"COORD_URL", server_.url()}}});
  }

  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(LimitCliTest, SeveralLimitsAreTakenTogetherOrNotAtAll) {
  const Words take = {"take", "a", "--rate", "10/d", "b", "--rate", "2/d"};
  EXPECT_THAT(Run(take).out, StartsWith("allowed remaining=1 limit=2 "));
  EXPECT_EQ(Run(take).exit_code, 0);
  const ProcessResult denied = Run(take);
  EXPECT_EQ(denied.exit_code, 75);
  EXPECT_THAT(denied.out, StartsWith("denied remaining=0 limit=2 "));
  EXPECT_THAT(denied.out, HasSubstr(" limiting=b\n"));
  EXPECT_THAT(Run({"peek", "a", "--rate", "10/d"}).out, StartsWith("allowed remaining=7 "));
  Words json = take;
  json.emplace_back("--json");
  EXPECT_THAT(Run(json).out, HasSubstr(R"("limiting":"b")"));
  EXPECT_EQ(Run({"take", "a", "c", "--rate", "10/d", "--cost", "3", "--cost", "1"}).exit_code, 0);
  EXPECT_THAT(Run({"peek", "a", "--rate", "10/d"}).out, StartsWith("allowed remaining=4 "));
}

TEST_F(LimitCliTest, EachAlgorithmTakesPeeksRefundsAndForgets) {
  for (const char* const algorithm :
       {"gcra", "token-bucket", "fixed-window", "sliding-window", "sliding-log"}) {
    SCOPED_TRACE(algorithm);
    const auto run = [&](Words words) {
      words.insert(words.end(), {"--rate", "5/366d", "--algorithm", algorithm});
      return Run(words);
    };
    EXPECT_THAT(run({"take", "n", "--cost", "4"}).out, StartsWith("allowed remaining=1 limit=5 "));
    EXPECT_EQ(run({"take", "n", "--cost", "2"}).exit_code, 75);
    EXPECT_EQ(run({"peek", "n", "--cost", "2"}).exit_code, 75);
    EXPECT_THAT(run({"refund", "n", "--cost", "2"}).out, StartsWith("allowed remaining=3 "));
    const ProcessResult some = run({"take", "n", "--up-to", "--cost", "9"});
    EXPECT_EQ(some.exit_code, 0);
    EXPECT_THAT(some.out, HasSubstr(" taken=3\n"));
    EXPECT_EQ(run({"take", "n", "--up-to"}).exit_code, 75);
    EXPECT_EQ(run({"reset", "n"}).exit_code, 0);
    EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  }
}

TEST_F(LimitCliTest, JsonHasEveryFieldOfTheDecision) {
  const Words take = {"take", "n", "--rate", "2/d", "--json"};
  const nlohmann::json first = nlohmann::json::parse(Run(take).out);
  EXPECT_EQ(first["allowed"], true);
  EXPECT_EQ(first["limit"], 2);
  EXPECT_EQ(first["remaining"], 1);
  EXPECT_EQ(first["retry_after"], 0);
  EXPECT_EQ(first["reset_after"], 43200);
  EXPECT_EQ(first["taken"], 1);
  EXPECT_EQ(first["from_server"], true);
  Run(take);
  const nlohmann::json denied = nlohmann::json::parse(Run(take).out);
  EXPECT_EQ(denied["allowed"], false);
  EXPECT_EQ(denied["taken"], 0);
  EXPECT_GT(denied["retry_after"], 43000);
}

TEST_F(LimitCliTest, WithoutAServerItSaysWhatWasChosen) {
  server_.Kill();
  const auto run = [&](const std::string& act, const std::string& what, const Words& more = {}) {
    Words words = {act, "n", "--rate", "2/d", "--when-unreachable", what, "--timeout", "300ms"};
    words.insert(words.end(), more.begin(), more.end());
    return Run(words);
  };
  const ProcessResult error = run("take", "error");
  EXPECT_NE(error.exit_code, 0);
  EXPECT_NE(error.exit_code, 75);
  for (const char* const act : {"take", "peek"}) {
    const ProcessResult denied = run(act, "deny");
    EXPECT_EQ(denied.exit_code, 75);
    EXPECT_EQ(denied.out,
              "denied remaining=0 limit=2 retry_after=1s reset_after=1s server=unreachable\n");
    const ProcessResult allowed = run(act, "allow");
    EXPECT_EQ(allowed.exit_code, 0);
    EXPECT_EQ(allowed.out,
              "allowed remaining=0 limit=2 retry_after=0s reset_after=0s server=unreachable\n");
  }
  EXPECT_THAT(run("take", "allow", {"--json"}).out, HasSubstr(R"("from_server":false)"));
  EXPECT_THAT(run("take", "allow", {"--cost", "3"}).out, HasSubstr("retry_after=never"));
  EXPECT_THAT(run("take", "allow", {"--cost", "3", "--up-to"}).out, HasSubstr(" taken=2 "));
}

TEST_F(LimitCliTest, AServerThatStandsStillCountsAsUnreachable) {
  server_.Pause();
  const ProcessResult allowed =
      Run({"take", "n", "--rate", "2/d", "--when-unreachable", "allow", "--timeout", "300ms"});
  server_.Resume();
  EXPECT_EQ(allowed.exit_code, 0) << allowed.err;
  EXPECT_THAT(allowed.out, HasSubstr("server=unreachable"));
}

TEST_F(LimitCliTest, AWrongPasswordIsAnErrorWhateverWasChosen) {
  redis_.Command({"CONFIG", "SET", "requirepass", "secret"});
  const ProcessResult result = Run({"take", "n", "--rate", "2/d", "--when-unreachable", "allow"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.exit_code, 75);
  EXPECT_EQ(result.out, "");
}

TEST_F(LimitCliTest, MisuseNamesTheOption) {
  const std::pair<Words, std::string> cases[] = {
      {{"take", "n", "--rate", "1/s", "--algorithm", "leaky"}, "--algorithm"},
      {{"take", "a", "b", "c", "--rate", "1/s", "--rate", "2/s"}, "--rate is given 2 times"},
      {{"take", "a", "b", "--rate", "1/s", "--wait", "1s"}, "--wait"},
      {{"take", "a", "b", "--rate", "1/s", "--up-to"}, "--up-to"},
      {{"take", "a", "--rate", "1/s", "--up-to", "--wait", "1s"}, "--up-to"},
      {{"take", "a", "a", "--rate", "1/s"}, "twice"},
      {{"refund", "a", "--rate", "1/s", "--cost", "0"}, "--cost"},
      {{"take", "a", "--rate", "1/s", "--when-unreachable", "local"}, "--when-unreachable"},
      {{"take", "a", "b", "--rate", "1/s", "--when-unreachable", "deny"}, "--when-unreachable"},
  };
  for (const auto& [words, why] : cases) {
    const ProcessResult result = Run(words);
    EXPECT_EQ(result.exit_code, 2) << why;
    EXPECT_THAT(result.err, HasSubstr(why));
  }
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
