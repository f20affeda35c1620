#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "coord/deployment/embedded.h"
#include "coord/deployment/owned_fd.h"
#include "coord/deployment/private_directory.h"
#include "coord/deployment/remove_tree.h"
#include "coord/deployment/server_keeper.h"
#include "coord/deployment/server_start.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::string_view kSocketName = "/redis.sock";

// A fresh directory of ours alone.
absl::StatusOr<std::string> MakeDirectory() {
  constexpr std::string_view kTemplate = "/coord-private-XXXXXX";
  std::string parent = embedded::TemporaryDirectory();
  // Build systems and test runners give every test a TMPDIR deep in their tree. Nothing of a
  // private server is meant to be found by name, so the short way is taken without asking.
  if (parent.size() + kTemplate.size() + kSocketName.size() > embedded::kLongestSocketPath) {
    parent = "/tmp";
  }
  std::string path = StrCat(parent, kTemplate);
  if (mkdtemp(path.data()) == nullptr) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("cannot create a directory ", path, " for a private server: ",
                             embedded::ErrnoText(errno), "; set TMPDIR to a directory of yours"),
                      kUnavailable);
  }
  return path;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PrivateServer>> PrivateServer::Start(absl::Duration timeout) {
  const embedded::Deadline deadline(timeout);
  auto binary = embedded::FindServerBinary();
  if (!binary.ok()) return binary.status();
  auto directory = MakeDirectory();
  if (!directory.ok()) return directory.status();

  std::unique_ptr<PrivateServer> server(new PrivateServer);
  server->directory_ = *std::move(directory);
  server->socket_path_ = StrCat(server->directory_, kSocketName);
  server->owner_pid_ = getpid();
  embedded::ServerLaunch launch;
  launch.binary = *std::move(binary);
  launch.arguments = embedded::ServerArguments(server->socket_path_, server->directory_);
  launch.arguments.insert(launch.arguments.end(), {"--appendonly", "no"});
  launch.working_directory = server->directory_;
  launch.socket_path = server->socket_path_;
  launch.remove_directory = server->directory_;
  const embedded::ServerLog log(server->directory_);
  embedded::StartedServer started = embedded::StartServer(launch, log, deadline);
  server->control_fd_ = started.control.Release();
  server->server_pid_ = started.server_pid;
  server->keeper_pid_ = started.keeper_pid;
  // On failure the destructor does what is left to do.
  if (!started.status.ok()) return started.status;
  return server;
}

PrivateServer::~PrivateServer() {
  if (getpid() != owner_pid_) AbandonAfterFork();
  if (directory_.empty()) return;
  if (control_fd_ >= 0) {
    embedded::Dismiss(control_fd_);
    embedded::WaitUntilKeeperIsGone(control_fd_, keeper_pid_, embedded::Deadline(absl::Seconds(2)));
    close(control_fd_);
  }
  // The keeper has done this, unless it was never started, or somebody killed it.
  embedded::RemoveTree(directory_.c_str());
}

void PrivateServer::AbandonAfterFork() {
  if (control_fd_ >= 0) close(std::exchange(control_fd_, -1));
  directory_.clear();
}

}  // namespace coord::internal
