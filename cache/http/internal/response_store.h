// Stored responses in a backend: one key for each URL and identity, more for variants of it.
//
//   <prefix><32 hex>         the primary: the variant that came first
//   <prefix><32 hex>.<32 hex>  another variant, of the primary's series
//
// The primary says by which fields variants are told apart (its `selecting`); so a response that
// has no variants, and the first of those that do, cost one round trip. To delete the primary is to
// delete all variants: nothing finds those of its series any more, and they go when their time is
// over, or with a walk that meets them.
//
// No entry is used before its own `selecting` has been compared with the request, so whatever comes
// in between costs a miss at most, never a wrong response:
//
//   - Two processes find nothing, and both store: the later primary stays. The other's variants, if
//     it had stored some, are of a series that nothing finds.
//   - The origin changes its Vary. A primary that is replaced by one with other names gets a new
//     series: what was told apart by the old names is not found any more. A variant that has other
//     names than its primary stands where the primary's names lead, is used for the requests that
//     its own let through, and leads the others on by its own. One without Vary is used for all
//     that come to its key.
//   - A primary is deleted while a request is under way that would replace it: what is stored then
//     gets a new series, so that the variants that were deleted with it stay so.
#ifndef COORD_CACHE_HTTP_INTERNAL_RESPONSE_STORE_H_
#define COORD_CACHE_HTTP_INTERNAL_RESPONSE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/compression.h"
#include "cache/http/internal/key_maker.h"
#include "cache/http/internal/stored_response.h"

namespace coord::http::internal {

struct StoreRules {
  Compression compression = {};
  std::size_t max_bytes = std::size_t{64} << 20;  // larger entries are as if they were not there
  bool ttl = true;
  absl::Duration ttl_offset = absl::Hours(1);
  absl::Duration timeout = absl::Seconds(1);
  bool read_only = false;                // a walk deletes nothing
  std::function<absl::Time()> calendar;  // required
  std::function<void(const absl::Status&)> on_problem = {};
};

// Thread-safe. Shares the backend.
class ResponseStore {
 public:
  ResponseStore(std::shared_ptr<Backend> backend, KeyMaker keys, StoreRules rules);

  struct Found {
    // Where `response` stands, or where one to this request would have to be stored.
    std::string key;
    std::string series = {};  // of the primary; empty: there is none
    // By which fields the primary tells variants apart: sorted, in lower case.
    std::vector<std::string> names = {};
    // What matches the request, nobody else's; null: nothing does.
    std::shared_ptr<StoredResponse> response = nullptr;
  };
  // One round trip, or two, and one more for each different Vary on the way, at most four; see
  // above. What cannot be read is as if it were not there, and told to
  // on_problem.
  absl::StatusOr<Found> Find(std::string_view primary, const Headers& request,
                             const CallOptions& call) const;
  // Whether there is a response at that primary key, for whatever request. One round trip.
  absl::StatusOr<bool> Has(std::string_view primary, const CallOptions& call) const;
  // Stores it where Find found that it belongs: at found.key, with found.series or a new one. One
  // round trip; two where the primary was deleted meanwhile. For as long as it is fresh, not at all
  // if it never was, and `stale_for` and the offset; see SessionOptions::ttl.
  // `response.selecting` is KeyMaker::SelectingFields of its own Vary. kResourceExhausted: it takes
  // more than StoreRules::max_bytes; nothing was sent.
  absl::Status Put(const Found& found, StoredResponse response, absl::Duration stale_for,
                   const CallOptions& call) const;
  // Of several in one round trip; how many there were.
  absl::StatusOr<std::int64_t> Remove(const std::vector<std::string>& keys,
                                      const CallOptions& call) const;

  // One entry of a walk.
  struct Entry {
    std::string key;
    std::size_t bytes = 0;  // key and value
    std::shared_ptr<const StoredResponse> response;
  };
  // Every entry that can be read, each once, until `each` returns false, which must not throw.
  // Variants whose primary is gone, or of another series, are deleted and not shown. A round trip
  // or two for each 100 keys, each within StoreRules::timeout, and the scan's.
  absl::Status Walk(absl::FunctionRef<bool(const Entry&)> each, const CallOptions& call) const;
  // Puts another expiry, which is a caller's word, into what stands there now, unless it is gone or
  // cannot be read. Two round trips; not atomic.
  absl::StatusOr<bool> Rewrite(std::string_view key, absl::Time expires,
                               const CallOptions& call) const;
  // Within the call's time alone: it may take longer than what is done beside a request may.
  absl::Status Clear(const CallOptions& call) const;

  const KeyMaker& keys() const { return keys_; }
  Backend& backend() const { return *backend_; }
  absl::Time Now() const { return rules_.calendar(); }

 private:
  absl::StatusOr<std::shared_ptr<StoredResponse>> Read(std::string_view key,
                                                       const CallOptions& call) const;
  // Null: it cannot be read, which was told.
  std::shared_ptr<StoredResponse> Decoded(std::string_view key, std::string bytes) const;
  absl::StatusOr<std::string> Encoded(std::string_view key, const StoredResponse& response) const;
  absl::Duration TtlOf(const StoredResponse& response, absl::Duration stale_for) const;
  absl::StatusOr<bool> Write(std::string_view key, const StoredResponse& response,
                             absl::Duration stale_for, SetIf condition,
                             const CallOptions& call) const;
  bool Matches(const StoredResponse& stored, const Headers& request) const;
  absl::StatusOr<std::vector<Entry>> ReadPage(std::vector<std::string> keys,
                                              const CallOptions& call) const;
  absl::Status DropOrphans(std::vector<Entry>& page, const CallOptions& call) const;
  std::string Pattern() const;
  void Tell(const absl::Status& problem) const;
  CallOptions Bounded(const CallOptions& call) const;

  const std::shared_ptr<Backend> backend_;
  const KeyMaker keys_;
  const StoreRules rules_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_RESPONSE_STORE_H_
