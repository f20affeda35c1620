// coord lock: runs a command while holding a lock.
#include <memory>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "coord/rw_mutex.h"
#include "tools/holding.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  HoldingWords holding;
  Text max_hold;
  bool shared = false;
};

absl::StatusOr<Lease> Take(const Deployment& deployment, const Words& words,
                           const HoldingPlan& plan, const MutexOptions& options,
                           std::stop_token stop) {
  const auto take = [&](const auto& try_acquire, const auto& acquire) {
    return plan.no_wait ? try_acquire(CallOptions{.stop = stop}) : acquire(plan.wait, stop);
  };
  const std::string& name = words.holding.name;
  if (words.shared) {
    if (deployment.quorum) {
      return internal::InvalidArgument("--shared is not possible with a quorum of several --url");
    }
    const RwMutex mutex(*deployment.client, name, options);
    return take(
        [&](CallOptions call) { return mutex.TryAcquireShared(call); },
        [&](absl::Duration wait, std::stop_token s) { return mutex.AcquireShared(wait, s); });
  }
  const Mutex mutex = deployment.quorum ? Mutex(*deployment.quorum, name, options)
                                        : Mutex(*deployment.client, name, options);
  return take([&](CallOptions call) { return mutex.TryAcquire(call); },
              [&](absl::Duration wait, std::stop_token s) { return mutex.Acquire(wait, s); });
}

int Lock(const Program& program, const CLI::App& app, const Words& words) {
  Arguments given;
  MutexOptions options;
  if (const auto max_hold = given.Duration("--max-hold", words.max_hold)) {
    options.max_hold = *max_hold;
  }
  absl::StatusOr<HoldingPlan> plan = ReadHolding(program, app, words.holding, given);
  if (!plan.ok()) return program.Fail(plan.status());
  plan->may_vote = true;
  if (plan->ttl) options.ttl = *plan->ttl;
  const auto take = [&](const Deployment& deployment,
                        std::stop_token stop) -> absl::StatusOr<Holding> {
    absl::StatusOr<Lease> taken = Take(deployment, words, *plan, options, std::move(stop));
    if (!taken.ok()) return taken.status();
    const auto lease = std::make_shared<Lease>(*std::move(taken));
    return Holding{lease->stop_token(),
                   [lease] { return lease->Release(); },
                   {{"COORD_LOCK_NAME", words.holding.name},
                    {"COORD_FENCING_TOKEN", internal::StrCat(lease->token().value())}}};
  };
  return RunHolding(program, *plan, take);
}

}  // namespace

void AddLock(CLI::App& app, Program& program) {
  CLI::App* lock = app.add_subcommand("lock", "Run a command while holding a lock");
  const auto words = std::make_shared<Words>();
  AddHoldingOptions(*lock, words->holding, "lock");
  lock->add_flag("--shared", words->shared,
                 "Share the lock with others that do; excludes those that do not");
  AddText(*lock, "--max-hold", words->max_hold,
          "The lock is lost, and the command told so, when it has been held this long", "TIME");
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
      "  coord lock catalogue --shared -- ./read-it       # not while another writes\n"
      "  coord lock disk --ttl 30s --wait 5m sh -c 'exec rsync -a \"$@\"' sync /src/ /dst/\n"
      "  coord lock deploy --url redis://a --url redis://b --url redis://c -- ./deploy.sh");
  lock->callback([&program, lock, words] { program.exit_code = Lock(program, *lock, *words); });
}

}  // namespace coord::tools
