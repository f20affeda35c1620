// Asking a server on a unix socket whether it is there, with inline commands on a raw socket: on
// the start-up path of a short command, before there is a client, and where a client's retries and
// reconnects would be in the way.
#ifndef COORD_DEPLOYMENT_SERVER_PROBE_H_
#define COORD_DEPLOYMENT_SERVER_PROBE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "coord/deployment/owned_fd.h"

namespace coord::internal::embedded {

struct Connection {
  enum class State {
    kConnected,
    kNobody,  // no socket, or the stale one of a server that was killed
    kBusy,    // somebody listens, and its queue of connections is full
    kFault,   // the rest, see `fault`
  };
  State state = State::kFault;
  int fault = 0;  // errno
  OwnedFd fd;     // does not block
};

// One attempt; waits for nothing. `path` must fit (kLongestSocketPath).
Connection ConnectOnce(const std::string& path);

// Sends one inline command and returns the reply's first line ("+PONG", "-LOADING ...", with no end
// of line), or for a bulk string its content. Unavailable when the connection ends before,
// DeadlineExceeded at `deadline`.
absl::StatusOr<std::string> Ask(int fd, std::string_view command, const Deadline& deadline);

// The value of `field` in the text that INFO answers; "" when it is not there.
std::string_view InfoField(std::string_view info, std::string_view field);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_SERVER_PROBE_H_
