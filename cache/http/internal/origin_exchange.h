// Asking the origin, and collecting what it answers.
#ifndef COORD_CACHE_HTTP_INTERNAL_ORIGIN_EXCHANGE_H_
#define COORD_CACHE_HTTP_INTERNAL_ORIGIN_EXCHANGE_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/http/headers.h"
#include "cache/http/internal/freshness.h"
#include "cache/http/internal/hop.h"
#include "cache/http/internal/transport.h"

namespace coord::http::internal {

struct OriginAnswer {
  absl::Status error;      // not OK: there is no answer, or not all of it
  bool sent = false;       // the origin may have got the request
  bool sink_used = false;  // the sink has been given something
  int status = 0;
  Headers
      headers;  // with a Date, the time of arrival where there was none (RFC 9110 section 6.6.1)
  std::string body;  // empty where it went to the sink and is too large to be stored
  bool body_kept = true;
  bool length_is_right = true;
  ExchangeTimes times;
};

struct ExchangeRules {
  std::size_t max_body = 0;    // in memory
  std::size_t max_stored = 0;  // beyond it a body that goes to a sink is not kept
  std::function<absl::Time()> calendar;
  // Whether a body of an answer of that status is kept from the sink, since something else may take
  // its place.
  bool holds_back_errors = false;
};

// Whether an answer says that the origin cannot do what it should (RFC 5861 section 4).
bool IsOriginFailure(int status);

// What a sink throws is its error.
absl::Status GiveToSink(const Sink& sink, std::string_view piece);

// `more`: fields beside the hop's. Blocks until it has ended, at most until the hop's deadline.
OriginAnswer AskOrigin(Transport& transport, const Hop& hop, const Headers& more,
                       const ExchangeRules& rules);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_ORIGIN_EXCHANGE_H_
