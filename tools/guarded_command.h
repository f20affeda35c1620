// Running a command while something is held: what the subcommands that do so have in common.
#ifndef COORD_TOOLS_GUARDED_COMMAND_H_
#define COORD_TOOLS_GUARDED_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {

struct GuardedCommand {
  std::string title;     // of what is held, for messages: "lock \"x\""
  std::stop_token lost;  // stopped when it is
  std::function<absl::Status()> release;
  std::vector<std::string> words;
  std::string path;  // of the executable
  std::vector<std::pair<std::string, std::string>> environment;
  absl::Duration grace = absl::Seconds(5);
};

struct GuardedEnd {
  int exit_code = kExitError;
  bool ran = false;                 // the command was started
  std::optional<int> told_by = {};  // the last signal by which somebody wanted it to end
};

// The command is what followed "--", or what begins with the first word that is neither option nor
// positional.
absl::StatusOr<std::vector<std::string>> CommandOf(const CLI::App& app, const Program& program);

// Says why, and returns the exit code.
int CannotRun(const std::string& command, int fault);

// Runs it as our child until it ends, or what is held is lost; gives that back.
GuardedEnd RunGuarded(const GuardedCommand& command, const CaughtSignals& signals);

}  // namespace coord::tools

#endif  // COORD_TOOLS_GUARDED_COMMAND_H_
