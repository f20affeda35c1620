#include "tools/demo_crew.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include "absl/strings/str_format.h"

namespace coord::tools {
namespace {

// Above what workers inherit, so that putting one in its place never closes another.
constexpr int kLowestFd = 10;

constexpr std::int64_t kNanosecondsAMillisecond = 1'000'000;
constexpr std::int64_t kStartIn = 10 * kNanosecondsAMillisecond;
// Of a wait: far beyond what any takes, so that a hang becomes an error.
constexpr std::int64_t kPatience = 30'000 * kNanosecondsAMillisecond;

constexpr std::array<int, 3> kWatched = {SIGINT, SIGTERM, SIGHUP};
volatile sig_atomic_t caught_signal = 0;
struct sigaction actions_before[kWatched.size()];

int Raise(int fd) {
  const int raised = fcntl(fd, F_DUPFD_CLOEXEC, kLowestFd);
  close(fd);
  return raised;
}

absl::Status Failure(std::string_view what) {
  return absl::InternalError(absl::StrFormat("%s: %s", what, strerrordesc_np(errno)));
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In the forked child: nothing that takes a lock or memory, since another thread of ours may have
// held either.
[[noreturn]] void BecomeWorker(pid_t parent, int log, int control, char* const* arguments,
                               char* const* environment) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(126);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(log, kLogFd);
  dup2(control, kControlFd);
  execve("/proc/self/exe", arguments, environment);
  _exit(127);
}

}  // namespace

Crew::Crew(Place place)
    : place_(std::move(place)),
      // In memory, so that nothing is left on a disk however this ends. Appending holds for all who
      // inherit it.
      log_(Raise(memfd_create("coord-demo", MFD_CLOEXEC))) {
  if (log_ >= 0) fcntl(log_, F_SETFL, O_APPEND);
}

Crew::~Crew() {
  for (Worker& worker : workers_) {
    if (worker.pid != 0) kill(worker.pid, SIGKILL);
    Reap(worker);
  }
  if (log_ >= 0) close(log_);
}

absl::Status Crew::Add(char letter, std::string_view role,
                       const std::vector<std::string>& arguments) {
  if (log_ < 0) return Failure("the file that the processes share");
  std::vector<std::string> argv = {"coord"};
  if (!place_.prefix.empty()) argv.insert(argv.end(), {"--prefix", place_.prefix});
  if (!place_.timeout.empty()) argv.insert(argv.end(), {"--timeout", place_.timeout});
  std::vector<std::string> environment;
  if (place_.urls.size() == 1) {
    environment.push_back("COORD_URL=" + place_.urls.front());
  } else {
    for (const std::string& url : place_.urls) argv.insert(argv.end(), {"--url", url});
  }
  argv.insert(argv.end(), {"demo-worker", std::string(role), std::string(1, letter)});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("COORD_")) environment.emplace_back(*entry);
  }
  const std::vector<char*> argv_pointers = Pointers(argv);
  const std::vector<char*> environment_pointers = Pointers(environment);

  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return Failure("socketpair");
  const int ours = Raise(ends[0]);
  const int theirs = Raise(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    BecomeWorker(parent, log_, theirs, argv_pointers.data(), environment_pointers.data());
  }
  close(theirs);
  if (pid < 0) {
    close(ours);
    return Failure("fork");
  }
  Worker worker;
  worker.letter = letter;
  worker.pid = pid;
  worker.control = ours;
  workers_.push_back(worker);
  return absl::OkStatus();
}

Crew::Worker& Crew::Of(char letter) {
  return *std::find_if(workers_.begin(), workers_.end(),
                       [letter](const Worker& worker) { return worker.letter == letter; });
}

void Crew::Reap(Worker& worker) {
  if (worker.pid != 0) {
    while (waitpid(worker.pid, &worker.status, 0) < 0 && errno == EINTR) {
    }
    worker.pid = 0;
  }
  if (worker.control >= 0) close(std::exchange(worker.control, -1));
}

// A message is that it is ready; the end of messages is the end of the process.
void Crew::Receive(Worker& worker) {
  char message;
  const ssize_t size = recv(worker.control, &message, 1, MSG_DONTWAIT);
  if (size == 1) worker.ready = true;
  if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) Reap(worker);
}

absl::Status Crew::Await(std::string_view what, const std::function<absl::StatusOr<bool>()>& done) {
  const std::int64_t deadline = BootNanoseconds() + kPatience;
  while (true) {
    const absl::StatusOr<bool> is_done = done();
    if (!is_done.ok()) return is_done.status();
    if (*is_done) return absl::OkStatus();
    if (SignalWatch::Caught() != 0) return absl::CancelledError("interrupted");
    if (BootNanoseconds() > deadline) {
      return absl::DeadlineExceededError(absl::StrFormat("waited 30 s in vain for %s", what));
    }
    std::vector<pollfd> fds;
    for (const Worker& worker : workers_) fds.push_back({worker.control, POLLIN, 0});
    // Short, since the file and a signal that another thread got wake nobody.
    poll(fds.data(), fds.size(), 5);
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      if (fds[i].fd >= 0 && fds[i].revents != 0) Receive(workers_[i]);
    }
  }
}

absl::Status Crew::Ended(const Worker& worker) const {
  if (worker.killed) return absl::OkStatus();
  if (WIFEXITED(worker.status) && WEXITSTATUS(worker.status) == 0) return absl::OkStatus();
  // It says why in the file, if it could.
  const std::string mark = absl::StrFormat("%c error ", worker.letter);
  std::istringstream lines(Text());
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(mark)) {
      return absl::InternalError(
          absl::StrFormat("process %c: %s", worker.letter, line.substr(mark.size())));
    }
  }
  if (WIFSIGNALED(worker.status)) {
    return absl::InternalError(absl::StrFormat("process %c was ended by signal %d", worker.letter,
                                               WTERMSIG(worker.status)));
  }
  return absl::InternalError(absl::StrFormat("process %c ended with exit code %d", worker.letter,
                                             WEXITSTATUS(worker.status)));
}

absl::Status Crew::Ready() {
  return Await("the processes to connect", [this]() -> absl::StatusOr<bool> {
    for (const Worker& worker : workers_) {
      if (worker.pid == 0) {
        if (absl::Status status = Ended(worker); !status.ok()) return status;
      } else if (!worker.ready) {
        return false;
      }
    }
    return true;
  });
}

void Crew::Release(Worker& worker, std::int64_t moment) {
  if (worker.pid == 0 || std::exchange(worker.going, true)) return;
  send(worker.control, &moment, sizeof(moment), MSG_NOSIGNAL);
}

void Crew::Go() {
  const std::int64_t moment = BootNanoseconds() + kStartIn;
  for (Worker& worker : workers_) Release(worker, moment);
}

void Crew::Go(char letter) { Release(Of(letter), BootNanoseconds()); }

void Crew::Dismiss(char letter) {
  Worker& worker = Of(letter);
  if (worker.control >= 0) shutdown(worker.control, SHUT_WR);
}

void Crew::DismissAll() {
  for (const Worker& worker : workers_) Dismiss(worker.letter);
}

void Crew::Kill(char letter) {
  Worker& worker = Of(letter);
  if (worker.pid == 0) return;
  worker.killed = true;
  kill(worker.pid, SIGKILL);
  Reap(worker);
}

absl::Status Crew::Await(char letter, std::string_view event) {
  return Await(event, [this, letter, event]() -> absl::StatusOr<bool> {
    const std::vector<Entry> log = Log();
    if (std::any_of(log.begin(), log.end(), [&](const Entry& entry) {
          return entry.who == letter && entry.event == event;
        })) {
      return true;
    }
    if (Of(letter).pid != 0) return false;
    if (absl::Status status = Ended(Of(letter)); !status.ok()) return status;
    return absl::InternalError(absl::StrFormat("process %c ended before its time", letter));
  });
}

absl::Status Crew::Await(std::string_view event, int count) {
  return Await(event, [this, event, count]() -> absl::StatusOr<bool> {
    for (const Worker& worker : workers_) {
      if (worker.pid != 0) continue;
      if (absl::Status status = Ended(worker); !status.ok()) return status;
    }
    const std::vector<Entry> log = Log();
    return std::count_if(log.begin(), log.end(),
                         [event](const Entry& entry) { return entry.event == event; }) >= count;
  });
}

absl::Status Crew::Join() {
  for (const Worker& worker : workers_) {
    if (absl::Status status = Join(worker.letter); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Crew::Join(char letter) {
  return Await("a process to end", [this, letter]() -> absl::StatusOr<bool> {
    if (Of(letter).pid != 0) return false;
    if (absl::Status status = Ended(Of(letter)); !status.ok()) return status;
    return true;
  });
}

std::string Crew::Text() const {
  std::string text;
  char buffer[65536];
  while (true) {
    const ssize_t size = pread(log_, buffer, sizeof(buffer), static_cast<off_t>(text.size()));
    if (size <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(size));
  }
}

std::vector<Entry> Crew::Log() const {
  std::vector<Entry> entries;
  std::istringstream lines(Text());
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Entry entry;
    words >> entry.who >> entry.event >> entry.at;
    for (std::int64_t number; words >> number;) entry.numbers.push_back(number);
    entries.push_back(std::move(entry));
  }
  return entries;
}

SignalWatch::SignalWatch() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { caught_signal = signal; };
  for (std::size_t i = 0; i < kWatched.size(); ++i) {
    sigaction(kWatched[i], &action, &actions_before[i]);
    // What the caller has turned off (nohup) stays off.
    if (actions_before[i].sa_handler == SIG_IGN)
      sigaction(kWatched[i], &actions_before[i], nullptr);
  }
}

SignalWatch::~SignalWatch() {
  for (std::size_t i = 0; i < kWatched.size(); ++i) {
    sigaction(kWatched[i], &actions_before[i], nullptr);
  }
}

int SignalWatch::Caught() { return caught_signal; }

absl::Status SignalWatch::SleepUntil(std::int64_t moment) {
  while (BootNanoseconds() < moment) {
    if (Caught() != 0) return absl::CancelledError("interrupted");
    poll(nullptr, 0, 5);
  }
  return absl::OkStatus();
}

}  // namespace coord::tools
