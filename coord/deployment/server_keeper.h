// The process between us and a server.
//
//   we --fork--> (ends at once) --fork--> keeper --fork, exec--> server
//
// The keeper is nobody's child, so that no wait() of the caller meets it. It is the server's
// parent, so that it can tell how the server ended, and it watches the life of its starter, by a
// socket whose other end the starter holds and by a pidfd: children that the starter forks hold
// that end too, and may outlive it.
//
//   shared server    the keeper goes away when the starter has let go, and the server stays
//   private server   it kills the server then, removes its directory, and goes away; a server that
//   ends by itself
//                    is cleaned up after likewise
#ifndef COORD_DEPLOYMENT_SERVER_KEEPER_H_
#define COORD_DEPLOYMENT_SERVER_KEEPER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/deployment/owned_fd.h"

namespace coord::internal::embedded {

struct ServerLaunch {
  std::string binary;                  // absolute path
  std::vector<std::string> arguments;  // without argv[0]
  std::string working_directory;
  std::string socket_path;
  // Shared: the file of the server's life lock (life_lock.h). The one descriptor that it inherits.
  int life_lock_fd = -1;
  // Private: the server ends with the starter, and this directory with the server.
  std::string remove_directory;
};

// What the keeper tells its starter. Crosses a socket as it is.
struct KeeperReport {
  enum Kind : int {
    kStarted,    // server: pid, detail: the keeper's own
    kExited,     // server: pid, detail: wait status
    kNotForked,  // detail: errno
    kNoDirectory,
    kNotExecuted,
    kDataInUse,  // another server holds the life lock
    kGone,       // the keeper itself has ended; never sent
  };
  Kind kind = kStarted;
  int server = 0;
  int detail = 0;
};

// Returns our end of the keeper's socket, for the calls below. Async-signal-safe code only runs
// after the fork.
absl::StatusOr<OwnedFd> LaunchServer(const ServerLaunch& launch);

// The next report; nothing when none came within `wait_ms`.
std::optional<KeeperReport> NextReport(int control_fd, int wait_ms);

// Lets go, also for children that hold copies of `control_fd`. Does not wait.
void Dismiss(int control_fd);

// After Dismiss(): waits until the keeper is gone, and has done its work. False when `deadline`
// came first.
bool WaitUntilKeeperIsGone(int control_fd, long keeper_pid, const Deadline& deadline);

// The keeper's own code, in keeper_process.cc. All of it is prepared before the fork.
struct KeeperPlan {
  const char* binary;
  char* const* arguments;
  char* const* environment;
  const char* working_directory;
  const char* socket_path;
  const char* remove_directory;  // null: the server stays
  int null_fd;
  int control_fd;
  int life_lock_fd;  // -1: none
  int owner_fd;      // pidfd of the starter, -1: none
  int owner_pid;
};
[[noreturn]] void RunKeeper(const KeeperPlan& plan);

// Closes every descriptor from this number on. Async-signal-safe.
void CloseAllFrom(int first);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_SERVER_KEEPER_H_
