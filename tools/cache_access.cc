#include "tools/cache_access.h"

#include <memory>
#include <utility>

#include "cache/redis_backend.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"

namespace coord::tools {

using internal::FromAbsl;
using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

void AddPlaceOptions(CLI::App& app, CachePlace& place) {
  CLI::Option* prefix = AddText(app, "--key-prefix", place.key_prefix,
                                "What stands before every key, literally (coord:cache:, or "
                                "TEXTcache: with --prefix TEXT)",
                                "TEXT");
  app.add_flag("--raw", place.raw, "Keys are Redis keys as they are: no prefix")->excludes(prefix);
}

TextCache CacheOn(const Client& client, const CachePlace& place, std::size_t max_bytes) {
  CacheOptions options;
  options.name = "cli";
  options.ttl_jitter = 0;
  options.max_value_bytes = max_bytes;
  // Something is there, and who asks for it should hear why it cannot be shown.
  options.undecodable_is_error = true;
  options.on_problem = [](const absl::Status& problem) { Say(FromAbsl(problem.message())); };
  if (place.raw) options.prefix = KeyPrefix::None();
  if (place.key_prefix) options.prefix = KeyPrefix::Literal(*place.key_prefix);
  return TextCache(std::make_shared<RedisBackend>(client), std::move(options));
}

absl::StatusOr<TextCache> OpenCache(const Program& program, const CachePlace& place,
                                    std::size_t max_bytes) {
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return client.status();
  return CacheOn(*client, place, max_bytes);
}

absl::StatusOr<Ttl> ReadTtl(std::string_view what, const Text& text) {
  if (!text) return Ttl::Default();
  if (*text == "never") return Ttl::Never();
  absl::StatusOr<absl::Duration> length = ParseTtl(*text);
  if (!length.ok()) {
    return InvalidArgument(StrCat(what, ": ", FromAbsl(length.status().message()), ", or never"));
  }
  return Ttl::After(*length);
}

absl::StatusOr<std::vector<std::string>> WordsOf(const CLI::App& app, const Program& program) {
  std::vector<std::string> words = app.remaining();
  for (const std::string& word : words) {
    const bool number = word.size() > 1 && word[1] >= '0' && word[1] <= '9';
    if (word.size() > 1 && word[0] == '-' && !number) {
      return InvalidArgument(StrCat("unknown option ", Quoted(word),
                                    "; write what begins with '-' and is no option after \"--\""));
    }
  }
  if (program.tail) words.insert(words.end(), program.tail->begin(), program.tail->end());
  return words;
}

}  // namespace coord::tools
