// Private: one owner who wants a lock and waits until it is his turn. What he waits for is state on
// the server, which he asks about again and again; messages only make it quick.
#ifndef COORD_LOCK_WAITER_H_
#define COORD_LOCK_WAITER_H_

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/deployment/wakes.h"
#include "coord/internal/sync.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

// How long a grant may be believed before its taker has been heard, and so after how long a silent
// waiter is dead.
inline absl::Duration ClaimOf(absl::Duration ttl) { return std::min(ttl, absl::Seconds(3)); }

// How many replicas must have acknowledged a grant, and within which time; 0: nobody is asked.
struct ReplicaWait {
  int count = 0;
  absl::Duration timeout = {};
};

// A waiter is in the schedule of the background thread from Enqueue until it is granted, given up
// or destroyed by whoever holds it.
class Waiter final : public Beat, public Sleeper, public std::enable_shared_from_this<Waiter> {
 public:
  struct Granted {
    LeaseIdentity identity;
    LeaseTerms terms;
    std::optional<int> acknowledged = {};  // by so many replicas, where that was asked
  };

  // `session` is borrowed and outlives the background thread. Nullptr when the system gives no
  // random bits.
  static std::shared_ptr<Waiter> Make(Session& session, std::shared_ptr<const LockProtocol> lock,
                                      absl::Duration ttl);

  const std::string& owner() const { return owner_; }

  // Asks once, without a place in the queue. Nullopt: another holds it, see Busy.
  absl::StatusOr<std::optional<Granted>> Try(const CallLimits& limits,
                                             const ReplicaWait& replicas = {});

  // Asks with a place in the queue. OK: granted, or it stands in the queue, or will as soon as the
  // server can be reached. Otherwise what will not get better by waiting.
  absl::Status Enqueue(const CallLimits& limits);

  // Waits until it is granted or has failed. Nullopt: the limits have ended the wait, and it goes
  // on standing in the queue.
  std::optional<absl::StatusOr<Granted>> Await(const CallLimits& limits);

  // Leaves the queue, and gives back a grant that crossed this, behind the caller's back.
  void GiveUp();

  // kAborted, naming the holder as last heard of; or why nothing was heard.
  absl::Status Busy() const;

  absl::Time NextTick() override;
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void LinkBroken() override;
  void Closed() override;
  void OnMessage(std::string_view rest) override;

 private:
  enum class Phase { kWaiting, kGranted, kFailed, kGone };

  Waiter(Session& session, std::shared_ptr<const LockProtocol> lock, std::string owner,
         absl::Duration ttl);

  Place PlaceNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes in what was answered to a question sent at `sent`, or why there is no answer.
  void Settle(const absl::StatusOr<Reply>& reply, absl::Time sent, bool replayed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Grant(std::uint64_t token, absl::Time valid_until, absl::Time renew_at)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration Period() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskNow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Granted Take() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Wakes whoever is in Await.
  void Rouse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // While somebody is in Await and it is not over, messages are wanted.
  void Want(bool now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Reads the messages of the process, if nobody else does, until it is roused or the limits end
  // it.
  bool Read(const CallLimits& limits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After having read, before doing anything else for long.
  void LetOthersRead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Leave();
  std::string Title() const;

  Session& session_;
  const std::shared_ptr<const LockProtocol> lock_;
  const std::string owner_;
  const absl::Duration ttl_;
  const absl::Duration claim_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<Ear> ear_ ABSL_GUARDED_BY(mutex_);  // from Enqueue on
  bool wants_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id reader_ ABSL_GUARDED_BY(mutex_);  // the thread in Read
  std::stop_source end_reading_ ABSL_GUARDED_BY(mutex_){std::nostopstate};
  std::atomic<bool> roused_{false};  // since Read began
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kWaiting;
  std::string ticket_ ABSL_GUARDED_BY(mutex_) = "0";
  std::string alive_ ABSL_GUARDED_BY(mutex_) = "0";
  std::string holder_ ABSL_GUARDED_BY(mutex_);  // as last answered; empty: nothing yet
  absl::Duration holder_left_ ABSL_GUARDED_BY(mutex_);
  absl::Status trouble_ ABSL_GUARDED_BY(mutex_);  // why the last question has no answer
  // A grant cannot be older than the sending of the last question that was answered "held"...
  absl::Time not_before_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  // ...and its token is above what was the last one then.
  std::uint64_t above_ ABSL_GUARDED_BY(mutex_) = 0;
  bool doubtful_ ABSL_GUARDED_BY(mutex_) = false;  // a copy of a question may still be under way
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;
  // Something was heard while a question was under way, which its answer may not know of.
  bool ask_again_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time ask_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  std::uint64_t token_ ABSL_GUARDED_BY(mutex_) = 0;
  LeaseTerms terms_ ABSL_GUARDED_BY(mutex_);
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
};

bool IsOver(const CallLimits& limits);
// kCancelled, with what a waiter was told last.
absl::Status StoppedWaiting(const absl::Status& busy);
// A wait that its limits ended: kAborted (IsBusy) or kCancelled, or why nothing was heard.
absl::Status WaitEnded(const Waiter& waiter, const CallLimits& limits);
// How long one question may take: no longer than is usual, and even a caller without patience gets
// one round trip.
CallLimits OneQuestion(const Session& session, const CallLimits& limits);

// Asks the server, and waits within the limits. `waiter` null: a new one, which is left there when
// the limits ended the wait and it goes on standing in the queue; the caller keeps it for another
// who wants the same, or lets it give up. In every other case it is null afterwards.
absl::StatusOr<Waiter::Granted> WaitForTurn(Session& session,
                                            const std::shared_ptr<const LockProtocol>& lock,
                                            absl::Duration ttl, const CallLimits& limits,
                                            std::shared_ptr<Waiter>& waiter,
                                            const ReplicaWait& replicas = {});

// The lease of what was granted, which the background thread renews from now on.
absl::StatusOr<std::shared_ptr<LeaseState>> Keep(Session& session, Waiter::Granted granted,
                                                 absl::Duration max_hold,
                                                 std::shared_ptr<LossListener> listener = nullptr);

// WaitForTurn for one who leaves nothing to others: when the limits end the wait, the place is
// given up.
absl::StatusOr<Waiter::Granted> WaitAlone(Session& session,
                                          const std::shared_ptr<const LockProtocol>& lock,
                                          absl::Duration ttl, const CallLimits& limits);

// For locks that several may hold, each for himself: waits, or asks once.
absl::StatusOr<std::shared_ptr<LeaseState>> AcquireAlone(
    Session& session, const std::shared_ptr<const LockProtocol>& lock, absl::Duration ttl,
    absl::Duration max_hold, const CallLimits& limits);
absl::StatusOr<std::shared_ptr<LeaseState>> TryOnce(Session& session,
                                                    std::shared_ptr<const LockProtocol> lock,
                                                    absl::Duration ttl, absl::Duration max_hold,
                                                    const CallLimits& limits,
                                                    const ReplicaWait& replicas = {});

}  // namespace coord::internal

#endif  // COORD_LOCK_WAITER_H_
