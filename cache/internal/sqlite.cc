#include "cache/internal/sqlite.h"

#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// As a URI, in which options can be told.
std::string Uri(const std::string& path, std::string_view options) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '#') {
      const auto byte = static_cast<unsigned char>(c);
      uri.push_back('%');
      uri.push_back(kHex[byte >> 4]);
      uri.push_back(kHex[byte & 15]);
    } else {
      uri.push_back(c);
    }
  }
  return StrCat(uri, "?", options);
}

// Pages of the log from which on each commit brings into the file what readers allow, and from
// which on it also waits for them, once each so many pages.
constexpr int kCheckpointPages = 1000;
constexpr int kLongLogPages = 2000;
constexpr auto kLongLogPatience = std::chrono::milliseconds(50);

bool NoRoom(int error) { return error == ENOSPC || error == EFBIG || error == EDQUOT; }

bool NotAllowed(int error) { return error == EACCES || error == EPERM || error == EROFS; }

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path,
                                                                         Access access,
                                                                         const CallLimits& limits) {
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(path));
  connection->limits_ = limits;
  const bool immutable = access == Access::kImmutable;
  // One thread at a time uses it, so it needs no locks of its own.
  const int flags = (immutable ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(Uri(path, immutable ? "immutable=1" : "cache=private").c_str(),
                                   &connection->db_, flags, nullptr);
  if (code != SQLITE_OK) return connection->Failure(code);
  sqlite3_busy_handler(connection->db_, &OnBusy, connection.get());
  sqlite3_wal_hook(connection->db_, &OnCommit, connection.get());
  // A damaged file may say anything: trust none of it.
  sqlite3_db_config(connection->db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection->db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(connection->db_, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  if (absl::Status set = connection->Run("PRAGMA cell_size_check=ON"); !set.ok()) return set;
  return connection;
}

SqliteConnection::~SqliteConnection() {
  for (const auto& [text, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(db_);
}

int SqliteConnection::OnBusy(void* self, int times) {
  const CallLimits& limits = static_cast<SqliteConnection*>(self)->limits_;
  if (limits.stop.stop_requested() || Passed(limits.deadline)) return 0;
  // Nobody tells when a lock of another process is given back: ask again, ever more rarely.
  const auto pause = std::chrono::microseconds(std::min(100 << std::min(times, 7), 10000));
  const auto left = limits.deadline - std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(pause, left));
  return 1;
}

// The log begins again only when no reader needs it any more. Where one always comes before the
// last is gone it would grow without end, unless those that come wait for the file to be whole.
int SqliteConnection::OnCommit(void* self, sqlite3* db, const char* name, int pages) {
  auto& connection = *static_cast<SqliteConnection*>(self);
  if (pages < kCheckpointPages) return SQLITE_OK;
  if (pages < kLongLogPages) connection.waited_at_ = 0;
  const bool wait = pages >= connection.waited_at_ + kLongLogPages;
  const SteadyTime deadline = connection.limits_.deadline;
  if (wait) {
    connection.waited_at_ = pages - kCheckpointPages;
    connection.limits_.deadline =
        std::min(deadline, std::chrono::steady_clock::now() + kLongLogPatience);
  }
  sqlite3_wal_checkpoint_v2(db, name, wait ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE,
                            nullptr, nullptr);
  connection.limits_.deadline = deadline;
  return SQLITE_OK;  // it has been committed all the same
}

absl::Status SqliteConnection::Failure(int code) {
  const int error = db_ == nullptr ? 0 : sqlite3_system_errno(db_);
  const char* const text = db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_);
  std::string what = StrCat(Quoted(path_), ": ", text);
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
      if (limits_.stop.stop_requested()) {
        return MakeStatus(absl::StatusCode::kCancelled,
                          StrCat(what, ": the stop token was set; nothing was done"));
      }
      return MakeStatus(absl::StatusCode::kUnavailable,
                        StrCat(what,
                               ": other processes kept it locked for the whole time that the "
                               "call had; nothing was done. Try again, or give the call more "
                               "time"),
                        kUnavailable);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return MakeStatus(absl::StatusCode::kDataLoss, what);
    case SQLITE_FULL:
      return MakeStatus(absl::StatusCode::kResourceExhausted,
                        StrCat(what, ": there is no room on the disk; nothing was done"));
    case SQLITE_NOMEM:
      return MakeStatus(absl::StatusCode::kResourceExhausted, what);
    case SQLITE_TOOBIG:
      return InvalidArgument(what);
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return MakeStatus(absl::StatusCode::kPermissionDenied,
                        StrCat(what, ": the file or its directory may not be written"));
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      if (code == SQLITE_IOERR_CORRUPTFS) return MakeStatus(absl::StatusCode::kDataLoss, what);
      if (code == SQLITE_IOERR_NOMEM) {
        return MakeStatus(absl::StatusCode::kResourceExhausted, what);
      }
      if (error != 0) what = StrCat(what, ": ", strerrordesc_np(error));
      if (NoRoom(error)) {
        return MakeStatus(absl::StatusCode::kResourceExhausted,
                          StrCat(what,
                                 ": there is no room on the disk, or the file may not grow; "
                                 "nothing was done"));
      }
      if (NotAllowed(error)) return MakeStatus(absl::StatusCode::kPermissionDenied, what);
      return MakeStatus(absl::StatusCode::kUnavailable, what, kUnavailable);
    default:
      return MakeStatus(absl::StatusCode::kInternal, what);
  }
}

absl::Status SqliteConnection::Run(const char* statements) {
  const int code = sqlite3_exec(db_, statements, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Failure(code);
}

absl::StatusOr<sqlite3_stmt*> SqliteConnection::Prepare(const char* text) {
  sqlite3_stmt*& statement = statements_[text];
  if (statement == nullptr) {
    const int code =
        sqlite3_prepare_v3(db_, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) return Failure(code);
  }
  return statement;
}

bool SqliteConnection::Moved() {
  int moved = 0;
  sqlite3_file_control(db_, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  return moved != 0;
}

bool SqliteConnection::read_only() { return sqlite3_db_readonly(db_, "main") == 1; }

bool SqliteConnection::in_transaction() { return sqlite3_get_autocommit(db_) == 0; }

std::int64_t SqliteConnection::changes() { return sqlite3_changes64(db_); }

void SqliteConnection::KeepLog() {
  int keep = 1;
  sqlite3_file_control(db_, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
}

void SqliteConnection::Checkpoint() {
  sqlite3_wal_checkpoint_v2(db_, "main", SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
}

SqliteQuery::SqliteQuery(SqliteConnection& connection, const char* text) : connection_(connection) {
  absl::StatusOr<sqlite3_stmt*> statement = connection.Prepare(text);
  if (statement.ok()) {
    statement_ = *statement;
  } else {
    status_ = statement.status();
  }
}

SqliteQuery::~SqliteQuery() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

SqliteQuery& SqliteQuery::Bind(int index, std::int64_t value) {
  if (!status_.ok()) return *this;
  const int code = sqlite3_bind_int64(statement_, index, value);
  if (code != SQLITE_OK) status_ = connection_.Failure(code);
  return *this;
}

SqliteQuery& SqliteQuery::Bind(int index, std::string_view bytes) {
  if (!status_.ok()) return *this;
  // A null pointer would be NULL, which is no empty value.
  const char* const data = bytes.empty() ? "" : bytes.data();
  const int code = sqlite3_bind_blob64(statement_, index, data, bytes.size(), SQLITE_STATIC);
  if (code != SQLITE_OK) status_ = connection_.Failure(code);
  return *this;
}

absl::StatusOr<bool> SqliteQuery::Step() {
  if (!status_.ok()) return status_;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return connection_.Failure(code);
}

absl::Status SqliteQuery::Finish() {
  while (true) {
    const absl::StatusOr<bool> row = Step();
    if (!row.ok()) return row.status();
    if (!*row) return absl::OkStatus();
  }
}

std::int64_t SqliteQuery::Int(int column) { return sqlite3_column_int64(statement_, column); }

std::string_view SqliteQuery::Bytes(int column) {
  const void* const data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return {static_cast<const char*>(data), data == nullptr ? 0 : static_cast<std::size_t>(size)};
}

}  // namespace coord::internal
