#include "coord/lock/alone.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

bool Over(const CallLimits& limits) {
  return limits.stop.stop_requested() || Passed(limits.deadline);
}

}  // namespace

CallLimits OneQuestion(const Session& session, const CallLimits& limits) {
  const SteadyTime usual = DeadlineAfter(session.options().timeout);
  return {Passed(limits.deadline) ? usual : std::min(usual, limits.deadline), limits.stop};
}

absl::Status Ended(const Waiter& waiter, const CallLimits& limits) {
  absl::Status busy = waiter.Busy();
  if (!limits.stop.stop_requested()) return busy;
  return MakeStatus(absl::StatusCode::kCancelled,
                    StrCat("stopped while waiting: ", FromAbsl(busy.message())));
}

absl::StatusOr<Waiter::Granted> WaitAlone(Session& session,
                                          std::shared_ptr<const LockProtocol> lock,
                                          absl::Duration ttl, const CallLimits& limits) {
  const std::shared_ptr<Waiter> waiter = Waiter::Make(session, std::move(lock), ttl);
  if (waiter == nullptr) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for an owner id");
  }
  absl::Status failed;
  if (!session.listening() || Over(limits)) {
    absl::StatusOr<std::optional<Waiter::Granted>> tried =
        waiter->Try(OneQuestion(session, limits));
    if (tried.ok() && *tried) return **std::move(tried);
    const bool passing =
        tried.ok() || coord::IsUnavailable(tried.status()) || IsOutcomeUnknown(tried.status());
    if (!passing || (!tried.ok() && Over(limits))) {
      failed = tried.status();
    } else if (!Over(limits)) {
      // Messages first, and then a place: a grant must find somebody who listens.
      CallLimits soon = OneQuestion(session, limits);
      soon.deadline = std::min(soon.deadline, DeadlineAfter(absl::Seconds(1)));
      session.Listen(soon);
    }
  }
  if (failed.ok() && !Over(limits)) failed = waiter->Enqueue(OneQuestion(session, limits));
  if (failed.ok()) {
    std::optional<absl::StatusOr<Waiter::Granted>> awaited = waiter->Await(limits);
    if (awaited && awaited->ok()) return **std::move(awaited);
    failed = awaited ? awaited->status() : Ended(*waiter, limits);
  }
  waiter->GiveUp();
  return failed;
}

absl::StatusOr<std::shared_ptr<LeaseState>> Hold(Session& session, Waiter::Granted granted,
                                                 absl::Duration max_hold,
                                                 const CallLimits& limits) {
  granted.terms.keep_until = session.clock().Now() + max_hold;
  auto state = std::make_shared<LeaseState>(session, std::move(granted.identity), granted.terms);
  if (session.background().Add(state)) return state;
  (void)state->Release(limits);
  if (absl::Status status = session.Usable(); !status.ok()) return status;
  const LockProtocol& lock = *state->identity().lock;
  return MakeStatus(absl::StatusCode::kResourceExhausted,
                    StrCat(lock.what(), " ", Quoted(lock.name()),
                           ": the system gives no thread to renew the lease"));
}

}  // namespace coord::internal
