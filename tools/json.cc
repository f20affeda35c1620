// coord json get|set|cas
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
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
    }
    PrintJson(object);
  } else if (mismatch) {
    PrintLine(
        StrCat("mismatch ", path, result.current ? "=" : " absent", result.current.value_or("")));
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

}  // namespace

void AddJson(CLI::App& app, Program& program) {
  CLI::App* json = app.add_subcommand("json", "JSON documents that change only if still as seen");
  json->require_subcommand(1);
  json->footer(
      "Examples:\n"
      "  coord json set job:17 '{\"state\": \"pending\"}'\n"
      "  coord json cas job:17 --if '/state=\"pending\"' --set '/state=\"running\"' /by='\"me\"'\n"
      "  coord json cas job:17 --if-absent '' --doc '{}'     creates it where there is none\n"
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
}

}  // namespace coord::tools
