// Rate limits of many keys in this process: the generic cell rate algorithm (ITU-T I.371) in memory
// that is bounded. Pure: time is passed in.
#ifndef COORD_INTERNAL_LOCAL_LIMITER_H_
#define COORD_INTERNAL_LOCAL_LIMITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace coord::internal {

// Not thread-safe. Times are of one clock that never goes back.
class LocalLimiter {
 public:
  // `interval` is what one permit costs. Of at most `most_keys` keys is remembered what was taken;
  // those that come when that is full, and nothing of it forgotten by its own age, are one limit
  // together; each that finds room again begins with what that limit owes: so there are never more
  // let through for memory's sake.
  LocalLimiter(absl::Duration interval, std::int64_t burst, std::size_t most_keys)
      : interval_(interval), burst_(burst), most_keys_(most_keys) {}

  enum class Mode { kTake, kTakeUpTo, kPeek };
  struct Decision {
    bool allowed = false;
    std::int64_t taken = 0;  // zero of a peek
    std::int64_t remaining = 0;
    absl::Duration retry_after;  // zero when allowed
    absl::Duration reset_after;
  };
  // `cost` is at most the burst; of kTakeUpTo it may be more.
  Decision Ask(std::string_view key, std::int64_t cost, Mode mode, absl::Time now);

  std::size_t size() const { return arrivals_.size(); }

 private:
  // When all that was taken of `key` has been paid for. Null: there is no room for it.
  absl::Time* Find(std::string_view key, bool make, absl::Time now);

  const absl::Duration interval_;
  const std::int64_t burst_;
  const std::size_t most_keys_;
  absl::flat_hash_map<std::string, absl::Time> arrivals_;
  absl::Time together_ = absl::InfinitePast();  // of those that found no room
  absl::Time sweep_at_ = absl::InfinitePast();  // before, there is nothing to forget
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_LOCAL_LIMITER_H_
