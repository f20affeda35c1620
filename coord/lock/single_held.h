// Private: a lock held on one deployment.
#ifndef COORD_LOCK_SINGLE_HELD_H_
#define COORD_LOCK_SINGLE_HELD_H_

#include <memory>
#include <string>

#include "coord/deployment/session.h"
#include "coord/lock/cohort.h"
#include "coord/lock/held.h"
#include "coord/lock/lease_state.h"

namespace coord::internal {

class SingleHeld final : public Held {
 public:
  // `cohort`: through which it was got; null for one that asked the server alone.
  SingleHeld(std::shared_ptr<Session> session, std::shared_ptr<LeaseState> state,
             std::shared_ptr<Cohort> cohort)
      : session_(std::move(session)), state_(std::move(state)), cohort_(std::move(cohort)) {}

  LeaseState& state() const { return *state_; }

  const std::string& name() const override { return state_->identity().lock->name(); }
  const std::string& owner() const override { return state_->identity().owner; }
  std::uint64_t token() const override { return state_->identity().token; }
  bool forked() const override { return session_->forked(); }
  absl::Duration Remaining() const override { return state_->Remaining(); }
  std::stop_token StopToken() override { return state_->StopToken(); }
  absl::Status Renew(absl::Duration ttl, const CallOptions& options) override;
  absl::Status Release(const CallOptions& options) override;
  absl::StatusOr<std::string> Detach() override;

 private:
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<LeaseState> state_;
  const std::shared_ptr<Cohort> cohort_;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_SINGLE_HELD_H_
