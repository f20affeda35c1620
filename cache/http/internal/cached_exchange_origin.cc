// What becomes of asking the origin; see cached_exchange.cc for who asks.
#include <algorithm>
#include <utility>
#include <vector>

#include "cache/http/internal/cached_exchange.h"
#include "cache/http/internal/secrets.h"
#include "cache/http/internal/storing.h"
#include "cache/http/internal/url.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {

using coord::internal::Annotate;
using coord::internal::MakeStatus;
using coord::internal::StrCat;

namespace {

bool SaysAny(const StoredResponse& stored, const std::vector<std::string>& secrets) {
  const auto says = [&](const auto& field) { return RepeatsSecret(field.second, secrets); };
  return RepeatsSecret(stored.body, secrets) ||
         std::any_of(stored.headers.begin(), stored.headers.end(), says) ||
         // Such as a Referer.
         std::any_of(stored.selecting.begin(), stored.selecting.end(), says);
}

// A member of a Cache-Status field (RFC 9211 section 2.8): a word has no blanks.
std::string Detail(std::string_view why) {
  std::string detail = StrCat("; detail=", why);
  std::replace(detail.begin() + 2, detail.end(), ' ', '-');
  return detail;
}

// By the Vary of what is to be stored; nothing where that is "*".
Selecting SelectedBy(const KeyMaker& keys, const Headers& storable, const Headers& request) {
  std::optional<std::vector<std::string>> vary = VaryNames(storable);
  if (!vary.has_value()) return {};
  // A body that is still encoded is for those who asked for it so, whether the origin says it or
  // not: others get theirs decoded.
  if (storable.Has("Content-Encoding")) vary->push_back("accept-encoding");
  return keys.SelectingFields(*vary, request);
}

}  // namespace

CachedExchange::Asked CachedExchange::Ask(const Hop& hop, const Looked& looked) {
  Headers validators;
  const bool own = hop.HasConditions();
  if (looked.found.response != nullptr && !hop.force_refresh && !own) {
    validators = Validators(looked.found.response->headers);
  }
  OriginAnswer answer = AskOrigin(transport_, hop, validators, Rules(hop, looked));
  if (answer.error.ok() && answer.status == 304 && !validators.empty() &&
      !Confirms(answer.headers, looked.found.response->headers)) {
    // It confirms something that is not here (section 4.3.4): then without conditions.
    answer = AskOrigin(transport_, hop, {}, Rules(hop, looked));
    validators = {};
  }
  if (!answer.error.ok()) {
    // Whatever it did is done.
    if (answer.sent && !IsSafe(hop.method)) Invalidate(hop, 200, {});
    return Failed(hop, looked, answer.error, answer.sent, answer.sink_used);
  }
  if (answer.status == 304 && !validators.empty()) return Freshen(hop, looked, answer);
  return Take(hop, looked, std::move(answer));
}

CachedExchange::Asked CachedExchange::TakeHead(const Hop& hop, const Looked& looked,
                                               const std::string& primary, OriginAnswer answer) {
  const std::shared_ptr<const StoredResponse>& get = looked.found.response;
  if (answer.status == 200 && get != nullptr && !hop.read_only) {
    if (get->status == 200 && ConfirmsByHead(answer.headers, get->headers)) {
      Hop unseen = hop;
      unseen.sink = nullptr;
      (void)Freshen(unseen, looked, answer);
    } else if (auto removed = store_.Remove({looked.found.key}, {}); !removed.ok()) {
      Report(removed.status());
    }
  }
  const Looked own = Look(hop, primary);
  Asked asked = Take(hop, own, std::move(answer));
  asked.shared = nullptr;  // those who follow may want the body
  return asked;
}

CachedExchange::Asked CachedExchange::Failed(const Hop& hop, const Looked& looked,
                                             absl::Status error, bool sent, bool sink_used) {
  Asked asked;
  asked.failure = error;
  const bool about_the_origin = error.code() == absl::StatusCode::kUnavailable ||
                                error.code() == absl::StatusCode::kDeadlineExceeded;
  if (looked.found.response != nullptr && about_the_origin && !sink_used && !hop.force_refresh &&
      Judge(*looked.found.response, hop.demand, store_.Now()).on_error) {
    const Parts parts = Served(hop, looked);
    parts->cache_status += "; detail=stale-if-error";
    asked.response = Answer(hop, parts, /*to_sink=*/true);
    return asked;
  }
  if (sent && !IsIdempotent(hop.method)) {
    error = MakeStatus(error.code(), coord::internal::FromAbsl(error.message()),
                       coord::internal::Reasons(error) | coord::internal::kOutcomeUnknown);
  }
  asked.response = std::move(error);
  return asked;
}

std::string_view CachedExchange::Store(const Hop& hop, const Looked& looked,
                                       const std::shared_ptr<StoredResponse>& made,
                                       std::string_view why_not, bool replaces) {
  if (hop.read_only) return "read-only";
  if (looked.away) return "no-cache-there";
  if (why_not.empty() && made->body.size() > options_.max_stored_body) why_not = "too-large";
  if (why_not.empty() && !options_.statuses.empty() &&
      std::find(options_.statuses.begin(), options_.statuses.end(), made->status) ==
          options_.statuses.end()) {
    why_not = "status";
  }
  if (why_not.empty() && SaysAny(*made, hop.who.secrets)) why_not = "repeats-a-secret";
  if (why_not.empty() && options_.filter) {
    const auto parts = std::make_shared<ResponseParts>();
    parts->stored_response = made;
    parts->status = made->status;
    parts->headers = made->headers;
    parts->body = made->body;
    parts->url = made->url;
    parts->method = made->method;
    parts->created = made->created;
    parts->expires = made->expires;
    parts->calendar = options_.calendar;
    try {
      if (!options_.filter(Response(parts))) why_not = "filter";
    } catch (...) {
      why_not = "filter";
    }
  }
  if (!why_not.empty()) {
    // What stands there is not what the origin says any more.
    if (replaces && looked.found.response != nullptr && made->status < 400) {
      if (auto removed = store_.Remove({looked.found.key}, {}); !removed.ok()) {
        Report(removed.status());
      }
    }
    return why_not;
  }
  // An unsafe request has made it invalid while it was on its way.
  if (Generation(looked.primary).load() != looked.generation) return "invalidated";
  const absl::Duration stale_for = StaleAllowance(made->headers, hop.demand, made->by_caller);
  if (absl::Status put = store_.Put(looked.found, *made, stale_for, {}); !put.ok()) {
    Report(Annotate(put, StrCat("could not store ", UrlForMessages(hop.url))));
    return "no-cache-there";
  }
  // Or while it was written: then it may have been put back.
  if (Generation(looked.primary).load() != looked.generation) {
    if (auto removed = store_.Remove({looked.found.key}, {}); !removed.ok()) {
      Report(removed.status());
    }
    return "invalidated";
  }
  return {};
}

CachedExchange::Asked CachedExchange::Freshen(const Hop& hop, const Looked& looked,
                                              const OriginAnswer& answer) {
  const StoredResponse& old = *looked.found.response;
  auto made = std::make_shared<StoredResponse>(old);
  made->headers = Merged(old.headers, store_.keys().Redacted(StorableHeaders(answer.headers)));
  // The 304 may have a Vary that the stored one had not.
  made->selecting = SelectedBy(store_.keys(), made->headers, hop.headers);
  made->received = answer.times.received;
  made->initial_age = InitialAge(made->headers, answer.times);
  const Freshness freshness =
      DecideFreshness(made->status, made->headers, answer.times, hop.sources);
  made->expires = freshness.expires;
  made->by_caller = freshness.by_caller;

  std::string_view why_not =
      WhyNotStored({.method = made->method,
                    .request = &hop.headers,
                    .status = made->status,
                    .response = &made->headers,
                    .freshness = freshness,
                    .heed_headers = hop.sources.rank != HeaderRank::kIgnored,
                    .received = made->received,
                    .stale_for = StaleAllowance(made->headers, hop.demand, freshness.by_caller)});
  why_not = Store(hop, looked, made, why_not, /*replaces=*/!hop.demand.control.no_store);

  Looked fresh = looked;
  fresh.found.response = made;
  const Parts parts = Served(hop, fresh);
  parts->revalidated = true;
  parts->stale = false;
  parts->stored = why_not.empty();
  // For the one who asked, and not stored.
  for (const std::string_view cookie : answer.headers.All("Set-Cookie")) {
    parts->headers.Add("Set-Cookie", std::string(cookie));
  }
  parts->cache_status = StrCat("coord; fwd=", hop.demand.refresh ? "request" : "stale",
                               "; fwd-status=304", why_not.empty() ? "; stored" : Detail(why_not));
  Asked asked;
  if (why_not.empty() || why_not == "read-only" || why_not == "no-cache-there") asked.shared = made;
  asked.response = Answer(hop, parts, /*to_sink=*/true);
  return asked;
}

CachedExchange::Asked CachedExchange::Take(const Hop& hop, const Looked& looked,
                                           OriginAnswer answer) {
  Asked asked;
  asked.origin_failed = IsOriginFailure(answer.status);
  if (asked.origin_failed && !answer.sink_used && !hop.force_refresh &&
      looked.found.response != nullptr &&
      Judge(*looked.found.response, hop.demand, store_.Now()).on_error) {
    const Parts parts = Served(hop, looked);
    parts->cache_status += StrCat("; fwd-status=", answer.status, "; detail=stale-if-error");
    asked.response = Answer(hop, parts, /*to_sink=*/true);
    return asked;
  }
  if (hop.method == "HEAD") {
    // What has no body must not stand where a GET's response is looked for, or was until just now.
    const std::string own = store_.keys().Primary("HEAD", hop.who, {}, {});
    if (looked.primary != own) return TakeHead(hop, looked, own, std::move(answer));
  }

  const Freshness freshness =
      DecideFreshness(answer.status, answer.headers, answer.times, hop.sources);
  Headers storable = store_.keys().Redacted(StorableHeaders(answer.headers));
  std::string_view why_not =
      WhyNotStored({.method = hop.method,
                    .request = &hop.headers,
                    .status = answer.status,
                    .response = &answer.headers,
                    .freshness = freshness,
                    .heed_headers = hop.sources.rank != HeaderRank::kIgnored,
                    .complete = answer.length_is_right,
                    .received = answer.times.received,
                    .stale_for = StaleAllowance(answer.headers, hop.demand, freshness.by_caller)});
  if (why_not.empty() && !answer.body_kept) why_not = "too-large";
  const bool harmless = store_.keys().RedactReferences(hop.url, storable);
  if (why_not.empty() && !harmless) why_not = "leads-to-a-secret";

  auto made = std::make_shared<StoredResponse>();
  made->method = hop.method;
  made->url = hop.who.url;
  made->status = answer.status;
  made->headers = std::move(storable);
  made->received = answer.times.received;
  made->created = answer.times.received;
  made->initial_age = InitialAge(answer.headers, answer.times);
  made->expires = freshness.expires;
  made->by_caller = freshness.by_caller;
  made->selecting = SelectedBy(store_.keys(), made->headers, hop.headers);
  made->body = std::move(answer.body);
  if (why_not.empty() && SaysAny(*made, KeyMaker::SecretsIn(answer.headers))) {
    why_not = "repeats-a-secret";
  }
  if (answer.status == 304 && looked.found.response != nullptr) {
    // To conditions of the caller's own, which may be about another one: it has to say which.
    const bool says = answer.headers.Has("ETag") || answer.headers.Has("Last-Modified");
    if (says && Confirms(answer.headers, looked.found.response->headers)) {
      Hop unseen = hop;
      unseen.sink = nullptr;
      (void)Freshen(unseen, looked, answer);
    }
    why_not = "status";
  } else {
    why_not = Store(hop, looked, made, why_not,
                    /*replaces=*/answer.length_is_right && !hop.demand.control.no_store);
  }

  const auto parts = std::make_shared<ResponseParts>();
  parts->stored_response = made;
  parts->status = answer.status;
  parts->headers = std::move(answer.headers);
  parts->body = made->body;
  parts->url = hop.who.url;
  parts->stored = why_not.empty();
  if (parts->stored) {
    parts->key = looked.found.key;
    parts->created = made->created;
  }
  parts->expires = made->expires > made->received ? made->expires : absl::InfinitePast();
  parts->age = made->initial_age;
  parts->cache_status =
      StrCat("coord; fwd=",
             hop.demand.refresh || hop.force_refresh      ? "request"
             : looked.found.response != nullptr           ? "stale"
             : looked.found.series.empty() || looked.away ? "uri-miss"
                                                          : "vary-miss",
             "; fwd-status=", parts->status, why_not.empty() ? "; stored" : Detail(why_not));
  if (why_not.empty() || why_not == "no-cache-there") asked.shared = made;
  if (!IsSafe(hop.method)) Invalidate(hop, parts->status, parts->headers);
  const bool streamed = answer.sink_used;
  asked.response = Answer(hop, parts, /*to_sink=*/!streamed);
  return asked;
}

void CachedExchange::Invalidate(const Hop& hop, int status, const Headers& response) {
  if (hop.read_only) return;
  std::vector<std::string> keys;
  for (const std::string& url : InvalidatedUrls(hop.method, hop.url, status, response)) {
    absl::StatusOr<KeyMaker::Identified> who = store_.keys().Identify("GET", url, hop.headers, {});
    if (!who.ok()) continue;
    for (const bool nobody : {false, true}) {
      if (nobody && who->identity.empty()) break;
      if (nobody) who->identity.clear();
      for (const std::string_view method : {"GET", "HEAD"}) {
        keys.push_back(store_.keys().Primary(method, *who, {}, {}));
      }
    }
  }
  if (keys.empty()) return;
  for (const std::string& key : keys) Generation(key).fetch_add(1);
  absl::StatusOr<std::int64_t> removed = store_.Remove(keys, {});
  if (!removed.ok()) {
    Report(Annotate(removed.status(), StrCat("what ", hop.method, " ", UrlForMessages(hop.url),
                                             " has changed may still be cached")));
  }
}

}  // namespace coord::http::internal
