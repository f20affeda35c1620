// Names of fields, directives and hosts are compared without regard to case.
#ifndef COORD_CACHE_HTTP_INTERNAL_LOWER_CASE_H_
#define COORD_CACHE_HTTP_INTERNAL_LOWER_CASE_H_

#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {

// Letters of ASCII; all else stays.
inline std::string LowerCase(std::string_view text) {
  return absl::AsciiStrToLower(coord::internal::ToAbsl(text));
}

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_LOWER_CASE_H_
