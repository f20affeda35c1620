// coord list push|range|newest|since|follow
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/capped_list.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/interruptible.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  std::string name;
  bool key = false;  // the name is a Redis key
  Text max;
  Text ttl;
  Text max_bytes;
  Text max_age;
  bool reject = false;
  Text operation;
  Text start;
  Text stop;
  Text count;
  Text sequence;
  Text limit;
};

// What the library would refuse only once it is connected.
void CheckName(Arguments& given, const Words& words) {
  if (!words.key) given.Name(words.name);
}

CappedList ListOf(Client client, const Words& words, const CappedListOptions& options = {}) {
  return words.key ? CappedList::OnKey(std::move(client), words.name, options)
                   : CappedList(std::move(client), words.name, options);
}

void AddName(CLI::App& app, Words& words) {
  app.add_option("NAME", words.name, "The list's name")->required();
  app.add_flag("--key", words.key,
               "NAME is a Redis key: a plain list there, which other programs may use too");
}

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
  CheckName(given, words);
  CappedListOptions options;
  options.max_items = given.Integer("--max", words.max, 1).value_or(0);
  options.ttl = given.Duration("--ttl", words.ttl);
  options.max_bytes = given.Integer("--max-bytes", words.max_bytes, 1);
  options.max_age = given.Duration("--max-age", words.max_age);
  if (words.reject) options.overflow = CappedListOptions::Overflow::kReject;
  PushOptions how;
  if (words.operation) how.operation_id = OperationId(*words.operation);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::vector<std::string>> values = Values(push, program);
  if (!values.ok()) return values.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const CappedList list = ListOf(*std::move(client), words, options);
  const std::vector<std::string_view> items(values->begin(), values->end());
  absl::StatusOr<PushResult> result = list.Push(items, how);
  if (!result.ok()) return result.status();
  if (program.json) {
    PrintJson({{"length", result->length},
               {"evicted", result->evicted},
               {"sequence", result->sequence},
               {"applied", result->applied}});
  } else {
    PrintLine(StrCat(result->length));
  }
  return result->applied ? kExitOk : kExitNotGranted;
}

absl::StatusOr<int> Range(const Program& program, const Words& words) {
  Arguments given;
  CheckName(given, words);
  const std::int64_t start = given.Integer("START", words.start).value_or(0);
  const std::int64_t stop = given.Integer("STOP", words.stop).value_or(-1);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const CappedList list = ListOf(*std::move(client), words);
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

// Oldest first, one a line. What was missed is said before what comes after it: to a reader of
// plain items on standard error, so that he gets items only.
void Print(const Program& program, const ListSlice& slice) {
  if (slice.missed > 0) {
    if (program.json) {
      PrintJson({{"missed", slice.missed}, {"newest", slice.newest}});
    } else {
      Say(StrCat(slice.missed, " items were missed"));
    }
  }
  for (const ListItem& item : slice.items) {
    if (program.json) {
      PrintJson({{"sequence", item.sequence}, {"value", JsonText(item.value)}});
    } else {
      PrintLine(item.value);
    }
  }
}

absl::StatusOr<int> Newest(const Program& program, const Words& words) {
  Arguments given;
  CheckName(given, words);
  const std::int64_t count = given.Integer("COUNT", words.count, 1).value_or(10);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<ListSlice> slice = ListOf(*std::move(client), words).Newest(count);
  if (!slice.ok()) return slice.status();
  Print(program, *slice);
  return kExitOk;
}

absl::StatusOr<int> Since(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t sequence = given.Integer("SEQUENCE", words.sequence, 0).value_or(0);
  const std::int64_t limit = given.Integer("--limit", words.limit, 1).value_or(1000);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<ListSlice> slice =
      CappedList(*std::move(client), words.name, {}).Since(sequence, limit);
  if (!slice.ok()) return slice.status();
  Print(program, *slice);
  return kExitOk;
}

int Follow(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::optional<std::int64_t> from = given.Integer("--from", words.sequence, 0);
  if (!given.status().ok()) return program.Fail(given.status());
  return WaitInterruptibly(
      program, StrCat("list ", Quoted(words.name)),
      [&](const Client& client, std::stop_token stop) -> int {
        const CappedList list(client, words.name, {});
        std::int64_t at = from.value_or(0);
        if (!from) {
          const absl::StatusOr<ListSlice> last = list.Newest(1, {.stop = stop});
          if (!last.ok()) return program.Fail(last.status());
          at = last->newest;
        }
        const absl::Status status = list.Follow(
            at,
            [&](const ListSlice& slice) {
              Print(program, slice);
              return std::fflush(stdout) == 0;  // else nobody will read any more
            },
            stop);
        if (stop.stop_requested()) return kExitError;                 // the signal decides
        return status.ok() ? int{kExitError} : program.Fail(status);  // main says why
      });
}

}  // namespace

void AddList(CLI::App& app, Program& program) {
  CLI::App* list = app.add_subcommand("list", "The most recent things, never more than a cap");
  list->require_subcommand(1);
  list->footer(
      "Examples:\n"
      "  coord list push events 'deployed 1.4' --max 100    prints the length\n"
      "  coord list push events --max 100 -- -5C            a value that begins with '-'\n"
      "  coord list push --key app:events x --max 100       onto the plain list under this Redis "
      "key\n"
      "  coord list range events -10                        the last ten, oldest first\n"
      "  coord list follow events                           the items to come, as they arrive");
  const auto words = std::make_shared<Words>();

  CLI::App* push = list->add_subcommand("push", "Append values and print the list's length");
  AddName(*push, *words);
  AddText(*push, "--max", words->max, "How many items the list keeps", "INT")->required();
  AddText(*push, "--ttl", words->ttl, "How long the list lives on after this", "TIME");
  AddText(*push, "--max-bytes", words->max_bytes, "How many bytes all items may have", "INT");
  AddText(*push, "--max-age", words->max_age, "How old items may get", "TIME");
  push->add_flag("--reject", words->reject,
                 "Push nothing where it would exceed a cap, in place of dropping the oldest");
  AddText(*push, "--operation-id", words->operation,
          "Push once, however often this is run with the same id", "ID");
  push->allow_extras();
  push->footer(
      "Values that begin with '-' go after \"--\". With --reject, exit status 75: nothing was "
      "pushed.\n"
      "With --json, an object: length, evicted, sequence, applied.");
  push->callback([&program, push, words] {
    program.exit_code = program.Finish(Push(program, *push, *words));
  });

  CLI::App* range = list->add_subcommand("range", "Print items, oldest first, one a line");
  AddName(*range, *words);
  AddText(*range, "START", words->start, "The first: 0 is the oldest, -1 the newest (0)", "INT");
  AddText(*range, "STOP", words->stop, "The last, included (-1)", "INT");
  range->footer(
      "With --json, an item that is not UTF-8 is shown as {\"base64\": \"...\"}; use it too where\n"
      "items may hold line ends.");
  range->callback(
      [&program, words] { program.exit_code = program.Finish(Range(program, *words)); });

  CLI::App* newest = list->add_subcommand("newest", "Print the newest items, oldest first");
  AddName(*newest, *words);
  AddText(*newest, "COUNT", words->count, "How many (10)", "INT");
  newest->footer("With --json, an object a line: {\"sequence\": ..., \"value\": ...}.");
  newest->callback(
      [&program, words] { program.exit_code = program.Finish(Newest(program, *words)); });

  CLI::App* since = list->add_subcommand("since", "Print the items after one, oldest first");
  since->add_option("NAME", words->name, "The list's name")->required();
  AddText(*since, "SEQUENCE", words->sequence,
          "The sequence number after which to begin; 0: with the oldest there is", "INT")
      ->required();
  AddText(*since, "--limit", words->limit, "At most so many (1000)", "INT");
  since->footer(
      "Items that were dropped from the list before this are counted on standard error. With\n"
      "--json, an object a line: {\"missed\": ..., \"newest\": ...} first where there were such, "
      "then\n"
      "{\"sequence\": ..., \"value\": ...} for each item.");
  since->callback(
      [&program, words] { program.exit_code = program.Finish(Since(program, *words)); });

  CLI::App* follow = list->add_subcommand("follow", "Print items as they arrive, one a line");
  follow->add_option("NAME", words->name, "The list's name")->required();
  AddText(*follow, "--from", words->sequence,
          "The sequence number after which to begin; 0: with the oldest there is (the newest)",
          "INT");
  follow->footer(
      "Goes on until a signal comes, also while the server cannot be reached. Items that were\n"
      "dropped from the list before they were read are counted, and --json prints, as by "
      "\"since\".");
  follow->callback([&program, words] { program.exit_code = Follow(program, *words); });
}

}  // namespace coord::tools
