// Private: one lease's state, shared by the Lease that a user holds and the background thread that
// renews it.
#ifndef COORD_LOCK_LEASE_STATE_H_
#define COORD_LOCK_LEASE_STATE_H_

#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/internal/sync.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

// What stays the same while a lease lives.
struct LeaseIdentity {
  std::shared_ptr<const LockProtocol> lock;
  std::string owner;
  std::uint64_t token = 0;
};

// How a lease was got, and how long it may be kept.
struct LeaseTerms {
  absl::Duration ttl;
  absl::Time valid_until;
  absl::Time renew_at;
  absl::Time keep_until = absl::InfiniteFuture();  // it is not renewed beyond this
  bool doubtful = false;                           // a copy of the acquire may still be under way
  bool waited = false;                             // others may wait now, as this owner did
};

class LeaseState;

// Whoever must know when a lease is lost, to let the next one try. Called with no lock held.
class LossListener {
 public:
  virtual ~LossListener() = default;
  virtual void OnLost(LeaseState& state) = 0;
};

class LeaseState final : public Beat {
 public:
  // `session` is borrowed and outlives the background thread.
  LeaseState(Session& session, LeaseIdentity identity, const LeaseTerms& terms,
             std::shared_ptr<LossListener> listener = nullptr);

  const LeaseIdentity& identity() const { return identity_; }
  absl::Duration Remaining() const;
  std::stop_token StopToken();

  absl::Status Renew(absl::Duration ttl, const CallLimits& limits);
  absl::Status Release(const CallLimits& limits,
                       const std::optional<LockProtocol::Unused>& unused = std::nullopt);

  // Ends this lease without telling the server, for another of the same owner to take its place:
  // the terms of that one. Nullopt when it is lost or released, has less than `least` left, or is
  // no longer what was asked for.
  std::optional<LeaseTerms> HandOver(absl::Duration ttl, absl::Duration least);
  // Ends this lease here and leaves it on the server, for Adopt. What it has left; IsLost, or
  // kFailedPrecondition when it was released.
  absl::StatusOr<LeaseTerms> Detach();

  // Marks it lost, for a reason that somebody else has found. The status that says so.
  absl::Status Forget(const std::string& why);

  absl::Time NextTick() override;
  absl::Duration slack() const override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void LinkBroken() override;
  void Closed() override;

 private:
  enum class Phase { kHeld, kReleased, kLost };

  Request RenewRequest(absl::Duration ttl) const;
  absl::Duration SlackLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `ttl`, or what is left until keep_until_.
  absl::Duration Bounded(absl::Duration ttl, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Marks the lease lost and returns whom to tell.
  std::stop_source Lose(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells them, elsewhere than here: their callbacks are user code. No lock is held.
  void Tell(std::stop_source source, bool lost);
  absl::Status ReleasedStatus() const;
  absl::Status LostStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Title() const;

  Session& session_;
  const LeaseIdentity identity_;
  const bool doubtful_;
  const bool waited_;
  const absl::Time keep_until_;
  const std::shared_ptr<LossListener> listener_;

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

// Takes back, behind the caller's back, what an owner has or waits for that has given up: repeated
// until the server has answered or all of it would have run out by itself.
class Withdrawal final : public Beat {
 public:
  // `late_duplicates`: bytes of the owner's may still be under way.
  Withdrawal(Session& session, std::shared_ptr<const LockProtocol> lock, std::string owner,
             absl::Duration ttl, bool late_duplicates);

  static Request MakeRequest(const Session& session, const LockProtocol& lock,
                             std::string_view owner, bool late_duplicates);

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void Closed() override {}
  bool owed() const override { return true; }

 private:
  Session& session_;
  const std::shared_ptr<const LockProtocol> lock_;
  const std::string owner_;
  const absl::Time give_up_;

  Mutex mutex_;
  bool late_duplicates_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_LOCK_LEASE_STATE_H_
