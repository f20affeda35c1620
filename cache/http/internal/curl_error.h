// What libcurl's error codes mean for a caller. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_CURL_ERROR_H_
#define COORD_CACHE_HTTP_INTERNAL_CURL_ERROR_H_

#include <string_view>

#include "absl/status/status.h"

namespace coord::http::internal {

// How far an exchange had come.
enum class Phase { kConnecting, kWaiting, kReceiving };

// Of a CURLcode that is not CURLE_OK; `detail` is what libcurl says beside, or empty. `context`,
// "GET http://host/path", begins the message.
absl::Status CurlError(int code, Phase phase, std::string_view detail, std::string_view context);

// kDeadlineExceeded, and during what.
absl::Status TimedOut(Phase phase, std::string_view context);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_CURL_ERROR_H_
