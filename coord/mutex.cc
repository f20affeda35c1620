#include "coord/mutex.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/limits.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/internal/waiting.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/quorum_acquire.h"
#include "coord/lock/single_held.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::Quoted;
using internal::StrCat;

// What the acquire script answered.
struct Answer {
  std::int64_t token = 0;  // 0: held by another; -1: this owner has withdrawn
  absl::Duration left;
  std::string_view holder;
};

// An integer, whether it came as one or as text: a script that has it as text need not convert it.
std::optional<std::int64_t> Number(const Reply& reply) {
  if (reply.is_integer()) return reply.integer();
  return internal::ParseInt64(reply.text());
}

absl::StatusOr<Answer> Read(const Reply& reply) {
  const auto items = reply.items();
  if (items.size() >= 2) {
    const std::optional<std::int64_t> token = Number(items[0]);
    const std::optional<std::int64_t> left = Number(items[1]);
    if (token && left) {
      return Answer{*token, absl::Milliseconds(*left),
                    items.size() > 2 ? std::string_view(items[2].text()) : std::string_view()};
    }
  }
  return internal::MakeStatus(absl::StatusCode::kDataLoss,
                              StrCat("mutex_acquire answered ", reply.ToDebugString()));
}

absl::Status Busy(std::string_view name, const Answer& answer) {
  return internal::MakeStatus(
      absl::StatusCode::kAborted,
      StrCat("mutex ", Quoted(name), " is held by ", Quoted(internal::OwnerLabel(answer.holder)),
             ", whose lease has ", internal::ToText(answer.left), " left unless renewed"),
      internal::kBusy);
}

}  // namespace

Mutex::Mutex(Client client, std::string_view name, MutexOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  const internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<std::string> lease = session.Key("mutex", name_, "lease");
  absl::StatusOr<std::string> fence = session.Key("mutex", name_, "fence");
  if (!lease.ok()) {
    usable_ = lease.status();
    return;
  }
  lease_key_ = *std::move(lease);
  fence_key_ = *std::move(fence);
  usable_ = internal::CheckTtl(options_.ttl);
  if (!usable_.ok()) return;
  options_.ttl = absl::Ceil(options_.ttl, absl::Milliseconds(1));
  ttl_ms_ = StrCat(internal::CeilMilliseconds(options_.ttl));
}

Mutex::Mutex(Quorum quorum, std::string_view name, MutexOptions options)
    : Mutex(internal::ClientOf(internal::CoreOf(quorum)->member(0).session()), name, options) {
  quorum_ = internal::CoreOf(quorum);
  if (usable_.ok()) usable_ = quorum_->CheckTtl(options_.ttl);
}

absl::StatusOr<Lease> Mutex::TryAcquire(CallOptions options) const {
  if (absl::StatusOr<CallLimits> limits = internal::SessionOf(client_).Limits(options);
      !limits.ok()) {
    return limits.status();
  }
  return Take(false, options.timeout.value_or(client_.options().timeout), options.stop);
}

absl::StatusOr<Lease> Mutex::Acquire(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  return Take(true, timeout, stop);
}

absl::StatusOr<Lease> Mutex::Take(bool wait, absl::Duration timeout,
                                  const std::stop_token& stop) const {
  if (!usable_.ok()) return usable_;
  if (quorum_ != nullptr) {
    return internal::AcquireFromQuorum(quorum_, {name_, lease_key_, fence_key_, options_.ttl}, wait,
                                       timeout, stop);
  }
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  const absl::Duration ttl = options_.ttl;
  const CallLimits limits{internal::DeadlineAfter(timeout), stop};
  internal::PollingWait polling;
  internal::WaitStrategy& waiting = polling;

  const auto withdraw = [&](internal::LeaseIdentity given_up) {
    session->background().Add(
        std::make_shared<internal::Withdrawal>(*session, std::move(given_up), ttl));
  };

  internal::LeaseIdentity identity{name_, lease_key_, fence_key_, {}, 0};
  bool identity_may_hold = false;  // an answer was lost that may have granted
  absl::Status held;               // what the last answer said
  while (true) {
    if (identity.owner.empty()) {
      identity.owner = internal::NewOwnerId(session->options().client_name);
      if (identity.owner.empty()) {
        return internal::MakeStatus(absl::StatusCode::kUnavailable,
                                    "the system gives no random bits for an owner id");
      }
    }
    // Even a caller without patience gets one round trip, and a patient one does not wait for a
    // silent server beyond the usual time.
    CallLimits call = limits;
    call.deadline = internal::DeadlineAfter(client_.options().timeout);
    if (timeout > absl::ZeroDuration()) call.deadline = std::min(call.deadline, limits.deadline);
    internal::CallTrace trace;
    absl::StatusOr<Reply> reply =
        session->Execute(internal::Bind(internal::kMutexAcquire, {lease_key_, fence_key_},
                                        {identity.owner, ttl_ms_}),
                         call, &trace);
    // The same owner may ask again whatever became of the question before: it gets the same token
    // and what is left.
    identity_may_hold |= trace.replayed;
    if (!reply.ok()) {
      const absl::Status& status = reply.status();
      // Also behind an error of the script's: what it wrote before stays written.
      identity_may_hold |=
          IsOutcomeUnknown(status) || status.code() == absl::StatusCode::kFailedPrecondition;
      const bool passing = coord::IsUnavailable(status) || IsOutcomeUnknown(status);
      if (wait && passing && waiting.Wait(absl::InfiniteDuration(), limits)) continue;
      if (identity_may_hold) withdraw(std::move(identity));
      // The last question came too late to be answered; the answer before it stands.
      if (!held.ok() && IsOutcomeUnknown(status) && !stop.stop_requested()) return held;
      return internal::Annotate(status, StrCat("mutex ", Quoted(name_)));
    }
    absl::StatusOr<Answer> answer = Read(*reply);
    if (!answer.ok()) return answer.status();
    if (answer->token > 0) {
      identity.token = static_cast<std::uint64_t>(answer->token);
      const absl::Time valid_until = internal::ValidUntil(trace.sent, ttl, answer->left);
      if (valid_until > session->clock().Now()) {
        auto state = std::make_shared<internal::LeaseState>(
            *session, std::move(identity), ttl, trace.sent, valid_until, identity_may_hold);
        Lease lease =
            internal::LeaseAccess::Make(std::make_unique<internal::SingleHeld>(session, state));
        if (session->background().Add(std::move(state))) return lease;
        if (absl::Status status = session->Usable(); !status.ok()) return status;
        return internal::MakeStatus(
            absl::StatusCode::kResourceExhausted,
            StrCat("mutex ", Quoted(name_), ": the system gives no thread to renew the lease"));
      }
      // Granted, but the answer took as long as the lease lasts.
      withdraw(std::move(identity));
      if (!wait || std::chrono::steady_clock::now() >= limits.deadline) {
        return internal::MakeStatus(
            absl::StatusCode::kUnavailable,
            StrCat("mutex ", Quoted(name_), ": the answer took longer than the ttl of ",
                   internal::ToText(ttl), "; raise the ttl"),
            internal::kUnavailable);
      }
      identity = {name_, lease_key_, fence_key_, {}, 0};
      identity_may_hold = false;
      continue;
    }
    if (answer->token < 0) {
      identity.owner.clear();
      identity_may_hold = false;
      continue;
    }
    held = Busy(name_, *answer);
    if (wait && waiting.Wait(answer->left, limits)) continue;
    if (identity_may_hold) withdraw(std::move(identity));
    if (!stop.stop_requested()) return held;
    return internal::MakeStatus(
        absl::StatusCode::kCancelled,
        StrCat("stopped while waiting: ", internal::FromAbsl(held.message())));
  }
}

}  // namespace coord
