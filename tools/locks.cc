// coord locks: who holds what, and who waits for it. coord unlock: an operator's last resort.
#include "coord/locks.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::Quoted;
using internal::StrCat;

nlohmann::json Labels(const std::vector<std::string>& owners) {
  nlohmann::json labels = nlohmann::json::array();
  for (const std::string& owner : owners) labels.push_back(JsonText(owner));
  return labels;
}

std::string Who(const LockHolder& holder) {
  if (!holder.owner.empty()) return std::string(internal::OwnerLabel(holder.owner));
  std::string text;
  for (const std::string& reader : holder.readers) {
    if (!text.empty()) text += ' ';
    text += internal::OwnerLabel(reader);
  }
  return StrCat("readers: ", text);
}

std::string Waiters(const LockHolder& holder) {
  std::string text = StrCat(holder.waiters.size());
  for (const std::string& waiter : holder.waiters) {
    text += StrCat(" ", internal::OwnerLabel(waiter));
  }
  return text;
}

void PrintTable(const std::vector<HeldLock>& locks) {
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "HELD BY", "FOR", "LEFT", "TOKEN", "WAITING"}};
  for (const HeldLock& lock : locks) {
    rows.push_back({lock.name, Who(lock.holder),
                    internal::ToText(absl::Trunc(lock.holder.held, absl::Milliseconds(1))),
                    internal::ToText(lock.holder.left), StrCat(lock.holder.token.value()),
                    Waiters(lock.holder)});
  }
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    PrintLine(line);
  }
}

absl::StatusOr<int> Locks(const Program& program) {
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<std::vector<HeldLock>> locks = HeldLocks(*client);
  if (!locks.ok()) return locks.status();
  if (!program.json) {
    PrintTable(*locks);
    return kExitOk;
  }
  for (const HeldLock& lock : *locks) {
    nlohmann::json held_by = nullptr;
    if (!lock.holder.owner.empty()) held_by = JsonText(lock.holder.owner);
    PrintJson({{"name", JsonText(lock.name)},
               {"owner", std::move(held_by)},
               {"readers", Labels(lock.holder.readers)},
               {"waiters", Labels(lock.holder.waiters)},
               {"token", lock.holder.token.value()},
               {"held_ms", absl::ToInt64Milliseconds(lock.holder.held)},
               {"left_ms", absl::ToInt64Milliseconds(lock.holder.left)}});
  }
  return kExitOk;
}

struct UnlockWords {
  std::string name;
  Text owner;
  bool force = false;
};

absl::StatusOr<int> Unlock(const Program& program, const UnlockWords& words) {
  Arguments given;
  given.Name(words.name);
  if (!given.status().ok()) return given.status();
  if (!words.force) {
    return internal::InvalidArgument(
        StrCat("a lock is given back by the `coord lock` that holds it; to take it from a holder ",
               "that may still be working, say --force"));
  }
  absl::StatusOr<std::string> holder = "";
  if (program.quorum()) {
    absl::StatusOr<Quorum> quorum = program.ConnectQuorum();
    if (!quorum.ok()) return quorum.status();
    holder = Mutex(*quorum, words.name).ForceRelease(words.owner.value_or(""));
  } else {
    absl::StatusOr<Client> client = program.Connect();
    if (!client.ok()) return client.status();
    holder = Mutex(*client, words.name).ForceRelease(words.owner.value_or(""));
  }
  if (!holder.ok()) return holder.status();
  if (program.json) {
    nlohmann::json from = nullptr;
    if (!holder->empty()) from = JsonText(*holder);
    PrintJson({{"name", JsonText(words.name)}, {"released", !holder->empty()}, {"from", from}});
  }
  if (holder->empty()) {
    Say(StrCat("the lock ", Quoted(words.name), " is not held",
               words.owner ? StrCat(" by ", Quoted(*words.owner)) : std::string()));
    return kExitNotGranted;
  }
  Say(StrCat("took the lock ", Quoted(words.name), " from ",
             holder->starts_with('%') ? std::string("its readers") : *holder,
             "; it is told at its next renewal, and may be working until then"));
  return kExitOk;
}

}  // namespace

void AddLocks(CLI::App& app, Program& program) {
  CLI::App* locks = app.add_subcommand("locks", "Show who holds which lock and who waits for it");
  locks->footer(
      "Walks over all keys of the server, in steps that hold nobody up. With --json, an object a\n"
      "lock, with the whole owner ids, which `coord unlock --owner` takes.");
  locks->callback([&program] { program.exit_code = program.Finish(Locks(program)); });
}

void AddUnlock(CLI::App& app, Program& program) {
  CLI::App* unlock = app.add_subcommand("unlock", "Take a lock from whoever holds it");
  const auto words = std::make_shared<UnlockWords>();
  unlock->add_option("NAME", words->name, "The lock's name")->required();
  unlock->add_flag("--force", words->force, "Yes, although its holder may still be working");
  AddText(*unlock, "--owner", words->owner, "Only from this one (see coord locks --json)", "ID");
  unlock->footer(
      "Who waits first has the lock at once. Until its next renewal the old holder believes to "
      "have "
      "it\n"
      "still; only the fencing token keeps it from doing harm. Exit status 75: it was not held.");
  unlock->callback(
      [&program, words] { program.exit_code = program.Finish(Unlock(program, *words)); });
}

}  // namespace coord::tools
