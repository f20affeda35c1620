// Writes that failed because the server was away, until they are made up for. See Recovery.
#ifndef COORD_CACHE_INTERNAL_RECOVERY_QUEUE_H_
#define COORD_CACHE_INTERNAL_RECOVERY_QUEUE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/cache_options.h"
#include "coord/clock.h"

namespace coord::internal {

class CacheCore;

// What a queue stands on, all of which outlives it and its tasks.
struct RecoveryWiring {
  Backend* backend;
  const Clock* clock;
  Recovery options;
  // Runs the task on another thread, not before the delay. False: never.
  std::function<bool(absl::Duration, std::function<void()>)> post_after;
  // Whether an error says only that the backend could not be reached.
  std::function<bool(const absl::Status&)> is_away;
  std::function<void(const absl::Status&)> report;
  // Runs `replay` as an operation on so many keys that hooks are told of.
  std::function<absl::Status(std::size_t keys, absl::FunctionRef<absl::Status()> replay)> observe;
};

// Thread-safe. Belongs to a core, which outlives it.
class RecoveryQueue {
 public:
  explicit RecoveryQueue(CacheCore& core);
  explicit RecoveryQueue(RecoveryWiring wiring);
  ~RecoveryQueue();
  RecoveryQueue(const RecoveryQueue&) = delete;
  RecoveryQueue& operator=(const RecoveryQueue&) = delete;

  // A write of `stored` failed, or a deletion (nullopt).
  void Failed(std::string_view full, std::optional<std::string> stored, absl::Duration ttl);
  // The caller has written or deleted the key since, so nothing is left to be made up for.
  void Overtaken(std::string_view full);
  // All keys for which `which` says so: they were cleared, say.
  void OvertakenWhere(absl::FunctionRef<bool(std::string_view full)> which);
  // How many keys wait to be made up for.
  std::size_t size() const;
  // Drops what is left, and reports how much. Idempotent; ends a replay that is under way, and
  // waits for it, unless called by it.
  void Close();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_RECOVERY_QUEUE_H_
