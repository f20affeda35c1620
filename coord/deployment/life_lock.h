// The lock that a server holds on its data directory as long as it lives.
//
// Two servers on one append-only file lose data and both grant the same lease. The socket does not
// prevent it: the other server may listen elsewhere (another XDG_RUNTIME_DIR), may not listen yet,
// or its socket may have been cleaned away. A record lock (fcntl) does: it survives exec, ends with
// the process however that ends, is not inherited by the children that rewrite the file, and the
// kernel knows the holder's pid, so there is no pid file to trust.
#ifndef COORD_DEPLOYMENT_LIFE_LOCK_H_
#define COORD_DEPLOYMENT_LIFE_LOCK_H_

#include <string>

#include "coord/deployment/owned_fd.h"

namespace coord::internal::embedded {

struct LifeLockHolder {
  bool held = false;
  long pid = 0;             // 0 when it is in another pid namespace
  std::string socket_path;  // where it listens, as it wrote; "" when it has not yet
};

// Who holds the lock of `data_dir`. Creates nothing; a lock that cannot be read counts as free.
LifeLockHolder FindLifeLockHolder(const std::string& data_dir);

// Opens the lock file, creating it. Takes no lock: a server does, see HoldLifeLock().
OwnedFd OpenLifeLock(const std::string& data_dir);

// In the process that becomes the server: takes the lock through `fd`, which must stay open across
// exec, and leaves `socket_path` for others to read. False when another process has it. A file
// system without such locks counts as taken: better an unguarded server than none.
// Async-signal-safe.
bool HoldLifeLock(int fd, const char* socket_path);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_LIFE_LOCK_H_
