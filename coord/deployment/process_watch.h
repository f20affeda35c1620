// Watching a process that is not our child, without mistaking another for it that gets its number
// later.
#ifndef COORD_DEPLOYMENT_PROCESS_WATCH_H_
#define COORD_DEPLOYMENT_PROCESS_WATCH_H_

#include <string>

#include "coord/deployment/owned_fd.h"

namespace coord::internal::embedded {

class ProcessWatch {
 public:
  // Of the process that has `pid` now. The caller then makes sure that it is still the one it
  // means, and watches that one from there on.
  explicit ProcessWatch(long pid);

  // Gone, or a zombie that nobody has waited for.
  bool Gone() const;
  // False when `deadline` came first.
  bool WaitUntilGone(const Deadline& deadline) const;
  bool Signal(int signal) const;

 private:
  long pid_;
  OwnedFd fd_;  // pidfd
  // Where the kernel has no pidfd (before 5.3, or behind a filter): the time when the process
  // started tells it from later ones of that number.
  std::string start_time_;
};

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_PROCESS_WATCH_H_
