#include "bench/machine.h"

#include <hiredis/hiredis.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

// What the process was given at its start; pinning must not narrow it for the next mode.
const std::vector<int>& AllowedCpus() {
  static const std::vector<int> cpus = [] {
    std::vector<int> found;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) Fatal("sched_getaffinity failed");
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) found.push_back(cpu);
    }
    return found;
  }();
  return cpus;
}

void PinAllThreads(pid_t process, const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &set);
  const auto tasks = internal::StrCat("/proc/", process, "/task");
  for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
    const auto thread = internal::ParseInt64(entry.path().filename().string());
    // A thread that has just ended needs no CPU.
    if (thread && sched_setaffinity(static_cast<pid_t>(*thread), sizeof(set), &set) != 0 &&
        errno != ESRCH) {
      Fatal(internal::StrCat("cannot pin thread ", *thread, ": ", std::strerror(errno)));
    }
  }
}

std::string FirstLineOf(const char* command) {
  std::string line;
  if (FILE* const pipe = popen(command, "re"); pipe != nullptr) {
    char buffer[256];
    if (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) line = buffer;
    pclose(pipe);
  }
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

void Fatal(std::string_view what) {
  std::fflush(stdout);
  std::fprintf(stderr, "bench: %.*s\n", static_cast<int>(what.size()), what.data());
  std::exit(1);
}

std::string_view ModeName(Mode mode) {
  switch (mode) {
    case Mode::kSame:
      return "same";
    case Mode::kPin:
      return "pin";
    case Mode::kAny:
      break;
  }
  return "any";
}

bool ModeIsPossible(Mode mode) { return mode != Mode::kPin || AllowedCpus().size() >= 2; }

void ApplyMode(Mode mode, pid_t server) {
  const std::vector<int>& cpus = AllowedCpus();
  const std::vector<int> first = {cpus.front()};
  const std::vector<int> last = {cpus.back()};
  switch (mode) {
    case Mode::kAny:
      PinAllThreads(server, cpus);
      PinAllThreads(getpid(), cpus);
      break;
    case Mode::kSame:
      PinAllThreads(server, first);
      PinAllThreads(getpid(), first);
      break;
    case Mode::kPin:
      PinAllThreads(server, first);
      PinAllThreads(getpid(), last);
      break;
  }
}

double Neighbours::BusySeconds() {
  std::ifstream file("/proc/stat");
  std::string name;
  double user = 0;
  double nice = 0;
  double system = 0;
  file >> name >> user >> nice >> system;
  return (user + nice + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double Neighbours::Share(std::chrono::duration<double> ours) const {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - since_;
  const double all = passed.count() * static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::clamp((BusySeconds() - busy_ - ours.count()) / all, 0.0, 1.0);
}

nlohmann::ordered_json DescribeMachine() {
  utsname system{};
  uname(&system);
  double load = 0;
  if (getloadavg(&load, 1) != 1) load = -1;
  return {{"cpu", CpuModel()},
          {"cpus", AllowedCpus().size()},
          {"kernel", internal::StrCat(system.sysname, " ", system.release)},
          {"compiler", "g++ " __VERSION__},
          {"server", FirstLineOf("redis-server --version")},
          {"hiredis", internal::StrCat(HIREDIS_MAJOR, ".", HIREDIS_MINOR, ".", HIREDIS_PATCH)},
          {"load_at_start", load}};
}

}  // namespace coord::bench
