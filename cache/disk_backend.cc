#include "cache/disk_backend.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "cache/internal/glob.h"
#include "cache/internal/sqlite_entries.h"
#include "cache/internal/sqlite_file.h"
#include "cache/internal/sqlite_pool.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::SqliteConnection;
using internal::SqliteEntries;
using internal::StrCat;

constexpr std::uint64_t kMinBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 44;
constexpr std::size_t kMaxValue = std::size_t{900} << 20;  // SQLite's own bound is a little above
constexpr std::size_t kMaxStep = 10'000;
constexpr std::size_t kDeleteStep = 256;
constexpr absl::Duration kUsageTimeout = absl::Milliseconds(100);
// What a cursor begins with; behind it, in hexadecimal, the last key that was looked at.
constexpr std::string_view kCursor = "d1:";

absl::Status CheckKey(std::string_view key) {
  if (!key.empty() && key.size() <= Backend::kMaxKey) return absl::OkStatus();
  return InvalidArgument(
      StrCat("a key has ", key.size(), " bytes; it must have 1 to ", Backend::kMaxKey));
}

absl::Status CheckTtl(absl::Duration ttl) {
  if (ttl == absl::InfiniteDuration()) return absl::OkStatus();
  if (absl::Status data = internal::CheckDataTtl(ttl); !data.ok()) return data;
  if (ttl % absl::Milliseconds(1) == absl::ZeroDuration()) return absl::OkStatus();
  return InvalidArgument(StrCat("ttl is ", internal::ToText(ttl),
                                ", which is no whole number of "
                                "milliseconds"));
}

std::string ToCursor(std::string_view key) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string cursor(kCursor);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    cursor.push_back(kHex[byte >> 4]);
    cursor.push_back(kHex[byte & 15]);
  }
  return cursor;
}

absl::StatusOr<std::string> FromCursor(std::string_view cursor) {
  std::string key;
  if (cursor.empty()) return key;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  const bool ours = cursor.starts_with(kCursor) && cursor.size() % 2 == kCursor.size() % 2;
  for (std::size_t at = kCursor.size(); ours && at < cursor.size(); at += 2) {
    const int high = digit(cursor[at]);
    const int low = digit(cursor[at + 1]);
    if (high < 0 || low < 0) break;
    key.push_back(static_cast<char>(high * 16 + low));
  }
  if (!ours || key.empty() || key.size() * 2 + kCursor.size() != cursor.size()) {
    return InvalidArgument(StrCat("not a cursor of a disk cache: ", internal::Quoted(cursor)));
  }
  return key;
}

std::string PathOf(std::string path) {
  struct stat there {};
  const bool directory =
      path.ends_with('/') || (stat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode));
  return directory ? StrCat(path, path.ends_with('/') ? "" : "/", "cache.db") : path;
}

}  // namespace

class DiskBackend::Rep {
 public:
  Rep(internal::SqliteFile::Options file, const DiskOptions& options)
      : max_bytes(options.max_bytes),
        entries(options.max_bytes, options.now),
        pool(std::move(file), options.timeout) {}

  using ChangeBody = std::function<absl::Status(SqliteConnection&, SqliteEntries::Change&)>;
  absl::Status Change(const CallOptions& call, const ChangeBody& body) {
    SqliteEntries::Change committed;
    const absl::Status status = pool.Change(call, [&](SqliteConnection& connection) {
      absl::StatusOr<SqliteEntries::Change> change = entries.Begin(connection);
      if (!change.ok()) return change.status();
      if (absl::Status done = body(connection, *change); !done.ok()) return done;
      committed = *change;
      return entries.End(connection, *change);
    });
    if (status.ok()) {
      entries.Done(committed);
    } else if (status.code() == absl::StatusCode::kResourceExhausted) {
      return internal::Annotate(
          status, StrCat("the cache may take ", max_bytes, " bytes, but the disk has less room"));
    }
    return status;
  }

  absl::Status CheckWrite(const Write& write) const {
    if (absl::Status key = CheckKey(write.key); !key.ok()) return key;
    if (absl::Status ttl = CheckTtl(write.ttl); !ttl.ok()) return ttl;
    if (entries.Fits(write) && write.value.size() <= kMaxValue) return absl::OkStatus();
    return InvalidArgument(StrCat("a value has ", write.value.size(), " bytes; the cache takes ",
                                  std::min<std::uint64_t>(max_bytes / 2, kMaxValue),
                                  " with its key and all"));
  }

  const std::uint64_t max_bytes;
  SqliteEntries entries;
  internal::SqlitePool pool;
};

absl::StatusOr<std::unique_ptr<DiskBackend>> DiskBackend::Open(DiskOptions options) {
  if (options.path.empty()) return InvalidArgument("a disk cache needs a path");
  if (options.path.find('\0') != std::string::npos) {
    return InvalidArgument("the path of a disk cache has a zero byte");
  }
  if (options.max_bytes < kMinBytes || options.max_bytes > kMaxBytes) {
    return InvalidArgument(
        StrCat("max_bytes is ", options.max_bytes, "; it must be ", kMinBytes, " to ", kMaxBytes));
  }
  if (options.timeout <= absl::ZeroDuration() || options.timeout > absl::Hours(24)) {
    return InvalidArgument(StrCat("timeout is ", internal::ToText(options.timeout),
                                  "; it must be above 0 and at most 24h"));
  }
  auto rep = std::make_unique<Rep>(
      internal::SqliteFile::Options{
          .path = PathOf(options.path),
          .replace = options.on_corrupt == DiskOptions::OnCorrupt::kReplace,
          .keep_bad = options.keep_corrupt,
          .on_replaced = options.on_replaced},
      options);
  std::unique_ptr<DiskBackend> backend(new DiskBackend(std::move(rep)));
  if (absl::Status there = backend->Ping(); !there.ok()) return there;
  return backend;
}

DiskBackend::DiskBackend(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
DiskBackend::~DiskBackend() { Close(); }

absl::StatusOr<std::optional<Stored>> DiskBackend::Get(std::string_view key, Want want,
                                                       const CallOptions& call) {
  if (absl::Status good = CheckKey(key); !good.ok()) return good;
  std::optional<Stored> result;
  const absl::Status status = rep_->pool.Read(call, [&](SqliteConnection& connection) {
    absl::StatusOr<std::optional<Stored>> found = rep_->entries.Read(connection, key, want);
    if (found.ok()) result = *std::move(found);
    return found.status();
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<std::vector<std::optional<Stored>>> DiskBackend::GetMany(
    std::span<const std::string> keys, Want want, const CallOptions& call) {
  for (const std::string& key : keys) {
    if (absl::Status good = CheckKey(key); !good.ok()) return good;
  }
  std::vector<std::optional<Stored>> result;
  if (keys.empty()) {
    if (absl::Status usable = rep_->pool.Usable(); !usable.ok()) return usable;
    return result;
  }
  const absl::Status status = rep_->pool.Read(call, [&](SqliteConnection& connection) {
    result.clear();
    // One picture for all.
    absl::Status all = internal::SqliteQuery(connection, "BEGIN").Finish();
    if (!all.ok()) return all;
    for (const std::string& key : keys) {
      absl::StatusOr<std::optional<Stored>> found = rep_->entries.Read(connection, key, want);
      all = found.status();
      if (!all.ok()) break;
      result.push_back(*std::move(found));
    }
    internal::SqliteQuery(connection, "ROLLBACK").Finish().IgnoreError();
    return all;
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<bool> DiskBackend::Set(const Write& write, SetIf condition,
                                      const CallOptions& call) {
  if (absl::Status good = rep_->CheckWrite(write); !good.ok()) return good;
  bool written = false;
  const absl::Status status =
      rep_->Change(call, [&](SqliteConnection& connection, SqliteEntries::Change& change) {
        if (condition != SetIf::kAlways) {
          // With the value: where a read would miss, there is nothing.
          const absl::StatusOr<std::optional<SqliteEntries::Entry>> found =
              rep_->entries.Find(connection, write.key, SqliteEntries::Part::kAll);
          if (!found.ok()) return found.status();
          written = found->has_value() == (condition == SetIf::kPresent);
          if (!written) return absl::OkStatus();
        }
        written = true;
        return rep_->entries.Put(connection, change, write);
      });
  if (!status.ok()) return status;
  return written;
}

absl::Status DiskBackend::SetMany(std::span<const Write> writes, const CallOptions& call) {
  for (const Write& write : writes) {
    if (absl::Status good = rep_->CheckWrite(write); !good.ok()) return good;
  }
  if (writes.empty()) return rep_->pool.Usable();
  return rep_->Change(call, [&](SqliteConnection& connection, SqliteEntries::Change& change) {
    for (const Write& write : writes) {
      if (absl::Status put = rep_->entries.Put(connection, change, write); !put.ok()) return put;
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<bool> DiskBackend::Delete(std::string_view key, const CallOptions& call) {
  const std::string copy(key);
  const absl::StatusOr<std::int64_t> deleted = DeleteMany({&copy, 1}, call);
  if (!deleted.ok()) return deleted.status();
  return *deleted > 0;
}

absl::StatusOr<std::int64_t> DiskBackend::DeleteMany(std::span<const std::string> keys,
                                                     const CallOptions& call) {
  for (const std::string& key : keys) {
    if (absl::Status good = CheckKey(key); !good.ok()) return good;
  }
  std::int64_t deleted = 0;
  if (keys.empty()) {
    if (absl::Status usable = rep_->pool.Usable(); !usable.ok()) return usable;
    return deleted;
  }
  const absl::Status status =
      rep_->Change(call, [&](SqliteConnection& connection, SqliteEntries::Change& change) {
        deleted = 0;
        for (const std::string& key : keys) {
          const absl::StatusOr<std::optional<SqliteEntries::Entry>> found =
              rep_->entries.Find(connection, key, SqliteEntries::Part::kHead);
          if (!found.ok()) return found.status();
          const absl::StatusOr<bool> gone = rep_->entries.Remove(connection, change, key);
          if (!gone.ok()) return gone.status();
          if (found->has_value() && *gone) ++deleted;
        }
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return deleted;
}

absl::StatusOr<bool> DiskBackend::Exists(std::string_view key, const CallOptions& call) {
  const absl::StatusOr<TimeLeft> left = Ttl(key, call);
  if (!left.ok()) return left.status();
  return left->kind() != TimeLeft::Kind::kMissing;
}

absl::StatusOr<TimeLeft> DiskBackend::Ttl(std::string_view key, const CallOptions& call) {
  if (absl::Status good = CheckKey(key); !good.ok()) return good;
  TimeLeft result = TimeLeft::Missing();
  const absl::Status status = rep_->pool.Read(call, [&](SqliteConnection& connection) {
    const absl::StatusOr<std::optional<SqliteEntries::Entry>> found =
        rep_->entries.Find(connection, key, SqliteEntries::Part::kHead);
    if (found.ok() && found->has_value()) result = TimeLeft::Of((*found)->left);
    return found.status();
  });
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<bool> DiskBackend::Expire(std::string_view key, absl::Duration ttl,
                                         const CallOptions& call) {
  if (absl::Status good = CheckKey(key); !good.ok()) return good;
  if (absl::Status good = CheckTtl(ttl); !good.ok()) return good;
  bool there = false;
  const absl::Status status =
      rep_->Change(call, [&](SqliteConnection& connection, SqliteEntries::Change& change) {
        const absl::StatusOr<std::optional<SqliteEntries::Entry>> found =
            rep_->entries.Find(connection, key, SqliteEntries::Part::kHead);
        if (!found.ok()) return found.status();
        there = found->has_value();
        if (!there) return absl::OkStatus();
        return rep_->entries.SetExpiry(connection, change, **found, key, ttl);
      });
  if (!status.ok()) return status;
  return there;
}

absl::StatusOr<bool> DiskBackend::Persist(std::string_view key, const CallOptions& call) {
  return Expire(key, absl::InfiniteDuration(), call);
}

absl::StatusOr<ScanPage> DiskBackend::Scan(std::string_view pattern, std::string_view cursor,
                                           std::size_t count, const CallOptions& call) {
  if (count == 0) return InvalidArgument("count is 0; it must be at least 1");
  const absl::StatusOr<std::string> after = FromCursor(cursor);
  if (!after.ok()) return after.status();
  const std::string prefix = internal::GlobPrefix(pattern);
  SqliteEntries::Step step;
  const absl::Status status = rep_->pool.Read(call, [&](SqliteConnection& connection) {
    absl::StatusOr<SqliteEntries::Step> walked =
        rep_->entries.Walk(connection, prefix, *after, std::min(count, kMaxStep));
    if (walked.ok()) step = *std::move(walked);
    return walked.status();
  });
  if (!status.ok()) return status;
  ScanPage page;
  for (std::string& key : step.keys) {
    if (internal::GlobMatch(pattern, key)) page.keys.push_back(std::move(key));
  }
  if (!step.end) page.cursor = ToCursor(step.last);
  return page;
}

absl::StatusOr<std::int64_t> DiskBackend::DeleteMatching(std::string_view pattern,
                                                         const CallOptions& call) {
  if (internal::NamesNoText(pattern)) {
    return InvalidArgument("the pattern names everything; Clear() deletes everything");
  }
  std::int64_t deleted = 0;
  std::string cursor;
  do {
    absl::StatusOr<ScanPage> page = Scan(pattern, cursor, kDeleteStep, call);
    if (!page.ok()) return page.status();
    const absl::StatusOr<std::int64_t> gone = DeleteMany(page->keys, call);
    if (!gone.ok()) return gone.status();
    deleted += *gone;
    cursor = std::move(page->cursor);
  } while (!cursor.empty());
  return deleted;
}

absl::Status DiskBackend::Clear(const CallOptions& call) {
  return rep_->Change(call, [](SqliteConnection& connection, SqliteEntries::Change& change) {
    absl::Status done =
        internal::SqliteQuery(connection, "DELETE FROM coord_cache_entries").Finish();
    if (!done.ok()) return done;
    change.entries = 0;
    // All that is left is free pages: the file shrinks to nothing at the next checkpoint.
    return internal::SqliteQuery(connection, "PRAGMA incremental_vacuum").Finish();
  });
}

absl::Status DiskBackend::Ping(const CallOptions& call) {
  return rep_->pool.Read(call, [this](SqliteConnection& connection) {
    return rep_->entries.Usage(connection).status();
  });
}

absl::Status DiskBackend::Reconnect(const CallOptions& call) {
  if (absl::Status usable = rep_->pool.Usable(); !usable.ok()) return usable;
  rep_->pool.Drop();
  return Ping(call);
}

void DiskBackend::Close() {
  if (!rep_->pool.Usable().ok()) return;
  if (rep_->entries.HasUses()) {
    const auto nothing = [](SqliteConnection&, SqliteEntries::Change&) { return absl::OkStatus(); };
    rep_->Change({.timeout = absl::Milliseconds(10), .stop = {}}, nothing).IgnoreError();
  }
  rep_->pool.Close();
}

std::optional<Backend::Usage> DiskBackend::usage() const {
  std::optional<Usage> result;
  rep_->pool
      .Read({.timeout = kUsageTimeout, .stop = {}},
            [&](SqliteConnection& connection) {
              const absl::StatusOr<Usage> usage = rep_->entries.Usage(connection);
              if (usage.ok()) result = *usage;
              return usage.status();
            })
      .IgnoreError();
  return result;
}

DiskBackend::Stats DiskBackend::stats() const {
  return {.replaced_files = rep_->pool.file().replaced(),
          .damaged_entries = rep_->entries.damaged(),
          .evicted = rep_->entries.evicted(),
          .expired = rep_->entries.expired()};
}

const std::string& DiskBackend::path() const { return rep_->pool.file().path(); }

}  // namespace coord
