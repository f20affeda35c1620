// coord limit, from outside: several limits at once, algorithms, refund, up to.
#ifdef COORD_PROGRAM

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

TEST_F(LimitCliTest, MisuseNamesTheOption) {
  const std::pair<Words, std::string> cases[] = {
      {{"take", "n", "--rate", "1/s", "--algorithm", "leaky"}, "--algorithm"},
      {{"take", "a", "b", "c", "--rate", "1/s", "--rate", "2/s"}, "--rate is given 2 times"},
      {{"take", "a", "b", "--rate", "1/s", "--wait", "1s"}, "--wait"},
      {{"take", "a", "b", "--rate", "1/s", "--up-to"}, "--up-to"},
      {{"take", "a", "--rate", "1/s", "--up-to", "--wait", "1s"}, "--up-to"},
      {{"take", "a", "a", "--rate", "1/s"}, "twice"},
      {{"refund", "a", "--rate", "1/s", "--cost", "0"}, "--cost"},
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
