#include "coord/internal/owner_id.h"

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>

#include "coord/internal/strings.h"

namespace coord::internal {

std::string NewOwnerId(std::string_view label) {
  unsigned char bits[16];
  while (true) {
    const ssize_t n = getrandom(bits, sizeof(bits), 0);
    if (n == sizeof(bits)) break;
    if (n < 0 && errno == EINTR) continue;
    return {};
  }
  constexpr char kHex[] = "0123456789abcdef";
  std::string id(2 * sizeof(bits) + 1 + label.size(), '@');
  for (std::size_t i = 0; i < sizeof(bits); ++i) {
    id[2 * i] = kHex[bits[i] >> 4];
    id[2 * i + 1] = kHex[bits[i] & 15];
  }
  label.copy(id.data() + 2 * sizeof(bits) + 1, label.size());
  return id;
}

std::string_view OwnerLabel(std::string_view owner) {
  const auto at = owner.find('@');
  return at == std::string_view::npos || at + 1 == owner.size() ? owner : owner.substr(at + 1);
}

std::string DefaultLabel() {
  char host[256] = "";
  if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0') return StrCat("pid:", getpid());
  std::string label(host);
  for (char& c : label) {
    if (c <= ' ' || c > '~') c = '_';
  }
  return StrCat(label, ":", getpid());
}

}  // namespace coord::internal
