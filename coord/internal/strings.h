// Where Abseil's string_view and the standard's are two types (Debian builds Abseil so), convert
// here and nowhere else.
#ifndef COORD_INTERNAL_STRINGS_H_
#define COORD_INTERNAL_STRINGS_H_

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace coord::internal {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view FromAbsl(absl::string_view text) { return {text.data(), text.size()}; }

inline void AppendPiece(std::string& out, std::string_view piece) { out.append(piece); }
inline void AppendPiece(std::string& out, const char* piece) { out.append(piece); }
template <typename Integer>
requires std::is_integral_v<Integer>
void AppendPiece(std::string& out, Integer value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out.append(digits, static_cast<std::size_t>(end - digits));
}

// Concatenates strings and integers.
template <typename... Pieces>
std::string StrCat(const Pieces&... pieces) {
  std::string out;
  (AppendPiece(out, pieces), ...);
  return out;
}

// The whole of `text` as a decimal 64-bit integer, or nothing.
inline std::optional<std::int64_t> ParseInt64(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// For messages: "1.5s".
inline std::string ToText(absl::Duration duration) { return absl::FormatDuration(duration); }

// For messages: `text` in quotes, control characters escaped, cut after 64 bytes.
std::string Quoted(std::string_view text);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_STRINGS_H_
