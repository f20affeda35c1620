// coord limit take|peek|refund|reset
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/rate_limiter.h"
#include "tools/arguments.h"
#include "tools/program.h"
#include "tools/rate_text.h"

namespace coord::tools {
namespace {

struct Words {
  // Of each limit one; of a bare --burst, --cost or --algorithm one for all.
  std::vector<std::string> names, rates, bursts, costs, algorithms;
  Text wait, when_unreachable, operation;
};

absl::Status Misused(std::string_view text) {
  return absl::InvalidArgumentError(internal::ToAbsl(text));
}

absl::StatusOr<RateLimit::Algorithm> ParseAlgorithm(std::string_view text) {
  using Algorithm = RateLimit::Algorithm;
  if (text == "gcra") return Algorithm::kGcra;
  if (text == "token-bucket") return Algorithm::kTokenBucket;
  if (text == "fixed-window") return Algorithm::kFixedWindow;
  if (text == "sliding-window") return Algorithm::kSlidingWindow;
  if (text == "sliding-log") return Algorithm::kSlidingLog;
  return Misused(internal::StrCat("--algorithm ", internal::Quoted(text),
                                  " must be gcra, token-bucket, fixed-window, sliding-window or "
                                  "sliding-log"));
}

absl::StatusOr<WhenUnreachable> ParseWhenUnreachable(std::string_view text) {
  if (text == "error") return WhenUnreachable::kError;
  if (text == "deny") return WhenUnreachable::kDeny;
  if (text == "allow") return WhenUnreachable::kAllow;
  return Misused(internal::StrCat("--when-unreachable ", internal::Quoted(text),
                                  " must be error, deny or allow"));
}

// Of an option that was given never, once for all, or once for each limit.
absl::StatusOr<Text> OfLimit(std::string_view what, const std::vector<std::string>& given,
                             std::size_t index, std::size_t limits) {
  if (given.empty()) return Text();
  if (given.size() == 1) return Text(given.front());
  if (given.size() == limits) return Text(given[index]);
  return Misused(internal::StrCat(what, " is given ", given.size(), " times for ", limits,
                                  " names; give it once, or once for each"));
}

absl::StatusOr<std::vector<LimitedKey>> ReadLimits(const Words& words) {
  std::vector<LimitedKey> limits;
  for (std::size_t i = 0; i < words.names.size(); ++i) {
    const std::pair<const char*, const std::vector<std::string>*> options[] = {
        {"--rate", &words.rates},
        {"--burst", &words.bursts},
        {"--cost", &words.costs},
        {"--algorithm", &words.algorithms}};
    Text texts[4];
    for (std::size_t n = 0; n < 4; ++n) {
      absl::StatusOr<Text> text =
          OfLimit(options[n].first, *options[n].second, i, words.names.size());
      if (!text.ok()) return text.status();
      texts[n] = *std::move(text);
    }
    Arguments given;
    given.Name(words.names[i]);
    LimitedKey one;
    one.key = words.names[i];
    one.cost = given.Integer("--cost", texts[2], 1).value_or(1);
    const std::optional<std::int64_t> burst = given.Integer("--burst", texts[1], 1);
    if (!given.status().ok()) return given.status();
    absl::StatusOr<RateLimit> limit = ParseRate(texts[0].value_or(""));
    if (!limit.ok()) return limit.status();
    one.limit = *limit;
    one.limit.burst = burst;
    absl::StatusOr<RateLimit::Algorithm> algorithm = ParseAlgorithm(texts[3].value_or("gcra"));
    if (!algorithm.ok()) return algorithm.status();
    one.limit.algorithm = *algorithm;
    limits.push_back(std::move(one));
  }
  return limits;
}

// Seconds as `sleep` takes them, to the microsecond, which is what the limiter counts in.
std::string Seconds(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "never";
  char text[32];
  std::snprintf(text, sizeof(text), "%.6f", absl::ToDoubleSeconds(duration));
  std::string seconds(text);
  seconds.erase(seconds.find_last_not_of('0') + 1);
  if (seconds.back() == '.') seconds.pop_back();
  return seconds + "s";
}

nlohmann::json JsonSeconds(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return nullptr;
  return absl::ToDoubleSeconds(duration);
}

// What a call has taken is said where it is not what was asked for.
int Print(const Program& program, const RateDecision& decision, bool up_to,
          const std::string* limiting = nullptr) {
  if (program.json) {
    nlohmann::json value = {{"allowed", decision.allowed},
                            {"limit", decision.limit},
                            {"remaining", decision.remaining},
                            {"retry_after", JsonSeconds(decision.retry_after)},
                            {"reset_after", JsonSeconds(decision.reset_after)},
                            {"taken", decision.taken},
                            {"from_server", decision.from_server}};
    if (limiting != nullptr) {
      value["limiting"] = JsonText(*limiting);
      value["limiting_index"] = *decision.limiting_index;
    }
    PrintJson(value);
  } else {
    std::string more;
    if (up_to) more += internal::StrCat(" taken=", decision.taken);
    if (limiting != nullptr) more += internal::StrCat(" limiting=", *limiting);
    if (!decision.from_server) more += " server=unreachable";
    std::printf("%s remaining=%lld limit=%lld retry_after=%s reset_after=%s%s\n",
                decision.allowed ? "allowed" : "denied", static_cast<long long>(decision.remaining),
                static_cast<long long>(decision.limit), Seconds(decision.retry_after).c_str(),
                Seconds(decision.reset_after).c_str(), more.c_str());
  }
  return decision.allowed ? kExitOk : kExitNotGranted;
}

enum class Act { kTake, kTakeUpTo, kPeek, kRefund };

// Of a server to which there was not even a connection, so that no limiter could be made. As
// RateLimiter decides.
RateDecision DecideWithout(const LimitedKey& one, WhenUnreachable when, Act act) {
  RateDecision decision;
  decision.from_server = false;
  decision.limit = one.limit.burst.value_or(one.limit.permits);
  if (one.cost > decision.limit && act != Act::kTakeUpTo) {
    decision.retry_after = absl::InfiniteDuration();
  } else if (when == WhenUnreachable::kAllow) {
    decision.allowed = true;
    if (act != Act::kPeek) decision.taken = std::min(one.cost, decision.limit);
  } else {
    decision.retry_after = decision.reset_after = absl::Seconds(1);
  }
  return decision;
}

absl::StatusOr<int> Ask(const Program& program, const Words& words, Act act) {
  Arguments given;
  const std::optional<absl::Duration> wait =
      given.Duration("--wait", words.wait, Arguments::Zero::kAllowed);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<LimitedKey>> limits = ReadLimits(words);
  if (!limits.ok()) return limits.status();
  const bool several = limits->size() > 1;
  if (several && act != Act::kTake) return Misused("--up-to is for one name");
  if (several && wait) return Misused("--wait is for one name");
  if (act == Act::kTakeUpTo && wait) return Misused("--up-to and --wait exclude each other");
  absl::StatusOr<WhenUnreachable> when =
      ParseWhenUnreachable(words.when_unreachable.value_or("error"));
  if (!when.ok()) return when.status();
  if (several && *when != WhenUnreachable::kError) {
    return Misused("--when-unreachable is for one name");
  }
  if (words.operation && (wait || *when != WhenUnreachable::kError)) {
    return Misused("--operation-id excludes --wait and --when-unreachable");
  }
  TakeOptions once;
  if (words.operation) once.operation_id.emplace(*words.operation);
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) {
    // Only faults of the connection: not a wrong password, nor a bad URL.
    if (*when == WhenUnreachable::kError ||
        client.status().code() != absl::StatusCode::kUnavailable ||
        !coord::IsUnavailable(client.status())) {
      return client.status();
    }
    return Print(program, DecideWithout(limits->front(), *when, act), act == Act::kTakeUpTo);
  }
  if (several) {
    absl::StatusOr<RateDecision> decision = RateLimiter::TakeAll(*client, *limits, {}, once);
    if (!decision.ok()) return decision.status();
    return Print(program, *decision, false,
                 decision->limiting_index ? &(*limits)[*decision->limiting_index].key : nullptr);
  }
  const LimitedKey& one = limits->front();
  const RateLimiter limiter(*std::move(client), one.limit, {.when_unreachable = *when});
  absl::StatusOr<RateDecision> decision = act == Act::kPeek     ? limiter.Peek(one.key, one.cost)
                                          : act == Act::kRefund ? limiter.Refund(one.key, one.cost)
                                          : act == Act::kTakeUpTo
                                              ? limiter.TakeUpTo(one.key, one.cost, {}, once)
                                          : wait ? limiter.Wait(one.key, one.cost, *wait)
                                                 : limiter.Take(one.key, one.cost, {}, once);
  if (!decision.ok()) return decision.status();
  return Print(program, *decision, act == Act::kTakeUpTo);
}

absl::StatusOr<int> Reset(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.names.front());
  if (!given.status().ok()) return given.status();
  absl::StatusOr<RateLimit::Algorithm> algorithm =
      ParseAlgorithm(words.algorithms.empty() ? "gcra" : words.algorithms.back());
  if (!algorithm.ok()) return algorithm.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  // Forgetting depends on no rate.
  RateLimit any{.permits = 1};
  any.algorithm = *algorithm;
  absl::Status status = RateLimiter(*std::move(client), any).Reset(words.names.front());
  if (!status.ok()) return status;
  if (program.json) PrintJson({{"reset", true}});
  return kExitOk;
}

// So that each stands for one value, and words behind it are names.
CLI::Option* AddTexts(CLI::App& app, const std::string& name, std::vector<std::string>& target,
                      const std::string& description, const std::string& type) {
  return app.add_option(name, target, description)
      ->type_name(type)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void AddAlgorithm(CLI::App& app, Words& words) {
  AddTexts(app, "--algorithm", words.algorithms,
           "gcra (which it is), token-bucket, fixed-window, sliding-window, sliding-log", "NAME");
}

void AddRate(CLI::App& app, Words& words, bool several) {
  CLI::Option* const names =
      app.add_option("NAME", words.names, "What is limited, such as user:42");
  names->required()->expected(1, several ? 32 : 1);
  AddTexts(app, "--rate", words.rates, "How often: N/s, N/m, N/h, N/d, N/250ms", "RATE")
      ->required();
  AddTexts(app, "--burst", words.bursts, "How many at once after a quiet time (as many as N)",
           "INT");
  AddTexts(app, "--cost", words.costs, "How many permits (1)", "INT");
  AddAlgorithm(app, words);
  app.footer(
      "Prints one line: allowed or denied, and remaining=N limit=N retry_after=SECONDSs\n"
      "reset_after=SECONDSs; retry_after=never where --cost is above the burst.\n"
      "Exit status 75: denied; nothing was taken.\n"
      "With --json, an object: allowed, limit, remaining, retry_after and reset_after in seconds\n"
      "(null: never), taken, from_server.");
}

void AddWhenUnreachable(CLI::App& app, Words& words) {
  AddText(app, "--when-unreachable", words.when_unreachable,
          "What to say when the server cannot be asked: error (which it is), deny, allow", "WHAT");
  app.footer(
      app.get_footer() +
      "\nserver=unreachable: the server did not answer, and --when-unreachable has decided.");
}

}  // namespace

void AddLimit(CLI::App& app, Program& program) {
  CLI::App* limit = app.add_subcommand("limit", "How often something may happen");
  limit->require_subcommand(1);
  limit->footer(
      "Examples:\n"
      "  coord limit take user:42 --rate 10/s --burst 20 && serve\n"
      "  coord limit take mail --rate 100/h --wait 5m    waits up to five minutes for its turn\n"
      "  coord limit take user:42 --rate 10/s all --rate 1000/h      both or neither");
  const auto words = std::make_shared<Words>();

  CLI::App* take = limit->add_subcommand("take", "Take permits, or none");
  AddRate(*take, *words, true);
  AddText(*take, "--wait", words->wait, "Wait up to this long to be allowed", "TIME");
  AddText(*take, "--operation-id", words->operation,
          "Take once, however often this is run with the same id; see coord resolve", "ID");
  const auto up_to = std::make_shared<bool>(false);
  take->add_flag("--up-to", *up_to,
                 "Take as many as there are, --cost at most; prints taken=N too");
  take->footer(take->get_footer() +
               "\nWith several names, each with its --rate, all allow it or nothing is taken; a "
               "denial prints\nlimiting=NAME too (--json: limiting, and limiting_index from 0).");
  AddWhenUnreachable(*take, *words);
  take->callback([&program, words, up_to] {
    program.exit_code = program.Finish(Ask(program, *words, *up_to ? Act::kTakeUpTo : Act::kTake));
  });

  CLI::App* peek = limit->add_subcommand("peek", "Say what take would say; take nothing");
  AddRate(*peek, *words, false);
  AddWhenUnreachable(*peek, *words);
  peek->callback(
      [&program, words] { program.exit_code = program.Finish(Ask(program, *words, Act::kPeek)); });

  CLI::App* refund =
      limit->add_subcommand("refund", "Give back permits, as far as any are missing");
  AddRate(*refund, *words, false);
  refund->callback([&program, words] {
    program.exit_code = program.Finish(Ask(program, *words, Act::kRefund));
  });

  CLI::App* reset = limit->add_subcommand("reset", "Forget what was taken");
  reset->add_option("NAME", words->names, "What is limited")->required()->expected(1);
  AddTexts(*reset, "--rate", words->rates, "Not needed; taken for the sake of one line for all",
           "RATE");
  AddAlgorithm(*reset, *words);
  reset->callback(
      [&program, words] { program.exit_code = program.Finish(Reset(program, *words)); });
}

}  // namespace coord::tools
