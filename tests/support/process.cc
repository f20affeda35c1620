#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>

#include "tests/support/fatal.h"
#include "tests/support/loop_thread.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

UniqueFd AnonymousFile(const char* name, const std::string& content = "") {
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) FatalErrno("memfd_create");
  std::size_t written = 0;
  while (written < content.size()) {
    const ssize_t n = write(fd.get(), content.data() + written, content.size() - written);
    if (n < 0) FatalErrno("write");
    written += static_cast<std::size_t>(n);
  }
  lseek(fd.get(), 0, SEEK_SET);
  return fd;
}

std::string ReadAll(int fd) {
  std::string content;
  char buffer[4096];
  while (true) {
    // At an offset of ours: the descriptor's own is shared with the child.
    const ssize_t n = pread(fd, buffer, sizeof(buffer), static_cast<off_t>(content.size()));
    if (n <= 0) return content;
    content.append(buffer, static_cast<std::size_t>(n));
  }
}

// The parent-death signal comes when the forking THREAD ends, and a server started by a worker must
// not die with the worker. So programs are started by one thread that lasts. A forked child, in
// which it is gone, gets its own.
void RunOnLastingThread(const std::function<void()>& task) {
  if (gettid() == getpid()) return task();
  static std::mutex mutex;
  static pid_t owner = 0;
  static LoopThread* thread = nullptr;
  LoopThread* lasting = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (owner != getpid()) {
      thread = new LoopThread([](std::vector<pollfd>&) { return std::nullopt; },
                              [](std::span<const pollfd>) {});
      owner = getpid();
    }
    lasting = thread;
  }
  lasting->Run(task);
}

// In the child. Async-signal-safe.
void Settle(pid_t parent, int in, int out, int err) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(126);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
}

[[noreturn]] void Complain(const char* what, const char* subject) {
  const char* const pieces[] = {what, subject, ": ", strerrordesc_np(errno), "\n"};
  for (const char* piece : pieces) {
    if (write(STDERR_FILENO, piece, std::strlen(piece)) < 0) break;
  }
  _exit(127);
}

std::vector<std::string> Environment(const ProcessOptions& options) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    bool replaced = false;
    for (const auto& [name, value] : options.env) replaced |= text.starts_with(name + "=");
    if (!replaced) result.push_back(text);
  }
  for (const auto& [name, value] : options.env) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const ProcessOptions& options)
    : owner_(getpid()), out_(AnonymousFile("out")), err_(AnonymousFile("err")) {
  if (argv.empty()) Fatal("a process needs a program");
  const UniqueFd in = AnonymousFile("in", options.stdin_text);
  // All that allocates comes before the fork: another thread may hold the allocator's lock at that
  // moment.
  const std::vector<char*> arguments = Pointers(argv);
  const std::vector<std::string> variables = Environment(options);
  const std::vector<char*> environment = Pointers(variables);
  const char* const directory = options.directory.empty() ? nullptr : options.directory.c_str();
  RunOnLastingThread([&] {
    pid_ = fork();
    if (pid_ != 0) return;
    Settle(owner_, in.get(), out_.get(), err_.get());
    if (directory != nullptr && chdir(directory) != 0) Complain("cannot enter ", directory);
    execvpe(arguments[0], arguments.data(), environment.data());
    Complain("cannot start ", arguments[0]);
  });
  if (pid_ < 0) FatalErrno("fork");
}

Process::Process(const std::function<int()>& body)
    : owner_(getpid()), out_(AnonymousFile("out")), err_(AnonymousFile("err")) {
  const UniqueFd in = AnonymousFile("in");
  std::fflush(nullptr);  // or the child would write it a second time
  pid_ = fork();
  if (pid_ < 0) FatalErrno("fork");
  if (pid_ != 0) return;
  Settle(owner_, in.get(), out_.get(), err_.get());
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "exception in a forked child: %s\n", error.what());
  } catch (...) {
    std::fprintf(stderr, "exception in a forked child\n");
  }
  std::fflush(nullptr);
  _exit(code);
}

Process::Process(Process&& other) noexcept
    : owner_(other.owner_),
      pid_(std::exchange(other.pid_, 0)),
      ended_(other.ended_),
      status_(other.status_),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    if (pid_ > 0 && owner_ == getpid()) Kill();
    owner_ = other.owner_;
    pid_ = std::exchange(other.pid_, 0);
    ended_ = other.ended_;
    status_ = other.status_;
    out_ = std::move(other.out_);
    err_ = std::move(other.err_);
  }
  return *this;
}

Process::~Process() {
  if (pid_ > 0 && owner_ == getpid()) Kill();
}

bool Process::Reap(int flags) {
  while (!ended_) {
    int status = 0;
    const pid_t pid = waitpid(pid_, &status, flags);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) FatalErrno("waitpid");
    if (pid == 0 || WIFSTOPPED(status)) return false;
    ended_ = true;
    status_ = status;
  }
  return true;
}

bool Process::Running() { return !Reap(WNOHANG); }

void Process::Signal(int signal) {
  // Until it is reaped its pid belongs to nobody else, so this cannot hit a stranger.
  if (Running()) kill(pid_, signal);
}

void Process::Pause() {
  Signal(SIGSTOP);
  Reap(WUNTRACED);
}

void Process::Resume() { Signal(SIGCONT); }

ProcessResult Process::Wait(absl::Duration timeout) {
  ProcessResult result;
  if (!Eventually([this] { return !Running(); }, timeout)) {
    result.timed_out = true;
    Signal(SIGKILL);
    Reap(0);
  }
  if (WIFEXITED(status_)) result.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) result.signal = WTERMSIG(status_);
  result.out = out();
  result.err = err();
  return result;
}

ProcessResult Process::Kill() {
  Signal(SIGKILL);
  Reap(0);
  return Wait();
}

std::string Process::out() const { return ReadAll(out_.get()); }
std::string Process::err() const { return ReadAll(err_.get()); }

ProcessResult RunProgram(const std::vector<std::string>& argv, const ProcessOptions& options,
                         absl::Duration timeout) {
  return Process(argv, options).Wait(timeout);
}

}  // namespace coord::testing
