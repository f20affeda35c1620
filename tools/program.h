// What all subcommands of the coord program share: the global options, how results and errors are
// shown, the exit codes.
#ifndef COORD_TOOLS_PROGRAM_H_
#define COORD_TOOLS_PROGRAM_H_

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/quorum.h"

namespace coord::tools {

// Documented in README.md ("Exit codes"); the numbers 69 and 75 are those of sysexits.h.
enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitUsage = 2,
  kExitUnreachable = 69,  // no server, or it does not answer
  kExitNotGranted = 75,   // not granted in time, denied, mismatch, nothing there
  kExitLost = 76,         // the lease was lost while the command ran
  kExitNotExecutable = 126,
  kExitNotFound = 127,
};

// What a failure is to a shell.
int ExitCodeOf(const absl::Status& status);

class Program {
 public:
  std::vector<std::string> urls;  // --url; none: $COORD_URL, else embedded://; several: a quorum
  std::string prefix;             // --prefix; empty: the library's
  std::string timeout;            // --timeout; empty: the library's
  bool json = false;

  // What stood after the first "--", for the subcommands whose words end in somebody else's (lock,
  // semaphore, list push, cache). Unset: no "--".
  std::optional<std::vector<std::string>> tail;

  // Connects with the global options. InvalidArgument for a quorum, which is for locks alone.
  absl::StatusOr<Client> Connect(ClientOptions options = {}) const;
  bool quorum() const { return urls.size() > 1; }
  absl::StatusOr<Quorum> ConnectQuorum(QuorumOptions options = {}) const;
  // The global options, as the library takes them.
  absl::StatusOr<ClientOptions> Options(ClientOptions options = {}) const;
  // The one URL; empty when none was given.
  std::string url() const { return urls.empty() ? std::string() : urls.front(); }

  // Writes a status to stderr for a person and returns its exit code.
  int Fail(const absl::Status& status) const;
  // The same for a usage error that only this program knows of.
  int Usage(std::string_view message) const;
  // The exit code of a subcommand that ended so; writes what went wrong.
  int Finish(const absl::StatusOr<int>& outcome) const;

  // Each subcommand's callback leaves its exit code here.
  int exit_code = kExitOk;
};

// A line for people on stderr, in one write: others write there too.
void Say(std::string_view text);

// One line of JSON on stdout. Strings must be UTF-8, see JsonText.
void PrintJson(const nlohmann::json& value);

// `bytes` as a JSON string; where they are not UTF-8, which JSON cannot hold, as {"base64": "..."}.
nlohmann::json JsonText(std::string_view bytes);

// Bytes and a line end on stdout.
void PrintLine(std::string_view bytes);

// "10s", "250ms", "2h30m", "1.5s", "1d"; a plain number is refused, since it could mean anything.
// `what` is the option's name, for the message. Never negative; at most 100 years.
absl::StatusOr<absl::Duration> ParseDuration(std::string_view what, std::string_view text);

// One of these a subcommand, each in a file of its own.
void AddLock(CLI::App& app, Program& program);
void AddLocks(CLI::App& app, Program& program);
void AddUnlock(CLI::App& app, Program& program);
void AddResolve(CLI::App& app, Program& program);
void AddQuorum(CLI::App& app, Program& program);
void AddElect(CLI::App& app, Program& program);
void AddSemaphore(CLI::App& app, Program& program);
void AddLatch(CLI::App& app, Program& program);
void AddBarrier(CLI::App& app, Program& program);
void AddCounter(CLI::App& app, Program& program);
void AddId(CLI::App& app, Program& program);
void AddLimit(CLI::App& app, Program& program);
void AddList(CLI::App& app, Program& program);
void AddJson(CLI::App& app, Program& program);
void AddCache(CLI::App& app, Program& program);
void AddFetch(CLI::App& app, Program& program);  // where the program was built with coord::http
void AddEmbedded(CLI::App& app, Program& program);
void AddDev(CLI::App& app, Program& program);
void AddHealth(CLI::App& app, Program& program);
void AddDoctor(CLI::App& app, Program& program);
void AddDemo(CLI::App& app, Program& program);

// What stands behind the options of `coord cache SUBCOMMAND`, for its help; the parser does not
// know.
std::string_view CacheArguments(std::string_view subcommand);

}  // namespace coord::tools

#endif  // COORD_TOOLS_PROGRAM_H_
