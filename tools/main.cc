// The coord program: reads the command line, hands over to a subcommand, and ends with its exit
// code.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "coord/internal/strings.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

constexpr char kFooter[] =
    R"(The server is --url, else $COORD_URL, else embedded://, one that is started here when needed:
  redis://[[user]:[password]@]host[:port][/db]   unix:///path[?db=N]   embedded:///path/dir
  redis+sentinel://host,host/master[/db]         redis+cluster://host,host
  rediss://, rediss+sentinel://, rediss+cluster:// are the same over TLS (?ca_file=...)
A password on the command line can be seen by others of this machine; $COORD_URL cannot.

Examples:
  coord lock deploy -- ./deploy.sh            one deployment at a time, on all hosts
  coord lock nightly --no-wait -- ./report    exit status 75 when it runs elsewhere already
  coord elect scheduler --forever -- ./run    on one host at a time, again and again
  coord semaphore uploads --permits 4 -- ./upload.sh
  coord latch wait ready --count 5 --wait 10m && coord barrier start --parties 3
  coord counter add visits && coord id orders --count 5
  coord limit take user:42 --rate 10/s --burst 20
  coord list push events 'deployed 1.4' --max 100
  coord json cas job:17 --if '/state="new"' --set '/state="taken"'
  coord cache memo rates --ttl 1h -- ./fetch-rates   run once an hour for all hosts
  coord fetch https://api.example/rates --expire 1h  fetched once an hour for all hosts

Exit status:
  0    done                                  75   the answer is no: not granted in time, denied,
  1    an error                                   a mismatch, or nothing there
  2    a bad argument; nothing was sent      76   the lock was lost while the command ran
  69   no server, or it does not answer      126, 127   the command cannot be run, is not there
lock, semaphore, elect and cache memo end with their command's own status, or 128+n if signal n
ended it;
health has 0, 1 and 2 of its own.)";

// Shows the command of `coord lock` and its like, which the parser does not know as a positional.
class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = CLI::Formatter::make_usage(app, std::move(name));
    while (!usage.empty() && usage.back() == '\n') usage.pop_back();
    if (app->get_prefix_command()) usage += " -- COMMAND [ARGUMENT...]";
    if (app->get_name() == "push") usage += " VALUE...";
    const CLI::App* const parent = app->get_parent();
    if (parent != nullptr && parent->get_name() == "cache") {
      usage += CacheArguments(app->get_name());
    }
    if (parent != nullptr && parent->get_name() == "dev") usage += " [-- COMMAND [ARGUMENT...]]";
    return usage + "\n";
  }
};

// On every subcommand, so that they may stand before and after it. (CLI11's fallthrough would also
// hand positionals on to the parent.)
void AddGlobalOptions(CLI::App& app, Program& program) {
  app.add_option("--url", program.urls,
                 "The server; else $COORD_URL, else embedded://. Several make a quorum for locks")
      ->allow_extra_args(false)
      ->type_name("URL")
      ->group("Global options");
  app.add_option("--prefix", program.prefix, "Before the name of every key (coord:)")
      ->type_name("TEXT")
      ->group("Global options");
  app.add_option("--timeout", program.timeout,
                 "How long the server may take to answer, and to connect (5s)")
      ->type_name("TIME")
      ->group("Global options");
  app.add_flag("--json", program.json, "Results as JSON, an object a line")
      ->group("Global options");
  for (CLI::App* child : app.get_subcommands({})) AddGlobalOptions(*child, program);
}

// Whether the words up to "--" belong to a subcommand whose tail is somebody else's. CLI11 would
// look for options of the parent behind a "--" that follows the last positional.
bool TakesTail(const std::vector<std::string>& words) {
  static constexpr std::array<std::string_view, 3> kWithValue = {"--url", "--prefix", "--timeout"};
  std::vector<std::string_view> bare;
  for (std::size_t i = 0; i < words.size() && bare.size() < 2; ++i) {
    if (std::find(kWithValue.begin(), kWithValue.end(), words[i]) != kWithValue.end()) {
      ++i;
    } else if (!words[i].starts_with('-')) {
      bare.push_back(words[i]);
    }
  }
  if (bare.empty()) return false;
  return bare[0] == "lock" || bare[0] == "elect" || bare[0] == "semaphore" || bare[0] == "dev" ||
         bare[0] == "cache" || (bare.size() == 2 && bare[0] == "list" && bare[1] == "push");
}

void CutTail(std::vector<std::string>& words, Program& program) {
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes == words.end() || !TakesTail({words.begin(), dashes})) return;
  program.tail.emplace(dashes + 1, words.end());
  words.erase(dashes, words.end());
}

// The parser's messages repeat what was typed, and a URL in the wrong place may hold a password.
std::string WithoutUrls(std::string message) {
  const std::size_t at = message.find("://");
  if (at != std::string::npos) message.replace(at + 3, std::string::npos, "...");
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message;
}

// A socket that got the number of a closed standard descriptor would receive our messages.
void OpenStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      (void)!open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
  }
}

int Run(int argc, char** argv) {
  Program program;
  CLI::App app(
      "Locks, semaphores, counters, rate limits, recent lists, compare-and-set and caches over "
      "Redis.",
      "coord");
  app.formatter(std::make_shared<Formatter>());
  app.require_subcommand(1);
  app.set_version_flag("--version", "coord " COORD_VERSION);
  app.footer(kFooter);
  AddLock(app, program);
  AddLocks(app, program);
  AddUnlock(app, program);
  AddQuorum(app, program);
  AddElect(app, program);
  AddSemaphore(app, program);
  AddLatch(app, program);
  AddBarrier(app, program);
  AddCounter(app, program);
  AddId(app, program);
  AddResolve(app, program);
  AddLimit(app, program);
  AddList(app, program);
  AddJson(app, program);
  AddCache(app, program);
#ifdef COORD_HAS_HTTP
  AddFetch(app, program);
#endif
  AddEmbedded(app, program);
  AddDev(app, program);
  AddHealth(app, program);
  AddDoctor(app, program);
  AddDemo(app, program);
  AddGlobalOptions(app, program);

  std::vector<std::string> words(argv + 1, argv + argc);
  CutTail(words, program);
  // CLI11 ends a subcommand there, and would drop it without a word.
  if (std::find(words.begin(), words.end(), "++") != words.end()) {
    return program.Usage("the argument \"++\" must stand after \"--\"");
  }
  std::reverse(words.begin(), words.end());
  try {
    app.parse(std::move(words));
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::string message = error.what();
    const std::vector<std::string> unknown = app.remaining(true);
    if (error.get_name() == "RequiredError" && !unknown.empty()) {
      message += ", and " + internal::Quoted(unknown[0]) + " was not expected";
    }
    return program.Usage(WithoutUrls(std::move(message)) + " (see coord --help)");
  }
  return program.exit_code;
}

}  // namespace
}  // namespace coord::tools

int main(int argc, char** argv) {
  coord::tools::OpenStandardDescriptors();
  int code = coord::tools::kExitError;
  try {
    code = coord::tools::Run(argc, argv);
  } catch (const std::exception& error) {  // out of memory, say
    std::fprintf(stderr, "coord: %s\n", error.what());
  }
  // A result that could not be written was not given.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fprintf(stderr, "coord: cannot write to standard output: %s\n", std::strerror(errno));
    if (code == coord::tools::kExitOk) code = coord::tools::kExitError;
  }
  return code;
}
