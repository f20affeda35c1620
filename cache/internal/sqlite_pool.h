// The connections of one process to one file: each call has one for itself, writers of the process
// take turns, and a damaged file is replaced and the call repeated.
#ifndef COORD_CACHE_INTERNAL_SQLITE_POOL_H_
#define COORD_CACHE_INTERNAL_SQLITE_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/internal/sqlite.h"
#include "cache/internal/sqlite_file.h"
#include "coord/internal/deadline.h"
#include "coord/internal/sync.h"
#include "coord/options.h"

namespace coord::internal {

// Thread-safe. In a forked child everything but the destructor is kFailedPrecondition, and that one
// closes nothing: SQLite forbids a child to touch its parent's connections.
class SqlitePool {
 public:
  SqlitePool(SqliteFile::Options file, absl::Duration timeout);
  ~SqlitePool();
  SqlitePool(const SqlitePool&) = delete;
  SqlitePool& operator=(const SqlitePool&) = delete;

  // May run a second time, with a new and empty file, when it said kDataLoss: it begins afresh.
  using Body = std::function<absl::Status(SqliteConnection&)>;
  absl::Status Read(const CallOptions& call, const Body& body);
  // In a transaction, which is undone unless `body` returns OK.
  absl::Status Change(const CallOptions& call, const Body& body);

  // OK, or why no call can do anything: closed, or a forked child.
  absl::Status Usable() const;
  // Closes the connections that nobody uses; the others when they are given back.
  void Drop();
  void Close();

  const SqliteFile& file() const { return file_; }

 private:
  enum class Kind { kRead, kChange };
  absl::Status Run(Kind kind, const CallOptions& call, const Body& body);
  absl::StatusOr<std::unique_ptr<SqliteConnection>> Take(
      const CallLimits& limits, std::optional<SqliteFile::PutAside>& moved);
  void GiveBack(std::unique_ptr<SqliteConnection> connection, std::uint64_t epoch);
  absl::Status InTransaction(SqliteConnection& connection, const Body& body);
  absl::Status TakeTurn(const CallLimits& limits);
  void EndTurn();

  const std::uint64_t generation_;
  const absl::Duration timeout_;
  SqliteFile file_;
  std::atomic<bool> closed_ = false;

  Mutex mutex_;
  std::vector<std::unique_ptr<SqliteConnection>> idle_ ABSL_GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> epoch_ = 0;  // goes up when those in use are not to be kept

  Mutex turn_mutex_;
  CondVar turn_ended_;
  bool writing_ ABSL_GUARDED_BY(turn_mutex_) = false;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SQLITE_POOL_H_
