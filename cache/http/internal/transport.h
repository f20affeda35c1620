// One exchange with an origin, by libcurl: no cache, no redirects, no policy.
#ifndef COORD_CACHE_HTTP_INTERNAL_TRANSPORT_H_
#define COORD_CACHE_HTTP_INTERNAL_TRANSPORT_H_

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/http/headers.h"
#include "cache/http/session_options.h"

namespace coord::http::internal {

// Borrowed for the call.
struct Outgoing {
  std::string_view method;
  std::string_view url;  // CheckUrl's; the path is sent as it stands
  // Checked; all that are sent, but for Host, User-Agent, Accept (of anything) and Accept-Encoding,
  // where they are not named. Content-Length, Transfer-Encoding and Expect are left out.
  const Headers* headers = nullptr;
  std::string_view body;
  absl::Duration timeout = absl::Seconds(30);
  std::stop_token stop = {};
};

// Told while an exchange goes on, on the caller's thread. What a method returns as an error ends
// the exchange, and is what Exchange returns. Must not throw.
class Receiver {
 public:
  virtual ~Receiver() = default;
  // The header fields of the final response are there (not those of 1xx). Where a body was
  // compressed and will be decoded, without Content-Encoding and Content-Length; likewise of HEAD
  // and in a 304, so that they speak of the same body. Control characters in values are blanks.
  virtual absl::Status OnHead(int status, const Headers& headers) = 0;
  virtual absl::Status OnBody(std::string_view piece) = 0;
};

// How an exchange ended that did.
struct Ended {
  // The origin sent more than Content-Length says, or lengths that contradict each other; what was
  // received is what the length said. Bytes that come later than the last of the body are not seen:
  // the connection is not used again then. What libcurl cannot read as a length at all
  // is an error.
  bool length_is_wrong = false;
};

// Thread-safe. Connections are kept and used again; one exchange at a time is on each, by HTTP/1.1.
// Where a kept one turns out to be closed when it is used, the request is repeated on another, but
// only if its method is idempotent. In a forked child every exchange is
// kFailedPrecondition, and nothing of the parent's is touched.
class Transport {
 public:
  // kInvalidArgument for options that break the rules; kFailedPrecondition where libcurl cannot do
  // what they ask for.
  static absl::StatusOr<std::unique_ptr<Transport>> Make(const TransportOptions& options);
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Blocks until the exchange has ended, at most Outgoing::timeout; a stop ends it at once. An
  // error of the receiver comes back as it is. Errors of the exchange as session.h has them:
  // kUnavailable with the reason that coord::IsUnavailable looks for; a body that ends early
  // (Content-Length, chunks) or cannot be decoded is kUnavailable, but libcurl does not notice
  // compressed data that lack only their end; header fields above max_header_bytes, or a line above
  // some 100 KiB, are kResourceExhausted; TLS faults that do not heal are kFailedPrecondition.
  // Messages name URLs by UrlForMessages. `sent`, where it is not null, is whether the origin may
  // have got the request, also of an exchange that failed.
  absl::StatusOr<Ended> Exchange(const Outgoing& request, Receiver& receiver, bool* sent = nullptr);

  // Ends all exchanges that are under way, with kCancelled, and refuses others
  // (kFailedPrecondition). Does not wait for them; the destructor needs them to have returned.
  // Idempotent.
  void Close();

 private:
  struct State;
  explicit Transport(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_TRANSPORT_H_
