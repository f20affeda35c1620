#include "cache/http/internal/redirect.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "cache/http/internal/url.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

constexpr std::string_view kOfTheBody[] = {"Content-Type",     "Content-Length",
                                           "Content-Encoding", "Content-Language",
                                           "Content-Location", "Transfer-Encoding"};
constexpr std::string_view kOfTheIdentity[] = {"Authorization", "Cookie", "Proxy-Authorization"};

}  // namespace

bool IsRedirect(int status, const Headers& response) {
  const bool leads_on =
      status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  return leads_on && response.Has("Location");
}

std::string BasicAuthorization(std::string_view user, std::string_view password) {
  const std::string pair = coord::internal::StrCat(user, ":", password);
  return coord::internal::StrCat("Basic ", absl::Base64Escape(pair));
}

absl::StatusOr<Onward> FollowRedirect(std::string_view method, std::string_view url,
                                      const Headers& request, int status, const Headers& response,
                                      absl::FunctionRef<bool(std::string_view name)> is_secret) {
  const auto refused = [&](std::string_view why) {
    return coord::internal::MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        coord::internal::StrCat(method, " ", UrlForMessages(url), ": redirected (", status,
                                ") to something that cannot be followed: ", why));
  };
  absl::StatusOr<std::string> target = ResolveUrl(url, response.All("Location").front());
  if (!target.ok()) return refused(coord::internal::FromAbsl(target.status().message()));
  absl::StatusOr<CheckedUrl> checked = CheckUrl(*target);
  if (!checked.ok()) return refused(coord::internal::FromAbsl(checked.status().message()));

  Onward onward{std::string(method), std::move(checked->url), request};
  const bool becomes_get = (status == 303 && method != "HEAD" && method != "GET") ||
                           ((status == 301 || status == 302) && method == "POST");
  if (becomes_get) {
    onward.method = "GET";
    onward.keeps_body = false;
    for (const std::string_view name : kOfTheBody) onward.headers.Remove(name);
  }
  if (!SameOrigin(url, onward.url)) {
    for (const std::string_view name : kOfTheIdentity) onward.headers.Remove(name);
    Headers kept;
    for (const auto& [name, value] : onward.headers) {
      if (!is_secret(name)) kept.Add(name, value);
    }
    onward.headers = std::move(kept);
    onward.headers.Remove("Host");
  }
  if (checked->has_credentials) {
    onward.headers.Set("Authorization", BasicAuthorization(checked->user, checked->password));
  }
  return onward;
}

}  // namespace coord::http::internal
