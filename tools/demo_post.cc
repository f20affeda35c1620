#include "tools/demo_post.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace coord::tools {

std::int64_t BootNanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

bool Post::WaitForGo() {
  if (send(kControlFd, "R", 1, MSG_NOSIGNAL) != 1) return false;
  std::int64_t moment = 0;
  if (recv(kControlFd, &moment, sizeof(moment), 0) != sizeof(moment)) return false;
  const timespec until = {moment / 1'000'000'000, moment % 1'000'000'000};
  while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
  return true;
}

bool Post::Dismissed() const {
  pollfd fd = {kControlFd, POLLIN, 0};
  return poll(&fd, 1, 0) > 0;
}

void Post::Log(std::string_view event, const std::vector<std::int64_t>& numbers) const {
  std::string line = absl::StrFormat("%c %s %d", letter_, event, BootNanoseconds());
  for (const std::int64_t number : numbers) absl::StrAppend(&line, " ", number);
  line += '\n';
  // A line that is not there is missed by the checks.
  if (write(kLogFd, line.data(), line.size()) < 0) _exit(1);
}

void Post::LogError(const absl::Status& status) const {
  std::string line = absl::StrFormat("%c error %s", letter_, status.message());
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  if (write(kLogFd, line.data(), line.size()) < 0) _exit(1);
}

}  // namespace coord::tools
