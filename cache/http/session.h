// HTTP requests that never fetch the same page twice.
//
//   auto session = coord::http::Session::Open({.backend = "redis"});
//   auto page = session->Get("https://example.com/");
//   if (!page.ok()) return page.status();
//   std::cout << page->status() << ' ' << page->from_cache() << '\n' << page->body();
//
// Responses are kept in any cache backend, and used again as RFC 9111 has it for a private cache:
// one for each identity (Authorization, cookies and the like), shared by all processes on the same
// backend that speak for it.
//
// A response of any status is an answer, not an error. Errors: kInvalidArgument (URL, header field,
// option), before anything is sent; kUnavailable (no connection, or it broke), IsUnavailable;
// kDeadlineExceeded; kFailedPrecondition (the peer's certificate, closed, too many redirects or a
// loop); kResourceExhausted (too large); kCancelled. For a method that is not idempotent (RFC 9110
// section 9.2.2) one that was sent may have been carried out: IsOutcomeUnknown. No error and no
// message has a secret in it: URLs are shown without their query.
//
// Of many calls that want the same response at once, in all processes on a backend with a server,
// one asks the origin, and the others get what it brought if it may be shared. Not those with a
// sink, conditions of their own, refresh or no-cache: each of these asks for itself.
//
// Cost of a hit: one round trip to the backend; two for a response of which there are several
// variants (Vary), but for the variant that came first; at most four where their Vary differs. HEAD
// costs one more.
#ifndef COORD_CACHE_HTTP_SESSION_H_
#define COORD_CACHE_HTTP_SESSION_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/backend.h"
#include "cache/http/response.h"
#include "cache/http/response_cache.h"
#include "cache/http/session_options.h"
#include "coord/client.h"

namespace coord::http {

namespace internal {
class SessionCore;
}

// A cheap handle; copies share connections and cache. Thread-safe. The last handle waits for the
// refreshes that are under way, and drops those that have not begun after a
// TransportOptions::timeout. In a forked child every call is kFailedPrecondition: open one there.
//
// Threads: refreshes run on up to four workers (SessionOptions::executor); libcurl looks up a host
// name on a thread of its own that ends with the look-up. Callbacks (filter, on_problem, calendar)
// may use a session, but not hold the last handle of the one that calls them, and calendar must not
// throw.
class Session {
 public:
  // Over a backend of its own; see SessionOptions::backend. Errors of options and of connecting as
  // OpenBackend has them.
  static absl::StatusOr<Session> Open(SessionOptions options = {});
  // Over one that exists, which is shared and not closed; SessionOptions::backend, redis and client
  // are not looked at.
  static absl::StatusOr<Session> Over(std::shared_ptr<Backend> backend,
                                      SessionOptions options = {});
  static absl::StatusOr<Session> Over(const Client& client, SessionOptions options = {});

  absl::StatusOr<Response> Get(std::string_view url, const RequestOptions& options = {}) const;
  absl::StatusOr<Response> Head(std::string_view url, const RequestOptions& options = {}) const;
  absl::StatusOr<Response> Options(std::string_view url, const RequestOptions& options = {}) const;
  // A successful one makes the cache forget what it has for the URL, and for what Location and
  // Content-Location name at the same origin (RFC 9111 section 4.4): of this identity, and of
  // nobody's.
  absl::StatusOr<Response> Post(std::string_view url, std::string body,
                                const RequestOptions& options = {}) const;
  absl::StatusOr<Response> Put(std::string_view url, std::string body,
                               const RequestOptions& options = {}) const;
  absl::StatusOr<Response> Patch(std::string_view url, std::string body,
                                 const RequestOptions& options = {}) const;
  absl::StatusOr<Response> Delete(std::string_view url, const RequestOptions& options = {}) const;
  // Any method that is a token, but CONNECT and TRACE.
  absl::StatusOr<Response> Send(std::string_view method, std::string_view url,
                                const RequestOptions& options = {}) const;

  // The same session, looking up what is there and storing nothing.
  Session ReadOnly() const;
  // The same session without its cache.
  Session Disabled() const;

  // What is cached.
  const ResponseCache& cache() const;
  // The URL as keys and patterns have it: normalised (RFC 3986 section 6.2.2 and 6.2.3), without
  // fragment and credentials, ignored and secret parameters redacted.
  absl::StatusOr<std::string> NormalizedUrl(std::string_view url) const;

  // Ends the exchanges and refreshes that are under way. Idempotent; later calls are
  // kFailedPrecondition. A backend or client that was handed in stays open.
  void Close() const;

 private:
  explicit Session(std::shared_ptr<internal::SessionCore> core) : core_(std::move(core)) {}

  std::shared_ptr<internal::SessionCore> core_;
  bool read_only_ = false;
  bool disabled_ = false;
};

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_SESSION_H_
