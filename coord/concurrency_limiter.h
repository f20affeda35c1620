// How many may do something at a time, counted across all processes.
//
//   coord::ConcurrencyLimiter limiter(client, {.limit = 10});
//   absl::StatusOr<coord::ConcurrencyEntry> entry = limiter.Enter("tenant:42");
//   if (!entry.ok()) return entry.status();
//   if (!entry->allowed) return TooManyRequests();
//   Serve();  // the place is left when *entry goes
//
// A RateLimiter's sibling over coord::Semaphore: each key is the semaphore of that name, with all
// that semaphore.h says of it. A place that nobody leaves, since its process has died, is free
// again after the ttl; no clock but the server's matters for that.
#ifndef COORD_CONCURRENCY_LIMITER_H_
#define COORD_CONCURRENCY_LIMITER_H_

#include <cstdint>
#include <stop_token>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"
#include "coord/semaphore.h"

namespace coord {

struct ConcurrencyLimit {
  // How many places there are, 1 to 1,000,000. All who use a key at the same time must say the
  // same.
  std::int64_t limit = 0;
  // How long a place outlives a holder that vanishes, 20 ms to 24 h; while it lives the client's
  // background thread renews it.
  absl::Duration ttl = absl::Seconds(10);
  // A place is kept for no longer than this: a bound for work that hangs.
  absl::Duration max_hold = absl::InfiniteDuration();
};

// Move-only.
struct ConcurrencyEntry {
  bool allowed = false;
  std::int64_t limit = 0;
  // The places, when allowed; they are left by its destructor, bounded in time, or by Release,
  // which says whether that worked. Its stop_token tells when they are lost.
  Permit slot = {};
};

struct ConcurrencyUse {
  std::int64_t limit = 0;
  std::int64_t in_use = 0;
  std::int64_t remaining = 0;  // places that nobody has
};

// Cheap to make; thread-safe. A denial is a value, not an error, and consumes nothing.
class ConcurrencyLimiter {
 public:
  // Never fails; a limit that makes no sense is reported by the calls, as kInvalidArgument.
  ConcurrencyLimiter(Client client, ConcurrencyLimit limit);

  // Takes `cost` places of `key`, 1 to the limit, or none. One round trip; that is why it does not
  // say how many remain, which Peek does. Denied also while others wait in the semaphore's queue.
  // kFailedPrecondition when the key is in use with another limit, or holds something else. An
  // error leaves nothing behind but what the ttl ends.
  absl::StatusOr<ConcurrencyEntry> Enter(std::string_view key, std::int64_t cost = 1,
                                         CallOptions call = {}) const;
  // Enters, waiting up to `timeout` for its turn; first come, first served. See Semaphore::Acquire.
  absl::StatusOr<ConcurrencyEntry> Wait(std::string_view key, std::int64_t cost,
                                        absl::Duration timeout, std::stop_token stop = {}) const;
  // How many there are and are taken; writes nothing. One round trip.
  absl::StatusOr<ConcurrencyUse> Peek(std::string_view key, CallOptions call = {}) const;

 private:
  Semaphore Of(std::string_view key) const;
  absl::StatusOr<ConcurrencyEntry> Entry(absl::StatusOr<Permit> permit) const;

  Client client_;
  ConcurrencyLimit limit_;
};

}  // namespace coord

#endif  // COORD_CONCURRENCY_LIMITER_H_
