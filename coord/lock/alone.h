// Private: one thread that deals with the server for itself, without a cohort: for what several
// threads of one process may have at once.
#ifndef COORD_LOCK_ALONE_H_
#define COORD_LOCK_ALONE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/session.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/waiter.h"

namespace coord::internal {

// How long one question may take: no longer than is usual, and even a caller without patience gets
// one round trip.
CallLimits OneQuestion(const Session& session, const CallLimits& limits);

// A wait that its limits ended: kAborted (IsBusy) or kCancelled, or why nothing was heard.
absl::Status Ended(const Waiter& waiter, const CallLimits& limits);

// Asks, and waits in the queue until it is granted or the limits end the wait; then nothing is left
// behind.
absl::StatusOr<Waiter::Granted> WaitAlone(Session& session,
                                          std::shared_ptr<const LockProtocol> lock,
                                          absl::Duration ttl, const CallLimits& limits);

// Keeps what was granted from now on, until it is released or for `max_hold`; gives it back when
// that cannot be done.
absl::StatusOr<std::shared_ptr<LeaseState>> Hold(Session& session, Waiter::Granted granted,
                                                 absl::Duration max_hold, const CallLimits& limits);

}  // namespace coord::internal

#endif  // COORD_LOCK_ALONE_H_
