// Child processes of a test: programs, and forked copies of the test itself.
#ifndef COORD_TESTS_SUPPORT_PROCESS_H_
#define COORD_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/sockets.h"

namespace coord::testing {

struct ProcessOptions {
  std::string stdin_text{};                                // all of standard input
  std::vector<std::pair<std::string, std::string>> env{};  // added to the test's own environment
  std::string directory{};  // where it runs; empty: where the test does
};

struct ProcessResult {
  int exit_code = -1;      // -1 when a signal ended it
  int signal = 0;          // the signal that ended it
  bool timed_out = false;  // the deadline passed, and so it was killed
  std::string out;
  std::string err;

  bool ok() const { return exit_code == 0; }
};

// One child. Its output goes to anonymous files, so that it never blocks on a reader and a
// grandchild that lives on keeps nobody waiting. Move-only; one thread at a time. The destructor
// kills it (by its own pid only, and not in a forked child); the kernel does when the test dies,
// however it dies.
class Process {
 public:
  // Starts argv[0], looked up in PATH. Exit code 127 and a message on standard error when it cannot
  // be started.
  explicit Process(const std::vector<std::string>& argv, const ProcessOptions& options = {});
  // Runs `body` in a forked copy of this process, of this thread alone; what it returns is the exit
  // code, 99 stands for an exception. Ends without running destructors. The child dies when the
  // THREAD that forked it ends.
  explicit Process(const std::function<int()>& body);

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool Running();
  void Signal(int signal);  // no effect once it has ended
  void Pause();             // SIGSTOP; returns when all its threads stand still
  void Resume();            // SIGCONT
  // Waits until it ends; kills it when `timeout` has passed. Afterwards it says the same again.
  ProcessResult Wait(absl::Duration timeout = absl::Seconds(30));
  ProcessResult Kill();  // SIGKILL, and waits

  // What it has written so far.
  std::string out() const;
  std::string err() const;

 private:
  bool Reap(int flags);  // true: it has ended

  pid_t owner_ = 0;
  pid_t pid_ = 0;
  bool ended_ = false;
  int status_ = 0;
  UniqueFd out_;
  UniqueFd err_;
};

// Runs a program to its end:  EXPECT_EQ(RunProgram({"coord", "--version"}).exit_code, 0);
ProcessResult RunProgram(const std::vector<std::string>& argv, const ProcessOptions& options = {},
                         absl::Duration timeout = absl::Seconds(30));

// Process(body) for a body that returns int (the exit code) or nothing.
template <typename Body>
Process ForkAndRun(Body body) {
  if constexpr (std::is_void_v<std::invoke_result_t<Body&>>) {
    return Process(std::function<int()>([&body] { return body(), 0; }));
  } else {
    return Process(std::function<int()>([&body]() -> int { return body(); }));
  }
}

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_PROCESS_H_
