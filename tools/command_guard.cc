#include "tools/command_guard.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "coord/internal/strings.h"
#include "tools/program.h"

namespace coord::tools {

using internal::StrCat;
using std::chrono::steady_clock;

void CommandGuard::Tell::operator()() const noexcept {
  const std::uint64_t one = 1;
  (void)!write(fd, &one, sizeof(one));
}

CommandGuard::CommandGuard(const CaughtSignals& signals, const std::stop_token& held,
                           std::string why, absl::Duration grace, pid_t child)
    : signals_(signals),
      why_(std::move(why)),
      grace_(std::min(grace, absl::Hours(24 * 365))),
      child_(child),
      lost_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  on_lost_.emplace(held, Tell{lost_fd_});
}

CommandGuard::~CommandGuard() {
  on_lost_.reset();  // waits for a callback that runs
  close(lost_fd_);
}

int CommandGuard::Wait() {
  while (!Reap()) {
    pollfd polled[] = {{signals_.fd(), POLLIN, 0}, {lost_ ? -1 : lost_fd_, POLLIN, 0}};
    poll(polled, 2, PollTimeout());
    while (const std::optional<signalfd_siginfo> info = signals_.Next()) Handle(*info);
    // One that has ended by itself meanwhile was not told; whether it was protected, the release
    // says.
    if (Reap()) break;
    if (stop_wanted_ && child_stopped_) {
      // Only together with the child: if we stood still alone, nobody would renew the lease of a
      // command that runs on. And a shell must see its job stopped.
      stop_wanted_ = false;
      signals_.StopHere();
    }
    if (!lost_ && polled[1].revents != 0) EndChild();
    if (kill_at_ && steady_clock::now() >= *kill_at_) {
      kill_at_.reset();
      Say(StrCat("the command has not ended ", internal::ToText(grace_),
                 " after SIGTERM; killing it"));
      kill(child_, SIGKILL);
    }
  }
  return status_;
}

bool CommandGuard::Reap() {
  while (waitpid(child_, &status_, WNOHANG | WUNTRACED | WCONTINUED) == child_) {
    if (!WIFSTOPPED(status_) && !WIFCONTINUED(status_)) return true;
    child_stopped_ = WIFSTOPPED(status_);
  }
  return false;
}

void CommandGuard::Handle(const signalfd_siginfo& info) {
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGCHLD) return;
  if (signal == SIGINT && FromTerminal(info)) interrupt_ = info;
  if (signal == SIGHUP || signal == SIGINT || signal == SIGQUIT || signal == SIGTERM) {
    told_by_ = signal;
  }
  if (signal == SIGTSTP) stop_wanted_ = true;
  if (signal == SIGCONT) stop_wanted_ = false;
  // What the terminal sends, the child has got too: it is in our group.
  if (!FromTerminal(info)) kill(child_, signal);
}

void CommandGuard::EndChild() {
  lost_ = true;
  Say(StrCat(why_, "; ending the command"));
  kill(child_, SIGTERM);
  kill(child_, SIGCONT);  // a stopped one could not end
  kill_at_ = steady_clock::now() + absl::ToChronoNanoseconds(grace_);
}

int CommandGuard::PollTimeout() const {
  if (!kill_at_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*kill_at_ - steady_clock::now());
  return static_cast<int>(std::clamp<std::chrono::milliseconds::rep>(left.count(), 0, 1'000'000));
}

}  // namespace coord::tools
