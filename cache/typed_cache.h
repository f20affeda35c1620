// A cache of one type of things that know their own ids: read models, projections, rows.
//
//   struct OrderSummary { std::string id; int items; };
//   template <> struct coord::CacheKeyTrait<OrderSummary> {
//     static constexpr std::string_view kName = "order_summary";
//     static std::string Id(const OrderSummary& order) { return order.id; }
//   };
//
//   coord::TypedCache<OrderSummary> orders(cache);
//   absl::Status added = orders.Add(order);                // under "order_summary:::ord-123"
//   absl::StatusOr<coord::Lookup<OrderSummary>> found = orders.Get("ord-123");
#ifndef COORD_CACHE_TYPED_CACHE_H_
#define COORD_CACHE_TYPED_CACHE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/cache.h"
#include "cache/lookup.h"
#include "cache/ttl.h"
#include "coord/keyspace.h"

namespace coord {

// What TypedCache needs to know of a type; specialise it:
//   static constexpr std::string_view kName     what all keys of the type begin with
//   static std::string Id(const T& thing)       what tells one from another
template <typename T>
struct CacheKeyTrait;

// Thread-safe and cheap to copy, as the cache is that it stands on; costs and errors are its
// calls'.
template <typename T, typename Codec = JsonCodec>
class TypedCache {
 public:
  using Trait = CacheKeyTrait<T>;
  static constexpr std::string_view kSeparator = ":::";

  explicit TypedCache(BasicCache<Codec> cache) : cache_(std::move(cache)) {}

  // "<name>:::<id>", the key in the cache.
  static std::string KeyOf(std::string_view id) {
    std::string key(Trait::kName);
    key.append(kSeparator).append(id);
    return key;
  }
  static std::string KeyOf(const T& thing) { return KeyOf(std::string_view(Trait::Id(thing))); }

  // Puts it in the place of what was cached under its id.
  absl::Status Add(const T& thing, coord::Ttl ttl = {}) const {
    return cache_.Set(KeyOf(thing), thing, ttl);
  }
  // In one round trip.
  absl::Status AddMany(const std::vector<T>& things, coord::Ttl ttl = {}) const {
    std::vector<std::pair<std::string, T>> pairs;
    for (const T& thing : things) pairs.emplace_back(KeyOf(thing), thing);
    return cache_.SetMany(pairs, SetOptions{.ttl = ttl});
  }

  absl::StatusOr<Lookup<T>> Get(std::string_view id) const {
    return cache_.template Get<T>(KeyOf(id));
  }
  // By id; each one is there, perhaps with a miss. In one round trip.
  absl::StatusOr<std::map<std::string, Lookup<T>, std::less<>>> GetMany(
      const std::vector<std::string>& ids) const {
    std::vector<std::string> keys;
    for (const std::string& id : ids) keys.push_back(KeyOf(id));
    auto found = cache_.template GetMany<T>(keys);
    if (!found.ok()) return found.status();
    std::map<std::string, Lookup<T>, std::less<>> by_id;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      // Not moved out of: an id may come twice.
      by_id.insert_or_assign(ids[i], found->find(keys[i])->second);
    }
    return by_id;
  }
  // All whose ids match: many round trips.
  absl::StatusOr<std::vector<T>> GetAll(std::string_view id_pattern = "*") const {
    std::vector<T> things;
    absl::StatusOr<std::vector<std::string>> keys = cache_.Keys(PatternOf(id_pattern));
    if (!keys.ok()) return keys.status();
    auto found = cache_.template GetMany<T>(*keys);
    if (!found.ok()) return found.status();
    for (auto& [key, lookup] : *found) {
      if (lookup.hit()) things.push_back(std::move(lookup).value());
    }
    return things;
  }

  // How many there are whose ids match.
  absl::StatusOr<std::int64_t> Count(std::string_view id_pattern = "*") const {
    return cache_.Count(PatternOf(id_pattern));
  }
  // False: it was not there.
  absl::StatusOr<bool> Remove(const T& thing) const { return cache_.Delete(KeyOf(thing)); }
  absl::StatusOr<bool> RemoveById(std::string_view id) const { return cache_.Delete(KeyOf(id)); }
  // How many were there. "*" removes all of this type, and nothing else.
  absl::StatusOr<std::int64_t> RemoveMatching(std::string_view id_pattern) const {
    return cache_.DeletePattern(PatternOf(id_pattern));
  }

  absl::StatusOr<bool> SetTtl(std::string_view id, coord::Ttl ttl) const {
    return cache_.Expire(KeyOf(id), ttl);
  }
  absl::StatusOr<TimeLeft> GetTtl(std::string_view id) const { return cache_.TtlOf(KeyOf(id)); }

  const BasicCache<Codec>& cache() const { return cache_; }

 private:
  // An empty pattern stays one, which the cache refuses.
  static std::string PatternOf(std::string_view id_pattern) {
    if (id_pattern.empty()) return "";
    return EscapeGlob(KeyOf("")).append(id_pattern);
  }

  BasicCache<Codec> cache_;
};

}  // namespace coord

#endif  // COORD_CACHE_TYPED_CACHE_H_
