// A real redis-server (or valkey-server) of the test's own.
//
//   RedisServer server;                            // unix socket, no memory
//   RedisServer durable({.append_only = true});
//   RedisServer remote({.port = 0});               // TCP on a free port, for a FaultProxy or a
//   replica server.Restart(RedisServer::Data::kDrop);
#ifndef COORD_TESTS_SUPPORT_REDIS_SERVER_H_
#define COORD_TESTS_SUPPORT_REDIS_SERVER_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/process.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {

struct RedisServerOptions {
  std::optional<int> port{};        // TCP on 127.0.0.1; 0: a free port; unset: none
  bool append_only = false;         // every write on disk before its reply; else nothing is kept
  std::string directory{};          // for data; empty: in the private directory
  std::vector<std::string> args{};  // added last: {"--requirepass", "secret"}
  std::string config{};             // text of a configuration file, which the server may rewrite
  bool sentinel = false;            // a Sentinel; `config` says what it monitors
  bool may_be_loading = false;      // started means: answers, be it -LOADING
  absl::Duration start_timeout = absl::Seconds(20);
};

struct ServerVersion {
  bool valkey = false;
  int major = 0;
  int minor = 0;
};

// Started by the constructor, killed by the destructor (its own pid, nothing else) and by the
// kernel when the test dies. Listens on a unix socket in a private directory always, on TCP when
// asked. A server that does not start ends the test program and shows the server's log. One thread
// at a time.
//
// The program is $COORD_TEST_SERVER, else redis-server, else valkey-server from PATH. With
// COORD_TEST_ACL=1 its default user has no more rights than README.md lists: acl_rights.h.
class RedisServer {
 public:
  enum class Data { kKeep, kDrop };

  explicit RedisServer(RedisServerOptions options = {});
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  void Kill();       // SIGKILL
  void Terminate();  // SIGTERM, and waits: an orderly shutdown
  void Pause();      // SIGSTOP; returns when it stands still
  void Resume();     // SIGCONT
  void Start();      // again, on the same socket and port, with the data that is left
  void Restart(Data data = Data::kKeep);  // Kill, drop what is on disk if asked, Start

  // TCP when there is a port, else the unix socket.
  std::string url() const { return port_ != 0 ? tcp_url() : unix_url(); }
  std::string unix_url() const { return "unix://" + socket_path(); }
  std::string tcp_url() const;
  std::string socket_path() const { return directory_.File("redis.sock"); }
  int port() const { return port_; }                            // 0: none
  pid_t pid() const { return process_ ? process_->pid() : 0; }  // 0: not started
  bool Running() { return process_ && process_->Running(); }
  const std::string& directory() const { return directory_.path(); }
  const std::string& data_directory() const { return data_directory_; }
  std::string log() const { return process_ ? process_->out() + process_->err() : ""; }

  static const std::string& Program();
  static ServerVersion Version();

 private:
  bool TryStart();  // false: it ended before it was ready
  std::vector<std::string> CommandLine() const;

  const RedisServerOptions options_;
  const TempDir directory_;
  const std::string data_directory_;
  int port_ = 0;
  std::optional<Process> process_;  // before the directory goes, the server has to
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_REDIS_SERVER_H_
