#include "tools/dev/directory.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "coord/deployment/owned_fd.h"
#include "coord/deployment/private_directory.h"
#include "coord/deployment/remove_tree.h"
#include "coord/deployment/server_keeper.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::dev {
namespace {

using internal::StrCat;
using internal::embedded::ErrnoText;
using internal::embedded::OwnedFd;

absl::Status CannotMake(std::string_view path, int fault) {
  return internal::MakeStatus(absl::StatusCode::kUnavailable,
                              StrCat("cannot make the directory ", path, ": ", ErrnoText(fault),
                                     "; set TMPDIR to a directory of yours"));
}

// Forked from a process with threads: async-signal-safe calls only. All signals are blocked.
[[noreturn]] void RemoveWhenGone(const char* path, int owner_fd, pid_t owner) {
  setsid();  // the terminal's keys are not for us
  prctl(PR_SET_NAME, "coord-remover");
  constexpr int kOwnerFd = 0;
  if (owner_fd >= 0) dup2(owner_fd, kOwnerFd);
  // Whoever reads the end of our starter's output waits for all copies of it.
  internal::embedded::CloseAllFrom(owner_fd >= 0 ? kOwnerFd + 1 : kOwnerFd);
  (void)!chdir("/");
  pollfd ended = {owner_fd >= 0 ? kOwnerFd : -1, POLLIN, 0};
  // Without a pidfd (old kernels): look now and then.
  while (poll(&ended, 1, owner_fd >= 0 ? -1 : 100) <= 0) {
    if (owner_fd < 0 && getppid() != owner) break;
  }
  // The servers in it are being killed at the same time, and may still write.
  struct stat found;
  for (int i = 0; i < 1000; ++i) {
    internal::embedded::RemoveTree(path);
    if (stat(path, &found) != 0 && errno == ENOENT) break;
    poll(nullptr, 0, 10);
  }
  _exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Directory>> Directory::Make() {
  constexpr std::string_view kTemplate = "/coord-dev-XXXXXX";
  constexpr std::size_t kInside = 32;  // what a socket's path has behind ours
  std::string parent = internal::embedded::TemporaryDirectory();
  if (parent.size() + kTemplate.size() + kInside > internal::embedded::kLongestSocketPath) {
    parent = "/tmp";
  }
  std::string path = StrCat(parent, kTemplate);
  if (mkdtemp(path.data()) == nullptr) return CannotMake(path, errno);
  std::unique_ptr<Directory> directory(new Directory(getpid(), path));
  OwnedFd owner;
#ifdef SYS_pidfd_open
  owner = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0U)));
#endif
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t remover = fork();
  if (remover == 0) RemoveWhenGone(path.c_str(), owner.get(), directory->owner_);
  const int fault = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (remover < 0) return CannotMake(path, fault);
  directory->remover_ = remover;
  return directory;
}

Directory::~Directory() {
  if (getpid() != owner_) return;
  internal::embedded::RemoveTree(path_.c_str());
  if (remover_ <= 0) return;
  kill(remover_, SIGKILL);
  while (waitpid(remover_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace coord::dev
