// The permits that a process holds in advance of a rate limit: how many to ask for, how long they
// may be spent, what is left to give back. Pure: time is passed in.
#ifndef COORD_INTERNAL_PERMIT_BLOCK_H_
#define COORD_INTERNAL_PERMIT_BLOCK_H_

#include <cstdint>

#include "absl/time/time.h"

namespace coord::internal {

// Not thread-safe. Times are of one clock that never goes back.
class PermitBlock {
 public:
  struct Terms {
    absl::Duration interval;  // what one permit costs
    std::int64_t burst = 1;
    absl::Duration max_age;  // how long a permit may be held
    std::int64_t size = 0;   // how many to ask for; 0: by what is spent
  };

  explicit PermitBlock(const Terms& terms) : terms_(terms) {}

  // All `count`, or none.
  bool Take(std::int64_t count, absl::Time now) {
    if (left_ < count || now >= expires_) return false;
    left_ -= count;
    spent_ += count;
    return true;
  }

  // How long `count` cannot be had, as far as the limiter's last answer goes; zero when it may be
  // had now.
  absl::Duration DeniedFor(std::int64_t count, absl::Time now) const;
  // Whether to ask the limiter, as it may say yes now; or others, who gave permits back, may have
  // changed what it said some time ago.
  bool MayAsk(std::int64_t count, absl::Time now) const;
  // How many to ask for, when `count`, at most the burst, are not there.
  std::int64_t Wanted(std::int64_t count, absl::Time now);
  // The limiter's answer to what was sent at `sent`.
  void Put(std::int64_t taken, absl::Duration reset_after, absl::Time sent, absl::Time now);

  // Of those that are too old, or of all, none can be spent any more.
  void Expire(absl::Time now);
  void Retire();
  struct Unused {
    std::int64_t permits = 0;
    // What giving them back is worth in time of the limiter: less than they have cost, as time has
    // given the limiter back what they were kept for. So whatever others have taken meanwhile, it
    // lets no more through than if they had not been taken.
    absl::Duration worth;
  };
  // Forgets those that cannot be spent.
  Unused TakeUnused(absl::Time now);

  std::int64_t left() const { return left_; }
  absl::Duration WholeAfter(absl::Time now) const;
  // When there will be something to give back; InfinitePast for now.
  absl::Time NextUnused() const;

 private:
  const Terms terms_;
  std::int64_t left_ = 0;
  absl::Time taken_at_ = absl::InfinitePast();  // not later than the oldest of them was taken
  absl::Time expires_ = absl::InfinitePast();
  std::int64_t unused_ = 0;  // cannot be spent
  absl::Time unused_since_ = absl::InfiniteFuture();

  std::int64_t size_ = 1;
  std::int64_t spent_ = 0;                      // since
  absl::Time got_at_ = absl::InfinitePast();    // the last came
  absl::Time whole_at_ = absl::InfinitePast();  // the limiter's burst, if nobody takes any
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_PERMIT_BLOCK_H_
