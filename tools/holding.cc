#include "tools/holding.h"

#include "coord/internal/strings.h"
#include "tools/child_process.h"
#include "tools/guarded_command.h"
#include "tools/signals.h"

namespace coord::tools {

using internal::Quoted;
using internal::StrCat;

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
  absl::StatusOr<std::vector<std::string>> command = CommandOf(app, program);
  if (!command.ok()) return command.status();
  plan.command = *std::move(command);
  plan.no_wait = words.no_wait;
  return plan;
}

absl::StatusOr<Deployment> Deployment::Connect(const Program& program, bool may_vote) {
  Deployment deployment;
  if (program.quorum() && may_vote) {
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

void Deployment::Close() const {
  if (client) client->Close();
  if (quorum) quorum->Close();
}

int RunHolding(
    const Program& program, const HoldingPlan& plan,
    const std::function<absl::StatusOr<Holding>(const Deployment&, std::stop_token)>& take) {
  const Executable executable = FindExecutable(plan.command[0]);
  if (executable.fault != 0) return CannotRun(plan.command[0], executable.fault);
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  absl::StatusOr<Deployment> deployment = Deployment::Connect(program, plan.may_vote);
  if (!deployment.ok()) return program.Fail(deployment.status());
  stopper.ReadyToStop();
  absl::StatusOr<Holding> holding = take(*deployment, stop.get_token());
  if (const std::optional<signalfd_siginfo> signal = stopper.Finish()) {
    if (holding.ok()) (void)holding->release();
    deployment->Close();  // takes back first what may have been granted behind a lost answer
    Say(StrCat("stopped by a signal while waiting for the ", plan.title));
    return EndBySignal(*signal);
  }
  if (!holding.ok()) return program.Fail(holding.status());
  return RunGuarded({.title = plan.title,
                     .lost = holding->lost,
                     .release = holding->release,
                     .words = plan.command,
                     .path = executable.path,
                     .environment = holding->environment,
                     .grace = plan.grace},
                    signals)
      .exit_code;
}

}  // namespace coord::tools
