// How a deployment is, as Client::Health() found it.
#ifndef COORD_HEALTH_H_
#define COORD_HEALTH_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace coord {

struct NodeHealth {
  std::string node;           // "db1:6379", "unix:/run/redis.sock"
  absl::Status status;        // OK, or why it cannot be used
  std::string server;         // "redis 7.0.15", "valkey 8.0.1"
  std::string role;           // "master", "slave", "sentinel"
  absl::Duration round_trip;  // of one PING
  int connections_made = 0;   // 1 when nothing ever broke
  // How many of the library's own scripts the server has, of how many it should have after signing
  // in; what is missing is sent with its next use. Unset: the server did not say (the user may not
  // ask, or no answer).
  std::optional<int> scripts_loaded = std::nullopt;
  int scripts_expected = 0;
};

struct Health {
  std::vector<NodeHealth> nodes;
  // Every node that is needed answers and takes writes.
  bool ok() const;
};

}  // namespace coord

#endif  // COORD_HEALTH_H_
