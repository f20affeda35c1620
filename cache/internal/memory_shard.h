// A part of a memory cache: the keys whose hashes fall to it, with bounds and a lock of its own.
//
// Reads take no lock. What they hit is noted in a small ring of their CPU's, which forgets when it
// is full and nobody has looked, and is told to the policy many at a time.
#ifndef COORD_CACHE_INTERNAL_MEMORY_SHARD_H_
#define COORD_CACHE_INTERNAL_MEMORY_SHARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "cache/backend.h"
#include "cache/internal/entry_table.h"
#include "cache/internal/expiry_clock.h"
#include "cache/internal/read_epochs.h"
#include "cache/internal/tiny_lfu.h"
#include "coord/internal/sync.h"

namespace coord::internal {

class MemoryShard {
 public:
  using Hash = EntryTable::Hash;

  struct Bounds {
    std::uint64_t entries;
    std::uint64_t bytes;  // as Entry::weight counts them
  };

  // `clock` is borrowed.
  MemoryShard(const Bounds& bounds, const TinyLfu::Options& policy, const ExpiryClock& clock);

  // Calls visit(value, expires), which must be quick, when the key is there, and says whether.
  template <typename Visit>
  bool Read(Hash hash, std::string_view key, const Visit& visit);
  // The same, without a hit.
  template <typename Visit>
  bool Peek(Hash hash, std::string_view key, const Visit& visit);

  bool Set(Hash hash, std::string_view key, std::string_view value, std::int64_t expires,
           SetIf condition);
  bool Delete(Hash hash, std::string_view key);
  bool SetExpiry(Hash hash, std::string_view key, std::int64_t expires);
  void Clear();

  // As EntryTable::Walk, over what has not expired; visit(key).
  template <typename Visit>
  std::uint64_t Walk(std::uint64_t from, std::size_t count, const Visit& visit);

  Backend::Usage usage() const;

 private:
  // The lock. Frees what may be freed after it has let go.
  class Writing;

  static constexpr std::size_t kRing = 64;
  struct alignas(64) HitRing {
    std::atomic<std::uint32_t> noted{0};  // in all; the next one's place, modulo kRing
    std::atomic<std::uint32_t> known{0};  // hits that the policy need not know but by number
    std::uint32_t told = 0;               // the writer's
    std::uint32_t told_known = 0;
    std::array<std::atomic<Hash>, kRing> hashes = {};
  };

  void NoteHit(HitRing& ring, const Entry& entry, Hash hash) {
    // Of two threads that share the ring one may be forgotten.
    if (entry.known_in.load(std::memory_order_relaxed) == era_.load(std::memory_order_relaxed)) {
      ring.known.store(ring.known.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return;
    }
    const std::uint32_t at = ring.noted.load(std::memory_order_relaxed);
    ring.hashes[at % kRing].store(hash, std::memory_order_relaxed);
    ring.noted.store(at + 1, std::memory_order_relaxed);
    if ((at + 1) % kRing == 0) TellHits(ring);
  }
  void TellHits(HitRing& ring);
  void DropExpired(Hash hash, std::string_view key);

  void Tell(HitRing& ring) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Sweep(std::size_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Shrink() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Bounds bounds_;
  const ExpiryClock& clock_;
  Mutex mutex_;
  std::atomic<std::uint8_t> era_{0};  // the policy's
  // Readers and writers; its writers' part under mutex_.
  ReadEpochs epochs_;
  EntryTable table_;
  std::vector<HitRing> rings_;  // one a stripe
  TinyLfu policy_ ABSL_GUARDED_BY(mutex_);
  std::size_t inserted_ ABSL_GUARDED_BY(mutex_) = 0;
  // Written under mutex_.
  std::atomic<std::uint64_t> entries_{0};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> evicted_{0};
};

template <typename Visit>
bool MemoryShard::Read(Hash hash, std::string_view key, const Visit& visit) {
  {
    const ReadEpochs::Reader reader(epochs_);
    const Entry* const entry = table_.Find(hash, key);
    if (entry == nullptr) return false;
    const std::int64_t expires = entry->expires.load(std::memory_order_relaxed);
    if (!clock_.Passed(expires)) {
      visit(entry->value(), expires);
      NoteHit(rings_[reader.stripe()], *entry, hash);
      return true;
    }
  }
  DropExpired(hash, key);
  return false;
}

template <typename Visit>
bool MemoryShard::Peek(Hash hash, std::string_view key, const Visit& visit) {
  const ReadEpochs::Reader reader(epochs_);
  const Entry* const entry = table_.Find(hash, key);
  if (entry == nullptr) return false;
  const std::int64_t expires = entry->expires.load(std::memory_order_relaxed);
  if (clock_.Passed(expires)) return false;
  visit(entry->value(), expires);
  return true;
}

template <typename Visit>
std::uint64_t MemoryShard::Walk(std::uint64_t from, std::size_t count, const Visit& visit) {
  const ReadEpochs::Reader reader(epochs_);
  return table_.Walk(from, count, [&](const Entry& entry) {
    if (!clock_.Passed(entry.expires.load(std::memory_order_relaxed))) visit(entry.key());
  });
}

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_MEMORY_SHARD_H_
