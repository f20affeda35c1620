#include "cache/http/internal/response_parts.h"

#include <utility>

#include "cache/http/internal/freshness.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {

namespace {

// All but what is copied or moved.
std::shared_ptr<ResponseParts> Begun(const StoredResponse& stored, std::string key, absl::Time now,
                                     std::function<absl::Time()> calendar) {
  auto parts = std::make_shared<ResponseParts>();
  parts->status = stored.status;
  parts->age = CurrentAge(stored, now);
  parts->body = stored.body;
  parts->from_cache = true;
  parts->stored = true;
  parts->stale = stored.expires <= now;
  parts->key = std::move(key);
  parts->created = stored.created;
  parts->expires = stored.expires;
  parts->calendar = std::move(calendar);
  return parts;
}

void SetAge(ResponseParts& parts) {
  parts.headers.Set("Age", coord::internal::StrCat(absl::ToInt64Seconds(parts.age)));
}

}  // namespace

std::shared_ptr<ResponseParts> PartsFromStored(std::shared_ptr<const StoredResponse> stored,
                                               std::string key, absl::Time now,
                                               std::function<absl::Time()> calendar) {
  auto parts = Begun(*stored, std::move(key), now, std::move(calendar));
  parts->headers = stored->headers;
  parts->url = stored->url;
  parts->method = stored->method;
  SetAge(*parts);
  parts->stored_response = std::move(stored);
  return parts;
}

std::shared_ptr<ResponseParts> PartsOfStored(std::shared_ptr<StoredResponse> stored,
                                             std::string key, absl::Time now,
                                             std::function<absl::Time()> calendar) {
  auto parts = Begun(*stored, std::move(key), now, std::move(calendar));
  parts->headers = std::move(stored->headers);
  parts->url = std::move(stored->url);
  parts->method = std::move(stored->method);
  SetAge(*parts);
  parts->stored_response = std::move(stored);
  return parts;
}

Response FromStored(std::shared_ptr<const StoredResponse> stored, std::string key, absl::Time now,
                    std::function<absl::Time()> calendar) {
  return Response(PartsFromStored(std::move(stored), std::move(key), now, std::move(calendar)));
}

}  // namespace coord::http::internal
