// A redis-server (or valkey-server) of our own: see embedded:// in README.md.
//
//   FindEmbeddedPlace -> EnsureEmbedded -> connect to place.socket_path
//
// None of it throws, starts a thread or keeps global state; all of it may be called from any
// thread. The only child that a caller ever gets is one that ends at once and is waited for by its
// own pid; a caller that ignores or handles SIGCHLD, and its other children, are not disturbed.
// (Where the caller is pid 1 or a child subreaper, the servers it started become its children, as
// every orphan does.)
#ifndef COORD_DEPLOYMENT_EMBEDDED_H_
#define COORD_DEPLOYMENT_EMBEDDED_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::internal {

// Where a shared or directory server lives.
//
//   socket_dir   redis.sock, start.lock (held while one process starts or stops the server)
//   data_dir     appendonlydir/, redis.log, server.lock (held by the server itself as long as it
//   lives)
struct EmbeddedPlace {
  std::string socket_dir;   // 0700, ours
  std::string socket_path;  // socket_dir + "/redis.sock"
  std::string data_dir;     // append-only file, log
};

// The place of the per-user server (`directory` empty), or of the one kept in `directory`. Creates
// nothing.
//
// Per user: the socket in $XDG_RUNTIME_DIR/coord, else ${TMPDIR:-/tmp}/coord-<uid>; the data in
// $XDG_STATE_HOME/coord, else ~/.local/state/coord. Where the server of that data runs already,
// started under another XDG_RUNTIME_DIR or TMPDIR (a login against a cron job), the place is that
// server's: one data directory never has two servers.
//
// InvalidArgument when a path is too long for a unix socket, saying the limit and what to set, and
// when `directory` is not absolute.
absl::StatusOr<EmbeddedPlace> FindEmbeddedPlace(std::string_view directory);

// Makes sure that the server of `place` accepts connections; starts it when it does not. Safe to
// call from many processes at once: one of them starts it. The server outlives the caller and
// shares nothing with it (descriptors, terminal, session, working directory, environment).
//
// Costs one lstat and one connect when the server runs. It may then still be loading its data: one
// that is started here has answered PING when this returns, one that was found has accepted a
// connection and no more.
//
// FailedPrecondition: a directory is not ours alone. Unavailable: no server is installed, or it
// ended at once (the message has the end of its log), or `timeout` passed.
absl::Status EnsureEmbedded(const EmbeddedPlace& place, absl::Duration timeout);

struct EmbeddedStatus {
  bool running = false;
  long pid = 0;
  std::string server;  // "redis 7.0.15"
};

// Asks the server itself. One that does not run is a status, not an error; DeadlineExceeded when it
// accepts a connection and does not answer.
absl::StatusOr<EmbeddedStatus> GetEmbeddedStatus(const EmbeddedPlace& place,
                                                 absl::Duration timeout);

// Stops it with its data saved; waits until the process is gone, DeadlineExceeded when it is not in
// time. OK when none runs.
absl::Status StopEmbedded(const EmbeddedPlace& place, absl::Duration timeout);

// embedded://?private: keeps nothing, belongs to this process and ends with it, however it ends.
//
// A small keeper process stands between: it holds the server as its child (parent-death signal),
// waits for the end of this object or of this process, kills the server and removes its directory.
// Not thread-safe.
class PrivateServer {
 public:
  // Unavailable: no server is installed, or it ended at once, or `timeout` passed; nothing is left
  // behind then.
  static absl::StatusOr<std::unique_ptr<PrivateServer>> Start(absl::Duration timeout);
  // Stops it and removes its directory; waits for that, 2 s at most. In a forked child: as
  // AbandonAfterFork().
  ~PrivateServer();
  PrivateServer(const PrivateServer&) = delete;
  PrivateServer& operator=(const PrivateServer&) = delete;

  const std::string& socket_path() const { return socket_path_; }
  long pid() const { return server_pid_; }
  // In a forked child: closes our descriptors and touches neither the server nor its files.
  void AbandonAfterFork();

 private:
  PrivateServer() = default;
  std::string socket_path_;
  std::string directory_;
  long server_pid_ = 0;
  long keeper_pid_ = 0;
  long owner_pid_ = 0;   // tells a forked child that forgot AbandonAfterFork()
  int control_fd_ = -1;  // our end of the keeper's socket; only our end of life closes it
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_EMBEDDED_H_
