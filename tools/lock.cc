// coord lock: runs a command while holding a lock.
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/rw_mutex.h"
#include "tools/arguments.h"
#include "tools/child_process.h"
#include "tools/command_guard.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  std::string name;
  Text ttl;
  Text wait;
  Text grace;
  Text max_hold;
  bool no_wait = false;
  bool shared = false;
};

struct Plan {
  std::string name;
  MutexOptions options;
  absl::Duration wait = absl::InfiniteDuration();
  bool no_wait = false;
  bool shared = false;
  absl::Duration grace = absl::Seconds(5);
  std::vector<std::string> command;
};

// The command is what followed "--", or what begins with the first word that is neither option nor
// NAME.
absl::StatusOr<std::vector<std::string>> Command(const CLI::App& lock, const Program& program) {
  std::vector<std::string> command = lock.remaining();
  if (!command.empty() && command[0].starts_with('-')) {
    return InvalidArgument(
        StrCat("unknown option ", Quoted(command[0]), " (see coord lock --help)"));
  }
  if (program.tail) {
    if (!command.empty()) command.push_back("--");
    command.insert(command.end(), program.tail->begin(), program.tail->end());
  }
  if (command.empty()) return InvalidArgument("COMMAND is missing: coord lock NAME -- COMMAND...");
  return command;
}

absl::StatusOr<Plan> MakePlan(const Program& program, const CLI::App& lock, const Words& words) {
  Plan plan;
  Arguments given;
  given.Name(words.name);
  plan.name = words.name;
  if (const auto ttl = given.Duration("--ttl", words.ttl)) plan.options.ttl = *ttl;
  if (const auto wait = given.Duration("--wait", words.wait, Arguments::Zero::kAllowed)) {
    plan.wait = *wait;
  }
  if (const auto max_hold = given.Duration("--max-hold", words.max_hold)) {
    plan.options.max_hold = *max_hold;
  }
  if (const auto grace = given.Duration("--grace", words.grace, Arguments::Zero::kAllowed)) {
    plan.grace = *grace;
  }
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<std::string>> command = Command(lock, program);
  if (!command.ok()) return command.status();
  plan.command = *std::move(command);
  plan.no_wait = words.no_wait;
  plan.shared = words.shared;
  return plan;
}

int CannotRun(const std::string& command, int fault) {
  Say(StrCat("cannot run ", Quoted(command), ": ", std::strerror(fault)));
  return fault == ENOENT ? kExitNotFound : kExitNotExecutable;
}

int RunCommand(const Plan& plan, const CaughtSignals& signals, const std::string& path,
               Lease& lease) {
  // The terminal's keys reach a child that is there, and nobody would pass these on.
  while (const std::optional<signalfd_siginfo> info = signals.Next()) {
    if (!EndsPrograms(*info)) continue;
    (void)lease.Release();
    return EndBySignal(*info);
  }
  const ChildProcess child =
      StartChild(path, plan.command,
                 EnvironmentWith({{"COORD_LOCK_NAME", plan.name},
                                  {"COORD_FENCING_TOKEN", StrCat(lease.token().value())}}),
                 [&signals] { signals.RestoreInChild(); });
  if (child.fault != 0) {
    (void)lease.Release();
    if (child.forked) return CannotRun(plan.command[0], child.fault);
    Say(StrCat("cannot start a process: ", std::strerror(child.fault)));
    return kExitError;
  }
  CommandGuard guard(signals, lease, plan.grace, child.pid);
  const int status = guard.Wait();
  const absl::Status released = lease.Release();
  if (guard.lost() || IsLost(released)) {
    if (!guard.lost()) {
      Say(StrCat(internal::FromAbsl(released.message()),
                 "; the command ended before it could be told"));
    }
    return kExitLost;
  }
  if (!released.ok()) {
    Say(StrCat("the command ran under the lock, which could not be given back and stays until ",
               "its ttl is over: ", internal::FromAbsl(released.message())));
  }
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  if (WTERMSIG(status) == SIGINT && guard.interrupt()) return EndBySignal(*guard.interrupt());
  return 128 + WTERMSIG(status);
}

absl::StatusOr<Lease> Take(const Client& client, const Plan& plan, std::stop_token stop) {
  if (plan.shared) {
    const RwMutex mutex(client, plan.name, plan.options);
    return plan.no_wait ? mutex.TryAcquireShared({.stop = std::move(stop)})
                        : mutex.AcquireShared(plan.wait, std::move(stop));
  }
  const Mutex mutex(client, plan.name, plan.options);
  return plan.no_wait ? mutex.TryAcquire({.stop = std::move(stop)})
                      : mutex.Acquire(plan.wait, std::move(stop));
}

int Lock(const Program& program, const Plan& plan) {
  const Executable executable = FindExecutable(plan.command[0]);
  if (executable.fault != 0) return CannotRun(plan.command[0], executable.fault);
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return program.Fail(client.status());
  stopper.ReadyToStop();
  absl::StatusOr<Lease> lease = Take(*client, plan, stop.get_token());
  if (const std::optional<signalfd_siginfo> signal = stopper.Finish()) {
    if (lease.ok()) (void)lease->Release();
    client->Close();  // takes back first what may have been granted behind a lost answer
    Say(StrCat("stopped by a signal while waiting for the lock ", Quoted(plan.name)));
    return EndBySignal(*signal);
  }
  if (!lease.ok()) return program.Fail(lease.status());
  return RunCommand(plan, signals, executable.path, *lease);
}

}  // namespace

void AddLock(CLI::App& app, Program& program) {
  CLI::App* lock = app.add_subcommand("lock", "Run a command while holding a lock");
  const auto words = std::make_shared<Words>();
  lock->add_option("NAME", words->name, "The lock's name")->required();
  AddText(*lock, "--ttl", words->ttl,
          "How long the lock outlives a coord that vanishes; renewed while the command runs (10s)",
          "TIME");
  CLI::Option* wait = AddText(*lock, "--wait", words->wait,
                              "Wait at most this long for the lock (without limit)", "TIME");
  lock->add_flag("--no-wait", words->no_wait, "Do not wait at all")->excludes(wait);
  lock->add_flag("--shared", words->shared,
                 "Share the lock with others that do; excludes those that do not");
  AddText(*lock, "--max-hold", words->max_hold,
          "The lock is lost, and the command told so, when it has been held this long", "TIME");
  AddText(*lock, "--grace", words->grace,
          "When the lock is lost: the time between SIGTERM and SIGKILL to the command (5s)",
          "TIME");
  lock->prefix_command();
  lock->footer(
      "The command finds COORD_LOCK_NAME and COORD_FENCING_TOKEN in its environment: a number "
      "larger\n"
      "than that of every earlier holder, for what the lock guards to refuse smaller ones. "
      "Signals\n"
      "sent to coord are passed on to it. It gets SIGTERM when the lock is lost, SIGKILL after "
      "the\n"
      "grace, and SIGTERM if coord itself is killed; processes it started get nothing, so a shell\n"
      "script should `exec` its last command. Standard output is the command's, also with --json.\n"
      "\n"
      "Exit status: the command's own, or 128+n if signal n ended it or the waiting;\n"
      "  75   the lock was not granted in time\n"
      "  76   the lock was lost before the command had ended, so it was not alone\n"
      "  69   no server    126   the command cannot be executed    127   it is not there\n"
      "\n"
      "Examples:\n"
      "  coord lock deploy -- ./deploy.sh production\n"
      "  coord lock nightly --no-wait -- ./report || [ $? -eq 75 ]\n"
      "  coord lock catalogue --shared -- ./read-it       # not while another writes\n"
      "  coord lock disk --ttl 30s --wait 5m sh -c 'exec rsync -a \"$@\"' sync /src/ /dst/");
  lock->callback([&program, lock, words] {
    const absl::StatusOr<Plan> plan = MakePlan(program, *lock, *words);
    program.exit_code = plan.ok() ? Lock(program, *plan) : program.Fail(plan.status());
  });
}

}  // namespace coord::tools
