// How a session behaves. Every field has a default that fits most programs.
#ifndef COORD_CACHE_HTTP_SESSION_OPTIONS_H_
#define COORD_CACHE_HTTP_SESSION_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/compression.h"
#include "cache/http/expiry.h"
#include "cache/http/headers.h"
#include "cache/http/response.h"
#include "coord/options.h"

namespace coord::http {

// Where a Redis is, for who would rather not write a URL. Goes with the backend "redis".
struct RedisAddress {
  std::string host = "localhost";
  int port = 6379;
  int database = 0;
  std::string user = {};
  std::string password = {};
  bool tls = false;
};

// How origins are talked to.
struct TransportOptions {
  // Of one exchange with an origin, its redirects each anew; above zero, at most 24 h.
  absl::Duration timeout = absl::Seconds(30);
  absl::Duration connect_timeout = absl::Seconds(10);
  bool follow_redirects = true;
  int max_redirects = 20;
  // Sent with each request that does not name the same field itself. Never to another origin than
  // the request's own after a redirect, where they carry credentials.
  Headers headers = {};
  std::string user_agent = {};  // "coord/<version>" by default
  // Whether origins may compress what they send, which is then decoded here. A request that names
  // Accept-Encoding itself gets what comes as it comes.
  bool decompress = true;
  // Chain and host name are verified, by the system's authorities, with TLS 1.2 or later.
  std::string ca_file = {};  // in place of the system's
  std::string cert_file = {}, key_file = {};
  bool insecure = false;  // verifies nothing: for tests
  // "http://host:port", "socks5h://host:port"; empty: as http_proxy, https_proxy, all_proxy and
  // no_proxy in the environment say; "none": no proxy whatever these say.
  std::string proxy = {};
  std::string unix_socket = {};  // connects there, whatever the URL's host is
  // A response whose header fields take more is refused.
  std::size_t max_header_bytes = std::size_t{256} << 10;
  // Of a body that is kept in memory, after decoding; larger ones are kResourceExhausted. What goes
  // to a sink is not bounded.
  std::size_t max_body_bytes = std::size_t{256} << 20;
  // Connections that are kept open, per session, for the next request.
  int max_idle_connections = 16;
};

struct SessionOptions {
  // ---- Where responses are kept (Session::Open) ----

  // "redis", "memory", "disk", "embedded", or a URL as OpenBackend has it. Empty: $COORD_CACHE_URL,
  // else $COORD_URL, else embedded.
  //   redis     what `redis` says; without it $COORD_CACHE_URL or $COORD_URL, else localhost:6379
  //   memory    64 MiB of this process
  //   disk      $XDG_CACHE_HOME/coord/http.db, else ~/.cache/coord/http.db; up to 1 GiB
  //   embedded  embedded://
  std::string backend = {};
  std::optional<RedisAddress> redis = std::nullopt;
  ClientOptions client = {};
  // Keys are "<client's prefix><store>:<hash>"; sessions with the same one share what they keep.
  // 1 to 64 of letters, digits, '_', '-', '.'.
  std::string store = "http_cache";
  Compression compression = {};  // of what is stored
  // Of a response's body; larger ones are passed on and not stored.
  std::size_t max_stored_body = std::size_t{8} << 20;
  // Of one call of the backend. One that is away costs at most that much; requests go to the origin
  // then, and nothing is stored.
  absl::Duration backend_timeout = absl::Seconds(1);

  // ---- How long ----

  // Where nobody else says; see HeaderRank.
  Expiry expire_after = {};
  // The first that matches.
  std::vector<UrlExpiry> urls_expire_after = {};
  HeaderRank header_rank = HeaderRank::kBelowPatterns;
  // What the backend keeps an expired response for, to ask about it (304) or to serve it when the
  // origin fails, beyond what the response itself allows. `ttl` false: nothing expires in the
  // backend, only its own bounds evict.
  bool ttl = true;
  absl::Duration ttl_offset = absl::Hours(1);
  // Where neither side says anything: a response may be served so long after it expired when the
  // origin fails (RFC 5861 section 4), and while it is being asked (section 3). Never against
  // must-revalidate or no-cache.
  absl::Duration stale_if_error = absl::ZeroDuration();
  absl::Duration stale_while_revalidate = absl::ZeroDuration();
  // Each fresh response is asked about, too.
  bool always_revalidate = false;

  // ---- What ----

  // Methods whose responses are stored and looked for. Those other than GET and HEAD have the
  // request's body in their key, and need an expiry by the call, a pattern or the session, or an
  // explicit one by the origin.
  std::vector<std::string> methods = {"GET", "HEAD"};
  // Status codes that are stored; empty: those that RFC 9111 section 3 allows. 206 and 304 never
  // are.
  std::vector<int> statuses = {};
  // Asked before a response is stored; false: it is not. On the caller's thread or a worker, from
  // many at once. What it throws counts as false.
  std::function<bool(const Response&)> filter = {};

  // ---- What tells responses apart ----

  // Request header fields whose values tell them apart though no Vary names them. Others are only
  // regarded where a response's Vary names them.
  std::vector<std::string> match_headers = {};
  // Names of query parameters, header fields, and fields of form or JSON bodies that make no
  // difference: not part of the key, and not in what is stored.
  std::vector<std::string> ignored_parameters = {};
  // The same of such that say who asks: their values are never stored, and responses are told apart
  // by a hash of them, so that each identity has a private cache of its own. One that is in
  // ignored_parameters, too, is ignored.
  std::vector<std::string> secret_parameters = {
      "Authorization", "Proxy-Authorization", "Cookie",  "X-API-Key",
      "X-Auth-Token",  "access_token",        "api_key", "apikey",
      "token"};
  // The key of that hash. Without one, who can read the store and guesses a weak password can
  // confirm it. All who share a store need the same one.
  std::string identity_secret = {};
  // Whether the order of query parameters makes no difference.
  bool sort_query = false;

  // ---- Otherwise ----

  TransportOptions transport = {};
  // Nothing is stored, deleted or refreshed in the background.
  bool read_only = false;
  // Nothing is looked for either.
  bool disabled = false;
  // Where responses are refreshed that were served stale. Must not run the task inside the call;
  // must outlive the session. By default up to four threads of the session's own, each started when
  // first needed.
  std::function<void(std::function<void()>)> executor = {};
  // Told what went wrong beside a call: a backend that is away, an entry that cannot be read, a
  // refresh that failed. From any thread. No secrets in it.
  std::function<void(const absl::Status&)> on_problem = {};
  std::function<absl::Time()> calendar = {};  // absl::Now by default
};

// Receives a body piece by piece. An error ends the exchange, and is what the call returns.
using Sink = std::function<absl::Status(std::string_view piece)>;

// For one request.
struct RequestOptions {
  Headers headers = {};  // Cache-Control among them is heeded, and sent
  std::string body = {};
  // Before the pattern's and the session's; see HeaderRank.
  Expiry expire = {};
  // Asks the origin, with the validators of what is cached: a 304 makes it fresh again.
  bool refresh = false;
  // Asks the origin as if nothing were cached, and stores what it says.
  bool force_refresh = false;
  // Never asks the origin: 504 where nothing that may be served is cached (RFC 9111 section
  // 5.2.1.7).
  bool only_if_cached = false;
  // In place of the session's. Unset: as the session.
  std::optional<absl::Duration> stale_if_error = std::nullopt;
  std::optional<absl::Duration> timeout = std::nullopt;
  std::optional<bool> follow_redirects = std::nullopt;
  // The body goes there in place of Response::body, on the caller's thread, while it comes: a
  // response of any size takes little memory. Bodies of redirects do not. Once it has been given
  // something, an error of the origin is the call's: nothing stale can take its place.
  Sink sink = {};
  // Ends the call early, with kCancelled.
  std::stop_token stop = {};
};

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_SESSION_OPTIONS_H_
