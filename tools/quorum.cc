// coord quorum init: several independent servers become one deployment that votes.
#include "coord/quorum.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  Text max_ttl;
  Text clock_tolerance;
  bool force = false;
};

absl::StatusOr<int> Init(const Program& program, const Words& words) {
  Arguments given;
  QuorumOptions options;
  options.max_ttl = given.Duration("--max-ttl", words.max_ttl).value_or(options.max_ttl);
  options.clock_tolerance =
      given.Duration("--clock-tolerance", words.clock_tolerance).value_or(options.clock_tolerance);
  if (!given.status().ok()) return given.status();
  if (!program.quorum()) {
    return internal::InvalidArgument("give the URL of each server: --url A --url B --url C");
  }
  absl::StatusOr<ClientOptions> client_options = program.Options();
  if (!client_options.ok()) return client_options.status();
  absl::Status declared = Quorum::DeclareNew(program.urls, *client_options, options, words.force);
  if (!declared.ok()) return declared;
  if (program.json) {
    PrintJson({{"servers", program.urls.size()},
               {"max_ttl_ms", absl::ToInt64Milliseconds(options.max_ttl)},
               {"clock_tolerance_ms", absl::ToInt64Milliseconds(options.clock_tolerance)}});
  } else {
    PrintLine(internal::StrCat(program.urls.size(), " servers vote from now on; leases of at most ",
                               internal::ToText(options.max_ttl)));
  }
  return kExitOk;
}

}  // namespace

void AddQuorum(CLI::App& app, Program& program) {
  CLI::App* quorum = app.add_subcommand("quorum", "Locks by the vote of several servers");
  quorum->require_subcommand(1);
  const auto words = std::make_shared<Words>();
  CLI::App* init = quorum->add_subcommand("init", "Declare a new deployment, which votes at once");
  AddText(*init, "--max-ttl", words->max_ttl,
          "The longest lease, and how long a restarted server does not vote (30s)", "TIME");
  AddText(*init, "--clock-tolerance", words->clock_tolerance,
          "How far the servers' clocks may be apart (15s)", "TIME");
  init->add_flag("--force", words->force,
                 "Also change the settings of one that was declared before; nobody may use it");
  init->footer(
      "Only before any lock was taken there: a server that was restarted looks like a new one, "
      "and\n"
      "declaring it new may give a lock to two. Without this a new server votes after the longest\n"
      "lease and the tolerance, 45 s.\n"
      "\n"
      "Examples:\n"
      "  coord quorum init --url redis://a --url redis://b --url redis://c\n"
      "  coord lock deploy --url redis://a --url redis://b --url redis://c -- ./deploy.sh");
  init->callback([&program, words] { program.exit_code = program.Finish(Init(program, *words)); });
}

}  // namespace coord::tools
