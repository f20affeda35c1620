// Reading the texts of arguments. CLI11's own conversions are not used: they take "010" for eight
// and "0x10" for sixteen, and do not name the limit that a number breaks.
#ifndef COORD_TOOLS_ARGUMENTS_H_
#define COORD_TOOLS_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace coord::tools {

using Text = std::optional<std::string>;

// An option whose value is kept as it was typed; also an empty one, which is no missing one.
CLI::Option* AddText(CLI::App& app, const std::string& name, Text& target,
                     const std::string& description, const std::string& type);

// Reads one argument after the other and keeps the first fault, so that a subcommand asks once:
//
//   Arguments given;
//   options.max = given.Integer("--max", text);
//   if (!given.status().ok()) return given.status();
class Arguments {
 public:
  // Decimal, within the signed 64-bit range.
  std::int64_t Integer(std::string_view what, std::string_view text,
                       std::int64_t least = std::numeric_limits<std::int64_t>::min());
  std::optional<std::int64_t> Integer(
      std::string_view what, const Text& text,
      std::int64_t least = std::numeric_limits<std::int64_t>::min());

  enum class Zero { kAllowed, kRefused };
  absl::Duration Duration(std::string_view what, std::string_view text, Zero zero = Zero::kRefused);
  std::optional<absl::Duration> Duration(std::string_view what, const Text& text,
                                         Zero zero = Zero::kRefused);

  // What the library would refuse too, but only once it is connected.
  void Name(std::string_view text);

  const absl::Status& status() const { return status_; }

 private:
  void Keep(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  absl::Status status_;
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_ARGUMENTS_H_
