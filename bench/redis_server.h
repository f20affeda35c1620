// A redis-server for one run: keeps nothing, listens on a unix socket in a directory of its own.
#ifndef COORD_BENCH_REDIS_SERVER_H_
#define COORD_BENCH_REDIS_SERVER_H_

#include <sys/types.h>

#include <chrono>
#include <string>

namespace coord::bench {

// Ends the program when the server does not start. Killed by its pid in the destructor, and by the
// kernel when the thread that made it ends without that. Make it before any thread.
class RedisServer {
 public:
  RedisServer();
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& directory() const { return directory_; }
  const std::string& socket_path() const { return socket_path_; }
  std::string url() const { return "unix://" + socket_path_; }
  // User and system time of all its threads so far.
  std::chrono::nanoseconds CpuTime() const;

 private:
  std::string directory_;
  std::string socket_path_;
  pid_t pid_ = 0;
};

}  // namespace coord::bench

#endif  // COORD_BENCH_REDIS_SERVER_H_
