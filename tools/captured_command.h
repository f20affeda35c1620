// Running a command for its output.
#ifndef COORD_TOOLS_CAPTURED_COMMAND_H_
#define COORD_TOOLS_CAPTURED_COMMAND_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/program.h"
#include "tools/signals.h"

namespace coord::tools {

struct CapturedCommand {
  std::vector<std::string> words;
  std::size_t max_bytes = 0;                             // of output that is kept
  absl::Duration time_limit = absl::InfiniteDuration();  // then it is ended
  absl::Duration grace = absl::Seconds(5);               // between SIGTERM and SIGKILL
};

struct CapturedEnd {
  int exit_code = kExitError;  // its own; 128+n when signal n ended it
  bool ran = false;            // it was started; else why not has been said
  std::string output = {};     // all of it, unless it was too large
  bool too_large = false;      // it was passed on to our standard output instead
  bool timed_out = false;
  // The last signal by which somebody wanted it to end, and the terminal's SIGINT if that did.
  std::optional<int> told_by = {};
  std::optional<signalfd_siginfo> interrupt = {};

  bool succeeded() const { return ran && exit_code == kExitOk && !told_by && !timed_out; }
};

// Runs it as our child until it ends; passes signals on to it. Its standard input is empty, its
// standard error ours. What processes that it leaves behind write later is nobody's.
CapturedEnd RunCaptured(const CapturedCommand& command, const CaughtSignals& signals);

}  // namespace coord::tools

#endif  // COORD_TOOLS_CAPTURED_COMMAND_H_
