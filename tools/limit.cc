// coord limit take|peek|reset
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/rate_limiter.h"
#include "tools/arguments.h"
#include "tools/program.h"
#include "tools/rate_text.h"

namespace coord::tools {
namespace {

struct Words {
  std::string name;
  Text rate;
  Text burst;
  Text cost;
  Text wait;
};

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

int Print(const Program& program, const RateDecision& decision) {
  if (program.json) {
    PrintJson({{"allowed", decision.allowed},
               {"limit", decision.limit},
               {"remaining", decision.remaining},
               {"retry_after", JsonSeconds(decision.retry_after)},
               {"reset_after", JsonSeconds(decision.reset_after)}});
  } else {
    std::printf("%s remaining=%lld limit=%lld retry_after=%s reset_after=%s\n",
                decision.allowed ? "allowed" : "denied", static_cast<long long>(decision.remaining),
                static_cast<long long>(decision.limit), Seconds(decision.retry_after).c_str(),
                Seconds(decision.reset_after).c_str());
  }
  return decision.allowed ? kExitOk : kExitNotGranted;
}

enum class Act { kTake, kPeek };

absl::StatusOr<int> Ask(const Program& program, const Words& words, Act act) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t cost = given.Integer("--cost", words.cost, 1).value_or(1);
  const std::optional<std::int64_t> burst = given.Integer("--burst", words.burst, 1);
  const std::optional<absl::Duration> wait =
      given.Duration("--wait", words.wait, Arguments::Zero::kAllowed);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<RateLimit> limit = ParseRate(words.rate.value_or(""));
  if (!limit.ok()) return limit.status();
  limit->burst = burst;
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const RateLimiter limiter(*std::move(client), *limit);
  absl::StatusOr<RateDecision> decision = act == Act::kPeek ? limiter.Peek(words.name, cost)
                                          : wait            ? limiter.Wait(words.name, cost, *wait)
                                                            : limiter.Take(words.name, cost);
  if (!decision.ok()) return decision.status();
  return Print(program, *decision);
}

absl::StatusOr<int> Reset(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  // Forgetting depends on no rate.
  absl::Status status = RateLimiter(*std::move(client), {.permits = 1}).Reset(words.name);
  if (!status.ok()) return status;
  if (program.json) PrintJson({{"reset", true}});
  return kExitOk;
}

void AddRate(CLI::App& app, Words& words) {
  app.add_option("NAME", words.name, "What is limited, such as user:42")->required();
  AddText(app, "--rate", words.rate, "How often: N/s, N/m, N/h, N/d, N/250ms", "RATE")->required();
  AddText(app, "--burst", words.burst, "How many at once after a quiet time (as many as N)", "INT");
  AddText(app, "--cost", words.cost, "How many permits this takes (1)", "INT");
  app.footer(
      "Prints one line: allowed or denied, and remaining=N limit=N retry_after=SECONDSs\n"
      "reset_after=SECONDSs; retry_after=never where --cost is above the burst.\n"
      "Exit status 75: denied; nothing was taken.");
}

}  // namespace

void AddLimit(CLI::App& app, Program& program) {
  CLI::App* limit = app.add_subcommand("limit", "How often something may happen");
  limit->require_subcommand(1);
  limit->footer(
      "Examples:\n"
      "  coord limit take user:42 --rate 10/s --burst 20 && serve\n"
      "  coord limit take mail --rate 100/h --wait 5m    waits up to five minutes for its turn");
  const auto words = std::make_shared<Words>();

  CLI::App* take = limit->add_subcommand("take", "Take permits, or none");
  AddRate(*take, *words);
  AddText(*take, "--wait", words->wait, "Wait up to this long to be allowed", "TIME");
  take->callback(
      [&program, words] { program.exit_code = program.Finish(Ask(program, *words, Act::kTake)); });

  CLI::App* peek = limit->add_subcommand("peek", "Say what take would say; take nothing");
  AddRate(*peek, *words);
  peek->callback(
      [&program, words] { program.exit_code = program.Finish(Ask(program, *words, Act::kPeek)); });

  CLI::App* reset = limit->add_subcommand("reset", "Forget what was taken");
  reset->add_option("NAME", words->name, "What is limited")->required();
  AddText(*reset, "--rate", words->rate, "Not needed; taken for the sake of one line for all",
          "RATE");
  reset->callback(
      [&program, words] { program.exit_code = program.Finish(Reset(program, *words)); });
}

}  // namespace coord::tools
