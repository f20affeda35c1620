// What the parser of URLs and their printer must agree on.
#ifndef COORD_DEPLOYMENT_URL_SCHEME_H_
#define COORD_DEPLOYMENT_URL_SCHEME_H_

#include <array>
#include <cstdint>
#include <string_view>

#include "coord/deployment/url.h"

namespace coord::internal {

struct SchemeName {
  std::string_view name;
  Url::Scheme scheme;
  bool tls;
};
inline constexpr std::array<SchemeName, 8> kSchemes = {{
    {"redis", Url::Scheme::kTcp, false},
    {"rediss", Url::Scheme::kTcp, true},
    {"unix", Url::Scheme::kUnix, false},
    {"redis+sentinel", Url::Scheme::kSentinel, false},
    {"rediss+sentinel", Url::Scheme::kSentinel, true},
    {"redis+cluster", Url::Scheme::kCluster, false},
    {"rediss+cluster", Url::Scheme::kCluster, true},
    {"embedded", Url::Scheme::kEmbedded, false},
}};

inline std::uint16_t DefaultPort(Url::Scheme scheme) {
  return scheme == Url::Scheme::kSentinel ? 26379 : 6379;
}

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_URL_SCHEME_H_
