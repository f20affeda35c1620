#include "cache/internal/sqlite_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

using Access = SqliteConnection::Access;

constexpr std::int64_t kApplicationId = 0x636f7264;  // "cord"
constexpr std::int64_t kVersion = 1;

// What stands in sqlite_schema, by name, letter for letter. A later version differs in it.
// `head` is the checksum of key, expires and ttl, `body` that of the value; what readers look at
// most comes first, since a long value goes on in other pages.
constexpr char kEntries[] =
    "CREATE TABLE coord_cache_entries(id INTEGER PRIMARY KEY, key BLOB NOT NULL, expires INTEGER "
    "NOT NULL, ttl INTEGER NOT NULL, used INTEGER NOT NULL, head INTEGER NOT NULL, body INTEGER "
    "NOT NULL, value BLOB NOT NULL)";
constexpr char kByExpiry[] =
    "CREATE INDEX coord_cache_by_expiry ON coord_cache_entries(expires) WHERE expires < "
    "9223372036854775807";
constexpr char kByKey[] = "CREATE UNIQUE INDEX coord_cache_by_key ON coord_cache_entries(key)";
constexpr char kByUse[] = "CREATE INDEX coord_cache_by_use ON coord_cache_entries(used)";
constexpr char kTotals[] =
    "CREATE TABLE coord_cache_totals(id INTEGER PRIMARY KEY, entries INTEGER NOT NULL, tick "
    "INTEGER NOT NULL)";

const std::map<std::string_view, std::string_view>& Schema() {
  static const auto* const schema = new std::map<std::string_view, std::string_view>{
      {"coord_cache_entries", kEntries}, {"coord_cache_by_expiry", kByExpiry},
      {"coord_cache_by_key", kByKey},    {"coord_cache_by_use", kByUse},
      {"coord_cache_totals", kTotals},
  };
  return *schema;
}

absl::Status SystemError(std::string_view doing, std::string_view path, int error) {
  const std::string what = StrCat(doing, " ", Quoted(path), ": ", strerrordesc_np(error));
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return MakeStatus(absl::StatusCode::kPermissionDenied, what);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return MakeStatus(absl::StatusCode::kResourceExhausted, what);
    case ENOTDIR:
    case EISDIR:
      return MakeStatus(absl::StatusCode::kFailedPrecondition, what);
    default:
      return MakeStatus(absl::StatusCode::kUnavailable, what, kUnavailable);
  }
}

// Makes what is missing on the way, for the owner alone.
absl::Status MakeDirectories(const std::string& directory) {
  if (directory.empty()) return absl::OkStatus();
  for (std::size_t at = 0; at != std::string::npos;) {
    at = directory.find('/', at + 1);
    const std::string part = directory.substr(0, at);
    struct stat there {};
    if (stat(part.c_str(), &there) == 0) continue;
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return SystemError("cannot make the directory", part, errno);
    }
  }
  return absl::OkStatus();
}

std::optional<FileIdentity> IdentityOf(const std::string& path) {
  struct stat there {};
  if (stat(path.c_str(), &there) != 0) return std::nullopt;
  return FileIdentity{there.st_dev, there.st_ino};
}

absl::StatusOr<std::int64_t> Number(SqliteConnection& connection, const char* text) {
  SqliteQuery query(connection, text);
  const absl::StatusOr<bool> row = query.Step();
  if (!row.ok()) return row.status();
  return *row ? query.Int(0) : 0;
}

absl::Status Damaged(const std::string& path, std::string_view what) {
  return MakeStatus(absl::StatusCode::kDataLoss, StrCat(Quoted(path), ": ", what));
}

// Whether it is ours; false: it is still empty.
absl::StatusOr<bool> Recognise(SqliteConnection& connection, const std::string& path) {
  const absl::StatusOr<std::int64_t> application = Number(connection, "PRAGMA application_id");
  if (!application.ok()) return application.status();
  const absl::StatusOr<std::int64_t> version = Number(connection, "PRAGMA user_version");
  if (!version.ok()) return version.status();
  std::size_t objects = 0;
  std::size_t known = 0;
  {
    SqliteQuery query(connection, "SELECT name, sql FROM sqlite_schema");
    while (true) {
      const absl::StatusOr<bool> row = query.Step();
      if (!row.ok()) return row.status();
      if (!*row) break;
      ++objects;
      const std::string name(query.Bytes(0));
      const auto expected = Schema().find(name);
      if (expected != Schema().end() && expected->second == query.Bytes(1)) ++known;
    }
  }
  if (objects == Schema().size() && known == objects) {
    // What says otherwise in the header is damage: a later version has another schema.
    if (*application == kApplicationId && *version == kVersion) return true;
    return Damaged(path, "its header does not fit its contents");
  }
  if (*application == kApplicationId) {
    if (*version <= kVersion) return Damaged(path, "its schema is damaged");
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat(Quoted(path), " was made by a later version of this library (format ", *version,
               ", this one knows ", kVersion, "); use that, another path, or delete the file"));
  }
  if (*application == 0 && *version == 0 && objects == 0) return false;
  if (known > 0) return Damaged(path, "its header and its schema are damaged");
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat(Quoted(path),
                           " is somebody else's SQLite database, and is left alone; "
                           "choose another path for the cache"));
}

absl::Status Configure(SqliteConnection& connection, const std::string& path) {
  SqliteQuery mode(connection, "PRAGMA journal_mode=WAL");
  const absl::StatusOr<bool> row = mode.Step();
  if (!row.ok()) return row.status();
  if (!*row || mode.Bytes(0) != "wal") {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat(Quoted(path),
                             " lies on a file system without shared memory between "
                             "processes, which the cache needs; choose a local disk"));
  }
  connection.KeepLog();
  return connection.Run(
      "PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=4194304; PRAGMA cache_size=-2048");
}

absl::Status MakeSchema(SqliteConnection& connection) {
  std::string statements = "BEGIN IMMEDIATE;";
  for (const char* object : {kEntries, kByExpiry, kByKey, kByUse, kTotals}) {
    statements += StrCat(object, ";");
  }
  statements += StrCat("INSERT INTO coord_cache_totals VALUES(1, 0, 0); PRAGMA application_id=",
                       kApplicationId, "; PRAGMA user_version=", kVersion, "; COMMIT");
  const absl::Status made = connection.Run(statements.c_str());
  if (!made.ok() && connection.in_transaction()) connection.Run("ROLLBACK").IgnoreError();
  return made;
}

bool Writable(const std::string& path) { return access(path.c_str(), W_OK) == 0; }

}  // namespace

class SqliteFile::Guard {
 public:
  Guard() = default;
  ~Guard() {
    if (fd_ < 0) return;
    // Closing alone would not do while a child that was forked meanwhile has it open too.
    flock(fd_, LOCK_UN);
    close(fd_);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  absl::Status Take(const std::string& file, const CallLimits& limits) {
    const std::string path = StrCat(file, "-lock");
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
      // Who may not write there puts nothing aside either.
      if (errno == EACCES || errno == EROFS || errno == EPERM) return absl::OkStatus();
      return SystemError("cannot open", path, errno);
    }
    auto pause = std::chrono::milliseconds(1);
    while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return SystemError("cannot lock", path, errno);
      if (limits.stop.stop_requested()) {
        return MakeStatus(absl::StatusCode::kCancelled, "the stop token was set");
      }
      if (Passed(limits.deadline)) {
        return MakeStatus(absl::StatusCode::kUnavailable,
                          StrCat(Quoted(path),
                                 ": another process kept it locked for the whole "
                                 "time that the call had; try again"),
                          kUnavailable);
      }
      // Nobody tells when it is given back.
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(16));
    }
    return absl::OkStatus();
  }

 private:
  int fd_ = -1;
};

namespace {

// A file that is no database at all is damage where a cache has been, which its lock file shows;
// where there was none somebody has mistaken the path, and would lose the file.
absl::Status CheckNotMistaken(const std::string& path) {
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  if (IdentityOf(StrCat(path, "-lock")).has_value()) return absl::OkStatus();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::OkStatus();  // there is none, or opening it will tell
  char begin[kMagic.size()];
  const ssize_t size = read(fd, begin, sizeof(begin));
  close(fd);
  if (size <= 0 || kMagic.starts_with(std::string_view(begin, static_cast<std::size_t>(size)))) {
    return absl::OkStatus();
  }
  return MakeStatus(
      absl::StatusCode::kFailedPrecondition,
      StrCat(Quoted(path),
             " is a file of another kind, and nothing beside it says that it was ever "
             "a cache; choose another path, or delete it"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteFile::Connect(
    const CallLimits& limits, std::optional<PutAside>& moved) {
  if (absl::Status made =
          MakeDirectories(std::filesystem::path(options_.path).parent_path().string());
      !made.ok()) {
    return made;
  }
  if (absl::Status sane = CheckNotMistaken(options_.path); !sane.ok()) return sane;
  Guard guard;
  if (absl::Status taken = guard.Take(options_.path, limits); !taken.ok()) return taken;
  absl::StatusOr<std::unique_ptr<SqliteConnection>> connection = ConnectOnce(limits);
  if (connection.status().code() != absl::StatusCode::kDataLoss || !options_.replace) {
    return connection;
  }
  const std::optional<FileIdentity> bad = IdentityOf(options_.path);
  if (!bad) return connection.status();
  absl::StatusOr<PutAside> done = Move(*bad, connection.status());
  if (!done.ok()) return done.status();
  moved = *std::move(done);
  return ConnectOnce(limits);
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteFile::ConnectOnce(
    const CallLimits& limits) {
  const std::string& path = options_.path;
  // SQLite would make it readable for others.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const int error = errno;
  if (fd >= 0) {
    close(fd);
  } else if (error != EEXIST && !IdentityOf(path)) {
    return SystemError("cannot make", path, error);
  }
  struct stat there {};
  if (stat(path.c_str(), &there) != 0) return SystemError("cannot open", path, errno);
  if (!S_ISREG(there.st_mode)) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat(Quoted(path), " is no regular file"));
  }
  absl::StatusOr<std::unique_ptr<SqliteConnection>> connection =
      SqliteConnection::Open(path, Access::kReadWrite, limits);
  if (!connection.ok()) return connection;
  absl::StatusOr<bool> ours = Recognise(**connection, path);
  if (!ours.ok() && ours.status().code() != absl::StatusCode::kDataLoss &&
      ours.status().code() != absl::StatusCode::kFailedPrecondition && !Writable(path)) {
    // On a disk that allows no writing there may be nothing to coordinate with others by. Should
    // there be a writer after all, rows that make no sense are found by their checksums.
    connection = SqliteConnection::Open(path, Access::kImmutable, limits);
    if (!connection.ok()) return connection;
    ours = Recognise(**connection, path);
  }
  // SQLite reads it as a database, but not its schema.
  if (ours.status().code() == absl::StatusCode::kInternal) {
    return Damaged(path, FromAbsl(ours.status().message()));
  }
  if (!ours.ok()) return ours.status();
  (*connection)->identity = FileIdentity{there.st_dev, there.st_ino};
  if ((*connection)->read_only()) {
    if (Writable(path)) return Damaged(path, "its header forbids writing");
    if (*ours) return connection;
    return MakeStatus(absl::StatusCode::kPermissionDenied,
                      StrCat(Quoted(path), " is empty and may not be written"));
  }
  if (!*ours) {
    // Only an empty file takes this setting, and only before it knows its journal.
    if (absl::Status set = (*connection)->Run("PRAGMA auto_vacuum=INCREMENTAL"); !set.ok()) {
      return set;
    }
  }
  if (absl::Status set = Configure(**connection, path); !set.ok()) return set;
  if (!*ours) {
    if (absl::Status made = MakeSchema(**connection); !made.ok()) return made;
  }
  return connection;
}

absl::Status SqliteFile::Replace(FileIdentity bad, const absl::Status& why,
                                 const CallLimits& limits) {
  if (!options_.replace) return why;
  absl::StatusOr<PutAside> moved;
  {
    Guard guard;
    if (absl::Status taken = guard.Take(options_.path, limits); !taken.ok()) return taken;
    if (IdentityOf(options_.path) != bad) return absl::OkStatus();
    moved = Move(bad, why);
  }
  if (!moved.ok()) return moved.status();
  Tell(*moved);
  return absl::OkStatus();
}

// The log goes first: beside a new database it would be taken for that one's. REQUIRES: the lock.
absl::StatusOr<SqliteFile::PutAside> SqliteFile::Move(FileIdentity bad, const absl::Status& why) {
  const std::string& path = options_.path;
  if (IdentityOf(path) != bad || !Writable(path)) return why;
  const std::filesystem::path file(path);
  const std::string begin = StrCat(file.filename().string(), ".corrupt-");
  std::map<std::int64_t, std::string> earlier;
  std::error_code error;
  const std::filesystem::path directory = file.has_parent_path() ? file.parent_path() : ".";
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(begin)) continue;
    const std::optional<std::int64_t> number =
        ParseInt64(std::string_view(name).substr(begin.size()));
    if (number && *number > 0) earlier[*number] = at->path().string();
  }
  const std::string log = StrCat(path, "-wal");
  unlink(StrCat(path, "-shm").c_str());
  PutAside moved{.to = {}, .why = why};
  if (options_.keep_bad == 0) {
    unlink(log.c_str());
    if (unlink(path.c_str()) != 0) return SystemError("cannot delete the damaged", path, errno);
  } else {
    const std::int64_t number = earlier.empty() ? 1 : earlier.rbegin()->first + 1;
    moved.to = StrCat(path, ".corrupt-", number);
    if (std::rename(log.c_str(), StrCat(moved.to, "-wal").c_str()) != 0 && errno != ENOENT) {
      return SystemError("cannot put aside", log, errno);
    }
    if (std::rename(path.c_str(), moved.to.c_str()) != 0) {
      return SystemError("cannot put aside the damaged", path, errno);
    }
    while (earlier.size() >= options_.keep_bad) {
      unlink(earlier.begin()->second.c_str());
      unlink(StrCat(earlier.begin()->second, "-wal").c_str());
      earlier.erase(earlier.begin());
    }
  }
  return moved;
}

void SqliteFile::Tell(const PutAside& moved) {
  replaced_.fetch_add(1, std::memory_order_relaxed);
  if (!options_.on_replaced) return;
  try {
    options_.on_replaced(moved.to, std::string(FromAbsl(moved.why.message())));
  } catch (...) {
    // The cache goes on all the same.
  }
}

}  // namespace coord::internal
