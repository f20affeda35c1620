#include "coord/multi_mutex.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/validity.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/lock_protocol.h"
#include "coord/lock/single_held.h"
#include "scripts.h"

namespace coord {

namespace internal {

struct MutexAccess {
  static const Client& ClientOf(const coord::Mutex& mutex) { return mutex.client_; }
  static const MutexOptions& OptionsOf(const coord::Mutex& mutex) { return mutex.options_; }
  static const absl::Status& UsableOf(const coord::Mutex& mutex) { return mutex.usable_; }
  static const std::shared_ptr<const LockProtocol>& LockOf(const coord::Mutex& mutex) {
    return mutex.lock_;
  }
};

}  // namespace internal

namespace {

using internal::CallLimits;
using internal::InvalidArgument;
using internal::MakeStatus;
using internal::MutexAccess;
using internal::Quoted;
using internal::StrCat;

constexpr std::size_t kMostLocks = 64;
constexpr absl::Duration kDestructorPatience = absl::Seconds(1);

std::optional<std::int64_t> Number(const Reply& reply) {
  if (reply.is_integer()) return reply.integer();
  return internal::ParseInt64(reply.text());
}

struct Trip {
  std::stop_source any;
  void operator()() noexcept { any.request_stop(); }
};

}  // namespace

struct MultiLease::State {
  explicit State(std::vector<Lease> its_leases) : leases(std::move(its_leases)) {
    for (const Lease& lease : leases) {
      on_lost.push_back(std::make_unique<std::stop_callback<Trip>>(lease.stop_token(), Trip{any}));
    }
  }
  std::vector<Lease> leases;
  std::stop_source any;
  std::vector<std::unique_ptr<std::stop_callback<Trip>>> on_lost;
};

MultiLease::MultiLease() = default;
MultiLease::MultiLease(std::vector<Lease> leases)
    : state_(std::make_unique<State>(std::move(leases))) {}
MultiLease::MultiLease(MultiLease&&) noexcept = default;

MultiLease& MultiLease::operator=(MultiLease&& other) noexcept {
  if (this != &other) {
    MultiLease old(std::move(*this));  // releases what we had
    state_ = std::move(other.state_);
  }
  return *this;
}

MultiLease::~MultiLease() {
  if (state_ == nullptr) return;
  const internal::SteadyTime deadline = internal::DeadlineAfter(kDestructorPatience);
  for (auto lease = state_->leases.rbegin(); lease != state_->leases.rend(); ++lease) {
    const absl::Duration left = internal::TimeUntil(deadline);
    (void)lease->Release({.timeout = std::max(left, absl::Milliseconds(1))});
  }
}

bool MultiLease::valid() const { return remaining() > absl::ZeroDuration(); }

absl::Duration MultiLease::remaining() const {
  if (state_ == nullptr) return absl::ZeroDuration();
  absl::Duration least = absl::InfiniteDuration();
  for (const Lease& lease : state_->leases) least = std::min(least, lease.remaining());
  return least;
}

std::stop_token MultiLease::stop_token() const {
  // In a forked child every lease's token is stopped, and nobody is there to trip ours.
  if (state_ == nullptr || state_->leases[0].stop_token().stop_requested()) {
    return Lease().stop_token();
  }
  return state_->any.get_token();
}

FencingToken MultiLease::token(std::string_view name) const {
  for (const Lease& lease : leases()) {
    if (lease.name() == name) return lease.token();
  }
  return {};
}

std::span<const Lease> MultiLease::leases() const {
  return state_ == nullptr ? std::span<const Lease>() : std::span<const Lease>(state_->leases);
}

absl::Status MultiLease::Renew(absl::Duration ttl, CallOptions options) {
  if (state_ == nullptr) return Lease().Renew(ttl, options);
  for (Lease& lease : state_->leases) {
    if (absl::Status status = lease.Renew(ttl, options); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status MultiLease::Release(CallOptions options) {
  if (state_ == nullptr) return Lease().Release(options);
  absl::StatusCode code = absl::StatusCode::kOk;
  unsigned reasons = 0;
  std::string failures;
  for (auto lease = state_->leases.rbegin(); lease != state_->leases.rend(); ++lease) {
    const absl::Status status = lease->Release(options);
    if (status.ok()) continue;
    if (code == absl::StatusCode::kOk) code = status.code();
    reasons |= internal::Reasons(status);
    if (!failures.empty()) failures += "; ";
    failures += internal::FromAbsl(status.message());
  }
  if (code == absl::StatusCode::kOk) return absl::OkStatus();
  return MakeStatus(code, failures, reasons);
}

MultiMutex::MultiMutex(Client client, std::vector<std::string> names, MutexOptions options)
    : MultiMutex([&] {
        std::vector<Mutex> mutexes;
        // What is too many is refused for that, below.
        names.resize(std::min(names.size(), kMostLocks + 1));
        for (const std::string& name : names) mutexes.emplace_back(client, name, options);
        return mutexes;
      }()) {}

MultiMutex::MultiMutex(std::vector<Mutex> mutexes)
    : mutexes_(std::move(mutexes)), order_(mutexes_.size()) {
  if (mutexes_.empty() || mutexes_.size() > kMostLocks) {
    usable_ = InvalidArgument(StrCat(mutexes_.empty() ? "no locks" : "too many locks",
                                     "; there must be 1 to ", kMostLocks));
    return;
  }
  std::vector<std::pair<std::string, std::string>> places;
  for (const Mutex& mutex : mutexes_) {
    usable_ = MutexAccess::UsableOf(mutex);
    if (!usable_.ok()) return;
    places.emplace_back(MutexAccess::ClientOf(mutex).ToString(),
                        MutexAccess::LockOf(mutex)->keys().lease);
  }
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::sort(order_.begin(), order_.end(),
            [&](std::size_t a, std::size_t b) { return places[a] < places[b]; });
  for (std::size_t i = 1; i < order_.size(); ++i) {
    if (places[order_[i - 1]] != places[order_[i]]) continue;
    usable_ = InvalidArgument(StrCat("the lock ", Quoted(mutexes_[order_[i]].name()),
                                     " is named twice, and would wait for itself"));
    return;
  }
  const MutexOptions& first = MutexAccess::OptionsOf(mutexes_[0]);
  const internal::Session& session = internal::SessionOf(MutexAccess::ClientOf(mutexes_[0]));
  one_script_ = std::all_of(mutexes_.begin(), mutexes_.end(), [&](const Mutex& mutex) {
    const MutexOptions& options = MutexAccess::OptionsOf(mutex);
    return &internal::SessionOf(MutexAccess::ClientOf(mutex)) == &session &&
           options.wait_replicas == 0 && options.ttl == first.ttl &&
           options.fairness == first.fairness;
  });
}

absl::StatusOr<MultiLease> MultiMutex::AtOnce(const CallOptions& options) const {
  const std::shared_ptr<internal::Session> session =
      internal::SharedSessionOf(MutexAccess::ClientOf(mutexes_[0]));
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = session->Limits(options);
  if (!limits.ok()) return limits.status();
  const std::string owner = internal::NewOwnerId(session->options().client_name);
  if (owner.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for an owner id");
  }
  const absl::Duration ttl = MutexAccess::OptionsOf(mutexes_[0]).ttl;
  std::vector<std::string_view> keys;
  for (const std::size_t i : order_) {
    const internal::LockProtocol::Keys& of = MutexAccess::LockOf(mutexes_[i])->keys();
    keys.insert(keys.end(), {of.lease, of.fence, of.queue, of.readers});
  }
  const std::string ms = StrCat(internal::CeilMilliseconds(ttl));
  const bool barging = MutexAccess::LockOf(mutexes_[0])->barging();
  const std::string_view args[] = {owner, ms, barging ? "T" : "t"};
  internal::CallTrace trace;
  const absl::StatusOr<Reply> reply = session->Execute(
      internal::Request::Call(internal::kMultiAcquire, keys, args), *limits, &trace);
  // Nobody should wait for the ttl because of us.
  const auto withdraw = [&] {
    for (const Mutex& mutex : mutexes_) {
      session->background().Add(std::make_shared<internal::Withdrawal>(
          *session, MutexAccess::LockOf(mutex), owner, ttl, /*late_duplicates=*/true));
    }
  };
  if (!reply.ok()) {
    if (trace.replayed || IsOutcomeUnknown(reply.status()) ||
        reply.status().code() == absl::StatusCode::kFailedPrecondition) {
      withdraw();
    }
    return internal::Annotate(reply.status(), StrCat(mutexes_.size(), " locks at once"));
  }
  const auto items = reply->items();
  const std::int64_t first = items.size() >= 2 ? Number(items[0]).value_or(-1) : -1;
  if (first == 0 && items.size() == 4 && items[3].integer() >= 0 &&
      static_cast<std::size_t>(items[3].integer()) < order_.size()) {
    if (trace.replayed) withdraw();
    const Mutex& held = mutexes_[order_[static_cast<std::size_t>(items[3].integer())]];
    const std::string holder = internal::HolderLabel(internal::WithoutMarks(items[2].text()));
    return MakeStatus(
        absl::StatusCode::kAborted,
        StrCat("mutex ", Quoted(held.name()), " is held by ", Quoted(holder), ", whose lease has ",
               internal::ToText(absl::Milliseconds(Number(items[1]).value_or(0))),
               " left unless renewed; none of the ", mutexes_.size(), " locks was taken"),
        internal::kBusy);
  }
  const absl::Time now = session->clock().Now();
  std::vector<Lease> leases(mutexes_.size());
  const bool whole = first > 0 && items.size() == 2 * order_.size();
  for (std::size_t at = 0; whole && at < order_.size(); ++at) {
    const Mutex& mutex = mutexes_[order_[at]];
    const absl::Duration left = absl::Milliseconds(Number(items[2 * at + 1]).value_or(0));
    internal::LeaseTerms terms;
    terms.ttl = ttl;
    terms.valid_until = internal::ValidUntil(trace.sent, ttl, left);
    terms.renew_at = std::min(internal::RenewAt(trace.sent, ttl),
                              trace.sent + (terms.valid_until - trace.sent) / 3);
    terms.keep_until = now + MutexAccess::OptionsOf(mutex).max_hold;
    terms.doubtful = trace.replayed;
    const auto token = static_cast<std::uint64_t>(Number(items[2 * at]).value_or(0));
    if (terms.valid_until <= now || token == 0) break;
    auto state = std::make_shared<internal::LeaseState>(
        *session, internal::LeaseIdentity{MutexAccess::LockOf(mutex), owner, token}, terms);
    if (!session->background().Add(state)) break;
    leases[order_[at]] = internal::LeaseAccess::Make(
        std::make_unique<internal::SingleHeld>(session, std::move(state), nullptr));
  }
  if (std::all_of(leases.begin(), leases.end(),
                  [](const Lease& lease) { return lease.token().value() > 0; })) {
    return MultiLease(std::move(leases));
  }
  withdraw();
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat(mutexes_.size(), " locks at once: granted too late, for a ttl of ",
                           internal::ToText(ttl), ", or not understood: ", reply->ToDebugString()),
                    internal::kUnavailable);
}

absl::StatusOr<MultiLease> MultiMutex::InTurn(absl::Duration timeout, bool wait,
                                              const CallOptions& options) const {
  const internal::SteadyTime deadline = internal::DeadlineAfter(timeout);
  std::vector<Lease> leases(mutexes_.size());
  for (const std::size_t i : order_) {
    const absl::Duration left = std::max(internal::TimeUntil(deadline), absl::ZeroDuration());
    absl::StatusOr<Lease> lease =
        wait ? mutexes_[i].Acquire(left, options.stop) : mutexes_[i].TryAcquire(options);
    if (!lease.ok()) {
      MultiLease rolled_back(std::move(leases));
      return lease.status();
    }
    leases[i] = *std::move(lease);
  }
  MultiLease all(std::move(leases));
  for (const Lease& lease : all.leases()) {
    if (lease.valid()) continue;
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("mutex ", Quoted(lease.name()),
                             " was lost while others were waited for; none is held now"),
                      internal::kLost);
  }
  return all;
}

absl::StatusOr<MultiLease> MultiMutex::TryAcquire(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  if (one_script_) return AtOnce(options);
  return InTurn(absl::InfiniteDuration(), /*wait=*/false, options);
}

absl::StatusOr<MultiLease> MultiMutex::Acquire(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const internal::SteadyTime deadline = internal::DeadlineAfter(timeout);
  if (one_script_) {
    const internal::Session& session = internal::SessionOf(MutexAccess::ClientOf(mutexes_[0]));
    const absl::Duration usual = session.options().timeout;
    // Even a caller without patience gets one round trip.
    absl::StatusOr<MultiLease> all =
        AtOnce({.timeout = timeout > absl::ZeroDuration() ? std::min(usual, timeout) : usual,
                .stop = stop});
    const bool may_pass = IsBusy(all.status()) || coord::IsUnavailable(all.status()) ||
                          IsOutcomeUnknown(all.status());
    if (all.ok() || !may_pass || stop.stop_requested() || internal::Passed(deadline)) return all;
  }
  return InTurn(std::max(internal::TimeUntil(deadline), absl::ZeroDuration()), /*wait=*/true,
                {.stop = std::move(stop)});
}

}  // namespace coord
