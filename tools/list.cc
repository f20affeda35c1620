// coord list push|range
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/capped_list.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  std::string name;
  Text max;
  Text ttl;
  Text start;
  Text stop;
};

// The values are what the parser did not know, with what followed "--". A positional of many values
// would not do: CLI11 takes
// "[1,2]" there for two values.
absl::StatusOr<std::vector<std::string>> Values(const CLI::App& push, const Program& program) {
  std::vector<std::string> values = push.remaining();
  for (const std::string& value : values) {
    const bool number = value.size() > 1 && value[1] >= '0' && value[1] <= '9';
    if (value.size() > 1 && value[0] == '-' && !number) {
      return InvalidArgument(StrCat("unknown option ", Quoted(value),
                                    "; write values that begin with '-' after \"--\""));
    }
  }
  if (program.tail) values.insert(values.end(), program.tail->begin(), program.tail->end());
  if (values.empty()) return InvalidArgument("VALUE is missing: what is to be pushed");
  return values;
}

absl::StatusOr<int> Push(const Program& program, const CLI::App& push, const Words& words) {
  Arguments given;
  given.Name(words.name);
  CappedListOptions options;
  options.max_items = given.Integer("--max", words.max, 1).value_or(0);
  options.ttl = given.Duration("--ttl", words.ttl);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<std::string>> values = Values(push, program);
  if (!values.ok()) return values.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const CappedList list(*std::move(client), words.name, options);
  const std::vector<std::string_view> items(values->begin(), values->end());
  absl::StatusOr<PushResult> result = list.Push(items);
  if (!result.ok()) return result.status();
  if (program.json) {
    PrintJson(
        {{"length", result->length}, {"evicted", result->evicted}, {"sequence", result->sequence}});
  } else {
    PrintLine(StrCat(result->length));
  }
  return kExitOk;
}

absl::StatusOr<int> Range(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t start = given.Integer("START", words.start).value_or(0);
  const std::int64_t stop = given.Integer("STOP", words.stop).value_or(-1);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const CappedList list(*std::move(client), words.name, {});
  absl::StatusOr<std::vector<std::string>> items = list.Range(start, stop);
  if (!items.ok()) return items.status();
  if (program.json) {
    nlohmann::json texts = nlohmann::json::array();
    for (const std::string& item : *items) texts.push_back(JsonText(item));
    PrintJson({{"items", std::move(texts)}});
  } else {
    for (const std::string& item : *items) PrintLine(item);
  }
  return kExitOk;
}

}  // namespace

void AddList(CLI::App& app, Program& program) {
  CLI::App* list = app.add_subcommand("list", "The most recent things, never more than a cap");
  list->require_subcommand(1);
  list->footer(
      "Examples:\n"
      "  coord list push events 'deployed 1.4' --max 100    prints the length\n"
      "  coord list push events --max 100 -- -5C            a value that begins with '-'\n"
      "  coord list range events -10                        the last ten, oldest first");
  const auto words = std::make_shared<Words>();

  CLI::App* push = list->add_subcommand("push", "Append values and print the list's length");
  push->add_option("NAME", words->name, "The list's name")->required();
  AddText(*push, "--max", words->max, "How many items the list keeps", "INT")->required();
  AddText(*push, "--ttl", words->ttl, "How long the list lives on after this", "TIME");
  push->allow_extras();
  push->footer("Values that begin with '-' go after \"--\".");
  push->callback([&program, push, words] {
    program.exit_code = program.Finish(Push(program, *push, *words));
  });

  CLI::App* range = list->add_subcommand("range", "Print items, oldest first, one a line");
  range->add_option("NAME", words->name, "The list's name")->required();
  AddText(*range, "START", words->start, "The first: 0 is the oldest, -1 the newest (0)", "INT");
  AddText(*range, "STOP", words->stop, "The last, included (-1)", "INT");
  range->footer(
      "With --json, an item that is not UTF-8 is shown as {\"base64\": \"...\"}; use it too where\n"
      "items may hold line ends.");
  range->callback(
      [&program, words] { program.exit_code = program.Finish(Range(program, *words)); });
}

}  // namespace coord::tools
