#include "coord/script.h"

#include <openssl/evp.h>

#include <utility>

namespace coord {
namespace {

std::string Sha1Hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  std::string hex;
  if (EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha1(), nullptr) != 1) {
    // A library built without SHA1: a name that no server knows makes every call go out as EVAL,
    // which is right, if slower.
    return std::string(40, '0');
  }
  constexpr char kHex[] = "0123456789abcdef";
  for (unsigned int i = 0; i < size; ++i) {
    hex.push_back(kHex[digest[i] >> 4]);
    hex.push_back(kHex[digest[i] & 15]);
  }
  return hex;
}

}  // namespace

Script::Script(std::string_view text, Options options)
    : name_(std::move(options.name)),
      text_(text),
      sha1_(Sha1Hex(text)),
      script_{name_, text_, sha1_, options.retry_safe} {}

}  // namespace coord
