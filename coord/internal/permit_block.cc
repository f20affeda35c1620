#include "coord/internal/permit_block.h"

#include <algorithm>

namespace coord::internal {
namespace {

// For how long a block should last: long against a round trip, short against what people notice.
constexpr absl::Duration kLasts = absl::Milliseconds(20);
// A block is at most so many times the one before.
constexpr std::int64_t kGrowth = 8;
// And of the burst at most one in so many, so that others get some.
constexpr std::int64_t kShare = 4;
// A denial is not believed for longer: others may have given permits back.
constexpr absl::Duration kBelieved = absl::Seconds(1);

}  // namespace

absl::Duration PermitBlock::WholeAfter(absl::Time now) const {
  return std::max(whole_at_ - now, absl::ZeroDuration());
}

absl::Duration PermitBlock::DeniedFor(std::int64_t count, absl::Time now) const {
  const std::int64_t missing = count - (now < expires_ ? left_ : 0);
  const absl::Time there = whole_at_ - (terms_.burst - missing) * terms_.interval;
  return std::max(there - now, absl::ZeroDuration());
}

bool PermitBlock::MayAsk(std::int64_t count, absl::Time now) const {
  return DeniedFor(count, now) == absl::ZeroDuration() || now >= got_at_ + kBelieved;
}

std::int64_t PermitBlock::Wanted(std::int64_t count, absl::Time now) {
  Expire(now);
  const std::int64_t missing = count - left_;
  if (terms_.size != 0) return std::clamp(terms_.size, missing, terms_.burst);
  const absl::Duration lasted = std::max(now - got_at_, absl::Microseconds(1));
  const double share = absl::FDivDuration(std::min(kLasts, terms_.max_age / 4), lasted);
  const std::int64_t most =
      std::min(size_ <= terms_.burst / kGrowth ? size_ * kGrowth : terms_.burst,
               std::max<std::int64_t>(terms_.burst / kShare, 1));
  const double target = static_cast<double>(spent_) * share;
  size_ = target < static_cast<double>(most)
              ? std::max<std::int64_t>(static_cast<std::int64_t>(target), 1)
              : most;
  return std::max(size_, missing);
}

void PermitBlock::Put(std::int64_t taken, absl::Duration reset_after, absl::Time sent,
                      absl::Time now) {
  Expire(now);
  if (left_ == 0) {
    taken_at_ = sent;
    expires_ = sent + terms_.max_age;
  }
  left_ += taken;
  spent_ = 0;
  got_at_ = now;
  whole_at_ = now + reset_after;
  Expire(now);
}

void PermitBlock::Expire(absl::Time now) {
  if (now >= expires_) Retire();
}

void PermitBlock::Retire() {
  if (left_ == 0) return;
  unused_ += left_;
  unused_since_ = std::min(unused_since_, taken_at_);
  left_ = 0;
}

PermitBlock::Unused PermitBlock::TakeUnused(absl::Time now) {
  Unused unused;
  if (unused_ == 0) return unused;
  unused.permits = unused_;
  const absl::Duration kept = absl::Ceil(now - unused_since_, absl::Microseconds(1));
  unused.worth = std::max(unused_ * terms_.interval - kept, absl::ZeroDuration());
  whole_at_ -= unused.worth;
  unused_ = 0;
  unused_since_ = absl::InfiniteFuture();
  return unused;
}

absl::Time PermitBlock::NextUnused() const {
  if (unused_ != 0) return absl::InfinitePast();
  return left_ != 0 ? expires_ : absl::InfiniteFuture();
}

}  // namespace coord::internal
