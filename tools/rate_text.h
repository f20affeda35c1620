// Rates as people write them: 10/s, 100/m, 5/250ms.
#ifndef COORD_TOOLS_RATE_TEXT_H_
#define COORD_TOOLS_RATE_TEXT_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "coord/rate_limiter.h"

namespace coord::tools {

// "N/PERIOD": N at least 1; PERIOD a unit (ms, s, m, h, d) or a time with its unit (250ms, 10s).
// The burst is left unset. InvalidArgument names --rate, the text, and what is wrong with it.
absl::StatusOr<RateLimit> ParseRate(std::string_view text);

}  // namespace coord::tools

#endif  // COORD_TOOLS_RATE_TEXT_H_
