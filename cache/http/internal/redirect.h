// Where a redirect leads (RFC 9110 section 15.4). Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_REDIRECT_H_
#define COORD_CACHE_HTTP_INTERNAL_REDIRECT_H_

#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "cache/http/headers.h"

namespace coord::http::internal {

// 301, 302, 303, 307 or 308 with a Location.
bool IsRedirect(int status, const Headers& response);

struct Onward {
  std::string method;
  std::string url;  // CheckUrl's
  Headers headers;
  bool keeps_body = true;
};

// The next request. 303 makes a GET of everything but HEAD, 301 and 302 of POST; such loses its
// body and the fields that describe it. At another origin (scheme, host or port) it loses what says
// who asks: Authorization, Cookie and all that `is_secret` knows. A user in Location is credentials
// of its own. kFailedPrecondition: Location is no URL of http or https; its query is not shown.
absl::StatusOr<Onward> FollowRedirect(std::string_view method, std::string_view url,
                                      const Headers& request, int status, const Headers& response,
                                      absl::FunctionRef<bool(std::string_view name)> is_secret);

// The Authorization field for a user and a password (RFC 7617).
std::string BasicAuthorization(std::string_view user, std::string_view password);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_REDIRECT_H_
