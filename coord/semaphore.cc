#include "coord/semaphore.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/cohort.h"
#include "coord/lock/held.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/semaphore_protocol.h"
#include "coord/lock/single_held.h"
#include "coord/lock/waiter.h"

namespace coord {

namespace internal {

struct SemaphoreParts {
  LockProtocol::Keys keys;

  std::shared_ptr<const LockProtocol> For(const std::string& name, std::int64_t permits,
                                          std::int64_t count) const {
    return std::make_shared<SemaphoreProtocol>(name, keys, permits, count);
  }
};

}  // namespace internal

namespace {

using internal::CallLimits;
using internal::Quoted;
using internal::StrCat;

constexpr std::int64_t kMostPermits = 1'000'000;

absl::Status CheckOptions(const SemaphoreOptions& options) {
  if (options.permits < 1 || options.permits > kMostPermits) {
    return internal::InvalidArgument(
        StrCat("permits is ", options.permits, "; it must be 1 to ", kMostPermits));
  }
  if (absl::Status status = internal::CheckTtl(options.ttl); !status.ok()) return status;
  if (options.max_hold >= internal::kMinLeaseTtl) return absl::OkStatus();
  return internal::InvalidArgument(StrCat("max_hold is ", internal::ToText(options.max_hold),
                                          "; it must be at least ",
                                          internal::ToText(internal::kMinLeaseTtl)));
}

Lease MakeLease(std::shared_ptr<internal::Session> session,
                std::shared_ptr<internal::LeaseState> state) {
  return internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(std::move(session), std::move(state), nullptr));
}

std::vector<SemaphoreUse::User> Users(std::vector<internal::SemaphoreView::User> users) {
  std::vector<SemaphoreUse::User> result;
  for (auto& user : users) {
    result.push_back({PermitId(std::move(user.owner)), user.count, user.left});
  }
  return result;
}

}  // namespace

Semaphore::Semaphore(Client client, std::string_view name, SemaphoreOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  absl::StatusOr<internal::LockProtocol::Keys> keys =
      internal::SemaphoreKeys(internal::SessionOf(client_), name_);
  usable_ = keys.ok() ? CheckOptions(options_) : keys.status();
  if (!usable_.ok()) return;
  options_.ttl = absl::Ceil(options_.ttl, absl::Milliseconds(1));
  parts_ = std::make_shared<internal::SemaphoreParts>(internal::SemaphoreParts{*std::move(keys)});
}

absl::Status Semaphore::CheckCount(std::int64_t count) const {
  if (!usable_.ok()) return usable_;
  if (count >= 1 && count <= options_.permits) return absl::OkStatus();
  return internal::InvalidArgument(StrCat("count is ", count, "; it must be 1 to ",
                                          options_.permits, ", the permits of semaphore ",
                                          Quoted(name_)));
}

absl::StatusOr<Permit> Semaphore::TryAcquire(std::int64_t count, CallOptions options) const {
  if (absl::Status status = CheckCount(count); !status.ok()) return status;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state =
      internal::TryOnce(*session, parts_->For(name_, options_.permits, count), options_.ttl,
                        options_.max_hold, *limits);
  if (!state.ok()) return state.status();
  return Permit(MakeLease(session, *std::move(state)), count);
}

absl::StatusOr<Permit> Semaphore::Acquire(absl::Duration timeout, std::int64_t count,
                                          std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (absl::Status status = CheckCount(count); !status.ok()) return status;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  const CallLimits limits{internal::DeadlineAfter(timeout), std::move(stop)};
  absl::StatusOr<internal::Waiter::Granted> granted = internal::WaitAlone(
      *session, parts_->For(name_, options_.permits, count), options_.ttl, limits);
  if (!granted.ok()) return granted.status();
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state =
      internal::Keep(*session, *std::move(granted), options_.max_hold);
  if (!state.ok()) return state.status();
  return Permit(MakeLease(session, *std::move(state)), count);
}

absl::StatusOr<SemaphoreUse> Semaphore::Available(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(internal::InspectSemaphore(parts_->keys), options);
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("semaphore ", Quoted(name_)));
  absl::StatusOr<internal::SemaphoreView> view = internal::ReadSemaphoreView(*reply);
  if (!view.ok()) return view.status();
  SemaphoreUse use;
  use.permits = view->permits > 0 ? view->permits : options_.permits;
  use.available = use.permits;
  for (const auto& holder : view->holders) use.available -= holder.count;
  use.available = std::max<std::int64_t>(use.available, 0);
  use.holders = Users(std::move(view->holders));
  use.waiters = Users(std::move(view->waiters));
  return use;
}

}  // namespace coord
