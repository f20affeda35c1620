#include "tools/captured_command.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <stop_token>
#include <thread>

#include "coord/internal/strings.h"
#include "tools/child_process.h"
#include "tools/command_guard.h"
#include "tools/guarded_command.h"

namespace coord::tools {
namespace {

using internal::StrCat;
using std::chrono::steady_clock;

// Whether all of it was written; not where nobody reads any more.
bool WriteOut(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) return false;
    if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// While it lives, a reader of ours who has gone is an error of write() and does not end us: the
// command has to be waited for.
class IgnoredPipeSignal {
 public:
  IgnoredPipeSignal() {
    struct sigaction ignore = {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &before_);
  }
  ~IgnoredPipeSignal() { Restore(); }
  IgnoredPipeSignal(const IgnoredPipeSignal&) = delete;
  IgnoredPipeSignal& operator=(const IgnoredPipeSignal&) = delete;

  void Restore() const { sigaction(SIGPIPE, &before_, nullptr); }

 private:
  struct sigaction before_ = {};
};

// Takes in what the command writes, on a thread of its own, and watches the time.
class OutputReader {
 public:
  // Owns `fd`, which does not block.
  OutputReader(int fd, std::size_t max_bytes, absl::Duration time_limit)
      : fd_(fd),
        max_bytes_(max_bytes),
        end_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this, time_limit] { Run(time_limit); }) {}
  ~OutputReader() {
    Finish();
    Hang();
    close(end_fd_);
  }
  OutputReader(const OutputReader&) = delete;
  OutputReader& operator=(const OutputReader&) = delete;

  std::stop_token out_of_time() const { return out_of_time_.get_token(); }

  // The command has ended: takes what it has left in the pipe.
  void Finish() {
    if (!thread_.joinable()) return;
    const std::uint64_t one = 1;
    (void)!write(end_fd_, &one, sizeof(one));
    thread_.join();
  }
  // After Finish().
  std::string output() { return std::move(output_); }
  bool too_large() const { return too_large_; }

 private:
  void Run(absl::Duration time_limit) {
    const bool limited = time_limit < absl::Hours(24 * 365);
    const auto deadline = steady_clock::now() +
                          absl::ToChronoNanoseconds(limited ? time_limit : absl::ZeroDuration());
    while (true) {
      int timeout = -1;
      if (limited && !out_of_time_.stop_requested()) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
        if (left.count() <= 0) out_of_time_.request_stop();
        timeout = static_cast<int>(
            std::clamp<std::chrono::milliseconds::rep>(left.count(), 0, 1'000'000));
      }
      pollfd polled[] = {{fd_, POLLIN, 0}, {end_fd_, POLLIN, 0}};
      poll(polled, 2, timeout);
      if (polled[1].revents != 0) break;
      if (polled[0].revents != 0) (void)Take(65536);
    }
    // Not more than there is now: somebody who was left behind may be writing on and on.
    int there = 0;
    if (fd_ < 0 || ioctl(fd_, FIONREAD, &there) != 0) return;
    for (auto left = static_cast<std::size_t>(there); left > 0 && fd_ >= 0;) {
      const std::size_t taken = Take(left);
      if (taken == 0) break;
      left -= taken;
    }
  }

  // How many bytes.
  std::size_t Take(std::size_t most) {
    char buffer[65536];
    const ssize_t n = read(fd_, buffer, std::min(sizeof(buffer), most));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) Hang();
    if (n <= 0) return 0;
    const auto size = static_cast<std::size_t>(n);
    output_.append(buffer, size);
    if (!too_large_ && output_.size() > max_bytes_) too_large_ = true;
    if (!too_large_) return size;
    // To the command it shall be as if it wrote there itself.
    if (!WriteOut(output_)) Hang();
    output_.clear();
    output_.shrink_to_fit();
    return size;
  }

  void Hang() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  // The thread's until it is joined.
  int fd_;
  const std::size_t max_bytes_;
  std::string output_;
  bool too_large_ = false;

  std::stop_source out_of_time_;
  const int end_fd_;
  std::thread thread_;
};

}  // namespace

CapturedEnd RunCaptured(const CapturedCommand& command, const CaughtSignals& signals) {
  const Executable executable = FindExecutable(command.words[0]);
  if (executable.fault != 0) return {.exit_code = CannotRun(command.words[0], executable.fault)};
  // The terminal's keys reach a child that is there, and nobody would pass these on.
  while (const std::optional<signalfd_siginfo> info = signals.Next()) {
    if (!EndsPrograms(*info)) continue;
    CapturedEnd end;
    end.told_by = static_cast<int>(info->ssi_signo);
    end.exit_code = 128 + *end.told_by;
    if (*end.told_by == SIGINT) end.interrupt = info;
    return end;
  }
  int ends[2];
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || pipe2(ends, O_CLOEXEC) != 0) {
    Say(StrCat("cannot start a process: ", std::strerror(errno)));
    if (null >= 0) close(null);
    return {};
  }
  const IgnoredPipeSignal ignored;
  const ChildProcess child = StartChild(executable.path, command.words, EnvironmentWith({}), [&] {
    ignored.Restore();
    signals.RestoreInChild();
    dup2(null, STDIN_FILENO);
    dup2(ends[1], STDOUT_FILENO);
  });
  close(null);
  close(ends[1]);
  if (child.fault != 0) {
    close(ends[0]);
    if (child.forked) return {.exit_code = CannotRun(command.words[0], child.fault)};
    Say(StrCat("cannot start a process: ", std::strerror(child.fault)));
    return {};
  }
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  OutputReader reader(ends[0], command.max_bytes, command.time_limit);
  CommandGuard guard(
      signals, reader.out_of_time(),
      StrCat("the command has not ended after ", internal::ToText(command.time_limit)),
      command.grace, child.pid);
  const int status = guard.Wait();
  reader.Finish();
  CapturedEnd end;
  end.ran = true;
  end.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  end.output = reader.output();
  end.too_large = reader.too_large();
  end.timed_out = guard.lost();
  end.told_by = guard.told_by();
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) end.interrupt = guard.interrupt();
  return end;
}

}  // namespace coord::tools
