#include "tools/holding.h"

#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/child_process.h"
#include "tools/command_guard.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

// The command is what followed "--", or what begins with the first word that is neither option nor
// NAME.
absl::StatusOr<std::vector<std::string>> Command(const CLI::App& app, const Program& program) {
  std::vector<std::string> command = app.remaining();
  if (!command.empty() && command[0].starts_with('-')) {
    return InvalidArgument(
        StrCat("unknown option ", Quoted(command[0]), " (see coord ", app.get_name(), " --help)"));
  }
  if (program.tail) {
    if (!command.empty()) command.push_back("--");
    command.insert(command.end(), program.tail->begin(), program.tail->end());
  }
  if (command.empty()) {
    return InvalidArgument(
        StrCat("COMMAND is missing: coord ", app.get_name(), " NAME -- COMMAND..."));
  }
  return command;
}

int CannotRun(const std::string& command, int fault) {
  Say(StrCat("cannot run ", Quoted(command), ": ", std::strerror(fault)));
  return fault == ENOENT ? kExitNotFound : kExitNotExecutable;
}

int RunCommand(const HoldingPlan& plan, const CaughtSignals& signals, const std::string& path,
               const Holding& holding) {
  // The terminal's keys reach a child that is there, and nobody would pass these on.
  while (const std::optional<signalfd_siginfo> info = signals.Next()) {
    if (!EndsPrograms(*info)) continue;
    (void)holding.release();
    return EndBySignal(*info);
  }
  const ChildProcess child = StartChild(path, plan.command, EnvironmentWith(holding.environment),
                                        [&signals] { signals.RestoreInChild(); });
  if (child.fault != 0) {
    (void)holding.release();
    if (child.forked) return CannotRun(plan.command[0], child.fault);
    Say(StrCat("cannot start a process: ", std::strerror(child.fault)));
    return kExitError;
  }
  CommandGuard guard(signals, holding.lost, StrCat("the ", plan.title), plan.grace, child.pid);
  const int status = guard.Wait();
  const absl::Status released = holding.release();
  if (guard.lost() || IsLost(released)) {
    if (!guard.lost()) {
      Say(StrCat(internal::FromAbsl(released.message()),
                 "; the command ended before it could be told"));
    }
    return kExitLost;
  }
  if (!released.ok()) {
    Say(StrCat("the command has run, but the ", plan.title,
               " could not be given back and stays until ",
               "its ttl is over: ", internal::FromAbsl(released.message())));
  }
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  if (WTERMSIG(status) == SIGINT && guard.interrupt()) return EndBySignal(*guard.interrupt());
  return 128 + WTERMSIG(status);
}

}  // namespace

void AddHoldingOptions(CLI::App& app, HoldingWords& words, const std::string& what) {
  app.add_option("NAME", words.name, "The " + what + "'s name")->required();
  AddText(app, "--ttl", words.ttl,
          "How long it outlives a coord that vanishes; renewed while the command runs (10s)",
          "TIME");
  CLI::Option* wait =
      AddText(app, "--wait", words.wait, "Wait at most this long for it (without limit)", "TIME");
  app.add_flag("--no-wait", words.no_wait, "Do not wait at all")->excludes(wait);
  AddText(app, "--grace", words.grace,
          "When it is lost: the time between SIGTERM and SIGKILL to the command (5s)", "TIME");
  app.prefix_command();
}

absl::StatusOr<HoldingPlan> ReadHolding(const Program& program, const CLI::App& app,
                                        const HoldingWords& words, Arguments& given) {
  HoldingPlan plan;
  given.Name(words.name);
  plan.title = StrCat(app.get_name(), " ", Quoted(words.name));
  plan.ttl = given.Duration("--ttl", words.ttl);
  if (const auto wait = given.Duration("--wait", words.wait, Arguments::Zero::kAllowed)) {
    plan.wait = *wait;
  }
  if (const auto grace = given.Duration("--grace", words.grace, Arguments::Zero::kAllowed)) {
    plan.grace = *grace;
  }
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<std::string>> command = Command(app, program);
  if (!command.ok()) return command.status();
  plan.command = *std::move(command);
  plan.no_wait = words.no_wait;
  return plan;
}

int RunHolding(const Program& program, const HoldingPlan& plan,
               const std::function<absl::StatusOr<Holding>(const Client&, std::stop_token)>& take) {
  const Executable executable = FindExecutable(plan.command[0]);
  if (executable.fault != 0) return CannotRun(plan.command[0], executable.fault);
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return program.Fail(client.status());
  stopper.ReadyToStop();
  absl::StatusOr<Holding> holding = take(*client, stop.get_token());
  if (const std::optional<signalfd_siginfo> signal = stopper.Finish()) {
    if (holding.ok()) (void)holding->release();
    client->Close();  // takes back first what may have been granted behind a lost answer
    Say(StrCat("stopped by a signal while waiting for the ", plan.title));
    return EndBySignal(*signal);
  }
  if (!holding.ok()) return program.Fail(holding.status());
  return RunCommand(plan, signals, executable.path, *holding);
}

}  // namespace coord::tools
