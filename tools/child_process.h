// Running the command of `coord lock`.
#ifndef COORD_TOOLS_CHILD_PROCESS_H_
#define COORD_TOOLS_CHILD_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace coord::tools {

struct Executable {
  std::string path;
  int fault = 0;  // errno: ENOENT, or why the one that is there cannot be run
};

// Where a shell would find `command`: by $PATH unless there is a '/' in it.
Executable FindExecutable(const std::string& command);

// The environment of this process with `name` set, over what it had.
std::vector<std::string> EnvironmentWith(
    const std::vector<std::pair<std::string, std::string>>& variables);

struct ChildProcess {
  pid_t pid = 0;
  int fault = 0;        // errno; then there is no child
  bool forked = false;  // with a fault: it was the program that could not be executed
};

// Starts `path` as our child, in our process group: then the terminal's keys, its foreground and
// its stopping work as for a command without us. Gets SIGTERM if we die first. Shares our standard
// descriptors. Returns when the program runs, or cannot.
//
// Other threads may run: only async-signal-safe calls between fork and exec. `in_child` runs there.
ChildProcess StartChild(const std::string& path, const std::vector<std::string>& arguments,
                        const std::vector<std::string>& environment,
                        const std::function<void()>& in_child);

}  // namespace coord::tools

#endif  // COORD_TOOLS_CHILD_PROCESS_H_
