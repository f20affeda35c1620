// coord lock: runs a command while holding a lock.
#include <memory>
#include <utility>

#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "tools/holding.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

int Lock(const Program& program, const CLI::App& app, const HoldingWords& words) {
  Arguments given;
  const absl::StatusOr<HoldingPlan> plan = ReadHolding(program, app, words, given);
  if (!plan.ok()) return program.Fail(plan.status());
  MutexOptions options;
  if (plan->ttl) options.ttl = *plan->ttl;
  const auto take = [&](const Client& client, std::stop_token stop) -> absl::StatusOr<Holding> {
    const Mutex mutex(client, words.name, options);
    absl::StatusOr<Lease> taken =
        plan->no_wait ? mutex.TryAcquire({.stop = stop}) : mutex.Acquire(plan->wait, stop);
    if (!taken.ok()) return taken.status();
    const auto lease = std::make_shared<Lease>(*std::move(taken));
    return Holding{lease->stop_token(),
                   [lease] { return lease->Release(); },
                   {{"COORD_LOCK_NAME", words.name},
                    {"COORD_FENCING_TOKEN", internal::StrCat(lease->token().value())}}};
  };
  return RunHolding(program, *plan, take);
}

}  // namespace

void AddLock(CLI::App& app, Program& program) {
  CLI::App* lock = app.add_subcommand("lock", "Run a command while holding a lock");
  const auto words = std::make_shared<HoldingWords>();
  AddHoldingOptions(*lock, *words, "lock");
  lock->footer(
      std::string("The command finds COORD_LOCK_NAME and COORD_FENCING_TOKEN in its environment: "
                  "a number larger\n"
                  "than that of every earlier holder, for what the lock guards to refuse smaller "
                  "ones. ") +
      kHoldingHelp +
      "\n"
      "Examples:\n"
      "  coord lock deploy -- ./deploy.sh production\n"
      "  coord lock nightly --no-wait -- ./report || [ $? -eq 75 ]\n"
      "  coord lock disk --ttl 30s --wait 5m sh -c 'exec rsync -a \"$@\"' sync /src/ /dst/");
  lock->callback([&program, lock, words] { program.exit_code = Lock(program, *lock, *words); });
}

}  // namespace coord::tools
