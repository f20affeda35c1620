#include "bench/redis_server.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "bench/machine.h"

namespace coord::bench {
namespace {

bool Answers(const std::string& path) {
  redisContext* const context = redisConnectUnix(path.c_str());
  if (context == nullptr) return false;
  bool answered = false;
  if (context->err == 0) {
    void* const reply = redisCommand(context, "PING");
    answered = reply != nullptr;
    if (answered) freeReplyObject(reply);
  }
  redisFree(context);
  return answered;
}

[[noreturn]] void Exec(const std::string& socket_path, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before the line above
  const int null = open("/dev/null", O_RDWR);
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path.c_str(),
         "--save", "", "--appendonly", "no", "--maxclients", "1000", nullptr);
  _exit(127);
}

}  // namespace

RedisServer::RedisServer() {
  std::string pattern = (std::filesystem::temp_directory_path() / "coord-bench-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) Fatal("cannot make a directory " + pattern);
  directory_ = pattern;
  socket_path_ = directory_ + "/redis.sock";
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) Fatal("fork failed");
  if (pid_ == 0) Exec(socket_path_, parent);
  for (int attempt = 0; !Answers(socket_path_); ++attempt) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_)
      Fatal("redis-server ended at once; is it installed?");
    if (attempt == 1000) Fatal("redis-server does not answer");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

RedisServer::~RedisServer() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::chrono::nanoseconds RedisServer::CpuTime() const {
  clockid_t clock;
  timespec now{};
  if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &now) != 0) {
    Fatal("cannot read the server's CPU time");
  }
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace coord::bench
