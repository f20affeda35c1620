// coord counter add|get|set|reset
#include "coord/counter.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  std::string name;
  Text number;
  Text min;
  Text max;
  Text ttl;
  Text operation;
  bool saturate = false;
  bool refresh = false;
};

absl::StatusOr<Counter> Open(const Program& program, const std::string& name) {
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  return Counter(*std::move(client), name);
}

int Print(const Program& program, const char* field, std::int64_t value) {
  if (program.json) {
    PrintJson({{field, value}});
  } else {
    PrintLine(internal::StrCat(value));
  }
  return kExitOk;
}

absl::StatusOr<int> Add(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t amount = given.Integer("N", words.number).value_or(1);
  AddOptions options;
  options.min = given.Integer("--min", words.min);
  options.max = given.Integer("--max", words.max);
  options.ttl = given.Duration("--ttl", words.ttl);
  if (!given.status().ok()) return given.status();
  if (options.min && options.max && *options.min > *options.max) {
    return internal::InvalidArgument(internal::StrCat("--min is ", *options.min, " and --max is ",
                                                      *options.max,
                                                      "; --min must not be above --max"));
  }
  if (words.saturate) options.overflow = AddOptions::Overflow::kSaturate;
  if (words.operation) options.operation_id.emplace(*words.operation);
  if (words.refresh) options.ttl_mode = AddOptions::TtlMode::kRefresh;
  absl::StatusOr<Counter> counter = Open(program, words.name);
  if (!counter.ok()) return counter.status();
  absl::StatusOr<CounterResult> result = counter->Add(amount, options);
  if (!result.ok()) return result.status();
  if (program.json) {
    PrintJson({{"value", result->value}, {"applied", result->applied}});
  } else {
    PrintLine(internal::StrCat(result->value));
  }
  // Who asks to stop at the bound got what was asked for.
  return result->applied || words.saturate ? kExitOk : kExitNotGranted;
}

absl::StatusOr<int> Get(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Counter> counter = Open(program, words.name);
  if (!counter.ok()) return counter.status();
  absl::StatusOr<std::int64_t> value = counter->Get();
  if (!value.ok()) return value.status();
  return Print(program, "value", *value);
}

absl::StatusOr<int> Set(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t value = given.Integer("N", words.number).value_or(0);
  const std::optional<absl::Duration> ttl = given.Duration("--ttl", words.ttl);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Counter> counter = Open(program, words.name);
  if (!counter.ok()) return counter.status();
  absl::StatusOr<std::int64_t> before = counter->Set(value, ttl);
  if (!before.ok()) return before.status();
  return Print(program, "previous", *before);
}

absl::StatusOr<int> Reset(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Counter> counter = Open(program, words.name);
  if (!counter.ok()) return counter.status();
  std::optional<OperationId> id;
  if (words.operation) id.emplace(*words.operation);
  absl::StatusOr<std::int64_t> before = counter->GetAndReset(id);
  if (!before.ok()) return before.status();
  return Print(program, "previous", *before);
}

}  // namespace

void AddCounter(CLI::App& app, Program& program) {
  CLI::App* counter = app.add_subcommand("counter", "A number that many processes add to");
  counter->require_subcommand(1);
  counter->footer(
      "Examples:\n"
      "  coord counter add visits              prints the new value\n"
      "  coord counter add stock -3 --min 0    exit status 75 where fewer than 3 are left\n"
      "  coord counter set visits 0            prints the value before\n"
      "With --json, an object: value and applied (add), value (get), previous (set, reset).");
  const auto words = std::make_shared<Words>();

  CLI::App* add = counter->add_subcommand("add", "Add N (1 when left out) and print the new value");
  add->add_option("NAME", words->name, "The counter's name")->required();
  AddText(*add, "N", words->number, "What to add; may be negative", "INT");
  AddText(*add, "--min", words->min, "The value must not go below this", "INT");
  AddText(*add, "--max", words->max, "The value must not go above this", "INT");
  add->add_flag("--saturate", words->saturate,
                "Stop at the bound; else what would leave the bounds changes nothing");
  CLI::Option* ttl = AddText(*add, "--ttl", words->ttl,
                             "How long the counter lives, from its first addition on", "TIME");
  add->add_flag("--refresh", words->refresh, "Let --ttl begin anew with every addition")
      ->needs(ttl);
  AddText(*add, "--operation-id", words->operation,
          "Add once, however often this is run with the same id; see coord resolve", "ID");
  add->footer("Exit status 75: the addition would leave the bounds and changed nothing.");
  add->callback([&program, words] { program.exit_code = program.Finish(Add(program, *words)); });

  CLI::App* get = counter->add_subcommand("get", "Print the value; 0 where there is no counter");
  get->add_option("NAME", words->name, "The counter's name")->required();
  get->callback([&program, words] { program.exit_code = program.Finish(Get(program, *words)); });

  CLI::App* set = counter->add_subcommand("set", "Set the value and print the one before");
  set->add_option("NAME", words->name, "The counter's name")->required();
  AddText(*set, "N", words->number, "The new value", "INT")->required();
  AddText(*set, "--ttl", words->ttl, "How long the counter lives on", "TIME");
  set->callback([&program, words] { program.exit_code = program.Finish(Set(program, *words)); });

  CLI::App* reset = counter->add_subcommand("reset", "Remove the counter and print its value");
  reset->add_option("NAME", words->name, "The counter's name")->required();
  AddText(*reset, "--operation-id", words->operation,
          "Remove it once; with the same id again, the same value is printed", "ID");
  reset->callback(
      [&program, words] { program.exit_code = program.Finish(Reset(program, *words)); });
}

}  // namespace coord::tools
