#include "cache/registry.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "cache/disk_backend.h"
#include "cache/internal/cache_config.h"
#include "cache/memory_backend.h"
#include "cache/near_backend.h"
#include "cache/redis_backend.h"
#include "cache/tiered_backend.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord {

using internal::BackendConfig;
using internal::CacheConfig;
using internal::StrCat;

namespace {

constexpr std::uint64_t kDefaultEntries = 100'000;

std::shared_ptr<MemoryBackend> MakeMemory(const BackendConfig& config) {
  MemoryOptions options{.max_entries = config.max_entries,
                        .max_bytes = config.max_bytes,
                        .eviction = config.eviction};
  if (options.max_entries == 0 && options.max_bytes == 0) options.max_entries = kDefaultEntries;
  return std::make_shared<MemoryBackend>(options);
}

// `prefix`: of the cache's keys, where it is known.
absl::StatusOr<std::shared_ptr<Backend>> Make(const BackendConfig& config,
                                              const ClientOptions& defaults,
                                              const std::optional<std::string>& prefix) {
  switch (config.provider) {
    case BackendConfig::Provider::kMemory:
      return MakeMemory(config);
    case BackendConfig::Provider::kDisk: {
      DiskOptions options;
      options.path = config.path;
      if (config.max_bytes != 0) options.max_bytes = config.max_bytes;
      absl::StatusOr<std::unique_ptr<DiskBackend>> disk = DiskBackend::Open(std::move(options));
      if (!disk.ok()) return disk.status();
      return *std::move(disk);
    }
    case BackendConfig::Provider::kTiered: {
      std::vector<Tier> tiers;
      for (const BackendConfig& tier : config.tiers) {
        absl::StatusOr<std::shared_ptr<Backend>> backend = Make(tier, defaults, prefix);
        if (!backend.ok()) return backend.status();
        Tier made{.backend = *std::move(backend)};
        if (tier.max_ttl.has_value()) made.max_ttl = *tier.max_ttl;
        tiers.push_back(std::move(made));
      }
      absl::StatusOr<std::unique_ptr<TieredBackend>> tiered = TieredBackend::Make(std::move(tiers));
      if (!tiered.ok()) return tiered.status();
      return *std::move(tiered);
    }
    case BackendConfig::Provider::kRedis:
      break;
  }
  ClientOptions options = defaults;
  if (config.timeout.has_value()) options.timeout = *config.timeout;
  if (config.connect_timeout.has_value()) options.connect_timeout = *config.connect_timeout;
  absl::StatusOr<std::shared_ptr<RedisBackend>> redis =
      RedisBackend::Connect(config.uri, std::move(options));
  if (!redis.ok()) return redis.status();
  if (config.near.empty()) return *std::move(redis);
  NearOptions near;
  near.prefixes = {prefix.value_or(StrCat((*redis)->client()->options().prefix, "cache:"))};
  if (config.near.front().max_ttl.has_value()) near.max_local_ttl = *config.near.front().max_ttl;
  absl::StatusOr<std::shared_ptr<NearBackend>> made =
      NearBackend::Make(*std::move(redis), MakeMemory(config.near.front()), std::move(near));
  if (!made.ok()) return made.status();
  return *std::move(made);
}

std::optional<std::string> ProcessEnvironment(std::string_view name) {
  const char* const value = std::getenv(std::string(name).c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Backend>> OpenBackend(std::string_view url, ClientOptions client) {
  std::string from_environment;
  if (url.empty()) {
    from_environment = ProcessEnvironment("COORD_CACHE_URL").value_or("");
    url = from_environment;
  }
  absl::StatusOr<std::optional<BackendConfig>> known = internal::ReadBackendUrl(url);
  if (!known.ok()) return known.status();
  BackendConfig redis;
  redis.uri = url;
  return Make(known->has_value() ? **known : redis, client, std::nullopt);
}

struct Registry::State {
  struct Entry {
    CacheConfig config;
    std::shared_ptr<Backend> backend = nullptr;
    std::optional<Cache> cache = std::nullopt;
  };
  RegistryOptions options;
  internal::Mutex mutex;
  std::map<std::string, Entry, std::less<>> entries ABSL_GUARDED_BY(mutex);

  // Connects under the lock: who asks for another cache meanwhile waits, once.
  absl::StatusOr<Entry*> Find(std::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto found = entries.find(name);
    if (found == entries.end()) {
      std::string known;
      for (const auto& [other, entry] : entries) known += StrCat(known.empty() ? "" : ", ", other);
      return internal::MakeStatus(
          absl::StatusCode::kNotFound,
          StrCat("there is no cache ", internal::Quoted(name), "; there are: ", known));
    }
    Entry& entry = found->second;
    if (entry.backend == nullptr) {
      absl::StatusOr<std::shared_ptr<Backend>> made =
          Make(entry.config.backend, options.client, entry.config.options.prefix.literal());
      if (!made.ok()) return internal::Annotate(made.status(), StrCat("caches.", name));
      entry.backend = *std::move(made);
    }
    return &entry;
  }
};

absl::StatusOr<Registry> Registry::FromToml(std::string_view text, RegistryOptions options) {
  if (!options.environment) options.environment = ProcessEnvironment;
  absl::StatusOr<std::map<std::string, CacheConfig, std::less<>>> read =
      internal::ReadCacheConfig(text, options.cache, options.environment);
  if (!read.ok()) return read.status();
  auto state = std::make_shared<State>();
  state->options = std::move(options);
  internal::MutexLock lock(state->mutex);
  for (auto& [name, config] : *read) {
    state->entries.emplace(name, State::Entry{std::move(config)});
  }
  return Registry(state);
}

absl::StatusOr<Registry> Registry::FromFile(const std::string& path, RegistryOptions options) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) return absl::ErrnoToStatus(errno == 0 ? EIO : errno, StrCat("cannot read ", path));
  absl::StatusOr<Registry> read = FromToml(text.str(), std::move(options));
  if (!read.ok()) return internal::Annotate(read.status(), path);
  return read;
}

absl::StatusOr<Registry> Registry::FromEnvironment(RegistryOptions options) {
  auto state = std::make_shared<State>();
  CacheConfig config;
  config.options = options.cache;
  std::string url = ProcessEnvironment("COORD_CACHE_URL").value_or("");
  absl::StatusOr<std::optional<BackendConfig>> known = internal::ReadBackendUrl(url);
  if (!known.ok()) return internal::Annotate(known.status(), "COORD_CACHE_URL");
  if (known->has_value()) {
    config.backend = **known;
  } else {
    config.backend.uri = std::move(url);
  }
  state->options = std::move(options);
  {
    internal::MutexLock lock(state->mutex);
    state->entries.emplace("default", State::Entry{std::move(config)});
  }
  return Registry(std::move(state));
}

absl::StatusOr<Cache> Registry::Get(std::string_view name) const {
  internal::MutexLock lock(state_->mutex);
  absl::StatusOr<State::Entry*> entry = state_->Find(name);
  if (!entry.ok()) return entry.status();
  if (!(*entry)->cache.has_value()) {
    (*entry)->cache.emplace((*entry)->backend, (*entry)->config.options);
  }
  return *(*entry)->cache;
}

absl::StatusOr<Registry::Parts> Registry::PartsOf(std::string_view name) const {
  internal::MutexLock lock(state_->mutex);
  absl::StatusOr<State::Entry*> entry = state_->Find(name);
  if (!entry.ok()) return entry.status();
  return Parts((*entry)->backend, (*entry)->config.options);
}

std::vector<std::string> Registry::names() const {
  internal::MutexLock lock(state_->mutex);
  std::vector<std::string> names;
  for (const auto& [name, entry] : state_->entries) names.push_back(name);
  return names;
}

}  // namespace coord
