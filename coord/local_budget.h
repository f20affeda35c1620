// A rate limit for callers that need millions of permits a second: taken from a RateLimiter in
// blocks, and let through here without a round trip.
//
//   coord::LocalBudget budget(client, {.permits = 100000, .burst = 20000}, "mails");
//   absl::StatusOr<coord::RateDecision> decision = budget.Take();
//   if (decision.ok() && decision->allowed) Send();
//
// The limit is that of coord::RateLimiter(client, limit) and the same key, which others may use
// beside it. How far it holds, whatever the processes, threads and clocks:
//
//   - Every permit let through was taken from the limiter before. So from any quiet time on, with
//     the burst whole, until a time t later, all together let through at most
//     burst + t / period * permits.
//   - A permit is let through less than max_age after it was taken. So in any time t whatever they
//     let through at most burst + (t + max_age) / period * permits.
//
// "Let through" is the moment when Take looked at the clock; a thread that is paused then acts
// later, as behind any limiter. Permits that are not spent go back, and are then worth what they
// have cost less the time that they were kept: so the second sentence holds with refunds too, but
// for how long one is on its way to the server. As with any RateLimiter, no bound is claimed across
// a failover, or Reset.
#ifndef COORD_LOCAL_BUDGET_H_
#define COORD_LOCAL_BUDGET_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"
#include "coord/rate_limiter.h"

namespace coord {

struct LocalBudgetOptions {
  // How many permits to take at once, 1 to the burst. Zero: as many as are spent here in 20 ms (or
  // a quarter of max_age, if that is shorter), at first 1, at most a quarter of the burst.
  std::int64_t block = 0;
  // Permits that are not spent so long after they were asked for are given back; 1 ms to 1 h.
  absl::Duration max_age = absl::Milliseconds(100);
  // How long the destructor may take to give back what is left; above 0, at most 24 h.
  absl::Duration close_timeout = absl::Milliseconds(200);
};

// Thread-safe.
class LocalBudget {
 public:
  // Never fails; a bad name, option or limit is reported by the calls, as kInvalidArgument; as is
  // an algorithm other than kGcra: permits that were kept across the border of a window could not
  // be given back without letting more through.
  LocalBudget(Client client, const RateLimit& limit, std::string_view key,
              LocalBudgetOptions options = {});
  // Gives back what is left, within close_timeout. In a forked child it sends nothing.
  ~LocalBudget();
  LocalBudget(const LocalBudget&) = delete;
  LocalBudget& operator=(const LocalBudget&) = delete;

  // Takes `cost` permits, or none. No round trip and no allocation while they are here; none
  // either when the limiter's last answer denies it, which is believed for a second at most, as
  // others may give permits back. Else one round trip, for which all callers wait who find too few,
  // each within its own time; and another where they took meanwhile what was here before.
  //
  // Of the decision, `remaining` is what is left here; reset_after and retry_after go by the
  // limiter's last answer, as if nobody else took any. An error is RateLimiter::TakeUpTo's: while
  // the server cannot be reached, what is here is let through until its age ends it, and then
  // kUnavailable. An unknown outcome means permits that nobody has, never too many.
  // kUnavailable also where the answer took max_age: what it brought is given back.
  absl::StatusOr<RateDecision> Take(std::int64_t cost = 1, CallOptions call = {});

  // Gives back what is here now; one round trip, or none where there is nothing. A failure says how
  // many permits that were; it is not repeated, and they count as taken. Permits that become too
  // old are given back by the client's background thread, likewise.
  absl::Status Return(CallOptions call = {});

  // How many permits are here; no round trip.
  std::int64_t held() const;

 private:
  class Core;

  const Client client_;
  const RateLimiter limiter_;
  const std::shared_ptr<Core> core_;
};

}  // namespace coord

#endif  // COORD_LOCAL_BUDGET_H_
