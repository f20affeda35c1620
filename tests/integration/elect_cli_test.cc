// `coord elect`, from outside.
#ifdef COORD_PROGRAM

#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coord/client.h"
#include "coord/election.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class ElectCliTest : public ::testing::Test {
 protected:
  static Words CommandLine(const Words& words) {
    Words argv = {COORD_PROGRAM, "elect"};
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
  }
  ProcessOptions Options() const { return {.env = {{"COORD_URL", server_.url()}}}; }
  ProcessResult Run(const Words& words) const { return RunProgram(CommandLine(words), Options()); }
  Process Start(const Words& words) const { return Process(CommandLine(words), Options()); }
  static bool Prints(Process& process, const std::string& text) {
    return Eventually([&] { return process.out().find(text) != std::string::npos; },
                      absl::Seconds(20));
  }
  static std::size_t Lines(const Process& process) {
    const std::string out = process.out();
    return static_cast<std::size_t>(std::count(out.begin(), out.end(), '\n'));
  }

  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(ElectCliTest, HandsOnNameTermAndStatus) {
  const ProcessResult result =
      Run({"chief", "--", "sh", "-c", "echo $COORD_ELECTION_NAME $COORD_TERM; exit 7"});
  EXPECT_EQ(result.exit_code, 7) << result.err;
  EXPECT_THAT(result.out, MatchesRegex("chief [0-9]+\n"));
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{chief}:lease"}), 0);
}

TEST_F(ElectCliTest, ObserveShowsWhoLeadsWhileTheCommandRuns) {
  EXPECT_EQ(Run({"chief", "--observe", "--once"}).exit_code, 75);
  EXPECT_EQ(Run({"chief", "--observe", "--once"}).out, "none\n");
  Process leader =
      Start({"chief", "--value", "10.0.0.7:80", "--", "sh", "-c", "echo up; exec sleep 60"});
  ASSERT_TRUE(Prints(leader, "up"));
  const ProcessResult seen = Run({"chief", "--observe", "--once"});
  EXPECT_EQ(seen.exit_code, 0);
  EXPECT_THAT(seen.out, MatchesRegex("leader [^ ]+ term [0-9]+ value 10.0.0.7:80\n"));
  const Json json =
      Json::parse(Run({"chief", "--observe", "--once", "--json"}).out, nullptr, false);
  EXPECT_EQ(json["leader"]["value"], "10.0.0.7:80");
  EXPECT_GT(json["leader"]["term"], 0);
  leader.Signal(SIGTERM);
  EXPECT_EQ(leader.Wait().exit_code, 128 + SIGTERM);
  EXPECT_EQ(Run({"chief", "--observe", "--once", "--json"}).out, "{\"leader\":null}\n");
}

TEST_F(ElectCliTest, ObservePrintsEachChangeAsItComes) {
  Process observer = Start({"chief", "--observe"});
  ASSERT_TRUE(Prints(observer, "none\n"));
  ASSERT_TRUE(Eventually([&] {
    return redis_.Integer({"ZCARD", "coord:{chief}:observers"}) == 1;
  }));
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Leadership lead,
                       Election(client, "chief").Campaign("one", absl::Seconds(5)));
  ASSERT_TRUE(Prints(observer, "value one\n"));
  ASSERT_OK(lead.Proclaim("two"));
  ASSERT_TRUE(Prints(observer, "value two\n"));
  ASSERT_OK(lead.Resign());
  ASSERT_TRUE(Eventually([&] { return Lines(observer) == 4; })) << observer.out();
  EXPECT_TRUE(observer.out().ends_with("value two\nnone\n"));
  observer.Signal(SIGTERM);
  EXPECT_EQ(observer.Wait().signal, SIGTERM);
}

TEST_F(ElectCliTest, AnotherLeaderIs75) {
  Process leader = Start({"chief", "--", "sh", "-c", "echo up; exec sleep 60"});
  ASSERT_TRUE(Prints(leader, "up"));
  const ProcessResult busy = Run({"chief", "--wait", "100ms", "--", "echo", "ran"});
  EXPECT_EQ(busy.exit_code, 75);
  EXPECT_EQ(busy.out, "");
  EXPECT_THAT(busy.err, HasSubstr("is held by"));
}

TEST_F(ElectCliTest, ALostLeadEndsTheCommandWith76) {
  Process process =
      Start({"chief", "--ttl", "600ms", "--", "sh", "-c",
             "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(Prints(process, "ready"));
  redis_.Command({"FLUSHALL"});
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 76);
  EXPECT_EQ(result.out, "ready\ntold\n");
  EXPECT_THAT(result.err, HasSubstr("the lead of \"chief\" is lost"));
}

TEST_F(ElectCliTest, ForeverCampaignsAgainWhenTheCommandEndsOrTheLeadIsLost) {
  Process process =
      Start({"chief", "--ttl", "600ms", "--forever", "--", "sh", "-c",
             "trap 'echo told; exit' TERM; echo term $COORD_TERM; [ -e " + server_.directory() +
                 "/stay ] || exit 1; while :; do sleep 0.01; done"});
  ASSERT_TRUE(Eventually([&] { return Lines(process) >= 2; }, absl::Seconds(20)));  // exit 1
  ASSERT_EQ(RunProgram({"touch", server_.directory() + "/stay"}).exit_code, 0);
  const std::size_t before = Lines(process);
  ASSERT_TRUE(Eventually([&] { return Lines(process) > before; }, absl::Seconds(20)));
  ASSERT_TRUE(Eventually([&] {
    redis_.Command({"FLUSHALL"});
    return process.out().find("told") != std::string::npos;
  }));
  const std::size_t lost = Lines(process);
  ASSERT_TRUE(Eventually([&] { return Lines(process) > lost; }, absl::Seconds(20)));  // leads again
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait().exit_code, 0);  // the command's, which ended as it was told
}

TEST_F(ElectCliTest, ASignalEndsTheCampaign) {
  Process leader = Start({"chief", "--", "sh", "-c", "echo up; exec sleep 60"});
  ASSERT_TRUE(Prints(leader, "up"));
  Process candidate = Start({"chief", "--forever", "--", "echo", "ran"});
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{chief}:queue"}) == 1; }));
  candidate.Signal(SIGTERM);
  const ProcessResult result = candidate.Wait();
  EXPECT_EQ(result.exit_code, 128 + SIGTERM);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{chief}:queue"}), 0);
}

TEST_F(ElectCliTest, BadArgumentsAre2AndReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (const Words& words : std::vector<Words>{{"chief"},
                                               {""},
                                               {"", "--", "true"},
                                               {"chief", "--ttl", "0s", "--", "true"},
                                               {"chief", "--wait", "5", "--", "true"},
                                               {"chief", "--frobnicate", "--", "true"},
                                               {"chief", "--forever", "--wait", "1s", "--", "true"},
                                               {"chief", "--observe", "--", "true"},
                                               {"chief", "--observe", "true"},
                                               {"chief", "--observe", "--value", "x"},
                                               {"chief", "--once"},
                                               {"}", "--observe"}}) {
    const ProcessResult result = Run(words);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(AllCalls(redis_), 0);
  EXPECT_EQ(Run({"chief", "--", "no-such-program-here"}).exit_code, 127);
  EXPECT_EQ(AllCalls(redis_), 0);
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
