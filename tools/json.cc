// coord json get|set|cas|update
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "coord/operation_id.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  std::string name;
  Text document;
  Text ttl;
  std::vector<std::string> tests;
  std::vector<std::string> absent;
  std::vector<std::string> assignments;
  Text whole;
  Text create;
  bool keep_forever = false;
  Text operation_id;
};

absl::StatusOr<JsonDocument> Open(const Program& program, const std::string& name) {
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  return JsonDocument(*std::move(client), name);
}

absl::StatusOr<int> Get(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<JsonDocument> document = Open(program, words.name);
  if (!document.ok()) return document.status();
  absl::StatusOr<std::optional<std::string>> text = document->Get();
  if (!text.ok()) return text.status();
  if (program.json) {
    // As a string: taken apart and written anew it would no longer be the document as it is.
    PrintJson({{"document", *text ? JsonText(**text) : nlohmann::json()}});
  } else if (*text) {
    PrintLine((*text)->ends_with('\n') ? std::string_view(**text).substr(0, (*text)->size() - 1)
                                       : std::string_view(**text));
  }
  return *text ? kExitOk : kExitNotGranted;
}

// All of stdin; one byte more than the library allows is enough for it to refuse.
absl::StatusOr<std::string> ReadInput() {
  constexpr std::size_t kEnough = (16u << 20) + 1;
  std::string input;
  char buffer[65536];
  while (input.size() < kEnough) {
    const ssize_t n = read(STDIN_FILENO, buffer, std::min(sizeof(buffer), kEnough - input.size()));
    if (n == 0) break;
    if (n > 0) {
      input.append(buffer, static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      return absl::ErrnoToStatus(errno, "DOC is missing and standard input cannot be read");
    }
  }
  return input;
}

absl::StatusOr<int> Set(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  JsonSetOptions options;
  options.ttl = given.Duration("--ttl", words.ttl);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<std::string> text = words.document ? *words.document : ReadInput();
  if (!text.ok()) return text.status();
  absl::StatusOr<JsonDocument> document = Open(program, words.name);
  if (!document.ok()) return document.status();
  if (absl::Status status = document->Set(*text, options); !status.ok()) return status;
  if (program.json) PrintJson({{"set", true}});
  return kExitOk;
}

struct PathAndValue {
  std::string path;
  std::string value;
};

// "/path=JSON". Names may hold a '=' as JSON texts may, so the first one counts behind which there
// is JSON.
absl::StatusOr<PathAndValue> Split(std::string_view option, const std::string& text) {
  const std::size_t first = text.find('=');
  if (first == std::string::npos || (first > 0 && text[0] != '/')) {
    return InvalidArgument(StrCat(option, " is ", Quoted(text),
                                  "; it must be /path=JSON, the path a JSON Pointer such as "
                                  "/owner/name or /tags/0, or empty for the whole document"));
  }
  for (std::size_t at = first; at != std::string::npos; at = text.find('=', at + 1)) {
    if (nlohmann::json::accept(text.begin() + static_cast<std::ptrdiff_t>(at) + 1, text.end())) {
      return PathAndValue{text.substr(0, at), text.substr(at + 1)};
    }
  }
  return InvalidArgument(StrCat(option, " is ", Quoted(text), ", and ",
                                Quoted(std::string_view(text).substr(first + 1)),
                                " is not JSON; a string needs its quotes, as in '",
                                text.substr(0, std::min<std::size_t>(first, 64)), "=\"text\"'"));
}

int PrintOutcome(const Program& program, const CasResult& result,
                 const std::vector<JsonTest>& tests) {
  const bool mismatch = result.outcome == CasResult::Outcome::kMismatch;
  const std::string path = mismatch ? tests.at(result.failed_test).path : "";
  const char* const word = result.applied() ? "applied" : mismatch ? "mismatch" : "missing";
  if (program.json) {
    nlohmann::json object = {{"outcome", word}};
    if (mismatch) {
      object["failed_test"] = result.failed_test;
      object["path"] = JsonText(path);
      object["current"] = result.current ? JsonText(*result.current) : nlohmann::json();
      if (result.omitted) object["omitted"] = true;
    }
    PrintJson(object);
  } else if (mismatch) {
    PrintLine(StrCat("mismatch ", path,
                     result.current   ? "="
                     : result.omitted ? " omitted"
                                      : " absent",
                     result.current.value_or("")));
  } else {
    PrintLine(word);
  }
  return result.applied() ? kExitOk : kExitNotGranted;
}

absl::StatusOr<int> CompareAndSet(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  std::vector<JsonTest> tests;
  for (const std::string& text : words.tests) {
    absl::StatusOr<PathAndValue> test = Split("--if", text);
    if (!test.ok()) return test.status();
    tests.push_back({std::move(test->path), std::move(test->value)});
  }
  for (const std::string& path : words.absent) tests.push_back({path, std::nullopt});
  std::vector<JsonAssignment> assignments;
  for (const std::string& text : words.assignments) {
    absl::StatusOr<PathAndValue> assignment = Split("--set", text);
    if (!assignment.ok()) return assignment.status();
    assignments.push_back({std::move(assignment->path), std::move(assignment->value)});
  }
  if (words.whole) assignments.push_back({"", *words.whole});
  if (tests.empty())
    return InvalidArgument("a test is missing: --if /path=JSON or --if-absent /path");
  if (assignments.empty()) {
    return InvalidArgument("a change is missing: --set /path=JSON or --doc JSON");
  }
  absl::StatusOr<JsonDocument> document = Open(program, words.name);
  if (!document.ok()) return document.status();
  absl::StatusOr<CasResult> result = document->CompareAndSetFields(tests, assignments);
  if (!result.ok()) return result.status();
  return PrintOutcome(program, *result, tests);
}

// The options of `update` of which each stands for one step, so that their order counts.
struct Step {
  const char* option;
  const char* type;
  const char* description;
  JsonTest::Operator op = JsonTest::Operator::kEquals;  // of conditions
};

constexpr Step kSteps[] = {
    {"--if", "/path=JSON", "The value at the path must equal this"},
    {"--if-not", "/path=JSON", "It must not equal this; nothing there will do, too",
     JsonTest::Operator::kNotEquals},
    {"--if-less", "/path=JSON", "It must be a number below this, or a string before it",
     JsonTest::Operator::kLess},
    {"--if-greater", "/path=JSON", "It must be a number above this, or a string behind it",
     JsonTest::Operator::kGreater},
    {"--if-absent", "/path", "There must be nothing at the path"},
    {"--if-present", "/path", "There must be something at the path",
     JsonTest::Operator::kNotEquals},
    {"--set", "/path=JSON", "Put this at the path; /tags/- is behind the last of the tags"},
    {"--remove", "/path", "Take away what is at the path, if anything is"},
};

// Reads the conditions and changes in the order in which they were given.
absl::StatusOr<JsonChange> ReadChange(const CLI::App& update) {
  JsonChange change;
  change.when.emplace_back();
  std::map<const CLI::Option*, std::size_t> taken;
  for (const CLI::Option* const option : update.parse_order()) {
    const std::string name = option->get_name();
    if (name == "--or") {
      change.when.emplace_back();
      continue;
    }
    const auto* const step = std::find_if(std::begin(kSteps), std::end(kSteps),
                                          [&](const Step& one) { return name == one.option; });
    if (step == std::end(kSteps)) continue;
    const std::string& text = option->results().at(taken[option]++);
    std::string path = text;
    std::optional<std::string> value;
    if (std::string_view(step->type) == "/path=JSON") {
      absl::StatusOr<PathAndValue> both = Split(name, text);
      if (!both.ok()) return both.status();
      path = std::move(both->path);
      value = std::move(both->value);
    }
    if (name == "--set" || name == "--remove") {
      change.set.push_back({std::move(path), std::move(value)});
    } else {
      change.when.back().push_back({std::move(path), std::move(value), step->op});
    }
  }
  if (change.when.size() == 1 && change.when.front().empty()) {
    change.when.clear();
  } else if (std::any_of(change.when.begin(), change.when.end(),
                         [](const auto& list) { return list.empty(); })) {
    return InvalidArgument("--or stands between conditions; before it or behind it is none");
  }
  return change;
}

// Applies the change; where there is no document and `create` is given, applies it to that.
absl::StatusOr<CasResult> ApplyOrCreate(const JsonDocument& document, const JsonChange& change,
                                        const Text& create) {
  constexpr int kAttempts = 32;
  absl::StatusOr<CasResult> result = document.Apply(change);
  if (!create) return result;
  JsonChange creation = change;
  creation.when = {{{"", std::nullopt}}};
  creation.set.insert(creation.set.begin(), {"", *create});
  // Somebody else can create it in between, or remove it.
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    if (!result.ok() || result->outcome != CasResult::Outcome::kMissing) return result;
    absl::StatusOr<CasResult> created = document.Apply(creation);
    if (!created.ok() || created->applied()) return created;
    result = document.Apply(change);
  }
  return result;
}

absl::StatusOr<int> Update(const Program& program, const CLI::App& update, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::optional<absl::Duration> ttl = given.Duration("--ttl", words.ttl);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<JsonChange> change = ReadChange(update);
  if (!change.ok()) return change.status();
  change->ttl = words.keep_forever ? absl::InfiniteDuration() : ttl;
  if (change->set.empty() && !change->ttl) {
    return InvalidArgument(
        "a change is missing: --set /path=JSON, --remove /path, --ttl TIME or --keep-forever");
  }
  if (words.operation_id) change->operation_id.emplace(*words.operation_id);
  if (words.create) {
    if (!nlohmann::json::accept(*words.create)) {
      return InvalidArgument(StrCat("--create is ", Quoted(*words.create), ", which is not JSON"));
    }
    for (const JsonAssignment& one : change->set) {
      if (one.path.empty()) {
        return InvalidArgument("--create does not go with a change of the whole document");
      }
    }
  }
  absl::StatusOr<JsonDocument> document = Open(program, words.name);
  if (!document.ok()) return document.status();
  absl::StatusOr<CasResult> result = ApplyOrCreate(*document, *change, words.create);
  if (!result.ok()) return result.status();
  return PrintOutcome(program, *result,
                      change->when.empty() ? std::vector<JsonTest>() : change->when.front());
}

}  // namespace

void AddJson(CLI::App& app, Program& program) {
  CLI::App* json = app.add_subcommand("json", "JSON documents that change only if still as seen");
  json->require_subcommand(1);
  json->footer(
      "Examples:\n"
      "  coord json set job:17 '{\"state\": \"pending\"}'\n"
      "  coord json cas job:17 --if '/state=\"pending\"' --set '/state=\"running\"' /by='\"me\"'\n"
      "  coord json cas job:17 --if-absent '' --doc '{}'     creates it where there is none\n"
      "  coord json update visits --create '{\"days\": []}' --set '/days/-=\"Monday\"'\n"
      "  coord json get job:17 | jq .state");
  const auto words = std::make_shared<Words>();

  CLI::App* get = json->add_subcommand("get", "Print the document as it is stored");
  get->add_option("NAME", words->name, "The document's name")->required();
  get->footer("Exit status 75: there is no document. With --json it is printed as a string.");
  get->callback([&program, words] { program.exit_code = program.Finish(Get(program, *words)); });

  CLI::App* set = json->add_subcommand("set", "Store a document, whatever was there");
  set->add_option("NAME", words->name, "The document's name")->required();
  AddText(*set, "DOC", words->document, "The document; read from standard input when left out",
          "JSON");
  AddText(*set, "--ttl", words->ttl, "How long it is kept; else as long as the one before", "TIME");
  set->callback([&program, words] { program.exit_code = program.Finish(Set(program, *words)); });

  CLI::App* cas = json->add_subcommand("cas", "Change it if every test holds, else nothing");
  cas->add_option("NAME", words->name, "The document's name; before the options")->required();
  cas->add_option("--if", words->tests, "The value at the path must equal this")
      ->type_name("/path=JSON");
  cas->add_option("--if-absent", words->absent, "There must be nothing at the path")
      ->type_name("/path");
  CLI::Option* assignments =
      cas->add_option("--set", words->assignments, "Put this at the path")->type_name("/path=JSON");
  AddText(*cas, "--doc", words->whole, "Put this in place of the whole document", "JSON")
      ->excludes(assignments);
  cas->footer(
      "Paths are JSON Pointers: /owner/name, /tags/0; empty for the whole document. Values are\n"
      "compared as JSON: 1 equals 1.0. Of several '=' the first one counts behind which there is\n"
      "JSON.\n"
      "Prints applied, 'mismatch /path=JSON' or 'mismatch /path absent' (the first test that\n"
      "failed and what is there), or missing. Exit status 75: mismatch or missing.");
  cas->callback(
      [&program, words] { program.exit_code = program.Finish(CompareAndSet(program, *words)); });

  CLI::App* update =
      json->add_subcommand("update", "Change it in any way, if conditions hold, else nothing");
  update->add_option("NAME", words->name, "The document's name; before the options")->required();
  // Their values are read in the order of all; see ReadChange.
  for (const Step& step : kSteps) {
    update->add_option(step.option, step.description)
        ->type_name(step.type)
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  update->add_flag_callback(
      "--or", [] {}, "Other conditions follow, which will do as well as those before");
  CLI::Option* operation =
      AddText(*update, "--operation-id", words->operation_id,
              "Change it once, however often this is run with the same id", "ID");
  AddText(*update, "--create", words->create,
          "Where there is no document: make the changes to this and store it", "JSON")
      ->excludes(operation);
  CLI::Option* ttl = AddText(*update, "--ttl", words->ttl,
                             "How long it is kept from now on; else as before", "TIME");
  update->add_flag("--keep-forever", words->keep_forever, "It is kept for ever from now on")
      ->excludes(ttl);
  update->footer(
      "Examples:\n"
      "  coord json update job:17 --set '/tags/-=\"late\"' --remove /owner --ttl 1d\n"
      "  coord json update job:17 --if '/state=\"free\"' --or --if '/state=\"taken\"' \\\n"
      "      --if-less /seen=1700000000 --set '/state=\"taken\"' '/by=\"me\"' /seen=1700000060\n"
      "                            takes a free job, or one whose owner was not seen since\n"
      "Paths and values are those of `coord json cas`. Without a condition the document must only\n"
      "be there. The changes are made in the order in which they stand. With --create, the\n"
      "conditions are not asked where there is no document.\n"
      "Prints applied, 'mismatch /path=JSON' or 'mismatch /path absent' (the first condition that\n"
      "failed, before any --or, and what is there), or missing. Exit status 75: mismatch or\n"
      "missing. A repeated answer to an --operation-id leaves a value above 1 KB out: 'mismatch\n"
      "/path omitted'.");
  update->callback([&program, update, words] {
    program.exit_code = program.Finish(Update(program, *update, *words));
  });
}

}  // namespace coord::tools
