// Reading what was escaped for a URL, a form or JSON. Pure.
#ifndef COORD_CACHE_HTTP_INTERNAL_ESCAPES_H_
#define COORD_CACHE_HTTP_INTERNAL_ESCAPES_H_

#include <string>
#include <string_view>

namespace coord::http::internal {

// 0 to 15; -1: it is none.
int HexDigit(char c);

// Escapes that are none stay as they are. `plus_is_blank`: as forms have it.
std::string PercentDecoded(std::string_view text, bool plus_is_blank);

// Any text, with what escapes of JSON strings it has resolved wherever they stand.
std::string JsonUnescaped(std::string_view text);

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_ESCAPES_H_
