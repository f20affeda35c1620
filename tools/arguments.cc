#include "tools/arguments.h"

#include <charconv>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/program.h"

namespace coord::tools {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

CLI::Option* AddText(CLI::App& app, const std::string& name, Text& target,
                     const std::string& description, const std::string& type) {
  return app
      .add_option_function<std::string>(
          name, [&target](const std::string& text) { target = text; }, description)
      ->type_name(type);
}

std::int64_t Arguments::Integer(std::string_view what, std::string_view text, std::int64_t least) {
  const std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool whole = !digits.empty() && end == digits.data() + digits.size();
  if (error == std::errc::result_out_of_range && whole) {
    Keep(InvalidArgument(StrCat(what, " is ", Quoted(text), "; it must be ", least, " to ",
                                std::numeric_limits<std::int64_t>::max())));
  } else if (error != std::errc() || !whole || digits.starts_with("+")) {
    Keep(InvalidArgument(StrCat(what, " is ", Quoted(text), "; it must be a whole number")));
  } else if (value < least) {
    Keep(InvalidArgument(StrCat(what, " is ", value, "; it must be ", least, " or more")));
  }
  return value;
}

std::optional<std::int64_t> Arguments::Integer(std::string_view what, const Text& text,
                                               std::int64_t least) {
  if (!text) return std::nullopt;
  return Integer(what, std::string_view(*text), least);
}

absl::Duration Arguments::Duration(std::string_view what, std::string_view text, Zero zero) {
  const absl::StatusOr<absl::Duration> duration = ParseDuration(what, text);
  if (!duration.ok()) {
    Keep(duration.status());
    return absl::ZeroDuration();
  }
  if (*duration == absl::ZeroDuration() && zero == Zero::kRefused) {
    Keep(InvalidArgument(StrCat(what, " is ", Quoted(text), "; it must be above 0")));
  }
  return *duration;
}

std::optional<absl::Duration> Arguments::Duration(std::string_view what, const Text& text,
                                                  Zero zero) {
  if (!text) return std::nullopt;
  return Duration(what, std::string_view(*text), zero);
}

void Arguments::Name(std::string_view text) {
  constexpr std::size_t kMost = 512;
  if (text.empty() || text.size() > kMost) {
    Keep(InvalidArgument(StrCat("NAME is ", Quoted(text), " (", text.size(),
                                " bytes); it must have 1 to ", kMost, " bytes")));
  } else if (text.front() == '}') {
    Keep(InvalidArgument(StrCat("NAME is ", Quoted(text), "; it must not start with '}'")));
  }
}

}  // namespace coord::tools
