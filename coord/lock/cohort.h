// Private: the threads of one process that want the same lock. They queue here; one of them at a
// time stands for all at the server; and the lock may pass from one to the next without the server,
// within the bounds of hand_over.h.
#ifndef COORD_LOCK_COHORT_H_
#define COORD_LOCK_COHORT_H_

#include <list>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/session.h"
#include "coord/internal/sync.h"
#include "coord/lock/hand_over.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/waiter.h"

namespace coord::internal {

// Thread-safe.
class Cohort final : public LossListener, public std::enable_shared_from_this<Cohort> {
 public:
  // `session` is borrowed and outlives the background thread.
  Cohort(Session& session, std::shared_ptr<const LockProtocol> lock, absl::Duration ttl,
         absl::Duration max_hold, ReplicaWait replicas = {})
      : session_(session),
        lock_(std::move(lock)),
        ttl_(ttl),
        max_hold_(max_hold),
        replicas_(replicas) {}

  const std::shared_ptr<const LockProtocol>& lock() const { return lock_; }

  absl::StatusOr<std::shared_ptr<LeaseState>> Acquire(const CallLimits& limits);

  // For a lease that Acquire gave.
  absl::Status Release(LeaseState& state, const CallLimits& limits);

  void OnLost(LeaseState& state) override;

 private:
  // A thread that waits here, on its own stack.
  struct Member {
    CondVar changed;
    bool stands_for_all = false;        // it is to ask the server
    std::shared_ptr<LeaseState> given;  // it has the lock
  };

  // Asks the server and waits, as the one who stands for all.
  absl::StatusOr<std::shared_ptr<LeaseState>> AcquireAtServer(const CallLimits& limits);
  // Leaves the place at the server to the next member, or gives it up.
  void StepDown(std::shared_ptr<Waiter> waiter);
  // Lets the next member ask the server; nobody holds the lock here.
  void CallNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HandOver(LeaseState& state, const CallLimits& limits);

  Session& session_;
  const std::shared_ptr<const LockProtocol> lock_;
  const absl::Duration ttl_;
  const absl::Duration max_hold_;
  const ReplicaWait replicas_;

  Mutex mutex_;
  // Somebody of us holds the lock or stands for all; the others wait in members_.
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  const LeaseState* holder_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::list<Member*> members_ ABSL_GUARDED_BY(mutex_);
  // A place in the server's queue that its owner left behind for the next.
  std::shared_ptr<Waiter> place_ ABSL_GUARDED_BY(mutex_);
  Turn turn_ ABSL_GUARDED_BY(mutex_);
  bool reserving_ ABSL_GUARDED_BY(mutex_) = false;
  // Tokens set aside: the next to be used, and the last.
  std::uint64_t next_token_ ABSL_GUARDED_BY(mutex_) = 1;
  std::uint64_t last_token_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_COHORT_H_
