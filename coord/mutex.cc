#include "coord/mutex.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/cohort.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/single_held.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::Quoted;
using internal::StrCat;

constexpr int kMostReplicas = 100;

absl::Status CheckOptions(const MutexOptions& options) {
  if (absl::Status status = internal::CheckTtl(options.ttl); !status.ok()) return status;
  if (options.wait_replicas < 0 || options.wait_replicas > kMostReplicas) {
    return internal::InvalidArgument(
        StrCat("wait_replicas is ", options.wait_replicas, "; it must be 0 to ", kMostReplicas));
  }
  if (options.wait_replicas > 0 &&
      (options.replica_timeout <= absl::ZeroDuration() || options.replica_timeout >= options.ttl)) {
    return internal::InvalidArgument(
        StrCat("replica_timeout is ", internal::ToText(options.replica_timeout),
               "; it must be above 0 and below the ttl of ", internal::ToText(options.ttl)));
  }
  if (options.max_hold >= internal::kMinLeaseTtl) return absl::OkStatus();
  return internal::InvalidArgument(StrCat("max_hold is ", internal::ToText(options.max_hold),
                                          "; it must be at least ",
                                          internal::ToText(internal::kMinLeaseTtl)));
}

internal::ReplicaWait ReplicasOf(const MutexOptions& options) {
  return {options.wait_replicas, options.replica_timeout};
}

}  // namespace

Mutex::Mutex(Client client, std::string_view name, MutexOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<internal::LockProtocol::Keys> keys = internal::LockKeys(session, "mutex", name_);
  usable_ = keys.ok() ? CheckOptions(options_) : keys.status();
  if (!usable_.ok()) return;
  options_.ttl = absl::Ceil(options_.ttl, absl::Milliseconds(1));
  const bool barging = options_.fairness == Fairness::kBarging;
  // All that would pass a lease on to each other.
  const std::string key = StrCat(
      keys->lease, barging ? " b " : " w ", internal::ToText(options_.ttl), " ",
      internal::ToText(options_.max_hold),
      options_.wait_replicas > 0
          ? StrCat(" r ", options_.wait_replicas, " ", internal::ToText(options_.replica_timeout))
          : "");
  cohort_ = std::static_pointer_cast<internal::Cohort>(session.Shared(key, [&] {
    return std::make_shared<internal::Cohort>(
        session, std::make_shared<internal::MutexProtocol>(name_, *std::move(keys), barging),
        options_.ttl, options_.max_hold, ReplicasOf(options_));
  }));
  lock_ = cohort_->lock();
}

absl::StatusOr<Lease> Mutex::TryAcquire(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state = internal::TryOnce(
      *session, lock_, options_.ttl, options_.max_hold, *limits, ReplicasOf(options_));
  if (!state.ok()) return state.status();
  return internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), nullptr));
}

absl::StatusOr<Lease> Mutex::Acquire(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state =
      cohort_->Acquire(CallLimits{internal::DeadlineAfter(timeout), std::move(stop)});
  if (!state.ok()) return state.status();
  return internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), cohort_));
}

absl::StatusOr<LockHolder> Mutex::Holder(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(lock_->Inspect(), options);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("mutex ", Quoted(name_)));
  absl::StatusOr<internal::LockView> view = internal::ReadLockView(*reply);
  if (!view.ok()) return view.status();
  LockHolder holder;
  holder.token = FencingToken(view->last_token);
  for (auto& reader : view->readers) holder.readers.push_back(std::move(reader.owner));
  for (auto& waiter : view->waiters) holder.waiters.push_back(std::move(waiter.owner));
  if (view->holder.empty()) return holder;
  holder.left = view->left;
  // Tokens are server times, as long as its clock does not step back.
  holder.held =
      std::max(view->now - absl::FromUnixMicros(static_cast<std::int64_t>(view->last_token)),
               absl::ZeroDuration());
  if (view->holder.starts_with('%')) return holder;
  holder.owner = std::move(view->holder);
  return holder;
}

absl::StatusOr<std::string> Mutex::ForceRelease(std::string_view owner, CallOptions options) const {
  if (!usable_.ok()) return usable_;
  absl::StatusOr<Reply> reply = internal::SessionOf(client_).Execute(lock_->Evict(owner), options);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("mutex ", Quoted(name_)));
  return std::move(reply->mutable_text());
}

}  // namespace coord
