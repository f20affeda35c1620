#include "tools/dev/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "coord/deployment/private_directory.h"
#include "coord/deployment/remove_tree.h"
#include "coord/deployment/server_keeper.h"
#include "coord/deployment/server_probe.h"
#include "coord/deployment/server_start.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/dev/ports.h"

namespace coord::dev {
namespace {

using internal::FromAbsl;
using internal::MakeStatus;
using internal::StrCat;
using internal::embedded::Deadline;
using internal::embedded::ErrnoText;

absl::StatusOr<std::string> FindProgram() {
  const char* const chosen = std::getenv("COORD_TEST_SERVER");
  if (chosen == nullptr || *chosen == '\0') return internal::embedded::FindServerBinary();
  const std::string program = chosen;
  if (program.starts_with('/')) return program;
  std::string found = internal::embedded::FindInPath(program);
  if (found.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("no ", program, " in PATH, which COORD_TEST_SERVER names"));
  }
  return found;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("cannot make the directory ", path, ": ", ErrnoText(errno)));
}

// Whether all has come to rest, as /proc has it; also when it is gone.
bool IsStopped(pid_t pid) {
  const std::string status = ReadFile(StrCat("/proc/", pid, "/status"));
  const std::size_t at = status.find("State:\t");
  return at == std::string::npos || status[at + 7] == 'T' || status[at + 7] == 'Z';
}

}  // namespace

std::string ConfigText(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

Server::Server(ServerOptions options) : options_(std::move(options)), owner_(getpid()) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  std::unique_ptr<Server> server(new Server(std::move(options)));
  if (absl::Status status = server->StartFirst(); !status.ok()) return status;
  return server;
}

absl::Status Server::StartFirst() {
  directory_ = options_.directory;
  if (directory_.empty()) {
    absl::StatusOr<std::unique_ptr<Directory>> made = Directory::Make();
    if (!made.ok()) return made.status();
    own_directory_ = *std::move(made);
    directory_ = own_directory_->path();
  }
  socket_path_ = directory_ + "/run/redis.sock";
  commands_.emplace(socket_path_, options_.credentials);
  absl::Status status;
  for (int attempt = 0; attempt < 5; ++attempt) {
    port_ = options_.port.value_or(0);
    if (options_.port == 0) {
      const absl::StatusOr<int> port = FreePort();
      if (!port.ok()) return port.status();
      port_ = *port;
    }
    if (status = WriteConfiguration(); !status.ok()) return status;
    if (status = Launch(); status.ok()) return status;
    // Somebody may have taken the free port before the server did.
    const bool taken = FromAbsl(status.message()).find("already in use") != std::string_view::npos;
    if (!taken || options_.port != 0) break;
  }
  return status;
}

absl::Status Server::WriteConfiguration() const {
  std::ofstream file(directory_ + "/redis.conf", std::ios::trunc);
  file << "bind 127.0.0.1\n";
  if (options_.tls && port_ != 0) {
    file << "port 0\ntls-port " << port_ << "\ntls-ca-cert-file "
         << ConfigText(options_.tls->ca_file) << "\ntls-cert-file "
         << ConfigText(options_.tls->cert_file) << "\ntls-key-file "
         << ConfigText(options_.tls->key_file) << "\ntls-auth-clients "
         << (options_.client_certificates ? "yes" : "no") << '\n';
  } else {
    file << "port " << port_ << '\n';
  }
  file << "unixsocket " << ConfigText(socket_path_) << "\nunixsocketperm 700\ndaemonize no\n"
       << "dir " << ConfigText(data_directory()) << "\nlogfile "
       << ConfigText(directory_ + "/redis.log") << '\n';
  const auto& [user, password] = options_.credentials;
  if (!password.empty()) file << "requirepass " << ConfigText(password) << '\n';
  if (!options_.sentinel) {
    file << "save \"\"\nmaxmemory-policy noeviction\n";
    if (!user.empty())
      file << "user " << user << " on ~* &* +@all " << ConfigText(">" + password) << '\n';
    if (!password.empty()) file << "masterauth " << ConfigText(password) << '\n';
    if (!password.empty() && !user.empty()) file << "masteruser " << user << '\n';
    if (options_.append_only) file << "appendonly yes\nappendfsync always\n";
  }
  for (const std::string& line : options_.settings) file << line << '\n';
  file.close();
  if (file) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("cannot write ", directory_, "/redis.conf"));
}

absl::Status Server::Launch() {
  absl::StatusOr<std::string> program = FindProgram();
  if (!program.ok()) return program.status();
  internal::embedded::ServerLaunch launch;
  launch.binary = *std::move(program);
  launch.arguments = {directory_ + "/redis.conf"};
  if (options_.sentinel) launch.arguments.push_back("--sentinel");
  launch.working_directory = data_directory();
  launch.socket_path = socket_path_;
  // What the keeper removes when the server has ended; the rest must stay for the next start.
  launch.remove_directory = directory_ + "/run";
  for (const std::string& path : {launch.working_directory, launch.remove_directory}) {
    if (absl::Status status = MakeDirectory(path); !status.ok()) return status;
  }
  const internal::embedded::ServerLog log(directory_);
  internal::embedded::StartedServer started =
      internal::embedded::StartServer(launch, log, Deadline(options_.start_timeout));
  control_ = std::move(started.control);
  keeper_pid_ = started.keeper_pid;
  pid_ = static_cast<pid_t>(started.server_pid);
  watch_.reset();
  if (pid_ > 0) watch_.emplace(pid_);
  paused_ = false;
  if (!started.status.ok()) Kill();
  return started.status;
}

Server::~Server() {
  if (getpid() == owner_) Kill();
}

// The keeper goes when the server has gone, and its directory.
void Server::WaitUntilGone() {
  if (control_.valid()) {
    internal::embedded::Dismiss(control_.get());
    internal::embedded::WaitUntilKeeperIsGone(control_.get(), keeper_pid_,
                                              Deadline(absl::Seconds(10)));
    control_.Close();
  }
  if (commands_) commands_->Close();
  watch_.reset();
  paused_ = false;
}

void Server::Kill() { WaitUntilGone(); }  // to be dismissed is the keeper's sign to kill

void Server::Terminate() {
  if (!Running()) return;
  Resume();
  watch_->Signal(SIGTERM);
  watch_->WaitUntilGone(Deadline(absl::Seconds(30)));
  WaitUntilGone();
}

void Server::Pause() {
  if (!Running()) return;
  watch_->Signal(SIGSTOP);
  paused_ = true;
  while (!IsStopped(pid_)) poll(nullptr, 0, 1);
}

void Server::Resume() {
  if (Running()) watch_->Signal(SIGCONT);
  paused_ = false;
}

absl::Status Server::Restart(Data data) {
  Kill();
  if (data == Data::kDrop) internal::embedded::RemoveTree(data_directory().c_str());
  return Launch();
}

std::string Server::url() const {
  if (port_ == 0) return "unix://" + socket_path_;
  if (!options_.tls) return StrCat("redis://127.0.0.1:", port_);
  return StrCat("rediss://localhost:", port_, "?ca_file=", options_.tls->ca_file);
}

std::string Server::log() const { return ReadFile(directory_ + "/redis.log"); }

absl::StatusOr<Reply> Server::Ask(const std::vector<std::string>& words, absl::Duration timeout) {
  absl::StatusOr<Reply> reply = Command(words, timeout);
  if (!reply.ok() || !reply->is_error()) return reply;
  const std::string second = words.size() > 1 ? StrCat(" ", words[1]) : "";
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat(words[0], second, " at port ", port_, ": ", reply->text()));
}

absl::StatusOr<std::string> Server::Info(const std::string& section, const std::string& field) {
  absl::StatusOr<Reply> info = Ask({"INFO", section});
  if (!info.ok()) return info.status();
  return std::string(internal::embedded::InfoField(info->text(), field));
}

}  // namespace coord::dev
