#include "cache/http/internal/storing.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "cache/http/internal/http_date.h"
#include "cache/http/internal/lower_case.h"
#include "cache/http/internal/url.h"

namespace coord::http::internal {
namespace {

template <typename Names>
bool Among(const Names& names, std::string_view name) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view other) { return SameFieldName(other, name); });
}

// The codes of RFC 9110 section 15.
bool Understood(int status) {
  return (status >= 200 && status <= 206) || (status >= 300 && status <= 305) || status == 307 ||
         status == 308 || (status >= 400 && status <= 417) || status == 421 || status == 422 ||
         status == 426 || (status >= 500 && status <= 505);
}

std::string_view First(const Headers& headers, std::string_view name) {
  const std::vector<std::string_view> lines = headers.All(name);
  return lines.empty() ? std::string_view() : lines.front();
}

// An entity tag (RFC 9110 section 8.8.3). One that is none is taken whole, and as weak.
struct EntityTag {
  explicit EntityTag(std::string_view text) : weak(true), opaque(text) {
    const bool prefixed = text.starts_with("W/");
    const std::string_view rest = prefixed ? text.substr(2) : text;
    if (rest.size() < 2 || rest.front() != '"' || rest.find('"', 1) != rest.size() - 1) return;
    weak = prefixed;
    opaque = rest;
  }
  bool weak;
  std::string_view opaque;
};

// Those of a list. Not SplitList: in a tag a backslash is a character like any other.
std::vector<EntityTag> EntityTags(std::string_view list) {
  std::vector<EntityTag> tags;
  std::size_t start = 0;
  bool quoted = false;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '"') quoted = !quoted;
    if (i < list.size() && (list[i] != ',' || quoted)) continue;
    std::string_view tag = list.substr(start, i - start);
    start = i + 1;
    const std::size_t begin = tag.find_first_not_of(" \t");
    if (begin == std::string_view::npos) continue;
    tags.emplace_back(tag.substr(begin, tag.find_last_not_of(" \t") - begin + 1));
  }
  return tags;
}

// As it is written: an origin repeats what it said.
bool SameLastModified(const Headers& one, const Headers& other) {
  return First(one, "Last-Modified") == First(other, "Last-Modified");
}

bool GetOrHead(std::string_view method) { return method == "GET" || method == "HEAD"; }

}  // namespace

bool IsSafe(std::string_view method) {
  return GetOrHead(method) || method == "OPTIONS" || method == "TRACE";
}

bool IsIdempotent(std::string_view method) {
  return IsSafe(method) || method == "PUT" || method == "DELETE";
}

std::string_view WhyNotStored(const StoringQuestion& question) {
  const int status = question.status;
  const CacheControl response =
      question.heed_headers ? ParseCacheControl(*question.response, false) : CacheControl();
  if (question.freshness.do_not_cache) return "expiry";
  if (ParseCacheControl(*question.request, true).no_store) return "request no-store";
  if (response.must_understand) {
    if (!Understood(status)) return "must-understand";
  } else if (response.no_store) {
    return "no-store";
  }
  if (status < 200 || status > 599 || status == 206 || status == 304) return "status";
  if (!question.complete) return "incomplete";
  if (question.request->Has("Range")) return "range";
  if (!VaryNames(*question.response).has_value()) return "vary";
  if (!question.freshness.explicitly) {
    if (!GetOrHead(question.method)) return "method";
    if (!HeuristicallyCacheable(status) && !response.is_public && !response.is_private &&
        response.private_fields.empty()) {
      return "status";
    }
  }
  const bool fresh = question.freshness.expires > question.received;
  const bool stale_use = question.stale_for > absl::ZeroDuration() ||
                         StaleAllowance(*question.response, {}) > absl::ZeroDuration();
  if (!fresh && !stale_use && !question.freshness.by_caller &&
      Validators(*question.response).empty()) {
    return "no expiry or validator";
  }
  return {};
}

Headers StorableHeaders(const Headers& response) {
  constexpr std::array<std::string_view, 8> kOfTheConnection = {
      "Connection",        "Keep-Alive", "TE",         "Trailer",
      "Transfer-Encoding", "Upgrade",    "Set-Cookie", "Set-Cookie2"};
  constexpr std::array<std::string_view, 2> kNeverNamed = {"Vary", "Cache-Control"};
  constexpr std::string_view kProxy = "Proxy-";
  const CacheControl control = ParseCacheControl(response, false);
  std::vector<std::string> named;
  for (const std::string_view line : response.All("Connection")) {
    for (std::string& name : SplitList(line)) named.push_back(std::move(name));
  }
  named.insert(named.end(), control.no_cache_fields.begin(), control.no_cache_fields.end());

  Headers storable;
  for (const auto& [name, value] : response) {
    if (Among(kOfTheConnection, name)) continue;
    if (SameFieldName(std::string_view(name).substr(0, kProxy.size()), kProxy)) continue;
    if (Among(named, name) && !Among(kNeverNamed, name)) continue;
    storable.Add(name, value);
  }
  return storable;
}

std::optional<std::vector<std::string>> VaryNames(const Headers& response) {
  std::vector<std::string> names;
  for (const std::string_view line : response.All("Vary")) {
    for (const std::string& name : SplitList(line)) {
      if (name == "*") return std::nullopt;
      names.push_back(LowerCase(name));
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Headers Validators(const Headers& stored) {
  Headers validators;
  const std::string_view tag = First(stored, "ETag");
  const std::string_view modified = First(stored, "Last-Modified");
  if (!tag.empty()) validators.Add("If-None-Match", std::string(tag));
  if (!modified.empty()) validators.Add("If-Modified-Since", std::string(modified));
  return validators;
}

bool Confirms(const Headers& not_modified, const Headers& stored) {
  const bool has_tag = not_modified.Has("ETag");
  const EntityTag tag(First(not_modified, "ETag"));
  const EntityTag own(First(stored, "ETag"));
  const bool same_tag = stored.Has("ETag") && tag.opaque == own.opaque;
  if (has_tag && !tag.weak) return same_tag && !own.weak;
  const bool has_modified = not_modified.Has("Last-Modified");
  if (!has_tag && !has_modified) return true;
  return (has_tag && same_tag) ||
         (has_modified && stored.Has("Last-Modified") && SameLastModified(not_modified, stored));
}

bool ConfirmsByHead(const Headers& head, const Headers& stored) {
  bool validated = false;
  for (const std::string_view name : {"ETag", "Last-Modified"}) {
    if (!head.Has(name)) continue;
    if (!stored.Has(name) || First(head, name) != First(stored, name)) return false;
    validated = true;
  }
  if (!head.Has("Content-Length")) return true;
  // One that was decoded has lost its length; then the validators must do.
  if (!stored.Has("Content-Length")) return validated;
  return First(head, "Content-Length") == First(stored, "Content-Length");
}

Headers Merged(const Headers& stored, const Headers& not_modified) {
  constexpr std::array<std::string_view, 4> kOfTheBody = {"Content-Length", "Content-Encoding",
                                                          "Content-Range", "Content-Type"};
  Headers fresh;
  for (const auto& [name, value] : StorableHeaders(not_modified)) {
    if (!Among(kOfTheBody, name)) fresh.Add(name, value);
  }
  Headers merged;
  for (const auto& [name, value] : stored) {
    // The age of the stored one would be taken for that of the confirmation.
    if (!fresh.Has(name) && !SameFieldName(name, "Age")) merged.Add(name, value);
  }
  for (const auto& [name, value] : fresh) merged.Add(name, value);
  // The new Cache-Control may name fields of the old response.
  return StorableHeaders(merged);
}

Condition EvaluateConditions(std::string_view method, const Headers& request,
                             const StoredResponse& stored, absl::Time now) {
  // Those of other methods and statuses mean nothing, or something else (RFC 9110 section 13.2.1).
  if (!GetOrHead(method) || stored.status < 200 || stored.status > 299) return Condition::kNone;
  if (const auto list = request.Get("If-None-Match")) {
    const EntityTag own(First(stored.headers, "ETag"));
    const bool has_tag = stored.headers.Has("ETag");
    const std::vector<EntityTag> tags = EntityTags(*list);
    const bool any = tags.size() == 1 && tags.front().opaque == "*";
    const bool same = std::any_of(tags.begin(), tags.end(), [&](const EntityTag& tag) {
      return has_tag && tag.opaque == own.opaque;
    });
    return any || same ? Condition::kNotModified : Condition::kModified;
  }
  const auto since_text = request.Get("If-Modified-Since");
  if (!since_text.has_value()) return Condition::kNone;
  const std::optional<absl::Time> since = ParseHttpDate(*since_text, now);
  if (!since.has_value()) return Condition::kNone;
  std::optional<absl::Time> modified = ParseHttpDate(First(stored.headers, "Last-Modified"), now);
  if (!modified.has_value()) modified = ParseHttpDate(First(stored.headers, "Date"), now);
  return modified.value_or(stored.received) <= *since ? Condition::kNotModified
                                                      : Condition::kModified;
}

bool ForOriginAlone(const Headers& request) {
  return request.Has("If-Match") || request.Has("If-Unmodified-Since") || request.Has("If-Range") ||
         request.Has("Range");
}

std::vector<std::string> InvalidatedUrls(std::string_view method, std::string_view url, int status,
                                         const Headers& response) {
  std::vector<std::string> invalidated;
  if (IsSafe(method) || status < 200 || status > 399) return invalidated;
  invalidated.emplace_back(url);
  for (const std::string_view name : {"Location", "Content-Location"}) {
    if (!response.Has(name)) continue;
    absl::StatusOr<std::string> resolved = ResolveUrl(url, First(response, name));
    // Another origin's are none of this one's business.
    if (!resolved.ok() || !SameOrigin(url, *resolved)) continue;
    if (std::find(invalidated.begin(), invalidated.end(), *resolved) == invalidated.end()) {
      invalidated.push_back(*std::move(resolved));
    }
  }
  return invalidated;
}

}  // namespace coord::http::internal
