#include "coord/lease.h"

#include <utility>

#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/detached.h"
#include "coord/lock/held.h"

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

Lease::Lease() = default;

Lease::Lease(std::unique_ptr<internal::Held> held) : held_(std::move(held)) {}

Lease::Lease(Lease&&) noexcept = default;

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    Lease old(std::move(*this));  // releases what we had
    held_ = std::move(other.held_);
  }
  return *this;
}

Lease::~Lease() {
  if (held_ == nullptr || held_->forked()) return;
  (void)held_->Release({.timeout = kDestructorPatience});
}

FencingToken Lease::token() const {
  return held_ == nullptr ? FencingToken() : FencingToken(held_->token());
}

const std::string& Lease::name() const { return held_ == nullptr ? NoText() : held_->name(); }

const std::string& Lease::owner() const { return held_ == nullptr ? NoText() : held_->owner(); }

bool Lease::valid() const { return remaining() > absl::ZeroDuration(); }

absl::Duration Lease::remaining() const {
  if (held_ == nullptr || held_->forked()) return absl::ZeroDuration();
  return held_->Remaining();
}

std::stop_token Lease::stop_token() const {
  if (held_ == nullptr || held_->forked()) {
    std::stop_source lost;
    lost.request_stop();
    return lost.get_token();
  }
  return held_->StopToken();
}

absl::Status Lease::Renew(absl::Duration ttl, CallOptions options) {
  if (held_ == nullptr) return NoLease();
  if (absl::Status status = internal::CheckTtl(ttl); !status.ok()) return status;
  return held_->Renew(ttl, options);
}

absl::Status Lease::Release(CallOptions options) {
  if (held_ == nullptr) return NoLease();
  return held_->Release(options);
}

absl::StatusOr<std::string> Lease::Detach() {
  if (held_ == nullptr) return NoLease();
  return held_->Detach();
}

absl::StatusOr<Lease> Lease::Adopt(const Client& client, std::string_view text,
                                   CallOptions options) {
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client);
  absl::StatusOr<internal::Detached> detached = internal::ReadDetached(*session, text);
  if (!detached.ok()) return detached.status();
  return internal::Adopt(session, *std::move(detached), options);
}

namespace internal {

absl::StatusOr<std::string> Held::Detach() {
  return MakeStatus(absl::StatusCode::kUnimplemented,
                    StrCat("a lease of ", Quoted(name()), " of this kind cannot be detached"));
}

Lease LeaseAccess::Make(std::unique_ptr<Held> held) { return Lease(std::move(held)); }

Held* LeaseAccess::HeldOf(Lease& lease) { return lease.held_.get(); }

}  // namespace internal

}  // namespace coord
