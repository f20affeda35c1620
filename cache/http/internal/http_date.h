// Dates as HTTP writes them (RFC 9110 section 5.6.7). Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_HTTP_DATE_H_
#define COORD_CACHE_HTTP_INTERNAL_HTTP_DATE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace coord::http::internal {

// All three forms; the year of the second (RFC 850) is taken as at most 50 years after `now`.
// nullopt for everything else: wrong names of days and months, days that a month does not have,
// another zone than GMT. A wrong day of the week is forgiven. A leap second is the next second.
std::optional<absl::Time> ParseHttpDate(std::string_view text, absl::Time now);

// IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT".
std::string FormatHttpDate(absl::Time moment);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_HTTP_DATE_H_
