// What went wrong, in terms a caller can act on.
//
// Every fallible call returns absl::Status or absl::StatusOr. The code says what kind of fault it
// was; the questions below say what to do about it. They read a payload of the status
// (kReasonPayload), never the code alone, so a status made by somebody else never looks like one of
// ours.
//
//   absl::StatusOr<coord::Lease> lease = mutex.Acquire(absl::Seconds(5));
//   if (coord::IsBusy(lease.status())) return TryLater();
//
// | what happened                                  | code                       | helper |
// |------------------------------------------------|----------------------------|--------------------|
// | held by another until the timeout              | kAborted                   | IsBusy | | the
// lease ran out or was taken                 | kFailedPrecondition        | IsLost             | |
// no server, or refused before it ran            | kUnavailable               | IsUnavailable | |
// sent, the connection broke before the reply    | kUnavailable               | IsUnavailable,
// IsOutcomeUnknown | | sent, no reply by the deadline                 | kDeadlineExceeded |
// IsOutcomeUnknown   | | the caller's stop token                        | kCancelled |
// IsOutcomeUnknown when it may have run | | wrong password, missing right, wrong type      |
// kUnauthenticated, kPermissionDenied, kFailedPrecondition | | | the server is out of memory |
// kResourceExhausted         |                    | | bad argument; nothing was sent |
// kInvalidArgument           |                    | | bytes that cannot be decoded | kDataLoss | |
#ifndef COORD_ERRORS_H_
#define COORD_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"

namespace coord {

// The type URL of the payload that the questions below read.
inline constexpr std::string_view kReasonPayload = "coord/reason";

// Another owner holds what was asked for, and held it until the timeout.
bool IsBusy(const absl::Status& status);

// The lease ran out, or somebody else has it now: stop what it guarded.
bool IsLost(const absl::Status& status);

// No server could be reached, or none would take the command. Trying later can help. Call it
// qualified: Abseil has a function of this name, which looks at the code.
bool IsUnavailable(const absl::Status& status);

// It is not known whether the operation has been or will be applied.
bool IsOutcomeUnknown(const absl::Status& status);

}  // namespace coord

#endif  // COORD_ERRORS_H_
