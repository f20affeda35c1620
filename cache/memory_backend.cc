#include "cache/memory_backend.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>
#include <thread>
#include <utility>

#include "absl/hash/hash.h"
#include "cache/internal/glob.h"
#include "cache/internal/memory_shard.h"
#include "coord/internal/fork.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::Entry;
using internal::EntryTable;
using internal::ExpiryClock;
using internal::MemoryShard;
using internal::ParseInt64;
using internal::Quoted;
using internal::StrCat;

constexpr std::size_t kMostShards = 256;
constexpr std::uint64_t kEntriesPerShard = 256 << 10;
constexpr std::uint64_t kBytesPerShard = 256 << 20;
// What DeleteMatching looks at before it deletes what it found there.
constexpr std::size_t kStep = 1000;

std::size_t ChooseShards(const MemoryOptions& options) {
  std::size_t shards = options.shards;
  if (shards == 0) {
    shards = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, 16);
    if (options.max_entries > 0) {
      shards = std::min<std::uint64_t>(shards, options.max_entries / kEntriesPerShard);
    }
    if (options.max_bytes > 0) {
      shards = std::min<std::uint64_t>(shards, options.max_bytes / kBytesPerShard);
    }
    shards = std::bit_floor(std::max<std::size_t>(shards, 1));
  }
  return std::bit_ceil(std::clamp<std::size_t>(shards, 1, kMostShards));
}

// What shard `i` of `shards` gets of a bound.
std::uint64_t PartOf(std::uint64_t bound, std::size_t i, std::size_t shards) {
  if (bound == 0) return std::numeric_limits<std::uint64_t>::max();
  return bound / shards + (i < bound % shards ? 1 : 0);
}

EntryTable::Hash HashOf(std::string_view key) {
  std::uint64_t hash = absl::Hash<absl::string_view>()(internal::ToAbsl(key));
  // Abseil promises nothing about single bits.
  hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
  return hash ^ hash >> 32;
}

bool KeyIsValid(std::string_view key) { return !key.empty() && key.size() <= Backend::kMaxKey; }

absl::Status CheckKey(std::string_view key) {
  if (KeyIsValid(key)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("a key has 1 to ", Backend::kMaxKey, " bytes, not ", key.size()));
}

absl::Status CheckTtl(absl::Duration ttl) {
  if (ttl == absl::InfiniteDuration()) return absl::OkStatus();
  if (ttl > absl::ZeroDuration() && ttl % absl::Milliseconds(1) == absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(StrCat(
      "a time to live is a whole number of milliseconds above zero, not ", internal::ToText(ttl)));
}

absl::Status CheckWrite(const Write& write) {
  if (absl::Status status = CheckKey(write.key); !status.ok()) return status;
  if (absl::Status status = CheckTtl(write.ttl); !status.ok()) return status;
  if (write.value.size() <= Entry::kMaxValue) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("a value has at most ", Entry::kMaxValue, " bytes, not ", write.value.size()));
}

// Where a scan is: as a cursor "shard:position".
struct Place {
  std::size_t shard = 0;
  std::uint64_t position = 0;
};

absl::Status Closed() { return absl::FailedPreconditionError("the cache's memory was closed"); }

}  // namespace

struct MemoryBackend::Parts {
  explicit Parts(const MemoryOptions& options)
      : unbounded(options.max_entries == 0 && options.max_bytes == 0), clock(options.clock) {
    const std::size_t count = ChooseShards(options);
    internal::TinyLfu::Options policy;
    policy.lru = options.eviction == Eviction::kLru;
    policy.weighted = options.max_bytes > 0;
    for (std::size_t i = 0; i < count; ++i) {
      const MemoryShard::Bounds bounds{PartOf(options.max_entries, i, count),
                                       PartOf(options.max_bytes, i, count)};
      shards.push_back(std::make_unique<MemoryShard>(bounds, policy, clock));
    }
  }

  MemoryShard& ShardOf(EntryTable::Hash hash) const {
    return *shards[hash >> 16 & (shards.size() - 1)];
  }
  bool usable() const { return !unusable.load(std::memory_order_relaxed); }
  // REQUIRES: !usable().
  absl::Status WhyNot() const {
    if (!unbounded) return Closed();
    return absl::InvalidArgumentError("a memory cache needs max_entries or max_bytes");
  }
  absl::Status Check() const { return usable() ? absl::OkStatus() : WhyNot(); }
  bool forked() const { return internal::ForkGeneration() != generation; }
  // For what writes.
  absl::Status CheckWriter() const {
    if (!forked()) return Check();
    return absl::FailedPreconditionError(
        "the memory cache was made by the parent of this process; make another one after fork");
  }
  absl::Status CheckWriter(std::string_view key) const {
    if (absl::Status status = CheckWriter(); !status.ok()) return status;
    return CheckKey(key);
  }
  // For reads, which make a status only when there is something wrong.
  absl::Status WhyNot(std::string_view key) const { return usable() ? CheckKey(key) : WhyNot(); }

  // Until `expires`; zero or less: it has passed meanwhile.
  absl::Duration Left(std::int64_t expires) const {
    if (expires == ExpiryClock::kNever) return absl::InfiniteDuration();
    return absl::Nanoseconds(expires - clock.Now());
  }

  absl::Status CheckAll(std::span<const std::string> keys) const {
    if (!usable()) return WhyNot();
    for (const std::string& key : keys) {
      if (absl::Status status = CheckKey(key); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::optional<Place> ReadCursor(std::string_view cursor) const {
    if (cursor.empty()) return Place();
    const std::size_t colon = std::min(cursor.find(':'), cursor.size() - 1);
    const std::optional<std::int64_t> shard = ParseInt64(cursor.substr(0, colon));
    const std::optional<std::int64_t> position = ParseInt64(cursor.substr(colon + 1));
    if (!shard.has_value() || *shard < 0 || static_cast<std::size_t>(*shard) >= shards.size() ||
        !position.has_value() || *position < 0 ||
        static_cast<std::uint64_t>(*position) >= EntryTable::kEnd) {
      return std::nullopt;
    }
    return Place{static_cast<std::size_t>(*shard), static_cast<std::uint64_t>(*position)};
  }
  // One step; false: that was the last.
  template <typename Visit>
  bool Walk(Place& place, std::size_t count, const Visit& visit) const {
    place.position = shards[place.shard]->Walk(place.position, count, visit);
    if (place.position < EntryTable::kEnd) return true;
    place = {place.shard + 1, 0};
    return place.shard < shards.size();
  }

  const std::uint64_t generation = internal::ForkGeneration();
  const bool unbounded;
  std::atomic<bool> unusable{unbounded};
  const ExpiryClock clock;
  std::vector<std::unique_ptr<MemoryShard>> shards;
};

MemoryBackend::MemoryBackend(const MemoryOptions& options)
    : parts_(std::make_unique<Parts>(options)) {}

MemoryBackend::~MemoryBackend() {
  // What a writer of the parent had half done is not to be taken apart.
  if (parts_->forked()) (void)parts_.release();
}

absl::StatusOr<bool> MemoryBackend::Find(std::string_view key, std::string& value) {
  if (!parts_->usable() || !KeyIsValid(key)) return parts_->WhyNot(key);
  const EntryTable::Hash hash = HashOf(key);
  return parts_->ShardOf(hash).Read(
      hash, key, [&](std::string_view bytes, std::int64_t) { value.assign(bytes); });
}

absl::StatusOr<std::optional<Stored>> MemoryBackend::Get(std::string_view key, Want want,
                                                         const CallOptions&) {
  if (!parts_->usable() || !KeyIsValid(key)) return parts_->WhyNot(key);
  absl::StatusOr<std::optional<Stored>> found(absl::in_place);
  const EntryTable::Hash hash = HashOf(key);
  std::int64_t until = ExpiryClock::kNever;
  const bool there =
      parts_->ShardOf(hash).Read(hash, key, [&](std::string_view bytes, std::int64_t expires) {
        found->emplace().value.assign(bytes);
        until = expires;
      });
  if (there && want == Want::kValueAndTtl) {
    const absl::Duration left = parts_->Left(until);
    if (left <= absl::ZeroDuration()) {
      found->reset();
    } else {
      (*found)->left = left;
    }
  }
  return found;
}

absl::StatusOr<std::vector<std::optional<Stored>>> MemoryBackend::GetMany(
    std::span<const std::string> keys, Want want, const CallOptions& call) {
  if (absl::Status status = parts_->CheckAll(keys); !status.ok()) return status;
  std::vector<std::optional<Stored>> found;
  found.reserve(keys.size());
  for (const std::string& key : keys) {
    absl::StatusOr<std::optional<Stored>> one = Get(key, want, call);
    if (!one.ok()) return one.status();
    found.push_back(*std::move(one));
  }
  return found;
}

absl::StatusOr<bool> MemoryBackend::Set(const Write& write, SetIf condition, const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(); !status.ok()) return status;
  if (absl::Status status = CheckWrite(write); !status.ok()) return status;
  const EntryTable::Hash hash = HashOf(write.key);
  return parts_->ShardOf(hash).Set(hash, write.key, write.value, parts_->clock.After(write.ttl),
                                   condition);
}

absl::Status MemoryBackend::SetMany(std::span<const Write> writes, const CallOptions& call) {
  if (absl::Status status = parts_->CheckWriter(); !status.ok()) return status;
  for (const Write& write : writes) {
    if (absl::Status status = CheckWrite(write); !status.ok()) return status;
  }
  for (const Write& write : writes) {
    if (absl::Status status = Set(write, SetIf::kAlways, call).status(); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> MemoryBackend::Delete(std::string_view key, const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(key); !status.ok()) return status;
  const EntryTable::Hash hash = HashOf(key);
  return parts_->ShardOf(hash).Delete(hash, key);
}

absl::StatusOr<std::int64_t> MemoryBackend::DeleteMany(std::span<const std::string> keys,
                                                       const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(); !status.ok()) return status;
  if (absl::Status status = parts_->CheckAll(keys); !status.ok()) return status;
  std::int64_t deleted = 0;
  for (const std::string& key : keys) {
    const EntryTable::Hash hash = HashOf(key);
    deleted += parts_->ShardOf(hash).Delete(hash, key) ? 1 : 0;
  }
  return deleted;
}

absl::StatusOr<bool> MemoryBackend::Exists(std::string_view key, const CallOptions&) {
  if (!parts_->usable() || !KeyIsValid(key)) return parts_->WhyNot(key);
  const EntryTable::Hash hash = HashOf(key);
  return parts_->ShardOf(hash).Peek(hash, key, [](std::string_view, std::int64_t) {});
}

absl::StatusOr<TimeLeft> MemoryBackend::Ttl(std::string_view key, const CallOptions&) {
  if (!parts_->usable() || !KeyIsValid(key)) return parts_->WhyNot(key);
  const EntryTable::Hash hash = HashOf(key);
  std::int64_t until = ExpiryClock::kNever;
  const bool there = parts_->ShardOf(hash).Peek(
      hash, key, [&](std::string_view, std::int64_t expires) { until = expires; });
  if (!there) return TimeLeft::Missing();
  const absl::Duration left = parts_->Left(until);
  return left > absl::ZeroDuration() ? TimeLeft::Of(left) : TimeLeft::Missing();
}

absl::StatusOr<bool> MemoryBackend::Expire(std::string_view key, absl::Duration ttl,
                                           const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(key); !status.ok()) return status;
  if (absl::Status status = CheckTtl(ttl); !status.ok()) return status;
  const EntryTable::Hash hash = HashOf(key);
  return parts_->ShardOf(hash).SetExpiry(hash, key, parts_->clock.After(ttl));
}

absl::StatusOr<bool> MemoryBackend::Persist(std::string_view key, const CallOptions& call) {
  return Expire(key, absl::InfiniteDuration(), call);
}

absl::StatusOr<ScanPage> MemoryBackend::Scan(std::string_view pattern, std::string_view cursor,
                                             std::size_t count, const CallOptions&) {
  if (absl::Status status = parts_->Check(); !status.ok()) return status;
  if (count == 0) return absl::InvalidArgumentError("a step of a scan looks at one key at least");
  std::optional<Place> place = parts_->ReadCursor(cursor);
  if (!place.has_value()) {
    return absl::InvalidArgumentError(StrCat(Quoted(cursor), " is no cursor of this cache"));
  }
  ScanPage page;
  const bool more = parts_->Walk(*place, count, [&](std::string_view key) {
    if (internal::GlobMatch(pattern, key)) page.keys.emplace_back(key);
  });
  if (more) page.cursor = StrCat(place->shard, ":", place->position);
  return page;
}

absl::StatusOr<std::int64_t> MemoryBackend::DeleteMatching(std::string_view pattern,
                                                           const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(); !status.ok()) return status;
  if (internal::NamesNoText(pattern)) {
    return absl::InvalidArgumentError(StrCat("the pattern ", Quoted(pattern),
                                             " would delete everything: that is what Clear does"));
  }
  std::int64_t deleted = 0;
  std::vector<std::string> keys;
  Place place;
  for (bool more = true; more;) {
    keys.clear();
    more = parts_->Walk(place, kStep, [&](std::string_view key) {
      if (internal::GlobMatch(pattern, key)) keys.emplace_back(key);
    });
    for (const std::string& key : keys) {
      const EntryTable::Hash hash = HashOf(key);
      deleted += parts_->ShardOf(hash).Delete(hash, key) ? 1 : 0;
    }
  }
  return deleted;
}

absl::Status MemoryBackend::Clear(const CallOptions&) {
  if (absl::Status status = parts_->CheckWriter(); !status.ok()) return status;
  for (const auto& shard : parts_->shards) shard->Clear();
  return absl::OkStatus();
}

absl::Status MemoryBackend::Ping(const CallOptions&) { return parts_->Check(); }

absl::Status MemoryBackend::Reconnect(const CallOptions&) { return parts_->Check(); }

void MemoryBackend::Close() {
  if (parts_->unusable.exchange(true) || parts_->forked()) return;
  for (const auto& shard : parts_->shards) shard->Clear();
}

std::optional<Backend::Usage> MemoryBackend::usage() const {
  Usage sum;
  for (const auto& shard : parts_->shards) {
    const Usage usage = shard->usage();
    sum.entries += usage.entries;
    sum.bytes += usage.bytes;
    sum.evicted += usage.evicted;
  }
  return sum;
}

}  // namespace coord
