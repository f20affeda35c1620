// Private: waiting for a lock of a quorum.
#ifndef COORD_LOCK_QUORUM_WAIT_H_
#define COORD_LOCK_QUORUM_WAIT_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/deadline.h"
#include "coord/internal/jitter.h"
#include "coord/internal/sync.h"
#include "coord/lock/quorum_core.h"

namespace coord::internal {

// Whose release a majority of servers has told of, so that it is worth asking again at once. Pure.
class ReleaseCount {
 public:
  explicit ReleaseCount(std::size_t servers) : released_(servers) {}
  // From now on only what comes later counts.
  void Clear() { released_.assign(released_.size(), std::string()); }
  // `server` has told that it has taken back the lease of `owner`.
  void Heard(std::size_t server, std::string_view owner) { released_[server] = owner; }
  bool enough() const;

 private:
  std::vector<std::string> released_;  // by server, the owner whose release it told of last
};

// One caller who waits. A quorum cannot hand a lock to one waiter, since its servers would choose
// different ones, so he asks again and again, after random pauses of at most 100 ms; and at once
// when a majority of servers has told him that the holder is gone. Each tells the one who has
// waited longest there. A hint that is lost costs the rest of a pause.
//
// Used by one thread; messages come in others.
class QuorumWaiter {
 public:
  // `core` is borrowed.
  explicit QuorumWaiter(QuorumCore& core);
  ~QuorumWaiter();
  QuorumWaiter(const QuorumWaiter&) = delete;
  QuorumWaiter& operator=(const QuorumWaiter&) = delete;

  // What to leave with server `i` (see quorum_acquire.lua).
  const std::string& listener(std::size_t i) const { return listeners_[i]; }
  // Before a round of questions: what was heard until now is answered by it.
  void BeginRound();
  // Returns when it is worth asking again: true, or false when the limits ended the wait.
  // `holder_left` is what the holder's lease has left.
  bool Wait(absl::Duration holder_left, const CallLimits& limits);

 private:
  struct State;
  class Ear;

  QuorumCore& core_;
  int asked_ = 0;
  Jitter jitter_;
  std::string id_;
  std::vector<std::string> listeners_;
  std::shared_ptr<State> state_;
  std::vector<std::shared_ptr<Ear>> ears_;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_WAIT_H_
