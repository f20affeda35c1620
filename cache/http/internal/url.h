// URLs of http and https, by libcurl's parser, so that what is judged here is what is asked there.
// Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_URL_H_
#define COORD_CACHE_HTTP_INTERNAL_URL_H_

#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace coord::http::internal {

struct NormalForm {
  // Whether a query parameter of that name (percent-decoded) is left out, and whether its value is
  // "REDACTED".
  absl::FunctionRef<bool(std::string_view name)> dropped;
  absl::FunctionRef<bool(std::string_view name)> redacted;
  bool sort_query = false;
};

// Checked: http or https, a host, no control characters or blanks, at most 64 KiB. Host and scheme
// in lower case, the path "/" where there was none, no fragment; user and password, which are sent
// as basic authorization, are taken out and returned beside. kInvalidArgument, and what is wrong,
// without any of its text but scheme and host.
struct CheckedUrl {
  std::string url;
  std::string user, password;  // percent-decoded
  bool has_credentials = false;
};
absl::StatusOr<CheckedUrl> CheckUrl(std::string_view url);

// RFC 3986 sections 6.2.2 and 6.2.3: letters' case in scheme, host and escapes, escapes of
// unreserved characters, dot segments, default port, empty path; nothing that could mean something
// else to the origin. No fragment. `url`: CheckUrl's.
absl::StatusOr<std::string> NormalizeUrl(std::string_view url, const NormalForm& form);

// `reference` of a response to a request for `base` (RFC 3986 section 5); the fragment of neither.
absl::StatusOr<std::string> ResolveUrl(std::string_view base, std::string_view reference);

// Scheme, host and port are the same.
bool SameOrigin(std::string_view one, std::string_view other);

// For messages: scheme, host, port and path, "?..." in place of a query.
std::string UrlForMessages(std::string_view url);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_URL_H_
