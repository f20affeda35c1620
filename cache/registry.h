// Caches by name, from a configuration.
//
//   [caches.default]
//   provider = "redis"
//   URI = "${CACHE_URL|redis://localhost:6379/2}"
//   TTL = 300
//
//   absl::StatusOr<coord::Registry> caches = coord::Registry::FromToml(text);
//   absl::StatusOr<coord::Cache> cache = caches->Get("default");
#ifndef COORD_CACHE_REGISTRY_H_
#define COORD_CACHE_REGISTRY_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/backend.h"
#include "cache/cache.h"
#include "cache/cache_options.h"
#include "coord/options.h"

namespace coord {

// A backend by its URL:
//   memory://[?max_entries=N][&max_bytes=64MiB][&eviction=tinylfu|lru]     100,000 entries by
//   default disk:///path[?max_bytes=1GiB] anything else as Client::Connect has it; empty:
//   $COORD_CACHE_URL, else $COORD_URL, else embedded://
absl::StatusOr<std::shared_ptr<Backend>> OpenBackend(std::string_view url,
                                                     ClientOptions client = {});

struct RegistryOptions {
  // Of all clients that are made; a cache's `timeout` and `connect_timeout` go before these.
  ClientOptions client = {};
  // What a configuration cannot say (hooks, executor, callbacks), for all caches; what it says goes
  // before this.
  CacheOptions cache = {};
  // Where ${VAR} is looked up; the process's environment by default.
  std::function<std::optional<std::string>(std::string_view name)> environment = {};
};

// A cheap handle; thread-safe. The caches that it has opened live as long as it or one of them
// does.
class Registry {
 public:
  // Reads the tables [caches.NAME]; all else in the text is somebody else's. Keys, in any case:
  //
  //   provider          "redis", "memory", "disk" or "tiered"; required
  //   URI               of redis: as Client::Connect has it; default: as OpenBackend has it
  //   path              of disk
  //   tiers             of tiered: tables with provider, URI, path, max_entries, max_bytes,
  //   eviction,
  //                     and max_ttl; from the top down, the last is the authority
  //   max_entries, max_bytes, eviction ("tinylfu", "lru")          of memory; max_bytes also of
  //   disk near              of redis: true, or a table with max_entries, max_bytes, max_ttl:
  //   copies in
  //                     this process; see NearBackend. Needs a prefix, which there is by default
  //   timeout, connect_timeout                                      of redis
  //   TTL, null_ttl     seconds, "2h30m", or "never"
  //   prefix, ttl_jitter, max_value_bytes, clear_by_epoch
  //   compression       "none", "zstd", "lz4"; compression_threshold, compression_level
  //   fallback          "propagate", "miss"
  //   undecodable       "miss", "error"
  //   recovery_keys     see Recovery
  //   stale_for, soft_timeout, hard_timeout, early_refresh, across_processes      see
  //   ComputeOptions
  //
  // In strings, ${VAR} stands for a variable of the environment, which must be set, ${VAR|text} for
  // it or else that text, and $$ for $. Sizes are bytes, or "64MiB" (KiB, MiB, GiB). What is wrong
  // is kInvalidArgument, and names the cache and the key; nothing is opened then. No value that
  // came from a variable is ever shown.
  static absl::StatusOr<Registry> FromToml(std::string_view text, RegistryOptions options = {});
  // The same from a file; kNotFound and the like when it cannot be read.
  static absl::StatusOr<Registry> FromFile(const std::string& path, RegistryOptions options = {});
  // One cache, "default", at OpenBackend("").
  static absl::StatusOr<Registry> FromEnvironment(RegistryOptions options = {});

  // The cache of that name, connected when it is first asked for; all callers share it. kNotFound,
  // with the names that there are. Errors of connecting as Client::Connect has them; the next call
  // tries again.
  absl::StatusOr<Cache> Get(std::string_view name = "default") const;
  // The same with another codec. Caches of different codecs share the backend, nothing else.
  template <typename Codec>
  absl::StatusOr<BasicCache<Codec>> GetWith(std::string_view name, Codec codec) const {
    absl::StatusOr<Parts> parts = PartsOf(name);
    if (!parts.ok()) return parts.status();
    return BasicCache<Codec>(std::move(parts->first), std::move(parts->second), std::move(codec));
  }
  std::vector<std::string> names() const;

 private:
  using Parts = std::pair<std::shared_ptr<Backend>, CacheOptions>;
  struct State;
  explicit Registry(std::shared_ptr<State> state) : state_(std::move(state)) {}
  absl::StatusOr<Parts> PartsOf(std::string_view name) const;

  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_CACHE_REGISTRY_H_
