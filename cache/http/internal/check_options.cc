#include <algorithm>

#include "absl/status/status.h"
#include "cache/http/internal/session_core.h"
#include "cache/http/session_options.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

using coord::internal::InvalidArgument;
using coord::internal::Quoted;
using coord::internal::StrCat;
using coord::internal::ToText;

constexpr absl::Duration kMost = absl::Hours(24 * 365 * 10);

absl::Status CheckLength(std::string_view option, absl::Duration length) {
  if (length >= absl::ZeroDuration() && length <= kMost) return absl::OkStatus();
  return InvalidArgument(
      StrCat("SessionOptions::", option, " is ", ToText(length), "; it can be 0 to ten years"));
}

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

}  // namespace

absl::Status CheckOptions(const SessionOptions& options) {
  if (!IsName(options.store)) {
    return InvalidArgument(StrCat("SessionOptions::store is ", Quoted(options.store),
                                  "; it can be 1 to 64 letters, digits, '_', '-' and '.'"));
  }
  for (const auto& [name, length] :
       {std::pair<std::string_view, absl::Duration>("ttl_offset", options.ttl_offset),
        {"stale_if_error", options.stale_if_error},
        {"stale_while_revalidate", options.stale_while_revalidate}}) {
    if (absl::Status valid = CheckLength(name, length); !valid.ok()) return valid;
  }
  if (options.backend_timeout <= absl::ZeroDuration() ||
      options.backend_timeout > absl::Hours(24)) {
    return InvalidArgument(StrCat("SessionOptions::backend_timeout is ",
                                  ToText(options.backend_timeout),
                                  "; it can be above zero, up to 24 h"));
  }
  if (absl::Status valid = options.expire_after.Check(); !valid.ok()) return valid;
  for (const UrlExpiry& pattern : options.urls_expire_after) {
    if (!pattern.urls.status().ok()) return pattern.urls.status();
    if (absl::Status valid = pattern.expire.Check(); !valid.ok()) return valid;
  }
  for (const int status : options.statuses) {
    if (status < 200 || status > 599 || status == 206 || status == 304) {
      return InvalidArgument(StrCat("SessionOptions::statuses has ", status,
                                    ", which cannot be stored; codes are 200 to 599 but 206, 304"));
    }
  }
  Headers names;
  for (const auto* list : {&options.methods, &options.match_headers, &options.ignored_parameters,
                           &options.secret_parameters}) {
    for (const std::string& name : *list) {
      if (name.empty()) {
        return InvalidArgument(
            "SessionOptions has an empty name among methods, match_headers, ignored_parameters or "
            "secret_parameters");
      }
    }
  }
  for (const std::string& name : options.match_headers) names.Add(name, "");
  for (const std::string& name : options.methods) names.Add(name, "");
  if (absl::Status valid = names.Check(); !valid.ok()) return valid;
  if (absl::Status valid = options.transport.headers.Check(); !valid.ok()) return valid;
  if (options.transport.max_redirects < 0) {
    return InvalidArgument("TransportOptions::max_redirects is negative");
  }
  return absl::OkStatus();
}

}  // namespace coord::http::internal
