// What of a response may be stored, what selects it, what makes it fresh again and what makes it
// invalid: RFC 9111 sections 3, 4.1, 4.3 and 4.4. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_STORING_H_
#define COORD_CACHE_HTTP_INTERNAL_STORING_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/headers.h"
#include "cache/http/internal/cache_control.h"
#include "cache/http/internal/freshness.h"
#include "cache/http/internal/stored_response.h"

namespace coord::http::internal {

// GET, HEAD, OPTIONS, TRACE (RFC 9110 section 9.2.1).
bool IsSafe(std::string_view method);
// Those, PUT and DELETE (section 9.2.2).
bool IsIdempotent(std::string_view method);

struct StoringQuestion {
  std::string_view method;
  const Headers* request = nullptr;
  int status = 0;
  const Headers* response = nullptr;
  Freshness freshness = {};
  // Heed no-store, must-understand and what else the headers say; false under kIgnored.
  bool heed_headers = true;
  bool complete = true;  // the body is all there, and no more than that
  // When it came. Without it what expired from the start counts as if it had been fresh.
  absl::Time received = absl::InfinitePast();
  // StaleAllowance; what the response itself allows is looked up anyway.
  absl::Duration stale_for = absl::ZeroDuration();
};

// Why it may not be stored (section 3), in a word or two for Cache-Status and messages; empty: it
// may. Not: no-store of either side (with must-understand of the response its own no-store does not
// count, where the status is understood, section 5.2.2.3); a status that is not final or is none
// (above 599), 206, 304; an incomplete one; Vary: *; a request with Range; a status that is not
// heuristically cacheable, or a method that is not GET or HEAD, without explicit expiry (of a
// status, public and private will do, too). The request's own no-store counts under kIgnored as
// well. A response with neither expiry nor validator is of no use, and not stored either, unless it
// may be served stale or the caller would have it expire at once.
std::string_view WhyNotStored(const StoringQuestion& question);

// What is stored of a response's fields (section 3.1): not those of the connection (Connection and
// what it names, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade), not Set-Cookie and
// Set-Cookie2, which are for who asked, and not those that no-cache names (what private names is
// for caches such as this one). Vary and Cache-Control stay, whatever names them: they limit the
// use of what is stored.
Headers StorableHeaders(const Headers& response);

// The names in Vary, in lower case, sorted, each once; nullopt for one with "*".
std::optional<std::vector<std::string>> VaryNames(const Headers& response);

// The request's fields by which a stored response is asked about: If-None-Match, with its ETag, and
// If-Modified-Since, with its Last-Modified, or else nothing (section 4.3.1).
Headers Validators(const Headers& stored);

// Whether a 304 with these fields is about that stored response (section 4.3.4): a strong ETag that
// is the same; no strong one, and a weak ETag or a Last-Modified that is the same; or no validator
// at all.
bool Confirms(const Headers& not_modified, const Headers& stored);
// Whether a HEAD's 200 says that the stored GET is still good (section 4.3.5): the validators and
// Content-Length that it has are the same. Where it does not, the GET is invalid.
bool ConfirmsByHead(const Headers& head, const Headers& stored);

// The stored fields brought up to date with those of a 304 (section 3.2): those it has take the
// place of all of the same name, but not Content-Length, Content-Encoding, Content-Range,
// Content-Type, and nothing that is not stored. An Age goes that the 304 does not repeat.
Headers Merged(const Headers& stored, const Headers& not_modified);

// What a request that brought its own conditions gets of a stored response that may be served
// (section 4.3.2): If-None-Match by weak comparison ("*" matches), else If-Modified-Since.
enum class Condition { kNone, kNotModified, kModified };
Condition EvaluateConditions(std::string_view method, const Headers& request,
                             const StoredResponse& stored, absl::Time now);

// Whether the request has a condition or a range that only the origin can answer: If-Match,
// If-Unmodified-Since, If-Range, Range. Such go past the cache.
bool ForOriginAlone(const Headers& request);

// What an answer to an unsafe method makes invalid (section 4.4): nothing unless its status is 200
// to 399; else `url`, and what Location and Content-Location name, resolved, if it is of the same
// origin. URLs as they were sent, not normalised.
std::vector<std::string> InvalidatedUrls(std::string_view method, std::string_view url, int status,
                                         const Headers& response);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_STORING_H_
