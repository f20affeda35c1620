// A cache in a file, shared by all processes of a host, which outlives them.
//
//   absl::StatusOr<std::unique_ptr<coord::DiskBackend>> disk =
//       coord::DiskBackend::Open({.path = "/var/cache/shop/pages.db"});
//
// An SQLite database with a write-ahead log. A process that is killed at any moment costs nothing
// of what was acknowledged and damages nothing. A power cut may cost the last writes, not the file.
// Local disks only: over NFS and the like SQLite's locks and shared memory do not work.
//
// Beside the file lie <path>-wal, <path>-shm and <path>-lock, which belong to it.
#ifndef COORD_CACHE_DISK_BACKEND_H_
#define COORD_CACHE_DISK_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"

namespace coord {

struct DiskOptions {
  // The file. Where it names a directory (one that is there, or by a '/' at the end): cache.db in
  // it. Missing directories are made, for the owner alone (0700), as the file is (0600).
  std::string path;
  // What the entries may take of the disk, with all that keeping them costs; at least 256 KiB. One
  // that takes more than half of it is refused (kInvalidArgument). To make room the expired go
  // first, then the least recently used. The file itself keeps within 64 KiB of it. The log beside
  // it takes some 12 MiB, or what the largest SetMany writes, or more while a process stands still
  // in the middle of a read.
  std::uint64_t max_bytes = std::uint64_t{256} << 20;
  // For calls that say nothing else: how long others may keep the file locked. Above zero, at most
  // 24 h.
  absl::Duration timeout = absl::Seconds(5);
  // A damaged file.
  enum class OnCorrupt {
    kReplace,  // is put aside as <path>.corrupt-<n>, and a new one is begun
    kFail,     // kDataLoss, which names it
  } on_corrupt = OnCorrupt::kReplace;
  // How many of those that were put aside stay; the oldest are deleted. None: at once.
  std::size_t keep_corrupt = 3;
  // A damaged file was replaced: where it is now (empty: nowhere), and what was wrong. Called by
  // the thread whose call found it. What it throws is dropped. Must not call tiers that this
  // backend is one of.
  std::function<void(const std::string& aside, const std::string& why)> on_replaced = {};
  // The calendar, which all processes at the file share. absl::Now when empty.
  std::function<absl::Time()> now = {};
};

// As backend.h has it. Beyond that:
//
// Others that write are waited for until the call's timeout, then kUnavailable: nothing was done.
// Reads wait for nobody, except that one may have to while the file is opened. A write is one
// transaction, and so SetMany and DeleteMany are atomic here; DeleteMatching is one for each 256.
// On a full disk writes fail with kResourceExhausted, nothing is half written, and reads go on.
//
// Expiry is a moment of the calendar. Where the clock goes back, an entry lives longer by as much,
// at most by a minute: one that would live longer than it was ever given by more counts as expired.
//
// Reads write nothing. What they used is remembered, and told to the file with the next write of
// this process or when it is closed, in steps of an eighth of the entries: an entry that was read
// lately outlives those that were not, but not in exact order.
//
// SQLite notices much damage, and then on_corrupt applies. What it cannot notice does the checksum
// of each entry: one that does not fit is a miss, counted in stats().
//
// In a forked child every call is kFailedPrecondition: open another one there.
class DiskBackend final : public Backend {
 public:
  // kFailedPrecondition: the file is somebody else's database, of another kind where there never
  // was a cache (no <path>-lock beside it), or of a later version of this library; none is ever
  // replaced. kPermissionDenied: it may not be read, or not be made. On a read-only file system it
  // is opened, and what writes fails with kPermissionDenied.
  static absl::StatusOr<std::unique_ptr<DiskBackend>> Open(DiskOptions options);
  ~DiskBackend() override;
  DiskBackend(const DiskBackend&) = delete;
  DiskBackend& operator=(const DiskBackend&) = delete;

  std::string_view kind() const override { return "disk"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                            const CallOptions& call = {}) override;
  absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(std::span<const std::string> keys,
                                                             Want want = Want::kValue,
                                                             const CallOptions& call = {}) override;
  absl::StatusOr<bool> Set(const Write& write, SetIf condition = SetIf::kAlways,
                           const CallOptions& call = {}) override;
  absl::Status SetMany(std::span<const Write> writes, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                          const CallOptions& call = {}) override;
  absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call = {}) override;
  absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                              const CallOptions& call = {}) override;
  absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call = {}) override;
  // In the order of the bytes of the keys, each once.
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call = {}) override;
  absl::Status Clear(const CallOptions& call = {}) override;
  absl::Status Ping(const CallOptions& call = {}) override;
  absl::Status Reconnect(const CallOptions& call = {}) override;
  void Close() override;
  // Asks the file: entries (expired ones that nobody has removed yet among them), what they take of
  // it, and what this object has evicted. nullopt where that does not succeed within 100 ms.
  std::optional<Usage> usage() const override;

  // Of this object, since it was opened.
  struct Stats {
    std::uint64_t replaced_files = 0;
    std::uint64_t damaged_entries = 0;  // found by their checksums, each time one was met
    std::uint64_t evicted = 0;          // for want of room, before they had expired
    std::uint64_t expired = 0;          // removed after that
  };
  Stats stats() const;
  const std::string& path() const;

 private:
  class Rep;
  explicit DiskBackend(std::unique_ptr<Rep> rep);

  std::unique_ptr<Rep> rep_;
};

}  // namespace coord

#endif  // COORD_CACHE_DISK_BACKEND_H_
