// Which keys are those of the library's own primitives. Pure.
#ifndef COORD_CACHE_INTERNAL_PRIMITIVE_KEY_H_
#define COORD_CACHE_INTERNAL_PRIMITIVE_KEY_H_

#include <string_view>

namespace coord::internal {

// Whether `key` is one that a lock, counter, limiter, list, ... keeps: "<anything>{name}:<part>",
// with a part that a primitive uses. A cache walks over such keys as if they were not there, so
// that clearing a prefix takes no lock away. A key of a cache's user that looks the same is spared
// too.
bool IsPrimitiveKey(std::string_view key);

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_PRIMITIVE_KEY_H_
