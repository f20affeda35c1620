#include "cache/internal/sqlite_entries.h"

#include <algorithm>
#include <utility>

#include "cache/internal/sqlite_checksum.h"
#include "cache/internal/sqlite_file.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// How much longer than its time to live an entry may go on because the clock went back.
constexpr std::int64_t kClockSlackMs = 60'000;
constexpr std::size_t kMaxUses = 1024;
constexpr std::int64_t kPageBytes = 4096;
// What a row may take beside its key and its value, in the table and in three indexes.
constexpr std::uint64_t kRowBytes = 128;
// New pages that a row may need beside those for its bytes: inner pages, split ones, pointer maps.
constexpr std::int64_t kSparePages = 8;
// Free pages that stay in the file for the next writes.
constexpr std::int64_t kFreePages = 64;

std::int64_t HeadSum(std::string_view key, std::int64_t expires, std::int64_t ttl) {
  return Checksum()
      .Add(key)
      .Add(static_cast<std::uint64_t>(expires))
      .Add(static_cast<std::uint64_t>(ttl))
      .value();
}

std::int64_t BodySum(std::string_view value) { return Checksum().Add(value).value(); }

// How long it lives on; zero: no longer.
std::int64_t Left(std::int64_t now, std::int64_t expires, std::int64_t ttl) {
  if (expires == kNever) return kNever;
  if (expires <= now) return 0;
  const std::int64_t left = expires - now;
  if (left - kClockSlackMs > ttl) return 0;
  return std::min(left, ttl);
}

absl::Duration ToDuration(std::int64_t ms) {
  return ms == kNever ? absl::InfiniteDuration() : absl::Milliseconds(ms);
}

std::int64_t ToMs(absl::Duration ttl) {
  return ttl == absl::InfiniteDuration() ? kNever : CeilMilliseconds(ttl);
}

std::int64_t ExpiresAt(std::int64_t now, std::int64_t ttl) {
  return ttl >= kNever - now ? kNever : now + ttl;
}

absl::StatusOr<std::int64_t> Number(SqliteConnection& connection, const char* text) {
  SqliteQuery query(connection, text);
  const absl::StatusOr<bool> row = query.Step();
  if (!row.ok()) return row.status();
  if (!*row) return MakeStatus(absl::StatusCode::kDataLoss, "the cache's file lacks its totals");
  return query.Int(0);
}

absl::StatusOr<std::int64_t> FreePages(SqliteConnection& connection) {
  return Number(connection, "PRAGMA freelist_count");
}

absl::StatusOr<std::int64_t> UsedPages(SqliteConnection& connection) {
  const absl::StatusOr<std::int64_t> pages = Number(connection, "PRAGMA page_count");
  if (!pages.ok()) return pages;
  const absl::StatusOr<std::int64_t> free = FreePages(connection);
  if (!free.ok()) return free;
  if (*free < 0 || *free > *pages) {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      "more pages of the cache's file are free than "
                      "it has");
  }
  return *pages - *free;
}

std::uint64_t Bytes(const Write& write) {
  // The key stands in an index as well.
  return 2 * write.key.size() + write.value.size() + kRowBytes;
}

}  // namespace

std::int64_t SqliteEntries::Now() const {
  absl::Time now = absl::Now();
  if (now_) {
    try {
      now = now_();
    } catch (...) {
      // Then that of the host.
    }
  }
  return absl::ToUnixMillis(now);
}

absl::StatusOr<std::optional<SqliteEntries::Entry>> SqliteEntries::Find(
    SqliteConnection& connection, std::string_view key, Part part) {
  SqliteQuery query(connection,
                    part == Part::kAll
                        ? "SELECT id, key, expires, ttl, head, used, body, value FROM "
                          "coord_cache_entries WHERE key = ?"
                        : "SELECT id, key, expires, ttl, head FROM coord_cache_entries WHERE "
                          "key = ?");
  const absl::StatusOr<bool> row = query.Bind(1, key).Step();
  if (!row.ok()) return row.status();
  if (!*row) return std::nullopt;
  Entry entry{.id = query.Int(0), .expires = query.Int(2), .ttl = query.Int(3), .value = {}};
  // The index led here; only the row itself says whose it is.
  bool sound = query.Bytes(1) == key && HeadSum(key, entry.expires, entry.ttl) == query.Int(4);
  std::int64_t left = 0;
  if (sound) {
    left = Left(Now(), entry.expires, entry.ttl);
    if (left == 0) return std::nullopt;
    if (part == Part::kAll) {
      const std::string_view value = query.Bytes(7);
      sound = BodySum(value) == query.Int(6);
      entry.value = value;
    }
  }
  if (!sound) {
    damaged_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  if (part == Part::kAll) NoteUse(entry.id, query.Int(5));
  entry.left = ToDuration(left);
  return entry;
}

absl::StatusOr<std::optional<Stored>> SqliteEntries::Read(SqliteConnection& connection,
                                                          std::string_view key, Want want) {
  absl::StatusOr<std::optional<Entry>> entry = Find(connection, key, Part::kAll);
  if (!entry.ok()) return entry.status();
  if (!*entry) return std::nullopt;
  Stored stored{.value = std::move((*entry)->value)};
  if (want == Want::kValueAndTtl) stored.left = (*entry)->left;
  return stored;
}

void SqliteEntries::NoteUse(std::int64_t id, std::int64_t used) {
  const std::int64_t known = tick_.load(std::memory_order_relaxed);
  // Others write too: what they wrote tells how far the ticks are.
  if (used > known) {
    tick_.store(used, std::memory_order_relaxed);
    return;
  }
  if (known - used <= coarse_.load(std::memory_order_relaxed)) return;
  const MutexLock lock(mutex_);
  if (uses_.size() < kMaxUses) uses_.insert(id);
}

bool SqliteEntries::HasUses() {
  const MutexLock lock(mutex_);
  return !uses_.empty();
}

absl::StatusOr<SqliteEntries::Change> SqliteEntries::Begin(SqliteConnection& connection) {
  Change change{.now = Now()};
  {
    SqliteQuery totals(connection, "SELECT entries, tick FROM coord_cache_totals WHERE id = 1");
    const absl::StatusOr<bool> row = totals.Step();
    if (!row.ok()) return row.status();
    if (!*row) return MakeStatus(absl::StatusCode::kDataLoss, "the cache's file lacks its totals");
    change.entries = totals.Int(0);
    // A damaged one must not run over.
    change.tick = std::clamp<std::int64_t>(totals.Int(1), 0, kNever / 2) + 1;
  }
  absl::flat_hash_set<std::int64_t> uses;
  {
    const MutexLock lock(mutex_);
    uses.swap(uses_);
  }
  for (const std::int64_t id : uses) {
    SqliteQuery use(connection, "UPDATE coord_cache_entries SET used = ? WHERE id = ?");
    if (absl::Status done = use.Bind(1, change.tick).Bind(2, id).Finish(); !done.ok()) return done;
  }
  if (!uses.empty()) ++change.tick;  // what is written now is newer still
  SqliteQuery expired(connection,
                      "DELETE FROM coord_cache_entries WHERE id IN (SELECT id FROM "
                      "coord_cache_entries WHERE expires <= ? AND expires < 9223372036854775807 "
                      "LIMIT 64)");
  if (absl::Status done = expired.Bind(1, change.now).Finish(); !done.ok()) return done;
  change.expired = connection.changes();
  change.entries -= change.expired;
  return change;
}

absl::Status SqliteEntries::End(SqliteConnection& connection, const Change& change) {
  {
    SqliteQuery totals(connection,
                       "UPDATE coord_cache_totals SET entries = ?, tick = ? WHERE id = 1");
    absl::Status done =
        totals.Bind(1, std::max<std::int64_t>(change.entries, 0)).Bind(2, change.tick).Finish();
    if (!done.ok()) return done;
  }
  const absl::StatusOr<std::int64_t> free = FreePages(connection);
  if (!free.ok()) return free.status();
  if (*free <= kFreePages) return absl::OkStatus();
  return SqliteQuery(connection, "PRAGMA incremental_vacuum(64)").Finish();
}

void SqliteEntries::Done(const Change& change) {
  tick_.store(change.tick, std::memory_order_relaxed);
  coarse_.store(change.entries / 8, std::memory_order_relaxed);
  evicted_.fetch_add(static_cast<std::uint64_t>(change.evicted), std::memory_order_relaxed);
  expired_.fetch_add(static_cast<std::uint64_t>(change.expired), std::memory_order_relaxed);
}

absl::Status SqliteEntries::MakeRoom(SqliteConnection& connection, Change& change,
                                     std::uint64_t bytes) {
  const std::int64_t most = static_cast<std::int64_t>(max_bytes_) / kPageBytes;
  const std::int64_t need = static_cast<std::int64_t>(bytes) / (kPageBytes - 16) + kSparePages;
  while (true) {
    const absl::StatusOr<std::int64_t> used = UsedPages(connection);
    if (!used.ok()) return used.status();
    if (*used + need <= most || change.entries <= 0) return absl::OkStatus();
    // Few at a time where one may free much, many where each frees little.
    SqliteQuery oldest(connection,
                       "DELETE FROM coord_cache_entries WHERE id IN (SELECT id FROM "
                       "coord_cache_entries ORDER BY used, id LIMIT ?)");
    const std::int64_t average = std::max<std::int64_t>(*used * kPageBytes / change.entries, 1);
    const std::int64_t excess = (*used + need - most) * kPageBytes;
    const std::int64_t batch = std::clamp<std::int64_t>(excess / average, 1, 256);
    if (absl::Status done = oldest.Bind(1, batch).Finish(); !done.ok()) return done;
    const std::int64_t gone = connection.changes();
    if (gone == 0) {
      // Either there are fewer than was counted, or the index names rows that are not there.
      const absl::StatusOr<std::int64_t> rows =
          Number(connection, "SELECT count(*) FROM coord_cache_entries NOT INDEXED");
      if (!rows.ok()) return rows.status();
      if (*rows > 0) {
        return MakeStatus(absl::StatusCode::kDataLoss,
                          "an index of the cache's file does not fit its table");
      }
      change.entries = 0;
      return absl::OkStatus();
    }
    change.entries -= gone;
    change.evicted += gone;
  }
}

absl::StatusOr<bool> SqliteEntries::Remove(SqliteConnection& connection, Change& change,
                                           std::string_view key) {
  SqliteQuery query(connection, "DELETE FROM coord_cache_entries WHERE key = ?");
  if (absl::Status done = query.Bind(1, key).Finish(); !done.ok()) return done;
  const std::int64_t gone = connection.changes();
  change.entries -= gone;
  return gone > 0;
}

absl::Status SqliteEntries::Put(SqliteConnection& connection, Change& change, const Write& write) {
  const absl::StatusOr<bool> removed = Remove(connection, change, write.key);
  if (!removed.ok()) return removed.status();
  if (absl::Status made = MakeRoom(connection, change, Bytes(write)); !made.ok()) return made;
  const std::int64_t ttl = ToMs(write.ttl);
  const std::int64_t expires = ExpiresAt(change.now, ttl);
  SqliteQuery query(connection,
                    "INSERT INTO coord_cache_entries(key, expires, ttl, used, head, body, value) "
                    "VALUES(?, ?, ?, ?, ?, ?, ?)");
  query.Bind(1, write.key).Bind(2, expires).Bind(3, ttl).Bind(4, change.tick);
  query.Bind(5, HeadSum(write.key, expires, ttl)).Bind(6, BodySum(write.value));
  if (absl::Status done = query.Bind(7, write.value).Finish(); !done.ok()) return done;
  ++change.entries;
  return absl::OkStatus();
}

absl::Status SqliteEntries::SetExpiry(SqliteConnection& connection, const Change& change,
                                      const Entry& entry, std::string_view key,
                                      absl::Duration ttl) {
  const std::int64_t ms = ToMs(ttl);
  const std::int64_t expires = ExpiresAt(change.now, ms);
  SqliteQuery query(connection,
                    "UPDATE coord_cache_entries SET expires = ?, ttl = ?, head = ? WHERE id = ?");
  query.Bind(1, expires).Bind(2, ms).Bind(3, HeadSum(key, expires, ms));
  return query.Bind(4, entry.id).Finish();
}

absl::StatusOr<SqliteEntries::Step> SqliteEntries::Walk(SqliteConnection& connection,
                                                        std::string_view prefix,
                                                        std::string_view after, std::size_t count) {
  // A key is never empty, so "behind nothing" leaves none out; one may be the prefix itself.
  const bool at_prefix = after < prefix;
  SqliteQuery query(connection, at_prefix
                                    ? "SELECT key, expires, ttl, head FROM coord_cache_entries "
                                      "WHERE key >= ? ORDER BY key LIMIT ?"
                                    : "SELECT key, expires, ttl, head FROM coord_cache_entries "
                                      "WHERE key > ? ORDER BY key LIMIT ?");
  query.Bind(1, at_prefix ? prefix : after).Bind(2, static_cast<std::int64_t>(count));
  const std::int64_t now = Now();
  Step step;
  for (std::size_t seen = 0; seen < count; ++seen) {
    const absl::StatusOr<bool> row = query.Step();
    if (!row.ok()) return row.status();
    if (!*row || (query.Bytes(0).substr(0, prefix.size()) > prefix)) {
      step.end = true;
      break;
    }
    const std::string_view key = query.Bytes(0);
    // In a damaged index the order may not hold, and then a cursor would go round for ever.
    if (key <= step.last || key <= after) {
      return MakeStatus(absl::StatusCode::kDataLoss,
                        "an index of the cache's file is out of order");
    }
    step.last = key;
    if (HeadSum(key, query.Int(1), query.Int(2)) != query.Int(3)) {
      damaged_.fetch_add(1, std::memory_order_relaxed);
    } else if (Left(now, query.Int(1), query.Int(2)) > 0) {
      step.keys.push_back(step.last);
    }
  }
  return step;
}

absl::StatusOr<Backend::Usage> SqliteEntries::Usage(SqliteConnection& connection) const {
  const absl::StatusOr<std::int64_t> entries =
      Number(connection, "SELECT entries FROM coord_cache_totals WHERE id = 1");
  if (!entries.ok()) return entries.status();
  const absl::StatusOr<std::int64_t> pages = UsedPages(connection);
  if (!pages.ok()) return pages.status();
  return Backend::Usage{.entries = static_cast<std::uint64_t>(std::max<std::int64_t>(*entries, 0)),
                        .bytes = static_cast<std::uint64_t>(*pages * kPageBytes),
                        .evicted = evicted()};
}

bool SqliteEntries::Fits(const Write& write) const { return Bytes(write) <= max_bytes_ / 2; }

}  // namespace coord::internal
