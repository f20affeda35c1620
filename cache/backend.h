// Where cached bytes are kept: Redis, memory, a disk, or several of these in tiers.
//
// A backend knows keys, bytes and times to live, and nothing of types, prefixes or policies: those
// are Cache's. Keys are any 1 to 1,024 bytes, values any bytes up to what the backend takes.
//
// All methods are thread-safe, throw nothing, and end within CallOptions::timeout where they go
// over a network. Times to live are whole milliseconds above zero, or InfiniteDuration; what breaks
// these rules is kInvalidArgument, before anything is sent. A key that has expired is not there.
#ifndef COORD_CACHE_BACKEND_H_
#define COORD_CACHE_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/lookup.h"
#include "coord/options.h"

namespace coord {

class Client;

// What a backend has for a key.
struct Stored {
  std::string value;
  // As far as it was asked for (Want): InfiniteDuration means that it does not expire, nullopt that
  // nobody has looked.
  std::optional<absl::Duration> left = std::nullopt;
};

// What a read is to find out.
enum class Want {
  kValue,
  kValueAndTtl,  // Stored::left as well; costs a server a little more
};

// When a write is done.
enum class SetIf {
  kAlways,
  kAbsent,   // only where there is no such key
  kPresent,  // only where there is one
};

struct Write {
  std::string_view key;
  std::string_view value;
  absl::Duration ttl = absl::InfiniteDuration();
};

struct ScanPage {
  std::vector<std::string> keys;
  // Where to go on, in this process or another; empty: that was all.
  std::string cursor;
};

class Backend {
 public:
  static constexpr std::size_t kMaxKey = 1024;

  virtual ~Backend() = default;

  // "redis", "memory", "disk", "tiered", "near".
  virtual std::string_view kind() const = 0;

  // nullopt: there is no such key.
  virtual absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                                    const CallOptions& call = {}) = 0;
  // One answer a key, in order; a key may come twice. One round trip; none for no keys.
  virtual absl::StatusOr<std::vector<std::optional<Stored>>> GetMany(
      std::span<const std::string> keys, Want want = Want::kValue,
      const CallOptions& call = {}) = 0;

  // Whether it was written, which only SetIf can prevent. Takes the place of value and time to
  // live.
  virtual absl::StatusOr<bool> Set(const Write& write, SetIf condition = SetIf::kAlways,
                                   const CallOptions& call = {}) = 0;
  // One round trip; none for no writes. Not atomic together. On an error some may have been done.
  virtual absl::Status SetMany(std::span<const Write> writes, const CallOptions& call = {}) = 0;

  // Whether it was there.
  virtual absl::StatusOr<bool> Delete(std::string_view key, const CallOptions& call = {}) = 0;
  // How many were there. One round trip; none for no keys.
  virtual absl::StatusOr<std::int64_t> DeleteMany(std::span<const std::string> keys,
                                                  const CallOptions& call = {}) = 0;

  virtual absl::StatusOr<bool> Exists(std::string_view key, const CallOptions& call = {}) = 0;
  virtual absl::StatusOr<TimeLeft> Ttl(std::string_view key, const CallOptions& call = {}) = 0;
  // Gives it another time to live from now on; InfiniteDuration: as Persist. False when there is no
  // such key.
  virtual absl::StatusOr<bool> Expire(std::string_view key, absl::Duration ttl,
                                      const CallOptions& call = {}) = 0;
  // Lets it live on without end. False when there is no such key.
  virtual absl::StatusOr<bool> Persist(std::string_view key, const CallOptions& call = {}) = 0;

  // Some of the keys that match the pattern, as Redis's KEYS has it (see cache/internal/glob.h),
  // beginning where `cursor` says; empty: at the start. A page may be empty though there is more. A
  // key that is there all the time comes at least once; it may come twice. `count` is a hint for
  // the size of a step, at least 1. kInvalidArgument: a cursor that is none of this backend's.
  virtual absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                        std::size_t count = 100, const CallOptions& call = {}) = 0;
  // Deletes all that match, and says how many there were. kInvalidArgument for an empty
  // pattern and one of nothing but '*', or '*' and '?': see Clear.
  virtual absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                                      const CallOptions& call = {}) = 0;
  // Deletes everything that this backend owns. kFailedPrecondition for one that shares its place
  // with others, as a Redis database is shared: those are cleared by prefix, with DeleteMatching.
  virtual absl::Status Clear(const CallOptions& call = {}) = 0;

  // That key was changed past this backend, through client(): drops what it may have of it nearer
  // than there.
  virtual void Forget(std::string_view) {}

  virtual absl::Status Ping(const CallOptions& call = {}) = 0;
  // Breaks what connections there are and makes new ones, where there are any.
  virtual absl::Status Reconnect(const CallOptions& call = {}) = 0;
  // Idempotent. Later calls: kFailedPrecondition. A client that was handed in stays open.
  virtual void Close() = 0;

  // The server's, for what only a server can do (counters, hashes, lists, locks). Null: there is
  // none.
  virtual const Client* client() const { return nullptr; }

  // Bytes and entries that are held, where that is known without asking anybody.
  struct Usage {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    std::uint64_t evicted = 0;
  };
  virtual std::optional<Usage> usage() const { return std::nullopt; }
};

}  // namespace coord

#endif  // COORD_CACHE_BACKEND_H_
