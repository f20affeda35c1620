#include "coord/deployment/process_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <string_view>

#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

// The start time of a living process as /proc has it; "" when it is gone or a zombie.
std::string StartTime(long pid) {
  const OwnedFd file(open(StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[1024];
  const ssize_t size = file.valid() ? read(file.get(), buffer, sizeof(buffer)) : 0;
  if (size <= 0) return "";
  std::string_view text(buffer, static_cast<std::size_t>(size));
  // "pid (name) state ...": the name may hold anything, parentheses too.
  const std::size_t name_end = text.rfind(") ");
  if (name_end == std::string_view::npos) return "";
  text.remove_prefix(name_end + 2);
  const bool zombie = text.starts_with('Z') || text.starts_with('X');
  // The state is field 3, the number of threads field 20, the start time field 22.
  for (int field = 3; field < 22; ++field) {
    // A first thread that is a zombie still has its descriptors and locks while other threads are
    // ending.
    if (field == 20 && zombie && (text.starts_with("0 ") || text.starts_with("1 "))) return "";
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return "";
    text.remove_prefix(space + 1);
  }
  return std::string(text.substr(0, text.find(' ')));
}

}  // namespace

ProcessWatch::ProcessWatch(long pid) : pid_(pid) {
#ifdef SYS_pidfd_open
  fd_ = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0U)));
#endif
  if (!fd_.valid()) start_time_ = StartTime(pid);
}

bool ProcessWatch::Gone() const {
  if (!fd_.valid()) return start_time_.empty() || StartTime(pid_) != start_time_;
  pollfd ended = {fd_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) > 0;
}

bool ProcessWatch::WaitUntilGone(const Deadline& deadline) const {
  while (!Gone()) {
    if (deadline.Passed()) return false;
    // poll() ignores the descriptor that is not there, and is a sleep then.
    pollfd ended = {fd_.get(), POLLIN, 0};
    poll(&ended, 1, deadline.PollTimeout(fd_.valid() ? 1000 : 2));
  }
  return true;
}

bool ProcessWatch::Signal(int signal) const {
#ifdef SYS_pidfd_send_signal
  if (fd_.valid()) return syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0U) == 0;
#endif
  return !Gone() && kill(static_cast<pid_t>(pid_), signal) == 0;
}

}  // namespace coord::internal::embedded
