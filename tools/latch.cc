// coord latch down|wait|get
#include "coord/latch.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/interruptible.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  std::string name;
  Text count;
  Text ttl;
  Text by;
  Text wait;
};

absl::StatusOr<LatchOptions> Options(const Words& words, Arguments& given) {
  LatchOptions options;
  given.Name(words.name);
  options.count = given.Integer("--count", words.count, 1).value_or(0);
  if (const auto ttl = given.Duration("--ttl", words.ttl)) options.ttl = *ttl;
  if (!given.status().ok()) return given.status();
  return options;
}

void Print(const Program& program, std::int64_t left) {
  if (program.json) {
    PrintJson({{"left", left}, {"open", left == 0}});
  } else {
    PrintLine(internal::StrCat(left));
  }
}

enum class Act { kDown, kGet };

absl::StatusOr<int> Ask(const Program& program, const Words& words, Act act) {
  Arguments given;
  const std::int64_t by = given.Integer("--by", words.by, 1).value_or(1);
  const absl::StatusOr<LatchOptions> options = Options(words, given);
  if (!options.ok()) return options.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const Latch latch(*std::move(client), words.name, *options);
  const absl::StatusOr<std::int64_t> left = act == Act::kDown ? latch.CountDown(by) : latch.Count();
  if (!left.ok()) return left.status();
  Print(program, *left);
  return kExitOk;
}

int Wait(const Program& program, const Words& words) {
  Arguments given;
  const absl::Duration wait = given.Duration("--wait", words.wait, Arguments::Zero::kAllowed)
                                  .value_or(absl::InfiniteDuration());
  const absl::StatusOr<LatchOptions> options = Options(words, given);
  if (!options.ok()) return program.Fail(options.status());
  const auto await = [&](const Client& client, std::stop_token stop) {
    const absl::Status status = Latch(client, words.name, *options).Wait(wait, std::move(stop));
    if (program.json && (status.ok() || IsBusy(status))) PrintJson({{"open", status.ok()}});
    if (status.ok() || absl::IsCancelled(status)) return ExitCodeOf(status);
    return program.Fail(status);
  };
  return WaitInterruptibly(program, internal::StrCat("latch ", internal::Quoted(words.name)),
                           await);
}

void AddLatchOptions(CLI::App& app, Words& words) {
  app.add_option("NAME", words.name, "The latch's name")->required();
  AddText(app, "--count", words.count,
          "How often it is counted down before it opens; all who use NAME must say the same", "INT")
      ->required();
  AddText(app, "--ttl", words.ttl, "How long it lives after its last use, open or not (1h)",
          "TIME");
}

}  // namespace

void AddLatch(CLI::App& app, Program& program) {
  CLI::App* latch =
      app.add_subcommand("latch", "A gate that opens once so many things have been done");
  latch->require_subcommand(1);
  latch->footer(
      "Whoever comes first makes it. After its ttl the name begins anew, closed: take another name "
      "for\n"
      "another occasion.\n"
      "\n"
      "Examples:\n"
      "  coord latch down release-7/ready --count 5           each of five, when it is ready\n"
      "  coord latch wait release-7/ready --count 5 --wait 10m && ./go");
  const auto words = std::make_shared<Words>();

  CLI::App* down = latch->add_subcommand("down", "Count down, and print how many are left");
  AddLatchOptions(*down, *words);
  AddText(*down, "--by", words->by, "By how many (1); it stops at 0", "INT");
  down->callback(
      [&program, words] { program.exit_code = program.Finish(Ask(program, *words, Act::kDown)); });

  CLI::App* wait = latch->add_subcommand("wait", "Wait until it is open");
  AddLatchOptions(*wait, *words);
  AddText(*wait, "--wait", words->wait, "At most this long (without limit)", "TIME");
  wait->footer("Exit status 75: it was not open in time.");
  wait->callback([&program, words] { program.exit_code = Wait(program, *words); });

  CLI::App* get = latch->add_subcommand("get", "Print how many are left; changes nothing");
  AddLatchOptions(*get, *words);
  get->callback(
      [&program, words] { program.exit_code = program.Finish(Ask(program, *words, Act::kGet)); });
}

}  // namespace coord::tools
