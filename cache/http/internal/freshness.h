// Whether a stored response may be used, and for how long: RFC 9111 sections 4.2 and 5.2,
// RFC 5861, RFC 8246, as a private cache has it. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_FRESHNESS_H_
#define COORD_CACHE_HTTP_INTERNAL_FRESHNESS_H_

#include <optional>

#include "absl/time/time.h"
#include "cache/http/expiry.h"
#include "cache/http/headers.h"
#include "cache/http/internal/cache_control.h"
#include "cache/http/internal/stored_response.h"

namespace coord::http::internal {

// When an exchange began and when its header fields were there, by the calendar.
struct ExchangeTimes {
  absl::Time requested;
  absl::Time received;
};

// corrected_initial_age (section 4.2.3). A Date in the future, one that is none, and an Age that is
// none count as if they were not there. Never negative.
absl::Duration InitialAge(const Headers& headers, const ExchangeTimes& times);

// age_value now (section 4.2.3). A clock that is behind the one that stored it makes it no younger
// than it was then.
absl::Duration CurrentAge(const StoredResponse& stored, absl::Time now);

// What the origin says: max-age, else Expires less Date (section 4.2.1; s-maxage is for shared
// caches). nullopt: nothing. An Expires that is no date means zero.
std::optional<absl::Duration> ExplicitLifetime(const Headers& headers, absl::Time received);

// A tenth of the time since Last-Modified, at most a day (section 4.2.2); nullopt where the status
// does not allow for it and the response is not marked public, or there is no Last-Modified.
std::optional<absl::Duration> HeuristicLifetime(int status, const Headers& headers,
                                                absl::Time received);
// Whether the status is heuristically cacheable (RFC 9110 section 15.1); 206 counts as not.
bool HeuristicallyCacheable(int status);

// Who may say how long a response is fresh.
struct ExpirySources {
  Expiry call = {};
  Expiry pattern = {};
  Expiry session = {};
  HeaderRank rank = HeaderRank::kBelowPatterns;
};

// Who of them does, in the order of the rank.
struct Freshness {
  absl::Time expires;       // InfiniteFuture: never. Not after it was received: never fresh
  bool by_caller = false;   // call, pattern, session, or kIgnored's "never": not the origin
  bool explicitly = false;  // not the heuristic, and not for want of anything
  bool do_not_cache = false;
};
Freshness DecideFreshness(int status, const Headers& headers, const ExchangeTimes& times,
                          const ExpirySources& sources);

// What the caller asks for beyond the request's Cache-Control.
struct Demand {
  CacheControl control = {};  // of the request
  bool refresh = false;
  bool always_revalidate = false;
  // Where neither side says anything.
  absl::Duration stale_if_error = absl::ZeroDuration();
  absl::Duration stale_while_revalidate = absl::ZeroDuration();
};

enum class Use {
  kServe,            // fresh, or as stale as the request would have it
  kServeAndRefresh,  // stale, within stale-while-revalidate: the origin is asked meanwhile
  kRevalidate,       // not without asking the origin
};

struct Verdict {
  Use use = Use::kRevalidate;
  bool stale = false;  // it has expired
  // Whether it may be served when the origin cannot be reached or answers 500, 502, 503 or 504:
  // within stale-if-error, of the response, the request or the demand. Never with no-cache or
  // must-revalidate; always within its freshness, unless the request asked for revalidation.
  bool on_error = false;
  absl::Duration age = absl::ZeroDuration();
};

// `stored` matches the request (its Vary does). only-if-cached is the caller's: it makes
// kRevalidate a 504, and kServeAndRefresh a kServe.
Verdict Judge(const StoredResponse& stored, const Demand& demand, absl::Time now);

// How long beyond `expires` the origin or the session allows it to be served stale at all; zero:
// never. `by_caller` as StoredResponse has it.
absl::Duration StaleAllowance(const Headers& headers, const Demand& demand, bool by_caller = false);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_FRESHNESS_H_
