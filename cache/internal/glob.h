// Patterns as Redis's KEYS and SCAN have them, for backends that must match by themselves: `*`,
// `?`, `[abc]`, `[^abc]`, `[a-z]`, `\x` for x itself. Byte by byte, in time of at most the product
// of both lengths, without recursion.
#ifndef COORD_CACHE_INTERNAL_GLOB_H_
#define COORD_CACHE_INTERNAL_GLOB_H_

#include <string>
#include <string_view>

namespace coord::internal {

bool GlobMatch(std::string_view pattern, std::string_view text);

// Whether `pattern` says nothing of what stands in a key: it is empty, or has nothing but `*` and
// `?` with a `*` among them. What deletes by patterns refuses such ones where it would empty a
// place.
bool NamesNoText(std::string_view pattern);

// The literal text that everything matching `pattern` begins with; may be empty.
std::string GlobPrefix(std::string_view pattern);

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_GLOB_H_
