#include "cache/internal/cache_config.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include <toml++/toml.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "cache/ttl.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(ToAbsl(text)); }

// Whole seconds, or as ParseTtl has it.
absl::StatusOr<absl::Duration> ParseLength(std::string_view text) {
  if (const std::optional<std::int64_t> seconds = ParseInt64(text); seconds.has_value()) {
    if (*seconds <= 0) return InvalidArgument("it must be above 0");
    return absl::Seconds(*seconds);
  }
  return ParseTtl(text);
}

// The keys of one table, of which all must be asked for.
class Table {
 public:
  Table(const toml::table& table, std::string where, const Environment& environment)
      : where_(std::move(where)), environment_(environment) {
    for (const auto& [key, node] : table) {
      const std::string lower = Lower(std::string_view(key.str()));
      if (!nodes_.emplace(lower, Entry{std::string(key.str()), &node}).second) {
        Fail(lower, "is there twice");
      }
    }
  }

  // Each returns whether it was there, and well.
  bool Text(std::string_view key, std::string& out) {
    const toml::node* node = Take(key);
    if (node == nullptr) return false;
    if (!node->is_string()) return Fail(key, "must be a string");
    return Expand(key, *node, out);
  }
  bool Choice(std::string_view key, std::initializer_list<std::string_view> choices,
              std::size_t& out) {
    std::string text;
    if (!Text(key, text)) return false;
    const std::string lower = Lower(text);
    const auto found = std::find(choices.begin(), choices.end(), lower);
    if (found == choices.end()) {
      std::string expected;
      for (std::string_view choice : choices) {
        expected += StrCat(expected.empty() ? "" : ", ", "\"", choice, "\"");
      }
      return Fail(key, StrCat("must be one of ", expected));
    }
    out = static_cast<std::size_t>(found - choices.begin());
    return true;
  }
  // Seconds, or text.
  bool Length(std::string_view key, absl::Duration& out) {
    std::string text;
    if (!Scalar(key, text, "seconds, or a string such as \"2h30m\"")) return false;
    absl::StatusOr<absl::Duration> length = ParseLength(text);
    if (!length.ok()) return Fail(key, Hidden(key, length.status()));
    out = *length;
    return true;
  }
  bool Optional(std::string_view key, std::optional<absl::Duration>& out) {
    absl::Duration length;
    if (!Length(key, length)) return false;
    out = length;
    return true;
  }
  bool Life(std::string_view key, Ttl& out) {
    std::string text;
    if (!Scalar(key, text, "seconds, a string such as \"2h30m\", or \"never\"")) return false;
    if (Lower(text) == "never") {
      out = Ttl::Never();
      return true;
    }
    absl::StatusOr<absl::Duration> length = ParseLength(text);
    if (!length.ok()) return Fail(key, Hidden(key, length.status()));
    out = Ttl(*length);
    return true;
  }
  template <typename Integer>
  bool Size(std::string_view key, Integer& out) {
    std::string text;
    if (!Scalar(key, text, "a number, or a string such as \"64MiB\"")) return false;
    absl::StatusOr<std::uint64_t> size = ParseSize(text);
    if (!size.ok()) return Fail(key, Hidden(key, size.status()));
    if (*size == 0 || *size > static_cast<std::uint64_t>(std::numeric_limits<Integer>::max())) {
      return Fail(key, "must be above 0, and not as large as that");
    }
    out = static_cast<Integer>(*size);
    return true;
  }
  bool Number(std::string_view key, double& out) {
    const toml::node* node = Take(key);
    if (node == nullptr) return false;
    const auto number = node->value<double>();
    if (!number.has_value()) return Fail(key, "must be a number");
    out = *number;
    return true;
  }
  bool Flag(std::string_view key, bool& out) {
    const toml::node* node = Take(key);
    if (node == nullptr) return false;
    const auto flag = node->value_exact<bool>();
    if (!flag.has_value()) return Fail(key, "must be true or false");
    out = *flag;
    return true;
  }
  const toml::node* Node(std::string_view key) { return Take(key); }
  bool Has(std::string_view key) const { return nodes_.contains(Lower(key)); }

  bool Fail(std::string_view key, std::string_view what) {
    if (status_.ok()) {
      status_ = InvalidArgument(
          StrCat(where_, key.empty() ? "" : ": ", key, key.empty() ? ": " : " ", what));
    }
    return false;
  }
  void Fail(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  // Of keys that nobody has asked for.
  absl::Status End() {
    for (const auto& [lower, entry] : nodes_) {
      if (!entry.taken) Fail(entry.name, "is none of the keys that are known here");
    }
    return status_;
  }
  const std::string& where() const { return where_; }
  const Environment& environment() const { return environment_; }

 private:
  struct Entry {
    std::string name;
    const toml::node* node;
    bool taken = false;
  };

  const toml::node* Take(std::string_view key) {
    const auto found = nodes_.find(Lower(key));
    if (found == nodes_.end()) return nullptr;
    found->second.taken = true;
    return found->second.node;
  }
  bool Expand(std::string_view key, const toml::node& node, std::string& out) {
    const std::string text = *node.value<std::string>();
    absl::StatusOr<std::string> expanded = ExpandVariables(text, environment_);
    if (!expanded.ok()) return Fail(key, StrCat(": ", FromAbsl(expanded.status().message())));
    if (*expanded != text) from_variable_.insert(std::string(key));
    out = *std::move(expanded);
    return true;
  }
  bool Scalar(std::string_view key, std::string& out, std::string_view expected) {
    const toml::node* node = Take(key);
    if (node == nullptr) return false;
    if (node->is_string()) return Expand(key, *node, out);
    const auto number = node->value_exact<std::int64_t>();
    if (!number.has_value()) return Fail(key, StrCat("must be ", expected));
    out = StrCat(*number);
    return true;
  }
  // What is wrong, without quoting what came from a variable.
  std::string Hidden(std::string_view key, const absl::Status& status) {
    if (from_variable_.contains(std::string(key)))
      return "has a value, from a variable, that is no such thing";
    return StrCat("is wrong: ", FromAbsl(status.message()));
  }

  const std::string where_;
  const Environment& environment_;
  std::map<std::string, Entry, std::less<>> nodes_;
  std::set<std::string> from_variable_;
  absl::Status status_;
};

void ReadBounds(Table& table, BackendConfig& config) {
  table.Size("max_entries", config.max_entries);
  table.Size("max_bytes", config.max_bytes);
  std::size_t eviction = 0;
  if (table.Choice("eviction", {"tinylfu", "lru"}, eviction)) {
    config.eviction = eviction == 0 ? Eviction::kTinyLfu : Eviction::kLru;
  }
}

BackendConfig ReadBackend(Table& table, bool tier) {
  using Provider = BackendConfig::Provider;
  BackendConfig config;
  std::size_t provider = 0;
  const bool read = tier
                        ? table.Choice("provider", {"redis", "memory", "disk"}, provider)
                        : table.Choice("provider", {"redis", "memory", "disk", "tiered"}, provider);
  if (!read) {
    table.Fail("provider", "is missing");
    return config;
  }
  config.provider = static_cast<Provider>(provider);
  if (tier) table.Optional("max_ttl", config.max_ttl);
  switch (config.provider) {
    case Provider::kRedis: {
      table.Text("uri", config.uri);
      table.Optional("timeout", config.timeout);
      table.Optional("connect_timeout", config.connect_timeout);
      const toml::node* near = tier ? nullptr : table.Node("near");
      if (near == nullptr) break;
      BackendConfig local;
      local.provider = Provider::kMemory;
      if (const toml::table* own = near->as_table(); own != nullptr) {
        Table inner(*own, StrCat(table.where(), ".near"), table.environment());
        ReadBounds(inner, local);
        inner.Optional("max_ttl", local.max_ttl);
        if (absl::Status end = inner.End(); !end.ok()) table.Fail(end);
        config.near.push_back(local);
      } else if (const auto flag = near->value_exact<bool>(); flag.has_value()) {
        if (*flag) config.near.push_back(local);
      } else {
        table.Fail("near", "must be true, false, or a table");
      }
      break;
    }
    case Provider::kMemory:
      ReadBounds(table, config);
      break;
    case Provider::kDisk:
      if (!table.Text("path", config.path)) table.Fail("path", "is missing: where the file is");
      table.Size("max_bytes", config.max_bytes);
      break;
    case Provider::kTiered: {
      const toml::node* node = table.Node("tiers");
      const toml::array* tiers = node == nullptr ? nullptr : node->as_array();
      if (tiers == nullptr || tiers->empty()) {
        table.Fail("tiers", "must be an array of tables, from the top down");
        break;
      }
      for (std::size_t i = 0; i < tiers->size(); ++i) {
        const toml::table* one = tiers->get(i)->as_table();
        if (one == nullptr) {
          table.Fail("tiers", "must be an array of tables");
          break;
        }
        Table inner(*one, StrCat(table.where(), ".tiers[", i, "]"), table.environment());
        config.tiers.push_back(ReadBackend(inner, /*tier=*/true));
        if (absl::Status end = inner.End(); !end.ok()) table.Fail(end);
      }
      break;
    }
  }
  return config;
}

void ReadOptions(Table& table, CacheOptions& options) {
  table.Life("ttl", options.ttl);
  Ttl null_ttl;
  if (table.Life("null_ttl", null_ttl)) options.compute.null_ttl = null_ttl;
  std::string prefix;
  if (table.Text("prefix", prefix)) options.prefix = KeyPrefix::Literal(prefix);
  table.Number("ttl_jitter", options.ttl_jitter);
  table.Size("max_value_bytes", options.max_value_bytes);
  table.Flag("clear_by_epoch", options.clear_by_epoch);
  std::size_t choice = 0;
  if (table.Choice("compression", {"none", "zstd", "lz4"}, choice)) {
    options.compression.algorithm = static_cast<Compression::Algorithm>(choice);
  }
  table.Size("compression_threshold", options.compression.threshold);
  table.Size("compression_level", options.compression.level);
  if (table.Choice("fallback", {"propagate", "miss"}, choice)) {
    options.fallback.mode = choice == 0 ? Fallback::Mode::kPropagate : Fallback::Mode::kMiss;
  }
  if (table.Choice("undecodable", {"miss", "error"}, choice)) {
    options.undecodable_is_error = choice == 1;
  }
  table.Size("recovery_keys", options.recovery.max_keys);
  table.Length("stale_for", options.compute.stale_for);
  table.Length("soft_timeout", options.compute.soft_timeout);
  table.Length("hard_timeout", options.compute.hard_timeout);
  table.Number("early_refresh", options.compute.early_refresh);
  table.Flag("across_processes", options.compute.across_processes);
}

}  // namespace

absl::StatusOr<std::string> ExpandVariables(std::string_view text, const Environment& environment) {
  std::string expanded;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '$' || at + 1 == text.size()) {
      expanded.push_back(text[at++]);
    } else if (text[at + 1] == '$') {
      expanded.push_back('$');
      at += 2;
    } else if (text[at + 1] != '{') {
      expanded.push_back(text[at++]);
    } else {
      const std::size_t end = text.find('}', at);
      if (end == std::string_view::npos) return InvalidArgument("a \"${\" has no \"}\"");
      const std::string_view inside = text.substr(at + 2, end - at - 2);
      const std::size_t bar = inside.find('|');
      const std::string_view name = inside.substr(0, bar);
      if (name.empty()) return InvalidArgument("a \"${\" names no variable");
      const std::optional<std::string> value = environment(name);
      if (value.has_value()) {
        expanded += *value;
      } else if (bar != std::string_view::npos) {
        expanded += inside.substr(bar + 1);
      } else {
        return InvalidArgument(StrCat("the variable ", name,
                                      " is not set, and there is no default (${", name, "|...})"));
      }
      at = end + 1;
    }
  }
  return expanded;
}

absl::StatusOr<std::uint64_t> ParseSize(std::string_view text) {
  constexpr std::pair<std::string_view, int> kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
  int shift = 0;
  std::string_view digits = text;
  for (const auto& [unit, bits] : kUnits) {
    if (!text.ends_with(unit)) continue;
    shift = bits;
    digits.remove_suffix(unit.size());
  }
  const std::optional<std::int64_t> number = ParseInt64(digits);
  if (!number.has_value() || *number < 0 || *number > (INT64_MAX >> shift)) {
    return InvalidArgument(
        StrCat(Quoted(text), " is no size; such are 1048576, \"64KiB\", \"1MiB\", \"2GiB\""));
  }
  return static_cast<std::uint64_t>(*number) << shift;
}

absl::StatusOr<std::map<std::string, CacheConfig, std::less<>>> ReadCacheConfig(
    std::string_view text, const CacheOptions& defaults, const Environment& environment) {
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return InvalidArgument(StrCat("the configuration is no TOML, line ", error.source().begin.line,
                                  ": ", error.description()));
  }
  std::map<std::string, CacheConfig, std::less<>> caches;
  const toml::node* all = root.get("caches");
  if (all == nullptr) return InvalidArgument("the configuration has no table [caches.NAME]");
  if (!all->is_table()) return InvalidArgument("caches must be a table of tables");
  for (const auto& [key, node] : *all->as_table()) {
    const std::string name(key.str());
    const std::string where = StrCat("caches.", name);
    const toml::table* table = node.as_table();
    if (table == nullptr) return InvalidArgument(StrCat(where, " must be a table"));
    CacheConfig config;
    config.options = defaults;
    config.options.name = name;
    Table reader(*table, where, environment);
    config.backend = ReadBackend(reader, /*tier=*/false);
    ReadOptions(reader, config.options);
    if (absl::Status end = reader.End(); !end.ok()) return end;
    caches.emplace(name, std::move(config));
  }
  return caches;
}

absl::StatusOr<std::optional<BackendConfig>> ReadBackendUrl(std::string_view url) {
  BackendConfig config;
  std::string_view rest = url;
  if (url.starts_with("memory://")) {
    config.provider = BackendConfig::Provider::kMemory;
    rest.remove_prefix(9);
  } else if (url.starts_with("disk://")) {
    config.provider = BackendConfig::Provider::kDisk;
    rest.remove_prefix(7);
  } else {
    return std::optional<BackendConfig>();
  }
  const std::size_t question = rest.find('?');
  config.path = rest.substr(0, question);
  const bool disk = config.provider == BackendConfig::Provider::kDisk;
  if (disk != !config.path.empty()) {
    return InvalidArgument(
        StrCat("the URL ", Quoted(url), disk ? " has no path" : " takes no path"));
  }
  if (question == std::string_view::npos) return std::optional<BackendConfig>(config);
  for (const absl::string_view one : absl::StrSplit(ToAbsl(rest.substr(question + 1)), '&')) {
    const std::string_view option = FromAbsl(one);
    const std::size_t equals = option.find('=');
    const std::string_view name = option.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
    if (name == "eviction" && !disk && (value == "tinylfu" || value == "lru")) {
      config.eviction = value == "lru" ? Eviction::kLru : Eviction::kTinyLfu;
      continue;
    }
    std::uint64_t* const size = name == "max_bytes"              ? &config.max_bytes
                                : name == "max_entries" && !disk ? &config.max_entries
                                                                 : nullptr;
    absl::StatusOr<std::uint64_t> parsed = ParseSize(value);
    if (size == nullptr || !parsed.ok() || *parsed == 0) {
      return InvalidArgument(StrCat("the URL ", Quoted(url), ": bad option ", Quoted(option)));
    }
    *size = *parsed;
  }
  return std::optional<BackendConfig>(config);
}

}  // namespace coord::internal
