// The entries of a memory cache, found by key: an open-addressing table that readers search without
// a lock while one writer changes it.
//
// An entry's slot never changes within one array; a larger or cleaner array takes the place of the
// old one as a whole. Slots are in the order of the entries' hashes, in which a scan walks, so that
// its place holds in every array.
#ifndef COORD_CACHE_INTERNAL_ENTRY_TABLE_H_
#define COORD_CACHE_INTERNAL_ENTRY_TABLE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "cache/internal/read_epochs.h"
#include "cache/internal/tiny_lfu.h"

namespace coord::internal {

// One allocation: the header, the key, the value. Immutable to readers but for `expires`.
struct Entry : PolicyNode {
  std::uint16_t key_size = 0;
  std::atomic<std::int64_t> expires;  // as ExpiryClock has it

  // What an entry takes up beside its key and value, about: the header, malloc's, its share of the
  // table and of the policy's counters.
  static constexpr std::size_t kOverhead = 80;
  static constexpr std::size_t kMaxValue = 0xffffffff - 0xffff;

  // REQUIRES: key and value as large as the types above allow.
  static Entry* Make(std::uint32_t hash, std::string_view key, std::string_view value,
                     std::int64_t expires);
  static void Free(void* entry);

  std::string_view key() const { return {bytes(), key_size}; }
  std::string_view value() const { return {bytes() + key_size, weight - kOverhead - key_size}; }

 private:
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
};

class EntryTable {
 public:
  // Of readers, valid as long as their ReadEpochs::Reader.
  class Slots;

  // A key's hash: the upper half decides the order, the lower is compared.
  using Hash = std::uint64_t;
  static std::uint32_t Order(Hash hash) { return static_cast<std::uint32_t>(hash >> 32); }

  // `epochs` guards what readers see, and outlives this.
  explicit EntryTable(ReadEpochs& epochs);
  ~EntryTable();
  EntryTable(const EntryTable&) = delete;
  EntryTable& operator=(const EntryTable&) = delete;

  // For readers and the writer.

  Entry* Find(Hash hash, std::string_view key) const;
  // By its hash alone.
  Entry* FindHash(Hash hash) const;
  void Prefetch(Hash hash) const;
  // Calls visit(const Entry&) for the entries from `from` on in the order of hashes, until about
  // `count` slots were looked at. Returns where to go on; kEnd or more: that was all.
  static constexpr std::uint64_t kEnd = std::uint64_t{1} << 32;
  template <typename Visit>
  std::uint64_t Walk(std::uint64_t from, std::size_t count, const Visit& visit) const;

  // For one writer at a time.

  // REQUIRES: its key is not there.
  void Insert(Hash hash, Entry& entry);
  // `now`, of the same key, takes the place of `before`, which the caller retires.
  void Replace(const Entry& before, Entry& now);
  // It can no longer be found; the caller retires it.
  void Erase(const Entry& entry);
  // That `entry` has another `expires`.
  void NoteExpiry(const Entry& entry);
  // Forgets all entries at once, and retires them.
  void Clear(std::size_t bytes);
  // Looks at the next `count` slots, round and round, and returns one entry of those that have
  // passed(expires), or null.
  template <typename Passed>
  Entry* Sweep(std::size_t count, const Passed& passed);

  std::size_t size() const { return live_; }

 private:
  std::atomic<std::uint64_t>& SlotOf(const Entry& entry) const;
  void Rebuild();

  ReadEpochs& epochs_;
  std::atomic<Slots*> slots_;
  // The writer's.
  std::size_t live_ = 0;
  std::size_t graves_ = 0;
  std::size_t swept_ = 0;
};

// A slot is 0 (empty), 1 (a grave, whose entry was erased), or an entry's address in its lower 48
// bits, 15 bits of the hash above, and on top whether it ever expires.
class EntryTable::Slots {
 public:
  static constexpr std::uint64_t kEmpty = 0;
  static constexpr std::uint64_t kGrave = 1;
  static constexpr std::uint64_t kExpires = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kAddress = (std::uint64_t{1} << 48) - 1;
  static constexpr std::uint64_t kTag = ~(kExpires | kAddress);

  explicit Slots(int bits) : shift_(32 - bits), slots_(std::size_t{1} << bits) {}

  static Entry* EntryIn(std::uint64_t slot) {
    return slot <= kGrave ? nullptr : reinterpret_cast<Entry*>(slot & kAddress);
  }
  static std::uint64_t Tag(Hash hash) { return (hash << 48) & kTag; }

  std::size_t Home(std::uint32_t order) const { return order >> shift_; }
  int shift() const { return shift_; }
  std::size_t size() const { return slots_.size(); }
  std::size_t Next(std::size_t i) const { return (i + 1) & (slots_.size() - 1); }
  std::atomic<std::uint64_t>& operator[](std::size_t i) { return slots_[i]; }
  const std::atomic<std::uint64_t>& operator[](std::size_t i) const { return slots_[i]; }

 private:
  const int shift_;
  std::vector<std::atomic<std::uint64_t>> slots_;
};

template <typename Visit>
std::uint64_t EntryTable::Walk(std::uint64_t from, std::size_t count, const Visit& visit) const {
  const Slots& slots = *slots_.load();
  const std::size_t home = slots.Home(static_cast<std::uint32_t>(from));
  const std::size_t end = count < slots.size() - home ? home + count : slots.size();
  const std::uint64_t until = static_cast<std::uint64_t>(end) << slots.shift();
  // Behind the last home slot come those whose home was taken, up to the next empty one.
  for (std::size_t i = home; i < 2 * slots.size(); ++i) {
    const std::uint64_t slot = slots[i & (slots.size() - 1)].load();
    if (slot == Slots::kEmpty && i >= end) break;
    const Entry* const entry = Slots::EntryIn(slot);
    if (entry == nullptr || entry->hash < from || entry->hash >= until) continue;
    // At the array's beginning may be some whose home is near its end: their turn is behind it.
    const bool wrapped = slots.Home(entry->hash) > (i & (slots.size() - 1));
    if (wrapped == (i >= slots.size())) visit(*entry);
  }
  return until;
}

template <typename Passed>
Entry* EntryTable::Sweep(std::size_t count, const Passed& passed) {
  Slots& slots = *slots_.load();
  for (; count > 0; --count) {
    swept_ = slots.Next(swept_);
    const std::uint64_t slot = slots[swept_].load(std::memory_order_relaxed);
    if ((slot & Slots::kExpires) == 0) continue;
    Entry* const entry = Slots::EntryIn(slot);
    if (passed(entry->expires.load(std::memory_order_relaxed))) return entry;
  }
  return nullptr;
}

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_ENTRY_TABLE_H_
