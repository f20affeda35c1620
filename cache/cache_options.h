// How a cache behaves. Every field has a default that fits most programs.
#ifndef COORD_CACHE_CACHE_OPTIONS_H_
#define COORD_CACHE_CACHE_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/compression.h"
#include "cache/hook.h"
#include "cache/ttl.h"
#include "coord/clock.h"
#include "coord/options.h"

namespace coord {

// What stands before every key of a cache: at most 256 bytes, without braces (which mean something
// to a Cluster).
class KeyPrefix {
 public:
  // "<the client's prefix>cache:"; "cache:" where there is no client.
  KeyPrefix() = default;
  // Keys are used as they are. Such a cache is never cleared: it owns nothing.
  static KeyPrefix None() { return Literal(""); }
  static KeyPrefix Literal(std::string prefix) {
    KeyPrefix made;
    made.literal_ = std::move(prefix);
    return made;
  }
  // Asked once an operation, whatever it does; on the caller's thread, from many at once. For
  // tenants and the like. An error of it, and anything it throws, fails the operation.
  static KeyPrefix PerOperation(std::function<absl::StatusOr<std::string>()> ask) {
    KeyPrefix made;
    made.ask_ = std::move(ask);
    return made;
  }

  const std::optional<std::string>& literal() const { return literal_; }
  const std::function<absl::StatusOr<std::string>()>& ask() const { return ask_; }

 private:
  std::optional<std::string> literal_;
  std::function<absl::StatusOr<std::string>()> ask_;
};

// What calls do while the backend cannot be reached. Only that qualifies (IsUnavailable, or no
// answer in time): a refusal, a bad argument, and a call that was stopped are always told. So is
// every error of what only the server can answer: counters, Push, comparing and replacing.
struct Fallback {
  enum class Mode {
    kPropagate,  // the call fails
    kMiss,       // reads miss, writes and deletions do nothing, and say OK
    kCallback,   // reads get what `callback` says; writes as kMiss
  } mode = Mode::kPropagate;
  // The value, in the codec's bytes, or nullopt for a miss. On the caller's thread.
  std::function<std::optional<std::string>(std::string_view operation, std::string_view key,
                                           const absl::Status& error)>
      callback = {};
};

// Writes that failed because the server was away are made up for when it is back: of each key the
// last one, unless somebody has written a newer value meanwhile. Where that cannot be told, the key
// is deleted: a miss is always right.
struct Recovery {
  std::size_t max_keys = 0;                       // 0: off. What comes when it is full is forgotten
  absl::Duration retry_every = absl::Seconds(1);  // while the server is away
};

// How GetOrCompute fills a gap.
struct ComputeOptions {
  // Of the value; also what the factory does not say otherwise.
  coord::Ttl ttl = {};
  // Of a null, in place of `ttl`: how long "there is none" is believed.
  std::optional<coord::Ttl> null_ttl = std::nullopt;
  std::vector<std::string> tags = {};
  // How long beyond its time to live a value is kept, to be served (Lookup::stale) when the factory
  // fails, or has not ended after `soft_timeout`.
  absl::Duration stale_for = absl::ZeroDuration();
  // A stale value is served after so long, while the factory goes on. Zero: at once, so that nobody
  // waits who has something.
  absl::Duration soft_timeout = absl::InfiniteDuration();
  // Who has nothing gets kDeadlineExceeded after so long, while the factory goes on.
  absl::Duration hard_timeout = absl::InfiniteDuration();
  // Above zero: a value is made anew before it expires, by one of those who read it, at a random
  // moment that is the earlier the longer making it takes (XFetch: Vattani, Chierichetti,
  // Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015). 1 is the paper's
  // optimum. The reader gets the old value at once.
  double early_refresh = 0;
  // One factory at a time for a key in all processes, not only in this one: who comes later waits,
  // and is woken when the value is there. Needs a backend with a client.
  bool across_processes = false;
  // With it: how long after a process died or froze another takes over; see MutexOptions::ttl.
  absl::Duration takeover_after = absl::Seconds(5);
  CallOptions call = {};
};

struct SetOptions {
  coord::Ttl ttl = {};
  std::vector<std::string> tags = {};
  absl::Duration stale_for = absl::ZeroDuration();
  CallOptions call = {};
};

struct GetOptions {
  // Where the entry has tags: named here, their generations come in the same round trip, else in a
  // second one.
  std::vector<std::string> tags = {};
  CallOptions call = {};
};

struct CacheOptions {
  std::string name = "default";  // in messages, events and metrics
  KeyPrefix prefix = {};
  coord::Ttl ttl = absl::Minutes(5);
  TtlPolicy ttl_by_type = {};  // in place of `ttl`, for values of these types
  // See Jittered(); 0 to less than 1. Each key of a batch has its own.
  double ttl_jitter = 0.1;
  Compression compression = {};
  // Larger values are refused when written, and misses when read.
  std::size_t max_value_bytes = std::size_t{64} << 20;
  // Whether a value that cannot be decoded is an error (kDataLoss) instead of a counted miss.
  bool undecodable_is_error = false;
  Fallback fallback = {};
  Recovery recovery = {};
  // Every entry carries the cache's epoch, and Clear() ends it: O(1), however many keys there are.
  // Costs each read the epoch's key, in the same round trip. The dead entries stay until their time
  // to live is over: reads of values miss them, what asks for keys alone (Exists, Keys, Count,
  // TtlOf, Add, Replace) still finds them. So it is with entries whose tag was invalidated.
  bool clear_by_epoch = false;
  ComputeOptions compute = {};  // of calls of GetOrCompute that bring none
  std::vector<std::shared_ptr<CacheHook>> hooks = {};
  // Where factories run that a caller may leave (timeouts, early refresh), and what is made up for.
  // Must not run the task inside the call; must outlive the cache. By default up to four threads of
  // the cache's own, each started when first needed.
  std::function<void(std::function<void()>)> executor = {};
  // Told what went wrong outside of any call: a refresh that failed, a hook that threw, a write
  // that was given up. May be called by any thread.
  std::function<void(const absl::Status&)> on_problem = {};
  const Clock* clock = Clock::Boot();         // borrowed; must outlive the cache
  std::function<absl::Time()> calendar = {};  // for Ttl::At; absl::Now by default
};

}  // namespace coord

#endif  // COORD_CACHE_CACHE_OPTIONS_H_
