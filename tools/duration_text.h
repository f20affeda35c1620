// Lengths of time as a person reads them.
#ifndef COORD_TOOLS_DURATION_TEXT_H_
#define COORD_TOOLS_DURATION_TEXT_H_

#include <string>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace coord::tools {

// Three digits and a unit: "61 us", "1.25 ms", "12.5 s", "3 min", "5 h", "12 days".
inline std::string Brief(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) return absl::StrFormat("-%s", Brief(-duration));
  const double seconds = absl::ToDoubleSeconds(duration);
  if (seconds < 0.001) return absl::StrFormat("%.0f us", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.3g ms", seconds * 1e3);
  if (seconds < 120) return absl::StrFormat("%.3g s", seconds);
  if (seconds < 7200) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 172800) return absl::StrFormat("%.0f h", seconds / 3600);
  return absl::StrFormat("%.0f days", seconds / 86400);
}

}  // namespace coord::tools

#endif  // COORD_TOOLS_DURATION_TEXT_H_
