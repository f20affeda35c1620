// What the subcommands of `coord cache` have in common: where the cache is, and how times to live
// and words are read.
#ifndef COORD_TOOLS_CACHE_ACCESS_H_
#define COORD_TOOLS_CACHE_ACCESS_H_

#include <CLI/CLI.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/cache.h"
#include "cache/codec.h"
#include "cache/ttl.h"
#include "tools/program.h"

namespace coord::tools {

// Values as they are: what another codec has stored is shown in its bytes.
using TextCache = BasicCache<RawCodec>;

inline constexpr std::size_t kMaxCachedBytes = std::size_t{64} << 20;

// Where keys stand.
struct CachePlace {
  std::optional<std::string> key_prefix;  // --key-prefix
  bool raw = false;                       // --raw
};
void AddPlaceOptions(CLI::App& app, CachePlace& place);

// Connects. No jitter: who types a time to live means it. `max_bytes`: of a value.
absl::StatusOr<TextCache> OpenCache(const Program& program, const CachePlace& place,
                                    std::size_t max_bytes = kMaxCachedBytes);
// The same on a client that is there.
TextCache CacheOn(const Client& client, const CachePlace& place,
                  std::size_t max_bytes = kMaxCachedBytes);

// "never", or as ParseTtl reads it. Unset: the cache's default.
absl::StatusOr<Ttl> ReadTtl(std::string_view what, const std::optional<std::string>& text);

// What the parser did not know, and what followed "--". A positional of many values would not do:
// CLI11 takes "[1,2]" there for two of them.
absl::StatusOr<std::vector<std::string>> WordsOf(const CLI::App& app, const Program& program);

// The subcommands that have files of their own.
void AddCacheStats(CLI::App& cache, Program& program);
void AddCacheMemo(CLI::App& cache, Program& program);

}  // namespace coord::tools

#endif  // COORD_TOOLS_CACHE_ACCESS_H_
