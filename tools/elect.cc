// coord elect: runs a command while leading, or shows who leads.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "coord/election.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/waiting.h"
#include "tools/arguments.h"
#include "tools/child_process.h"
#include "tools/guarded_command.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

// So often at most --forever starts its command: one that ends at once must not keep the server
// busy.
constexpr absl::Duration kLeastTerm = absl::Seconds(1);

struct Words {
  std::string name;
  Text value;
  Text ttl;
  Text wait;
  Text grace;
  bool forever = false;
  bool observe = false;
  bool once = false;
};

struct Plan {
  std::string name;
  std::string value;
  ElectionOptions options;
  absl::Duration wait = absl::InfiniteDuration();
  absl::Duration grace = absl::Seconds(5);
  bool forever = false;
  std::vector<std::string> command;
};

absl::StatusOr<Plan> MakePlan(const Program& program, const CLI::App& elect, const Words& words) {
  Plan plan;
  Arguments given;
  given.Name(words.name);
  plan.name = words.name;
  plan.value = words.value.value_or("");
  if (const auto ttl = given.Duration("--ttl", words.ttl)) plan.options.ttl = *ttl;
  if (const auto wait = given.Duration("--wait", words.wait, Arguments::Zero::kAllowed)) {
    plan.wait = *wait;
  }
  if (const auto grace = given.Duration("--grace", words.grace, Arguments::Zero::kAllowed)) {
    plan.grace = *grace;
  }
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<std::string>> command = CommandOf(elect, program);
  if (!command.ok()) return command.status();
  plan.command = *std::move(command);
  plan.forever = words.forever;
  return plan;
}

int Elect(const Program& program, const Plan& plan) {
  const Executable executable = FindExecutable(plan.command[0]);
  if (executable.fault != 0) return CannotRun(plan.command[0], executable.fault);
  const CaughtSignals signals;
  std::optional<Client> client;
  internal::SteadyTime not_before = internal::SteadyTime::min();
  while (true) {
    std::stop_source stop;
    StopOnSignal stopper(signals, stop);
    if (!client) {
      absl::StatusOr<Client> connected = program.Connect();
      if (!connected.ok()) return program.Fail(connected.status());
      client = *std::move(connected);
    }
    stopper.ReadyToStop();
    internal::SleepUntil(not_before, {.stop = stop.get_token()});
    absl::StatusOr<Leadership> lead = Election(*client, plan.name, plan.options)
                                          .Campaign(plan.value, plan.wait, stop.get_token());
    if (const std::optional<signalfd_siginfo> signal = stopper.Finish()) {
      if (lead.ok()) (void)lead->Resign();
      client->Close();  // takes back first what may have been granted behind a lost answer
      Say(StrCat("stopped by a signal while campaigning in ", Quoted(plan.name)));
      return EndBySignal(*signal);
    }
    if (!lead.ok()) return program.Fail(lead.status());
    not_before = internal::DeadlineAfter(kLeastTerm);
    const GuardedCommand command{.title = StrCat("lead of ", Quoted(plan.name)),
                                 .lost = lead->lease().stop_token(),
                                 .release = [&lead] { return lead->Resign(); },
                                 .words = plan.command,
                                 .path = executable.path,
                                 .environment = {{"COORD_ELECTION_NAME", plan.name},
                                                 {"COORD_TERM", StrCat(lead->term().value())}},
                                 .grace = plan.grace};
    const GuardedEnd end = RunGuarded(command, signals);
    if (!plan.forever || !end.ran || end.told_by) return end.exit_code;
  }
}

// False: nobody will read it any more.
bool Print(const Program& program, const std::optional<Leader>& leader) {
  if (program.json) {
    nlohmann::json shown = nullptr;
    if (leader) {
      shown = {{"term", leader->term.value()},
               {"revision", leader->revision},
               {"owner", JsonText(leader->owner)},
               {"value", JsonText(leader->value)}};
    }
    PrintJson({{"leader", std::move(shown)}});
  } else if (leader) {
    PrintLine(
        StrCat("leader ", leader->owner, " term ", leader->term.value(), " value ", leader->value));
  } else {
    PrintLine("none");
  }
  return std::fflush(stdout) == 0;
}

absl::StatusOr<int> Observe(const Program& program, const CLI::App& elect, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  if (program.tail || !elect.remaining().empty()) {
    return InvalidArgument("--observe takes no COMMAND");
  }
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const Election election(*client, words.name);
  absl::StatusOr<std::optional<Leader>> leader = election.GetLeader();
  if (!leader.ok()) return leader.status();
  bool printed = Print(program, *leader);
  if (words.once) return leader->has_value() ? kExitOk : kExitNotGranted;
  while (printed) {
    leader = election.AwaitChange(*leader, absl::InfiniteDuration());
    if (!leader.ok()) return leader.status();
    printed = Print(program, *leader);
  }
  return kExitError;  // main says why
}

}  // namespace

void AddElect(CLI::App& app, Program& program) {
  CLI::App* elect = app.add_subcommand("elect", "Run a command while leading, or show who leads");
  const auto words = std::make_shared<Words>();
  elect->add_option("NAME", words->name, "The election's name")->required();
  CLI::Option* value = AddText(*elect, "--value", words->value,
                               "What to publish while leading: an address, say", "TEXT");
  CLI::Option* ttl =
      AddText(*elect, "--ttl", words->ttl,
              "How long a leader that vanishes is waited for; renewed while the command runs (10s)",
              "TIME");
  CLI::Option* wait = AddText(*elect, "--wait", words->wait,
                              "Wait at most this long to lead (without limit)", "TIME");
  CLI::Option* forever = elect
                             ->add_flag("--forever", words->forever,
                                        "Campaign again when the command has ended or the lead is "
                                        "lost, until a signal comes")
                             ->excludes(wait);
  CLI::Option* grace = AddText(
      *elect, "--grace", words->grace,
      "When the lead is lost: the time between SIGTERM and SIGKILL to the command (5s)", "TIME");
  CLI::Option* observe =
      elect->add_flag("--observe", words->observe, "Show who leads, a line for each change");
  for (CLI::Option* other : {value, ttl, wait, forever, grace}) observe->excludes(other);
  elect->add_flag("--once", words->once, "Show who leads now, and end")->needs(observe);
  elect->prefix_command();
  elect->footer(
      "The command finds COORD_ELECTION_NAME and COORD_TERM in its environment: a number larger "
      "than\n"
      "that of every earlier leader, for what it writes to to refuse smaller ones. Signals and the "
      "end\n"
      "of the command are as for coord lock; an election and a lock of one name exclude each "
      "other.\n"
      "\n"
      "--observe prints \"leader OWNER term N value TEXT\" or \"none\"; with --json an object a "
      "line.\n"
      "\n"
      "Exit status: the command's own, or 128+n if signal n ended it or the waiting;\n"
      "  75   another led until the end of --wait; with --once, nobody leads\n"
      "  76   the lead was lost before the command had ended\n"
      "  69   no server    126   the command cannot be executed    127   it is not there\n"
      "\n"
      "Examples:\n"
      "  coord elect scheduler --value $HOSTNAME:8080 --forever -- ./scheduler\n"
      "  coord elect scheduler --observe --once");
  elect->callback([&program, elect, words] {
    if (words->observe) {
      program.exit_code = program.Finish(Observe(program, *elect, *words));
      return;
    }
    const absl::StatusOr<Plan> plan = MakePlan(program, *elect, *words);
    program.exit_code = plan.ok() ? Elect(program, *plan) : program.Fail(plan.status());
  });
}

}  // namespace coord::tools
