// All locks of a deployment, for operators and monitoring.
#ifndef COORD_LOCKS_H_
#define COORD_LOCKS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/client.h"
#include "coord/mutex.h"

namespace coord {

struct HeldLock {
  std::string name;
  LockHolder holder;
};

// Those under the client's prefix that are held, by name: mutexes, and both sides of rw mutexes.
// Walks over all keys of the server in steps (SCAN), then asks for each lock: many round trips,
// none of which holds others up for long. A lock that comes or goes meanwhile may be missing or
// shown. `options.timeout` is for each step.
absl::StatusOr<std::vector<HeldLock>> HeldLocks(const Client& client, CallOptions options = {});

}  // namespace coord

#endif  // COORD_LOCKS_H_
