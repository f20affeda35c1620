// The file that a disk cache lives in: made where there is none, recognised, and put aside when it
// is damaged, by one process at a time.
//
// Opening and putting aside happen under a lock on a file beside it (<path>-lock), so that of many
// processes which find the same file damaged one puts it aside and the others open the new one.
#ifndef COORD_CACHE_INTERNAL_SQLITE_FILE_H_
#define COORD_CACHE_INTERNAL_SQLITE_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/internal/sqlite.h"
#include "coord/internal/deadline.h"

namespace coord::internal {

// Never expiring, in the columns `expires` and `ttl`.
inline constexpr std::int64_t kNever = INT64_MAX;

// Thread-safe.
class SqliteFile {
 public:
  struct Options {
    std::string path;
    bool replace = true;       // a damaged file; otherwise kDataLoss
    std::size_t keep_bad = 3;  // files put aside; the oldest go
    // Where the bad file went (empty: deleted), and why. Called without a lock held.
    std::function<void(const std::string& aside, const std::string& why)> on_replaced;
  };
  explicit SqliteFile(Options options) : options_(std::move(options)) {}

  struct PutAside {
    std::string to;
    absl::Status why;
  };
  // kFailedPrecondition: somebody else's database, or one of a later version of this library. Where
  // a damaged file was put aside, also on an error, the caller is to Tell what is in `moved` then.
  absl::StatusOr<std::unique_ptr<SqliteConnection>> Connect(const CallLimits& limits,
                                                            std::optional<PutAside>& moved);
  // Counts it and calls on_replaced: with no lock or turn held, since that may use the cache.
  void Tell(const PutAside& moved);

  // Puts the file aside unless that has happened already, as its identity tells. OK: another can be
  // made in its place. `why` as it came, when it is not to be replaced.
  absl::Status Replace(FileIdentity bad, const absl::Status& why, const CallLimits& limits);

  const std::string& path() const { return options_.path; }
  // How many this object has put aside.
  std::uint64_t replaced() const { return replaced_.load(std::memory_order_relaxed); }

 private:
  // The lock on the file beside it; holds nothing where none can be made.
  class Guard;

  absl::StatusOr<std::unique_ptr<SqliteConnection>> ConnectOnce(const CallLimits& limits);
  absl::StatusOr<PutAside> Move(FileIdentity bad, const absl::Status& why);

  const Options options_;
  std::atomic<std::uint64_t> replaced_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_SQLITE_FILE_H_
