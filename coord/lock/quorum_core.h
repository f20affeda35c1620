// Private: what a Quorum is a handle to: its members, and the ballots that were seen.
#ifndef COORD_LOCK_QUORUM_CORE_H_
#define COORD_LOCK_QUORUM_CORE_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/session.h"
#include "coord/internal/backoff.h"
#include "coord/internal/jitter.h"
#include "coord/internal/sync.h"
#include "coord/internal/worker.h"
#include "coord/lock/quorum_round.h"
#include "coord/lock/quorum_vote.h"
#include "coord/quorum.h"
#include "coord/wire/wait_any.h"

namespace coord::internal {

class QuorumCore;

// Which server is which, to notice one that was given twice. Connections are made until the last
// session has ended, which may be after the core.
struct QuorumRoll {
  std::string settings;            // constant
  std::vector<std::string> names;  // constant once anything connects
  Mutex mutex;
  std::vector<std::string> run_ids ABSL_GUARDED_BY(mutex);

  // Of the member `index`: what its server's birth script answered.
  absl::Status Judge(std::size_t index, const Reply& reply);
};

// One server of a quorum. Every connection to it runs the birth script first (see
// quorum_birth.lua), in the same batch as signing in: a server that was restarted has new
// connections, so none that forgot can be asked to vote before it has been noticed.
class QuorumMember {
 public:
  QuorumMember(QuorumCore& core, std::size_t index) : core_(core), index_(index) {}
  ~QuorumMember();
  QuorumMember(const QuorumMember&) = delete;
  QuorumMember& operator=(const QuorumMember&) = delete;

  absl::Status Open(std::string_view url, ClientOptions options);

  const std::shared_ptr<Session>& session() const { return session_; }
  const std::string& name() const { return name_; }
  const std::string& marker() const { return marker_; }
  Request BirthRequest() const;

  // The connection if there is one. If not, it is being made in another thread, which rings the
  // bell when that has ended: null until then. A failure when it has just failed, or has been under
  // way for longer than a server is given. Never waits for the network.
  absl::StatusOr<std::shared_ptr<Connection>> Reach(const std::shared_ptr<Bell>& bell);

 private:
  void Dial();

  QuorumCore& core_;
  const std::size_t index_;
  // Constant after Open.
  std::string name_;
  std::string marker_;
  std::shared_ptr<Session> session_;

  std::stop_source closing_;
  Mutex mutex_;
  bool dialing_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyTime since_ ABSL_GUARDED_BY(mutex_);
  SteadyTime next_dial_ ABSL_GUARDED_BY(mutex_) = SteadyTime::min();
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Bell>> bells_ ABSL_GUARDED_BY(mutex_);
  Jitter jitter_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Worker> dialer_ = std::make_unique<Worker>();
};

class QuorumCore {
 public:
  static absl::StatusOr<std::shared_ptr<QuorumCore>> Open(std::span<const std::string> urls,
                                                          const ClientOptions& client_options,
                                                          QuorumOptions options);
  ~QuorumCore();

  std::size_t size() const { return members_.size(); }
  QuorumMember& member(std::size_t i) const { return *members_[i]; }
  const QuorumOptions& options() const { return options_; }
  // "<max ttl> <clock tolerance>" in milliseconds, as markers end.
  const std::string& settings() const { return roll_->settings; }
  const Clock& clock() const { return members_[0]->session()->clock(); }
  std::span<const std::string> names() const { return roll_->names; }

  absl::Status Usable() const { return members_[0]->session()->Usable(); }
  bool forked() const { return members_[0]->session()->forked(); }
  absl::StatusOr<CallLimits> Limits(const CallOptions& options) const {
    return members_[0]->session()->Limits(options);
  }
  void Close();

  absl::Time calendar() const { return options_.calendar(); }
  Ballot NextBallot() const { return ProposeBallot(calendar(), highest_.load()); }
  // After a round, for the next.
  void Learn(const QuorumRound& round);

  // How long one server is waited for when the lease is `ttl` long.
  absl::Duration Patience(absl::Duration ttl) const {
    return std::min(options_.server_timeout, ttl / 4);
  }
  absl::Status CheckTtl(absl::Duration ttl) const;

 private:
  friend class QuorumMember;
  explicit QuorumCore(QuorumOptions options);
  absl::Status Connect(absl::Duration timeout);

  const QuorumOptions options_;
  const std::shared_ptr<QuorumRoll> roll_ = std::make_shared<QuorumRoll>();
  std::atomic<Ballot> highest_{0};
  std::vector<std::unique_ptr<QuorumMember>> members_;
};

const std::shared_ptr<QuorumCore>& CoreOf(const Quorum& quorum);
absl::Status CheckQuorumOptions(std::size_t servers, const QuorumOptions& options);

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_CORE_H_
