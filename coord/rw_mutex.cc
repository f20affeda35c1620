#include "coord/rw_mutex.h"

#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/single_held.h"
#include "coord/lock/waiter.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::LeaseState;
using internal::LockProtocol;
using internal::Quoted;
using internal::Session;
using internal::StrCat;

absl::StatusOr<Lease> Wrap(const std::shared_ptr<Session>& session,
                           absl::StatusOr<std::shared_ptr<LeaseState>> state) {
  if (!state.ok()) return state.status();
  return internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), nullptr));
}

absl::Status NotOurs(std::string_view name, std::string_view kind) {
  return internal::InvalidArgument(StrCat("the lease is not a ", kind, "'s of rw mutex ",
                                          Quoted(name), "; nothing was changed"));
}

// The state behind a lease on one deployment, if its keys are these.
LeaseState* StateOf(Lease& lease, const LockProtocol& lock) {
  auto* held = dynamic_cast<internal::SingleHeld*>(internal::LeaseAccess::HeldOf(lease));
  if (held == nullptr || held->forked()) return nullptr;
  LeaseState& state = held->state();
  return state.identity().lock->keys().lease == lock.keys().lease ? &state : nullptr;
}

bool IsReader(const LeaseState& state) {
  return dynamic_cast<const internal::ReaderProtocol*>(state.identity().lock.get()) != nullptr;
}

// Puts a lease of another kind but of the same owner in the place of the one that `lease` holds.
absl::Status Exchange(const std::shared_ptr<Session>& session, Lease& lease, LeaseState& old,
                      std::shared_ptr<const LockProtocol> lock, std::uint64_t token,
                      absl::Duration ttl, absl::Duration left, absl::Time sent) {
  const absl::StatusOr<internal::LeaseTerms> before = old.Detach();
  internal::Waiter::Granted granted;
  granted.identity = {std::move(lock), old.identity().owner, token};
  granted.terms.ttl = ttl;
  granted.terms.valid_until = internal::ValidUntil(sent, ttl, left);
  granted.terms.renew_at = internal::RenewAt(sent, left);
  granted.terms.doubtful = !before.ok() || before->doubtful;
  const absl::Time now = session->clock().Now();
  const absl::Duration hold =
      before.ok() ? before->keep_until - now : granted.terms.valid_until - now;
  absl::StatusOr<std::shared_ptr<LeaseState>> state =
      internal::Keep(*session, std::move(granted), hold);
  if (!state.ok()) return state.status();
  lease = internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), nullptr));
  return absl::OkStatus();
}

}  // namespace

RwMutex::RwMutex(Client client, std::string_view name, MutexOptions options)
    : client_(client), options_(options), writer_(std::move(client), name, options) {
  const Session& session = internal::SessionOf(client_);
  absl::StatusOr<LockProtocol::Keys> keys = internal::LockKeys(session, "rw mutex", name);
  usable_ = keys.ok() ? internal::CheckTtl(options_.ttl) : keys.status();
  if (!usable_.ok()) return;
  options_.ttl = absl::Ceil(std::min(options_.ttl, options_.max_hold), absl::Milliseconds(1));
  alone_ = std::make_shared<internal::MutexProtocol>(std::string(name), *keys,
                                                     options_.fairness == Fairness::kBarging);
  shared_ = std::make_shared<internal::ReaderProtocol>(std::string(name), *std::move(keys));
}

absl::StatusOr<Lease> RwMutex::TryAcquire(CallOptions options) const {
  return writer_.TryAcquire(options);
}

absl::StatusOr<Lease> RwMutex::Acquire(absl::Duration timeout, std::stop_token stop) const {
  return writer_.Acquire(timeout, std::move(stop));
}

absl::StatusOr<LockHolder> RwMutex::Holder(CallOptions options) const {
  return writer_.Holder(options);
}

absl::StatusOr<Lease> RwMutex::TryAcquireShared(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  return Wrap(session,
              internal::TryOnce(*session, shared_, options_.ttl, options_.max_hold, *limits));
}

absl::StatusOr<Lease> RwMutex::AcquireShared(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  return Wrap(session, internal::AcquireAlone(
                           *session, shared_, options_.ttl, options_.max_hold,
                           CallLimits{internal::DeadlineAfter(timeout), std::move(stop)}));
}

absl::Status RwMutex::Downgrade(Lease& lease, CallOptions options) const {
  if (!usable_.ok()) return usable_;
  LeaseState* state = StateOf(lease, *alone_);
  if (state == nullptr || IsReader(*state)) return NotOurs(name(), "writer");
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  const std::string ms = StrCat(internal::CeilMilliseconds(options_.ttl));
  const LockProtocol::Keys& keys = alone_->keys();
  internal::CallTrace trace;
  absl::StatusOr<Reply> reply =
      session->Execute(internal::Bind(internal::kRwMutexDowngrade,
                                      {keys.lease, keys.fence, keys.queue, keys.readers},
                                      {state->identity().owner, ms}),
                       *limits, &trace);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("downgrading rw mutex ", Quoted(name())));
  }
  absl::StatusOr<internal::LockAnswer> answer =
      internal::ReadLockAnswer("rw_mutex_downgrade", *reply);
  if (!answer.ok()) return answer.status();
  if (answer->kind != internal::LockAnswer::Kind::kGranted) {
    return state->Forget("the server no longer knew it when it was to be downgraded");
  }
  return Exchange(session, lease, *state, shared_, answer->token, options_.ttl, answer->left,
                  trace.sent);
}

absl::Status RwMutex::Upgrade(Lease& lease, CallOptions options) const {
  if (!usable_.ok()) return usable_;
  LeaseState* state = StateOf(lease, *shared_);
  if (state == nullptr || !IsReader(*state)) return NotOurs(name(), "reader");
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  const std::string ms = StrCat(internal::CeilMilliseconds(options_.ttl));
  const LockProtocol::Keys& keys = alone_->keys();
  internal::CallTrace trace;
  absl::StatusOr<Reply> reply = session->Execute(
      internal::Bind(internal::kRwMutexUpgrade, {keys.lease, keys.fence, keys.readers},
                     {state->identity().owner, ms}),
      *limits, &trace);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("upgrading rw mutex ", Quoted(name())));
  }
  absl::StatusOr<internal::LockAnswer> answer =
      internal::ReadLockAnswer("rw_mutex_upgrade", *reply);
  if (!answer.ok()) return answer.status();
  switch (answer->kind) {
    case internal::LockAnswer::Kind::kHeld:
      return internal::MakeStatus(
          absl::StatusCode::kAborted,
          StrCat("rw mutex ", Quoted(name()), " has ", absl::ToInt64Milliseconds(answer->left),
                 " other readers; waiting for them could wait for ever, so release and acquire, "
                 "or try again"),
          internal::kBusy);
    case internal::LockAnswer::Kind::kWithdrawn:
      return state->Forget("the server no longer knew it when it was to be upgraded");
    case internal::LockAnswer::Kind::kGranted:
      break;
  }
  return Exchange(session, lease, *state, alone_, answer->token, options_.ttl, answer->left,
                  trace.sent);
}

}  // namespace coord
