// Cache-Control and its relatives, of requests and responses (RFC 9111 section 5.2; RFC 5861;
// RFC 8246). Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_CACHE_CONTROL_H_
#define COORD_CACHE_HTTP_INTERNAL_CACHE_CONTROL_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/headers.h"

namespace coord::http::internal {

// Directives that are given; all others are as if they were not. Where a number comes more than
// once, the first counts (section 4.2.1); of no-cache and private all count. A number above 2^31 is
// 2^31 (section 1.2.2). A number that is none is zero where zero means staleness (max-age,
// s-maxage, stale-*), and infinite for min-fresh: what cannot be understood never makes a response
// fresher. The quoted form of a number is read like the token.
struct CacheControl {
  std::optional<absl::Duration> max_age;
  std::optional<absl::Duration> s_maxage;
  std::optional<absl::Duration> min_fresh;
  std::optional<absl::Duration> max_stale;  // without a number: InfiniteDuration
  std::optional<absl::Duration> stale_while_revalidate;
  std::optional<absl::Duration> stale_if_error;
  // Without field names; with them only those fields are meant, in lower case.
  bool no_cache = false;
  std::vector<std::string> no_cache_fields;
  bool is_private = false;
  std::vector<std::string> private_fields;
  bool no_store = false;
  bool no_transform = false;
  bool only_if_cached = false;
  bool must_revalidate = false;
  bool proxy_revalidate = false;
  bool must_understand = false;
  bool is_public = false;
  bool immutable = false;
};

// Of all Cache-Control lines together. Pragma: no-cache counts as no-cache where there is no
// Cache-Control and `request` says that it is one (section 5.4).
CacheControl ParseCacheControl(const Headers& headers, bool request);

// A list of RFC 9110 section 5.6.1 with quoted strings left whole: its elements, without blanks
// around them and without empty ones.
std::vector<std::string> SplitList(std::string_view value);

// delta-seconds, as section 1.2.2 has it: digits and nothing else, above 2^31 as 2^31.
std::optional<absl::Duration> ParseDeltaSeconds(std::string_view text);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_CACHE_CONTROL_H_
