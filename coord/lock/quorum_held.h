// Private: a lock held on a quorum.
#ifndef COORD_LOCK_QUORUM_HELD_H_
#define COORD_LOCK_QUORUM_HELD_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/internal/sync.h"
#include "coord/lock/held.h"
#include "coord/lock/quorum_call.h"
#include "coord/lock/quorum_core.h"
#include "coord/lock/quorum_vote.h"

namespace coord::internal {

// What stays the same while a lease lives.
struct QuorumIdentity {
  std::string name;
  QuorumKeys keys;
  std::string owner;
  Ballot ballot = 0;
  absl::Time keep_until = absl::InfiniteFuture();  // it is not renewed beyond this
};

// How a server stands when the round of votes is over.
struct QuorumStanding {
  Vote vote;
  bool may_hold = false;   // this owner has, or may yet get, the lease there
  bool late_copy = false;  // an acquire was lost with its connection and may still arrive
  absl::Time sent;         // of the vote
  std::unique_ptr<QuorumCall> straggler;  // the acquire, not answered yet
};

// One lease, shared by the Lease that a user holds and the background threads of all servers. Each
// of these renews on its own server, and goes on asking for votes that are missing. It is valid as
// long as a majority's votes are.
class QuorumLease : public std::enable_shared_from_this<QuorumLease> {
 public:
  QuorumLease(QuorumCore& core, QuorumIdentity identity, absl::Duration ttl,
              std::vector<QuorumStanding> standings);

  // Has it renewed from now on. False when the system gives no thread for a majority of servers.
  bool Start();

  const QuorumIdentity& identity() const { return identity_; }
  absl::Duration Remaining() const;
  std::stop_token StopToken();
  absl::Status Renew(absl::Duration ttl, const CallLimits& limits);
  // Takes it back on all servers; OK at the first majority. What is not answered then is seen to in
  // the background.
  absl::Status Release(QuorumCore& core, const CallLimits& limits);
  // The same for votes that made no lease: returns when those that are known to be granted are
  // taken back, or `patience` is over.
  void TakeBack(QuorumCore& core, absl::Duration patience);

 private:
  enum class Phase { kHeld, kReleased, kLost };
  enum class Step { kAcquire, kRenew, kBirth, kRelease, kNothing };
  class Part;
  struct Seat {
    // Borrowed. They outlive the background thread, which with the holder's calls is all that uses
    // them; the thread may run when the session can no longer be asked for it.
    Session* session;
    Background* background;
    std::string name;  // for messages
    std::string marker;
    std::weak_ptr<Part> part;
    bool may_hold = false;
    bool late_copy = false;    // an acquire may yet arrive that a release has overtaken
    bool copy_before = false;  // the same, but for the one that the background has just sent
    bool tried = false;        // a release of the background's has failed
    Step step = Step::kNothing;
    absl::Time due = absl::InfiniteFuture();
    bool asking = false;  // the background has asked: `asked`, for asked_ttl
    Step asked = Step::kNothing;
    absl::Duration asked_ttl;   // ttl_ at that time
    absl::Duration asked_left;  // the same, or what was left until keep_until
    int asked_epoch = 0;
    int renewed_epoch = 0;  // of the last renewal that succeeded
    int failed_epoch = 0;   // of the last that did not
    std::string failed;
    std::unique_ptr<QuorumCall> call;  // an acquire or a release of a caller's, not answered yet
  };

  absl::Time NextTick(std::size_t i);
  std::optional<Beat::Ask> Tick(std::size_t i, absl::Time now);
  void Answer(std::size_t i, absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now);
  void Closed(std::size_t i);
  bool Owed(std::size_t i) const;

  bool AddPart(std::size_t i);
  void RemovePart(std::size_t i);
  // What it waits for has changed.
  void ReschedulePart(std::size_t i);
  // For a lease of `left`.
  Request MakeRequest(const Seat& seat, Step step, absl::Duration left) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Request ReleaseRequest(const Session& session, bool remember) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Time ValidUntilNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Acquired(std::size_t i, const absl::StatusOr<Reply>& reply, absl::Time sent, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Renewed(std::size_t i, const absl::StatusOr<Reply>& reply, absl::Time sent, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MajorityLeft() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::stop_source Lose(std::string why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells holders elsewhere than here: their callbacks are user code. No lock is held.
  static void Tell(Session& session, std::stop_source source);
  absl::Status LostStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends releases to all servers that may hold it; how many are certainly free of it by
  // `deadline`, or when `enough` are and all known votes have been answered if `all_votes`.
  std::size_t SendReleases(QuorumCore& core, const CallLimits& limits, std::size_t enough,
                           bool all_votes, std::size_t* gone);

  const Clock& clock_;
  const QuorumIdentity identity_;
  const std::string ballot_text_;
  const std::string settings_;
  const absl::Duration patience_;

  mutable Mutex mutex_;
  CondVar changed_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kHeld;
  std::string why_lost_ ABSL_GUARDED_BY(mutex_);
  absl::Duration ttl_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;  // it was a lease, not only votes
  int epoch_ ABSL_GUARDED_BY(mutex_) = 0;         // how often the holder has renewed it
  std::vector<Vote> votes_ ABSL_GUARDED_BY(mutex_);
  std::vector<Seat> seats_ ABSL_GUARDED_BY(mutex_);
  absl::Time give_up_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // once released
  std::stop_source stop_ ABSL_GUARDED_BY(mutex_){std::nostopstate};  // made when first asked for
};

class QuorumHeld final : public Held {
 public:
  QuorumHeld(std::shared_ptr<QuorumCore> core, std::shared_ptr<QuorumLease> lease)
      : core_(std::move(core)), lease_(std::move(lease)) {}

  const std::string& name() const override { return lease_->identity().name; }
  const std::string& owner() const override { return lease_->identity().owner; }
  std::uint64_t token() const override { return lease_->identity().ballot; }
  bool forked() const override { return core_->forked(); }
  absl::Duration Remaining() const override { return lease_->Remaining(); }
  std::stop_token StopToken() override { return lease_->StopToken(); }
  absl::Status Renew(absl::Duration ttl, const CallOptions& options) override;
  absl::Status Release(const CallOptions& options) override;

 private:
  const std::shared_ptr<QuorumCore> core_;
  const std::shared_ptr<QuorumLease> lease_;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_HELD_H_
