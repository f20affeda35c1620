#include "coord/lease.h"

#include <utility>

#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/lease_state.h"

namespace coord {
namespace {

constexpr absl::Duration kDestructorPatience = absl::Seconds(1);

const std::string& NoText() {
  static const std::string empty;
  return empty;
}

absl::Status NoLease() {
  return internal::MakeStatus(absl::StatusCode::kFailedPrecondition,
                              "this Lease holds nothing: it is default-made or was moved from");
}

}  // namespace

Lease::Lease(std::shared_ptr<internal::Session> session,
             std::shared_ptr<internal::LeaseState> state)
    : session_(std::move(session)), state_(std::move(state)) {}

Lease::Lease(Lease&&) noexcept = default;

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    Lease old(std::move(*this));  // releases what we had
    session_ = std::move(other.session_);
    state_ = std::move(other.state_);
  }
  return *this;
}

Lease::~Lease() {
  if (state_ == nullptr || session_->forked()) return;
  (void)Release({.timeout = kDestructorPatience});
}

FencingToken Lease::token() const {
  return state_ == nullptr ? FencingToken() : FencingToken(state_->identity().token);
}

const std::string& Lease::name() const {
  return state_ == nullptr ? NoText() : state_->identity().name;
}

const std::string& Lease::owner() const {
  return state_ == nullptr ? NoText() : state_->identity().owner;
}

bool Lease::valid() const { return remaining() > absl::ZeroDuration(); }

absl::Duration Lease::remaining() const {
  if (state_ == nullptr || session_->forked()) return absl::ZeroDuration();
  return state_->Remaining();
}

std::stop_token Lease::stop_token() const {
  if (state_ == nullptr || session_->forked()) {
    std::stop_source lost;
    lost.request_stop();
    return lost.get_token();
  }
  return state_->StopToken();
}

absl::Status Lease::Renew(absl::Duration ttl, CallOptions options) {
  if (state_ == nullptr) return NoLease();
  if (absl::Status status = session_->Usable(); !status.ok()) return status;
  if (absl::Status status = internal::CheckTtl(ttl); !status.ok()) return status;
  absl::StatusOr<internal::CallLimits> limits = session_->Limits(options);
  if (!limits.ok()) return limits.status();
  return state_->Renew(ttl, *limits);
}

absl::Status Lease::Release(CallOptions options) {
  if (state_ == nullptr) return NoLease();
  if (session_->forked()) return session_->Usable();
  absl::StatusOr<internal::CallLimits> limits = session_->Limits(options);
  if (!limits.ok()) return limits.status();
  return state_->Release(*limits);
}

}  // namespace coord
