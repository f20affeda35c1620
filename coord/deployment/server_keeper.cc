#include "coord/deployment/server_keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "coord/deployment/private_directory.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

// Above all numbers that the keeper moves descriptors to, so that moving one never closes another.
OwnedFd Raise(int fd) {
  constexpr int kLowest = 10;
  return OwnedFd(fcntl(fd, F_DUPFD_CLOEXEC, kLowest));
}

// What a server, or a script that somebody put in its place, can need, and nothing that could
// change what it does.
std::vector<std::string> ServerEnvironment() {
  std::vector<std::string> environment = {"LANG=C.UTF-8"};
  for (const char* name : {"PATH", "HOME", "TZ"}) {
    if (const char* value = std::getenv(name)) environment.push_back(StrCat(name, "=", value));
  }
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

absl::Status CannotLaunch(const ServerLaunch& launch, std::string_view step, int fault) {
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("cannot start ", launch.binary, ": ", step, ": ", ErrnoText(fault)),
                    kUnavailable);
}

// Forks a process that forks the keeper and ends. Zero, or errno.
int ForkKeeper(const KeeperPlan& plan) {
  // A handler of the caller's must not run in the child.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = fork();
  if (child == 0) {
    const pid_t keeper = fork();
    if (keeper == 0) RunKeeper(plan);
    _exit(keeper < 0 ? errno & 0xff : 0);
  }
  const int fault = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return fault;
  int status = 0;
  pid_t waited = 0;
  do {
    waited = waitpid(child, &status, 0);
  } while (waited < 0 && errno == EINTR);
  // Where the caller ignores SIGCHLD or reaps everything there is no status; then the missing
  // report tells.
  return waited == child && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

}  // namespace

absl::StatusOr<OwnedFd> LaunchServer(const ServerLaunch& launch) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return CannotLaunch(launch, "socketpair", errno);
  }
  OwnedFd ours(ends[0]);
  OwnedFd theirs(ends[1]);
  theirs = Raise(theirs.get());
  OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) null = Raise(null.get());
  OwnedFd life_lock;
  if (launch.life_lock_fd >= 0) life_lock = Raise(launch.life_lock_fd);
  if (!theirs.valid() || !null.valid() || (launch.life_lock_fd >= 0 && !life_lock.valid())) {
    return CannotLaunch(launch, "descriptors for it (/dev/null, ulimit -n)", errno);
  }
  OwnedFd owner;
#ifdef SYS_pidfd_open
  owner = OwnedFd(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0U)));
  if (owner.valid()) owner = Raise(owner.get());
#endif

  std::vector<std::string> arguments = {launch.binary};
  arguments.insert(arguments.end(), launch.arguments.begin(), launch.arguments.end());
  std::vector<std::string> environment = ServerEnvironment();
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);
  KeeperPlan plan = {};
  plan.binary = launch.binary.c_str();
  plan.arguments = argument_pointers.data();
  plan.environment = environment_pointers.data();
  plan.working_directory = launch.working_directory.c_str();
  plan.socket_path = launch.socket_path.c_str();
  plan.remove_directory =
      launch.remove_directory.empty() ? nullptr : launch.remove_directory.c_str();
  plan.null_fd = null.get();
  plan.control_fd = theirs.get();
  plan.life_lock_fd = life_lock.get();
  plan.owner_fd = owner.get();
  plan.owner_pid = getpid();
  if (const int fault = ForkKeeper(plan); fault != 0) return CannotLaunch(launch, "fork", fault);
  return ours;
}

std::optional<KeeperReport> NextReport(int control_fd, int wait_ms) {
  pollfd readable = {control_fd, POLLIN, 0};
  if (poll(&readable, 1, wait_ms) <= 0) return std::nullopt;
  KeeperReport report;
  if (recv(control_fd, &report, sizeof(report), MSG_DONTWAIT) != sizeof(report)) {
    report = KeeperReport();
    report.kind = KeeperReport::kGone;
  }
  return report;
}

void Dismiss(int control_fd) { shutdown(control_fd, SHUT_WR); }

bool WaitUntilKeeperIsGone(int control_fd, long keeper_pid, const Deadline& deadline) {
  // The keeper's end closes when it ends, whoever is its parent by then.
  for (;;) {
    const auto report = NextReport(control_fd, deadline.PollTimeout(1000));
    if (report && report->kind == KeeperReport::kGone) break;
    if (!report && deadline.Passed()) return false;
  }
  // Orphans of a subreaper or of pid 1 become its children, and zombies if it does not wait for
  // them.
  int subreaper = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
  if (keeper_pid > 0 && (getpid() == 1 || subreaper != 0)) {
    while (waitpid(static_cast<pid_t>(keeper_pid), nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  return true;
}

}  // namespace coord::internal::embedded
