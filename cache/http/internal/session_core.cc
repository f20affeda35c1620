#include "cache/http/internal/session_core.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "cache/http/internal/cache_control.h"
#include "cache/http/internal/redirect.h"
#include "cache/http/internal/url.h"
#include "coord/client.h"
#include "coord/internal/deadline.h"
#include "coord/internal/fork.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::Annotate;
using coord::internal::MakeStatus;
using coord::internal::Quoted;
using coord::internal::StrCat;

bool IsToken(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

absl::Status CheckMethod(std::string_view method) {
  if (!IsToken(method)) {
    return coord::internal::InvalidArgument(
        StrCat(Quoted(method), " is no method: one is a word such as GET"));
  }
  if (method == "CONNECT" || method == "TRACE") {
    return coord::internal::InvalidArgument(StrCat("the method ", method, " is not for clients"));
  }
  return absl::OkStatus();
}

std::size_t Sum(std::size_t a, std::size_t b) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  return a > kMost - b ? kMost : a + b;
}

std::string Prefix(const Backend& backend, std::string_view store) {
  const std::string before =
      backend.client() == nullptr ? std::string() : backend.client()->options().prefix;
  return StrCat(before, store, ":");
}

}  // namespace

absl::StatusOr<std::shared_ptr<SessionCore>> SessionCore::Make(std::shared_ptr<Backend> backend,
                                                               bool owned, SessionOptions options) {
  if (backend == nullptr) {
    return coord::internal::InvalidArgument("an HTTP session needs a backend, and got null");
  }
  if (absl::Status valid = CheckOptions(options); !valid.ok()) return valid;
  if (!options.calendar) options.calendar = [] { return absl::Now(); };
  absl::StatusOr<std::unique_ptr<Transport>> transport = Transport::Make(options.transport);
  if (!transport.ok()) return transport.status();
  KeyMaker keys({.prefix = Prefix(*backend, options.store),
                 .match_headers = options.match_headers,
                 .ignored_parameters = options.ignored_parameters,
                 .secret_parameters = options.secret_parameters,
                 .identity_secret = options.identity_secret,
                 .sort_query = options.sort_query});
  const std::size_t fields = options.transport.max_header_bytes;
  StoreRules rules{.compression = options.compression,
                   // Beside the body there are the fields.
                   .max_bytes = Sum(options.max_stored_body, Sum(fields, fields)),
                   .ttl = options.ttl,
                   .ttl_offset = options.ttl_offset,
                   .timeout = options.backend_timeout,
                   .read_only = options.read_only,
                   .calendar = options.calendar,
                   .on_problem = options.on_problem};
  auto store = std::make_shared<const ResponseStore>(backend, std::move(keys), std::move(rules));
  return std::shared_ptr<SessionCore>(new SessionCore(std::move(backend), owned, std::move(options),
                                                      *std::move(transport), std::move(store)));
}

SessionCore::SessionCore(std::shared_ptr<Backend> backend, bool owned, SessionOptions options,
                         std::unique_ptr<Transport> transport,
                         std::shared_ptr<const ResponseStore> store)
    : backend_(std::move(backend)),
      owned_(owned),
      options_(std::move(options)),
      generation_(coord::internal::ForkGeneration()),
      transport_(std::move(transport)),
      store_(std::move(store)),
      cache_(store_),
      exchange_(std::make_unique<CachedExchange>(options_, *transport_, *store_)) {}

SessionCore::~SessionCore() {
  if (coord::internal::ForkGeneration() != generation_) {
    // Its threads and connections are the parent's.
    (void)exchange_.release();
    (void)transport_.release();
    return;
  }
  exchange_->Drain();
  Close();
}

void SessionCore::Close() {
  // What goes on is the parent's, and would never end here.
  if (coord::internal::ForkGeneration() != generation_) return;
  if (closed_.exchange(true)) return;
  transport_->Close();
  exchange_->Close();
  if (owned_) backend_->Close();
}

absl::Status SessionCore::Usable() const {
  if (coord::internal::ForkGeneration() != generation_) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      "this HTTP session was opened before fork(): open one in the child");
  }
  if (!closed_.load(std::memory_order_relaxed)) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kFailedPrecondition, "the HTTP session is closed");
}

absl::StatusOr<std::string> SessionCore::NormalizedUrl(std::string_view url) const {
  absl::StatusOr<CheckedUrl> checked = CheckUrl(url);
  if (!checked.ok()) return checked.status();
  absl::StatusOr<KeyMaker::Identified> who = store_->keys().Identify("GET", checked->url, {}, {});
  if (!who.ok()) return who.status();
  return std::move(who->url);
}

absl::Status SessionCore::Identify(Hop& hop) const {
  absl::StatusOr<KeyMaker::Identified> who =
      store_->keys().Identify(hop.method, hop.url, hop.headers, hop.body);
  if (!who.ok()) return who.status();
  hop.who = *std::move(who);
  hop.sources.pattern = {};
  for (const UrlExpiry& candidate : options_.urls_expire_after) {
    if (!candidate.urls.Matches(hop.who.url)) continue;
    hop.sources.pattern = candidate.expire;
    break;
  }
  return absl::OkStatus();
}

absl::StatusOr<Hop> SessionCore::FirstHop(std::string_view method, std::string_view url,
                                          const RequestOptions& request) const {
  if (absl::Status valid = CheckMethod(method); !valid.ok()) return valid;
  absl::StatusOr<CheckedUrl> checked = CheckUrl(url);
  if (!checked.ok()) return checked.status();
  if (absl::Status valid = request.headers.Check(); !valid.ok()) return valid;
  if (absl::Status valid = request.expire.Check(); !valid.ok()) return valid;
  Hop hop;
  hop.timeout = request.timeout.value_or(options_.transport.timeout);
  if (hop.timeout <= absl::ZeroDuration() || hop.timeout > absl::Hours(24)) {
    return coord::internal::InvalidArgument(StrCat("a request's timeout is ",
                                                   coord::internal::ToText(hop.timeout),
                                                   "; it can be above zero, up to 24 h"));
  }
  if (request.stale_if_error.value_or(absl::ZeroDuration()) < absl::ZeroDuration()) {
    return coord::internal::InvalidArgument("a request's stale_if_error is negative");
  }
  hop.method = std::string(method);
  hop.url = std::move(checked->url);
  hop.headers = request.headers;
  for (const auto& [name, value] : options_.transport.headers) {
    if (!request.headers.Has(name)) hop.headers.Add(name, value);
  }
  if (checked->has_credentials && !request.headers.Has("Authorization")) {
    hop.headers.Set("Authorization", BasicAuthorization(checked->user, checked->password));
  }
  // Named here, so that a Vary can tell it apart.
  if (!hop.headers.Has("User-Agent")) {
    hop.headers.Add("User-Agent", options_.transport.user_agent.empty()
                                      ? std::string("coord/" COORD_VERSION)
                                      : options_.transport.user_agent);
  }
  hop.body = request.body;
  hop.demand.control = ParseCacheControl(hop.headers, /*request=*/true);
  hop.demand.refresh = request.refresh;
  hop.demand.always_revalidate = options_.always_revalidate;
  hop.demand.stale_if_error = request.stale_if_error.value_or(options_.stale_if_error);
  hop.demand.stale_while_revalidate = options_.stale_while_revalidate;
  hop.sources.call = request.expire;
  hop.sources.session = options_.expire_after;
  hop.sources.rank = options_.header_rank;
  hop.force_refresh = request.force_refresh;
  hop.only_if_cached = request.only_if_cached || hop.demand.control.only_if_cached;
  hop.follows = request.follow_redirects.value_or(options_.transport.follow_redirects);
  hop.sink = request.sink;
  hop.stop = request.stop;
  return hop;
}

absl::StatusOr<Response> SessionCore::Send(std::string_view method, std::string_view url,
                                           const RequestOptions& request, bool read_only,
                                           bool disabled) {
  const auto began = std::chrono::steady_clock::now();
  if (absl::Status usable = Usable(); !usable.ok()) return usable;
  absl::StatusOr<Hop> hop = FirstHop(method, url, request);
  if (!hop.ok()) return hop.status();
  hop->read_only = read_only || options_.read_only;
  hop->disabled = disabled || options_.disabled;

  std::vector<Response> history;
  std::set<std::pair<std::string, std::string>> been;
  for (;;) {
    if (absl::Status identified = Identify(*hop); !identified.ok()) return identified;
    hop->deadline = coord::internal::DeadlineAfter(hop->timeout);
    absl::StatusOr<CachedExchange::Parts> answer = exchange_->Run(*hop);
    if (!answer.ok()) return answer.status();
    const CachedExchange::Parts& parts = *answer;
    parts->elapsed = absl::FromChrono(std::chrono::steady_clock::now() - began);
    if (!hop->follows || !IsRedirect(parts->status, parts->headers)) {
      parts->history = std::move(history);
      return Response(parts);
    }
    absl::StatusOr<Onward> onward =
        FollowRedirect(hop->method, hop->url, hop->headers, parts->status, parts->headers,
                       [this](std::string_view name) { return store_->keys().NamesSecret(name); });
    if (!onward.ok()) return onward.status();
    been.insert({hop->method, hop->url});
    const bool loops = been.contains({onward->method, onward->url});
    if (loops || static_cast<int>(history.size()) >= options_.transport.max_redirects) {
      return MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          loops ? StrCat(method, " ", UrlForMessages(url), ": a loop of redirects, back to ",
                         UrlForMessages(onward->url))
                : StrCat(method, " ", UrlForMessages(url), ": more than ",
                         options_.transport.max_redirects, " redirects, the last one to ",
                         UrlForMessages(onward->url), " (TransportOptions::max_redirects)"));
    }
    parts->body = {};
    history.push_back(Response(parts));
    hop->method = std::move(onward->method);
    hop->url = std::move(onward->url);
    hop->headers = std::move(onward->headers);
    if (!onward->keeps_body) hop->body.clear();
  }
}

}  // namespace coord::http::internal
