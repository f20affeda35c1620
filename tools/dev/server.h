// One real redis-server (or valkey-server) on this host, and what can be done to it.
//
//   absl::StatusOr<std::unique_ptr<dev::Server>> server = dev::Server::Start({.append_only =
//   true});
//   (*server)->Kill();
//   absl::Status status = (*server)->Restart();
#ifndef COORD_TOOLS_DEV_SERVER_H_
#define COORD_TOOLS_DEV_SERVER_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/owned_fd.h"
#include "coord/deployment/process_watch.h"
#include "coord/reply.h"
#include "tools/dev/commands.h"
#include "tools/dev/directory.h"

namespace coord::dev {

// PEM files.
struct TlsFiles {
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
};

struct ServerOptions {
  std::optional<int> port = 0;          // TCP on 127.0.0.1; 0: a free one; unset: none
  std::optional<TlsFiles> tls{};        // then the port speaks TLS only
  bool client_certificates = false;     // TLS: refuse clients that show none
  Credentials credentials{};            // what clients must log in with
  bool sentinel = false;                // a Sentinel; `settings` say what it monitors
  bool append_only = false;             // every write on disk before its reply; else no data kept
  std::vector<std::string> settings{};  // lines of its configuration: "maxmemory 1mb"
  std::string directory{};              // an existing one of the caller's; empty: one of its own
  absl::Duration start_timeout = absl::Seconds(20);
};

// Ended by the destructor, and when this process ends, however it does: by a process between the
// two (coord/deployment/server_keeper.h), not by the end of the thread that started it. In a forked
// child the destructor does nothing. One thread at a time.
//
// The program is $COORD_TEST_SERVER, else redis-server, else valkey-server from PATH.
class Server {
 public:
  enum class Data { kKeep, kDrop };

  // Waits until it answers, and takes another free port when it loses the first to somebody.
  // Unavailable with the end of its log: it does not start, or there is no program.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Each returns when it is done, and does nothing to a server that does not run.
  void Kill();       // SIGKILL
  void Terminate();  // SIGTERM: an orderly shutdown
  void Pause();      // SIGSTOP
  void Resume();     // SIGCONT
  // Kills it if it runs, drops what is on disk if asked, and starts it on the same port, with the
  // configuration that it last wrote.
  absl::Status Restart(Data data = Data::kKeep);

  bool Running() const { return watch_ && !watch_->Gone(); }  // also while it is paused
  bool paused() const { return paused_; }
  pid_t pid() const { return pid_; }                               // of the last start
  int port() const { return port_; }                               // 0: none
  const std::string& socket_path() const { return socket_path_; }  // plain, always there
  std::string data_directory() const { return directory_ + "/data"; }
  // redis://127.0.0.1:port, rediss://localhost:port?ca_file=..., or unix:///path without a port.
  // Without the password.
  std::string url() const;
  std::string log() const;  // of all starts

  // A command on the unix socket, logged in. The server's errors are replies.
  absl::StatusOr<Reply> Command(const std::vector<std::string>& words,
                                absl::Duration timeout = absl::Seconds(10)) {
    return commands_->Run(words, timeout);
  }
  // The same where an error is a failure: FailedPrecondition, with the command and the error.
  absl::StatusOr<Reply> Ask(const std::vector<std::string>& words,
                            absl::Duration timeout = absl::Seconds(10));
  // A field of INFO; "" when there is none.
  absl::StatusOr<std::string> Info(const std::string& section, const std::string& field);

 private:
  explicit Server(ServerOptions options);
  absl::Status StartFirst();
  absl::Status Launch();
  absl::Status WriteConfiguration() const;
  void WaitUntilGone();

  const ServerOptions options_;
  const pid_t owner_;
  std::unique_ptr<Directory> own_directory_;
  std::string directory_;  // redis.conf, redis.log, data/, run/
  std::string socket_path_;
  int port_ = 0;
  pid_t pid_ = 0;
  long keeper_pid_ = 0;
  bool paused_ = false;
  internal::embedded::OwnedFd control_;  // of the keeper
  std::optional<internal::embedded::ProcessWatch> watch_;
  std::optional<Commands> commands_;
};

// For a configuration file: in quotes.
std::string ConfigText(std::string_view text);

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_SERVER_H_
