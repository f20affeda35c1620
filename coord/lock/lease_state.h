// Private: one lease's state, shared by the Lease that a user holds and the background thread that
// renews it.
#ifndef COORD_LOCK_LEASE_STATE_H_
#define COORD_LOCK_LEASE_STATE_H_

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// What stays the same while a lease lives.
struct LeaseIdentity {
  std::string name;
  std::string lease_key;
  std::string fence_key;
  std::string owner;
  std::uint64_t token = 0;
};

class LeaseState final : public Beat {
 public:
  // `session` is borrowed and outlives the background thread. `doubtful`: a copy of the acquire may
  // still be under way.
  LeaseState(Session& session, LeaseIdentity identity, absl::Duration ttl, absl::Time sent,
             absl::Time valid_until, bool doubtful);

  const LeaseIdentity& identity() const { return identity_; }
  absl::Duration Remaining() const;
  std::stop_token StopToken();

  absl::Status Renew(absl::Duration ttl, const CallLimits& limits);
  absl::Status Release(const CallLimits& limits);

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void Closed() override;

 private:
  enum class Phase { kHeld, kReleased, kLost };

  Request RenewRequest(absl::Duration ttl) const;
  void Extend(absl::Time sent, absl::Duration ttl) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Marks the lease lost and returns whom to tell.
  std::stop_source Lose(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells them, elsewhere than here: their callbacks are user code. No lock is held.
  void Tell(std::stop_source source);
  absl::Status LostStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Session& session_;
  const LeaseIdentity identity_;
  const bool doubtful_;

  mutable Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kHeld;
  std::string why_lost_ ABSL_GUARDED_BY(mutex_);
  absl::Duration ttl_ ABSL_GUARDED_BY(mutex_);
  absl::Time valid_until_ ABSL_GUARDED_BY(mutex_);
  absl::Time renew_at_ ABSL_GUARDED_BY(mutex_);
  bool renewing_ ABSL_GUARDED_BY(mutex_) =
      false;  // the background has asked, at asked_at_ for asked_ttl_
  absl::Time asked_at_ ABSL_GUARDED_BY(mutex_);
  absl::Duration asked_ttl_ ABSL_GUARDED_BY(mutex_);
  std::stop_source stop_ ABSL_GUARDED_BY(mutex_){std::nostopstate};  // made when first asked for
};

// Takes back, behind the caller's back, what an acquire of unknown outcome may have been granted:
// repeated until the server has answered or the lease would have run out by itself.
class Withdrawal final : public Beat {
 public:
  Withdrawal(Session& session, LeaseIdentity identity, absl::Duration ttl);

  static Request MakeRequest(const Session& session, const LeaseIdentity& identity);

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void Closed() override {}
  bool owed() const override { return true; }

 private:
  Session& session_;
  const LeaseIdentity identity_;
  const absl::Time give_up_;

  Mutex mutex_;
  absl::Time next_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_LOCK_LEASE_STATE_H_
