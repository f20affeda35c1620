// Filling gaps: who makes a value when many ask for it, and what the others get.
#ifndef COORD_CACHE_INTERNAL_COMPUTE_H_
#define COORD_CACHE_INTERNAL_COMPUTE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cache/cache_base.h"
#include "cache/cache_options.h"
#include "cache/internal/cache_core.h"

namespace coord::internal {

// Where a factory runs: without timeouts on the thread of the first who asks, who cannot leave
// before it has ended; with them on the cache's workers, so that all who wait may leave. There it
// may ask the cache for other keys: what a worker waits for, and nobody has begun, it runs itself,
// without regard to its own timeouts, so that workers never all wait for each other.
//
// Who waits gets what the one factory makes, whatever his own options say of storing it, within his
// own timeouts. Who has left with a stale value would still like it to go on; when all have left
// with nothing, ComputeContext::stop_token is stopped, and what comes all the same is stored.
//
// Across processes: a process that was paused beyond its lease stores nothing. It looks at its
// lease just before it stores, so only one that is paused between this look and the arrival of the
// write can put an older value over a newer one. Without a lock service each process computes for
// itself, and says so (CacheOptions::on_problem).
//
// Thread-safe. Belongs to a core, which outlives it.
class Compute {
 public:
  using Factory =
      std::function<absl::StatusOr<std::optional<std::string>>(ComputeContext& context)>;

  explicit Compute(CacheCore& core);
  // Waits for the flights that are under way.
  ~Compute();

  // See BasicCache::GetOrCompute. `key`: as the caller gave it, for messages and hooks. What it
  // returns is kHit or kNull, and perhaps stale; its payload has been decodable if it was read:
  // `decodes` is asked, on the caller's thread, and what it refuses is made anew.
  absl::StatusOr<Read> GetOrCompute(std::string_view prefix, std::string_view key,
                                    const Factory& factory, const ComputeOptions& options,
                                    coord::Ttl type_ttl,
                                    absl::FunctionRef<absl::Status(std::string_view)> decodes,
                                    CacheEvent& event);
  // Runs the factory, whatever is cached, and stores what it makes.
  absl::StatusOr<Read> Refresh(std::string_view prefix, std::string_view key,
                               const Factory& factory, const ComputeOptions& options,
                               coord::Ttl type_ttl);

  // The key was written or deleted by the caller: what flights for it make from older data is
  // handed to those who wait, and not stored.
  void Overtaken(std::string_view full);

  // Takes no more; waits for what is under way.
  void Close();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_COMPUTE_H_
