#include "tests/support/redis_server.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "coord/internal/strings.h"
#include "tests/support/acl_rights.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/sockets.h"
#include "tests/support/wait.h"

namespace coord::testing {

RedisServer::RedisServer(RedisServerOptions options)
    : options_(std::move(options)),
      data_directory_(options_.directory.empty() ? directory_.File("data") : options_.directory) {
  std::filesystem::create_directories(data_directory_);
  if (!options_.config.empty()) std::ofstream(directory_.File("redis.conf")) << options_.config;
  // Another test may take the free port before the server does.
  for (int attempt = 0; attempt < 5; ++attempt) {
    if (options_.port) port_ = *options_.port != 0 ? *options_.port : FreePort();
    if (TryStart()) return;
    if (options_.port != 0) break;
  }
  Fatal(Program() + " does not start:\n" + log());
}

void RedisServer::Kill() {
  if (process_) process_->Kill();
}

void RedisServer::Terminate() {
  if (!process_) return;
  process_->Resume();
  process_->Signal(SIGTERM);
  process_->Wait();
}

void RedisServer::Pause() {
  if (process_) process_->Pause();
}

void RedisServer::Resume() {
  if (process_) process_->Resume();
}

void RedisServer::Start() {
  if (Running()) return;
  if (!TryStart()) Fatal(Program() + " does not start again:\n" + log());
}

void RedisServer::Restart(Data data) {
  Kill();
  if (data == Data::kDrop) {
    std::filesystem::remove_all(data_directory_);
    std::filesystem::create_directories(data_directory_);
  }
  Start();
}

std::string RedisServer::tcp_url() const {
  if (port_ == 0) Fatal("this server has no TCP port: RedisServer({.port = 0})");
  return internal::StrCat("redis://127.0.0.1:", port_);
}

bool RedisServer::TryStart() {
  process_.emplace(CommandLine());
  const bool answered = Eventually(
      [this] {
        if (!process_->Running()) return true;
        const Reply reply = RawRedis(unix_url(), absl::Seconds(1)).Command({"PING"});
        // Any other error (a password is wanted, say) comes from a server that is ready.
        const bool loading = reply.text().starts_with("LOADING");
        return !RawRedis::IsConnectionError(reply) && (options_.may_be_loading || !loading);
      },
      options_.start_timeout);
  if (!answered) Fatal(Program() + " is not ready in time:\n" + log());
  return process_->Running();
}

std::vector<std::string> RedisServer::CommandLine() const {
  std::vector<std::string> line = {Program()};
  if (!options_.config.empty()) line.push_back(directory_.File("redis.conf"));
  if (options_.sentinel) line.push_back("--sentinel");
  const auto add = [&line](std::string name, std::string value) {
    line.push_back(std::move(name));
    line.push_back(std::move(value));
  };
  add("--port", std::to_string(port_));
  add("--bind", "127.0.0.1");
  add("--unixsocket", socket_path());
  add("--unixsocketperm", "700");
  add("--dir", data_directory_);
  add("--daemonize", "no");
  add("--save", "");
  if (options_.append_only) {
    add("--appendonly", "yes");
    add("--appendfsync", "always");
  }
  if (Version().major >= 7) add("--enable-debug-command", "yes");
  if (LeastRights() && !options_.sentinel) {
    const auto add_user = [&line](const char* name, const std::vector<std::string>& rules) {
      line.insert(line.end(), {"--user", name, "on"});
      line.insert(line.end(), rules.begin(), rules.end());
    };
    // Whoever says nothing about a user is this one: the library with the URLs that tests give it.
    std::vector<std::string> rules = AclRules(Version());
    // Tests use prefixes and plain keys of their own.
    rules.insert(rules.end(), {"~*", "&*", "nopass"});
    add_user("default", rules);
    add_user(kAdmin, {"~*", "&*", "+@all", internal::StrCat(">", kAdminPassword)});
    // A replica's link to its master is not the library's.
    add("--masteruser", kAdmin);
    add("--masterauth", kAdminPassword);
  }
  line.insert(line.end(), options_.args.begin(), options_.args.end());
  return line;
}

const std::string& RedisServer::Program() {
  static const std::string program = [] {
    const char* const chosen = std::getenv("COORD_TEST_SERVER");
    if (chosen != nullptr && *chosen != '\0') return std::string(chosen);
    for (const char* name : {"redis-server", "valkey-server"}) {
      if (RunProgram({name, "--version"}).ok()) return std::string(name);
    }
    Fatal("neither redis-server nor valkey-server in PATH; install one or set COORD_TEST_SERVER");
  }();
  return program;
}

ServerVersion RedisServer::Version() {
  static const ServerVersion version = [] {
    // "Redis server v=7.0.15 sha=..." or "Valkey server v=8.0.1 sha=..."
    const std::string text = RunProgram({Program(), "--version"}).out;
    ServerVersion result;
    result.valkey = text.starts_with("Valkey");
    const std::size_t at = text.find("v=");
    if (at == std::string::npos) Fatal("cannot read the version in: " + text);
    char* end = nullptr;
    result.major = static_cast<int>(std::strtol(text.c_str() + at + 2, &end, 10));
    if (*end == '.') result.minor = static_cast<int>(std::strtol(end + 1, nullptr, 10));
    return result;
  }();
  return version;
}

}  // namespace coord::testing
