// coord barrier
#include "coord/barrier.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/interruptible.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  std::string name;
  Text parties;
  Text ttl;
  Text wait;
};

int Await(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t parties = given.Integer("--parties", words.parties, 1).value_or(0);
  const std::optional<absl::Duration> ttl = given.Duration("--ttl", words.ttl);
  const absl::Duration wait = given.Duration("--wait", words.wait, Arguments::Zero::kAllowed)
                                  .value_or(absl::InfiniteDuration());
  if (!given.status().ok()) return program.Fail(given.status());
  BarrierOptions options;
  // What is too many for the library is so, cut, too.
  options.parties =
      static_cast<int>(std::min<std::int64_t>(parties, std::numeric_limits<int>::max()));
  if (ttl) options.ttl = *ttl;
  const auto await = [&](const Client& client, std::stop_token stop) -> int {
    const absl::StatusOr<BarrierTurn> turn =
        Barrier(client, words.name, options).Await(wait, std::move(stop));
    if (absl::IsCancelled(turn.status())) return ExitCodeOf(turn.status());
    if (!turn.ok()) return program.Fail(turn.status());
    if (program.json) {
      PrintJson({{"generation", turn->generation}, {"index", turn->index}});
    } else {
      PrintLine(internal::StrCat("generation=", turn->generation, " index=", turn->index));
    }
    return kExitOk;
  };
  return WaitInterruptibly(program, internal::StrCat("barrier ", internal::Quoted(words.name)),
                           await);
}

}  // namespace

void AddBarrier(CLI::App& app, Program& program) {
  CLI::App* barrier = app.add_subcommand("barrier", "Wait until so many have come to this point");
  const auto words = std::make_shared<Words>();
  barrier->add_option("NAME", words->name, "The barrier's name")->required();
  AddText(*barrier, "--parties", words->parties,
          "How many must come; all who wait must say the same", "INT")
      ->required();
  AddText(*barrier, "--wait", words->wait, "Wait at most this long (without limit)", "TIME");
  AddText(*barrier, "--ttl", words->ttl, "How long it lives after its last use (1h)", "TIME");
  barrier->footer(
      "Prints generation=N index=N: which meeting it was, the same for all, and how many came "
      "after "
      "this\n"
      "one (0 for the last to come). It can be used again at once. Who gives up is not counted.\n"
      "Exit status 75: the others had not come in time; 128+n: signal n ended the waiting.\n"
      "\n"
      "Examples:\n"
      "  coord barrier start --parties 3 && ./measure      on each of three hosts\n"
      "  coord barrier step --parties 8 --wait 5m --json");
  barrier->callback([&program, words] { program.exit_code = Await(program, *words); });
}

}  // namespace coord::tools
