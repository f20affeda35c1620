// Waiting for servers to agree: on a condition, with a deadline, and with the reason at the end.
#ifndef COORD_TOOLS_DEV_WAIT_UNTIL_H_
#define COORD_TOOLS_DEV_WAIT_UNTIL_H_

#include <poll.h>

#include <stop_token>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/deployment/owned_fd.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::dev {

// Asks `check` until it is OK, at least once. DeadlineExceeded with what it said last, Cancelled.
template <typename Check>
absl::Status WaitUntil(std::string_view what, absl::Duration timeout, const std::stop_token& stop,
                       Check check) {
  const internal::embedded::Deadline deadline(timeout);
  while (true) {
    const absl::Status status = check();
    if (status.ok()) return status;
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    if (deadline.Passed()) {
      return internal::MakeStatus(absl::StatusCode::kDeadlineExceeded,
                                  internal::StrCat(what, ": not within ", internal::ToText(timeout),
                                                   ": ", internal::FromAbsl(status.message())));
    }
    poll(nullptr, 0, 10);
  }
}

// For a check: why not yet.
template <typename... Pieces>
absl::Status NotYet(const Pieces&... pieces) {
  return internal::MakeStatus(absl::StatusCode::kUnavailable, internal::StrCat(pieces...));
}

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_WAIT_UNTIL_H_
