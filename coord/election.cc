#include "coord/election.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "coord/deployment/listening.h"
#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/cohort.h"
#include "coord/lock/election_protocol.h"
#include "coord/lock/lease_state.h"
#include "coord/lock/single_held.h"

namespace coord {
namespace {

using internal::Annotate;
using internal::CallLimits;
using internal::InvalidArgument;
using internal::MakeStatus;
using internal::Quoted;
using internal::Session;
using internal::SteadyTime;
using internal::StrCat;

constexpr std::size_t kMaxValue = 1u << 20;
// How often an observer asks though nobody has called it.
constexpr absl::Duration kBackstop = absl::Seconds(1);
constexpr absl::Duration kBackstopWithoutMessages = absl::Milliseconds(100);
// After this an observer that has not asked again is called no more.
constexpr absl::Duration kInterest = absl::Seconds(5);
constexpr absl::Duration kRetry = absl::Milliseconds(100);

absl::Status CheckValue(std::string_view value) {
  if (value.size() <= kMaxValue) return absl::OkStatus();
  return InvalidArgument(
      StrCat("the value has ", value.size(), " bytes; it must have at most ", kMaxValue));
}

std::string Title(std::string_view name) { return StrCat("election ", Quoted(name)); }

struct Observed {
  std::optional<Leader> leader;
  absl::Duration left;  // until the lease ends unless renewed; negative without one
};

absl::StatusOr<Observed> ReadObserved(const Reply& reply) {
  const auto items = reply.items();
  const absl::Status unreadable = MakeStatus(
      absl::StatusCode::kDataLoss, StrCat("election_observe answered ", reply.ToDebugString()));
  if (items.size() != 1 && items.size() != 5) return unreadable;
  Observed observed{std::nullopt, absl::Milliseconds(items[0].integer())};
  if (items.size() == 1) return observed;
  const std::optional<std::int64_t> term = internal::ParseInt64(items[1].text());
  const std::optional<std::int64_t> revision = internal::ParseInt64(items[3].text());
  if (!term || !revision || !items[4].is_string()) return unreadable;
  observed.leader = Leader{FencingToken(static_cast<std::uint64_t>(*term)),
                           static_cast<std::uint64_t>(*revision), items[2].text(), items[4].text()};
  return observed;
}

}  // namespace

struct Leadership::Publishing {
  std::shared_ptr<Session> session;
  std::shared_ptr<const internal::ElectionProtocol> lock;
  std::atomic<std::uint64_t> revision{0};

  absl::Status Proclaim(const Lease& lease, std::string_view value, const CallLimits& limits) {
    const absl::StatusOr<Reply> reply = session->Execute(
        lock->Proclaim(lease.owner(), lease.token().value(), revision.fetch_add(1) + 1, value),
        limits);
    if (!reply.ok()) return Annotate(reply.status(), StrCat("publishing in ", Title(lock->name())));
    if (reply->integer() == 1) return absl::OkStatus();
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("the lead of ", Title(lock->name()), " (term ", lease.token().value(),
                             ") is lost: the server no longer knows it"),
                      internal::kLost);
  }
};

Leadership::Leadership() = default;
Leadership::Leadership(Lease lease, std::unique_ptr<Publishing> publishing)
    : lease_(std::move(lease)), publishing_(std::move(publishing)) {}
Leadership::Leadership(Leadership&&) noexcept = default;
Leadership& Leadership::operator=(Leadership&&) noexcept = default;
Leadership::~Leadership() = default;

absl::Status Leadership::Proclaim(std::string_view value, CallOptions options) {
  if (publishing_ == nullptr) return lease_.Release();  // says that there is none
  if (absl::Status status = CheckValue(value); !status.ok()) return status;
  if (absl::Status status = publishing_->session->Usable(); !status.ok()) return status;
  absl::StatusOr<CallLimits> limits = publishing_->session->Limits(options);
  if (!limits.ok()) return limits.status();
  return publishing_->Proclaim(lease_, value, *limits);
}

absl::Status Leadership::Resign(CallOptions options) { return lease_.Release(std::move(options)); }

Election::Election(Client client, std::string_view name, ElectionOptions options)
    : client_(std::move(client)), name_(name) {
  Session& session = internal::SessionOf(client_);
  absl::StatusOr<internal::LockProtocol::Keys> keys =
      internal::LockKeys(session, "election", name_);
  usable_ = keys.ok() ? internal::CheckTtl(options.ttl) : keys.status();
  if (!usable_.ok()) return;
  const absl::Duration ttl = absl::Ceil(options.ttl, absl::Milliseconds(1));
  const std::string shared_by = StrCat(keys->lease, " e ", internal::ToText(ttl));
  cohort_ = std::static_pointer_cast<internal::Cohort>(session.Shared(shared_by, [&] {
    auto lock = std::make_shared<internal::ElectionProtocol>(
        name_, *std::move(keys), *session.Key("election", name_, "term"),
        *session.Key("election", name_, "observers"));
    return std::make_shared<internal::Cohort>(session, std::move(lock), ttl,
                                              absl::InfiniteDuration());
  }));
  lock_ = std::static_pointer_cast<const internal::ElectionProtocol>(cohort_->lock());
}

absl::StatusOr<Leadership> Election::Campaign(std::string_view value, absl::Duration timeout,
                                              std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  if (absl::Status status = CheckValue(value); !status.ok()) return status;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<internal::LeaseState>> state =
      cohort_->Acquire(CallLimits{internal::DeadlineAfter(timeout), stop});
  if (!state.ok()) return state.status();
  Lease lease = internal::LeaseAccess::Make(
      std::make_unique<internal::SingleHeld>(session, *std::move(state), cohort_));
  auto publishing = std::make_unique<Leadership::Publishing>();
  publishing->session = session;
  publishing->lock = lock_;
  // Who has won late gets the time of one call for that; `timeout` was for winning.
  const CallLimits limits{internal::DeadlineAfter(session->options().timeout), std::move(stop)};
  if (absl::Status status = publishing->Proclaim(lease, value, limits); !status.ok()) {
    (void)lease.Release();
    return status;
  }
  return Leadership(std::move(lease), std::move(publishing));
}

absl::StatusOr<std::optional<Leader>> Election::GetLeader(CallOptions options) const {
  if (!usable_.ok()) return usable_;
  const absl::StatusOr<Reply> reply =
      internal::SessionOf(client_).Execute(lock_->Observe(), options);
  if (!reply.ok()) return Annotate(reply.status(), Title(name_));
  absl::StatusOr<Observed> observed = ReadObserved(*reply);
  if (!observed.ok()) return observed.status();
  return std::move(observed->leader);
}

absl::StatusOr<std::optional<Leader>> Election::AwaitChange(const std::optional<Leader>& known,
                                                            absl::Duration timeout,
                                                            std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  const std::string id = internal::NewOwnerId({});
  if (id.empty()) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      "the system gives no random bits for an observer's id");
  }
  const SteadyTime deadline = internal::DeadlineAfter(timeout);
  internal::Listening messages(*session, id);
  const std::shared_ptr<internal::Ear> ear = session->EarOf(name_);
  const auto wake = [&messages] { messages.Wake(); };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (stop.stop_possible()) on_stop.emplace(stop, wake);
  // As last asked, at most a backstop ago.
  absl::StatusOr<std::optional<Leader>> last = std::optional<Leader>();
  for (bool first = true;; first = false) {
    // Even a caller without patience gets one round trip.
    const SteadyTime usual = internal::DeadlineAfter(session->options().timeout);
    const bool at_once = first && timeout == absl::ZeroDuration();
    const CallLimits limits{at_once ? usual : std::min(usual, deadline), stop};
    const bool listening = ear->listening();
    const absl::StatusOr<Reply> reply = session->Execute(
        listening ? lock_->Observe(id, ear->channel(), kInterest) : lock_->Observe(), limits);
    absl::Duration pause = kRetry;
    if (reply.ok()) {
      absl::StatusOr<Observed> observed = ReadObserved(*reply);
      if (!observed.ok()) return observed.status();
      if (observed->leader != known || internal::Passed(deadline)) {
        return std::move(observed->leader);
      }
      pause = ear->subscribed() ? kBackstop : kBackstopWithoutMessages;
      // Nobody says so when a lease runs out.
      if (observed->left >= absl::ZeroDuration()) {
        pause = std::min(pause, observed->left + absl::Milliseconds(2));
      }
      last = std::move(observed->leader);
    } else {
      last = Annotate(reply.status(), Title(name_));
      const bool passing = coord::IsUnavailable(reply.status()) || IsOutcomeUnknown(reply.status());
      if (!stop.stop_requested() && (!passing || internal::Passed(deadline))) return last;
    }
    if (!stop.stop_requested()) {
      if (!listening && reply.ok()) {
        ear->Listen(
            CallLimits{std::min(deadline, internal::DeadlineAfter(absl::Seconds(1))), stop});
        // What has changed meanwhile was told to nobody.
        if (ear->listening()) continue;
      }
      messages.Sleep(std::min(deadline, internal::DeadlineAfter(pause)));
    }
    if (stop.stop_requested()) {
      return MakeStatus(absl::StatusCode::kCancelled,
                        StrCat("stopped while waiting for a change of ", Title(name_)));
    }
    if (internal::Passed(deadline)) return last;
  }
}

}  // namespace coord
