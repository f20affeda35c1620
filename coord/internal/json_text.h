// What a caller hands over as JSON is checked here, before anything is sent. Pure functions.
//
// Strict RFC 8259: one value with white space around it, valid UTF-8, no lone surrogates, no
// leading zeros, no control characters inside strings. Beyond the standard's grammar also refused,
// since the script could not treat them without doubt: a name that occurs twice in one object,
// nesting deeper than kJsonMaxDepth, an exponent of more than 15 digits.
#ifndef COORD_INTERNAL_JSON_TEXT_H_
#define COORD_INTERNAL_JSON_TEXT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace coord::internal {

// lua/json_cas.lua has the same limits for what is stored.
inline constexpr std::size_t kJsonMaxDepth = 128;
inline constexpr std::size_t kJsonMaxBytes = std::size_t{16} << 20;
inline constexpr std::size_t kJsonMaxPointerBytes = 4096;

// Why a text is not acceptable JSON.
struct JsonFault {
  std::string_view why;  // "a comma or a closing bracket is missing": constant text
  std::size_t at = 0;    // counted from 0
  bool grammar = true;   // false: it is JSON, but outside our limits
};

// Nothing, if `text` is one JSON value that may stand inside `depth` containers. Linear in
// the text's length; recursion-free; remembers the names of the objects that are open.
std::optional<JsonFault> FindJsonFault(std::string_view text, std::size_t depth = 0);

// The same as a status, and with the limit on size: InvalidArgument, which begins with `what` ("the
// new document").
absl::Status CheckJson(std::string_view what, std::string_view text, std::size_t depth = 0);

// How many reference tokens the JSON Pointer (RFC 6901) has, which is how deep its value stands;
// InvalidArgument when it is none. "" is the whole document, "/" the member with the empty name.
absl::StatusOr<std::size_t> PointerDepth(std::string_view pointer);

// The number of bytes of the UTF-8 sequence at the front of `text`, which is not empty; 0 when it
// is not valid.
std::size_t Utf8Length(std::string_view text);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_JSON_TEXT_H_
