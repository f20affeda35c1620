#include "coord/lock/single_held.h"

#include "coord/lock/detached.h"

namespace coord::internal {

absl::Status SingleHeld::Renew(absl::Duration ttl, const CallOptions& options) {
  if (absl::Status status = session_->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session_->Limits(options);
  if (!limits.ok()) return limits.status();
  return state_->Renew(ttl, *limits);
}

absl::Status SingleHeld::Release(const CallOptions& options) {
  if (session_->forked()) return session_->Usable();
  absl::StatusOr<CallLimits> limits = session_->Limits(options);
  if (!limits.ok()) return limits.status();
  return cohort_ != nullptr ? cohort_->Release(*state_, *limits) : state_->Release(*limits);
}

absl::StatusOr<std::string> SingleHeld::Detach() {
  if (absl::Status status = session_->Usable(); !status.ok()) return status;
  const LeaseIdentity& identity = state_->identity();
  if (!identity.lock->detachable()) return Held::Detach();
  absl::StatusOr<LeaseTerms> terms = state_->Detach();
  if (!terms.ok()) return terms.status();
  return WriteDetached(*session_, identity, *terms);
}

}  // namespace coord::internal
