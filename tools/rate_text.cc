#include "tools/rate_text.h"

#include <string>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

absl::StatusOr<RateLimit> ParseRate(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size()) {
    return InvalidArgument(StrCat("--rate is ", Quoted(text),
                                  "; it must be a number and a period, such as 10/s, 100/m, "
                                  "1000/h, 5000/d or 5/250ms"));
  }
  const std::string what = StrCat("--rate is ", Quoted(text), ", of which the number");
  Arguments given;
  RateLimit limit;
  limit.permits = given.Integer(what, text.substr(0, slash), 1);
  std::string period(text.substr(slash + 1));
  if (period.front() < '0' || period.front() > '9') period.insert(0, "1");
  limit.period = given.Duration(StrCat("--rate is ", Quoted(text), ", of which the period"),
                                std::string_view(period));
  if (!given.status().ok()) return given.status();
  return limit;
}

}  // namespace coord::tools
