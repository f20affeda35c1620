#include "cache/http/internal/origin_turn.h"

#include <utility>

#include "coord/client.h"
#include "coord/internal/strings.h"

namespace coord::http::internal {
namespace {

constexpr absl::Duration kTakeoverAfter = absl::Seconds(5);

}  // namespace

OriginTurn::OriginTurn(Backend& backend, std::string_view key, absl::Duration longest,
                       absl::Duration timeout)
    : backend_(backend),
      longest_(absl::Ceil(longest, absl::Milliseconds(1))),
      call_({.timeout = timeout}),
      // Not below the store's prefix, where only responses are looked for.
      marker_(coord::internal::StrCat("turn:", key)) {
  if (backend.client() != nullptr) lease_.emplace(*backend.client(), key, kTakeoverAfter);
}

OriginTurn::~OriginTurn() {
  // What fails here frees itself in time.
  if (lease_.has_value()) (void)lease_->Release(call_);
  if (marked_) (void)backend_.Delete(marker_, call_);
}

absl::StatusOr<bool> OriginTurn::Try() {
  if (lease_.has_value()) return lease_->Try(call_);
  if (!shared()) return true;
  absl::StatusOr<bool> marked =
      backend_.Set({.key = marker_, .value = "1", .ttl = longest_}, SetIf::kAbsent, call_);
  marked_ = marked.ok() && *marked;
  return marked;
}

absl::Status OriginTurn::AwaitOthers(absl::Duration wait, const std::stop_token& stop) {
  if (!lease_.has_value()) return absl::OkStatus();
  return lease_->AwaitOthers(stop, wait);
}

}  // namespace coord::http::internal
