// How a deployment is, as Client::Health() found it.
#ifndef COORD_HEALTH_H_
#define COORD_HEALTH_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/node_state.h"

namespace coord {

struct NodeHealth {
  std::string node;                          // "db1:6379", "unix:/run/redis.sock"
  NodeState state = NodeState::kConnecting;  // as calls see it, before this question
  absl::Time since;                          // in that state, by the wall clock
  absl::Status status;                       // OK, or why it cannot be used
  bool needed = true;                        // it holds keys; else a replica or a Sentinel
  std::string server;                        // "redis 7.0.15", "valkey 8.0.1"
  std::string role;                          // "master", "slave", "sentinel"
  absl::Duration round_trip;                 // of one PING
  int connections_made = 0;                  // 1 when nothing ever broke
  // Of calls so far, every sixteenth of which is timed, and of what the background thread asks; to
  // about an eighth. Zero: there was none.
  absl::Duration latency_p50;
  absl::Duration latency_p99;
  std::string last_error;  // of connecting and of connections that broke; empty: none yet
  absl::Time last_error_at = absl::InfinitePast();
  // How many of the library's own scripts the server has, of how many it should have after signing
  // in; what is missing is sent with its next use. Unset: the server did not say (the user may not
  // ask, or no answer).
  std::optional<int> scripts_loaded = std::nullopt;
  int scripts_expected = 0;
};

struct Health {
  std::vector<NodeHealth> nodes;  // those that hold keys first
  // The last changes of all nodes' states, and failovers; oldest first.
  std::vector<NodeEvent> history;
  // Every node that is needed answers and takes writes.
  bool ok() const;
  // The same of all nodes: nothing is amiss that a further failure could build on.
  bool whole() const;
};

}  // namespace coord

#endif  // COORD_HEALTH_H_
