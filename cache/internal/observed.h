// One call of a cache's, as its hooks see it.
#ifndef COORD_CACHE_INTERNAL_OBSERVED_H_
#define COORD_CACHE_INTERNAL_OBSERVED_H_

#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/hook.h"
#include "cache/internal/cache_core.h"

namespace coord::internal {

// One operation that hooks are told of. Costs nothing where there are none.
class Observed {
 public:
  Observed(const CacheCore& core, CacheOperation operation, std::string_view key,
           std::size_t keys = 1);
  CacheEvent& event() { return event_; }
  void Count(const Read& read);
  // Counts what was read, and gives it to who asked. What has expired is a miss, also while it is
  // still kept for those who would rather have it than nothing (see GetOrCompute); what cannot be
  // decoded is one as well, or where the options say so kDataLoss.
  absl::StatusOr<Read::State> Take(Read read,
                                   absl::FunctionRef<absl::Status(std::string_view)> receive);
  // Its end. Returns what it is given.
  absl::Status End(absl::Status status);
  template <typename T>
  absl::StatusOr<T> End(absl::StatusOr<T> result) {
    if (watched_) (void)End(result.status());
    return result;
  }
  // The same, with `instead` where the fallback answers for a backend that is away.
  template <typename T>
  absl::StatusOr<T> EndOr(absl::StatusOr<T> result, T instead) {
    if (!result.ok() && core_.FallsBack(result.status())) {
      event_.fell_back = true;
      return End(absl::StatusOr<T>(std::move(instead)));
    }
    return End(std::move(result));
  }

 private:
  const CacheCore& core_;
  const bool watched_;
  CacheEvent event_;
  absl::Time began_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_OBSERVED_H_
