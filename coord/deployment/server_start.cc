#include "coord/deployment/server_start.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "coord/deployment/life_lock.h"
#include "coord/deployment/private_directory.h"
#include "coord/deployment/server_probe.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

absl::Status NotStarted(std::string_view message) {
  return MakeStatus(absl::StatusCode::kUnavailable, message, kUnavailable);
}

std::string LogPath(const std::string& data_dir) { return StrCat(data_dir, "/redis.log"); }

// The binary and its flags, as one would type them to see for oneself.
std::string CommandLine(const ServerLaunch& launch) {
  std::string line = launch.binary;
  for (const std::string& argument : launch.arguments) {
    line += argument.empty() ? " ''" : StrCat(" ", argument);
  }
  return line;
}

std::string ExitText(int status) {
  return WIFSIGNALED(status) ? StrCat("was killed by signal ", WTERMSIG(status))
                             : StrCat("ended with exit status ", WEXITSTATUS(status));
}

// The failure that `report` tells of.
absl::Status ReportedFailure(const KeeperReport& report, const ServerLaunch& launch,
                             const ServerLog& log) {
  const std::string what = StrCat("cannot start ", launch.binary, ": ");
  switch (report.kind) {
    case KeeperReport::kExited:
      return NotStarted(StrCat("the server (pid ", report.server, ") ", ExitText(report.detail),
                               " before it answered", log.Tail(),
                               "; tried: ", CommandLine(launch)));
    case KeeperReport::kNotForked:
      return NotStarted(StrCat(what, "fork: ", ErrnoText(report.detail)));
    case KeeperReport::kNoDirectory:
      return NotStarted(
          StrCat(what, "cannot enter ", launch.working_directory, ": ", ErrnoText(report.detail)));
    case KeeperReport::kNotExecuted:
      return NotStarted(StrCat(what, "exec: ", ErrnoText(report.detail)));
    case KeeperReport::kDataInUse: {
      const LifeLockHolder holder = FindLifeLockHolder(launch.working_directory);
      return NotStarted(StrCat("the data in ", launch.working_directory,
                               " is in use by another server (pid ", holder.pid, ", socket ",
                               holder.socket_path, ") that has just been started; try again"));
    }
    default:
      return NotStarted(StrCat(what, "the process that watches over its start has been killed"));
  }
}

// As execvp() does it: a PATH that is set is meant.
std::string SearchPath() {
  const char* value = std::getenv("PATH");
  return value != nullptr && value[0] != '\0' ? value : "/usr/local/bin:/usr/bin:/bin";
}

}  // namespace

std::string FindInPath(std::string_view name) {
  const std::string path = SearchPath();
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    const std::string_view directory = std::string_view(path).substr(start, end - start);
    start = end + 1;
    // Relative ones mean whatever directory the caller is in.
    if (!directory.starts_with('/')) continue;
    const std::string candidate = StrCat(directory, "/", name);
    struct stat found;
    if (stat(candidate.c_str(), &found) == 0 && S_ISREG(found.st_mode) &&
        access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
  }
  return "";
}

absl::StatusOr<std::string> FindServerBinary() {
  for (const std::string_view name : {"redis-server", "valkey-server"}) {
    if (std::string found = FindInPath(name); !found.empty()) return found;
  }
  return NotStarted(
      StrCat("no redis-server and no valkey-server in PATH (", SearchPath(),
             "); install one (apt-get install redis-server), or name a running server by its URL "
             "(COORD_URL=redis://host:6379)"));
}

std::vector<std::string> ServerArguments(const std::string& socket_path,
                                         const std::string& data_dir) {
  return {"--port", "0",         "--unixsocket",       socket_path,   "--dir",
          data_dir, "--logfile", LogPath(data_dir),    "--daemonize", "no",
          "--save", "",          "--maxmemory-policy", "noeviction"};
}

ServerLog::ServerLog(const std::string& data_dir)
    : path_(LogPath(data_dir)),
      fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)) {
  struct stat found;
  if (fd_.valid() && fstat(fd_.get(), &found) == 0) start_ = found.st_size;
}

std::string ServerLog::Tail() const {
  constexpr off_t kShownBytes = 2048;
  constexpr int kShownLines = 5;
  struct stat found;
  if (!fd_.valid() || fstat(fd_.get(), &found) != 0 || found.st_size <= start_) {
    return StrCat(", with nothing in its log ", path_);
  }
  std::string text(static_cast<std::size_t>(kShownBytes), '\0');
  const ssize_t size =
      pread(fd_.get(), text.data(), text.size(), std::max(start_, found.st_size - kShownBytes));
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::size_t first = text.size();
  for (int lines = 0; lines < kShownLines && first != 0 && first != std::string::npos; ++lines) {
    first = text.rfind('\n', first - 1);
  }
  if (first != std::string::npos) text.erase(0, first);
  std::string shown = StrCat("; the end of its log ", path_, ":");
  bool separate = true;
  for (const char character : text) {
    if (character == '\n') {
      separate = true;
    } else if (static_cast<unsigned char>(character) >= 0x20 && character != 0x7f) {
      if (separate) shown += " | ";
      separate = false;
      shown += character;
    }
  }
  return shown;
}

StartedServer StartServer(const ServerLaunch& launch, const ServerLog& log,
                          const Deadline& deadline) {
  StartedServer started;
  auto control = LaunchServer(launch);
  if (!control.ok()) {
    started.status = control.status();
    return started;
  }
  started.control = *std::move(control);
  std::string answer = "no connection";
  for (bool ready = false; !ready || started.server_pid == 0;) {
    if (deadline.Passed()) {
      started.status =
          NotStarted(StrCat("the server at ", launch.socket_path, " (pid ", started.server_pid,
                            ") did not answer in time: ", answer, log.Tail()));
      return started;
    }
    // The wait between two attempts, cut short by whatever the keeper has to tell.
    if (const auto report = NextReport(started.control.get(), deadline.PollTimeout(1))) {
      if (report->kind != KeeperReport::kStarted) {
        started.status = ReportedFailure(*report, launch, log);
        return started;
      }
      started.server_pid = report->server;
      started.keeper_pid = report->detail;
      continue;
    }
    if (ready) continue;
    const Connection connection = ConnectOnce(launch.socket_path);
    if (connection.state != Connection::State::kConnected) {
      answer = StrCat("no connection: ", ErrnoText(connection.fault));
      continue;
    }
    const auto reply = Ask(connection.fd.get(), "PING", deadline);
    answer = reply.ok() ? *reply : std::string(FromAbsl(reply.status().message()));
    ready = answer == "+PONG" || answer.starts_with("-NOAUTH");
  }
  return started;
}

}  // namespace coord::internal::embedded
