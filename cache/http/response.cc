#include "cache/http/response.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "cache/http/internal/response_parts.h"
#include "cache/http/internal/url.h"
#include "coord/internal/json_text.h"
#include "coord/internal/strings.h"
#include "nlohmann/json.hpp"

namespace coord::http {
namespace {

using internal::ResponseParts;
using nlohmann::json;

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = coord::internal::Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

json TimeJson(absl::Time time) {
  if (time == absl::InfinitePast()) return nullptr;
  if (time == absl::InfiniteFuture()) return "never";
  return absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
}

bool IsSecret(const ResponseParts& parts, std::string_view name) {
  // What an origin gives to tell its caller by later.
  if (SameFieldName(name, "Set-Cookie") || SameFieldName(name, "Set-Cookie2")) return true;
  return parts.secret_names != nullptr &&
         std::any_of(parts.secret_names->begin(), parts.secret_names->end(),
                     [name](const std::string& secret) { return SameFieldName(secret, name); });
}

// As it may be shown.
std::string Shown(const ResponseParts& parts, const std::string& name, const std::string& value) {
  if (IsSecret(parts, name)) return "REDACTED";
  const bool refers = SameFieldName(name, "Location") || SameFieldName(name, "Content-Location");
  if (!refers || value.find('?') == std::string::npos) return value;
  const absl::StatusOr<std::string> target = internal::ResolveUrl(parts.url, value);
  if (!target.ok()) return "REDACTED";
  return internal::NormalizeUrl(
             *target,
             {.dropped = [](std::string_view) { return false; },
              .redacted = [&](std::string_view parameter) { return IsSecret(parts, parameter); }})
      .value_or("REDACTED");
}

json ToJsonObject(const Response& response, const ResponseParts& parts) {
  json headers = json::array();
  for (const auto& [name, value] : parts.headers) {
    headers.push_back(json::array({name, Shown(parts, name, value)}));
  }
  json out = {
      {"status", parts.status},
      {"ok", response.ok()},
      {"method", parts.method},
      {"url", parts.url},
      {"headers", std::move(headers)},
      {"from_cache", parts.from_cache},
      {"revalidated", parts.revalidated},
      {"stale", parts.stale},
      {"stored", parts.stored},
      {"key", parts.key},
      {"created", TimeJson(parts.created)},
      {"expires", TimeJson(parts.expires)},
      {"is_expired", response.is_expired()},
      {"age", absl::ToDoubleSeconds(parts.age)},
      {"cache_status", parts.cache_status},
      {"elapsed", absl::ToDoubleSeconds(parts.elapsed)},
  };
  if (IsUtf8(parts.body)) {
    out["body"] = std::string(parts.body);
  } else {
    out["body_base64"] = absl::Base64Escape(coord::internal::ToAbsl(parts.body));
  }
  return out;
}

std::string Dumped(const json& object) {
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

Response::Response() {
  static const auto* const kNone =
      new std::shared_ptr<const ResponseParts>(std::make_shared<const ResponseParts>());
  parts_ = *kNone;
}
Response::Response(std::shared_ptr<const internal::ResponseParts> parts)
    : parts_(std::move(parts)) {}

int Response::status() const { return parts_->status; }
bool Response::ok() const { return parts_->status >= 200 && parts_->status < 300; }
const Headers& Response::headers() const { return parts_->headers; }
std::string_view Response::header(std::string_view name) const {
  for (const auto& [field, value] : parts_->headers) {
    if (SameFieldName(field, name)) return value;
  }
  return {};
}
std::string_view Response::body() const { return parts_->body; }
const std::string& Response::url() const { return parts_->url; }
const std::string& Response::method() const { return parts_->method; }
bool Response::from_cache() const { return parts_->from_cache; }
bool Response::revalidated() const { return parts_->revalidated; }
bool Response::stale() const { return parts_->stale; }
bool Response::stored() const { return parts_->stored; }
const std::string& Response::key() const { return parts_->key; }
absl::Time Response::created() const { return parts_->created; }
absl::Time Response::expires() const { return parts_->expires; }
bool Response::is_expired() const {
  absl::Time now = absl::Now();
  try {
    if (parts_->calendar) now = parts_->calendar();
  } catch (...) {  // the host's calendar will do
  }
  return parts_->expires <= now;
}
absl::Duration Response::age() const { return parts_->age; }
const std::string& Response::cache_status() const { return parts_->cache_status; }
const std::vector<Response>& Response::history() const { return parts_->history; }
absl::Duration Response::elapsed() const { return parts_->elapsed; }

std::string Response::ToJson() const {
  json object = ToJsonObject(*this, *parts_);
  json history = json::array();
  // What led here has no history of its own.
  for (const Response& earlier : parts_->history) {
    history.push_back(ToJsonObject(earlier, *earlier.parts_));
  }
  object["history"] = std::move(history);
  return Dumped(object);
}

}  // namespace coord::http
