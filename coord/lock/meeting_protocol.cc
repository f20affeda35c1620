#include "coord/lock/meeting_protocol.h"

#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/limits.h"
#include "coord/internal/strings.h"
#include "scripts.h"

namespace coord::internal {

absl::Status CheckMeetingTtl(absl::Duration ttl) {
  if (ttl >= kMinMeetingTtl && ttl <= kMaxDataTtl) return absl::OkStatus();
  return InvalidArgument(StrCat("ttl is ", ToText(ttl), "; it must be ", ToText(kMinMeetingTtl),
                                " to ", ToText(kMaxDataTtl)));
}

MeetingProtocol::MeetingProtocol(std::string name, Keys keys, std::string channel,
                                 std::int64_t count, absl::Duration ttl)
    : LockProtocol(std::move(name), std::move(keys)),
      channel_(std::move(channel)),
      count_(StrCat(count)),
      ttl_(StrCat(CeilMilliseconds(ttl))) {}

// Nobody does either; leaving is the nearest to both.
Request MeetingProtocol::Renew(std::string_view owner, absl::Duration) const {
  return Withdraw(owner, absl::ZeroDuration());
}

Request MeetingProtocol::Release(std::string_view owner, const std::optional<Unused>&) const {
  return Withdraw(owner, absl::ZeroDuration());
}

absl::StatusOr<LockProtocol::Keys> LatchProtocol::MakeKeys(const Session& session,
                                                           std::string_view name) {
  absl::StatusOr<std::string> latch = session.Key("latch", name, "latch");
  if (!latch.ok()) return latch.status();
  return Keys{*std::move(latch),
              *session.Key("latch", name, "latch-counted"),
              *session.Key("latch", name, "latch-waiters"),
              {}};
}

Request LatchProtocol::Ask(std::string_view owner, absl::Duration, const Place* place) const {
  const std::string_view keys_of[] = {keys().lease, keys().queue};
  if (place == nullptr) {
    const std::string_view args[] = {count_, ttl_};
    return Request::Call(kLatchWait, keys_of, args);
  }
  const std::string claim = StrCat(CeilMilliseconds(place->claim));
  const std::string_view args[] = {count_, ttl_, owner, claim, channel_, place->ticket};
  return Request::Call(kLatchWait, keys_of, args);
}

Request LatchProtocol::Withdraw(std::string_view owner, absl::Duration) const {
  return Bind(kLatchLeave, {keys().queue}, {owner, channel_});
}

std::string LatchProtocol::Taken(std::string_view holder, absl::Duration) const {
  return StrCat("is not open: ", holder, " of ", count_, " are left to be counted down");
}

Request LatchProtocol::Count(std::int64_t amount, std::string_view operation,
                             absl::Duration memory) const {
  const std::string by = StrCat(amount);
  const std::string ms = StrCat(CeilMilliseconds(memory));
  return Bind(kLatchCount, {keys().lease, keys().queue, keys().fence},
              {count_, ttl_, by, operation, ms});
}

Request LatchProtocol::InspectLatch() const {
  return Bind(kLatchInspect, {keys().lease, keys().queue});
}

absl::StatusOr<LockProtocol::Keys> BarrierProtocol::MakeKeys(const Session& session,
                                                             std::string_view name) {
  absl::StatusOr<std::string> barrier = session.Key("barrier", name, "barrier");
  if (!barrier.ok()) return barrier.status();
  return Keys{*std::move(barrier), *session.Key("barrier", name, "barrier-met"),
              *session.Key("barrier", name, "barrier-alive"),
              *session.Key("barrier", name, "barrier-order")};
}

Request BarrierProtocol::Ask(std::string_view owner, absl::Duration, const Place* place) const {
  const std::string claim =
      StrCat(CeilMilliseconds(place != nullptr ? place->claim : absl::Seconds(3)));
  return Bind(kBarrierJoin, {keys().lease, keys().queue, keys().readers, keys().fence},
              {count_, ttl_, owner, claim, channel_});
}

Request BarrierProtocol::Withdraw(std::string_view owner, absl::Duration memory) const {
  const std::string ms = StrCat(CeilMilliseconds(memory));
  return Bind(kBarrierLeave, {keys().queue, keys().readers, keys().fence}, {owner, channel_, ms});
}

std::string BarrierProtocol::Taken(std::string_view holder, absl::Duration) const {
  return StrCat("has ", holder, " of ", count_, " parties");
}

}  // namespace coord::internal
