#include "cache/http/internal/origin_exchange.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <utility>

#include "absl/strings/cord.h"
#include "cache/http/internal/http_date.h"
#include "cache/http/internal/redirect.h"
#include "cache/http/internal/url.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::StrCat;

class Collector final : public Receiver {
 public:
  Collector(const Hop& hop, const ExchangeRules& rules, OriginAnswer& answer)
      : hop_(hop), rules_(rules), answer_(answer) {}

  absl::Status OnHead(int status, const Headers& headers) override {
    answer_.status = status;
    answer_.headers = headers;
    answer_.times.received = rules_.calendar();
    if (!answer_.headers.Has("Date")) {
      answer_.headers.Add("Date", FormatHttpDate(answer_.times.received));
    }
    streams_ = hop_.sink != nullptr && status != 304 &&
               !(hop_.follows && IsRedirect(status, headers)) &&
               !(rules_.holds_back_errors && IsOriginFailure(status));
    const std::optional<std::string> length = headers.Get("Content-Length");
    const std::optional<std::int64_t> announced =
        length.has_value() ? coord::internal::ParseInt64(*length) : std::nullopt;
    const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(announced.value_or(0), 0));
    if (streams_ && size > rules_.max_stored) {
      answer_.body_kept = false;
    }
    return absl::OkStatus();
  }

  absl::Status OnBody(std::string_view piece) override {
    const std::size_t most = streams_ ? rules_.max_stored : rules_.max_body;
    const std::size_t have = streams_ ? streamed_.size() : answer_.body.size();
    if (answer_.body_kept && piece.size() > most - std::min(most, have)) {
      if (!streams_) {
        return coord::internal::MakeStatus(
            absl::StatusCode::kResourceExhausted,
            StrCat(hop_.method, " ", UrlForMessages(hop_.url), ": the body is larger than ", most,
                   " bytes (TransportOptions::max_body_bytes); give it a sink"));
      }
      answer_.body_kept = false;
      streamed_.Clear();
    }
    if (!streams_) {
      answer_.body.append(piece);
      return absl::OkStatus();
    }
    if (answer_.body_kept) streamed_.Append(coord::internal::ToAbsl(piece));
    answer_.sink_used = true;
    return GiveToSink(hop_.sink, piece);
  }

  // The exchange has ended well.
  void Finish() {
    if (streams_ && answer_.body_kept) answer_.body = std::string(streamed_);
  }

 private:
  const Hop& hop_;
  const ExchangeRules& rules_;
  OriginAnswer& answer_;
  bool streams_ = false;
  // Grows without being copied, which would take twice the memory for a while.
  absl::Cord streamed_;
};

}  // namespace

bool IsOriginFailure(int status) {
  return status == 500 || status == 502 || status == 503 || status == 504;
}

absl::Status GiveToSink(const Sink& sink, std::string_view piece) {
  try {
    return sink(piece);
  } catch (const std::exception& error) {
    return coord::internal::MakeStatus(absl::StatusCode::kInternal,
                                       StrCat("the sink threw: ", error.what()));
  } catch (...) {
    return coord::internal::MakeStatus(absl::StatusCode::kInternal, "the sink threw");
  }
}

OriginAnswer AskOrigin(Transport& transport, const Hop& hop, const Headers& more,
                       const ExchangeRules& rules) {
  OriginAnswer answer;
  Headers headers = hop.headers;
  for (const auto& [name, value] : more) headers.Set(name, value);
  const absl::Duration left = coord::internal::TimeUntil(hop.deadline);
  if (left <= absl::ZeroDuration()) {
    answer.error = coord::internal::MakeStatus(
        absl::StatusCode::kDeadlineExceeded,
        StrCat(hop.method, " ", UrlForMessages(hop.url),
               ": no time was left to ask the origin, after waiting for others who asked it"));
    return answer;
  }
  Collector collector(hop, rules, answer);
  answer.times.requested = rules.calendar();
  absl::StatusOr<Ended> ended = transport.Exchange({.method = hop.method,
                                                    .url = hop.url,
                                                    .headers = &headers,
                                                    .body = hop.body,
                                                    .timeout = left,
                                                    .stop = hop.stop},
                                                   collector, &answer.sent);
  if (!ended.ok()) {
    answer.error = ended.status();
  } else {
    answer.length_is_right = !ended->length_is_wrong;
    collector.Finish();
  }
  return answer;
}

}  // namespace coord::http::internal
