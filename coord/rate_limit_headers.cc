#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/strings.h"
#include "coord/rate_limiter.h"

namespace coord {
namespace {

using internal::StrCat;

// Seconds of a header.
std::int64_t WholeSeconds(absl::Duration duration) {
  return absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1)));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> RateLimitHeaders(const RateDecision& decision,
                                                                  const RateLimit& limit,
                                                                  std::string_view policy) {
  std::string name = "\"";
  for (const char c : policy) {
    if (c < ' ' || c > '~') continue;
    if (c == '"' || c == '\\') name += '\\';
    name += c;
  }
  name += '"';
  const std::int64_t reset = WholeSeconds(decision.reset_after);
  std::vector<std::pair<std::string, std::string>> headers = {
      {"RateLimit-Policy", StrCat(name, ";q=", limit.permits, ";w=", WholeSeconds(limit.period))},
      {"RateLimit", StrCat(name, ";r=", decision.remaining, ";t=", reset)},
      {"X-RateLimit-Limit", StrCat(decision.limit)},
      {"X-RateLimit-Remaining", StrCat(decision.remaining)},
      {"X-RateLimit-Reset", StrCat(reset)},
  };
  if (!decision.allowed && decision.retry_after != absl::InfiniteDuration()) {
    headers.emplace_back("Retry-After", StrCat(WholeSeconds(decision.retry_after)));
  }
  return headers;
}

}  // namespace coord
