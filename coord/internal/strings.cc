#include "coord/internal/strings.h"

#include "absl/strings/escaping.h"

namespace coord::internal {

std::string Quoted(std::string_view text) {
  constexpr std::size_t kShown = 64;
  std::string out = "\"";
  out += absl::CHexEscape(ToAbsl(text.substr(0, kShown)));
  out += text.size() > kShown ? "...\"" : "\"";
  return out;
}

}  // namespace coord::internal
