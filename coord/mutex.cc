#include "coord/mutex.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/limits.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/cohort.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/quorum_acquire.h"
#include "coord/lock/single_held.h"

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

internal::QuorumLock QuorumLockOf(const internal::Session& session,
                                  const internal::LockProtocol& lock, const MutexOptions& options) {
  return {lock.name(),
          {lock.keys().lease, lock.keys().fence, *session.Key("mutex", lock.name(), "hints")},
          options.ttl,
          options.max_hold};
}

}  // namespace

Mutex::Mutex(Client client, std::string_view name, MutexOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  internal::Session& session = internal::SessionOf(client_);
  if (session.forked()) {
    usable_ = session.Usable();
    return;
  }
  absl::StatusOr<internal::LockProtocol::Keys> keys = internal::LockKeys(session, "mutex", name_);
  usable_ = keys.ok() ? CheckOptions(options_) : keys.status();
  if (!usable_.ok()) return;
  options_.ttl = absl::Ceil(std::min(options_.ttl, options_.max_hold), absl::Milliseconds(1));
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

Mutex::Mutex(Quorum quorum, std::string_view name, MutexOptions options)
    : Mutex(internal::ClientOf(internal::CoreOf(quorum)->member(0).session()), name, options) {
  quorum_ = internal::CoreOf(quorum);
  if (usable_.ok()) usable_ = quorum_->CheckTtl(options_.ttl);
  if (usable_.ok() && options_.wait_replicas > 0) {
    usable_ = internal::InvalidArgument(
        "wait_replicas is for one deployment; the servers of a quorum stand for themselves");
  }
}

absl::StatusOr<Lease> Mutex::TryAcquire(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  if (quorum_ != nullptr) {
    return internal::AcquireFromQuorum(quorum_, QuorumLockOf(*session, *lock_, options_), false,
                                       options.timeout.value_or(client_.options().timeout),
                                       options.stop);
  }
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
  if (quorum_ != nullptr) {
    return internal::AcquireFromQuorum(
        quorum_, QuorumLockOf(internal::SessionOf(client_), *lock_, options_), true, timeout, stop);
  }
  const std::shared_ptr<internal::Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state =
      cohort_->Acquire(CallLimits{internal::DeadlineAfter(timeout), std::move(stop)});
  if (!state.ok()) return state.status();
  return internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), cohort_));
}

namespace {

LockHolder ToHolder(internal::LockView view) {
  LockHolder holder;
  holder.token = FencingToken(view.last_token);
  for (auto& reader : view.readers) holder.readers.push_back(std::move(reader.owner));
  for (auto& waiter : view.waiters) holder.waiters.push_back(std::move(waiter.owner));
  if (view.holder.empty()) return holder;
  holder.left = view.left;
  // Tokens are server times, as long as its clock does not step back.
  holder.held =
      std::max(view.now - absl::FromUnixMicros(static_cast<std::int64_t>(view.last_token)),
               absl::ZeroDuration());
  if (view.holder.starts_with('%')) return holder;
  holder.owner = std::move(view.holder);
  return holder;
}

absl::StatusOr<LockHolder> Ask(internal::Session& session, const internal::LockProtocol& lock,
                               const CallOptions& options) {
  absl::StatusOr<Reply> reply = session.Execute(lock.Inspect(), options);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("mutex ", Quoted(lock.name())));
  }
  absl::StatusOr<internal::LockView> view = internal::ReadLockView(*reply);
  if (!view.ok()) return view.status();
  return ToHolder(*std::move(view));
}

absl::StatusOr<std::string> Evict(internal::Session& session, const internal::LockProtocol& lock,
                                  std::string_view owner, const CallOptions& options) {
  absl::StatusOr<Reply> reply = session.Execute(lock.Evict(owner), options);
  if (!reply.ok()) {
    return internal::Annotate(reply.status(), StrCat("mutex ", Quoted(lock.name())));
  }
  return std::move(reply->mutable_text());
}

}  // namespace

absl::StatusOr<LockHolder> Mutex::Holder(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  if (quorum_ == nullptr) return Ask(internal::SessionOf(client_), *lock_, options);
  // Whom a majority names; nobody where there is none.
  if (!options.timeout) options.timeout = quorum_->options().server_timeout;
  std::vector<LockHolder> answers;
  absl::Status trouble;
  for (std::size_t i = 0; i < quorum_->size(); ++i) {
    absl::StatusOr<LockHolder> answer = Ask(*quorum_->member(i).session(), *lock_, options);
    if (answer.ok()) {
      answers.push_back(*std::move(answer));
    } else {
      trouble = answer.status();
    }
  }
  const std::size_t majority = quorum_->size() / 2 + 1;
  if (answers.size() < majority) return trouble;
  LockHolder free;
  for (const LockHolder& answer : answers) {
    free.token = std::max(free.token, answer.token);
    const auto same = std::count_if(answers.begin(), answers.end(), [&](const LockHolder& other) {
      return other.owner == answer.owner;
    });
    if (!answer.owner.empty() && static_cast<std::size_t>(same) >= majority) return answer;
  }
  return free;
}

absl::StatusOr<std::string> Mutex::ForceRelease(std::string_view owner, CallOptions options) const {
  if (!usable_.ok()) return usable_;
  if (quorum_ == nullptr) return Evict(internal::SessionOf(client_), *lock_, owner, options);
  if (!options.timeout) options.timeout = quorum_->options().server_timeout;
  std::string from;
  std::size_t answered = 0;
  absl::Status trouble;
  for (std::size_t i = 0; i < quorum_->size(); ++i) {
    absl::StatusOr<std::string> evicted =
        Evict(*quorum_->member(i).session(), *lock_, owner, options);
    if (evicted.ok()) {
      ++answered;
      if (!evicted->empty()) from = *std::move(evicted);
    } else {
      trouble = evicted.status();
    }
  }
  if (answered < quorum_->size() / 2 + 1) return trouble;
  return from;
}

}  // namespace coord
