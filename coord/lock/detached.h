// Private: a lease on its way from one process to another, as text.
#ifndef COORD_LOCK_DETACHED_H_
#define COORD_LOCK_DETACHED_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/session.h"
#include "coord/lease.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

struct Detached {
  std::string name;
  LockProtocol::Keys keys;
  std::string owner;
  std::uint64_t token = 0;
  absl::Duration ttl;
  absl::Duration hold_left = absl::InfiniteDuration();
  bool doubtful = false;  // what the owner sent may still be under way
};

std::string WriteDetached(const Session& session, const LeaseIdentity& identity,
                          const LeaseTerms& terms);

// What is wrong with the text, or with this client for it, is kInvalidArgument.
absl::StatusOr<Detached> ReadDetached(const Session& session, std::string_view text);

// One round trip. See Lease::Adopt.
absl::StatusOr<Lease> Adopt(std::shared_ptr<Session> session, Detached detached,
                            const CallOptions& options);

}  // namespace coord::internal

#endif  // COORD_LOCK_DETACHED_H_
