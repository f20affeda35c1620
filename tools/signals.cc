#include "tools/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace coord::tools {
namespace {

// SIGTTIN and SIGTTOU stop us together with our child by themselves; SIGTSTP must not stop us where
// the child does not heed it.
constexpr int kCaught[] = {SIGHUP,  SIGINT,   SIGQUIT, SIGTERM, SIGUSR1,
                           SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

}  // namespace

bool EndsPrograms(const signalfd_siginfo& info) {
  const std::uint32_t signal = info.ssi_signo;
  return signal != SIGWINCH && signal != SIGTSTP && signal != SIGCONT && signal != SIGCHLD;
}

CaughtSignals::CaughtSignals() {
  sigemptyset(&caught_);
  for (const int signal : kCaught) {
    struct sigaction now = {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler != SIG_IGN) sigaddset(&caught_, signal);
  }
  sigaddset(&caught_, SIGCHLD);
  // Where it is ignored, children vanish without a status.
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &standard, &child_before_);
  pthread_sigmask(SIG_BLOCK, &caught_, &before_);
  fd_ = signalfd(-1, &caught_, SFD_CLOEXEC | SFD_NONBLOCK);
}

CaughtSignals::~CaughtSignals() {
  if (fd_ >= 0) close(fd_);
}

std::optional<signalfd_siginfo> CaughtSignals::Next() const {
  signalfd_siginfo info = {};
  if (read(fd_, &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return std::nullopt;
  return info;
}

void CaughtSignals::RestoreInChild() const {
  sigaction(SIGCHLD, &child_before_, nullptr);
  sigprocmask(SIG_SETMASK, &before_, nullptr);
}

void CaughtSignals::StopHere() const {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  raise(SIGTSTP);
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
}

int EndBySignal(const signalfd_siginfo& info) {
  const int signal = static_cast<int>(info.ssi_signo);
  if (signal == SIGINT && FromTerminal(info)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    raise(signal);
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }
  return 128 + signal;
}

StopOnSignal::StopOnSignal(const CaughtSignals& signals, std::stop_source source)
    : signals_(signals),
      source_(std::move(source)),
      end_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Watch(); }) {}

StopOnSignal::~StopOnSignal() {
  Finish();
  close(end_fd_);
}

std::optional<signalfd_siginfo> StopOnSignal::Finish() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    (void)!write(end_fd_, &one, sizeof(one));
    thread_.join();
  }
  return seen_;
}

void StopOnSignal::Watch() {
  pollfd polled[] = {{signals_.fd(), POLLIN, 0}, {end_fd_, POLLIN, 0}};
  while (true) {
    poll(polled, 2, -1);
    while (const std::optional<signalfd_siginfo> info = signals_.Next()) {
      if (info->ssi_signo == SIGTSTP) signals_.StopHere();
      if (!EndsPrograms(*info)) continue;
      if (!ready_) _exit(EndBySignal(*info));
      seen_ = info;
      source_.request_stop();
      return;
    }
    if (polled[1].revents != 0) return;
  }
}

}  // namespace coord::tools
