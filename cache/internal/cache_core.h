// What all copies of a cache share: the backend, and everything that does not depend on a type.
#ifndef COORD_CACHE_INTERNAL_CACHE_CORE_H_
#define COORD_CACHE_INTERNAL_CACHE_CORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/cache_base.h"
#include "cache/cache_options.h"
#include "cache/internal/envelope.h"
#include "cache/signing.h"
#include "coord/internal/jitter.h"
#include "coord/internal/sync.h"

namespace coord::internal {

class Compute;
class RecoveryQueue;
class Workers;

// What one read found.
struct Read {
  using State = Lookup<std::string>::State;
  State state = State::kMiss;
  bool stale = false;    // with kHit and kNull: its time to live is over, it may still be served
  absl::Status problem;  // with kMiss: why what is there cannot be read
  EnvelopeFields fields;
  TimeLeft left = TimeLeft::Missing();  // of the stored key, as far as it was asked for
  std::string payload;
};

// Tags, and the generation that each had at some moment.
using Generations = std::vector<std::pair<std::string, std::string>>;

// Thread-safe. Knows no prefixes but those it is given: `full` is a key as the backend has it.
class CacheCore {
 public:
  using IsNull = bool (*)(std::string_view bytes);

  CacheCore(std::shared_ptr<Backend> backend, CacheOptions options,
            std::shared_ptr<const Signer> signer, IsNull is_null);
  ~CacheCore();
  CacheCore(const CacheCore&) = delete;
  CacheCore& operator=(const CacheCore&) = delete;

  // OK, or why nothing can be done: closed, options that break the rules.
  absl::Status Usable() const;
  void Close();

  // The prefix, asked for once an operation; InvalidArgument where it breaks the rules.
  absl::StatusOr<std::string> Prefix() const;
  // `prefix` and `key`; InvalidArgument for a key that breaks the rules.
  static absl::StatusOr<std::string> KeyUnder(std::string_view prefix, std::string_view key);
  // A key that the cache keeps for itself: "<prefix>#coord:<part>".
  static std::string OwnKey(std::string_view prefix, std::string_view part);
  static constexpr std::string_view kOwn = "#coord:";
  static constexpr std::size_t kMaxTag = 128;
  // The tag of everything in a cache that is cleared by epoch. No user's tag begins so.
  static constexpr std::string_view kEpoch = "#epoch";
  static absl::Status CheckTag(std::string_view tag);

  // How long that is: whole milliseconds, or InfiniteDuration.
  absl::StatusOr<absl::Duration> Length(coord::Ttl ttl, coord::Ttl type_ttl, bool jitter) const;

  // ---- Reading ----

  // One round trip; a second one where the entry has tags that are not named, or can be stale and
  // neither `want_age` nor the cache's options said so beforehand. With `want_age`, `left` is
  // known.
  absl::StatusOr<Read> ReadOne(std::string_view prefix, const std::string& full,
                               const GetOptions& options, bool want_age) const;
  absl::StatusOr<std::vector<Read>> ReadMany(std::string_view prefix,
                                             std::span<const std::string> full,
                                             const GetOptions& options,
                                             Want want = Want::kValue) const;

  // ---- Writing ----

  // The bytes that are stored for a value, or for a null.
  absl::StatusOr<std::string> Sealed(std::string_view full, const std::optional<std::string>& bytes,
                                     const EnvelopeFields& fields) const;
  // Stores it for `ttl`, and `fields.stale_for` beyond. False: the condition did not hold. What
  // only the server's absence prevents waits for recovery, where there is one.
  absl::StatusOr<bool> Store(const std::string& full, const std::optional<std::string>& bytes,
                             EnvelopeFields fields, absl::Duration ttl, SetIf condition,
                             const CallOptions& call) const;
  // The same for many, in one round trip. `items` and `lengths` stand beside `full`.
  absl::StatusOr<bool> StoreMany(std::span<const std::string> full,
                                 std::span<const CacheItem> items, const EnvelopeFields& fields,
                                 std::span<const absl::Duration> lengths,
                                 const CallOptions& call) const;
  // How many there were.
  absl::StatusOr<std::int64_t> Remove(std::span<const std::string> full,
                                      const CallOptions& call) const;
  // The generations of the tags, and of the epoch where there is one, to be stored with what is
  // made from now on. Makes those that there are not.
  absl::StatusOr<Generations> CurrentGenerations(std::string_view prefix,
                                                 std::span<const std::string> tags,
                                                 const CallOptions& call) const;
  absl::Status InvalidateTags(std::string_view prefix, std::span<const std::string> tags,
                              const CallOptions& call) const;
  // Where clear_by_epoch is set.
  absl::Status EndEpoch(std::string_view prefix, const CallOptions& call) const;

  // A value that did not come by a read of the backend.
  Read Judged(std::string_view full, std::string stored) const {
    return Judge(full, Stored{std::move(stored), std::nullopt});
  }

  // ---- Faults ----

  // Of a cache without a prefix that is to be cleared.
  absl::Status NothingOwned() const;

  // Whether an error says only that the backend could not be reached.
  static bool IsAway(const absl::Status& error);
  // Whether the fallback answers such an error.
  bool FallsBack(const absl::Status& error) const;
  // What it says: bytes, or nothing for a miss.
  std::optional<std::string> AskFallback(CacheOperation operation, std::string_view key,
                                         const absl::Status& error) const;
  // Something went wrong outside of any call.
  void Report(const absl::Status& problem) const;

  // ---- What it stands on ----

  const CacheOptions& options() const { return options_; }
  Backend& backend() const { return *backend_; }
  // FailedPrecondition where there is none.
  absl::StatusOr<const Client*> Server(std::string_view what) const;
  const Clock& clock() const { return *options_.clock; }
  absl::Time Calendar() const;
  double Random() const;  // from 0 to 1
  IsNull is_null() const { return is_null_; }
  Workers& workers() const { return *workers_; }
  Compute& compute() const { return *compute_; }
  RecoveryQueue* recovery() const { return recovery_.get(); }  // null: there is none

  void Tell(absl::FunctionRef<void(CacheHook&)> call) const;
  std::uint64_t hook_failures() const { return hook_failures_.load(std::memory_order_relaxed); }

 private:
  Read Judge(std::string_view full, std::optional<Stored> stored) const;
  // Finds out which are stale, and makes misses of those that their tags have outlived.
  absl::Status Finish(std::string_view prefix, std::span<const std::string> full,
                      std::span<Read> reads, const Generations& known, Want want,
                      const CallOptions& call) const;
  // `known`: generations that were read in the same step.
  absl::Status CheckTags(std::string_view prefix, std::span<Read> reads, const Generations& known,
                         const CallOptions& call) const;
  // The stored keys of tags, and of the epoch where there is one.
  std::vector<std::string> TagKeys(std::string_view prefix,
                                   std::span<const std::string> tags) const;

  const std::shared_ptr<Backend> backend_;
  const CacheOptions options_;
  const std::shared_ptr<const Signer> signer_;
  const IsNull is_null_;
  const absl::Status valid_;
  const std::string default_prefix_;
  mutable std::atomic<std::uint64_t> hook_failures_{0};
  mutable Mutex random_mutex_;
  mutable Jitter jitter_ ABSL_GUARDED_BY(random_mutex_);
  std::atomic<bool> closed_{false};
  // In this order: what is below uses what is above.
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<RecoveryQueue> recovery_;
  std::unique_ptr<Compute> compute_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_CACHE_CORE_H_
