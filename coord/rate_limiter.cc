#include "coord/rate_limiter.h"

#include <algorithm>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/waiting.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

// The script counts in doubles: server time (2^50.7 us now) plus a burst's window must stay below
// 2^53.
constexpr std::int64_t kMaxWindowUs = 4'000'000'000'000'000;  // 126 years
constexpr std::int64_t kMaxPermits = 1'000'000'000'000;

}  // namespace

RateLimiter::RateLimiter(Client client, RateLimit limit)
    : client_(std::move(client)), burst_(limit.burst.value_or(limit.permits)) {
  if (limit.permits < 1 || limit.permits > kMaxPermits) {
    usable_ = InvalidArgument(
        StrCat("rate has ", limit.permits, " permits; it must have 1 to ", kMaxPermits));
  } else if (limit.period <= absl::ZeroDuration() || limit.period > absl::Hours(24 * 366)) {
    usable_ = InvalidArgument(StrCat("rate has a period of ", internal::ToText(limit.period),
                                     "; it must be above 0 and at most 366 days"));
  } else if (burst_ < 1 || burst_ > kMaxPermits) {
    usable_ = InvalidArgument(StrCat("burst is ", burst_, "; it must be 1 to ", kMaxPermits));
  } else if (limit.period / limit.permits < absl::Microseconds(1)) {
    usable_ = InvalidArgument(StrCat("rate of ", limit.permits, " permits every ",
                                     internal::ToText(limit.period),
                                     " is one in less than a microsecond, which is the least"));
  } else {
    // Rounded up: never more than was asked for.
    interval_us_ =
        absl::ToInt64Microseconds(absl::Ceil(limit.period / limit.permits, absl::Microseconds(1)));
    if (burst_ > kMaxWindowUs / interval_us_) {
      usable_ = InvalidArgument(StrCat("burst of ", burst_, " permits at one every ", interval_us_,
                                       " us takes more than 126 years to fill; lower it"));
    }
  }
}

absl::StatusOr<RateDecision> RateLimiter::Ask(std::string_view key, std::int64_t cost,
                                              std::string_view mode,
                                              const CallOptions& call) const {
  if (!usable_.ok()) return usable_;
  if (cost < 1 || cost > kMaxPermits) {
    return InvalidArgument(StrCat("cost is ", cost, "; it must be 1 to ", kMaxPermits));
  }
  absl::StatusOr<std::string> full = internal::SessionOf(client_).Key("rate limiter", key, "gcra");
  if (!full.ok()) return full.status();
  // More than the burst is refused whatever it is; asking for one beyond it keeps the script's
  // numbers small.
  const std::int64_t asked = std::min(cost, burst_ + 1);
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(
      internal::Bind(internal::kLimiterTake, {*full},
                     {StrCat(interval_us_), StrCat(interval_us_ * burst_), StrCat(asked), mode}),
      call);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("rate limiter ", Quoted(key)));
  const auto items = reply->items();
  if (items.size() != 4) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("limiter_take answered ", reply->ToDebugString()));
  }
  RateDecision decision;
  decision.allowed = items[0].integer() == 1;
  decision.limit = burst_;
  decision.remaining = items[1].integer();
  decision.retry_after =
      cost > burst_ ? absl::InfiniteDuration() : absl::Microseconds(items[2].integer());
  decision.reset_after = absl::Microseconds(items[3].integer());
  return decision;
}

absl::StatusOr<RateDecision> RateLimiter::Take(std::string_view key, std::int64_t cost,
                                               CallOptions call) const {
  return Ask(key, cost, "take", call);
}

absl::StatusOr<RateDecision> RateLimiter::Peek(std::string_view key, std::int64_t cost,
                                               CallOptions call) const {
  return Ask(key, cost, "peek", call);
}

absl::StatusOr<RateDecision> RateLimiter::Wait(std::string_view key, std::int64_t cost,
                                               absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  const internal::CallLimits limits{internal::DeadlineAfter(timeout), stop};
  while (true) {
    absl::StatusOr<RateDecision> decision = Take(key, cost, {.stop = stop});
    if (!decision.ok() || decision->allowed) return decision;
    if (decision->retry_after == absl::InfiniteDuration() ||
        decision->retry_after > internal::TimeUntil(limits.deadline)) {
      return decision;
    }
    if (!internal::SleepUntil(internal::DeadlineAfter(decision->retry_after), limits)) {
      return internal::MakeStatus(absl::StatusCode::kCancelled,
                                  StrCat("rate limiter ", Quoted(key), ": stopped while waiting"));
    }
  }
}

absl::Status RateLimiter::Reset(std::string_view key, CallOptions call) const {
  absl::StatusOr<std::string> full = internal::SessionOf(client_).Key("rate limiter", key, "gcra");
  if (!full.ok()) return full.status();
  return internal::Annotate(internal::SessionOf(client_)
                                .Execute(internal::Bind(internal::kLimiterReset, {*full}), call)
                                .status(),
                            StrCat("rate limiter ", Quoted(key)));
}

}  // namespace coord
