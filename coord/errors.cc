#include "coord/errors.h"

#include <optional>
#include <string>

#include "absl/strings/cord.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord {
namespace internal {
namespace {

// The payload is one character a reason, so that a person who prints it can read it.
constexpr struct {
  Reason reason;
  char letter;
} kLetters[] = {{kBusy, 'b'}, {kLost, 'l'}, {kUnavailable, 'u'}, {kOutcomeUnknown, '?'}};

}  // namespace

absl::Status MakeStatus(absl::StatusCode code, std::string_view message, unsigned reasons) {
  absl::Status status(code, ToAbsl(message));
  if (reasons != 0) {
    std::string letters;
    for (const auto& entry : kLetters) {
      if (reasons & entry.reason) letters.push_back(entry.letter);
    }
    status.SetPayload(ToAbsl(kReasonPayload), absl::Cord(letters));
  }
  return status;
}

unsigned Reasons(const absl::Status& status) {
  if (status.ok()) return 0;
  const auto payload = status.GetPayload(ToAbsl(kReasonPayload));
  if (!payload) return 0;
  const std::string letters(*payload);
  unsigned reasons = 0;
  for (const auto& entry : kLetters) {
    if (letters.find(entry.letter) != std::string::npos) reasons |= entry.reason;
  }
  return reasons;
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), StrCat(context, ": ", FromAbsl(status.message())),
                    Reasons(status));
}

}  // namespace internal

bool IsBusy(const absl::Status& status) { return internal::Reasons(status) & internal::kBusy; }
bool IsLost(const absl::Status& status) { return internal::Reasons(status) & internal::kLost; }
bool IsUnavailable(const absl::Status& status) {
  return internal::Reasons(status) & internal::kUnavailable;
}
bool IsOutcomeUnknown(const absl::Status& status) {
  return internal::Reasons(status) & internal::kOutcomeUnknown;
}

}  // namespace coord
