#include "coord/deployment/embedded.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include "coord/deployment/life_lock.h"
#include "coord/deployment/owned_fd.h"
#include "coord/deployment/private_directory.h"
#include "coord/deployment/process_watch.h"
#include "coord/deployment/server_keeper.h"
#include "coord/deployment/server_probe.h"
#include "coord/deployment/server_start.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using embedded::Ask;
using embedded::Connection;
using embedded::ConnectOnce;
using embedded::Deadline;
using embedded::ErrnoText;
using embedded::FindLifeLockHolder;
using embedded::LifeLockHolder;
using embedded::OwnedFd;

constexpr int kStepMs = 2;

void Pause(const Deadline& deadline) { poll(nullptr, 0, deadline.PollTimeout(kStepMs)); }

absl::Status CannotConnect(const EmbeddedPlace& place, int fault) {
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("cannot connect to ", place.socket_path, ": ", ErrnoText(fault)),
                    kUnavailable);
}

std::string StartLockPath(const EmbeddedPlace& place) {
  return StrCat(place.socket_dir, "/start.lock");
}

// The lock that one process holds while it starts or stops the server. Not valid when another has
// it; an error when it cannot be opened.
absl::StatusOr<OwnedFd> TryStartLock(const EmbeddedPlace& place) {
  const std::string path = StartLockPath(place);
  OwnedFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("cannot open the lock file ", path, ": ", ErrnoText(errno)),
                      kUnavailable);
  }
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return OwnedFd();
  // Whatever cleans temporary directories may have removed the file that we locked: then others
  // lock another one.
  struct stat locked;
  struct stat named;
  if (fstat(fd.get(), &locked) != 0 || stat(path.c_str(), &named) != 0 ||
      locked.st_ino != named.st_ino || locked.st_dev != named.st_dev) {
    return OwnedFd();
  }
  return fd;
}

// With the start lock held, and nobody having the data.
absl::Status StartShared(const EmbeddedPlace& place, const Deadline& deadline) {
  auto binary = embedded::FindServerBinary();
  if (!binary.ok()) return binary.status();
  const OwnedFd life_lock = embedded::OpenLifeLock(place.data_dir);
  if (!life_lock.valid()) {
    return MakeStatus(
        absl::StatusCode::kUnavailable,
        StrCat("cannot write in the directory ", place.data_dir, ": ", ErrnoText(errno)),
        kUnavailable);
  }
  embedded::ServerLaunch launch;
  launch.binary = *std::move(binary);
  launch.arguments = embedded::ServerArguments(place.socket_path, place.data_dir);
  launch.arguments.insert(launch.arguments.end(),
                          {"--appendonly", "yes", "--appendfsync", "everysec"});
  launch.working_directory = place.data_dir;
  launch.socket_path = place.socket_path;
  launch.life_lock_fd = life_lock.get();
  const embedded::ServerLog log(place.data_dir);
  const embedded::StartedServer started = embedded::StartServer(launch, log, deadline);
  if (started.control.valid()) {
    // A server that is slow to load stays: the next caller finds it.
    embedded::Dismiss(started.control.get());
    embedded::WaitUntilKeeperIsGone(started.control.get(), started.keeper_pid,
                                    Deadline(absl::Milliseconds(100)));
  }
  return started.status;
}

// What keeps the server from answering and us from starting one.
absl::Status GaveUpWaiting(const EmbeddedPlace& place, const LifeLockHolder& holder) {
  if (!holder.held) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("no server answered at ", place.socket_path,
                             " in time; another process holds ", StartLockPath(place),
                             " and is starting or stopping it: try again, or with more time"),
                      kUnavailable);
  }
  return MakeStatus(
      absl::StatusCode::kUnavailable,
      StrCat("the server of ", place.data_dir, " (pid ", holder.pid,
             ") does not accept connections at ", place.socket_path,
             ": it is starting, ending or stuck, or its socket was removed; try again, or stop it "
             "(coord embedded stop)"),
      kUnavailable);
}

// Stops a server that has the data and no socket (it is just starting, or the socket was removed).
absl::Status TerminateHolder(const EmbeddedPlace& place, const Deadline& deadline) {
  const LifeLockHolder holder = FindLifeLockHolder(place.data_dir);
  if (!holder.held) return absl::OkStatus();
  const embedded::ProcessWatch watch(holder.pid);
  // Looked at again, now that `watch` cannot mean a later process of that number.
  const LifeLockHolder now = FindLifeLockHolder(place.data_dir);
  if (!now.held) return absl::OkStatus();
  if (holder.pid <= 0 || now.pid != holder.pid || !watch.Signal(SIGTERM)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("the server of ", place.data_dir, " (pid ", now.pid,
                             ") does not accept connections at ", place.socket_path,
                             " and cannot be signalled from here"));
  }
  if (watch.WaitUntilGone(deadline)) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                    StrCat("the server of ", place.data_dir, " (pid ", holder.pid,
                           ") has not ended after SIGTERM; see its log there"));
}

// The process that listens at the other end, as the kernel has it; 0 in another pid namespace.
long ListenerPid(int fd) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

absl::Status ShutDown(const EmbeddedPlace& place, int fd, const Deadline& deadline) {
  const long pid = ListenerPid(fd);
  const std::string who = StrCat("the server at ", place.socket_path, " (pid ", pid, ")");
  const embedded::ProcessWatch watch(pid);
  // An answer shows that the process that `watch` got is the server, not a later one of that
  // number.
  if (auto reply = Ask(fd, "PING", deadline); !reply.ok()) return Annotate(reply.status(), who);
  // With the append-only file on and no snapshots configured this writes and syncs that file.
  const auto reply = Ask(fd, "SHUTDOWN", deadline);
  if (reply.ok()) {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat(who, " refuses to stop: ", *reply, "; see the log in ", place.data_dir));
  }
  const bool gone =
      pid > 0 ? watch.WaitUntilGone(deadline) : !absl::IsDeadlineExceeded(reply.status());
  while (gone && !deadline.Passed()) {
    if (ConnectOnce(place.socket_path).state == Connection::State::kNobody) {
      return absl::OkStatus();
    }
    Pause(deadline);
  }
  return MakeStatus(
      absl::StatusCode::kDeadlineExceeded,
      StrCat(who, " was told to stop and has not ended; see the log in ", place.data_dir),
      kOutcomeUnknown);
}

}  // namespace

absl::Status EnsureEmbedded(const EmbeddedPlace& place, absl::Duration timeout) {
  absl::Status directory = embedded::CheckPrivateDirectory(place.socket_dir);
  if (directory.ok() && ConnectOnce(place.socket_path).state == Connection::State::kConnected) {
    return absl::OkStatus();
  }
  const Deadline deadline(timeout);
  directory = embedded::CreatePrivateDirectory(place.socket_dir);
  if (!directory.ok()) return directory;
  directory = embedded::CreatePrivateDirectory(place.data_dir);
  if (!directory.ok()) return directory;
  for (;;) {
    const auto lock = TryStartLock(place);
    if (!lock.ok()) return lock.status();
    // Also without the lock: whoever has it starts the server that all others wait for.
    const Connection connection = ConnectOnce(place.socket_path);
    if (connection.state == Connection::State::kConnected) return absl::OkStatus();
    if (connection.state == Connection::State::kFault) {
      return CannotConnect(place, connection.fault);
    }
    LifeLockHolder holder;
    if (lock->valid() && connection.state == Connection::State::kNobody) {
      holder = FindLifeLockHolder(place.data_dir);
      if (!holder.held) return StartShared(place, deadline);
    }
    if (deadline.Passed()) return GaveUpWaiting(place, holder);
    Pause(deadline);
  }
}

absl::StatusOr<EmbeddedStatus> GetEmbeddedStatus(const EmbeddedPlace& place,
                                                 absl::Duration timeout) {
  const Deadline deadline(timeout);
  EmbeddedStatus status;
  const absl::Status directory = embedded::CheckPrivateDirectory(place.socket_dir);
  if (absl::IsNotFound(directory)) return status;
  if (!directory.ok()) return directory;
  absl::StatusOr<std::string> info;
  std::string who;
  for (;;) {
    const Connection connection = ConnectOnce(place.socket_path);
    if (connection.state == Connection::State::kNobody) return status;
    if (connection.state == Connection::State::kConnected) {
      who = StrCat("the server at ", place.socket_path, " (pid ", ListenerPid(connection.fd.get()),
                   ")");
      info = Ask(connection.fd.get(), "INFO server", deadline);
      if (info.ok()) break;
    } else {
      info = CannotConnect(place, connection.fault);
    }
    // A connection that breaks is a server that ends: the next look finds none, or another.
    if (connection.state == Connection::State::kFault || !absl::IsUnavailable(info.status()) ||
        deadline.Passed()) {
      return Annotate(info.status(), who.empty() ? "embedded server" : who);
    }
    Pause(deadline);
  }
  const auto pid = ParseInt64(embedded::InfoField(*info, "process_id"));
  if (!pid) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat(who, " does not tell about itself: ", Quoted(*info)));
  }
  status.running = true;
  status.pid = static_cast<long>(*pid);
  // Valkey calls itself redis too, of the version that it is compatible with.
  const std::string_view valkey = embedded::InfoField(*info, "valkey_version");
  status.server = valkey.empty() ? StrCat("redis ", embedded::InfoField(*info, "redis_version"))
                                 : StrCat("valkey ", valkey);
  return status;
}

absl::Status StopEmbedded(const EmbeddedPlace& place, absl::Duration timeout) {
  const Deadline deadline(timeout);
  const absl::Status directory = embedded::CheckPrivateDirectory(place.socket_dir);
  // Without that directory there is nothing to lock, and a server only if somebody removed it.
  if (absl::IsNotFound(directory)) return TerminateHolder(place, deadline);
  if (!directory.ok()) return directory;
  for (;;) {
    const auto lock = TryStartLock(place);
    if (!lock.ok()) return lock.status();
    Connection connection;
    if (lock->valid()) {
      connection = ConnectOnce(place.socket_path);
      if (connection.state == Connection::State::kConnected) {
        const absl::Status stopped = ShutDown(place, connection.fd.get(), deadline);
        // It was ending already: look again for what is left.
        if (!absl::IsUnavailable(stopped) || deadline.Passed()) return stopped;
      }
      if (connection.state == Connection::State::kNobody) return TerminateHolder(place, deadline);
      if (connection.state == Connection::State::kFault) {
        return CannotConnect(place, connection.fault);
      }
    }
    if (deadline.Passed()) {
      return MakeStatus(absl::StatusCode::kDeadlineExceeded,
                        lock->valid() ? StrCat("the server at ", place.socket_path,
                                               " accepts no connection in time to be told to stop")
                                      : StrCat("another process holds ", StartLockPath(place),
                                               " and is starting or stopping the server"));
    }
    Pause(deadline);
  }
}

}  // namespace coord::internal
