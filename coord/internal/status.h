// Making the statuses that errors.h lets a user ask about.
#ifndef COORD_INTERNAL_STATUS_H_
#define COORD_INTERNAL_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace coord::internal {

enum Reason : unsigned {
  kBusy = 1,
  kLost = 2,
  kUnavailable = 4,
  kOutcomeUnknown = 8,
};

// A status whose payload holds `reasons`, a union of Reason bits.
absl::Status MakeStatus(absl::StatusCode code, std::string_view message, unsigned reasons = 0);

// The same status, code and reasons kept, with "<context>: " before its message.
absl::Status Annotate(const absl::Status& status, std::string_view context);

unsigned Reasons(const absl::Status& status);

inline absl::Status InvalidArgument(std::string_view message) {
  return MakeStatus(absl::StatusCode::kInvalidArgument, message);
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_STATUS_H_
