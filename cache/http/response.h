// What a Session answers.
#ifndef COORD_CACHE_HTTP_RESPONSE_H_
#define COORD_CACHE_HTTP_RESPONSE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cache/http/headers.h"

namespace coord::http {

namespace internal {
struct ResponseParts;
}

// A response, complete, from the origin or the cache. Cheap to copy; copies share what they hold,
// and nothing in it changes. Thread-safe.
class Response {
 public:
  // Made by Session. A default one has status 0.
  Response();
  explicit Response(std::shared_ptr<const internal::ResponseParts> parts);

  int status() const;  // 200, 404, ...
  bool ok() const;     // 200 to 299
  const Headers& headers()
      const;  // without those of the connection alone; secrets redacted in cached ones
  std::string_view header(std::string_view name) const;  // its first line; empty: there is none
  // Decoded (gzip and the like) where the session asked for it. Empty for one that went to a sink.
  // Lives as long as this or a copy does.
  std::string_view body() const;
  // Of the last request, after redirects: normalised, ignored and secret parameters redacted.
  const std::string& url() const;
  const std::string& method() const;

  // ---- What the cache had to do with it ----

  // It, or at least its body, comes from the cache.
  bool from_cache() const;
  // The origin was asked and said that the cached one is still good (304).
  bool revalidated() const;
  // It was served though it had expired: the origin failed, or is being asked meanwhile, or the
  // caller would have it so.
  bool stale() const;
  // It is in the cache now: it was found, or has been stored.
  bool stored() const;
  // Under which key of the backend it stands, or was looked for; empty when it was not.
  const std::string& key() const;
  // When it was first stored; InfinitePast when it is not.
  absl::Time created() const;
  // When it stops being fresh; InfiniteFuture: never, InfinitePast: it was not from the start.
  absl::Time expires() const;
  // At this moment, by the calendar of this host.
  bool is_expired() const;
  // How long ago the origin made or confirmed it (RFC 9111 section 4.2.3), when it was answered.
  absl::Duration age() const;
  // The cache's handling as a Cache-Status field (RFC 9211): `coord; hit; ttl=376`.
  const std::string& cache_status() const;

  // The redirects that led here, first to last, without their bodies.
  const std::vector<Response>& history() const;
  // How long the call took.
  absl::Duration elapsed() const;

  // Everything above as a JSON object: `body` as text where it is UTF-8, else `body_base64`; times
  // as RFC 3339. Header fields that carry secrets are "REDACTED".
  std::string ToJson() const;

 private:
  std::shared_ptr<const internal::ResponseParts> parts_;
};

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_RESPONSE_H_
