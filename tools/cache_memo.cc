// coord cache memo: a command's output, made by one and used by all until it expires.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "cache/key_builder.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/cache_access.h"
#include "tools/captured_command.h"
#include "tools/child_process.h"
#include "tools/guarded_command.h"
#include "tools/signals.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  CachePlace place;
  std::string key;
  Text ttl;
  Text stale_if_error;
  Text stale_while_revalidate;
  Text command_timeout;
  Text wait;
  Text takeover;
  Text max_bytes;
  bool refresh = false;
  bool key_from_args = false;
  // We are the process that makes a value anew while others are served the stale one.
  bool revalidates = false;
};

struct Plan {
  std::string key;
  Ttl ttl;
  absl::Duration stale_if_error;
  absl::Duration stale_while_revalidate;
  absl::Duration wait = absl::InfiniteDuration();
  absl::Duration takeover = absl::Seconds(5);
  CapturedCommand command;

  absl::Duration stale_for() const { return std::max(stale_if_error, stale_while_revalidate); }
};

// Not more than fits into a value, with what is kept beside it.
constexpr std::int64_t kMostBytes = (std::int64_t{512} << 20) - 4096;

absl::StatusOr<std::vector<std::string>> CommandWords(const CLI::App& app, const Program& program,
                                                      const Words& words) {
  std::vector<std::string> command = app.remaining();
  if (!command.empty() && command[0].starts_with('-')) {
    return InvalidArgument(
        StrCat("unknown option ", Quoted(command[0]), " (see coord cache memo --help)"));
  }
  if (words.key_from_args && (!command.empty() || !program.tail)) {
    return InvalidArgument("with --key-from-args the command stands after \"--\"");
  }
  if (program.tail) {
    if (!command.empty()) command.push_back("--");
    command.insert(command.end(), program.tail->begin(), program.tail->end());
  }
  if (command.empty()) {
    return InvalidArgument("COMMAND is missing: coord cache memo KEY -- COMMAND...");
  }
  return command;
}

absl::StatusOr<Plan> ReadPlan(const CLI::App& app, const Program& program, const Words& words) {
  Plan plan;
  absl::StatusOr<std::vector<std::string>> command = CommandWords(app, program, words);
  if (!command.ok()) return command.status();
  plan.command.words = *std::move(command);
  plan.key = words.key;
  if (words.key_from_args) {
    absl::StatusOr<std::string> key =
        KeyBuilder(words.key.empty() ? "memo" : words.key).Build("args", plan.command.words);
    if (!key.ok()) return key.status();
    plan.key = *std::move(key);
  } else if (plan.key.empty()) {
    return InvalidArgument("KEY is missing, or --key-from-args");
  }
  absl::StatusOr<Ttl> ttl = ReadTtl("--ttl", words.ttl);
  if (!ttl.ok()) return ttl.status();
  plan.ttl = *ttl;
  for (const auto& [what, text, target] :
       {std::tuple("--stale-if-error", &words.stale_if_error, &plan.stale_if_error),
        std::tuple("--stale-while-revalidate", &words.stale_while_revalidate,
                   &plan.stale_while_revalidate)}) {
    if (!*text) continue;
    absl::StatusOr<Ttl> length = ReadTtl(what, *text);
    if (!length.ok()) return length.status();
    if (length->kind() == Ttl::Kind::kNever) {
      return InvalidArgument(StrCat(what, " must end some time; \"never\" is no length"));
    }
    *target = length->length();
  }
  Arguments given;
  if (const auto limit = given.Duration("--command-timeout", words.command_timeout)) {
    plan.command.time_limit = *limit;
  }
  if (const auto wait = given.Duration("--wait", words.wait)) plan.wait = *wait;
  if (const auto takeover = given.Duration("--takeover", words.takeover)) {
    plan.takeover = *takeover;
  }
  const std::int64_t max_bytes =
      given.Integer("--max-bytes", words.max_bytes, 1).value_or(std::int64_t{64} << 20);
  if (!given.status().ok()) return given.status();
  if (max_bytes > kMostBytes) {
    return InvalidArgument(
        StrCat("--max-bytes is ", max_bytes, "; it must be ", kMostBytes, " or less"));
  }
  plan.command.max_bytes = static_cast<std::size_t>(max_bytes);
  return plan;
}

// Requests the stop when the time is over, unless it is told before.
class Timer {
 public:
  Timer(absl::Duration time, std::stop_source stop) {
    if (time > absl::Hours(24 * 365)) return;
    thread_ = std::thread([this, time, stop]() mutable {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, absl::ToChronoNanoseconds(time), [this] { return ended_; })) {
        return;
      }
      fired_ = true;
      stop.request_stop();
    });
  }
  ~Timer() { End(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Whether it was over.
  bool End() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
    return fired_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  bool fired_ = false;  // the thread's until it is joined
  std::thread thread_;
};

// Makes the value anew in a process of its own, which outlives us and has nothing of ours but the
// environment. If it cannot be started, the next one tries.
void Revalidate(const Program& program, const Words& words, const Plan& plan) {
  std::vector<std::string> argv = {"coord", "cache", "memo", "--revalidates"};
  const auto add = [&argv](const char* option, const Text& text) {
    if (text) argv.insert(argv.end(), {option, *text});
  };
  // Not its password, which others could read there.
  std::vector<std::pair<std::string, std::string>> environment;
  if (!program.url().empty()) environment.emplace_back("COORD_URL", program.url());
  if (!program.prefix.empty()) argv.insert(argv.end(), {"--prefix", program.prefix});
  if (!program.timeout.empty()) argv.insert(argv.end(), {"--timeout", program.timeout});
  add("--key-prefix", words.place.key_prefix);
  if (words.place.raw) argv.emplace_back("--raw");
  add("--ttl", words.ttl);
  add("--stale-if-error", words.stale_if_error);
  add("--stale-while-revalidate", words.stale_while_revalidate);
  add("--command-timeout", words.command_timeout);
  add("--takeover", words.takeover);
  add("--max-bytes", words.max_bytes);
  // Who is not the first has nothing to do here.
  argv.insert(argv.end(), {"--wait", "1s", plan.key, "--"});
  argv.insert(argv.end(), plan.command.words.begin(), plan.command.words.end());
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  const ChildProcess child =
      StartChild("/proc/self/exe", argv, EnvironmentWith(environment), [null, none] {
        prctl(PR_SET_PDEATHSIG, 0);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        setsid();
        for (int fd = 0; null >= 0 && fd <= 2; ++fd) dup2(null, fd);
      });
  if (null >= 0) close(null);
  if (child.fault != 0) Say(StrCat("cannot start a process: ", std::strerror(child.fault)));
}

int Print(const std::string& output, int exit_code = kExitOk) {
  std::fwrite(output.data(), 1, output.size(), stdout);
  return exit_code;
}

// One run of the subcommand.
class Memo {
 public:
  Memo(const Program& program, const Words& words, const Plan& plan)
      : program_(program), words_(words), plan_(plan) {}

  int Run() {
    absl::StatusOr<Client> client = program_.Connect();
    if (!client.ok()) return program_.Fail(client.status());
    stopper_.ReadyToStop();
    const int code = RunOn(*client);
    client->Close();  // takes back first what was given up
    if (interrupt_) return EndBySignal(*interrupt_);
    return code;
  }

 private:
  using Found = absl::StatusOr<Lookup<std::string>>;

  int RunOn(const Client& client) {
    // The envelope needs some bytes, too.
    const TextCache cache =
        CacheOn(client, words_.place, std::max(plan_.command.max_bytes, kMaxCachedBytes) + 4096);
    if (plan_.stale_while_revalidate > absl::ZeroDuration() && !words_.revalidates &&
        !words_.refresh) {
      const Found found = Peek(cache);
      if (found.ok() && !(found->stale() && !MayRevalidate(cache))) {
        if (found->stale()) Revalidate(program_, words_, plan_);
        return Print(found->value_or(""));
      }
    }
    ComputeOptions options;
    options.ttl = plan_.ttl;
    options.stale_for = plan_.stale_for();
    options.across_processes = true;
    options.takeover_after = plan_.takeover;
    options.call.stop = stop_.get_token();
    Timer timer(plan_.wait, stop_);
    const auto run = [this, &timer](ComputeContext& context) -> absl::StatusOr<std::string> {
      (void)timer.End();  // it is our turn, so that there is nothing to wait for
      // From here on signals are the command's.
      if (stopper_.Finish()) return absl::CancelledError("stopped before it began");
      end_ = RunCaptured(plan_.command, signals_);
      if (!end_->succeeded()) return absl::InternalError("the command failed");
      if (!end_->too_large) return end_->output;
      context.DoNotStore();
      return std::string();
    };
    const Found made = words_.refresh ? cache.Refresh(plan_.key, run, options)
                                      : cache.GetOrCompute(plan_.key, run, options);
    const bool late = timer.End();
    if (end_) return Ended(cache, made);
    if (const std::optional<signalfd_siginfo> signal = stopper_.Finish()) {
      interrupt_ = signal;
      Say(StrCat("stopped by a signal while waiting for the output of ", Quoted(plan_.key)));
      return kExitError;  // the signal decides
    }
    if (made.ok()) {
      if (made->stale()) Say("another's run has not ended; this is what it printed before");
      return Print(made->value_or(""));
    }
    if (!late) return program_.Fail(made.status());
    Say(StrCat("the output of ", Quoted(plan_.key), " was not there after ",
               internal::ToText(plan_.wait)));
    return kExitNotGranted;
  }

  // What is cached, stale or not; an error for nothing.
  Found Peek(const TextCache& cache) const {
    ComputeOptions options;
    options.ttl = plan_.ttl;
    options.stale_for = plan_.stale_for();
    return cache.GetOrCompute(
        plan_.key,
        []() -> absl::StatusOr<std::string> { return absl::NotFoundError("not cached"); }, options);
  }

  // Whether what is stale has not been so for too long.
  bool MayRevalidate(const TextCache& cache) const {
    const absl::StatusOr<TimeLeft> left = cache.TtlOf(plan_.key);
    return left.ok() && left->kind() == TimeLeft::Kind::kExpires &&
           plan_.stale_for() - left->left() <= plan_.stale_while_revalidate;
  }

  // The command has run.
  int Ended(const TextCache& cache, const Found& made) {
    interrupt_ = end_->interrupt;
    if (end_->succeeded()) {
      if (end_->too_large) {
        Say(StrCat("the output has more than ", plan_.command.max_bytes,
                   " bytes and is not cached (--max-bytes)"));
        return kExitOk;
      }
      return Print(end_->output);
    }
    const bool may_be_stale =
        plan_.stale_if_error > absl::ZeroDuration() && !end_->told_by && !end_->too_large;
    if (may_be_stale) {
      const Found old = words_.refresh ? Peek(cache) : made;
      if (old.ok()) {
        Say(end_->timed_out ? "the command was ended; this is what it printed before"
                            : StrCat("the command ended with ", end_->exit_code,
                                     "; this is what it printed before"));
        return Print(old->value_or(""));
      }
    }
    // One that was ended and says 0 has not done what it was to do.
    const bool cut = end_->timed_out && end_->exit_code == kExitOk;
    return Print(end_->output, cut ? 128 + SIGTERM : end_->exit_code);
  }

  const Program& program_;
  const Words& words_;
  const Plan& plan_;
  // Before any other thread.
  const CaughtSignals signals_;
  std::stop_source stop_;
  StopOnSignal stopper_{signals_, stop_};
  std::optional<CapturedEnd> end_;  // of the command, if it was for us to run it
  std::optional<signalfd_siginfo> interrupt_;
};

int RunMemo(const Program& program, const CLI::App& app, const Words& words) {
  const absl::StatusOr<Plan> plan = ReadPlan(app, program, words);
  if (!plan.ok()) return program.Fail(plan.status());
  return Memo(program, words, *plan).Run();
}

}  // namespace

void AddCacheMemo(CLI::App& cache, Program& program) {
  CLI::App* memo =
      cache.add_subcommand("memo", "Print a command's output, from the cache if it is there");
  const auto words = std::make_shared<Words>();
  memo->add_option("KEY", words->key, "Under which the output is cached");
  AddPlaceOptions(*memo, words->place);
  AddText(*memo, "--ttl", words->ttl, "How long the output is good, or never (5m)", "TTL");
  AddText(*memo, "--stale-if-error", words->stale_if_error,
          "So long after that it is still printed when the command fails", "TTL");
  AddText(*memo, "--stale-while-revalidate", words->stale_while_revalidate,
          "So long after that it is still printed, while the command runs in the background",
          "TTL");
  AddText(*memo, "--command-timeout", words->command_timeout,
          "A command that has not ended by then is ended, and has failed (without limit)", "TIME");
  AddText(*memo, "--wait", words->wait, "Wait at most this long for another's run (without limit)",
          "TIME");
  AddText(*memo, "--takeover", words->takeover,
          "How long after a coord that vanishes another runs the command (5s)", "TIME");
  AddText(*memo, "--max-bytes", words->max_bytes,
          "Output of more bytes is passed on and not cached (67108864)", "INT");
  memo->add_flag("--refresh", words->refresh, "Run the command whatever is cached");
  memo->add_flag("--key-from-args", words->key_from_args,
                 "Make the key of the command and its arguments, behind KEY (memo)");
  memo->add_flag("--revalidates", words->revalidates)->group("");
  memo->prefix_command();
  memo->footer(
      "When the output is cached it is printed, byte by byte, and the command does not run. Else "
      "one\n"
      "runs it, of all on all hosts that want this key, and the others wait and print the same.\n"
      "The command has no standard input; its standard error is passed on. Only the output of one\n"
      "that ends with 0 is cached; another's output and status are passed on as they are, and who\n"
      "waited runs it again. Signals are passed on to the command; what it prints after SIGHUP,\n"
      "SIGINT, SIGQUIT or SIGTERM is not cached. What it leaves running in the background is not\n"
      "waited for.\n"
      "Exit status: the command's own, or 128+n if signal n ended it; 0 when cached output was\n"
      "printed, be it stale; 75 when the output was not there within --wait.\n"
      "Examples:\n"
      "  coord cache memo rates --ttl 1h --stale-if-error 1d -- curl -sf "
      "https://example.com/rates\n"
      "  coord cache memo --key-from-args --ttl 10m -- ./report 2024 --by month");
  memo->callback([&program, memo, words] { program.exit_code = RunMemo(program, *memo, *words); });
}

}  // namespace coord::tools
