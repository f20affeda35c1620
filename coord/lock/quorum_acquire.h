// Private: getting a lock from a quorum.
#ifndef COORD_LOCK_QUORUM_ACQUIRE_H_
#define COORD_LOCK_QUORUM_ACQUIRE_H_

#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/lease.h"
#include "coord/lock/quorum_call.h"
#include "coord/lock/quorum_core.h"

namespace coord::internal {

struct QuorumLock {
  std::string name;
  QuorumKeys keys;
  absl::Duration ttl;  // whole milliseconds
  absl::Duration max_hold;
};

// As Mutex::TryAcquire (`wait` false) and Mutex::Acquire say.
absl::StatusOr<Lease> AcquireFromQuorum(const std::shared_ptr<QuorumCore>& core,
                                        const QuorumLock& lock, bool wait, absl::Duration timeout,
                                        const std::stop_token& stop);

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_ACQUIRE_H_
