// What README.md says, done.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/process.h"
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
