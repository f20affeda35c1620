// Argument checks that several primitives share.
#ifndef COORD_INTERNAL_LIMITS_H_
#define COORD_INTERNAL_LIMITS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {

// Bytes of an object's name, or of a key that is given raw.
inline constexpr std::size_t kMaxName = 512;

// Of a lease. Below the least, drift would leave hardly any of it.
inline constexpr absl::Duration kMinLeaseTtl = absl::Milliseconds(20);
inline constexpr absl::Duration kMaxLeaseTtl = absl::Hours(24);
// Of data.
inline constexpr absl::Duration kMaxDataTtl = absl::Hours(24 * 366 * 10);

inline absl::Status CheckTtl(absl::Duration ttl) {
  if (ttl >= kMinLeaseTtl && ttl <= kMaxLeaseTtl) return absl::OkStatus();
  return InvalidArgument(StrCat("ttl is ", ToText(ttl), "; it must be ", ToText(kMinLeaseTtl),
                                " to ", ToText(kMaxLeaseTtl)));
}

inline absl::Status CheckDataTtl(absl::Duration ttl) {
  if (ttl > absl::ZeroDuration() && ttl <= kMaxDataTtl) return absl::OkStatus();
  return InvalidArgument(
      StrCat("ttl is ", ToText(ttl), "; it must be above 0 and at most ", ToText(kMaxDataTtl)));
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_LIMITS_H_
