// What a client knows of one server's condition, and how it tells.
#ifndef COORD_NODE_STATE_H_
#define COORD_NODE_STATE_H_

#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace coord {

enum class NodeState {
  kConnecting,  // no connection at present; calls wait for one within their time
  kReady,
  kDegraded,  // connected, and the last health check was not answered in time
  kDown,      // given up for now (ClientOptions::fail_fast_after), or it refuses us: calls fail at
              // once, until the background thread, or Reconnect(), has reached it again
};

std::string_view ToString(NodeState state);

// Something that happened to a server: a change of its state, or of its role.
struct NodeEvent {
  std::string node;  // "db1:6379"
  NodeState state = NodeState::kConnecting;
  absl::Time when;     // by the wall clock
  std::string reason;  // for people; no password in it
};

}  // namespace coord

#endif  // COORD_NODE_STATE_H_
