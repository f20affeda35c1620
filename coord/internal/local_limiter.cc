#include "coord/internal/local_limiter.h"

#include <algorithm>

#include "coord/internal/strings.h"

namespace coord::internal {

absl::Time* LocalLimiter::Find(std::string_view key, bool make, absl::Time now) {
  const auto found = arrivals_.find(ToAbsl(key));
  if (found != arrivals_.end()) return &found->second;
  if (arrivals_.size() >= most_keys_ && now >= sweep_at_) {
    sweep_at_ = absl::InfiniteFuture();
    absl::erase_if(arrivals_, [&](const auto& entry) {
      if (entry.second <= now) return true;
      sweep_at_ = std::min(sweep_at_, entry.second);
      return false;
    });
  }
  if (arrivals_.size() >= most_keys_) return &together_;
  // It may be one of those that found no room before: it owes at most what they owe together.
  const absl::Time first = std::max(together_, now);
  if (!make) return first > now ? &together_ : nullptr;
  // What is denied at first keeps that, what is not owes a permit more.
  sweep_at_ = std::min(sweep_at_, first > now ? first : now + interval_);
  return &arrivals_.try_emplace(std::string(key), first).first->second;
}

LocalLimiter::Decision LocalLimiter::Ask(std::string_view key, std::int64_t cost, Mode mode,
                                         absl::Time now) {
  absl::Time* const stored = Find(key, mode != Mode::kPeek, now);
  const absl::Time arrival = stored != nullptr ? std::max(*stored, now) : now;
  const absl::Duration owed = arrival - now;
  const absl::Duration window = burst_ * interval_;
  absl::Duration rest;
  const std::int64_t free =
      std::max<std::int64_t>(absl::IDivDuration(window - owed, interval_, &rest), 0);
  if (mode == Mode::kTakeUpTo) cost = std::clamp<std::int64_t>(free, 1, cost);
  Decision decision;
  if (cost > free) {
    decision.remaining = free;
    decision.retry_after = owed + cost * interval_ - window;
    decision.reset_after = owed;
    return decision;
  }
  decision.allowed = true;
  decision.remaining = free - cost;
  decision.reset_after = owed + cost * interval_;
  if (mode != Mode::kPeek) {
    decision.taken = cost;
    *stored = arrival + cost * interval_;
  }
  return decision;
}

}  // namespace coord::internal
