// What runs in the keeper (server_keeper.h) and, before exec, in the server.
//
// Forked from a process with threads: only async-signal-safe calls, no allocation, and _exit() at
// the end, so that nothing of the starter (buffers, exit handlers, a leak checker) runs twice.

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "coord/deployment/life_lock.h"
#include "coord/deployment/remove_tree.h"
#include "coord/deployment/server_keeper.h"

namespace coord::internal::embedded {
namespace {

// Where the descriptors that we keep are moved to. The plan's are all above these.
constexpr int kControlFd = 3;
constexpr int kLifeLockFd = 4;
constexpr int kOwnerFd = 5;
constexpr int kFirstOtherFd = 6;

void Report(KeeperReport::Kind kind, int server, int detail) {
  KeeperReport report;
  report.kind = kind;
  report.server = server;
  report.detail = detail;
  // The starter may be gone; nobody is left to tell.
  (void)!send(kControlFd, &report, sizeof(report), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void MoveDescriptor(int from, int to) {
  if (from < 0) {
    close(to);
  } else {
    dup2(from, to);
    fcntl(to, F_SETFD, FD_CLOEXEC);
  }
}

void DropWhatIsTheStarters(const KeeperPlan& plan) {
  // A new session: no terminal, none of its signals, and no job control of the starter's shell.
  setsid();
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
  }
  umask(077);
  for (int fd = 0; fd < 3; ++fd) dup2(plan.null_fd, fd);
  MoveDescriptor(plan.control_fd, kControlFd);
  MoveDescriptor(plan.life_lock_fd, kLifeLockFd);
  MoveDescriptor(plan.owner_fd, kOwnerFd);
  CloseAllFrom(kFirstOtherFd);
  (void)!chdir("/");
}

[[noreturn]] void BecomeServer(const KeeperPlan& plan, pid_t keeper) {
  const auto fail = [](KeeperReport::Kind kind, int detail) {
    Report(kind, getpid(), detail);
    _exit(127);
  };
  if (plan.remove_directory != nullptr) {
    setpgid(0, 0);  // a group with the children that it forks, for the keeper to kill
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) _exit(127);  // it ended before the line above
  }
  if (plan.life_lock_fd >= 0) {
    if (!HoldLifeLock(kLifeLockFd, plan.socket_path)) fail(KeeperReport::kDataInUse, EAGAIN);
    fcntl(kLifeLockFd, F_SETFD, 0);
  }
  if (chdir(plan.working_directory) != 0) fail(KeeperReport::kNoDirectory, errno);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  execve(plan.binary, plan.arguments, plan.environment);
  fail(KeeperReport::kNotExecuted, errno);
  _exit(127);
}

bool OwnerIsGone(const KeeperPlan& plan, const pollfd& control, const pollfd& owner) {
  // The starter never writes: whatever happens on its socket is its end.
  if (control.revents != 0 || owner.revents != 0) return true;
  return owner.fd < 0 && kill(plan.owner_pid, 0) != 0 && errno == ESRCH;
}

}  // namespace

void CloseAllFrom(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, ~0U, 0U) == 0) return;
#endif
  rlimit limit = {};
  constexpr rlim_t kMost = 1 << 20;  // "unlimited" would take for ever
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > kMost) limit.rlim_cur = kMost;
  for (int fd = first; fd < static_cast<int>(limit.rlim_cur); ++fd) close(fd);
}

void RunKeeper(const KeeperPlan& plan) {
  // All signals stay blocked, as the starter left them for us: to end before the server and its
  // files are cared for takes SIGKILL, and then the server's parent-death signal does.
  DropWhatIsTheStarters(plan);
  prctl(PR_SET_NAME, "coord-keeper");
  sigset_t child_ended;
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  const int signal_fd = signalfd(-1, &child_ended, SFD_CLOEXEC | SFD_NONBLOCK);

  const bool guard = plan.remove_directory != nullptr;
  // The server's own children come to us, and not to init, when it ends before them.
  if (guard) prctl(PR_SET_CHILD_SUBREAPER, 1);

  const pid_t keeper = getpid();
  const pid_t server = fork();
  if (server == 0) BecomeServer(plan, keeper);
  if (server > 0) {
    // It does so too: whoever comes first. A shared server stays in our group: one of its own would
    // become an orphaned group when we go, and be continued if somebody has just stopped it.
    if (guard) setpgid(server, server);
    Report(KeeperReport::kStarted, server, keeper);
  } else {
    Report(KeeperReport::kNotForked, 0, errno);
  }

  const int owner_fd = plan.owner_fd >= 0 ? kOwnerFd : -1;
  const int timeout_ms =
      signal_fd >= 0 && owner_fd >= 0 ? -1 : 100;  // old kernels: look now and then
  bool ended = false;
  while (server > 0) {
    pollfd watched[3] = {{kControlFd, POLLIN, 0}, {signal_fd, POLLIN, 0}, {owner_fd, POLLIN, 0}};
    if (poll(watched, 3, timeout_ms) < 0 && errno != EINTR) break;
    // A server that is only stopped signals too: unread, that would make every later poll return at
    // once.
    signalfd_siginfo signalled = {};
    (void)!read(signal_fd, &signalled, sizeof(signalled));
    // Left unreaped, so that its number stays its own until all is done.
    siginfo_t end = {};
    if (waitid(P_PID, static_cast<id_t>(server), &end, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        end.si_pid == server) {
      ended = true;
      break;
    }
    if (OwnerIsGone(plan, watched[0], watched[2])) break;
  }
  // The server has nothing to save, nor has the child that it may have forked to write a file.
  if (guard && server > 0) {
    kill(-server, SIGKILL);
    kill(server, SIGKILL);
  }
  int status = 0;
  if (ended && waitpid(server, &status, 0) == server) {
    Report(KeeperReport::kExited, server, status);
  }
  if (guard) {
    while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
    RemoveTree(plan.remove_directory);
  }
  // Not only by ending: a child that the starter forked in the wrong moment holds a copy of our
  // end.
  shutdown(kControlFd, SHUT_RDWR);
  _exit(0);
}

}  // namespace coord::internal::embedded
