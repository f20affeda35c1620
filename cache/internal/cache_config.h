// What a configuration says of caches, as values. Opens nothing.
#ifndef COORD_CACHE_INTERNAL_CACHE_CONFIG_H_
#define COORD_CACHE_INTERNAL_CACHE_CONFIG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/cache_options.h"
#include "cache/memory_backend.h"

namespace coord::internal {

struct BackendConfig {
  enum class Provider { kRedis, kMemory, kDisk, kTiered } provider = Provider::kRedis;
  std::string uri = {};
  std::string path = {};
  std::uint64_t max_entries = 0;  // 0: not said
  std::uint64_t max_bytes = 0;
  Eviction eviction = Eviction::kTinyLfu;
  std::optional<absl::Duration> max_ttl = std::nullopt;  // of a tier, or of what is near
  std::optional<absl::Duration> timeout = std::nullopt;
  std::optional<absl::Duration> connect_timeout = std::nullopt;
  std::vector<BackendConfig> tiers = {};
  std::vector<BackendConfig> near = {};  // none or one, of kMemory
};

struct CacheConfig {
  BackendConfig backend;
  CacheOptions options;
};

using Environment = std::function<std::optional<std::string>(std::string_view name)>;

// By name. `defaults`: what a cache's options are where it does not say otherwise.
absl::StatusOr<std::map<std::string, CacheConfig, std::less<>>> ReadCacheConfig(
    std::string_view toml, const CacheOptions& defaults, const Environment& environment);

// `text` with ${VAR}, ${VAR|default} and $$ replaced.
absl::StatusOr<std::string> ExpandVariables(std::string_view text, const Environment& environment);

// "1048576", "64MiB".
absl::StatusOr<std::uint64_t> ParseSize(std::string_view text);

// memory:// and disk:// URLs; nullopt for all others.
absl::StatusOr<std::optional<BackendConfig>> ReadBackendUrl(std::string_view url);

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_CACHE_CONFIG_H_
