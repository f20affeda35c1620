// The signals that `coord lock` catches: read from a descriptor, since what they call for is no
// work for a handler.
#ifndef COORD_TOOLS_SIGNALS_H_
#define COORD_TOOLS_SIGNALS_H_

#include <signal.h>
#include <sys/signalfd.h>

#include <atomic>
#include <optional>
#include <stop_token>
#include <thread>

namespace coord::tools {

// Make it before any other thread: these inherit the mask. One for a process; stays to its end.
class CaughtSignals {
 public:
  // A signal that was ignored when we were started (nohup, a job in the background) stays ignored.
  CaughtSignals();
  CaughtSignals(const CaughtSignals&) = delete;
  CaughtSignals& operator=(const CaughtSignals&) = delete;
  ~CaughtSignals();

  int fd() const { return fd_; }
  // The next one that has come. Never waits.
  std::optional<signalfd_siginfo> Next() const;

  // Puts everything back as it was when we were started. Async-signal-safe; for a child before it
  // executes its program.
  void RestoreInChild() const;
  // Stops this process as SIGTSTP does by default (which the kernel does not where nobody could
  // resume us); returns when resumed.
  void StopHere() const;

 private:
  sigset_t before_;  // the mask
  sigset_t caught_;
  struct sigaction child_before_;  // of SIGCHLD
  int fd_ = -1;
};

// Not from kill(2) but from the kernel, as for the keys of a terminal: its whole foreground group
// has it, our child too.
inline bool FromTerminal(const signalfd_siginfo& info) { return info.ssi_code > 0; }

// Whether a program that does not care for it ends.
bool EndsPrograms(const signalfd_siginfo& info);

// How we end when `info` ends us: 128+n. Except that the terminal's SIGINT is died of, since a
// shell running a script goes on with the script after a command that survived it.
int EndBySignal(const signalfd_siginfo& info);

// While it lives, a signal that ends programs stops `source`; before ReadyToStop() it ends the
// process at once.
class StopOnSignal {
 public:
  StopOnSignal(const CaughtSignals& signals, std::stop_source source);
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  // From now on there may be something to take back.
  void ReadyToStop() { ready_ = true; }
  // Ends watching. What came, if anything.
  std::optional<signalfd_siginfo> Finish();

 private:
  void Watch();

  const CaughtSignals& signals_;
  std::stop_source source_;
  std::atomic<bool> ready_ = false;
  const int end_fd_;
  std::optional<signalfd_siginfo> seen_;  // the thread's until it is joined
  std::thread thread_;
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_SIGNALS_H_
