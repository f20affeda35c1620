#include "cache/internal/memory_shard.h"

#include <algorithm>
#include <mutex>
#include <thread>

namespace coord::internal {
namespace {

// Slots looked at for expired entries with each write, and with each ring of hits.
constexpr std::size_t kSweepPerWrite = 4;
constexpr std::size_t kSweepPerRing = 16;
// A cache of up to so many entries knows of every hit before it evicts. In a larger one those that
// wait in the rings weigh nothing.
constexpr std::size_t kExact = 1024;
// How often Clear looks whether the last readers are gone, before it leaves the rest to writers.
constexpr int kPatience = 1000;

void FreeAll(const std::vector<ReadEpochs::Retired>& free) {
  for (const ReadEpochs::Retired& retired : free) retired.free(retired.what);
}

}  // namespace

class ABSL_SCOPED_LOCKABLE MemoryShard::Writing {
 public:
  explicit Writing(MemoryShard& shard) ABSL_EXCLUSIVE_LOCK_FUNCTION(shard.mutex_) : shard_(shard) {
    shard_.mutex_.Lock();
  }
  Writing(MemoryShard& shard, std::adopt_lock_t) ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mutex_)
      : shard_(shard) {}
  ~Writing() ABSL_UNLOCK_FUNCTION() {
    std::vector<ReadEpochs::Retired> free;
    if (shard_.epochs_.worth_collecting()) shard_.epochs_.Collect(free);
    shard_.mutex_.Unlock();
    FreeAll(free);
  }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;

 private:
  MemoryShard& shard_;
};

MemoryShard::MemoryShard(const Bounds& bounds, const TinyLfu::Options& policy,
                         const ExpiryClock& clock)
    : bounds_(bounds), clock_(clock), table_(epochs_), rings_(epochs_.stripes()), policy_(policy) {}

bool MemoryShard::Set(Hash hash, std::string_view key, std::string_view value, std::int64_t expires,
                      SetIf condition) {
  const std::size_t size = Entry::kOverhead + key.size() + value.size();
  // Made before the lock is taken; not at all when it cannot stay.
  Entry* fresh =
      size > bounds_.bytes ? nullptr : Entry::Make(EntryTable::Order(hash), key, value, expires);
  const Writing writing(*this);
  Entry* before = table_.Find(hash, key);
  if (before != nullptr && clock_.Passed(before->expires.load(std::memory_order_relaxed))) {
    Drop(*before);
    before = nullptr;
  }
  if (condition != SetIf::kAlways && (before != nullptr) != (condition == SetIf::kPresent)) {
    if (fresh != nullptr) Entry::Free(fresh);
    return false;
  }
  if (fresh == nullptr) {
    if (before != nullptr) Drop(*before);
    evicted_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  if (before != nullptr) {
    table_.Replace(*before, *fresh);
    policy_.Replace(*before, *fresh);
    bytes_.fetch_add(fresh->weight - std::uint64_t{before->weight}, std::memory_order_relaxed);
    epochs_.Retire({before, Entry::Free}, before->weight);
  } else {
    table_.Insert(hash, *fresh);
    policy_.Insert(*fresh);
    era_.store(policy_.era(), std::memory_order_relaxed);
    if (++inserted_ % kRing == 0) {
      for (HitRing& ring : rings_) Tell(ring);
    }
    entries_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(fresh->weight, std::memory_order_relaxed);
  }
  Sweep(kSweepPerWrite);
  Shrink();
  return true;
}

bool MemoryShard::Delete(Hash hash, std::string_view key) {
  const Writing writing(*this);
  Sweep(kSweepPerWrite);
  Entry* const entry = table_.Find(hash, key);
  if (entry == nullptr) return false;
  const bool there = !clock_.Passed(entry->expires.load(std::memory_order_relaxed));
  Drop(*entry);
  return there;
}

bool MemoryShard::SetExpiry(Hash hash, std::string_view key, std::int64_t expires) {
  const Writing writing(*this);
  Sweep(kSweepPerWrite);
  Entry* const entry = table_.Find(hash, key);
  if (entry == nullptr) return false;
  if (clock_.Passed(entry->expires.load(std::memory_order_relaxed))) {
    Drop(*entry);
    return false;
  }
  entry->expires.store(expires, std::memory_order_relaxed);
  table_.NoteExpiry(*entry);
  return true;
}

void MemoryShard::Clear() {
  {
    const Writing writing(*this);
    table_.Clear(bytes_.load(std::memory_order_relaxed));
    policy_.Clear();
    entries_.store(0, std::memory_order_relaxed);
    bytes_.store(0, std::memory_order_relaxed);
  }
  // Everybody sees it empty by now. What it was is freed here, so that no other caller has to.
  for (int i = 0; i < kPatience; ++i) {
    std::vector<ReadEpochs::Retired> free;
    bool all = false;
    {
      const MutexLock lock(mutex_);
      epochs_.Collect(free);
      all = epochs_.empty();
    }
    FreeAll(free);
    if (all) return;
    std::this_thread::yield();
  }
}

Backend::Usage MemoryShard::usage() const {
  return {entries_.load(std::memory_order_relaxed), bytes_.load(std::memory_order_relaxed),
          evicted_.load(std::memory_order_relaxed)};
}

void MemoryShard::TellHits(HitRing& ring) {
  // Readers wait for no writer: what it forgets now will be asked for again if it matters.
  if (!mutex_.TryLock()) return;
  const Writing writing(*this, std::adopt_lock);
  Tell(ring);
  Sweep(kSweepPerRing);
}

void MemoryShard::DropExpired(Hash hash, std::string_view key) {
  if (!mutex_.TryLock()) return;  // it will be swept
  const Writing writing(*this, std::adopt_lock);
  Entry* const entry = table_.Find(hash, key);
  if (entry != nullptr && clock_.Passed(entry->expires.load(std::memory_order_relaxed))) {
    Drop(*entry);
  }
}

void MemoryShard::Tell(HitRing& ring) {
  const std::uint32_t noted = ring.noted.load(std::memory_order_relaxed);
  const std::uint32_t count = std::min<std::uint32_t>(noted - ring.told, kRing);
  std::array<Hash, kRing> hashes;
  // In three rounds, so that the memory that is needed comes from several places at once.
  for (std::uint32_t i = 0; i < count; ++i) {
    hashes[i] = ring.hashes[(noted - count + i) % kRing].load(std::memory_order_relaxed);
    table_.Prefetch(hashes[i]);
    policy_.Prefetch(EntryTable::Order(hashes[i]));
  }
  std::array<Entry*, kRing> entries;
  for (std::uint32_t i = 0; i < count; ++i) {
    entries[i] = table_.FindHash(hashes[i]);
    if (entries[i] == nullptr) continue;
    __builtin_prefetch(entries[i]->newer, 1);
    __builtin_prefetch(entries[i]->older, 1);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (entries[i] != nullptr) policy_.Hit(*entries[i]);
  }
  ring.told = noted;
  const std::uint32_t known = ring.known.load(std::memory_order_relaxed);
  // One of two threads that share the ring may have set it back.
  const auto more = static_cast<std::int32_t>(known - ring.told_known);
  policy_.KnownHits(static_cast<std::size_t>(std::max(more, 0)));
  ring.told_known = known;
}

void MemoryShard::Sweep(std::size_t count) {
  Entry* const expired =
      table_.Sweep(count, [this](std::int64_t expires) { return clock_.Passed(expires); });
  if (expired != nullptr) Drop(*expired);
}

void MemoryShard::Shrink() {
  const auto full = [this] {
    return entries_.load(std::memory_order_relaxed) > bounds_.entries ||
           bytes_.load(std::memory_order_relaxed) > bounds_.bytes;
  };
  if (!full()) return;
  if (table_.size() <= kExact + 1) {
    for (HitRing& ring : rings_) Tell(ring);
  }
  while (full()) {
    Drop(static_cast<Entry&>(*policy_.Victim()));
    evicted_.fetch_add(1, std::memory_order_relaxed);
  }
}

void MemoryShard::Drop(Entry& entry) {
  table_.Erase(entry);
  policy_.Remove(entry);
  entries_.fetch_sub(1, std::memory_order_relaxed);
  bytes_.fetch_sub(entry.weight, std::memory_order_relaxed);
  epochs_.Retire({&entry, Entry::Free}, entry.weight);
}

}  // namespace coord::internal
