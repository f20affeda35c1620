// What stands between `coord lock`, or its like, and its command while that runs.
#ifndef COORD_TOOLS_COMMAND_GUARD_H_
#define COORD_TOOLS_COMMAND_GUARD_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/time/time.h"
#include "tools/signals.h"

namespace coord::tools {

// Waits for the child, passes signals on to it, and ends it when what it needs is lost: SIGTERM,
// and SIGKILL after `grace`. One thread.
class CommandGuard {
 public:
  // `signals` must outlive it. `why` it is ended, for messages: "the lock \"x\" is lost".
  CommandGuard(const CaughtSignals& signals, const std::stop_token& held, std::string why,
               absl::Duration grace, pid_t child);
  ~CommandGuard();
  CommandGuard(const CommandGuard&) = delete;
  CommandGuard& operator=(const CommandGuard&) = delete;

  // The child's wait status, once it has ended.
  int Wait();
  // Afterwards: whether the child was told to end, and the SIGINT of the terminal, if one came.
  bool lost() const { return lost_; }
  const std::optional<signalfd_siginfo>& interrupt() const { return interrupt_; }
  // The last signal by which somebody wanted us to end: SIGHUP, SIGINT, SIGQUIT or SIGTERM.
  std::optional<int> told_by() const { return told_by_; }

 private:
  struct Tell {
    int fd;
    void operator()() const noexcept;
  };
  bool Reap();  // true: it has ended
  void Handle(const signalfd_siginfo& info);
  void EndChild();
  int PollTimeout() const;

  const CaughtSignals& signals_;
  const std::string why_;
  const absl::Duration grace_;
  const pid_t child_;
  const int lost_fd_;  // readable from the moment when it is lost
  std::optional<std::stop_callback<Tell>> on_lost_;
  int status_ = 0;
  bool lost_ = false;
  std::optional<std::chrono::steady_clock::time_point> kill_at_;
  std::optional<signalfd_siginfo> interrupt_;
  std::optional<int> told_by_;
  // We stop when SIGTSTP came and the child has stopped, whichever is seen first.
  bool stop_wanted_ = false;
  bool child_stopped_ = false;
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_COMMAND_GUARD_H_
