// coord semaphore: runs a command while holding permits.
#include "coord/semaphore.h"

#include <memory>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/holding.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::StrCat;

struct Words : HoldingWords {
  Text permits;
  Text count;
};

int Hold(const Program& program, const CLI::App& app, const Words& words) {
  Arguments given;
  SemaphoreOptions options;
  options.permits = given.Integer("--permits", words.permits, 1).value_or(0);
  const std::int64_t count = given.Integer("--count", words.count, 1).value_or(1);
  const absl::StatusOr<HoldingPlan> plan = ReadHolding(program, app, words, given);
  if (!plan.ok()) return program.Fail(plan.status());
  if (count > options.permits) {
    return program.Usage(StrCat("--count is ", count, " and --permits is ", options.permits,
                                "; --count must not be above --permits"));
  }
  if (plan->ttl) options.ttl = *plan->ttl;
  const auto take = [&](const Deployment& deployment,
                        std::stop_token stop) -> absl::StatusOr<Holding> {
    const Semaphore semaphore(*deployment.client, words.name, options);
    absl::StatusOr<Permit> taken = plan->no_wait ? semaphore.TryAcquire(count, {.stop = stop})
                                                 : semaphore.Acquire(plan->wait, count, stop);
    if (!taken.ok()) return taken.status();
    const auto permit = std::make_shared<Permit>(*std::move(taken));
    return Holding{
        permit->stop_token(),
        [permit] { return permit->Release(); },
        {{"COORD_SEMAPHORE_NAME", words.name}, {"COORD_PERMIT_ID", permit->id().value()}}};
  };
  return RunHolding(program, *plan, take);
}

}  // namespace

void AddSemaphore(CLI::App& app, Program& program) {
  CLI::App* semaphore =
      app.add_subcommand("semaphore", "Run a command as one of at most so many at a time");
  const auto words = std::make_shared<Words>();
  AddHoldingOptions(*semaphore, *words, "semaphore");
  AddText(*semaphore, "--permits", words->permits,
          "How many permits there are; all who use NAME must say the same", "INT")
      ->required();
  AddText(*semaphore, "--count", words->count, "How many of them the command needs at once (1)",
          "INT");
  semaphore->footer(
      std::string("The command finds COORD_SEMAPHORE_NAME and COORD_PERMIT_ID in its environment: "
                  "an id that no\n"
                  "other holder ever has. It has no order, and is no fencing token. ") +
      kHoldingHelp +
      "\n"
      "Examples:\n"
      "  coord semaphore uploads --permits 4 -- ./upload.sh\n"
      "  coord semaphore memory-gb --permits 64 --count 16 --wait 1h -- ./simulate\n"
      "  coord semaphore licences --permits 2 --no-wait -- ./render || [ $? -eq 75 ]");
  semaphore->callback(
      [&program, semaphore, words] { program.exit_code = Hold(program, *semaphore, *words); });
}

}  // namespace coord::tools
