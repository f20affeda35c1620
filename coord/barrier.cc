#include "coord/barrier.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/lock/meeting_protocol.h"
#include "coord/lock/waiter.h"

namespace coord {
namespace {

using internal::CallLimits;
using internal::Quoted;
using internal::Session;
using internal::StrCat;
using internal::Waiter;

constexpr int kMostParties = 10'000;
// What a caller whose time is over waits for the answer whether the others have met with him.
constexpr absl::Duration kLastQuestion = absl::Seconds(1);

absl::Status CheckOptions(const BarrierOptions& options) {
  if (options.parties >= 1 && options.parties <= kMostParties) {
    return internal::CheckMeetingTtl(options.ttl);
  }
  return internal::InvalidArgument(
      StrCat("parties is ", options.parties, "; it must be 1 to ", kMostParties));
}

BarrierTurn TurnOf(std::uint64_t token) {
  return {token / internal::kPartiesOfToken, static_cast<int>(token % internal::kPartiesOfToken)};
}

// Takes one out who has not met the others: `failed`, or the turn if he has.
absl::StatusOr<BarrierTurn> Leave(Session& session, const internal::BarrierProtocol& barrier,
                                  Waiter& waiter, absl::Status failed) {
  // Its sign of life may be under way on the other connection, and must not bring it back.
  const CallLimits limits{
      internal::DeadlineAfter(std::min(session.options().timeout, kLastQuestion)), {}};
  const absl::StatusOr<Reply> reply = session.Execute(
      internal::Withdrawal::MakeRequest(session, barrier, waiter.owner(), true), limits);
  waiter.GiveUp();
  if (!reply.ok()) {
    return internal::MakeStatus(
        failed.code(),
        StrCat(internal::FromAbsl(failed.message()),
               "; it is not known whether the others have met with this one: ",
               internal::FromAbsl(reply.status().message())),
        internal::Reasons(failed) | internal::kOutcomeUnknown);
  }
  const std::optional<std::int64_t> token =
      reply->is_integer() ? reply->integer() : internal::ParseInt64(reply->text());
  if (token && *token > 0) return TurnOf(static_cast<std::uint64_t>(*token));
  return failed;
}

}  // namespace

Barrier::Barrier(Client client, std::string_view name, BarrierOptions options)
    : client_(std::move(client)), name_(name), options_(options) {
  const Session& session = internal::SessionOf(client_);
  absl::StatusOr<internal::LockProtocol::Keys> keys =
      internal::BarrierProtocol::MakeKeys(session, name_);
  usable_ = keys.ok() ? CheckOptions(options_) : keys.status();
  if (!usable_.ok()) return;
  barrier_ = std::make_shared<internal::BarrierProtocol>(
      name_, *std::move(keys), session.ChannelOf(name_), options_.parties, options_.ttl);
}

absl::StatusOr<BarrierTurn> Barrier::Await(absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return internal::InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  if (!usable_.ok()) return usable_;
  const std::shared_ptr<Session> session = internal::SharedSessionOf(client_);
  if (absl::Status status = session->Usable(); !status.ok()) return status;
  const CallLimits limits{internal::DeadlineAfter(timeout), std::move(stop)};
  if (limits.stop.stop_requested()) {
    return internal::MakeStatus(
        absl::StatusCode::kCancelled,
        StrCat("barrier ", Quoted(name_), ": stopped before it was asked for"));
  }
  const std::shared_ptr<Waiter> waiter = Waiter::Make(*session, barrier_, internal::kForGood);
  if (waiter == nullptr) {
    return internal::MakeStatus(absl::StatusCode::kUnavailable,
                                "the system gives no random bits for an owner id");
  }
  // Messages first: who completes the barrier must find us listening.
  CallLimits soon = internal::OneQuestion(*session, limits);
  soon.deadline = std::min(soon.deadline, internal::DeadlineAfter(absl::Seconds(1)));
  session->EarOf(name_)->Listen(soon);
  absl::Status failed = waiter->Enqueue(internal::OneQuestion(*session, limits));
  if (failed.ok()) {
    std::optional<absl::StatusOr<Waiter::Granted>> awaited = waiter->Await(limits);
    if (awaited && awaited->ok()) {
      const Waiter::Granted& granted = **awaited;
      // A copy of the question that comes late would be one more party at the next meeting.
      if (granted.terms.doubtful) {
        session->background().Add(std::make_shared<internal::Withdrawal>(
            *session, barrier_, granted.identity.owner, internal::kForGood, true));
      }
      return TurnOf(granted.identity.token);
    }
    failed = awaited ? awaited->status() : internal::WaitEnded(*waiter, limits);
  }
  if (failed.code() == absl::StatusCode::kFailedPrecondition) {  // refused: it never came
    waiter->GiveUp();
    return failed;
  }
  return Leave(*session, *barrier_, *waiter, std::move(failed));
}

}  // namespace coord
