// What every cache can do whatever its values are; see cache.h.
#ifndef COORD_CACHE_CACHE_BASE_H_
#define COORD_CACHE_CACHE_BASE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/cache_options.h"
#include "cache/lookup.h"
#include "cache/signing.h"
#include "cache/ttl.h"
#include "coord/health.h"
#include "coord/mutex.h"
#include "coord/options.h"

namespace coord {

namespace internal {
class CacheCore;
}

// Handed to a factory: what it may say about the value it makes.
class ComputeContext {
 public:
  // In place of ComputeOptions::ttl.
  void SetTtl(coord::Ttl ttl) { ttl_ = ttl; }
  // Beside ComputeOptions::tags. Its generation is read now, so name it before what it stands for
  // is read.
  absl::Status AddTag(std::string_view tag) { return add_tag_(tag); }
  // The value is for those who wait for it now, and is not kept.
  void DoNotStore() { store_ = false; }
  // Requested when nobody waits for the value any more, or another process has taken over.
  const std::stop_token& stop_token() const { return stop_; }

 private:
  friend struct ComputeContextAccess;
  std::optional<coord::Ttl> ttl_;
  bool store_ = true;
  std::function<absl::Status(std::string_view)> add_tag_;
  std::stop_token stop_;
};

struct CacheHealth {
  std::string backend;                  // its kind
  absl::Status status;                  // of a ping
  absl::Duration latency;               // of it
  std::optional<coord::Health> server;  // where there is a client
};

// A value to be written, in its codec's bytes; without bytes: a null.
struct CacheItem {
  std::string key;
  std::optional<std::string> bytes;
};

// A cheap handle: copy it, and use it from any thread. All copies share the backend, the hooks and
// the single flights. The last to go waits for factories that still run.
//
// Keys are any bytes, with the prefix 1 to 1,024, that do not begin with "#coord:". A key that
// reads like that of one of coord's own objects ("...{name}:lease") is refused, so that no cache,
// whatever its prefix, can change or clear a lock.
//
// Calls are one round trip to a Redis where nothing else is said. What is wrong with an argument is
// kInvalidArgument, before anything is sent; after Close, everything is kFailedPrecondition.
class CacheBase {
 public:
  // False: it was not there.
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call = {}) const;
  // How many were there.
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call = {}) const;
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call = {}) const;

  // ---- Times to live ----

  absl::StatusOr<TimeLeft> TtlOf(std::string_view key, const CallOptions& call = {}) const;
  // False: there is no such key. Ttl::Never() is Persist; the cache's default is not jittered here.
  absl::StatusOr<bool> Expire(std::string_view key, coord::Ttl ttl,
                              const CallOptions& call = {}) const;
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call = {}) const;

  // ---- Keys ----
  // Patterns are Redis's (`user:*`, `h?llo`, `[ab]`); the prefix before them is literal, whatever
  // stands in it.

  // Some of the keys, without the prefix, and where to go on (empty: that was all), here or in
  // another process. A key may come twice, and one that comes or goes meanwhile may be left out.
  absl::StatusOr<ScanPage> Scan(std::string_view pattern = "*", std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) const;
  // All of them, each once, sorted. Many round trips; holds all of them in memory.
  absl::StatusOr<std::vector<std::string>> Keys(std::string_view pattern = "*",
                                                const CallOptions& call = {}) const;
  // Hands them out one by one, perhaps one twice, until `receive` says false.
  absl::Status ForEachKey(std::string_view pattern,
                          absl::FunctionRef<bool(const std::string&)> receive,
                          const CallOptions& call = {}) const;
  absl::StatusOr<std::int64_t> Count(std::string_view pattern = "*",
                                     const CallOptions& call = {}) const;
  // How many it has deleted. `*` clears the cache, where it has a prefix; without one it is
  // kFailedPrecondition, as are all patterns of nothing but `*`, or `*` and `?`.
  absl::StatusOr<std::int64_t> DeletePattern(std::string_view pattern,
                                             const CallOptions& call = {}) const;
  // Removes everything under the cache's prefix, and nothing else: by walking over the keys, or
  // with clear_by_epoch in one round trip. kFailedPrecondition without a prefix in a shared place:
  // a database is flushed by FLUSHDB, which says so.
  absl::Status Clear(const CallOptions& call = {}) const;

  // ---- Tags ----

  // From now on every entry that has one of these tags is a miss, also one whose factory runs at
  // this moment. One round trip, however many entries there are.
  absl::Status InvalidateTags(std::span<const std::string> tags,
                              const CallOptions& call = {}) const;
  absl::Status InvalidateTag(std::string_view tag, const CallOptions& call = {}) const;

  // ---- What needs a server ---- (kFailedPrecondition where the backend has no client)

  // A counter in the cache's keyspace, exact over 64 bits; see Counter. An error is an error, never
  // 0. Its time to live, if it gets one, begins with the first addition.
  absl::StatusOr<std::int64_t> Increment(std::string_view key, std::int64_t amount = 1,
                                         coord::Ttl ttl = coord::Ttl::Never(),
                                         const CallOptions& call = {}) const;
  absl::StatusOr<std::int64_t> Decrement(std::string_view key, std::int64_t amount = 1,
                                         coord::Ttl ttl = coord::Ttl::Never(),
                                         const CallOptions& call = {}) const;
  // The lock of that name in the cache's keyspace. The prefix is asked once, now; clearing the
  // cache never touches it.
  absl::StatusOr<Mutex> Lock(std::string_view name, MutexOptions options = {}) const;

  // ---- The backend ----

  absl::Status Ping(const CallOptions& call = {}) const;
  CacheHealth Health(const CallOptions& call = {}) const;
  absl::Status Reconnect(const CallOptions& call = {}) const;
  // Idempotent. Waits for factories that still run. The backend is closed with it when no other
  // cache has it.
  void Close() const;

  const CacheOptions& options() const;
  Backend& backend() const;
  // Null where there is none. For what the cache has no call for.
  const Client* client() const;
  // The key as the backend has it.
  absl::StatusOr<std::string> FullKey(std::string_view key) const;
  // How often a hook has thrown.
  std::uint64_t hook_failures() const;
  // How many keys wait for the server to come back; see Recovery.
  std::size_t recovering() const;

 protected:
  struct ReadState {
    Lookup<std::string>::State state = Lookup<std::string>::State::kMiss;
    bool stale = false;
  };
  // Takes a value's bytes; says whether they could be decoded.
  using Receive = absl::FunctionRef<absl::Status(std::string_view bytes)>;
  using ReceiveNth = absl::FunctionRef<absl::Status(std::size_t index, std::string_view bytes)>;
  // The bytes of a new value, nullopt for a null. May outlive the call that brings it.
  using Factory =
      std::function<absl::StatusOr<std::optional<std::string>>(ComputeContext& context)>;
  using Item = CacheItem;

  CacheBase(std::shared_ptr<Backend> backend, CacheOptions options,
            std::shared_ptr<const Signer> signer, bool (*is_null)(std::string_view bytes));
  // The same with `more` behind its prefix.
  CacheBase(const CacheBase& whole, std::string_view more);

  absl::StatusOr<ReadState> ReadBytes(std::string_view key, const GetOptions& options,
                                      Receive receive) const;
  absl::StatusOr<std::vector<ReadState>> ReadManyBytes(std::span<const std::string> keys,
                                                       const GetOptions& options,
                                                       ReceiveNth receive) const;
  // `type_ttl`: in place of a default one.
  absl::StatusOr<bool> WriteBytes(std::string_view key,
                                  const absl::StatusOr<std::optional<std::string>>& bytes,
                                  const SetOptions& options, coord::Ttl type_ttl,
                                  SetIf condition) const;
  absl::Status WriteManyBytes(const absl::StatusOr<std::vector<Item>>& items,
                              const SetOptions& options, coord::Ttl type_ttl) const;
  absl::StatusOr<ReadState> ComputeBytes(std::string_view key, Factory factory,
                                         const ComputeOptions& options, coord::Ttl type_ttl,
                                         Receive receive) const;
  // Runs the factory now, whatever is there, and stores what it makes.
  absl::StatusOr<ReadState> RefreshBytes(std::string_view key, Factory factory,
                                         const ComputeOptions& options, coord::Ttl type_ttl,
                                         Receive receive) const;

  // Hashes, lists and documents, at the server.
  absl::StatusOr<bool> HashGetBytes(std::string_view name, std::string_view field,
                                    const CallOptions& call, Receive receive) const;
  absl::Status HashSetBytes(std::string_view name, std::string_view field,
                            const absl::StatusOr<std::string>& bytes,
                            const CallOptions& call) const;
  absl::Status HashGetAllBytes(
      std::string_view name, const CallOptions& call,
      absl::FunctionRef<absl::Status(std::string_view field, std::string_view bytes)> receive)
      const;
  absl::StatusOr<std::int64_t> PushBytes(std::string_view key,
                                         const absl::StatusOr<std::string>& bytes,
                                         std::int64_t max_items, coord::Ttl ttl,
                                         const CallOptions& call) const;
  absl::Status RangeBytes(std::string_view key, std::int64_t start, std::int64_t stop,
                          const CallOptions& call, Receive receive) const;
  absl::StatusOr<bool> CompareAndSetText(std::string_view key, std::string_view path,
                                         const absl::StatusOr<std::string>& expected,
                                         std::string_view at,
                                         const absl::StatusOr<std::string>& value, coord::Ttl ttl,
                                         const CallOptions& call) const;

 private:
  absl::StatusOr<std::string> Prefix() const;
  absl::Status ForEachPage(std::string_view pattern,
                           absl::FunctionRef<absl::StatusOr<bool>(const ScanPage&)> receive,
                           const CallOptions& call) const;

  std::shared_ptr<internal::CacheCore> core_;
  std::string scope_;  // what Scoped has added to the prefix
};

}  // namespace coord

#endif  // COORD_CACHE_CACHE_BASE_H_
