#include "cache/http/internal/cached_exchange.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "cache/http/internal/redirect.h"
#include "cache/http/internal/storing.h"
#include "cache/http/internal/url.h"
#include "coord/internal/deadline.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::Annotate;
using coord::internal::StrCat;

// How often a caller joins another's flight before he asks for himself.
constexpr int kMostFlights = 3;

bool Excludes(const Hop& hop) {
  const Expiry& first = hop.sources.call.set() ? hop.sources.call : hop.sources.pattern;
  return first.kind() == Expiry::Kind::kDoNotCache;
}

std::shared_ptr<const std::vector<std::string>> SecretNames(const SessionOptions& options) {
  auto names = std::make_shared<std::vector<std::string>>(options.secret_parameters);
  names->insert(names->end(), options.ignored_parameters.begin(), options.ignored_parameters.end());
  return names;
}

}  // namespace

CachedExchange::CachedExchange(const SessionOptions& options, Transport& transport,
                               const ResponseStore& store)
    : options_(options),
      transport_(transport),
      store_(store),
      secret_names_(SecretNames(options)),
      workers_(options.executor) {}

CachedExchange::~CachedExchange() { Close(); }

void CachedExchange::Drain() {
  // Behind an origin that hangs, each of a long queue would take its whole time limit.
  begins_until_.store(coord::internal::DeadlineAfter(options_.transport.timeout));
  workers_.Close();
}

void CachedExchange::Close() {
  closing_.request_stop();
  flights_.Close();
  workers_.Close();
}

void CachedExchange::Report(const absl::Status& problem) const {
  if (!options_.on_problem) return;
  try {
    options_.on_problem(problem);
  } catch (...) {
    // There is nobody to tell.
  }
}

ExchangeRules CachedExchange::Rules(const Hop& hop, const Looked& looked) const {
  ExchangeRules rules;
  rules.max_body = options_.transport.max_body_bytes;
  rules.max_stored = options_.max_stored_body;
  rules.calendar = options_.calendar;
  rules.holds_back_errors = looked.verdict.has_value() && looked.verdict->on_error && !hop.disabled;
  return rules;
}

absl::StatusOr<CachedExchange::Parts> CachedExchange::Run(const Hop& hop) {
  if (hop.disabled) return Past(hop, "fwd=bypass; detail=disabled");
  if (std::find(options_.methods.begin(), options_.methods.end(), hop.method) ==
      options_.methods.end()) {
    return Past(hop, "fwd=method");
  }
  if (Excludes(hop)) return Past(hop, "fwd=bypass; detail=expiry");
  if (ForOriginAlone(hop.headers)) return Past(hop, "fwd=request");
  if (hop.method == "HEAD") return Head(hop);
  return Through(hop, store_.keys().Primary(hop.method, hop.who, hop.body,
                                            hop.headers.Get("Content-Type").value_or("")));
}

// ---- Looking ----

std::atomic<std::uint64_t>& CachedExchange::Generation(std::string_view primary) const {
  return generations_[std::hash<std::string_view>()(primary) % generations_.size()];
}

std::string CachedExchange::Looked::flight() const {
  return generation == 0 ? found.key : StrCat(found.key, "#", generation);
}

CachedExchange::Looked CachedExchange::Look(const Hop& hop, const std::string& primary) const {
  Looked looked;
  looked.primary = primary;
  looked.generation = Generation(primary).load();
  absl::StatusOr<Found> found = store_.Find(primary, hop.headers, {.stop = hop.stop});
  if (!found.ok()) {
    looked.away = true;
    looked.found.key = primary;
    if (!hop.stop.stop_requested()) {
      Report(Annotate(found.status(), StrCat("no cache for ", UrlForMessages(hop.url))));
    }
    return looked;
  }
  looked.found = *std::move(found);
  if (looked.found.response != nullptr) {
    looked.verdict = Judge(*looked.found.response, hop.demand, store_.Now());
  }
  return looked;
}

CachedExchange::Parts CachedExchange::Told(const Hop& hop, Parts parts, absl::Time now) const {
  if (hop.method == "HEAD") parts->body = {};
  parts->cache_status =
      parts->expires == absl::InfiniteFuture()
          ? std::string("coord; hit")
          : StrCat("coord; hit; ttl=",
                   absl::ToInt64Seconds(absl::Floor(parts->expires - now, absl::Seconds(1))));
  return parts;
}

CachedExchange::Parts CachedExchange::Served(const Hop& hop, const Looked& looked) const {
  const absl::Time now = store_.Now();
  return Told(hop, PartsFromStored(looked.found.response, looked.found.key, now, {}), now);
}

absl::StatusOr<CachedExchange::Parts> CachedExchange::Answer(const Hop& hop, Parts parts,
                                                             bool to_sink) const {
  parts->method = hop.method;
  parts->calendar = options_.calendar;
  parts->secret_names = secret_names_;
  if (hop.sink == nullptr) return parts;
  const bool redirects = hop.follows && IsRedirect(parts->status, parts->headers);
  if (to_sink && !redirects && !parts->body.empty()) {
    if (absl::Status taken = GiveToSink(hop.sink, parts->body); !taken.ok()) return taken;
  }
  parts->body = {};
  return parts;
}

std::optional<absl::StatusOr<CachedExchange::Parts>> CachedExchange::FromCache(const Hop& hop,
                                                                               Looked& looked,
                                                                               std::uint64_t mark) {
  if (looked.verdict.has_value() && !hop.force_refresh) {
    const Verdict& verdict = *looked.verdict;
    const bool served = verdict.use != Use::kRevalidate;
    const bool refreshes =
        verdict.use == Use::kServeAndRefresh && !hop.only_if_cached && !hop.read_only;
    if (refreshes) RefreshBehind(hop, looked, mark);
    if (served && hop.HasConditions()) {
      const Condition condition =
          EvaluateConditions(hop.method, hop.headers, *looked.found.response, store_.Now());
      if (condition == Condition::kNotModified) {
        const Parts parts = Served(hop, looked);
        parts->status = 304;
        parts->body = {};
        parts->headers.Remove("Content-Length");
        parts->headers.Remove("Content-Type");
        return Answer(hop, parts, /*to_sink=*/false);
      }
    }
    if (refreshes) {
      // Whoever refreshes it reads it meanwhile.
      const Parts parts = Served(hop, looked);
      parts->cache_status += "; detail=stale-while-revalidate";
      return Answer(hop, parts, /*to_sink=*/true);
    }
    if (served) {
      const absl::Time now = store_.Now();
      Parts parts =
          PartsOfStored(std::move(looked.found.response), std::move(looked.found.key), now, {});
      return Answer(hop, Told(hop, std::move(parts), now), /*to_sink=*/true);
    }
  }
  if (!hop.only_if_cached) return std::nullopt;
  // Section 5.2.1.7.
  const auto parts = std::make_shared<ResponseParts>();
  parts->status = 504;
  parts->url = hop.who.url;
  parts->key = looked.found.key;
  parts->cache_status = StrCat("coord; fwd=", looked.found.response == nullptr ? "miss" : "stale",
                               "; detail=only-if-cached");
  return Answer(hop, parts, /*to_sink=*/false);
}

// ---- Who asks ----

absl::StatusOr<CachedExchange::Parts> CachedExchange::Through(const Hop& hop,
                                                              const std::string& primary) {
  const absl::Time began = store_.Now();
  for (int round = 0;; ++round) {
    std::uint64_t mark = flights_.Mark(primary);
    Looked looked = Look(hop, primary);
    // A variant has flights of its own, and so have those who come after something was made
    // invalid; whoever leads one looks again.
    const bool as_expected = looked.generation == 0 && looked.found.key == primary;
    if (!as_expected) mark = flights_.Mark(looked.flight());
    if (std::optional<absl::StatusOr<Parts>> cached = FromCache(hop, looked, mark)) {
      return *std::move(cached);
    }
    const bool alone = hop.demand.refresh || hop.force_refresh || hop.demand.control.no_cache ||
                       hop.demand.control.no_store || hop.sink != nullptr || hop.read_only ||
                       looked.away || hop.HasConditions() || round == kMostFlights ||
                       notes_.Has(looked.found.key);
    if (alone) {
      Asked asked = Ask(hop, looked);
      if (asked.shared != nullptr) notes_.Forget(looked.found.key);
      return std::move(asked.response);
    }

    absl::StatusOr<Flights::Ticket> ticket = flights_.Join(looked.flight(), mark);
    if (!ticket.ok()) return Annotate(ticket.status(), UrlForMessages(hop.url));
    if (ticket->leads) {
      ticket->landed_since |= !as_expected;
      return Lead(hop, std::move(looked), *ticket, began);
    }
    if (std::optional<absl::StatusOr<Parts>> shared = Follow(hop, looked, *ticket)) {
      return *std::move(shared);
    }
  }
}

// ---- Past the cache, and HEAD ----

absl::StatusOr<CachedExchange::Parts> CachedExchange::Past(const Hop& hop, std::string_view why) {
  if (hop.only_if_cached) {
    Looked nothing;
    const std::optional<absl::StatusOr<Parts>> none = FromCache(hop, nothing, 0);
    if (none.has_value()) return *none;
  }
  ExchangeRules rules = Rules(hop, Looked());
  rules.max_stored = 0;
  OriginAnswer answer = AskOrigin(transport_, hop, {}, rules);
  if (!answer.error.ok()) {
    // Whatever it did is done.
    if (answer.sent && !IsSafe(hop.method) && !hop.disabled) Invalidate(hop, 200, {});
    return Failed(hop, Looked(), answer.error, answer.sent, answer.sink_used).response;
  }
  if (!IsSafe(hop.method) && !hop.disabled) Invalidate(hop, answer.status, answer.headers);
  const auto parts = std::make_shared<ResponseParts>();
  parts->status = answer.status;
  parts->age = InitialAge(answer.headers, answer.times);
  const Freshness freshness =
      DecideFreshness(answer.status, answer.headers, answer.times, hop.sources);
  parts->expires =
      freshness.expires > answer.times.received ? freshness.expires : absl::InfinitePast();
  parts->headers = std::move(answer.headers);
  parts->own_body = std::move(answer.body);
  parts->body = parts->own_body;
  parts->url = hop.who.url;
  parts->cache_status = StrCat("coord; ", why, "; fwd-status=", answer.status);
  return Answer(hop, parts, /*to_sink=*/!answer.sink_used);
}

absl::StatusOr<CachedExchange::Parts> CachedExchange::Head(const Hop& hop) {
  const std::string own = store_.keys().Primary("HEAD", hop.who, {}, {});
  const bool gets =
      std::find(options_.methods.begin(), options_.methods.end(), "GET") != options_.methods.end();
  if (gets) {
    // What is known of the GET answers, is asked about, and is brought up to date (RFC 9110 section
    // 9.3.2, RFC 9111 section 4.3.5).
    const std::string whole = store_.keys().Primary("GET", hop.who, {}, {});
    Looked known = Look(hop, whole);
    if (known.found.response != nullptr) return Through(hop, whole);
    if (known.away) {
      // To look again would cost its time limit once more.
      known.primary = own;
      known.found.key = own;
      if (std::optional<absl::StatusOr<Parts>> cached = FromCache(hop, known, 0)) {
        return *std::move(cached);
      }
      return Ask(hop, known).response;
    }
  }
  return Through(hop, own);
}

}  // namespace coord::http::internal
