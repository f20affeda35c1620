// Running a command while something is held: what `coord lock` and `coord semaphore` share.
#ifndef COORD_TOOLS_HOLDING_H_
#define COORD_TOOLS_HOLDING_H_

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
#include "coord/client.h"
#include "coord/quorum.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {

// What was typed.
struct HoldingWords {
  std::string name;
  Text ttl;
  Text wait;
  Text grace;
  bool no_wait = false;
};

// What it means.
struct HoldingPlan {
  std::string title;  // for messages: "lock \"x\""
  std::optional<absl::Duration> ttl;
  absl::Duration wait = absl::InfiniteDuration();
  bool no_wait = false;
  absl::Duration grace = absl::Seconds(5);
  bool may_vote = false;  // several servers may be given
  std::vector<std::string> command;
};

// One server, or several that vote.
struct Deployment {
  std::optional<Client> client;
  std::optional<Quorum> quorum;

  // `may_vote`: several URLs make a quorum; else they are refused.
  static absl::StatusOr<Deployment> Connect(const Program& program, bool may_vote);
  void Close() const;
};

// What is held while the command runs.
struct Holding {
  std::stop_token lost;
  std::function<absl::Status()> release;
  std::vector<std::pair<std::string, std::string>> environment;
};

// NAME and the options; `what` for their texts: "lock".
void AddHoldingOptions(CLI::App& app, HoldingWords& words, const std::string& what);

// Said by the help texts of both.
inline constexpr char kHoldingHelp[] =
    "Signals\n"
    "sent to coord are passed on to it. It gets SIGTERM when what it holds is lost, SIGKILL after\n"
    "the grace, and SIGTERM if coord itself is killed; processes it started get nothing, so a "
    "shell\n"
    "script should `exec` its last command. Standard output is the command's, also with --json.\n"
    "\n"
    "Exit status: the command's own, or 128+n if signal n ended it or the waiting;\n"
    "  75   not granted in time\n"
    "  76   lost before the command had ended, so it was not as alone as it should have been\n"
    "  69   no server    126   the command cannot be executed    127   it is not there\n";

absl::StatusOr<HoldingPlan> ReadHolding(const Program& program, const CLI::App& app,
                                        const HoldingWords& words, Arguments& given);

// Takes it, with a stop token that a signal trips; runs the command; gives it back. The exit code.
int RunHolding(
    const Program& program, const HoldingPlan& plan,
    const std::function<absl::StatusOr<Holding>(const Deployment&, std::stop_token)>& take);

}  // namespace coord::tools

#endif  // COORD_TOOLS_HOLDING_H_
