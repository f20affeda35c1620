#include "coord/concurrency_limiter.h"

#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {

ConcurrencyLimiter::ConcurrencyLimiter(Client client, ConcurrencyLimit limit)
    : client_(std::move(client)), limit_(limit) {}

Semaphore ConcurrencyLimiter::Of(std::string_view key) const {
  return Semaphore(client_, key,
                   {.permits = limit_.limit, .ttl = limit_.ttl, .max_hold = limit_.max_hold});
}

absl::StatusOr<ConcurrencyEntry> ConcurrencyLimiter::Entry(absl::StatusOr<Permit> permit) const {
  ConcurrencyEntry entry;
  entry.limit = limit_.limit;
  if (permit.ok()) {
    entry.allowed = true;
    entry.slot = *std::move(permit);
  } else if (!IsBusy(permit.status())) {
    return internal::Annotate(permit.status(), "concurrency limiter");
  }
  return entry;
}

absl::StatusOr<ConcurrencyEntry> ConcurrencyLimiter::Enter(std::string_view key, std::int64_t cost,
                                                           CallOptions call) const {
  return Entry(Of(key).TryAcquire(cost, std::move(call)));
}

absl::StatusOr<ConcurrencyEntry> ConcurrencyLimiter::Wait(std::string_view key, std::int64_t cost,
                                                          absl::Duration timeout,
                                                          std::stop_token stop) const {
  return Entry(Of(key).Acquire(timeout, cost, std::move(stop)));
}

absl::StatusOr<ConcurrencyUse> ConcurrencyLimiter::Peek(std::string_view key,
                                                        CallOptions call) const {
  absl::StatusOr<SemaphoreUse> use = Of(key).Available(std::move(call));
  if (!use.ok()) return internal::Annotate(use.status(), "concurrency limiter");
  return ConcurrencyUse{use->permits, use->permits - use->available, use->available};
}

}  // namespace coord
