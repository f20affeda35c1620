// The entries of a disk cache, one statement at a time: what a row means, how long it lives, what
// room it takes.
#ifndef COORD_CACHE_INTERNAL_SQLITE_ENTRIES_H_
#define COORD_CACHE_INTERNAL_SQLITE_ENTRIES_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/internal/sqlite.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// Thread-safe; what takes a connection is called by who has it. Reads run in any state of the
// connection, what writes within a transaction that Begin() has begun to look at.
class SqliteEntries {
 public:
  SqliteEntries(std::uint64_t max_bytes, std::function<absl::Time()> now)
      : max_bytes_(max_bytes), now_(std::move(now)) {}

  struct Entry {
    std::int64_t id = 0;
    std::int64_t expires = 0;  // milliseconds since 1970, kNever
    std::int64_t ttl = 0;      // milliseconds as given, kNever
    std::string value;
    absl::Duration left = absl::InfiniteDuration();
  };
  enum class Part { kHead, kAll };  // kHead: without the value, which is not looked at
  // nullopt: it is not there, has expired, or is damaged.
  absl::StatusOr<std::optional<Entry>> Find(SqliteConnection& connection, std::string_view key,
                                            Part part);
  // As Find, and remembers the use.
  absl::StatusOr<std::optional<Stored>> Read(SqliteConnection& connection, std::string_view key,
                                             Want want);

  // What goes on in one transaction that writes.
  struct Change {
    std::int64_t now = 0;
    std::int64_t entries = 0;
    std::int64_t tick = 0;
    std::int64_t evicted = 0;
    std::int64_t expired = 0;
  };
  // Writes down what was used, and removes some of what has expired.
  absl::StatusOr<Change> Begin(SqliteConnection& connection);
  // Gives some free pages back to the disk.
  absl::Status End(SqliteConnection& connection, const Change& change);
  // It has been committed.
  void Done(const Change& change);

  // Makes room first. The value has been found to fit.
  absl::Status Put(SqliteConnection& connection, Change& change, const Write& write);
  // Whether there was a row.
  absl::StatusOr<bool> Remove(SqliteConnection& connection, Change& change, std::string_view key);
  absl::Status SetExpiry(SqliteConnection& connection, const Change& change, const Entry& entry,
                         std::string_view key, absl::Duration ttl);

  // The next at most `count` rows behind `after` that begin with `prefix`; those that are not there
  // for readers are left out of `keys`.
  struct Step {
    std::vector<std::string> keys;
    std::string last;
    bool end = false;
  };
  absl::StatusOr<Step> Walk(SqliteConnection& connection, std::string_view prefix,
                            std::string_view after, std::size_t count);

  absl::StatusOr<Backend::Usage> Usage(SqliteConnection& connection) const;
  bool Fits(const Write& write) const;
  // Something was read whose use has not been written down yet.
  bool HasUses();

  std::uint64_t damaged() const { return damaged_.load(std::memory_order_relaxed); }
  std::uint64_t evicted() const { return evicted_.load(std::memory_order_relaxed); }
  std::uint64_t expired() const { return expired_.load(std::memory_order_relaxed); }

 private:
  std::int64_t Now() const;
  absl::Status MakeRoom(SqliteConnection& connection, Change& change, std::uint64_t bytes);
  void NoteUse(std::int64_t id, std::int64_t used);

  const std::uint64_t max_bytes_;
  const std::function<absl::Time()> now_;
  std::atomic<std::uint64_t> damaged_ = 0;
  std::atomic<std::uint64_t> evicted_ = 0;
  std::atomic<std::uint64_t> expired_ = 0;
  // As of the last transaction of ours; what is used is told only when it was not used lately.
  std::atomic<std::int64_t> tick_ = 0;
  std::atomic<std::int64_t> coarse_ = 0;

  Mutex mutex_;
  absl::flat_hash_set<std::int64_t> uses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SQLITE_ENTRIES_H_
