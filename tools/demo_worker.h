// One process of `coord demo`, started by Crew.
#ifndef COORD_TOOLS_DEMO_WORKER_H_
#define COORD_TOOLS_DEMO_WORKER_H_

#include <cstdint>
#include <string>

#include "tools/program.h"

namespace coord::tools {

struct WorkerTask {
  std::string role;
  char letter = 0;          // what the worker is called
  std::string name;         // of the lock, list, ...
  std::int64_t number = 0;  // how often
};

// Returns the exit code. Needs the descriptors that Crew hands down.
int RunWorker(const Program& program, const WorkerTask& task);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_WORKER_H_
