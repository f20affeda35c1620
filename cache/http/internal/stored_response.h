// A response as it is kept, and its bytes. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_STORED_RESPONSE_H_
#define COORD_CACHE_HTTP_INTERNAL_STORED_RESPONSE_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/http/headers.h"

namespace coord::http::internal {

// Request header fields that select among variants: names in lower case and sorted, and what the
// request had for each; see KeyMaker::Selecting.
using Selecting = std::vector<std::pair<std::string, std::string>>;

// Times are by the calendar, to the millisecond. Nothing in it is secret.
struct StoredResponse {
  std::string method;  // of the request
  std::string url;     // of the request: normalised, redacted
  int status = 0;
  Headers headers;  // as they may be stored; see storing.h

  absl::Time created;                                 // when it was first stored
  absl::Time received;                                // when it was last received or confirmed
  absl::Duration initial_age = absl::ZeroDuration();  // then: section 4.2.3's corrected_initial_age
  absl::Time expires;  // when it stops being fresh; InfiniteFuture: never
  // `expires` is the caller's, a pattern's or the session's word, not the origin's: then the
  // origin's no-cache, must-revalidate and the like do not count.
  bool by_caller = false;

  // What all variants at this URL are selected by is said by the one at the primary key; what this
  // one was selected by is its own Vary's. A new series makes all variants of the old one
  // unreachable.
  Selecting selecting;
  std::string series;  // 8 random bytes

  std::string body;

  friend bool operator==(const StoredResponse&, const StoredResponse&) = default;
};

// A byte that no codec's text begins with ('\x01'), a version, the fields in order (numbers as
// varints, strings after their length), and last the body.
std::string EncodeStored(const StoredResponse& response);

// kDataLoss, and why: truncated, another version, anything that EncodeStored would not have
// written. Allocates no more than `bytes` has.
absl::StatusOr<StoredResponse> DecodeStored(std::string_view bytes);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_STORED_RESPONSE_H_
