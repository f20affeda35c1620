// Servers of our own, against a real redis-server: who starts them, what they share, how they end.
#include "coord/deployment/embedded.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "coord/errors.h"

namespace coord::internal {
namespace {

namespace fs = std::filesystem;
using ::testing::Test;

constexpr absl::Duration kEnough = absl::Seconds(20);

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// Waits for `condition`; false when it does not come true within `limit`.
bool Eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    poll(nullptr, 0, 2);
  }
  return true;
}

// Gone, or a zombie that init has not waited for yet, with all of its threads.
bool IsGone(long pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  const std::string stat = ReadFile(proc + "/stat");
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return true;
  std::error_code gone;
  return stat[name_end + 2] == 'Z' &&
         std::distance(fs::directory_iterator(proc + "/task", gone), fs::directory_iterator()) <= 1;
}

long SessionOf(long pid) { return getsid(static_cast<pid_t>(pid)); }

void Kill(long pid, int signal = SIGKILL) {
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(static_cast<pid_t>(pid), signal), 0);
}

// What the descriptors of `pid` are.
std::map<int, std::string> OpenFiles(long pid) {
  std::map<int, std::string> files;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    std::error_code closed_meanwhile;
    const std::string target = fs::read_symlink(entry.path(), closed_meanwhile);
    if (!closed_meanwhile) files[std::stoi(entry.path().filename())] = target;
  }
  return files;
}

// Stops it as SIGSTOP does; returns when it stands.
void Halt(long pid) {
  Kill(pid, SIGSTOP);
  EXPECT_TRUE(Eventually(
      [&] { return Contains(ReadFile("/proc/" + std::to_string(pid) + "/stat"), ") T "); }));
}

// One inline command; line number `line` of the answer, or "" without a server.
std::string AskServer(const std::string& socket_path, const std::string& command, int line = 1) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof(address.sun_path) - 1);
  std::string answer;
  const std::string request = command + "\r\n";
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    while (line-- > 0) {
      answer.clear();
      char character = 0;
      while (recv(fd, &character, 1, 0) == 1 && character != '\n') {
        if (character != '\r') answer += character;
      }
    }
  }
  close(fd);
  return answer;
}

// The redis-server processes that listen at `socket_path`, by the titles that they give themselves.
std::set<long> ServersAt(const std::string& socket_path) {
  std::set<long> pids;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string command = ReadFile(entry.path() / "cmdline");
    if (Contains(command, "redis-server") && Contains(command, socket_path) &&
        !IsGone(std::stol(name))) {
      pids.insert(std::stol(name));
    }
  }
  return pids;
}

// Runs `body` in a child, which ends with what it returns.
pid_t Fork(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  return child;
}

int ExitStatusOf(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class EmbeddedTest : public Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/coord embedded-XXXXXX";  // with a blank, as directories of users have
    ASSERT_NE(mkdtemp(path), nullptr);
    root_ = path;
    for (const char* name : {"run", "state", "tmp"}) fs::create_directory(root_ + "/" + name);
    SetVariable("XDG_RUNTIME_DIR", root_ + "/run");
    SetVariable("XDG_STATE_HOME", root_ + "/state");
    SetVariable("TMPDIR", root_ + "/tmp");
    place_ = *FindEmbeddedPlace("");
  }

  void TearDown() override {
    EXPECT_TRUE(StopEmbedded(place_, kEnough).ok());
    EXPECT_TRUE(ServersAt(root_ + "/").empty());
    EXPECT_TRUE(fs::is_empty(root_ + "/tmp"));
    for (const auto& [name, value] : before_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
    fs::remove_all(root_);
  }

  void SetVariable(const std::string& name, std::optional<std::string> value) {
    const char* old = getenv(name.c_str());
    before_.try_emplace(name, old != nullptr ? std::optional<std::string>(old) : std::nullopt);
    if (value) {
      setenv(name.c_str(), value->c_str(), 1);
    } else {
      unsetenv(name.c_str());
    }
  }

  void Ensure() {
    const absl::Status status = EnsureEmbedded(place_, kEnough);
    ASSERT_TRUE(status.ok()) << status;
  }

  // By what the server says.
  long Pid() {
    const auto status = GetEmbeddedStatus(place_, kEnough);
    return status.ok() && status->running ? status->pid : 0;
  }

  std::string Ask(const std::string& command) { return AskServer(place_.socket_path, command); }

  std::string root_;
  EmbeddedPlace place_;
  std::map<std::string, std::optional<std::string>> before_;
};

using EmbeddedPlaceTest = EmbeddedTest;

TEST_F(EmbeddedPlaceTest, IsUnderTheRuntimeAndTheStateDirectory) {
  EXPECT_EQ(place_.socket_dir, root_ + "/run/coord");
  EXPECT_EQ(place_.socket_path, root_ + "/run/coord/redis.sock");
  EXPECT_EQ(place_.data_dir, root_ + "/state/coord");
  EXPECT_FALSE(fs::exists(place_.socket_dir));
  EXPECT_FALSE(fs::exists(place_.data_dir));
}

TEST_F(EmbeddedPlaceTest, WithoutXdgIsInTheTemporaryAndTheHomeDirectory) {
  SetVariable("XDG_RUNTIME_DIR", "");
  SetVariable("XDG_STATE_HOME", std::nullopt);
  SetVariable("HOME", root_ + "/home");
  const auto place = FindEmbeddedPlace("");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->socket_dir, root_ + "/tmp/coord-" + std::to_string(geteuid()));
  EXPECT_EQ(place->data_dir, root_ + "/home/.local/state/coord");
}

TEST_F(EmbeddedPlaceTest, WithoutHomeIsWhereTheUserDatabaseSays) {
  SetVariable("XDG_STATE_HOME", std::nullopt);
  SetVariable("HOME", std::nullopt);
  const auto place = FindEmbeddedPlace("");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_TRUE(place->data_dir.starts_with('/'));
  EXPECT_TRUE(place->data_dir.ends_with("/.local/state/coord"));
}

TEST_F(EmbeddedPlaceTest, OfADirectoryIsThatDirectory) {
  const auto place = FindEmbeddedPlace(root_ + "/mine//");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->socket_dir, root_ + "/mine");
  EXPECT_EQ(place->data_dir, root_ + "/mine");
}

TEST_F(EmbeddedPlaceTest, RelativeDirectoryIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(FindEmbeddedPlace("mine").status()));
}

TEST_F(EmbeddedPlaceTest, TooLongForASocketSaysTheLimitAndWhatToSet) {
  const std::string deep = root_ + "/" + std::string(100, 'x');
  SetVariable("XDG_RUNTIME_DIR", std::nullopt);
  SetVariable("TMPDIR", deep);
  const absl::Status temporary = FindEmbeddedPlace("").status();
  EXPECT_TRUE(absl::IsInvalidArgument(temporary));
  for (const std::string& part : {deep, std::string("107"), std::string("XDG_RUNTIME_DIR")}) {
    EXPECT_TRUE(Contains(Message(temporary), part)) << temporary;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(FindEmbeddedPlace(deep).status()));
}

TEST_F(EmbeddedPlaceTest, LongestPathThatFitsWorks) {
  std::string directory = root_ + "/";
  directory += std::string(107 - directory.size() - std::strlen("/redis.sock"), 'x');
  const auto place = FindEmbeddedPlace(directory);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->socket_path.size(), 107u);
  place_ = *place;
  Ensure();
  EXPECT_GT(Pid(), 0);
  EXPECT_FALSE(FindEmbeddedPlace(directory + "x").ok());
}

TEST_F(EmbeddedTest, TwentyProcessesAtOnceGetOneServer) {
  int gate[2];
  int answers[2];
  ASSERT_EQ(pipe(gate), 0);
  ASSERT_EQ(pipe(answers), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < 20; ++i) {
    children.push_back(Fork([&] {
      close(gate[1]);
      char byte = 0;
      if (read(gate[0], &byte, 1) != 0) return 1;
      if (!EnsureEmbedded(place_, kEnough).ok()) return 2;
      const long pid = Pid();
      return write(answers[1], &pid, sizeof(pid)) == sizeof(pid) ? 0 : 3;
    }));
  }
  close(gate[0]);
  close(gate[1]);  // all of them go
  close(answers[1]);
  for (const pid_t child : children) EXPECT_EQ(ExitStatusOf(child), 0);
  std::set<long> pids;
  for (std::size_t i = 0; i < children.size(); ++i) {
    long pid = 0;
    ASSERT_EQ(read(answers[0], &pid, sizeof(pid)), static_cast<ssize_t>(sizeof(pid)));
    pids.insert(pid);
  }
  close(answers[0]);
  EXPECT_EQ(pids.size(), 1u);
  EXPECT_GT(*pids.begin(), 0);
  EXPECT_EQ(ServersAt(place_.socket_path), pids);
}

TEST_F(EmbeddedTest, StoppedAndStartedAgainItKeepsACounter) {
  Ensure();
  EXPECT_EQ(Ask("INCR counter"), ":1");
  const long first = Pid();
  ASSERT_TRUE(StopEmbedded(place_, kEnough).ok());
  EXPECT_TRUE(IsGone(first));
  EXPECT_EQ(Pid(), 0);
  Ensure();
  EXPECT_NE(Pid(), first);
  EXPECT_EQ(Ask("INCR counter"), ":2");
}

TEST_F(EmbeddedTest, DirectoryServerKeepsAllInItsDirectory) {
  place_ = *FindEmbeddedPlace(root_ + "/some/where");
  Ensure();
  EXPECT_EQ(Ask("INCR counter"), ":1");
  EXPECT_TRUE(fs::exists(root_ + "/some/where/appendonlydir"));
  EXPECT_TRUE(fs::is_empty(root_ + "/run"));
  EXPECT_TRUE(fs::is_empty(root_ + "/state"));
}

TEST_F(EmbeddedTest, DirectoriesAndFilesAreForTheUserAlone) {
  umask(0);
  Ensure();
  umask(022);
  for (const std::string& path :
       {place_.socket_dir, place_.data_dir, place_.socket_path, place_.data_dir + "/redis.log"}) {
    struct stat found;
    ASSERT_EQ(stat(path.c_str(), &found), 0) << path;
    EXPECT_EQ(found.st_mode & 077, 0u) << path;
  }
}

TEST_F(EmbeddedTest, HasTheSettingsThatLeasesNeed) {
  Ensure();
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"maxmemory-policy", "noeviction"},
           {"appendonly", "yes"},
           {"appendfsync", "everysec"},
           {"save", ""},
           {"port", "0"},
       }) {
    // An array of two bulk strings.
    EXPECT_EQ(AskServer(place_.socket_path, "CONFIG GET " + name, 5), value) << name;
  }
  EXPECT_TRUE(Contains(ReadFile(place_.data_dir + "/redis.log"), "The server is now ready"));
  EXPECT_TRUE(fs::exists(place_.data_dir + "/appendonlydir"));
  const long pid = Pid();
  // No TCP: its only sockets are of the unix family.
  const std::string tcp = ReadFile("/proc/" + std::to_string(pid) + "/net/tcp");
  for (const auto& [fd, target] : OpenFiles(pid)) {
    if (!target.starts_with("socket:[")) continue;
    EXPECT_FALSE(Contains(tcp, " " + target.substr(8, target.size() - 9) + " ")) << target;
  }
}

TEST_F(EmbeddedTest, SharesNothingWithItsStarter) {
  int output[2];
  ASSERT_EQ(pipe(output), 0);
  const std::string open_file = root_ + "/open";
  const pid_t starter = Fork([&] {
    dup2(output[1], 1);
    close(output[0]);
    const int inherited = open(open_file.c_str(), O_RDWR | O_CREAT, 0600);  // not close-on-exec
    dup2(inherited, 900);
    if (chdir(root_.c_str()) != 0) return 1;
    setenv("COORD_TEST_SECRET", "s3cret", 1);
    std::signal(SIGTERM, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    if (!EnsureEmbedded(place_, kEnough).ok()) return 2;
    sigset_t now;
    sigprocmask(SIG_SETMASK, nullptr, &now);
    if (!sigismember(&now, SIGUSR1)) return 3;
    // No child left, dead or alive.
    return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD ? 0 : 4;
  });
  close(output[1]);
  EXPECT_EQ(ExitStatusOf(starter), 0);
  pollfd readable = {output[0], POLLIN, 0};
  ASSERT_EQ(poll(&readable, 1, 5000), 1) << "somebody still holds the starter's output";
  char byte = 0;
  EXPECT_EQ(read(output[0], &byte, 1), 0);
  close(output[0]);

  const long pid = Pid();
  ASSERT_GT(pid, 0);
  const std::string proc = "/proc/" + std::to_string(pid);
  for (const auto& [fd, target] : OpenFiles(pid)) {
    EXPECT_NE(target, open_file);
    EXPECT_NE(fd, 900);
    if (fd < 3) {
      EXPECT_EQ(target, "/dev/null");
    }
  }
  EXPECT_EQ(fs::read_symlink(proc + "/cwd"), place_.data_dir);
  EXPECT_NE(SessionOf(pid), getsid(0));
  EXPECT_NE(SessionOf(pid), pid) << "a session leader could get a terminal";
  EXPECT_FALSE(Contains(ReadFile(proc + "/environ"), "s3cret"));
  const std::string status = ReadFile(proc + "/status");
  EXPECT_TRUE(Contains(status, "SigBlk:\t0000000000000000")) << status;
  Kill(pid, SIGTERM);  // which its starter ignored
  EXPECT_TRUE(Eventually([&] { return IsGone(pid); }));
}

TEST_F(EmbeddedTest, StatusTellsTheServerItself) {
  const auto none = GetEmbeddedStatus(place_, kEnough);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->running);
  Ensure();
  const auto status = GetEmbeddedStatus(place_, kEnough);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(status->running);
  EXPECT_EQ(ServersAt(place_.socket_path), std::set<long>{status->pid});
  EXPECT_TRUE(status->server.starts_with("redis ") || status->server.starts_with("valkey "))
      << status->server;
}

TEST_F(EmbeddedTest, StoppingNoneIsFine) { EXPECT_TRUE(StopEmbedded(place_, kEnough).ok()); }

TEST_F(EmbeddedTest, StoppingAHungServerRunsIntoItsDeadline) {
  Ensure();
  const long pid = Pid();
  Halt(pid);
  const absl::Status stopped = StopEmbedded(place_, absl::Milliseconds(100));
  EXPECT_TRUE(absl::IsDeadlineExceeded(stopped)) << stopped;
  EXPECT_TRUE(Contains(Message(stopped), std::to_string(pid))) << stopped;
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(GetEmbeddedStatus(place_, absl::Milliseconds(100)).status()));
  Kill(pid, SIGCONT);
}

TEST_F(EmbeddedTest, SymbolicLinkInPlaceOfItsDirectoryIsRefused) {
  fs::create_directory(root_ + "/elsewhere");
  chmod((root_ + "/elsewhere").c_str(), 0700);
  fs::create_symlink(root_ + "/elsewhere", place_.socket_dir);
  const absl::Status status = EnsureEmbedded(place_, kEnough);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Contains(Message(status), place_.socket_dir)) << status;
  EXPECT_TRUE(Contains(Message(status), "symbolic link")) << status;
  EXPECT_TRUE(absl::IsFailedPrecondition(GetEmbeddedStatus(place_, kEnough).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(StopEmbedded(place_, kEnough)));
  EXPECT_TRUE(fs::is_empty(root_ + "/elsewhere"));
  fs::remove(place_.socket_dir);
}

TEST_F(EmbeddedTest, DirectoryThatOthersMayWriteInIsRefusedAlsoWithAServerInIt) {
  Ensure();
  chmod(place_.socket_dir.c_str(), 0770);
  const absl::Status status = EnsureEmbedded(place_, kEnough);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Contains(Message(status), "chmod 700 " + place_.socket_dir)) << status;
  chmod(place_.socket_dir.c_str(), 0700);
}

TEST_F(EmbeddedTest, DirectoryOfAnotherUserIsRefusedWithItsOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  fs::create_directory(place_.socket_dir);
  chmod(place_.socket_dir.c_str(), 0700);
  ASSERT_EQ(chown(place_.socket_dir.c_str(), 54321, 54321), 0);
  const absl::Status status = EnsureEmbedded(place_, kEnough);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Contains(Message(status), place_.socket_dir)) << status;
  EXPECT_TRUE(Contains(Message(status), "uid 54321")) << status;
  EXPECT_TRUE(Contains(Message(status), "XDG_RUNTIME_DIR")) << status;
  fs::remove(place_.socket_dir);
}

TEST_F(EmbeddedTest, WithoutAServerInPathSaysWhatToInstall) {
  SetVariable("PATH", root_ + "/run");
  for (const absl::Status& status :
       {EnsureEmbedded(place_, kEnough), PrivateServer::Start(kEnough).status()}) {
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_TRUE(Contains(Message(status), "apt-get install redis-server")) << status;
    EXPECT_TRUE(Contains(Message(status), root_ + "/run")) << status;
  }
}

TEST_F(EmbeddedTest, ValkeyServesWhereThereIsNoRedis) {
  fs::create_symlink("/usr/bin/redis-server", root_ + "/run/valkey-server");
  SetVariable("PATH", root_ + "/run");
  Ensure();
  EXPECT_GT(Pid(), 0);
}

TEST_F(EmbeddedTest, ServerThatEndsAtOnceIsReportedWithItsLogAndStatus) {
  fs::create_directories(place_.data_dir + "/appendonlydir");
  chmod(place_.data_dir.c_str(), 0700);
  std::ofstream(place_.data_dir + "/appendonlydir/appendonly.aof.manifest") << "no manifest\n";
  const absl::Status status = EnsureEmbedded(place_, kEnough);
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_TRUE(Contains(Message(status), "exit status 1")) << status;
  EXPECT_TRUE(Contains(Message(status), "AOF manifest file")) << status;
  EXPECT_TRUE(Contains(Message(status), place_.data_dir + "/redis.log")) << status;
}

TEST_F(EmbeddedTest, BinaryThatCannotRunIsReported) {
  std::ofstream(root_ + "/run/redis-server") << "neither a program nor a script\n";
  chmod((root_ + "/run/redis-server").c_str(), 0700);
  SetVariable("PATH", root_ + "/run");
  for (const absl::Status& status :
       {EnsureEmbedded(place_, kEnough), PrivateServer::Start(kEnough).status()}) {
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_TRUE(Contains(Message(status), "Exec format error")) << status;
  }
}

TEST_F(EmbeddedTest, ServerThatNeverAnswersRunsIntoTheTimeout) {
  std::ofstream(root_ + "/run/redis-server") << "#!/bin/sh\nexec /bin/sleep 60\n";
  chmod((root_ + "/run/redis-server").c_str(), 0700);
  SetVariable("PATH", root_ + "/run");
  const absl::Status status = EnsureEmbedded(place_, absl::Milliseconds(100));
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_TRUE(Contains(Message(status), "in time")) << status;
  const absl::Status of_private = PrivateServer::Start(absl::Milliseconds(100)).status();
  EXPECT_TRUE(coord::IsUnavailable(of_private)) << of_private;
  // TearDown ends the sleeper by the lock that it holds.
}

TEST_F(EmbeddedTest, WaitsForAServerThatLoadsItsData) {
  fs::create_directories(place_.data_dir + "/appendonlydir");
  chmod(place_.data_dir.c_str(), 0700);
  std::ofstream(place_.data_dir + "/appendonlydir/appendonly.aof.manifest")
      << "file appendonly.aof.1.incr.aof seq 1 type i\n";
  std::ofstream file(place_.data_dir + "/appendonlydir/appendonly.aof.1.incr.aof");
  constexpr int kCommands = 500000;
  for (int i = 0; i < kCommands; ++i) file << "*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n";
  file.close();
  Ensure();
  EXPECT_EQ(Ask("INCR counter"), ":" + std::to_string(kCommands + 1));
}

TEST_F(EmbeddedTest, StaleSocketIsNoObstacle) {
  Ensure();
  const long killed = Pid();
  EXPECT_EQ(Ask("INCR counter"), ":1");
  Kill(killed);
  ASSERT_TRUE(Eventually([&] { return IsGone(killed); }));
  ASSERT_TRUE(fs::exists(place_.socket_path));
  const auto status = GetEmbeddedStatus(place_, kEnough);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_FALSE(status->running);
  EXPECT_TRUE(StopEmbedded(place_, kEnough).ok());
  Ensure();
  EXPECT_NE(Pid(), killed);
  EXPECT_EQ(Ask("INCR counter"), ":2") << "killed, not forgotten";
}

TEST_F(EmbeddedTest, OneDataDirectoryHasOneServerWhereverItIsLookedFor) {
  Ensure();
  SetVariable("XDG_RUNTIME_DIR", std::nullopt);  // as a cron job has it
  const auto place = FindEmbeddedPlace("");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->socket_path, place_.socket_path);

  // Also when it is not looked for: here with a place that was found before the server ran.
  EmbeddedPlace other = place_;
  other.socket_dir = root_ + "/run/other";
  other.socket_path = other.socket_dir + "/redis.sock";
  const absl::Status status = EnsureEmbedded(other, absl::Milliseconds(50));
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_TRUE(Contains(Message(status), std::to_string(Pid()))) << status;
  EXPECT_EQ(ServersAt(root_).size(), 1u);
}

TEST_F(EmbeddedTest, ServerWhoseSocketWasRemovedIsNotDoubledAndCanBeStopped) {
  Ensure();
  const long pid = Pid();
  EXPECT_EQ(Ask("INCR counter"), ":1");
  fs::remove_all(place_.socket_dir);
  EXPECT_TRUE(coord::IsUnavailable(EnsureEmbedded(place_, absl::Milliseconds(50))));
  EXPECT_FALSE(IsGone(pid));
  EXPECT_TRUE(StopEmbedded(place_, kEnough).ok());
  EXPECT_TRUE(IsGone(pid));
  Ensure();
  EXPECT_EQ(Ask("INCR counter"), ":2");
}

TEST_F(EmbeddedTest, CallerThatIgnoresSigchldIsServed) {
  EXPECT_EQ(ExitStatusOf(Fork([&] {
              std::signal(SIGCHLD, SIG_IGN);
              if (!EnsureEmbedded(place_, kEnough).ok()) return 1;
              return PrivateServer::Start(kEnough).ok() ? 0 : 2;
            })),
            0);
}

TEST_F(EmbeddedTest, CallerThatReapsEverythingIsServed) {
  EXPECT_EQ(ExitStatusOf(Fork([&] {
              std::signal(SIGCHLD, [](int) {
                const int before = errno;
                while (waitpid(-1, nullptr, WNOHANG) > 0) {
                }
                errno = before;
              });
              if (!EnsureEmbedded(place_, kEnough).ok()) return 1;
              return PrivateServer::Start(kEnough).ok() ? 0 : 2;
            })),
            0);
}

TEST_F(EmbeddedTest, OtherChildrenOfTheCallerAreLeftToIt) {
  const pid_t ended = Fork([] { return 7; });
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(ended), &info, WEXITED | WNOWAIT), 0);
  Ensure();
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  // With both servers running it is the only child.
  int status = 0;
  EXPECT_EQ(waitpid(-1, &status, 0), ended);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(waitpid(-1, &status, 0), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(EmbeddedTest, CallerThatAdoptsOrphansGetsNoZombiesOfKeepers) {
  EXPECT_EQ(ExitStatusOf(Fork([&] {
              prctl(PR_SET_CHILD_SUBREAPER, 1);
              if (!EnsureEmbedded(place_, kEnough).ok()) return 1;
              if (!PrivateServer::Start(kEnough).ok()) return 2;  // and ends it
              siginfo_t info = {};
              if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return 3;
              return info.si_pid == 0 ? 0 : 4;
            })),
            0);
}

TEST_F(EmbeddedTest, CallerWithBusyThreadsIsServed) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&stop] {
      while (!stop) std::string(1000, 'x').append(std::getenv("PATH"));
    });
  }
  Ensure();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(PrivateServer::Start(kEnough).ok());
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

class PrivateServerTest : public EmbeddedTest {
 protected:
  // What an owner in another process tells about its server.
  struct Told {
    long pid = 0;
    char socket_path[200] = {};
    pid_t lingering = 0;
  };

  // An owner that starts a server and waits to be killed; it forks a child that only sleeps when
  // `with_child`.
  pid_t StartOwner(bool with_child, Told* told) {
    int answer[2];
    if (pipe(answer) != 0) return -1;
    const pid_t owner = Fork([&] {
      auto server = PrivateServer::Start(kEnough);
      if (!server.ok()) return 1;
      Told mine;
      mine.pid = (*server)->pid();
      std::strncpy(mine.socket_path, (*server)->socket_path().c_str(),
                   sizeof(mine.socket_path) - 1);
      if (with_child) {
        mine.lingering = Fork([] {
          for (;;) pause();
          return 0;
        });
      }
      if (write(answer[1], &mine, sizeof(mine)) != sizeof(mine)) return 2;
      for (;;) pause();
      return 0;
    });
    close(answer[1]);
    EXPECT_EQ(read(answer[0], told, sizeof(*told)), static_cast<ssize_t>(sizeof(*told)));
    close(answer[0]);
    return owner;
  }

  void ExpectToEndWithItsOwner(pid_t owner, const Told& told, int signal) {
    const std::string directory = fs::path(told.socket_path).parent_path();
    EXPECT_EQ(AskServer(told.socket_path, "PING"), "+PONG");
    EXPECT_TRUE(fs::exists(directory));
    Kill(owner, signal);
    EXPECT_TRUE(Eventually([&] { return IsGone(told.pid) && !fs::exists(directory); },
                           std::chrono::seconds(2)));
    ExitStatusOf(owner);
  }
};

TEST_F(PrivateServerTest, AnswersAndKeepsNothing) {
  std::string directory;
  long pid = 0;
  {
    auto server = PrivateServer::Start(kEnough);
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_EQ(AskServer((*server)->socket_path(), "INCR counter"), ":1");
    directory = fs::path((*server)->socket_path()).parent_path();
    EXPECT_TRUE(directory.starts_with(root_ + "/tmp/")) << directory;
    struct stat found;
    ASSERT_EQ(stat(directory.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, 0700u);
    pid = (*server)->pid();
    EXPECT_EQ(ServersAt((*server)->socket_path()), std::set<long>{pid});
    // Also what a user makes it write goes away.
    EXPECT_EQ(AskServer((*server)->socket_path(), "SAVE"), "+OK");
    EXPECT_EQ(AskServer((*server)->socket_path(), "CONFIG SET appendonly yes"), "+OK");
  }
  EXPECT_TRUE(IsGone(pid));
  EXPECT_FALSE(fs::exists(directory));
}

TEST_F(PrivateServerTest, TwoAreTwo) {
  auto first = PrivateServer::Start(kEnough);
  auto second = PrivateServer::Start(kEnough);
  ASSERT_TRUE(first.ok() && second.ok());
  first->reset();
  EXPECT_EQ(AskServer((*second)->socket_path(), "PING"), "+PONG");
}

TEST_F(PrivateServerTest, WorksWithATemporaryDirectoryTooLongForASocket) {
  const std::string deep = root_ + "/tmp/" + std::string(100, 'x');
  SetVariable("TMPDIR", deep);
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(AskServer((*server)->socket_path(), "PING"), "+PONG");
}

TEST_F(PrivateServerTest, GoneWithItsDirectoryAfterItsOwnerIsKilled) {
  Told told;
  const pid_t owner = StartOwner(false, &told);
  ExpectToEndWithItsOwner(owner, told, SIGKILL);
}

TEST_F(PrivateServerTest, GoneAfterItsOwnerIsKilledThoughAChildOfTheOwnerLives) {
  Told told;
  const pid_t owner = StartOwner(true, &told);
  ExpectToEndWithItsOwner(owner, told, SIGKILL);
  EXPECT_FALSE(IsGone(told.lingering));
  Kill(told.lingering);
}

TEST_F(PrivateServerTest, GoneAfterItsOwnersSession) {
  Told told;
  const pid_t owner = StartOwner(false, &told);
  ExpectToEndWithItsOwner(owner, told, SIGHUP);
}

TEST_F(PrivateServerTest, GoneWithItsObjectThoughAChildOfTheOwnerLives) {
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  const pid_t child = Fork([] {
    for (;;) pause();
    return 0;
  });
  const long pid = (*server)->pid();
  server->reset();
  EXPECT_TRUE(IsGone(pid));
  EXPECT_TRUE(fs::is_empty(root_ + "/tmp"));
  Kill(child);
  ExitStatusOf(child);
}

TEST_F(PrivateServerTest, ForkedChildLeavesItAlone) {
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(ExitStatusOf(Fork([&] {
              (*server)->AbandonAfterFork();
              server->reset();
              return 0;
            })),
            0);
  EXPECT_EQ(ExitStatusOf(Fork([&] {
              server->reset();  // without a word
              return 0;
            })),
            0);
  EXPECT_EQ(AskServer((*server)->socket_path(), "PING"), "+PONG");
}

TEST_F(PrivateServerTest, CleanedUpWhenTheServerDiesByItself) {
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  Kill((*server)->pid());
  EXPECT_TRUE(Eventually([&] { return fs::is_empty(root_ + "/tmp"); }));
}

TEST_F(PrivateServerTest, StoppedServerIsStillEnded) {
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  const long pid = (*server)->pid();
  Halt(pid);
  server->reset();
  EXPECT_TRUE(IsGone(pid));
}

TEST_F(PrivateServerTest, GoneWhenItsKeeperIsKilled) {
  auto server = PrivateServer::Start(kEnough);
  ASSERT_TRUE(server.ok()) << server.status();
  const long pid = (*server)->pid();
  const std::string stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  const long keeper = std::stol(stat.substr(stat.rfind(") ") + 4));
  Kill(keeper, SIGTERM);  // does nothing: it has somebody to care for
  EXPECT_EQ(AskServer((*server)->socket_path(), "PING"), "+PONG");
  Kill(keeper, SIGKILL);
  EXPECT_TRUE(Eventually([&] { return IsGone(pid); }, std::chrono::seconds(2)));
  server->reset();
  EXPECT_TRUE(fs::is_empty(root_ + "/tmp"));
}

}  // namespace
}  // namespace coord::internal
