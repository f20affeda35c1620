// coord cache get|set|add|del|ttl|expire|persist|keys|count|clear|invalidate; see cache_stats.cc
// and cache_memo.cc for the others.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/cache_access.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

struct Words {
  CachePlace place;
  Text ttl;
  std::vector<std::string> tags;
  bool as_json = false;
  bool yes = false;
};

// Exactly one word, or none where there is something to take in its place.
absl::StatusOr<std::string> OneWord(const CLI::App& app, const Program& program,
                                    std::string_view name,
                                    std::optional<std::string> otherwise = std::nullopt) {
  absl::StatusOr<std::vector<std::string>> words = WordsOf(app, program);
  if (!words.ok()) return words.status();
  if (words->empty() && otherwise) return *std::move(otherwise);
  if (words->empty()) return InvalidArgument(StrCat(name, " is missing"));
  if (words->size() > 1) {
    return InvalidArgument(StrCat("the argument ", Quoted((*words)[1]), " was not expected"));
  }
  return std::move(words->front());
}

absl::StatusOr<std::vector<std::string>> SomeWords(const CLI::App& app, const Program& program,
                                                   std::string_view name) {
  absl::StatusOr<std::vector<std::string>> words = WordsOf(app, program);
  if (words.ok() && words->empty()) return InvalidArgument(StrCat(name, " is missing"));
  return words;
}

// ---- get ----

using Found = Lookup<std::string>;

std::string_view StateOf(const Found& found) {
  return found.hit() ? "hit" : found.null() ? "null" : "miss";
}

void PrintFound(const std::string& key, const Found& found) {
  PrintJson({{"key", JsonText(key)},
             {"state", StateOf(found)},
             {"value", found.hit() ? JsonText(*found) : nlohmann::json()}});
}

// The bytes and nothing else, so that what is piped on is what was stored.
void PrintBytes(const std::string& value) {
  std::fwrite(value.data(), 1, value.size(), stdout);
  if (isatty(STDOUT_FILENO) == 1 && !value.ends_with('\n')) std::fputc('\n', stdout);
}

absl::StatusOr<int> Get(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::vector<std::string>> keys = SomeWords(app, program, "KEY");
  if (!keys.ok()) return keys.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  if (keys->size() == 1) {
    absl::StatusOr<Found> found = cache->Get<std::string>(keys->front());
    if (!found.ok()) return found.status();
    if (program.json) {
      PrintFound(keys->front(), *found);
    } else if (found->hit()) {
      PrintBytes(**found);
    }
    return found->miss() ? kExitNotGranted : kExitOk;
  }
  auto found = cache->GetMany<std::string>(*keys);
  if (!found.ok()) return found.status();
  bool all = true;
  for (const std::string& key : *keys) {
    const Found& one = found->find(key)->second;
    all = all && !one.miss();
    if (program.json) {
      PrintFound(key, one);
    } else if (one.hit()) {
      PrintLine(*one);
    } else {
      Say(StrCat(Quoted(key), one.null() ? " is a cached null" : " is not cached"));
    }
  }
  return all ? kExitOk : kExitNotGranted;
}

// ---- set, add ----

// All of stdin; one byte more than the cache takes is enough for it to refuse.
absl::StatusOr<std::string> ReadInput() {
  std::string input;
  char buffer[65536];
  while (input.size() <= kMaxCachedBytes) {
    const ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n == 0) break;
    if (n > 0) {
      input.append(buffer, static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      return absl::ErrnoToStatus(errno, "VALUE is \"-\" and standard input cannot be read");
    }
  }
  return input;
}

absl::StatusOr<int> Store(const Program& program, const CLI::App& app, const Words& words,
                          bool add) {
  absl::StatusOr<std::vector<std::string>> both = WordsOf(app, program);
  if (!both.ok()) return both.status();
  if (both->size() != 2) {
    if (both->size() > 2) {
      return InvalidArgument(StrCat("the argument ", Quoted((*both)[2]), " was not expected"));
    }
    return InvalidArgument(both->empty() ? "KEY and VALUE are missing" : "VALUE is missing");
  }
  SetOptions options;
  absl::StatusOr<Ttl> ttl = ReadTtl("--ttl", words.ttl);
  if (!ttl.ok()) return ttl.status();
  options.ttl = *ttl;
  options.tags = words.tags;
  const std::string& key = (*both)[0];
  absl::StatusOr<std::string> value = (*both)[1] == "-" ? ReadInput() : std::move((*both)[1]);
  if (!value.ok()) return value.status();
  if (words.as_json && !nlohmann::json::accept(*value)) {
    return InvalidArgument(StrCat("VALUE is ", Quoted(*value), ", which is not JSON"));
  }
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  bool stored = true;
  if (add) {
    absl::StatusOr<bool> added = cache->Add(key, *value, options);
    if (!added.ok()) return added.status();
    stored = *added;
  } else if (absl::Status set = cache->Set(key, *value, options); !set.ok()) {
    return set;
  }
  if (program.json) PrintJson({{add ? "added" : "set", stored}});
  return stored ? kExitOk : kExitNotGranted;
}

// ---- del, invalidate ----

absl::StatusOr<int> Delete(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::vector<std::string>> keys = SomeWords(app, program, "KEY");
  if (!keys.ok()) return keys.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<std::int64_t> deleted = cache->DeleteMany(*keys);
  if (!deleted.ok()) return deleted.status();
  if (program.json) {
    PrintJson({{"deleted", *deleted}});
  } else {
    PrintLine(StrCat(*deleted));
  }
  return kExitOk;
}

absl::StatusOr<int> Invalidate(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::vector<std::string>> tags = SomeWords(app, program, "TAG");
  if (!tags.ok()) return tags.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  if (absl::Status ended = cache->InvalidateTags(*tags); !ended.ok()) return ended;
  if (program.json) PrintJson({{"invalidated", tags->size()}});
  return kExitOk;
}

// ---- ttl, expire, persist ----

// Milliseconds say nothing to a person beside hours. Rounded up: what is there is not over.
std::string TextOf(absl::Duration left) {
  return FormatTtl(left > absl::Seconds(1) ? absl::Ceil(left, absl::Seconds(1)) : left);
}

absl::StatusOr<int> ShowTtl(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::string> key = OneWord(app, program, "KEY");
  if (!key.ok()) return key.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<TimeLeft> left = cache->TtlOf(*key);
  if (!left.ok()) return left.status();
  const bool missing = left->kind() == TimeLeft::Kind::kMissing;
  const bool expires = left->kind() == TimeLeft::Kind::kExpires;
  if (program.json) {
    nlohmann::json milliseconds = nullptr;
    if (expires) milliseconds = absl::ToInt64Milliseconds(left->left());
    PrintJson({{"state", missing   ? "missing"
                         : expires ? "expires"
                                   : "never"},
               {"ttl_ms", milliseconds}});
  } else if (!missing) {
    PrintLine(expires ? TextOf(left->left()) : "never");
  }
  return missing ? kExitNotGranted : kExitOk;
}

absl::StatusOr<int> Expire(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::vector<std::string>> both = WordsOf(app, program);
  if (!both.ok()) return both.status();
  if (both->size() != 2) return InvalidArgument("KEY and TTL are needed, and nothing else");
  absl::StatusOr<Ttl> ttl = ReadTtl("TTL", (*both)[1]);
  if (!ttl.ok()) return ttl.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<bool> there = cache->Expire((*both)[0], *ttl);
  if (!there.ok()) return there.status();
  if (program.json) PrintJson({{"expires", *there}});
  return *there ? kExitOk : kExitNotGranted;
}

absl::StatusOr<int> Persist(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::string> key = OneWord(app, program, "KEY");
  if (!key.ok()) return key.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<bool> there = cache->Persist(*key);
  if (!there.ok()) return there.status();
  if (program.json) PrintJson({{"persists", *there}});
  return *there ? kExitOk : kExitNotGranted;
}

// ---- keys, count, clear ----

absl::StatusOr<int> Keys(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::string> pattern = OneWord(app, program, "PATTERN", "*");
  if (!pattern.ok()) return pattern.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<std::vector<std::string>> keys = cache->Keys(*pattern);
  if (!keys.ok()) return keys.status();
  for (const std::string& key : *keys) {
    if (program.json) {
      PrintJson({{"key", JsonText(key)}});
    } else {
      PrintLine(key);
    }
  }
  return kExitOk;
}

absl::StatusOr<int> Count(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::string> pattern = OneWord(app, program, "PATTERN", "*");
  if (!pattern.ok()) return pattern.status();
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<std::int64_t> count = cache->Count(*pattern);
  if (!count.ok()) return count.status();
  if (program.json) {
    PrintJson({{"count", *count}});
  } else {
    PrintLine(StrCat(*count));
  }
  return kExitOk;
}

absl::StatusOr<int> Clear(const Program& program, const CLI::App& app, const Words& words) {
  absl::StatusOr<std::string> pattern = OneWord(app, program, "PATTERN", "*");
  if (!pattern.ok()) return pattern.status();
  if (pattern->find_first_not_of('*') == std::string::npos) {
    if (words.place.raw || (words.place.key_prefix && words.place.key_prefix->empty())) {
      return InvalidArgument(
          "without a prefix the cache cannot tell its keys from others: give a PATTERN that names "
          "yours");
    }
    if (!words.yes) {
      return InvalidArgument("to clear the whole cache, say --yes; or give a PATTERN");
    }
  }
  absl::StatusOr<TextCache> cache = OpenCache(program, words.place);
  if (!cache.ok()) return cache.status();
  absl::StatusOr<std::int64_t> deleted = cache->DeletePattern(*pattern);
  if (!deleted.ok()) return deleted.status();
  if (program.json) {
    PrintJson({{"deleted", *deleted}});
  } else {
    PrintLine(StrCat(*deleted));
  }
  return kExitOk;
}

}  // namespace

std::string_view CacheArguments(std::string_view subcommand) {
  if (subcommand == "get" || subcommand == "del") return " KEY...";
  if (subcommand == "set" || subcommand == "add") return " KEY VALUE";
  if (subcommand == "ttl" || subcommand == "persist") return " KEY";
  if (subcommand == "expire") return " KEY TTL";
  if (subcommand == "invalidate") return " TAG...";
  if (subcommand == "memo") return "";
  return " [PATTERN]";
}

void AddCache(CLI::App& app, Program& program) {
  CLI::App* cache =
      app.add_subcommand("cache", "Values that are kept for a while, since making them costs");
  cache->require_subcommand(1);
  cache->footer(
      "The keys are those of a coord::Cache with the same prefix; its compressed values, nulls "
      "and\n"
      "tags are understood. Times to live are 90s, 1h30m, 1d, or never. What begins with '-' and "
      "is no\n"
      "option stands after \"--\".\n"
      "Examples:\n"
      "  coord cache set user:1 '{\"name\": \"Ann\"}' --ttl 1h --tag users\n"
      "  coord cache get user:1 | jq .name      exit status 75: not cached\n"
      "  coord cache invalidate users           everything with this tag is a miss from now on\n"
      "  coord cache clear 'user:*'             prints how many there were\n"
      "  coord cache memo rates --ttl 1h --stale-if-error 1d -- curl -sf "
      "https://example.com/rates\n"
      "                                         a command's output, made once for all hosts");
  const auto words = std::make_shared<Words>();

  using Run = absl::StatusOr<int> (*)(const Program&, const CLI::App&, const Words&);
  const auto add = [&](const char* name, const char* description, Run run) {
    CLI::App* const made = cache->add_subcommand(name, description);
    AddPlaceOptions(*made, words->place);
    made->allow_extras();
    made->callback([&program, made, words, run] {
      program.exit_code = program.Finish(run(program, *made, *words));
    });
    return made;
  };
  const auto add_store_options = [&](CLI::App* made) {
    AddText(*made, "--ttl", words->ttl, "How long it is kept, or never (5m)", "TTL");
    made->add_option("--tag", words->tags,
                     "It is a miss once this tag is invalidated; may come "
                     "several times")
        ->allow_extra_args(false)
        ->type_name("TAG");
    made->add_flag("--as-json", words->as_json, "Refuse a VALUE that is not JSON");
  };

  add("get", "Print what is cached", &Get)
      ->footer(
          "Of one key exactly its bytes; of several a line each. Exit status 75: one is not "
          "cached.\n"
          "A cached null prints nothing. With --json, an object a key: key, state (hit, null, "
          "miss)\n"
          "and value, which is {\"base64\": \"...\"} where it is not UTF-8.");
  CLI::App* set = add("set", "Cache a value, whatever was there",
                      [](const Program& p, const CLI::App& a, const Words& w) {
                        return Store(p, a, w, /*add=*/false);
                      });
  add_store_options(set);
  set->footer("VALUE \"-\" is read from standard input.");
  CLI::App* adds = add("add", "Cache a value where there is none",
                       [](const Program& p, const CLI::App& a, const Words& w) {
                         return Store(p, a, w, /*add=*/true);
                       });
  add_store_options(adds);
  adds->footer("VALUE \"-\" is read from standard input. Exit status 75: there was one already.");
  add("del", "Forget values, and print how many there were", &Delete);
  add("invalidate", "Make misses of all values that have one of the tags", &Invalidate);
  add("ttl", "Print how long a value is kept yet", &ShowTtl)
      ->footer(
          "Prints 1h2m3s, or never. Exit status 75: not cached. With --json: state (expires, "
          "never,\n"
          "missing) and ttl_ms. A value that may be served stale is kept longer than it is fresh.");
  add("expire", "Keep a value so long from now on", &Expire)->footer("Exit status 75: not cached.");
  add("persist", "Keep a value until it is removed or evicted", &Persist)
      ->footer("Exit status 75: not cached.");
  add("keys", "Print the keys, sorted, one a line", &Keys)
      ->footer(
          "Patterns are Redis's: *, ?, [ab], \\ before what is meant as it is. The prefix before "
          "them\n"
          "is meant as it is, and not printed. Keys of locks and the like are left out.");
  add("count", "Print how many keys there are", &Count);
  CLI::App* clear = add("clear", "Forget all that match, and print how many", &Clear);
  clear->add_flag("--yes", words->yes,
                  "Yes, the whole cache: needed where PATTERN is * or missing");
  clear->footer("Only keys under the prefix, and never those of locks and the like.");
  AddCacheStats(*cache, program);
  AddCacheMemo(*cache, program);
}

}  // namespace coord::tools
