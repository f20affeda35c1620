// Fast caches above a slower one that is right: memory over disk over Redis.
//
//   absl::StatusOr<std::unique_ptr<coord::TieredBackend>> tiers = coord::TieredBackend::Make({
//       {.backend = memory, .max_ttl = absl::Seconds(10)},
//       {.backend = redis},
//   });
//
// The last tier is the authority: what it has is so, and what it answers is what a call answers.
// Reads ask from the top and fill what is above with what they find.
#ifndef COORD_CACHE_TIERED_BACKEND_H_
#define COORD_CACHE_TIERED_BACKEND_H_

#include <cstddef>
#include <cstdint>
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

struct Tier {
  std::shared_ptr<Backend> backend;
  // Of an upper tier: nothing stays in it for longer, and so nothing in it is older than this
  // against the authority, whoever wrote there. Whole milliseconds, or InfiniteDuration: for one
  // that is told of others' writes by itself, or has no others. The authority's means nothing.
  absl::Duration max_ttl = absl::Minutes(1);
  // Closed with the tiers.
  bool owned = true;
};

// As backend.h has it, with the errors of the authority. Beyond that:
//
// An upper tier that fails fails no call: it is passed over, and counted. Where it does not even
// drop what it should, it serves that until max_ttl.
//
// Within this object a write that has returned is what later reads see, or newer: a read that is on
// its way meanwhile fills nothing. Other processes' writes are seen after max_ttl.
//
// Get and GetMany of a value alone are answered by the first tier that has it, also while the
// authority is away. With the time that is left (Want::kValueAndTtl) they ask the authority, and
// the upper tiers only when that fails: what they say is left is then no more than there is.
// Exists, Ttl and Scan ask the authority alone.
//
// Set writes the authority and then the upper tiers. When the authority fails, or it is unknown
// whether it wrote, the upper tiers drop the key, so that none shows what the authority never got.
// The other writes drop the keys from the upper tiers.
//
// The upper tiers are meant to be near: while they are filled, writes of some other keys wait.
//
// In a forked child every call is kFailedPrecondition.
class TieredBackend final : public Backend {
 public:
  // From the top down. kInvalidArgument: no tiers, one that is null, or a bad max_ttl.
  static absl::StatusOr<std::unique_ptr<TieredBackend>> Make(std::vector<Tier> tiers);
  ~TieredBackend() override;  // closes
  TieredBackend(const TieredBackend&) = delete;
  TieredBackend& operator=(const TieredBackend&) = delete;

  std::string_view kind() const override { return "tiered"; }
  absl::StatusOr<std::optional<Stored>> Get(std::string_view key, Want want = Want::kValue,
                                            const CallOptions& call = {}) override;
  // One round trip a tier that is asked.
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
  absl::StatusOr<ScanPage> Scan(std::string_view pattern, std::string_view cursor = {},
                                std::size_t count = 100, const CallOptions& call = {}) override;
  absl::StatusOr<std::int64_t> DeleteMatching(std::string_view pattern,
                                              const CallOptions& call = {}) override;
  absl::Status Clear(const CallOptions& call = {}) override;
  // Asks the upper tiers to drop it, as a write does.
  void Forget(std::string_view key) override;
  absl::Status Ping(const CallOptions& call = {}) override;
  absl::Status Reconnect(const CallOptions& call = {}) override;
  void Close() override;
  // That of the lowest tier that has one.
  const Client* client() const override;
  // The authority's.
  std::optional<Usage> usage() const override;

  struct TierStats {
    std::uint64_t hits = 0;
    std::uint64_t failures = 0;  // calls that failed; of an upper tier nobody else was told
  };
  struct Stats {
    std::vector<TierStats> tiers;     // from the top down
    std::uint64_t fills = 0;          // values that reads put into upper tiers
    std::uint64_t fills_dropped = 0;  // not put there, since the key was written meanwhile
  };
  Stats stats() const;

 private:
  class Rep;
  explicit TieredBackend(std::unique_ptr<Rep> rep);

  std::unique_ptr<Rep> rep_;
};

}  // namespace coord

#endif  // COORD_CACHE_TIERED_BACKEND_H_
