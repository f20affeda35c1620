// What stands around a cached value that is more than its codec's plain bytes. Pure.
//
// A stored value whose first byte is not '\0' is a codec's plain bytes, which other clients can
// read. One that begins with '\0' is:
//
//   \0  version (1)  flags  [fields, in the order of their flags]  payload
//
//   flag  field
//   0x01  none; there is no value, and no payload
//   0x02  the payload is compressed: a byte (1: zstd, 2: lz4), and how many bytes it inflates to
//   0x04  stale_for
//   0x08  cost
//   0x10  ttl
//   0x20  how many tags, and of each: the tag, its generation (a number of bytes, and the bytes)
//   0x40  none; a signature stands last of all, over the key and everything before it (signing.h)
//
// Numbers are varints (base 128, least significant group first, as short as can be), times in
// milliseconds, above zero.
#ifndef COORD_CACHE_INTERNAL_ENVELOPE_H_
#define COORD_CACHE_INTERNAL_ENVELOPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/compression.h"
#include "cache/signing.h"

namespace coord::internal {

inline constexpr std::size_t kMaxTags = 64;
inline constexpr std::size_t kMaxTagBytes = 128;
inline constexpr std::size_t kMaxGenerationBytes = 32;

// What is said beside the value. Durations are zero or up to ten years; they are stored as whole
// milliseconds, rounded up.
struct EnvelopeFields {
  bool null = false;  // there is no value, and that is known
  // The value is stale once no more than this is left of the stored key's time to live. Counted
  // from the end, so that the hosts' clocks need not agree.
  absl::Duration stale_for = absl::ZeroDuration();
  // How long making it took, for early refreshes; zero: nobody has measured.
  absl::Duration cost = absl::ZeroDuration();
  // The time to live that it was given, without stale_for; zero: not said.
  absl::Duration ttl = absl::ZeroDuration();
  // Each tag and the generation that it had before the value was made. Within the limits above, no
  // tag empty or twice.
  std::vector<std::pair<std::string, std::string>> tags = {};

  friend bool operator==(const EnvelopeFields&, const EnvelopeFields&) = default;
};

struct SealOptions {
  Compression compression = {};
  const Signer* signer = nullptr;  // borrowed
};

// `payload` as it is to be stored under `key`: as it is, where nothing need be said. Compressed
// only where that makes it smaller by at least an eighth. kInvalidArgument: fields that break the
// rules, a payload for a null.
absl::StatusOr<std::string> Seal(std::string_view key, std::string_view payload,
                                 const EnvelopeFields& fields, const SealOptions& options);

struct Opened {
  EnvelopeFields fields;
  std::string payload;
};

struct OpenOptions {
  std::size_t max_bytes = std::size_t{64} << 20;  // of the stored value, and of what it inflates to
  // Borrowed. With it what is not signed is refused; without it, what is, since nobody has looked
  // whether that is true.
  const Signer* signer = nullptr;
};

// kDataLoss, and why: truncated, an unknown version or flag, larger than max_bytes (before anything
// is allocated for it), a bad or missing signature, a field that Seal would not have written.
absl::StatusOr<Opened> Open(std::string_view key, std::string stored, const OpenOptions& options);

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_ENVELOPE_H_
