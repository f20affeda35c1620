// Cached bytes in Redis or Valkey: one server, a group that Sentinels lead, or a Cluster.
//
//   absl::StatusOr<std::shared_ptr<coord::RedisBackend>> backend =
//       coord::RedisBackend::Connect("redis://cache.example:6379");
//
// Keys are taken exactly as they are given: prefixes are Cache's.
//
// Beside what Backend promises:
//   - A write whose reply was lost may or may not have been applied. It is never repeated, and says
//     so (IsOutcomeUnknown): above all, a Set that had to find no key never says "no" because of
//     its own first attempt. Reads are repeated within their time.
//   - A key that holds something else than a string (a hash, a list) is kFailedPrecondition for
//     Get, with the key named. GetMany takes it for one that is not there, as MGET does, and Set
//     takes its place.
//   - kValueAndTtl: what is left belongs to the value unless somebody writes between the two
//     questions, which one round trip asks. A key that goes between them is not there.
//   - Values of more than 512 MiB, the server's own limit, are refused before they are sent.
//   - In a Cluster a batch is one pipeline to each master, all at once.
#ifndef COORD_CACHE_REDIS_BACKEND_H_
#define COORD_CACHE_REDIS_BACKEND_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/lookup.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

class RedisBackend final : public Backend {
 public:
  static constexpr std::size_t kMaxValue = std::size_t{512} << 20;

  // On a client of the caller's: Close leaves it open.
  explicit RedisBackend(Client client) : RedisBackend(std::move(client), /*owned=*/false) {}
  // On a client of its own, which Close closes. `url` and errors as Client::Connect has them; empty
  // means $COORD_CACHE_URL, else $COORD_URL, else "embedded://".
  static absl::StatusOr<std::shared_ptr<RedisBackend>> Connect(std::string_view url = {},
                                                               ClientOptions options = {});

  std::string_view kind() const override { return "redis"; }

  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                            const CallOptions& call = {}) override;
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

  // One master after another, each with SCAN. Keys of the library's own primitives are left out
  // (see IsPrimitiveKey in cache/internal/primitive_key.h), and those longer than kMaxKey. A key
  // that is there all the time may be missed when its slot moves, or when the server restarts,
  // between two pages. kAborted: the masters are others than when this walk began; begin it anew.
  // In a Cluster a first page, and one whose cursor is another process's, may cost a second round
  // trip.
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) override;
  // By Scan, so likewise never a primitive's key. Many round trips, each of which may take the
  // timeout. An error says how many are gone.
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call = {}) override;
  // kFailedPrecondition: a Redis database may have keys of others.
  absl::Status Clear(const CallOptions& call = {}) override;

  absl::Status Ping(const CallOptions& call = {}) override;
  // Of a client that was handed in: for all who share it.
  absl::Status Reconnect(const CallOptions& call = {}) override;
  void Close() override;

  const Client* client() const override { return &client_; }

 private:
  RedisBackend(Client client, bool owned);

  // OK unless closed.
  absl::Status Open() const;
  absl::Status Check(std::string_view key) const;
  absl::Status Check(const Write& write) const;

  const Client client_;
  const bool owned_;
  const bool cluster_;
  std::atomic<bool> closed_{false};
};

}  // namespace coord

#endif  // COORD_CACHE_REDIS_BACKEND_H_
