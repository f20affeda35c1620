// Watching what a cache does: metrics, traces, logs.
#ifndef COORD_CACHE_HOOK_H_
#define COORD_CACHE_HOOK_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace coord {

enum class CacheOperation {
  kGet,
  kGetMany,
  kSet,  // Add and Replace, too
  kSetMany,
  kDelete,
  kDeleteMany,
  kExists,
  kTtl,
  kExpire,  // Persist, too
  kScan,
  kDeletePattern,
  kClear,
  kGetOrCompute,
  kCompute,  // a factory's run
  kInvalidateTags,
  kIncrement,
  kHash,
  kList,
  kCompareAndSet,
  kRecover,  // a write that had failed is made up for
  kPing,
};
// "get", "get_many", ...
std::string_view ToString(CacheOperation operation);

// Borrowed: lives as long as the call of the hook.
struct CacheEvent {
  std::string_view cache;  // CacheOptions::name
  CacheOperation operation = CacheOperation::kGet;
  // As the caller gave it, without the prefix; the pattern of a scan; empty for batches.
  std::string_view key;
  std::size_t keys = 1;  // how many the call names

  // Afterwards.
  absl::Duration took = absl::ZeroDuration();
  std::size_t hits = 0;  // stale ones and nulls, too
  std::size_t misses = 0;
  std::size_t nulls = 0;
  std::size_t stale = 0;
  std::size_t undecodable = 0;  // of the misses: there was something, and it could not be read
  bool fell_back = false;       // the backend could not be reached, and the fallback answered
};

// Called on the caller's thread, from many at once, once Before and then once After or Error. What
// one throws is caught, counted (CacheBase::hook_failures) and changes nothing; what it takes, the
// operation takes.
class CacheHook {
 public:
  virtual ~CacheHook() = default;
  virtual void Before(const CacheEvent&) {}
  // It succeeded, or the fallback answered.
  virtual void After(const CacheEvent&) {}
  virtual void Error(const CacheEvent&, const absl::Status&) {}
};

}  // namespace coord

#endif  // COORD_CACHE_HOOK_H_
