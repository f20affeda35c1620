#include "cache/internal/sqlite_pool.h"

#include <optional>
#include <stop_token>
#include <utility>

#include "coord/internal/fork.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// More threads than these open connections that last for one call.
constexpr std::size_t kMaxIdle = 16;
constexpr int kAttempts = 3;

}  // namespace

SqlitePool::SqlitePool(SqliteFile::Options file, absl::Duration timeout)
    : generation_(ForkGeneration()), timeout_(timeout), file_(std::move(file)) {}

SqlitePool::~SqlitePool() {
  if (ForkGeneration() == generation_) return;
  for (std::unique_ptr<SqliteConnection>& connection : idle_) (void)connection.release();
}

absl::Status SqlitePool::Usable() const {
  if (ForkGeneration() != generation_) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      "this disk cache was opened by the parent of this process; open another one "
                      "after fork");
  }
  if (closed_.load(std::memory_order_acquire)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition, "the cache is closed");
  }
  return absl::OkStatus();
}

absl::Status SqlitePool::Read(const CallOptions& call, const Body& body) {
  return Run(Kind::kRead, call, body);
}

absl::Status SqlitePool::Change(const CallOptions& call, const Body& body) {
  return Run(Kind::kChange, call, body);
}

absl::Status SqlitePool::Run(Kind kind, const CallOptions& call, const Body& body) {
  if (absl::Status usable = Usable(); !usable.ok()) return usable;
  const absl::Duration timeout = call.timeout.value_or(timeout_);
  if (timeout <= absl::ZeroDuration() || timeout > absl::Hours(24)) {
    return InvalidArgument(
        StrCat("timeout is ", ToText(timeout), "; it must be above 0 and at most 24h"));
  }
  if (call.stop.stop_requested()) {
    return MakeStatus(absl::StatusCode::kCancelled, "the stop token was set; nothing was done");
  }
  const CallLimits limits{DeadlineAfter(timeout), call.stop};
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (kind == Kind::kChange) {
      if (absl::Status turn = TakeTurn(limits); !turn.ok()) return turn;
    }
    FileIdentity identity;
    std::optional<SqliteFile::PutAside> moved;
    {
      const std::uint64_t epoch = epoch_.load(std::memory_order_acquire);
      absl::StatusOr<std::unique_ptr<SqliteConnection>> connection = Take(limits, moved);
      if (connection.ok()) {
        identity = (*connection)->identity;
        status = kind == Kind::kChange ? InTransaction(**connection, body) : body(**connection);
        // What a damaged file or a missing table has made of its state is not worth knowing.
        if (status.code() == absl::StatusCode::kDataLoss ||
            status.code() == absl::StatusCode::kInternal) {
          connection->reset();
        } else {
          GiveBack(*std::move(connection), epoch);
        }
      } else {
        status = connection.status();
      }
    }
    if (kind == Kind::kChange) EndTurn();
    if (moved) file_.Tell(*moved);
    if (status.code() != absl::StatusCode::kDataLoss || identity == FileIdentity()) return status;
    // Those of other calls lead to the same file.
    Drop();
    if (absl::Status done = file_.Replace(identity, status, limits); !done.ok()) return done;
  }
  return status;
}

absl::Status SqlitePool::InTransaction(SqliteConnection& connection, const Body& body) {
  absl::Status status = SqliteQuery(connection, "BEGIN IMMEDIATE").Finish();
  if (!status.ok()) return status;
  status = body(connection);
  if (status.ok()) status = SqliteQuery(connection, "COMMIT").Finish();
  if (connection.in_transaction()) SqliteQuery(connection, "ROLLBACK").Finish().IgnoreError();
  // With no room for another commit, none would ever bring the log into the file.
  if (status.code() == absl::StatusCode::kResourceExhausted) connection.Checkpoint();
  return status;
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqlitePool::Take(
    const CallLimits& limits, std::optional<SqliteFile::PutAside>& moved) {
  while (true) {
    std::unique_ptr<SqliteConnection> connection;
    {
      const MutexLock lock(mutex_);
      if (idle_.empty()) break;
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
    if (connection->Moved()) continue;
    connection->set_limits(limits);
    return connection;
  }
  return file_.Connect(limits, moved);
}

void SqlitePool::GiveBack(std::unique_ptr<SqliteConnection> connection, std::uint64_t epoch) {
  connection->set_limits({.deadline = SteadyTime(), .stop = {}});  // closing waits for nobody
  const MutexLock lock(mutex_);
  if (epoch_.load(std::memory_order_relaxed) == epoch && idle_.size() < kMaxIdle &&
      !closed_.load(std::memory_order_relaxed)) {
    idle_.push_back(std::move(connection));
  }
}

absl::Status SqlitePool::TakeTurn(const CallLimits& limits) {
  const std::stop_callback wake(limits.stop, [this] {
    const MutexLock lock(turn_mutex_);
    turn_ended_.NotifyAll();
  });
  const MutexLock lock(turn_mutex_);
  while (writing_) {
    if (limits.stop.stop_requested()) {
      return MakeStatus(absl::StatusCode::kCancelled, "the stop token was set; nothing was done");
    }
    if (Passed(limits.deadline)) {
      return MakeStatus(absl::StatusCode::kUnavailable,
                        StrCat(Quoted(file_.path()),
                               ": other threads of this process wrote for the whole time that the "
                               "call had; nothing was done. Try again, or give the call more time"),
                        kUnavailable);
    }
    turn_ended_.WaitUntil(turn_mutex_, limits.deadline);
  }
  writing_ = true;
  return absl::OkStatus();
}

void SqlitePool::EndTurn() {
  const MutexLock lock(turn_mutex_);
  writing_ = false;
  turn_ended_.NotifyOne();
}

void SqlitePool::Drop() {
  std::vector<std::unique_ptr<SqliteConnection>> dropped;
  {
    const MutexLock lock(mutex_);
    epoch_.fetch_add(1, std::memory_order_acq_rel);
    dropped.swap(idle_);
  }
}

void SqlitePool::Close() {
  if (ForkGeneration() != generation_) return;
  closed_.store(true, std::memory_order_release);
  Drop();
}

}  // namespace coord::internal
