// How often something may happen, counted across all processes.
//
//   coord::RateLimiter limiter(client, {.permits = 10, .period = absl::Seconds(1), .burst = 20});
//   absl::StatusOr<coord::RateDecision> decision = limiter.Take("user:42");
//   if (decision.ok() && !decision->allowed) return RetryAfter(decision->retry_after);
//
// The generic cell rate algorithm (GCRA; ITU-T I.371, in its virtual scheduling form) on the
// server's clock, in integer microseconds: never over the limit on one server, whatever the
// callers' clocks say. Its state is one number a key and expires by itself. Across a failover no
// bound is claimed.
#ifndef COORD_RATE_LIMITER_H_
#define COORD_RATE_LIMITER_H_

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"

namespace coord {

struct RateLimit {
  // `permits` every `period`, spread evenly: one every period / permits, rounded up to a whole
  // microsecond, of which there must be one.
  std::int64_t permits = 0;
  absl::Duration period = absl::Seconds(1);
  // How many may come at once after a quiet time; unset: `permits`.
  std::optional<std::int64_t> burst = std::nullopt;
};

struct RateDecision {
  bool allowed = false;
  std::int64_t limit = 0;      // the burst
  std::int64_t remaining = 0;  // permits that could be taken right now
  absl::Duration
      retry_after;  // zero when allowed; infinite when it asks for more than the burst: then never
  absl::Duration reset_after;  // until the whole burst is there again
};

// Cheap to make; thread-safe. Take, Peek and Reset are one round trip each. A denial is a value,
// not an error, and consumes nothing. A lost reply leaves it unknown whether permits were taken
// (IsOutcomeUnknown); nothing is repeated.
class RateLimiter {
 public:
  // Never fails; limits that make no sense are reported by the calls, as kInvalidArgument.
  RateLimiter(Client client, RateLimit limit);

  // Takes `cost` permits of `key`, or none.
  absl::StatusOr<RateDecision> Take(std::string_view key, std::int64_t cost = 1,
                                    CallOptions call = {}) const;
  // What Take would answer; writes nothing.
  absl::StatusOr<RateDecision> Peek(std::string_view key, std::int64_t cost = 1,
                                    CallOptions call = {}) const;
  // Takes, waiting up to `timeout` for it to be allowed. Returns a denial at once when that would
  // not be in time.
  absl::StatusOr<RateDecision> Wait(std::string_view key, std::int64_t cost, absl::Duration timeout,
                                    std::stop_token stop = {}) const;
  // Forgets what was taken of `key`.
  absl::Status Reset(std::string_view key, CallOptions call = {}) const;

 private:
  absl::StatusOr<RateDecision> Ask(std::string_view key, std::int64_t cost, std::string_view mode,
                                   const CallOptions& call) const;

  Client client_;
  absl::Status usable_;
  std::int64_t burst_ = 0;
  std::int64_t interval_us_ = 0;
};

}  // namespace coord

#endif  // COORD_RATE_LIMITER_H_
