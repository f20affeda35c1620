#include "tools/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace coord::tools {
namespace {

// Zero, or why it cannot be run.
int Fault(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EACCES;
  return faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

pid_t Reap(pid_t pid) {
  pid_t reaped = 0;
  do {
    reaped = waitpid(pid, nullptr, 0);
  } while (reaped < 0 && errno == EINTR);
  return reaped;
}

}  // namespace

Executable FindExecutable(const std::string& command) {
  if (command.empty()) return {command, ENOENT};
  if (command.find('/') != std::string::npos) return {command, Fault(command)};
  const char* const path = std::getenv("PATH");
  const std::string_view places = path != nullptr ? path : "/bin:/usr/bin";
  int fault = ENOENT;
  std::size_t begin = 0;
  while (begin <= places.size()) {
    const std::size_t end = std::min(places.find(':', begin), places.size());
    const std::string directory(places.substr(begin, end - begin));
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + command;
    const int here = Fault(candidate);
    if (here == 0) return {candidate, 0};
    if (here != ENOENT && here != ENOTDIR) fault = here;
    begin = end + 1;
  }
  return {command, fault};
}

std::vector<std::string> EnvironmentWith(
    const std::vector<std::pair<std::string, std::string>>& variables) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool replaced = false;
    for (const auto& [name, value] : variables) {
      replaced |= text.starts_with(name) && text.substr(name.size()).starts_with('=');
    }
    if (!replaced) environment.emplace_back(text);
  }
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

ChildProcess StartChild(const std::string& path, const std::vector<std::string>& arguments,
                        const std::vector<std::string>& environment,
                        const std::function<void()>& in_child) {
  const std::vector<char*> argv = Pointers(arguments);
  const std::vector<char*> envp = Pointers(environment);
  // A script without a first line that names its interpreter is the shell's, as execvp has it.
  std::vector<std::string> shell_arguments = {"/bin/sh", path};
  if (arguments.size() > 1) {
    shell_arguments.insert(shell_arguments.end(), arguments.begin() + 1, arguments.end());
  }
  const std::vector<char*> shell_argv = Pointers(shell_arguments);
  // Closed by a successful exec; else it brings the reason.
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {.fault = errno};
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);  // it died before the line above
    in_child();
    execve(path.c_str(), argv.data(), envp.data());
    if (errno == ENOEXEC) execve("/bin/sh", shell_argv.data(), envp.data());
    const int fault = errno;
    (void)!write(ends[1], &fault, sizeof(fault));
    _exit(127);
  }
  const int fork_fault = pid < 0 ? errno : 0;
  close(ends[1]);
  int fault = 0;
  ssize_t n = 0;
  if (pid > 0) {
    do {
      n = read(ends[0], &fault, sizeof(fault));
    } while (n < 0 && errno == EINTR);
  }
  close(ends[0]);
  if (pid < 0) return {.fault = fork_fault};
  if (n == 0) return {.pid = pid};
  Reap(pid);
  return {.fault = fault, .forked = true};
}

}  // namespace coord::tools
