// coord cache memo, from outside: who runs the command, and what the others print.
#ifdef COORD_PROGRAM

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class MemoCliTest : public ::testing::Test {
 protected:
  // `script` runs with R, a file that it adds a line to, and D, the test's directory.
  Words CommandLine(const Words& options, const std::string& script) const {
    Words argv = {COORD_PROGRAM, "cache", "memo"};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.insert(argv.end(), {"--", "sh", "-c", "echo run >>$R; " + script});
    return argv;
  }
  ProcessOptions Options() const {
    return {.stdin_text = "not for the command",
            .env = {{"COORD_URL", server_.url()},
                    {"R", directory_.File("runs")},
                    {"D", directory_.path()}}};
  }
  ProcessResult Memo(const Words& options, const std::string& script) const {
    return RunProgram(CommandLine(options, script), Options());
  }
  Process Start(const Words& options, const std::string& script) const {
    return Process(CommandLine(options, script), Options());
  }
  int Runs() const {
    std::ifstream file(directory_.File("runs"));
    return static_cast<int>(
        std::count(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>(), '\n'));
  }
  void Touch(const std::string& name) const { std::ofstream(directory_.File(name)).flush(); }
  bool Exists(const std::string& name) const { return std::ifstream(directory_.File(name)).good(); }
  // Makes a value stale that was just stored, with so much left of its time to be served so.
  void Age(const std::string& key, int left_ms) {
    EXPECT_EQ(redis_.Integer({"PEXPIRE", "coord:cache:" + key, std::to_string(left_ms)}), 1);
  }

  RedisServer server_;
  RawRedis redis_{server_};
  TempDir directory_;
};

constexpr char kUntilToldTo[] = "while [ ! -e $D/go ]; do sleep 0.02; done; ";

TEST_F(MemoCliTest, AHitPrintsTheSameBytesAndRunsNothing) {
  const std::string script = R"(printf 'a\0b\377\nno line end'; echo words >&2; cat)";
  const std::string bytes("a\0b\xff\nno line end", 16);
  const ProcessResult first = Memo({"k", "--ttl", "1h"}, script);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(first.out, bytes);
  EXPECT_EQ(first.err, "words\n");
  const ProcessResult second = Memo({"k", "--ttl", "1h"}, script);
  EXPECT_EQ(second.exit_code, 0);
  EXPECT_EQ(second.out, bytes);
  EXPECT_EQ(second.err, "");
  EXPECT_EQ(Runs(), 1);
  EXPECT_GT(redis_.Integer({"PTTL", "coord:cache:k"}), 3'500'000);
  // Also where nothing was printed.
  Memo({"empty"}, "true");
  EXPECT_EQ(Memo({"empty"}, "echo never").out, "");
  EXPECT_EQ(Runs(), 2);
}

TEST_F(MemoCliTest, OfTenAtOnceOneRunsAndAllPrintItsOutput) {
  std::vector<Process> all;
  for (int i = 0; i < 10; ++i) all.push_back(Start({"k"}, std::string(kUntilToldTo) + "echo $$"));
  ASSERT_TRUE(Eventually([&] { return Runs() == 1; }, absl::Seconds(20)));
  // All are connected, so that most of them have begun to wait.
  ASSERT_TRUE(Eventually(
      [&] {
        const std::string clients = redis_.Text({"CLIENT", "LIST"});
        return std::all_of(all.begin(), all.end(), [&](const Process& one) {
          return clients.find(":" + std::to_string(one.pid()) + " ") != std::string::npos;
        });
      },
      absl::Seconds(20)));
  Touch("go");
  std::string printed;
  for (Process& one : all) {
    const ProcessResult result = one.Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (printed.empty()) printed = result.out;
    EXPECT_EQ(result.out, printed);
  }
  EXPECT_GT(printed.size(), 1u);
  EXPECT_EQ(Runs(), 1);
}

TEST_F(MemoCliTest, AFailureIsPassedOnAndNotCached) {
  for (int i = 1; i <= 2; ++i) {
    const ProcessResult failed = Memo({"k"}, "echo some output; exit 7");
    EXPECT_EQ(failed.exit_code, 7);
    EXPECT_EQ(failed.out, "some output\n");
    EXPECT_EQ(failed.err, "");
    EXPECT_EQ(Runs(), i);
  }
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:cache:k"}), 0);
  EXPECT_EQ(Memo({"k"}, "kill -KILL $$").exit_code, 128 + SIGKILL);
  const ProcessResult none =
      RunProgram({COORD_PROGRAM, "cache", "memo", "k", "--", "/no/such/program"}, Options());
  EXPECT_EQ(none.exit_code, 127);
  EXPECT_THAT(none.err, HasSubstr("/no/such/program"));
}

TEST_F(MemoCliTest, WhenTheCommandFailsWhatItPrintedBeforeIsPrinted) {
  const Words options = {"k", "--ttl", "1h", "--stale-if-error", "1h"};
  EXPECT_EQ(Memo(options, "echo good").out, "good\n");
  EXPECT_EQ(Memo(options, "exit 7").out, "good\n");
  EXPECT_EQ(Runs(), 1);
  Age("k", 1'800'000);
  const ProcessResult stale = Memo(options, "echo bad; exit 7");
  EXPECT_EQ(stale.exit_code, 0);
  EXPECT_EQ(stale.out, "good\n");
  EXPECT_THAT(stale.err, HasSubstr("ended with 7"));
  EXPECT_EQ(Runs(), 2);
  const ProcessResult refused =
      Memo({"k", "--ttl", "1h", "--stale-if-error", "1h", "--refresh"}, "exit 7");
  EXPECT_EQ(refused.out, "good\n");
  // The source is back.
  EXPECT_EQ(Memo(options, "echo better").out, "better\n");
  EXPECT_EQ(Memo(options, "exit 7").out, "better\n");
  EXPECT_EQ(Runs(), 4);
}

TEST_F(MemoCliTest, WhatIsStaleIsPrintedWhileTheCommandRunsInTheBackground) {
  const Words options = {"k", "--ttl", "1h", "--stale-while-revalidate", "1h"};
  EXPECT_EQ(Memo(options, "echo old").out, "old\n");
  Age("k", 1'800'000);
  const std::string slow = std::string(kUntilToldTo) + "echo new";
  EXPECT_EQ(Memo(options, slow).out, "old\n");
  ASSERT_TRUE(Eventually([&] { return Runs() == 2; }));
  EXPECT_EQ(Memo(options, slow).out, "old\n");
  Touch("go");
  EXPECT_TRUE(Eventually([&] { return Memo(options, "false").out == "new\n"; }));
  EXPECT_EQ(Runs(), 2);
}

TEST_F(MemoCliTest, RefreshRunsTheCommandWhateverIsCached) {
  EXPECT_EQ(Memo({"k"}, "echo 1").out, "1\n");
  EXPECT_EQ(Memo({"k", "--refresh"}, "echo 2").out, "2\n");
  EXPECT_EQ(Memo({"k"}, "echo 3").out, "2\n");
}

TEST_F(MemoCliTest, OutputThatIsTooLargeIsPassedOnAndNotCached) {
  const std::string script = "head -c 300000 /dev/zero | tr '\\0' x";
  for (int i = 1; i <= 2; ++i) {
    const ProcessResult large = Memo({"k", "--max-bytes", "200000"}, script);
    EXPECT_EQ(large.exit_code, 0);
    EXPECT_EQ(large.out, std::string(300000, 'x'));
    EXPECT_THAT(large.err, HasSubstr("200000 bytes and is not cached"));
    EXPECT_EQ(Runs(), i);
  }
  EXPECT_EQ(Memo({"k"}, script).out, std::string(300000, 'x'));
  EXPECT_EQ(Memo({"k"}, script).out.size(), 300000u);
  EXPECT_EQ(Runs(), 3);
}

TEST_F(MemoCliTest, ACommandThatTakesTooLongIsEnded) {
  const ProcessResult late =
      Memo({"k", "--command-timeout", "100ms"}, "echo begun; exec sleep 100");
  EXPECT_EQ(late.exit_code, 128 + SIGTERM);
  EXPECT_EQ(late.out, "begun\n");
  EXPECT_THAT(late.err, HasSubstr("has not ended after 100ms"));
  // One that heeds no signal and says that all is well, too.
  EXPECT_EQ(
      Memo({"k", "--command-timeout", "100ms"}, "trap 'exit 0' TERM; while :; do sleep 0.05; done")
          .exit_code,
      128 + SIGTERM);
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:cache:k"}), 0);
}

TEST_F(MemoCliTest, ASignalEndsTheCommandAndLetsTheNextOneRunAtOnce) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Process first = Start({"k", "--takeover", "1h"},
                          "trap 'echo told; exit 3' TERM INT; echo x >$D/begun; "
                          "while :; do sleep 0.02; done");
    ASSERT_TRUE(Eventually([&] { return Exists("begun"); }));
    first.Signal(signal);
    const ProcessResult told = first.Wait();
    EXPECT_EQ(told.exit_code, 3);
    EXPECT_EQ(told.out, "told\n");
    std::remove(directory_.File("begun").c_str());
  }
  // Its lease, which would last an hour, is given back.
  EXPECT_EQ(Memo({"k", "--wait", "10s"}, "echo next").out, "next\n");
}

TEST_F(MemoCliTest, WhatEndsBySignalWithStatus0IsNotCached) {
  Process first =
      Start({"k"}, "trap 'exit 0' TERM; echo part; echo x >$D/begun; while :; do sleep 0.02; done");
  ASSERT_TRUE(Eventually([&] { return Exists("begun"); }));
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait().exit_code, 0);
  EXPECT_EQ(Memo({"k"}, "echo whole").out, "whole\n");
}

TEST_F(MemoCliTest, ASignalEndsWaitingForAnother) {
  Process runner = Start({"k"}, std::string(kUntilToldTo) + "echo done");
  ASSERT_TRUE(Eventually([&] { return Runs() == 1; }));
  Process waiter = Start({"k"}, "echo never");
  ASSERT_TRUE(Eventually([&] {
    return redis_.Integer({"EXISTS", "coord:{flight:coord:cache:k}:queue"}) == 1;
  }));
  waiter.Signal(SIGTERM);
  const ProcessResult told = waiter.Wait();
  EXPECT_EQ(told.exit_code, 128 + SIGTERM);
  EXPECT_EQ(told.out, "");
  const ProcessResult impatient = Memo({"k", "--wait", "50ms"}, "echo never");
  EXPECT_EQ(impatient.exit_code, 75);
  EXPECT_THAT(impatient.err, HasSubstr("50ms"));
  Touch("go");
  EXPECT_EQ(runner.Wait().out, "done\n");
  EXPECT_EQ(Runs(), 1);
}

TEST_F(MemoCliTest, WhenTheRunnerIsKilledAnotherTakesOver) {
  const Words options = {"k", "--takeover", "1s"};
  Process first = Start(options, "exec sleep 100");
  ASSERT_TRUE(Eventually([&] { return Runs() == 1; }));
  Process second = Start(options, "echo mine");
  Process third = Start(options, "echo mine");
  first.Kill();
  EXPECT_EQ(second.Wait().out, "mine\n");
  EXPECT_EQ(third.Wait().out, "mine\n");
  EXPECT_EQ(Runs(), 2);
}

TEST_F(MemoCliTest, AServerThatGoesWhileTheCommandRunsLeavesItsOutput) {
  Process runner = Start({"k", "--timeout", "300ms"}, std::string(kUntilToldTo) + "echo done");
  ASSERT_TRUE(Eventually([&] { return Runs() == 1; }));
  server_.Kill();
  Touch("go");
  const ProcessResult result = runner.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "done\n");
  EXPECT_NE(result.err, "");
}

TEST_F(MemoCliTest, WhatIsLeftInTheBackgroundIsNotWaitedFor) {
  const Stopwatch watch;
  EXPECT_EQ(Memo({"k"}, "echo now; (sleep 25; echo late) &").out, "now\n");
  EXPECT_LT(watch.elapsed(), absl::Seconds(20));
}

TEST_F(MemoCliTest, OnRequestTheKeyIsMadeOfTheCommand) {
  const auto run = [&](const Words& command) {
    Words argv = {COORD_PROGRAM, "cache", "memo", "--key-from-args", "--"};
    argv.insert(argv.end(), command.begin(), command.end());
    return RunProgram(argv, Options());
  };
  EXPECT_EQ(run({"echo", "a", "b"}).out, "a b\n");
  EXPECT_EQ(run({"echo", "a b"}).out, "a b\n");
  EXPECT_EQ(run({"echo", "a", "b"}).out, "a b\n");
  EXPECT_EQ(redis_.Command({"KEYS", "coord:cache:memo:args:*"}).items().size(), 2u);
}

TEST_F(MemoCliTest, MisuseIsRefusedBeforeAnythingIsSent) {
  const std::pair<Words, std::string> cases[] = {
      {{"--", "true"}, "KEY"},
      {{"k"}, "COMMAND"},
      {{"k", "--"}, "COMMAND"},
      {{"k", "--nonsense", "--", "true"}, "--nonsense"},
      {{"k", "--ttl", "1", "--", "true"}, "--ttl"},
      {{"k", "--ttl", "0h", "--", "true"}, "--ttl"},
      {{"k", "--stale-if-error", "never", "--", "true"}, "--stale-if-error"},
      {{"k", "--stale-if-error", "1", "--", "true"}, "--stale-if-error"},
      {{"k", "--stale-while-revalidate", "x", "--", "true"}, "--stale-while-revalidate"},
      {{"k", "--max-bytes", "0", "--", "true"}, "--max-bytes"},
      {{"k", "--max-bytes", "1000000000", "--", "true"}, "--max-bytes"},
      {{"k", "--command-timeout", "0s", "--", "true"}, "--command-timeout"},
      {{"k", "--wait", "0s", "--", "true"}, "--wait"},
      {{"k", "--takeover", "1ms", "--", "true"}, "ttl"},
      {{"#coord:epoch", "--", "true"}, "#coord:"},
      {{"--key-from-args", "true"}, "--key-from-args"},
  };
  for (const auto& [words, why] : cases) {
    Words argv = {COORD_PROGRAM, "cache", "memo"};
    argv.insert(argv.end(), words.begin(), words.end());
    const ProcessResult result = RunProgram(argv, Options());
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_THAT(result.err, HasSubstr(why)) << ::testing::PrintToString(words);
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
