#include "cache/internal/entry_table.h"

#include <cstring>
#include <new>
#include <type_traits>

#include "cache/internal/expiry_clock.h"

namespace coord::internal {
namespace {

constexpr int kLeastBits = 4;
constexpr int kMostBits = 32;

static_assert(sizeof(void*) == 8, "slots hold addresses of 48 bits");
static_assert(sizeof(Entry) == 40);

std::uint64_t Filled(const Entry& entry, std::uint64_t tag) {
  const bool expires = entry.expires.load(std::memory_order_relaxed) != ExpiryClock::kNever;
  return (expires ? EntryTable::Slots::kExpires : 0) | tag |
         reinterpret_cast<std::uint64_t>(&entry);
}

void FreeSlots(void* slots) { delete static_cast<EntryTable::Slots*>(slots); }

void FreeSlotsAndEntries(void* what) {
  auto* const slots = static_cast<EntryTable::Slots*>(what);
  for (std::size_t i = 0; i < slots->size(); ++i) {
    Entry* const entry = EntryTable::Slots::EntryIn((*slots)[i].load(std::memory_order_relaxed));
    if (entry != nullptr) Entry::Free(entry);
  }
  delete slots;
}

}  // namespace

Entry* Entry::Make(std::uint32_t hash, std::string_view key, std::string_view value,
                   std::int64_t expires) {
  void* const memory = ::operator new(sizeof(Entry) + key.size() + value.size());
  Entry* const entry = new (memory) Entry;
  entry->hash = hash;
  entry->weight = static_cast<std::uint32_t>(kOverhead + key.size() + value.size());
  entry->key_size = static_cast<std::uint16_t>(key.size());
  entry->expires.store(expires, std::memory_order_relaxed);
  char* const bytes = static_cast<char*>(memory) + sizeof(Entry);
  std::memcpy(bytes, key.data(), key.size());
  if (!value.empty()) std::memcpy(bytes + key.size(), value.data(), value.size());
  return entry;
}

void Entry::Free(void* entry) {
  static_assert(std::is_trivially_destructible_v<Entry>);
  ::operator delete(entry);
}

EntryTable::EntryTable(ReadEpochs& epochs) : epochs_(epochs), slots_(new Slots(kLeastBits)) {}

EntryTable::~EntryTable() { FreeSlotsAndEntries(slots_.load()); }

Entry* EntryTable::Find(Hash hash, std::string_view key) const {
  const Slots& slots = *slots_.load();
  const std::uint64_t tag = Slots::Tag(hash);
  for (std::size_t i = slots.Home(Order(hash));; i = slots.Next(i)) {
    const std::uint64_t slot = slots[i].load();
    if (slot == Slots::kEmpty) return nullptr;
    if ((slot & Slots::kTag) != tag || slot == Slots::kGrave) continue;
    Entry* const entry = Slots::EntryIn(slot);
    // The value's first bytes come with the key's, not after them.
    __builtin_prefetch(reinterpret_cast<const char*>(entry) + 64);
    if (entry->key() == key) return entry;
  }
}

Entry* EntryTable::FindHash(Hash hash) const {
  const Slots& slots = *slots_.load();
  const std::uint64_t tag = Slots::Tag(hash);
  for (std::size_t i = slots.Home(Order(hash));; i = slots.Next(i)) {
    const std::uint64_t slot = slots[i].load(std::memory_order_relaxed);
    if (slot == Slots::kEmpty) return nullptr;
    if ((slot & Slots::kTag) != tag || slot == Slots::kGrave) continue;
    Entry* const entry = Slots::EntryIn(slot);
    if (entry->hash == Order(hash)) return entry;
  }
}

void EntryTable::Prefetch(Hash hash) const {
  const Slots& slots = *slots_.load();
  __builtin_prefetch(&slots[slots.Home(Order(hash))]);
}

void EntryTable::Insert(Hash hash, Entry& entry) {
  // At most three quarters are used, so that searches end soon.
  if ((live_ + graves_ + 1) * 4 > slots_.load()->size() * 3) Rebuild();
  Slots& slots = *slots_.load();
  std::size_t i = slots.Home(entry.hash);
  while (Slots::EntryIn(slots[i].load(std::memory_order_relaxed)) != nullptr) i = slots.Next(i);
  if (slots[i].load(std::memory_order_relaxed) == Slots::kGrave) --graves_;
  slots[i].store(Filled(entry, Slots::Tag(hash)));
  ++live_;
}

void EntryTable::Replace(const Entry& before, Entry& now) {
  std::atomic<std::uint64_t>& slot = SlotOf(before);
  slot.store(Filled(now, slot.load() & Slots::kTag));
}

void EntryTable::Erase(const Entry& entry) {
  Slots& slots = *slots_.load();
  std::size_t i = static_cast<std::size_t>(&SlotOf(entry) - &slots[0]);
  slots[i].store(Slots::kGrave);
  --live_;
  ++graves_;
  // No search needs a grave with nothing behind it.
  const std::size_t mask = slots.size() - 1;
  if (slots[(i + 1) & mask].load(std::memory_order_relaxed) != Slots::kEmpty) return;
  while (slots[i].load(std::memory_order_relaxed) == Slots::kGrave) {
    slots[i].store(Slots::kEmpty);
    --graves_;
    i = (i - 1) & mask;
  }
}

void EntryTable::NoteExpiry(const Entry& entry) {
  std::atomic<std::uint64_t>& slot = SlotOf(entry);
  slot.store(Filled(entry, slot.load() & Slots::kTag));
}

void EntryTable::Clear(std::size_t bytes) {
  Slots* const before = slots_.load();
  slots_.store(new Slots(kLeastBits));
  live_ = 0;
  graves_ = 0;
  swept_ = 0;
  epochs_.Retire({before, FreeSlotsAndEntries}, bytes);
}

std::atomic<std::uint64_t>& EntryTable::SlotOf(const Entry& entry) const {
  Slots& slots = *slots_.load();
  std::size_t i = slots.Home(entry.hash);
  while (Slots::EntryIn(slots[i].load(std::memory_order_relaxed)) != &entry) i = slots.Next(i);
  return slots[i];
}

void EntryTable::Rebuild() {
  Slots& before = *slots_.load();
  int bits = kLeastBits;
  while (bits < kMostBits && (live_ + 1) * 8 > (std::size_t{1} << bits) * 5) ++bits;
  auto* const now = new Slots(bits);
  constexpr std::size_t kAhead = 16;
  for (std::size_t from = 0; from < before.size(); ++from) {
    if (from + kAhead < before.size()) {
      __builtin_prefetch(Slots::EntryIn(before[from + kAhead].load(std::memory_order_relaxed)));
    }
    const std::uint64_t slot = before[from].load(std::memory_order_relaxed);
    const Entry* const entry = Slots::EntryIn(slot);
    if (entry == nullptr) continue;
    std::size_t i = now->Home(entry->hash);
    while ((*now)[i].load(std::memory_order_relaxed) != Slots::kEmpty) i = now->Next(i);
    (*now)[i].store(slot, std::memory_order_relaxed);
  }
  graves_ = 0;
  // Where the same hashes are now.
  const int more = before.shift() - now->shift();
  swept_ = more >= 0 ? swept_ << more : swept_ >> -more;
  slots_.store(now);
  epochs_.Retire({&before, FreeSlots}, before.size() * sizeof(std::uint64_t));
}

}  // namespace coord::internal
