// What README.md says, done.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/json_document.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {
namespace {

std::vector<std::string> ReadmeLines() {
  std::ifstream file(COORD_SOURCE_DIR "/README.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The lines of all blocks fenced as ```sh.
std::vector<std::string> ShellCommands() {
  std::vector<std::string> commands;
  bool inside = false;
  for (const std::string& line : ReadmeLines()) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
    } else if (inside && !line.empty()) {
      commands.push_back(line);
    }
  }
  return commands;
}

TEST(ReadmeTest, EveryShellCommandDoesWhatItSays) {
  const TempDir directory;
  const std::string program = COORD_PROGRAM;
  const std::string path = program.substr(0, program.rfind('/')) + ":" + getenv("PATH");
  ProcessOptions options;
  // The embedded server of a user who has just logged in for the first time.
  options.env = {{"PATH", path},
                 {"COORD_URL", ""},
                 {"XDG_RUNTIME_DIR", directory.path()},
                 {"XDG_STATE_HOME", directory.path()}};
  const std::vector<std::string> commands = ShellCommands();
  ASSERT_GE(commands.size(), 10u);
  for (const std::string& command : commands) {
    const ProcessResult result = RunProgram({"/bin/sh", "-c", command}, options);
    EXPECT_TRUE(result.ok()) << command << "\n" << result.out << result.err;
  }
  const ProcessResult stopped = RunProgram({program, "embedded", "stop"}, options);
  EXPECT_TRUE(stopped.ok()) << stopped.err;
}

// The ACL rules in backquotes, which may go over several lines.
std::vector<std::string> ListedRights() {
  std::string text;
  for (const std::string& line : ReadmeLines()) text += line + " ";
  const std::size_t begin = text.find("`~coord:*") + 1;
  std::istringstream words(text.substr(begin, text.find('`', begin) - begin));
  std::vector<std::string> rights;
  for (std::string word; words >> word;) rights.push_back(word);
  return rights;
}

TEST(ReadmeTest, TheRightsItListsSufficeForEveryPrimitive) {
  std::vector<std::string> args = {"--user", "ann", "on", ">secret"};
  const std::vector<std::string> rights = ListedRights();
  ASSERT_GT(rights.size(), 10u);
  args.insert(args.end(), rights.begin(), rights.end());
  RedisServer server({.args = args});
  const std::string url = "unix://ann:secret@" + server.socket_path();
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(url));

  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "a").Acquire(absl::Seconds(5)));
  EXPECT_OK(lease.Renew(absl::Seconds(5)));
  EXPECT_OK(lease.Release());
  const Counter counter(client, "a");
  EXPECT_OK(counter.Add(1, {.max = 10, .ttl = absl::Seconds(60)}));
  EXPECT_OK(counter.Get());
  EXPECT_OK(counter.Set(3));
  EXPECT_OK(counter.Reset());
  const RateLimiter limiter(client, {.permits = 10});
  EXPECT_OK(limiter.Take("a"));
  EXPECT_OK(limiter.Peek("a"));
  EXPECT_OK(limiter.Reset("a"));
  const CappedList list(client, "a", {.max_items = 1, .ttl = absl::Seconds(60)});
  EXPECT_OK(list.Push("x"));
  EXPECT_OK(list.Push("y"));
  EXPECT_OK(list.Range());
  const JsonDocument document(client, "a");
  EXPECT_OK(document.Set(R"({"n":1,"s":"x"})"));
  EXPECT_OK(document.Get());
  EXPECT_OK(document.CompareAndSetField("/n", "1", "2"));
  EXPECT_OK(document.CompareAndSetField("/n", "2", "2000"));
  EXPECT_TRUE(client.Health().ok());
  // And no more than that.
  EXPECT_EQ(client.Command({"FLUSHALL"}).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST(ReadmeTest, ItsFirstCommandsAreThere) {
  int found = 0;
  for (const std::string& line : ReadmeLines()) {
    if (!line.starts_with("    tools/")) continue;
    const std::string script = std::string(COORD_SOURCE_DIR) + "/" + line.substr(4);
    EXPECT_EQ(access(script.c_str(), X_OK), 0) << script;
    EXPECT_TRUE(RunProgram({"/bin/bash", "-n", script}, {}).ok()) << script;
    ++found;
  }
  EXPECT_EQ(found, 2);
}

}  // namespace
}  // namespace coord::testing
