// Starting a server and waiting until it answers: what the shared and the private one have in
// common.
#ifndef COORD_DEPLOYMENT_SERVER_START_H_
#define COORD_DEPLOYMENT_SERVER_START_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/deployment/owned_fd.h"
#include "coord/deployment/server_keeper.h"

namespace coord::internal::embedded {

// The first redis-server, else the first valkey-server, in $PATH (when it is unset, in the system's
// usual directories). Unavailable with what to install.
absl::StatusOr<std::string> FindServerBinary();

// The program of that name in $PATH, found likewise; "" when there is none.
std::string FindInPath(std::string_view name);

// The flags that every server of ours gets: one unix socket, no TCP port, a log, nothing evicted,
// no snapshots.
std::vector<std::string> ServerArguments(const std::string& socket_path,
                                         const std::string& data_dir);

// The log that ServerArguments() names, for the end of it in messages, also when the file has been
// removed since.
class ServerLog {
 public:
  // From here on; creates the file.
  explicit ServerLog(const std::string& data_dir);
  // ": " and its last lines on one line, what was in it before left out.
  std::string Tail() const;

 private:
  std::string path_;
  OwnedFd fd_;
  off_t start_ = 0;
};

struct StartedServer {
  OwnedFd control;  // of its keeper
  long server_pid = 0;
  long keeper_pid = 0;
  // OK when it has answered PING, or asked for a password. Unavailable: it ended, or could not be
  // executed, or `deadline` passed.
  absl::Status status;
};

// Launches and waits. The control descriptor is there (to be dismissed) unless the launch itself
// failed.
StartedServer StartServer(const ServerLaunch& launch, const ServerLog& log,
                          const Deadline& deadline);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_SERVER_START_H_
