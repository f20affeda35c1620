// Cached bytes in the memory of this process, bounded by number or size.
//
//   coord::MemoryBackend memory({.max_entries = 100'000});
//   memory.Set({.key = "user:1", .value = bytes, .ttl = absl::Minutes(5)});
//
// Reads take no lock and wait for nobody. Writes take turns within a shard. Everything is exact at
// once for everybody: what Get finds, expiry, SetIf. Only which entry goes when it is full is a
// matter of judgement: by default of W-TinyLFU, which keeps what is asked for often through scans.
//
// What has expired is not there any more, by the clock, at once; its memory goes when it is asked
// for, or else as others are written: each write looks at 4 of the table's slots, of which there
// are at most 4 an entry at the highest count so far. Until then it counts in usage(). A cache that
// nobody writes to frees nothing.
//
// In a forked child reads go on, and what writes is kFailedPrecondition: a thread that was in the
// middle of something is not there to end it.
#ifndef COORD_CACHE_MEMORY_BACKEND_H_
#define COORD_CACHE_MEMORY_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cache/backend.h"
#include "coord/clock.h"

namespace coord {

enum class Eviction {
  kTinyLfu,  // what is asked for least, seen over a while; adapts to loads where recency counts
  kLru,      // what was asked for longest ago
};

struct MemoryOptions {
  // At least one of the two; 0: no such bound. An entry counts as its key, its value and 80 bytes.
  std::uint64_t max_entries = 0;
  std::uint64_t max_bytes = 0;
  Eviction eviction = Eviction::kTinyLfu;
  // Parts that are written to independently and divide the bounds among them, so that each is full
  // a little before the whole is; rounded up to a power of two, at most 256. An entry that takes
  // more than a shard's bytes is not kept: Set is true, and it counts as evicted. 0: one, and more
  // only for bounds that give each 256 Ki entries or 256 MiB at least. Readers need none.
  std::size_t shards = 0;
  // Borrowed; must outlive the backend. With Clock::Boot() something may live some 10 ms too long
  // after the machine was suspended.
  const Clock* clock = Clock::Boot();
};

class MemoryBackend final : public Backend {
 public:
  // Without any bound: all calls are kInvalidArgument.
  explicit MemoryBackend(const MemoryOptions& options);
  // REQUIRES: no call goes on.
  ~MemoryBackend() override;
  MemoryBackend(const MemoryBackend&) = delete;
  MemoryBackend& operator=(const MemoryBackend&) = delete;

  // As Get, into a buffer that is used again, without allocating. False: not there, and `value` is
  // unchanged.
  absl::StatusOr<bool> Find(std::string_view key, std::string& value);

  std::string_view kind() const override { return "memory"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                            const CallOptions& call = {}) override;
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want = Want::kValue,
                                                             const CallOptions& call = {}) override;
  absl::StatusOr<bool> Set(const Write& write, SetIf condition = SetIf::kAlways,
                           const CallOptions& call = {}) override;
  // All are checked before the first is written.
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call = {}) override;
  // Exists and Ttl are no hits.
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call = {}) override;
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call = {}) override;
  // The cursor is of use to this object only.
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call = {}) override;
  // Empty for everybody at once, however much there was, without holding up readers or writers;
  // the caller then frees the memory, entry by entry. What was popular is still known.
  absl::Status Clear(const CallOptions& call = {}) override;
  absl::Status Ping(const CallOptions& call = {}) override;
  absl::Status Reconnect(const CallOptions& call = {}) override;
  // Frees what is held.
  void Close() override;
  // What has expired counts until its memory is freed.
  std::optional<Usage> usage() const override;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace coord

#endif  // COORD_CACHE_MEMORY_BACKEND_H_
