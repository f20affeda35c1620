// coord lock: runs a command while holding a lock.
#include <memory>
#include <optional>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/rw_mutex.h"
#include "tools/arguments.h"
#include "tools/child_process.h"
#include "tools/guarded_command.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

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
  absl::StatusOr<std::vector<std::string>> command = CommandOf(lock, program);
  if (!command.ok()) return command.status();
  plan.command = *std::move(command);
  plan.no_wait = words.no_wait;
  plan.shared = words.shared;
  return plan;
}

// One server, or several that vote.
struct Deployment {
  std::optional<Client> client;
  std::optional<Quorum> quorum;

  void Close() const {
    if (client) client->Close();
    if (quorum) quorum->Close();
  }
};

absl::StatusOr<Deployment> Connect(const Program& program) {
  Deployment deployment;
  if (program.quorum()) {
    absl::StatusOr<Quorum> quorum = program.ConnectQuorum();
    if (!quorum.ok()) return quorum.status();
    deployment.quorum = *std::move(quorum);
  } else {
    absl::StatusOr<Client> client = program.Connect();
    if (!client.ok()) return client.status();
    deployment.client = *std::move(client);
  }
  return deployment;
}

absl::StatusOr<Lease> Take(const Deployment& deployment, const Plan& plan, std::stop_token stop) {
  if (deployment.quorum) {
    if (plan.shared) {
      return internal::InvalidArgument("--shared is not possible with a quorum of several --url");
    }
    const Mutex mutex(*deployment.quorum, plan.name, plan.options);
    return plan.no_wait ? mutex.TryAcquire({.stop = std::move(stop)})
                        : mutex.Acquire(plan.wait, std::move(stop));
  }
  const Client& client = *deployment.client;
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
  absl::StatusOr<Deployment> deployment = Connect(program);
  if (!deployment.ok()) return program.Fail(deployment.status());
  stopper.ReadyToStop();
  absl::StatusOr<Lease> lease = Take(*deployment, plan, stop.get_token());
  if (const std::optional<signalfd_siginfo> signal = stopper.Finish()) {
    if (lease.ok()) (void)lease->Release();
    deployment->Close();  // takes back first what may have been granted behind a lost answer
    Say(StrCat("stopped by a signal while waiting for the lock ", Quoted(plan.name)));
    return EndBySignal(*signal);
  }
  if (!lease.ok()) return program.Fail(lease.status());
  const GuardedCommand command{
      .words = plan.command,
      .path = executable.path,
      .environment = {{"COORD_LOCK_NAME", plan.name},
                      {"COORD_FENCING_TOKEN", StrCat(lease->token().value())}},
      .grace = plan.grace};
  return RunGuarded(command, signals, *lease).exit_code;
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
