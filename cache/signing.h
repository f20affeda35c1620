// Values that nobody without the key can forge, change, or move to another key of the cache.
//
//   coord::BasicCache cache(backend, {}, coord::Signed<coord::JsonCodec>({{"2026-11", secret}}));
//
// HMAC-SHA256 (RFC 2104) over the cache's key and all that is stored. It keeps nothing secret: the
// value is readable for whoever can read the server.
#ifndef COORD_CACHE_SIGNING_H_
#define COORD_CACHE_SIGNING_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace coord {

struct SigningKey {
  std::string id;      // stands in what is stored; 1 to 32 bytes
  std::string secret;  // at least 16 bytes, random
};

// Thread-safe; copies share what they hold. Never says a secret.
class Signer {
 public:
  // The first key signs, all of them verify: to rotate, put the new key in front, and take the old
  // one out when what it signed has expired.
  explicit Signer(std::vector<SigningKey> keys);

  // kInvalidArgument: no keys, two of one id, or one that breaks the rules. Then so are Sign and
  // Verify.
  absl::Status Check() const;

  // Appends the id of the key and the code of `key` and `text` to `text`, at most kMaxSize bytes.
  absl::Status Sign(std::string_view key, std::string& text) const;
  // Takes them off again. kDataLoss: missing, wrong, or by a key that is not known; `text` is then
  // as it was. In constant time for texts of one length.
  absl::Status Verify(std::string_view key, std::string& text) const;

  static constexpr std::size_t kMaxSize = 32 + 32 + 1;

 private:
  struct Keys;

  std::shared_ptr<const Keys> keys_;
};

}  // namespace coord

#endif  // COORD_CACHE_SIGNING_H_
