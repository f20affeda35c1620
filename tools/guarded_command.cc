#include "tools/guarded_command.h"

#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/child_process.h"
#include "tools/command_guard.h"

namespace coord::tools {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

absl::StatusOr<std::vector<std::string>> CommandOf(const CLI::App& app, const Program& program) {
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

GuardedEnd RunGuarded(const GuardedCommand& command, const CaughtSignals& signals) {
  // The terminal's keys reach a child that is there, and nobody would pass these on.
  while (const std::optional<signalfd_siginfo> info = signals.Next()) {
    if (!EndsPrograms(*info)) continue;
    (void)command.release();
    return {.exit_code = EndBySignal(*info)};
  }
  const ChildProcess child =
      StartChild(command.path, command.words, EnvironmentWith(command.environment),
                 [&signals] { signals.RestoreInChild(); });
  if (child.fault != 0) {
    (void)command.release();
    if (child.forked) return {.exit_code = CannotRun(command.words[0], child.fault)};
    Say(StrCat("cannot start a process: ", std::strerror(child.fault)));
    return {.exit_code = kExitError};
  }
  CommandGuard guard(signals, command.lost, StrCat("the ", command.title, " is lost"),
                     command.grace, child.pid);
  const int status = guard.Wait();
  const absl::Status released = command.release();
  const auto end = [&guard](int exit_code) {
    return GuardedEnd{.exit_code = exit_code, .ran = true, .told_by = guard.told_by()};
  };
  if (guard.lost() || IsLost(released)) {
    if (!guard.lost()) {
      Say(StrCat(internal::FromAbsl(released.message()),
                 "; the command ended before it could be told"));
    }
    return end(kExitLost);
  }
  if (!released.ok()) {
    Say(StrCat("the command has run, but the ", command.title,
               " could not be given back and stays until ",
               "its ttl is over: ", internal::FromAbsl(released.message())));
  }
  if (!WIFSIGNALED(status)) return end(WEXITSTATUS(status));
  if (WTERMSIG(status) == SIGINT && guard.interrupt()) return end(EndBySignal(*guard.interrupt()));
  return end(128 + WTERMSIG(status));
}

}  // namespace coord::tools
