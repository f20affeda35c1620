// A cache of typed values, in Redis, in memory, on a disk, or in tiers of these.
//
//   coord::Cache cache(std::make_shared<coord::RedisBackend>(client), {.ttl = absl::Minutes(5)});
//   absl::Status stored = cache.Set("user:1", user, absl::Hours(2));
//   absl::StatusOr<coord::Lookup<User>> found = cache.Get<User>("user:1");
//   absl::StatusOr<coord::Lookup<User>> user = cache.GetOrCompute("user:1", [] { return Load(1);
//   });
//
// A type is cached as its codec says: by default anything with nlohmann's to_json and from_json. A
// cached null is an answer of its own (Lookup::null). A value that cannot be decoded is a miss, and
// counted, or on request an error.
#ifndef COORD_CACHE_CACHE_H_
#define COORD_CACHE_CACHE_H_

#include <concepts>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cache/cache_base.h"
#include "cache/codec.h"
#include "cache/internal/factory_result.h"

namespace coord {

template <typename C>
class BoundKey;

// Thread-safe, and cheap to copy. See CacheBase for what does not depend on a type.
template <typename Codec = JsonCodec>
class BasicCache : public CacheBase {
 public:
  // Shares the backend. Never fails: options that break the rules are reported by the calls.
  explicit BasicCache(std::shared_ptr<Backend> backend, CacheOptions options = {}, Codec codec = {})
      : CacheBase(std::move(backend), std::move(options), SignerOf(codec), &Codec::IsNull),
        codec_(std::make_shared<const Codec>(std::move(codec))) {}

  // The same cache with `more` behind its prefix: "tenant_a:". It shares everything else, and its
  // Clear ends at its own prefix.
  BasicCache Scoped(std::string_view more) const { return BasicCache(*this, more); }

  template <typename T>
  absl::StatusOr<Lookup<T>> Get(std::string_view key, const GetOptions& options = {}) const {
    std::optional<T> value;
    auto state = ReadBytes(key, options, Decoder(value));
    if (!state.ok()) return state.status();
    return Found(*state, std::move(value));
  }

  // In one round trip; none for no keys. Each key is there, perhaps with a miss.
  template <typename T>
  absl::StatusOr<std::map<std::string, Lookup<T>, std::less<>>> GetMany(
      const std::vector<std::string>& keys, const GetOptions& options = {}) const {
    std::vector<std::optional<T>> values(keys.size());
    auto states = ReadManyBytes(keys, options, [&](std::size_t index, std::string_view bytes) {
      return Decoder(values[index])(bytes);
    });
    if (!states.ok()) return states.status();
    std::map<std::string, Lookup<T>, std::less<>> found;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      found.insert_or_assign(keys[i], Found((*states)[i], std::move(values[i])));
    }
    return found;
  }

  // An empty std::optional, std::nullopt and nullptr are stored as a null.
  template <typename T>
  absl::Status Set(std::string_view key, const T& value, const SetOptions& options) const {
    return WriteBytes(key, Encode(value), options, TypeTtl<T>(), SetIf::kAlways).status();
  }
  template <typename T>
  absl::Status Set(std::string_view key, const T& value, coord::Ttl ttl = {}) const {
    return Set(key, value, SetOptions{.ttl = ttl});
  }
  // Only where there is no such key (false: there is one); so of many who add, one succeeds. With a
  // lost reply nobody knows who: IsOutcomeUnknown.
  template <typename T>
  absl::StatusOr<bool> Add(std::string_view key, const T& value,
                           const SetOptions& options = {}) const {
    return WriteBytes(key, Encode(value), options, TypeTtl<T>(), SetIf::kAbsent);
  }
  // Only where there is one.
  template <typename T>
  absl::StatusOr<bool> Replace(std::string_view key, const T& value,
                               const SetOptions& options = {}) const {
    return WriteBytes(key, Encode(value), options, TypeTtl<T>(), SetIf::kPresent);
  }

  // A range of pairs of key and value, such as a std::map; in one round trip. Each key gets its own
  // jitter. Not atomic: on an error some may have been written.
  template <typename Range>
  absl::Status SetMany(const Range& values, const SetOptions& options = {}) const {
    using T = std::remove_cvref_t<decltype(values.begin()->second)>;
    std::vector<Item> items;
    for (const auto& [key, value] : values) {
      absl::StatusOr<std::optional<std::string>> bytes = Encode(value);
      if (!bytes.ok()) return WriteManyBytes(bytes.status(), options, TypeTtl<T>());
      items.push_back({std::string(key), *std::move(bytes)});
    }
    return WriteManyBytes(std::move(items), options, TypeTtl<T>());
  }
  template <typename T>
  absl::Status SetMany(std::initializer_list<std::pair<std::string_view, T>> values,
                       const SetOptions& options = {}) const {
    return SetMany(std::vector<std::pair<std::string_view, T>>(values), options);
  }

  // What is cached, else what `factory` makes, which is then cached: one factory at a time for a
  // key, however many ask. The factory returns T, std::optional<T> (a null) or absl::StatusOr of
  // either, and may take a ComputeContext&. Its error, or what it throws (kInternal), goes to all
  // who wait, unless there is a stale value. With timeouts or early refresh it may run on after
  // this has returned, on another thread: let it capture by value then.
  template <typename F>
  auto GetOrCompute(std::string_view key, F factory, const ComputeOptions& options) const
      -> absl::StatusOr<Lookup<internal::FactoryValue<F>>> {
    using T = internal::FactoryValue<F>;
    std::optional<T> value;
    auto state =
        ComputeBytes(key, Erase(std::move(factory)), options, TypeTtl<T>(), Decoder(value));
    if (!state.ok()) return state.status();
    return Found(*state, std::move(value));
  }
  template <typename F>
  auto GetOrCompute(std::string_view key, F factory) const {
    return GetOrCompute(key, std::move(factory), this->options().compute);
  }
  template <typename F>
  auto GetOrCompute(std::string_view key, F factory, coord::Ttl ttl) const {
    ComputeOptions options = this->options().compute;
    options.ttl = ttl;
    return GetOrCompute(key, std::move(factory), options);
  }
  // Runs the factory now and stores what it makes, whatever is cached.
  template <typename F>
  auto Refresh(std::string_view key, F factory, const ComputeOptions& options = {}) const
      -> absl::StatusOr<Lookup<internal::FactoryValue<F>>> {
    using T = internal::FactoryValue<F>;
    std::optional<T> value;
    auto state =
        RefreshBytes(key, Erase(std::move(factory)), options, TypeTtl<T>(), Decoder(value));
    if (!state.ok()) return state.status();
    return Found(*state, std::move(value));
  }

  // All calls for one key.
  BoundKey<BasicCache> Bind(std::string key) const {
    return BoundKey<BasicCache>(*this, std::move(key));
  }

  // ---- Hashes, lists, documents: what needs a server ----

  template <typename T>
  absl::StatusOr<Lookup<T>> HashGet(std::string_view name, std::string_view field,
                                    const CallOptions& call = {}) const {
    std::optional<T> value;
    absl::StatusOr<bool> there = HashGetBytes(name, field, call, Decoder(value));
    if (!there.ok()) return there.status();
    return value ? Lookup<T>(*std::move(value)) : Lookup<T>::Miss();
  }
  template <typename T>
  absl::Status HashSet(std::string_view name, std::string_view field, const T& value,
                       const CallOptions& call = {}) const {
    return HashSetBytes(name, field, EncodeValue(value), call);
  }
  // Fields that cannot be decoded are left out, and counted.
  template <typename T>
  absl::StatusOr<std::map<std::string, T, std::less<>>> HashGetAll(
      std::string_view name, const CallOptions& call = {}) const {
    std::map<std::string, T, std::less<>> fields;
    absl::Status read =
        HashGetAllBytes(name, call, [&](std::string_view field, std::string_view bytes) {
          std::optional<T> value;
          if (absl::Status decoded = Decoder(value)(bytes); !decoded.ok()) return decoded;
          fields.insert_or_assign(std::string(field), *std::move(value));
          return absl::OkStatus();
        });
    if (!read.ok()) return read;
    return fields;
  }

  // Appends to a list that never has more than `max_items`, oldest going first; its length. See
  // CappedList::OnKey.
  template <typename T>
  absl::StatusOr<std::int64_t> Push(std::string_view key, const T& value, std::int64_t max_items,
                                    coord::Ttl ttl = coord::Ttl::Never(),
                                    const CallOptions& call = {}) const {
    return PushBytes(key, EncodeValue(value), max_items, ttl, call);
  }
  // Both ends included, 0 the oldest, -1 the newest. What cannot be decoded is left out.
  template <typename T>
  absl::StatusOr<std::vector<T>> Range(std::string_view key, std::int64_t start = 0,
                                       std::int64_t stop = -1, const CallOptions& call = {}) const {
    std::vector<T> values;
    absl::Status read = RangeBytes(key, start, stop, call, [&](std::string_view bytes) {
      std::optional<T> value;
      if (absl::Status decoded = Decoder(value)(bytes); !decoded.ok()) return decoded;
      values.push_back(*std::move(value));
      return absl::OkStatus();
    });
    if (!read.ok()) return read;
    return values;
  }

  // Puts `document` in place of the cached one if the value at `path` (a JSON Pointer, such as
  // "/version") is `expected`; with std::nullopt, if there is none. False: it is not, or nothing is
  // cached there. Atomic; see JsonDocument. Not for caches that sign or compress. Ttl::Default()
  // leaves the time to live alone.
  template <typename Expected, typename T>
  requires std::same_as<Codec, JsonCodec> absl::StatusOr<bool> CompareAndReplace(
      std::string_view key, std::string_view path, const Expected& expected, const T& document,
      coord::Ttl ttl = {}, const CallOptions& call = {})
  const {
    return CompareAndSetText(key, path, EncodeValue(expected), "", EncodeValue(document), ttl,
                             call);
  }
  // The same for that one value.
  template <typename Expected, typename T>
  requires std::same_as<Codec, JsonCodec> absl::StatusOr<bool> CompareAndSetField(
      std::string_view key, std::string_view path, const Expected& expected, const T& value,
      coord::Ttl ttl = {}, const CallOptions& call = {})
  const {
    return CompareAndSetText(key, path, EncodeValue(expected), path, EncodeValue(value), ttl, call);
  }

  const Codec& codec() const { return *codec_; }

 private:
  BasicCache(const BasicCache& whole, std::string_view more)
      : CacheBase(whole, more), codec_(whole.codec_) {}

  static std::shared_ptr<const Signer> SignerOf(const Codec& codec) {
    if constexpr (requires { codec.signer(); }) {
      return codec.signer();
    } else {
      return nullptr;
    }
  }

  template <typename T>
  auto Decoder(std::optional<T>& value) const {
    return [this, &value](std::string_view bytes) -> absl::Status {
      absl::StatusOr<T> decoded = codec_->template Decode<T>(bytes);
      if (!decoded.ok()) return decoded.status();
      value = *std::move(decoded);
      return absl::OkStatus();
    };
  }
  template <typename T>
  static Lookup<T> Found(const ReadState& state, std::optional<T> value) {
    using State = Lookup<std::string>::State;
    Lookup<T> found;
    if (state.state == State::kNull) found = Lookup<T>::Null();
    if (state.state == State::kHit && value) found = Lookup<T>(*std::move(value));
    found.set_stale(state.stale);
    return found;
  }

  template <typename T>
  absl::StatusOr<std::string> EncodeValue(const T& value) const {
    return internal::EncodeWith(*codec_, value);
  }
  template <typename T>
  absl::StatusOr<std::optional<std::string>> Encode(const T& value) const {
    return internal::EncodeNullable(*codec_, value);
  }
  template <typename T>
  coord::Ttl TypeTtl() const {
    return options().ttl_by_type.template Of<internal::NullableValue<T>>();
  }
  template <typename F>
  Factory Erase(F factory) const {
    return [codec = codec_, factory = std::move(factory)](
               ComputeContext& context) mutable -> absl::StatusOr<std::optional<std::string>> {
      return internal::EncodeMade(*codec, internal::RunFactory(factory, context));
    };
  }

  std::shared_ptr<const Codec> codec_;
};

template <typename Codec>
BasicCache(std::shared_ptr<Backend>, CacheOptions, Codec) -> BasicCache<Codec>;

using Cache = BasicCache<JsonCodec>;

// A cache and one of its keys.
template <typename C>
class BoundKey {
 public:
  BoundKey(C cache, std::string key) : cache_(std::move(cache)), key_(std::move(key)) {}

  const std::string& key() const { return key_; }

  template <typename T>
  auto Get(const GetOptions& options = {}) const {
    return cache_.template Get<T>(key_, options);
  }
  template <typename T>
  absl::Status Set(const T& value, coord::Ttl ttl = {}) const {
    return cache_.Set(key_, value, ttl);
  }
  template <typename T>
  absl::StatusOr<bool> Add(const T& value, const SetOptions& options = {}) const {
    return cache_.Add(key_, value, options);
  }
  template <typename F, typename... Options>
  auto GetOrCompute(F factory, const Options&... options) const {
    return cache_.GetOrCompute(key_, std::move(factory), options...);
  }
  absl::StatusOr<bool> Delete() const { return cache_.Delete(key_); }
  absl::StatusOr<bool> Exists() const { return cache_.Exists(key_); }
  absl::StatusOr<TimeLeft> Ttl() const { return cache_.TtlOf(key_); }
  absl::StatusOr<bool> Expire(coord::Ttl ttl) const { return cache_.Expire(key_, ttl); }
  absl::StatusOr<bool> Persist() const { return cache_.Persist(key_); }
  absl::StatusOr<std::int64_t> Increment(std::int64_t amount = 1,
                                         coord::Ttl ttl = coord::Ttl::Never()) const {
    return cache_.Increment(key_, amount, ttl);
  }

 private:
  C cache_;
  std::string key_;
};

}  // namespace coord

#endif  // COORD_CACHE_CACHE_H_
