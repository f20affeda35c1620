// coord resolve counter|limit|list|json
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "coord/capped_list.h"
#include "coord/counter.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "coord/operation_id.h"
#include "coord/rate_limiter.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::StrCat;

struct Words {
  std::string name;
  std::string id;
};

// What an operation answered: a line, and the fields of its result.
struct Answer {
  std::string line;
  nlohmann::json fields;
};

template <typename Result>
using Resolved = absl::StatusOr<std::optional<Result>>;

Answer Show(const CounterResult& result) {
  return {StrCat(result.value), {{"value", result.value}, {"applied", result.applied}}};
}

Answer Show(const RateDecision& decision) {
  return {StrCat(decision.allowed ? "allowed" : "denied", " taken=", decision.taken),
          {{"allowed", decision.allowed},
           {"taken", decision.taken},
           {"remaining", decision.remaining}}};
}

Answer Show(const PushResult& result) {
  return {StrCat(result.length),
          {{"length", result.length},
           {"evicted", result.evicted},
           {"sequence", result.sequence},
           {"applied", result.applied}}};
}

Answer Show(const CasResult& result) {
  const char* const word = result.applied()                                  ? "applied"
                           : result.outcome == CasResult::Outcome::kMismatch ? "mismatch"
                                                                             : "missing";
  nlohmann::json fields = {{"outcome", word}};
  if (result.outcome == CasResult::Outcome::kMismatch) {
    fields["failed_test"] = result.failed_test;
    fields["current"] = result.current ? JsonText(*result.current) : nlohmann::json();
    if (result.omitted) fields["omitted"] = true;
  }
  return {word, std::move(fields)};
}

// Asks with `ask(client)`, which returns a Resolved.
template <typename Ask>
absl::StatusOr<int> Resolve(const Program& program, const Words& words, Ask ask) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const auto result = ask(*std::move(client), words.name, OperationId(words.id));
  if (!result.ok()) return result.status();
  if (!*result) {
    if (program.json) {
      PrintJson({{"found", false}});
    } else {
      PrintLine("not applied");
    }
    return kExitNotGranted;
  }
  Answer answer = Show(**result);
  if (program.json) {
    answer.fields["found"] = true;
    PrintJson(answer.fields);
  } else {
    PrintLine(answer.line);
  }
  return kExitOk;
}

template <typename Ask>
void Add(CLI::App& resolve, Program& program, const std::shared_ptr<Words>& words,
         const std::string& kind, const std::string& description, Ask ask) {
  CLI::App* app = resolve.add_subcommand(kind, description);
  app->add_option("NAME", words->name, "What the operation was on")->required();
  app->add_option("ID", words->id, "Its --operation-id")->required();
  app->callback([&program, words, ask] {
    program.exit_code = program.Finish(Resolve(program, *words, ask));
  });
}

}  // namespace

void AddResolve(CLI::App& app, Program& program) {
  CLI::App* resolve =
      app.add_subcommand("resolve", "What became of an operation with an --operation-id");
  resolve->require_subcommand(1);
  resolve->footer(
      "Prints what it answered, or 'not applied', with exit status 75; then it never will be\n"
      "applied: should it still arrive, it is refused. Answers are kept for ten minutes or more.\n"
      "Of several limits at once it cannot be asked here.\n"
      "With --json, an object: found, and the fields of the result.\n"
      "Example:\n"
      "  coord counter add paid 50 --operation-id order-17 || coord resolve counter paid order-17");
  const auto words = std::make_shared<Words>();
  Add(*resolve, program, words, "counter", "Of counter add or reset",
      [](Client client, const std::string& name, const OperationId& id) {
        return Counter(std::move(client), name).Resolve(id);
      });
  Add(*resolve, program, words, "limit", "Of limit take",
      [](Client client, const std::string& name, const OperationId& id) {
        // The answer depends on no rate.
        return RateLimiter(std::move(client), {.permits = 1}).Resolve(name, id);
      });
  Add(*resolve, program, words, "list", "Of list push",
      [](Client client, const std::string& name, const OperationId& id) {
        return CappedList(std::move(client), name, {.max_items = 1}).Resolve(id);
      });
  Add(*resolve, program, words, "json", "Of json update",
      [](Client client, const std::string& name, const OperationId& id) {
        return JsonDocument(std::move(client), name).Resolve(id);
      });
}

}  // namespace coord::tools
