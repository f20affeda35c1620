// coord id
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/id_generator.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

struct Words {
  std::string name;
  Text count;
};

absl::StatusOr<int> Print(const Program& program, const Words& words) {
  Arguments given;
  given.Name(words.name);
  const std::int64_t count = given.Integer("--count", words.count, 1).value_or(1);
  if (!given.status().ok()) return given.status();
  if (count > kMaxIdBlock) {
    return internal::InvalidArgument(
        internal::StrCat("--count is ", count, "; it must be at most ", kMaxIdBlock));
  }
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  const IdGenerator generator(*std::move(client), words.name, {.block = count});
  for (std::int64_t i = 0; i < count; ++i) {
    const absl::StatusOr<std::int64_t> id = generator.Next();
    if (!id.ok()) return id.status();
    if (program.json) {
      PrintJson({{"id", *id}});
    } else {
      PrintLine(internal::StrCat(*id));
    }
  }
  return kExitOk;
}

}  // namespace

void AddId(CLI::App& app, Program& program) {
  CLI::App* id = app.add_subcommand("id", "Print numbers that nobody else gets");
  const auto words = std::make_shared<Words>();
  id->add_option("NAME", words->name, "What is numbered")->required();
  AddText(*id, "--count", words->count, "How many (1); they follow each other", "INT");
  id->footer(
      "One a line, increasing, about microseconds since 1970; with --json, {\"id\": ...}. "
      "Examples:\n"
      "  coord id orders\n"
      "  coord id orders --count 5 --json");
  id->callback([&program, words] { program.exit_code = program.Finish(Print(program, *words)); });
}

}  // namespace coord::tools
