#include "cache/http/internal/freshness.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "cache/http/internal/http_date.h"

namespace coord::http::internal {
namespace {

// The first line: of two, one would have to be preferred anyway (section 4.2.1).
std::optional<absl::Time> DateOf(const Headers& headers, std::string_view name,
                                 absl::Time received) {
  const std::vector<std::string_view> lines = headers.All(name);
  return lines.empty() ? std::nullopt : ParseHttpDate(lines.front(), received);
}

absl::Duration NotNegative(absl::Duration length) { return std::max(length, absl::ZeroDuration()); }

Freshness ByCaller(const Expiry& expiry, absl::Time received) {
  return {.expires = expiry.ExpiresAt(received),
          .by_caller = true,
          .explicitly = true,
          .do_not_cache = expiry.kind() == Expiry::Kind::kDoNotCache};
}

// What the origin lets a response be used for; nothing of it counts where the caller says how long
// it is fresh.
CacheControl OriginsWord(const StoredResponse& stored) {
  return stored.by_caller ? CacheControl() : ParseCacheControl(stored.headers, false);
}

}  // namespace

absl::Duration InitialAge(const Headers& headers, const ExchangeTimes& times) {
  const absl::Time date = DateOf(headers, "Date", times.received).value_or(times.received);
  const absl::Duration apparent_age = NotNegative(times.received - date);
  absl::Duration age_value = absl::ZeroDuration();
  if (const auto age = headers.Get("Age")) {
    // Of a list the first, and nothing where that is no number (section 5.1).
    const std::vector<std::string> members = SplitList(*age);
    if (!members.empty()) age_value = ParseDeltaSeconds(members.front()).value_or(age_value);
  }
  const absl::Duration response_delay = NotNegative(times.received - times.requested);
  return std::max(apparent_age, age_value + response_delay);
}

absl::Duration CurrentAge(const StoredResponse& stored, absl::Time now) {
  return stored.initial_age + NotNegative(now - stored.received);
}

std::optional<absl::Duration> ExplicitLifetime(const Headers& headers, absl::Time received) {
  if (const auto max_age = ParseCacheControl(headers, false).max_age) return max_age;
  if (!headers.Has("Expires")) return std::nullopt;
  const std::optional<absl::Time> expires = DateOf(headers, "Expires", received);
  if (!expires.has_value()) return absl::ZeroDuration();
  return NotNegative(*expires - DateOf(headers, "Date", received).value_or(received));
}

std::optional<absl::Duration> HeuristicLifetime(int status, const Headers& headers,
                                                absl::Time received) {
  if (!HeuristicallyCacheable(status) && !ParseCacheControl(headers, false).is_public) {
    return std::nullopt;
  }
  const std::optional<absl::Time> modified = DateOf(headers, "Last-Modified", received);
  if (!modified.has_value()) return std::nullopt;
  // A Date in the future would make it older than it is known to be.
  const absl::Time date = std::min(DateOf(headers, "Date", received).value_or(received), received);
  return std::min(NotNegative(date - *modified) / 10, absl::Hours(24));
}

bool HeuristicallyCacheable(int status) {
  constexpr std::array<int, 11> kStatuses = {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501};
  return std::find(kStatuses.begin(), kStatuses.end(), status) != kStatuses.end();
}

Freshness DecideFreshness(int status, const Headers& headers, const ExchangeTimes& times,
                          const ExpirySources& sources) {
  const absl::Time received = times.received;
  const auto origins = [&]() -> std::optional<Freshness> {
    // Of what it has lived already, nothing is left.
    const absl::Time made = received - InitialAge(headers, times);
    if (const auto lifetime = ExplicitLifetime(headers, received)) {
      return Freshness{.expires = made + *lifetime, .explicitly = true};
    }
    // Says how long without a number: not at all. Else who speaks of everything would overrule it.
    if (ParseCacheControl(headers, false).no_cache) return Freshness{.expires = received};
    return std::nullopt;
  };

  if (sources.rank == HeaderRank::kFirst) {
    if (const auto freshness = origins()) return *freshness;
  }
  if (sources.call.set()) return ByCaller(sources.call, received);
  if (sources.pattern.set()) return ByCaller(sources.pattern, received);
  if (sources.rank == HeaderRank::kBelowPatterns) {
    if (const auto freshness = origins()) return *freshness;
  }
  if (sources.session.set()) return ByCaller(sources.session, received);
  if (sources.rank == HeaderRank::kIgnored) {
    return {.expires = absl::InfiniteFuture(), .by_caller = true};
  }
  if (const auto lifetime = HeuristicLifetime(status, headers, received)) {
    return {.expires = received - InitialAge(headers, times) + *lifetime};
  }
  return {.expires = received};
}

Verdict Judge(const StoredResponse& stored, const Demand& demand, absl::Time now) {
  const CacheControl response = OriginsWord(stored);
  const CacheControl& request = demand.control;
  // As CurrentAge has it.
  const absl::Time moment = std::max(now, stored.received);
  const bool stale = moment >= stored.expires;
  Verdict verdict{.stale = stale, .age = CurrentAge(stored, now)};

  // Nothing may be used without the origin's word.
  if (request.no_cache || response.no_cache) return verdict;
  // Infinite, where it never was fresh or never expires.
  const absl::Duration left = stored.expires - moment;
  const absl::Duration staleness = -left;
  const bool may_be_stale = !stale || !response.must_revalidate;

  const absl::Duration error_window =
      request.stale_if_error.value_or(response.stale_if_error.value_or(demand.stale_if_error));
  verdict.on_error =
      may_be_stale && error_window > absl::ZeroDuration() && staleness <= error_window;
  const bool wants_younger = (request.max_age.has_value() && verdict.age > *request.max_age) ||
                             (request.min_fresh.has_value() && left < *request.min_fresh);
  if (demand.refresh || wants_younger) return verdict;
  if (!stale) {
    verdict.on_error = true;
    // Asking about what never changes is of no use: RFC 8246 section 2.
    if (!demand.always_revalidate || response.immutable) verdict.use = Use::kServe;
    return verdict;
  }
  if (!may_be_stale || demand.always_revalidate) return verdict;
  if (request.max_stale.has_value() && staleness <= *request.max_stale) {
    verdict.use = Use::kServe;
    return verdict;
  }
  // What the caller would have expire at once is asked about each time.
  const bool never_fresh_by_caller = stored.by_caller && stored.expires <= stored.received;
  const absl::Duration refresh_window =
      never_fresh_by_caller
          ? absl::ZeroDuration()
          : response.stale_while_revalidate.value_or(demand.stale_while_revalidate);
  if (refresh_window > absl::ZeroDuration() && staleness <= refresh_window) {
    verdict.use = Use::kServeAndRefresh;
  }
  return verdict;
}

absl::Duration StaleAllowance(const Headers& headers, const Demand& demand, bool by_caller) {
  const CacheControl response = by_caller ? CacheControl() : ParseCacheControl(headers, false);
  if (response.no_cache || response.must_revalidate) return absl::ZeroDuration();
  return std::max(response.stale_if_error.value_or(demand.stale_if_error),
                  response.stale_while_revalidate.value_or(demand.stale_while_revalidate));
}

}  // namespace coord::http::internal
