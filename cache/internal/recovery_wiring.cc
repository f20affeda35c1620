#include <utility>

#include "cache/internal/cache_core.h"
#include "cache/internal/observed.h"
#include "cache/internal/recovery_queue.h"
#include "cache/internal/workers.h"

namespace coord::internal {

RecoveryQueue::RecoveryQueue(CacheCore& core)
    : RecoveryQueue(RecoveryWiring{
          .backend = &core.backend(),
          .clock = &core.clock(),
          .options = core.options().recovery,
          .post_after =
              [&core](absl::Duration delay, std::function<void()> task) {
                return core.workers().PostAfter(delay, std::move(task));
              },
          .is_away = &CacheCore::IsAway,
          .report = [&core](const absl::Status& problem) { core.Report(problem); },
          .observe =
              [&core](std::size_t keys, absl::FunctionRef<absl::Status()> replay) {
                // The keys as the caller gave them are not known any more.
                Observed observed(core, CacheOperation::kRecover, "", keys);
                return observed.End(replay());
              },
      }) {}

}  // namespace coord::internal
