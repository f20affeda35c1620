// coord cache stats: how much is cached, and what the server says of itself.
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/cache_access.h"
#include "tools/server_facts.h"

namespace coord::tools {
namespace {

using internal::Quoted;
using internal::StrCat;

struct Held {
  std::int64_t keys = 0;
  // Unset: the server does not say, such as to a user who may not ask.
  std::optional<std::int64_t> bytes = 0;
};

// Adds the lengths of the values. Those that are no strings have none, and neither has what has
// gone since.
absl::Status AddBytes(const TextCache& cache, const std::vector<std::string>& keys, Held& held) {
  if (keys.empty() || !held.bytes) return absl::OkStatus();
  Pipeline lengths;
  for (const std::string& key : keys) {
    const absl::StatusOr<std::string> full = cache.FullKey(key);
    if (full.ok()) lengths.Add({"STRLEN", *full});
  }
  absl::StatusOr<std::vector<Reply>> replies = cache.client()->Execute(lengths);
  if (!replies.ok()) return replies.status();
  for (const Reply& reply : *replies) {
    if (reply.is_integer()) *held.bytes += reply.integer();
    if (reply.is_error() && reply.text().starts_with("NOPERM")) {
      held.bytes.reset();
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Held> Measure(const TextCache& cache, const std::string& pattern) {
  constexpr std::size_t kStep = 1000;
  // All of them, since a walk may come by one twice.
  absl::StatusOr<std::vector<std::string>> keys = cache.Keys(pattern);
  if (!keys.ok()) return keys.status();
  Held held{.keys = static_cast<std::int64_t>(keys->size())};
  for (std::size_t from = 0; from < keys->size(); from += kStep) {
    const std::size_t to = std::min(keys->size(), from + kStep);
    const std::vector<std::string> some(keys->begin() + static_cast<std::ptrdiff_t>(from),
                                        keys->begin() + static_cast<std::ptrdiff_t>(to));
    if (absl::Status added = AddBytes(cache, some, held); !added.ok()) return added;
  }
  return held;
}

absl::StatusOr<int> Stats(const Program& program, const CLI::App& app, const CachePlace& place) {
  absl::StatusOr<std::vector<std::string>> patterns = WordsOf(app, program);
  if (!patterns.ok()) return patterns.status();
  if (patterns->size() > 1) {
    return internal::InvalidArgument(
        StrCat("the argument ", Quoted((*patterns)[1]), " was not expected"));
  }
  absl::StatusOr<TextCache> cache = OpenCache(program, place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<Held> held = Measure(*cache, patterns->empty() ? "*" : patterns->front());
  if (!held.ok()) return held.status();
  absl::StatusOr<std::string> prefix = cache->FullKey("x");
  if (!prefix.ok()) return prefix.status();
  prefix->pop_back();
  // A hint, so that it must not fail where the user may not ask.
  Fields info;
  if (absl::StatusOr<Reply> reply = cache->client()->Command({"INFO"}); reply.ok()) {
    info = ParseInfo(reply->text());
  } else if (absl::IsUnavailable(reply.status()) || absl::IsDeadlineExceeded(reply.status())) {
    return reply.status();
  }
  constexpr std::pair<const char*, const char*> kFigures[] = {
      {"hits", "keyspace_hits"},   {"misses", "keyspace_misses"},  {"evicted", "evicted_keys"},
      {"expired", "expired_keys"}, {"used_memory", "used_memory"}, {"max_memory", "maxmemory"}};
  nlohmann::json server;
  for (const auto& [name, field] : kFigures) {
    const std::optional<std::int64_t> number = Number(info, field);
    server[name] = number ? nlohmann::json(*number) : nlohmann::json();
  }
  server["policy"] = Text(info, "maxmemory_policy");
  if (program.json) {
    PrintJson({{"prefix", JsonText(*prefix)},
               {"keys", held->keys},
               {"bytes", held->bytes ? nlohmann::json(*held->bytes) : nlohmann::json()},
               {"server", server}});
    return kExitOk;
  }
  PrintLine(StrCat("prefix ", *prefix));
  PrintLine(StrCat("keys ", held->keys));
  if (held->bytes) PrintLine(StrCat("bytes ", *held->bytes));
  for (const auto& [name, field] : kFigures) {
    if (const std::optional<std::int64_t> number = Number(info, field)) {
      PrintLine(StrCat("server_", name, " ", *number));
    }
  }
  return kExitOk;
}

}  // namespace

void AddCacheStats(CLI::App& cache, Program& program) {
  CLI::App* stats =
      cache.add_subcommand("stats", "Print how much is cached, and the server's word");
  const auto place = std::make_shared<CachePlace>();
  AddPlaceOptions(*stats, *place);
  stats->allow_extras();
  stats->footer(
      "A figure a line: keys that match, and the bytes of their values; then what the server has\n"
      "counted of all its keys since it started (of one server, where there are several): hits,\n"
      "misses, evicted, expired, used_memory and max_memory in bytes, 0 for no limit. With --json "
      "an\n"
      "object: prefix, keys, bytes, server; null is what the server does not say.");
  stats->callback([&program, stats, place] {
    program.exit_code = program.Finish(Stats(program, *stats, *place));
  });
}

}  // namespace coord::tools
