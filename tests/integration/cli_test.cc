// The coord program, from outside: what it prints, writes and ends with.
#ifdef COORD_PROGRAM

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/fake_server.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

Words CommandLine(const Words& words) {
  Words argv = {COORD_PROGRAM};
  argv.insert(argv.end(), words.begin(), words.end());
  return argv;
}

class CliTest : public ::testing::Test {
 protected:
  ProcessOptions Options(std::string input = "") const {
    return {.stdin_text = std::move(input), .env = {{"COORD_URL", server_.url()}}};
  }
  ProcessResult Run(const Words& words, std::string input = "") const {
    return RunProgram(CommandLine(words), Options(std::move(input)));
  }
  Process Start(const Words& words) const { return Process(CommandLine(words), Options()); }
  Json RunJson(Words words) const {
    words.emplace_back("--json");
    const ProcessResult result = Run(words);
    Json value = Json::parse(result.out, nullptr, false);
    EXPECT_TRUE(value.is_object()) << result.out << result.err;
    return value;
  }
  std::int64_t Scripts() { return CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval"); }
  // That the command runs, which its first output shows.
  static bool HasStarted(Process& process) {
    return Eventually([&] { return !process.out().empty(); });
  }

  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(CliTest, SaysItsVersionAndHelpOnStandardOutput) {
  const ProcessResult version = Run({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, StartsWith("coord "));
  const ProcessResult help = Run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Exit status"));
  EXPECT_THAT(Run({"lock", "--help"}).out, HasSubstr("COORD_FENCING_TOKEN"));
}

TEST_F(CliTest, CounterAddsReadsSetsAndResets) {
  EXPECT_EQ(Run({"counter", "add", "n"}).out, "1\n");
  EXPECT_EQ(Run({"counter", "add", "n", "-5"}).out, "-4\n");
  EXPECT_EQ(Run({"counter", "add", "n", "--", "-5"}).out, "-9\n");
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "-9\n");
  EXPECT_EQ(Run({"counter", "set", "n", "9223372036854775807"}).out, "-9\n");
  EXPECT_EQ(RunJson({"counter", "get", "n"}), Json({{"value", 9223372036854775807}}));
  EXPECT_EQ(RunJson({"counter", "reset", "n"}), Json({{"previous", 9223372036854775807}}));
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "0\n");
}

TEST_F(CliTest, CounterThatWouldLeaveItsBoundsIs75AndUnchanged) {
  Run({"counter", "set", "n", "3"});
  const ProcessResult refused = Run({"counter", "add", "n", "-4", "--min", "0"});
  EXPECT_EQ(refused.exit_code, 75);
  EXPECT_EQ(refused.out, "3\n");
  EXPECT_EQ(RunJson({"counter", "add", "n", "9", "--max", "5"}),
            Json({{"value", 3}, {"applied", false}}));
  const ProcessResult cut = Run({"counter", "add", "n", "9", "--max", "5", "--saturate"});
  EXPECT_EQ(cut.exit_code, 0);
  EXPECT_EQ(cut.out, "5\n");
}

TEST_F(CliTest, LimitAllowsDeniesPeeksAndForgets) {
  const Words take = {"limit", "take", "u", "--rate", "1/h"};
  EXPECT_THAT(Run({"limit", "peek", "u", "--rate", "1/h"}).out, StartsWith("allowed "));
  EXPECT_THAT(Run(take).out, StartsWith("allowed remaining=0 limit=1 retry_after=0s reset_after="));
  const ProcessResult denied = Run(take);
  EXPECT_EQ(denied.exit_code, 75);
  EXPECT_THAT(denied.out, StartsWith("denied remaining=0 limit=1 retry_after=3"));
  EXPECT_EQ(Run({"limit", "peek", "u", "--rate", "1/h"}).exit_code, 75);
  const Json json = RunJson(take);
  EXPECT_EQ(json["allowed"], false);
  EXPECT_GT(json["retry_after"], 3000);
  EXPECT_EQ(Run({"limit", "reset", "u"}).exit_code, 0);
  EXPECT_EQ(Run(take).exit_code, 0);
  EXPECT_THAT(Run({"limit", "take", "u", "--rate", "1/h", "--cost", "2"}).out,
              HasSubstr("retry_after=never"));
}

TEST_F(CliTest, LimitWaitsForItsTurn) {
  const Words take = {"limit", "take", "u", "--rate", "1/200ms", "--wait", "5s"};
  EXPECT_EQ(Run(take).exit_code, 0);
  EXPECT_EQ(Run(take).exit_code, 0);
  EXPECT_EQ(Run({"limit", "take", "v", "--rate", "1/h"}).exit_code, 0);
  EXPECT_EQ(Run({"limit", "take", "v", "--rate", "1/h", "--wait", "10ms"}).exit_code, 75);
}

TEST_F(CliTest, ListKeepsTheNewestAndPrintsOneALine) {
  EXPECT_EQ(Run({"list", "push", "l", "a", "[1,2]", "push", "-5", "--max", "3"}).out, "3\n");
  EXPECT_EQ(Run({"list", "range", "l"}).out, "[1,2]\npush\n-5\n");
  const Json pushed = RunJson({"list", "push", "l", "--max", "3", "x"});
  EXPECT_EQ(pushed["length"], 3);
  EXPECT_EQ(pushed["evicted"], 1);
  EXPECT_GT(pushed["sequence"], 0);
  EXPECT_EQ(Run({"list", "push", "l", "--max", "3", "--", "--max", "++"}).exit_code, 0);
  EXPECT_EQ(RunJson({"list", "range", "l", "-2", "-1"}), Json({{"items", {"--max", "++"}}}));
}

TEST_F(CliTest, ListItemsMayBeAnyBytes) {
  EXPECT_EQ(Run({"list", "push", "l", "\xff\x01 \xfe", "--max", "3"}).exit_code, 0);
  EXPECT_EQ(Run({"list", "range", "l"}).out, "\xff\x01 \xfe\n");
  EXPECT_EQ(RunJson({"list", "range", "l"}), Json({{"items", {{{"base64", "/wEg/g=="}}}}}));
}

TEST_F(CliTest, JsonDocumentsAreStoredAndPrintedAsTheyAre) {
  EXPECT_EQ(Run({"json", "get", "d"}).exit_code, 75);
  EXPECT_EQ(RunJson({"json", "get", "d"}), Json({{"document", nullptr}}));
  EXPECT_EQ(Run({"json", "set", "d", "{}"}).exit_code, 0);
  EXPECT_EQ(Run({"json", "get", "d"}).out, "{}\n");
  const std::string document = "{\"b\" : 1.0,\"a\":9223372036854775808}\n";
  EXPECT_EQ(Run({"json", "set", "d"}, document).exit_code, 0);
  EXPECT_EQ(Run({"json", "get", "d"}).out, document);
  EXPECT_EQ(RunJson({"json", "get", "d"}), Json({{"document", document}}));
}

TEST_F(CliTest, JsonCasAppliesOrSaysWhatIsThere) {
  const Words change = {"json", "cas", "d", "--if", "/a=1", "--set", "/a=2", "/b=[]"};
  const ProcessResult missing = Run(change);
  EXPECT_EQ(missing.exit_code, 75);
  EXPECT_EQ(missing.out, "missing\n");
  EXPECT_EQ(Run({"json", "cas", "d", "--if-absent", "", "--doc", R"({"a":1.0})"}).out, "applied\n");
  EXPECT_EQ(Run(change).out, "applied\n");
  EXPECT_EQ(Run({"json", "get", "d"}).out, "{\"a\":2,\"b\":[]}\n");
  const ProcessResult mismatch = Run(change);
  EXPECT_EQ(mismatch.exit_code, 75);
  EXPECT_EQ(mismatch.out, "mismatch /a=2\n");
  EXPECT_EQ(
      RunJson({"json", "cas", "d", "--if", "/a=2", "/z=1", "--set", "/a=3"}),
      Json({{"outcome", "mismatch"}, {"failed_test", 1}, {"path", "/z"}, {"current", nullptr}}));
  EXPECT_EQ(Run({"json", "cas", "d", "--if-absent", "/a", "--set", "/a=3"}).out, "mismatch /a=2\n");
}

TEST_F(CliTest, JsonPathsAndTextsMayHoldAnEqualsSign) {
  Run({"json", "set", "d", R"({"s":"x=1"})"});
  EXPECT_EQ(Run({"json", "cas", "d", "--if", R"(/s="x=1")", "--set", R"(/k=v="y")"}).out,
            "applied\n");
  EXPECT_EQ(Run({"json", "get", "d"}).out, "{\"s\":\"x=1\",\"k=v\":\"y\"}\n");
}

TEST_F(CliTest, LockHandsOnNameTokenStatusAndStreams) {
  ProcessOptions options = Options("from above");
  options.env.emplace_back("COORD_LOCK_NAME", "inherited");
  options.env.emplace_back("COORD_FENCING_TOKEN", "inherited");
  const ProcessResult result = RunProgram(
      CommandLine({"lock", "x y", "--", "sh", "-c",
                   "echo $COORD_LOCK_NAME; echo $COORD_FENCING_TOKEN; env | grep -c ^COORD_F; cat; "
                   "echo words >&2; exit 7"}),
      options);
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_THAT(result.out, ::testing::MatchesRegex("x y\n[0-9]+\n1\nfrom above"));
  EXPECT_EQ(result.err, "words\n");
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{x y}:lease"}), 0);
}

TEST_F(CliTest, LockTokensRise) {
  const auto token = [&] {
    return std::stoll(Run({"lock", "x", "--", "sh", "-c", "echo $COORD_FENCING_TOKEN"}).out);
  };
  const long long first = token();
  EXPECT_GT(token(), first);
}

TEST_F(CliTest, TheCommandBeginsAtDashesOrAtItsFirstWord) {
  EXPECT_EQ(Run({"lock", "x", "echo", "++"}).exit_code, 2);  // needs dashes
  EXPECT_EQ(Run({"lock", "x", "echo", "--ttl", "--", "lock"}).out, "--ttl -- lock\n");
  EXPECT_EQ(Run({"lock", "x", "--ttl", "5s", "--", "echo", "--json", "++"}).out, "--json ++\n");
  EXPECT_EQ(Run({"lock", "lock", "echo", "counter"}).out, "counter\n");
}

TEST_F(CliTest, TheCommandInheritsNoDescriptorsAndNoSignalMask) {
  const std::string look =
      "ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status";
  const ProcessResult plain = RunProgram({"sh", "-c", look}, Options());
  EXPECT_EQ(Run({"lock", "x", "--", "sh", "-c", look}).out, plain.out);
}

TEST_F(CliTest, ACommandEndedByASignalIs128AndTheSignal) {
  EXPECT_EQ(Run({"lock", "x", "--", "sh", "-c", "kill -KILL $$"}).exit_code, 128 + SIGKILL);
  EXPECT_EQ(Run({"lock", "x", "--", "sh", "-c", "kill -INT $$"}).exit_code, 128 + SIGINT);
}

TEST_F(CliTest, SignalsReachTheCommand) {
  Process process =
      Start({"lock", "x", "--", "sh", "-c",
             "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; "
             "echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(HasStarted(process));
  process.Signal(SIGUSR1);
  EXPECT_TRUE(Eventually([&] { return process.out() == "ready\nusr1\n"; })) << process.out();
  process.Signal(SIGHUP);
  EXPECT_TRUE(Eventually([&] { return process.out() == "ready\nusr1\nhup\n"; })) << process.out();
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait().exit_code, 9);
  EXPECT_EQ(process.out(), "ready\nusr1\nhup\nterm\n");
}

TEST_F(CliTest, AnIgnoredSignalStaysIgnored) {
  Process process({"sh", "-c", "trap '' HUP; exec \"$@\"", "sh", COORD_PROGRAM, "lock", "x", "--",
                   "sh", "-c", "echo ready; exec sleep 60"},
                  Options());
  ASSERT_TRUE(HasStarted(process));
  process.Signal(SIGHUP);
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait().exit_code, 128 + SIGTERM);
}

TEST_F(CliTest, AStoppedCommandStopsCoordAndBothGoOn) {
  // Bash gives the job a process group of its own, whose parent is in another one of the session:
  // there the kernel lets SIGTSTP stop it.
  const TempDir directory;
  const ProcessResult result =
      RunProgram({"setsid", "-w", "bash", "-c",
                  "set -m; ready=$1; shift; \"$@\" & pid=$!; "
                  "until [ -e $ready ]; do sleep 0.01; done; kill -TSTP $pid; "
                  "until grep -q 'State:.T' /proc/$pid/status; do sleep 0.01; done; echo stopped; "
                  "kill -CONT $pid; until wait $pid; do sleep 0.01; done; echo $?",
                  "bash", directory.File("ready"), COORD_PROGRAM, "lock", "x", "--", "sh", "-c",
                  "touch " + directory.File("ready") + "; sleep 0.3; echo done"},
                 Options());
  EXPECT_EQ(result.out, "stopped\ndone\n0\n") << result.err;
}

TEST_F(CliTest, ABusyLockIs75) {
  Process holder = Start({"lock", "x", "--", "sh", "-c", "echo held; exec sleep 60"});
  ASSERT_TRUE(HasStarted(holder));
  const ProcessResult at_once = Run({"lock", "x", "--no-wait", "--", "echo", "ran"});
  EXPECT_EQ(at_once.exit_code, 75);
  EXPECT_EQ(at_once.out, "");
  EXPECT_THAT(at_once.err, HasSubstr("is held by"));
  EXPECT_EQ(Run({"lock", "x", "--wait", "150ms", "--", "echo", "ran"}).exit_code, 75);
}

TEST_F(CliTest, WaitsWithoutLimitUntilTheLockIsFree) {
  Process holder = Start({"lock", "x", "--", "sh", "-c", "echo held; exec sleep 60"});
  ASSERT_TRUE(HasStarted(holder));
  const std::int64_t before = Scripts();
  Process waiter = Start({"lock", "x", "--", "echo", "ran"});
  ASSERT_TRUE(Eventually([&] { return Scripts() > before + 1; }));
  EXPECT_EQ(waiter.out(), "");
  holder.Signal(SIGTERM);
  EXPECT_EQ(holder.Wait().exit_code, 128 + SIGTERM);
  EXPECT_EQ(waiter.Wait().out, "ran\n");
}

TEST_F(CliTest, ASignalEndsTheWaitingAndLeavesNothingLocked) {
  Process holder = Start({"lock", "x", "--", "sh", "-c", "echo held; exec sleep 60"});
  ASSERT_TRUE(HasStarted(holder));
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const std::int64_t before = Scripts();
    Process waiter = Start({"lock", "x", "--", "echo", "ran"});
    ASSERT_TRUE(Eventually([&] { return Scripts() > before + 1; }));
    waiter.Signal(signal);
    const ProcessResult result = waiter.Wait();
    EXPECT_EQ(result.exit_code, 128 + signal);
    EXPECT_EQ(result.out, "");
  }
  holder.Signal(SIGTERM);
  holder.Wait();
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{x}:lease"}), 0);
}

TEST_F(CliTest, ALostLeaseEndsTheCommandWith76) {
  Process process =
      Start({"lock", "x", "--ttl", "600ms", "--", "sh", "-c",
             "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(HasStarted(process));
  redis_.Command({"FLUSHALL"});
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 76);
  EXPECT_EQ(result.out, "ready\ntold\n");
  EXPECT_THAT(result.err, HasSubstr("\"x\" is lost"));
}

TEST_F(CliTest, ACommandThatStaysAfterTheLeaseIsLostIsKilled) {
  Process process = Start({"lock", "x", "--ttl", "600ms", "--grace", "200ms", "--", "sh", "-c",
                           "trap '' TERM; echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(HasStarted(process));
  server_.Kill();
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 76);
  EXPECT_THAT(result.err, HasSubstr("killing it"));
}

TEST_F(CliTest, ACommandWhoseLeaseWasTakenUnnoticedIs76) {
  const ProcessResult result = Run({"lock", "y", "--ttl", "60s", "--", "redis-cli", "-s",
                                    server_.socket_path(), "DEL", "coord:{y}:lease"});
  EXPECT_EQ(result.exit_code, 76);
  EXPECT_THAT(result.err, HasSubstr("lost"));
}

TEST_F(CliTest, TheCommandGetsSigtermWhenCoordIsKilled) {
  const TempDir directory;
  Process process = Start({"lock", "x", "--", "sh", "-c",
                           "trap 'touch " + directory.File("told") +
                               "; exit' TERM; echo ready; "
                               "while :; do sleep 0.01; done"});
  ASSERT_TRUE(HasStarted(process));
  process.Kill();
  EXPECT_TRUE(Eventually([&] { return access(directory.File("told").c_str(), F_OK) == 0; }));
}

TEST_F(CliTest, CommandsThatCannotRunAre126And127AndTakeNoLock) {
  const TempDir directory;
  const std::string script = directory.File("script");
  ASSERT_EQ(RunProgram({"sh", "-c", "printf 'echo ran' > " + script}).exit_code, 0);
  EXPECT_EQ(Run({"lock", "x", "--", "no-such-command"}).exit_code, 127);
  EXPECT_EQ(Run({"lock", "x", "--", "/no/such/command"}).exit_code, 127);
  EXPECT_EQ(Run({"lock", "x", "--", ""}).exit_code, 127);
  EXPECT_EQ(Run({"lock", "x", "--", script}).exit_code, 126);
  EXPECT_EQ(Run({"lock", "x", "--", "/"}).exit_code, 126);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  // Without a "#!" it is the shell's, as with execvp.
  ASSERT_EQ(RunProgram({"chmod", "+x", script}).exit_code, 0);
  EXPECT_EQ(Run({"lock", "x", "--", script}).out, "ran\n");
}

TEST_F(CliTest, SemaphoreRunsSoManyCommandsAtATimeAndHandsOnNameAndId) {
  Process holder = Start({"semaphore", "x y", "--permits", "3", "--count", "2", "--", "sh", "-c",
                          "echo $COORD_SEMAPHORE_NAME $COORD_PERMIT_ID; exec sleep 60"});
  ASSERT_TRUE(HasStarted(holder));
  EXPECT_THAT(holder.out(), ::testing::MatchesRegex("x y [0-9a-f]+@[^ ]+\n"));
  const Words use = {"semaphore", "x y", "--permits", "3", "--no-wait"};
  const auto with = [&](Words more) {
    Words words = use;
    words.insert(words.end(), more.begin(), more.end());
    return Run(words);
  };
  EXPECT_EQ(with({"--", "echo", "ran"}).out, "ran\n");
  EXPECT_EQ(with({"sh", "-c", "exit 7"}).exit_code, 7);
  const ProcessResult busy = with({"--count", "2", "--", "echo", "ran"});
  EXPECT_EQ(busy.exit_code, 75);
  EXPECT_EQ(busy.out, "");
  EXPECT_THAT(busy.err, HasSubstr("2 of 3 permits"));
  EXPECT_EQ(Run({"semaphore", "x y", "--permits", "4", "--", "true"}).exit_code, 1);
  Process waiter = Start({"semaphore", "x y", "--permits", "3", "--count", "3", "echo", "ran"});
  ASSERT_TRUE(Eventually([&] {
    return redis_.Integer({"LLEN", "coord:{x y}:permits-queue"}) == 1;
  }));
  holder.Signal(SIGTERM);
  EXPECT_EQ(holder.Wait().exit_code, 128 + SIGTERM);
  EXPECT_EQ(waiter.Wait().out, "ran\n");
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:{x y}:permits", "coord:{x y}:permits-queue"}), 0);
}

TEST_F(CliTest, LostPermitsEndTheCommandWith76AndASignalEndsTheWaiting) {
  Process holder =
      Start({"semaphore", "x", "--permits", "1", "--ttl", "600ms", "--", "sh", "-c",
             "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(HasStarted(holder));
  Process waiter = Start({"semaphore", "x", "--permits", "1", "--", "echo", "ran"});
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{x}:permits-queue"}) == 1; }));
  waiter.Signal(SIGTERM);
  EXPECT_EQ(waiter.Wait().exit_code, 128 + SIGTERM);
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{x}:permits-queue"}), 0);
  redis_.Command({"FLUSHALL"});
  const ProcessResult result = holder.Wait();
  EXPECT_EQ(result.exit_code, 76);
  EXPECT_EQ(result.out, "ready\ntold\n");
  EXPECT_THAT(result.err, HasSubstr("semaphore \"x\" is lost"));
}

TEST_F(CliTest, LatchCountsDownAndLetsThoseWhoWaitGo) {
  EXPECT_EQ(Run({"latch", "get", "l", "--count", "3"}).out, "3\n");
  EXPECT_EQ(Run({"latch", "down", "l", "--count", "3"}).out, "2\n");
  const ProcessResult early = Run({"latch", "wait", "l", "--count", "3", "--wait", "100ms"});
  EXPECT_EQ(early.exit_code, 75);
  EXPECT_THAT(early.err, HasSubstr("2 of 3 are left"));
  EXPECT_EQ(RunJson({"latch", "wait", "l", "--count", "3", "--wait", "0s"}),
            Json({{"open", false}}));
  EXPECT_EQ(Run({"latch", "down", "l", "--count", "4"}).exit_code, 1);
  Process waiter = Start({"latch", "wait", "l", "--count", "3", "--json"});
  ASSERT_TRUE(Eventually([&] {
    return redis_.Integer({"ZCARD", "coord:{l}:latch-waiters"}) == 1;
  }));
  EXPECT_EQ(RunJson({"latch", "down", "l", "--count", "3", "--by", "2"}),
            Json({{"left", 0}, {"open", true}}));
  const ProcessResult open = waiter.Wait();
  EXPECT_EQ(open.exit_code, 0);
  EXPECT_EQ(open.out, "{\"open\":true}\n");
  EXPECT_EQ(Run({"latch", "wait", "l", "--count", "3"}).exit_code, 0);
}

TEST_F(CliTest, BarrierLetsAllGoTogether) {
  const Words come = {"barrier", "b", "--parties", "2"};
  for (int generation = 1; generation <= 2; ++generation) {
    Process first = Start(come);
    ASSERT_TRUE(Eventually([&] {
      return redis_.Integer({"ZCARD", "coord:{b}:barrier-order"}) == 1;
    }));
    EXPECT_EQ(RunJson(come), Json({{"generation", generation}, {"index", 0}}));
    const ProcessResult result = first.Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, "generation=" + std::to_string(generation) + " index=1\n");
  }
  const ProcessResult alone = Run({"barrier", "b", "--parties", "2", "--wait", "100ms"});
  EXPECT_EQ(alone.exit_code, 75);
  EXPECT_THAT(alone.err, HasSubstr("1 of 2 parties"));
  Process stopped = Start(come);
  ASSERT_TRUE(Eventually([&] {
    return redis_.Integer({"ZCARD", "coord:{b}:barrier-order"}) == 1;
  }));
  stopped.Signal(SIGINT);
  EXPECT_EQ(stopped.Wait().exit_code, 128 + SIGINT);
  EXPECT_EQ(redis_.Integer({"ZCARD", "coord:{b}:barrier-order"}), 0);
}

TEST_F(CliTest, BadArgumentsAre2AndNameWhatIsWrong) {
  struct Case {
    Words words;
    std::string named;
  };
  const std::string long_name(513, 'n');
  const Case cases[] = {
      {{}, "subcommand"},
      {{"nonsense"}, "nonsense"},
      {{"counter", "nonsense"}, "nonsense"},
      {{"counter", "add", "n", "--nonsense"}, "--nonsense"},
      {{"counter", "add"}, "NAME"},
      {{"counter", "add", ""}, "NAME"},
      {{"counter", "add", long_name}, "512"},
      {{"counter", "add", "}n"}, "NAME"},
      {{"counter", "add", "n", "9223372036854775808"}, "9223372036854775807"},
      {{"counter", "add", "n", "-9223372036854775809"}, "-9223372036854775808"},
      {{"counter", "add", "n", "1.5"}, "N is \"1.5\""},
      {{"counter", "add", "n", "0x10"}, "N is \"0x10\""},
      {{"counter", "add", "n", "--min", ""}, "--min"},
      {{"counter", "add", "n", "--min", "2", "--max", "1"}, "--min is 2"},
      {{"counter", "add", "n", "--ttl", "-1s"}, "--ttl"},
      {{"counter", "add", "n", "--ttl", "10"}, "--ttl"},
      {{"counter", "add", "n", "--ttl", "9999999999999999h"}, "36500d"},
      {{"counter", "add", "n", "1", "2"}, "2"},
      {{"counter", "set", "n"}, "N"},
      {{"limit", "take", "n"}, "--rate"},
      {{"limit", "take", "n", "--rate", "0/s"}, "--rate"},
      {{"limit", "take", "n", "--rate", "10"}, "--rate"},
      {{"limit", "take", "n", "--rate", "10/0s"}, "--rate"},
      {{"limit", "take", "n", "--rate", "10/lightyear"}, "--rate"},
      {{"limit", "take", "n", "--rate", "99999999999999999999/s"}, "--rate"},
      {{"limit", "take", "n", "--rate", "10/s", "--burst", "0"}, "--burst"},
      {{"limit", "take", "n", "--rate", "10/s", "--cost", "0"}, "--cost"},
      {{"limit", "take", "n", "--rate", "10/s", "--cost", "-1"}, "--cost"},
      {{"list", "push", "n", "v"}, "--max"},
      {{"list", "push", "n", "v", "--max", "0"}, "--max is 0"},
      {{"list", "push", "n", "--max", "1"}, "VALUE"},
      {{"list", "push", "n", "-v", "--max", "1"}, "\"-v\""},
      {{"list", "range", "n", "first"}, "START"},
      {{"json", "set", "n", "{"}, "JSON"},
      {{"json", "cas", "n", "--if", "a=1", "--set", "/a=2"}, "--if"},
      {{"json", "cas", "n", "--if", "/a=b", "--set", "/a=2"}, "not JSON"},
      {{"json", "cas", "n", "--if", "/a~2=1", "--set", "/a=2"}, "/a~2"},
      {{"json", "cas", "n", "--set", "/a=2"}, "--if"},
      {{"json", "cas", "n", "--if", "/a=2"}, "--set"},
      {{"lock", "n"}, "COMMAND"},
      {{"lock", "n", "--"}, "COMMAND"},
      {{"lock", "--", "true"}, "NAME"},
      {{"lock", "n", "--nonsense", "--", "true"}, "--nonsense"},
      {{"lock", "n", "--ttl", "1ms", "--", "true"}, "ttl"},
      {{"lock", "n", "--ttl", "25h", "--", "true"}, "ttl"},
      {{"lock", "n", "--wait", "1", "--", "true"}, "--wait"},
      {{"lock", "n", "--wait", "1s", "--no-wait", "--", "true"}, "--no-wait"},
      {{"semaphore", "n", "--", "true"}, "--permits"},
      {{"semaphore", "n", "--permits", "0", "--", "true"}, "--permits is 0"},
      {{"semaphore", "n", "--permits", "1000001", "--", "true"}, "permits is 1000001"},
      {{"semaphore", "n", "--permits", "2", "--count", "3", "--", "true"}, "--count is 3"},
      {{"semaphore", "n", "--permits", "2"}, "coord semaphore NAME -- COMMAND"},
      {{"latch", "n"}, "subcommand"},
      {{"latch", "down", "n"}, "--count"},
      {{"latch", "down", "n", "--count", "1", "--by", "0"}, "--by is 0"},
      {{"latch", "wait", "n", "--count", "1", "--ttl", "1s"}, "10s"},
      {{"latch", "wait", "n", "--count", "x"}, "--count"},
      {{"barrier", "n"}, "--parties"},
      {{"barrier", "n", "--parties", "99999999999"}, "10000"},
      {{"barrier", "n", "--parties", "2", "--wait", "5"}, "--wait"},
      {{"--timeout", "0s", "counter", "get", "n"}, "timeout"},
      {{"--prefix", "{", "counter", "get", "n"}, "prefix"},
      {{"--url", "nonsense", "counter", "get", "n"}, "URL"},
      {{"embedded", "status", "--url", "redis://localhost"}, "--url"},
  };
  for (const Case& c : cases) {
    const ProcessResult result = Run(c.words);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(c.words) << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.named));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(CliTest, GlobalOptionsStandBeforeOrAfterTheSubcommand) {
  EXPECT_EQ(Run({"--prefix", "a:", "counter", "add", "n", "5"}).out, "5\n");
  EXPECT_EQ(Run({"counter", "get", "n", "--prefix", "a:"}).out, "5\n");
  EXPECT_EQ(Run({"counter", "--json", "get", "n"}).out, "{\"value\":0}\n");
  const ProcessResult both =
      Run({"--url", server_.url() + "?prefix=b:", "--prefix", "a:", "counter", "get", "n"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, HasSubstr("--prefix"));
}

TEST_F(CliTest, WrongTypesAreReportedAndLeftAlone) {
  redis_.Command({"LPUSH", "coord:{n}:count", "x"});
  const ProcessResult result = Run({"counter", "add", "n"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, StartsWith("coord: "));
  EXPECT_EQ(redis_.Integer({"LLEN", "coord:{n}:count"}), 1);
}

TEST_F(CliTest, ResultsThatCannotBeWrittenAreAnError) {
  const ProcessResult result = RunProgram(
      {"sh", "-c", "exec \"$@\" > /dev/full", "sh", COORD_PROGRAM, "counter", "add", "n"},
      Options());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("standard output"));
}

TEST(CliServerTest, ADeadServerIs69WithOneLine) {
  const TempDir directory;
  for (const Words& words : {Words{"counter", "get", "n"}, Words{"lock", "n", "--", "true"}}) {
    Words line = words;
    line.insert(line.begin(), {"--url", "unix://" + directory.File("none"), "--timeout", "300ms"});
    const ProcessResult result = RunProgram(CommandLine(line));
    EXPECT_EQ(result.exit_code, 69) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(CliServerTest, AHangingServerIs69ByTheTimeout) {
  FakeServer server(Hangs());
  const auto begin = std::chrono::steady_clock::now();
  const ProcessResult result =
      RunProgram(CommandLine({"--url", server.url(), "--timeout", "300ms", "counter", "get", "n"}));
  EXPECT_EQ(result.exit_code, 69) << result.err;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
}

TEST(CliServerTest, APasswordIsNeverShown) {
  RedisServer server({.port = 0, .args = {"--requirepass", "right"}});
  const std::string host = "@127.0.0.1:" + std::to_string(server.port());
  const Words lines[] = {
      {"--url", "redis://:s3cret" + host, "counter", "get", "n"},
      {"--url", "redis://:s3cret@" + host + "/x", "counter", "get", "n"},
      {"--url", "redis://:s3cret@127.0.0.1:1", "counter", "get", "n"},
      {"redis://:s3cret" + host, "counter", "get", "n"},
      {"counter", "get", "n", "redis://:s3cret" + host},
      {"--ulr", "redis://:s3cret" + host, "counter", "get", "n"},
      {"--url", "redis://:s3cret" + host, "--url", "redis://:s3cret" + host, "counter", "get", "n"},
      {"--url", "redis://:s3cret" + host, "embedded", "status"},
      {"--url", "redis://:s3cret" + host + "?prefix=a", "--prefix", "b", "counter", "get", "n"},
  };
  for (const Words& words : lines) {
    const ProcessResult result = RunProgram(CommandLine(words));
    EXPECT_NE(result.exit_code, 0);
    EXPECT_NE(result.err, "");
    EXPECT_THAT(result.out + result.err, Not(HasSubstr("s3cret")))
        << ::testing::PrintToString(words);
  }
  const ProcessResult right =
      RunProgram(CommandLine({"--url", "redis://:right" + host, "counter", "add", "n"}));
  EXPECT_EQ(right.out, "1\n") << right.err;
}

// The server of embedded:// that belongs to these directories.
class CliEmbeddedTest : public ::testing::Test {
 protected:
  ~CliEmbeddedTest() override { Run({"embedded", "stop"}); }
  ProcessOptions Options() const {
    return {.env = {{"COORD_URL", ""},
                    {"XDG_RUNTIME_DIR", directory_.path()},
                    {"XDG_STATE_HOME", directory_.path()}}};
  }
  ProcessResult Run(const Words& words) const { return RunProgram(CommandLine(words), Options()); }
  TempDir directory_;
};

TEST_F(CliEmbeddedTest, IsStartedOnDemandShownAndStopped) {
  EXPECT_EQ(Run({"embedded", "status"}).exit_code, 1);
  EXPECT_EQ(Run({"counter", "add", "n", "3"}).out, "3\n");
  const ProcessResult status = Run({"embedded", "status", "--json"});
  EXPECT_EQ(status.exit_code, 0);
  const Json json = Json::parse(status.out);
  EXPECT_EQ(json["running"], true);
  EXPECT_GT(json["pid"], 1);
  EXPECT_THAT(json["socket"], StartsWith(directory_.path()));
  EXPECT_THAT(Run({"embedded", "status"}).out, HasSubstr(std::string(json["socket"])));
  EXPECT_EQ(Run({"embedded", "stop"}).out, "stopped\n");
  EXPECT_EQ(Run({"embedded", "stop"}).out, "not running\n");
  EXPECT_EQ(Run({"counter", "get", "n"}).out, "3\n");
}

TEST_F(CliEmbeddedTest, OneOfADirectoryIsNamedByOptionOrUrl) {
  const std::string own = directory_.File("own");
  EXPECT_EQ(Run({"--url", "embedded://" + own, "counter", "add", "n"}).out, "1\n");
  EXPECT_EQ(Run({"embedded", "status"}).exit_code, 1);
  EXPECT_EQ(Run({"embedded", "status", "--dir", own}).exit_code, 0);
  EXPECT_EQ(Run({"embedded", "stop", "--url", "embedded://" + own}).out, "stopped\n");
  EXPECT_EQ(Run({"embedded", "status", "--dir", own}).exit_code, 1);
}

TEST_F(CliEmbeddedTest, APipeBehindTheFirstCommandEnds) {
  const ProcessResult result =
      RunProgram({"sh", "-c", "\"$0\" lock x -- true | cat; echo ended", COORD_PROGRAM}, Options());
  EXPECT_EQ(result.out, "ended\n");
  EXPECT_FALSE(result.timed_out);
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
