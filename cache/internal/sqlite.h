// One connection to one SQLite file: prepared statements that are kept, waiting that ends with the
// call, and faults in the words of this library.
//
//   SqliteQuery query(connection, "SELECT value FROM t WHERE key = ?");
//   query.Bind(1, key);
//   absl::StatusOr<bool> found = query.Step();
#ifndef COORD_CACHE_INTERNAL_SQLITE_H_
#define COORD_CACHE_INTERNAL_SQLITE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/internal/deadline.h"

struct sqlite3;
struct sqlite3_stmt;

namespace coord::internal {

// Which file a path led to.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// Used by one thread at a time. What its calls return:
//   kDataLoss           the file is no sound database
//   kUnavailable        others kept it locked until the deadline, or the disk failed
//   kCancelled          the call's stop token, while waiting for others
//   kResourceExhausted  no room on the disk, or no memory
//   kPermissionDenied   the file or its directory may not be read, or not be written
//   kInternal           everything else
class SqliteConnection {
 public:
  enum class Access {
    kReadWrite,  // read only where the file is
    kImmutable,  // read only, and nobody else may write: takes no locks and needs no other files
  };
  // The file is there. Nothing of it is read before the first query.
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& path,
                                                                Access access,
                                                                const CallLimits& limits);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  // For the queries from now on.
  void set_limits(const CallLimits& limits) { limits_ = limits; }
  // Runs statements that return nothing of interest.
  absl::Status Run(const char* statements);
  // The file is no longer at its path.
  bool Moved();
  // The file, or what its header says, allows no writing.
  bool read_only();
  bool in_transaction();
  std::int64_t changes();  // rows that the last statement changed
  // Leaves the log behind on closing: deleting it by name is no business of a connection whose file
  // may have been put aside.
  void KeepLog();
  // Writes what it can of the log into the file, so that the log can begin again.
  void Checkpoint();

  FileIdentity identity;  // for its owner

 private:
  friend class SqliteQuery;
  explicit SqliteConnection(std::string path) : path_(std::move(path)) {}
  static int OnBusy(void* self, int times);
  static int OnCommit(void* self, sqlite3* db, const char* name, int pages);
  absl::Status Failure(int code);
  absl::StatusOr<sqlite3_stmt*> Prepare(const char* text);

  const std::string path_;
  sqlite3* db_ = nullptr;
  CallLimits limits_;
  int waited_at_ = 0;  // the log's pages when a commit last waited for readers
  // By the address of their text, which is a literal.
  absl::flat_hash_map<const char*, sqlite3_stmt*> statements_;
};

// One run of a statement, which is ready for the next run afterwards. What is bound is borrowed.
class SqliteQuery {
 public:
  SqliteQuery(SqliteConnection& connection, const char* text);
  ~SqliteQuery();
  SqliteQuery(const SqliteQuery&) = delete;
  SqliteQuery& operator=(const SqliteQuery&) = delete;

  SqliteQuery& Bind(int index, std::int64_t value);
  SqliteQuery& Bind(int index, std::string_view bytes);
  // Whether there is a row.
  absl::StatusOr<bool> Step();
  // Runs it to its end.
  absl::Status Finish();

  std::int64_t Int(int column);
  // Valid until the next step.
  std::string_view Bytes(int column);

 private:
  SqliteConnection& connection_;
  sqlite3_stmt* statement_ = nullptr;
  absl::Status status_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SQLITE_H_
