// A near cache: copies of what a Redis has, in this process, which the Redis keeps fresh by telling
// of every change (RESP3 client tracking in broadcast mode; Redis 6.2 and up, every Valkey).
//
//   auto near = coord::NearBackend::Make(redis, memory, {.prefixes = {"coord:{users}:cache:"}});
//   (*near)->Get(key);  // from memory, when it has been read before and not been changed since
//
// What is promised of a read:
//   - It is no older than 3 s, whatever has failed: when the servers cannot be heard nothing is
//     taken from the copies, and after any gap (a broken connection, a failover, FLUSHALL, a
//     frozen server or process) all copies from before it are dropped. While all is well it is
//     as old as a message is long under way.
//   - It is never older than what has been read or written before under that key through this near
//     cache.
//   - No copy outlives what was left of the key's time to live on its server.
// What is older than that is what the server itself gives: a Cluster's master that is cut off from
// the others, but not from us, goes on answering and vouching. SWAPDB is not told of by servers.
//
// Where the server cannot or may not tell (RESP2 only, no right to CLIENT TRACKING) everything
// passes to the remote; see inactive_because().
#ifndef COORD_CACHE_NEAR_BACKEND_H_
#define COORD_CACHE_NEAR_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache/backend.h"

namespace coord {

struct NearOptions {
  // Which keys may be copied: those that begin with one of these. At least one; an empty prefix
  // means all keys. Each server tells this client of every change under them, so broad ones cost.
  std::vector<std::string> prefixes;
  // No copy is kept longer, whatever its time to live. At least 1 ms.
  absl::Duration max_local_ttl = absl::Seconds(60);
};

// Reads with Want::kValueAndTtl, and all that is not named below, go to the remote. That there is
// no such key is not kept.
//
// A key's copy is dropped before a write is sent, and again when it is answered, whatever the
// answer. Thread-safe.
class NearBackend final : public Backend {
 public:
  // `remote` has a client; `local` is for this near cache alone, and quick: its Delete runs on
  // whatever thread reads the server's messages. Both are closed by Close. Several near caches may
  // stand over one client, with any prefixes. Does not wait for the servers: copies are kept as
  // soon as they tell of changes. kInvalidArgument: an option, or a remote without a client.
  static absl::StatusOr<std::shared_ptr<NearBackend>> Make(std::shared_ptr<Backend> remote,
                                                           std::shared_ptr<Backend> local,
                                                           NearOptions options);
  ~NearBackend() override;
  NearBackend(const NearBackend&) = delete;
  NearBackend& operator=(const NearBackend&) = delete;

  std::string_view kind() const override { return "near"; }

  // A local hit is no round trip.
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                            const CallOptions& call = {}) override;
  // One round trip for all that is not local; none when everything is.
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want = Want::kValue,
                                                             const CallOptions& call = {}) override;
  absl::StatusOr<bool> Set(const Write& write, SetIf condition = SetIf::kAlways,
                           const CallOptions& call = {}) override;
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call = {}) override;
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call = {}) override;
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call = {}) override;
  absl::Status Clear(const CallOptions& call = {}) override;
  absl::Status Ping(const CallOptions& call = {}) override;
  absl::Status Reconnect(const CallOptions& call = {}) override;
  void Close() override;

  const Client* client() const override;
  // Of the copies; those from before a gap are not counted.
  std::optional<Usage> usage() const override;

  // Whether a read could be served from a copy now.
  bool active() const;
  // OK while it is active, or only about to be; else what is in the way.
  absl::Status inactive_because() const;

  // A key changed by other ways of this client (a script, a counter, a hash field): the next read
  // asks the server. Without it the server's message does the same, a moment later.
  void Forget(std::string_view key);

  struct Stats {
    std::uint64_t local_hits = 0;
    std::uint64_t remote_hits = 0;  // read from the remote, which had it
    std::uint64_t misses = 0;       // it had not
    std::uint64_t invalidations = 0;
    std::uint64_t refused = 0;  // values not kept, since a change may have crossed them
    std::uint64_t gaps = 0;     // after which all copies were dropped
  };
  Stats stats() const;

 private:
  class Copies;
  explicit NearBackend(std::unique_ptr<Copies> copies);
  const std::unique_ptr<Copies> copies_;
};

}  // namespace coord

#endif  // COORD_CACHE_NEAR_BACKEND_H_
