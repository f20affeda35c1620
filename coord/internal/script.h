// A Lua script as the build embeds it: constant text, its SHA1, and how many keys and arguments it
// takes, so that a call with the wrong number of either does not compile.
#ifndef COORD_INTERNAL_SCRIPT_H_
#define COORD_INTERNAL_SCRIPT_H_

#include <string_view>

namespace coord::internal {

struct ScriptText {
  std::string_view name;  // "mutex_acquire"
  std::string_view text;
  std::string_view sha1;  // 40 hex digits
  bool retry_safe;        // the header's "Retry  safe": an unknown outcome may be replayed
};

// As a number of keys or arguments: `least` or more.
constexpr int AtLeast(int least) { return -1 - least; }

constexpr bool CountFits(int declared, int given) {
  return declared >= 0 ? given == declared : given >= -1 - declared;
}

template <int kKeys, int kArgs>
struct Script : ScriptText {};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_SCRIPT_H_
