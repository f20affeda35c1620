// Private: what latches and barriers ask of the server. To a Waiter, "granted" means that what was
// waited for has come about; there is nothing to renew or to release.
#ifndef COORD_LOCK_MEETING_PROTOCOL_H_
#define COORD_LOCK_MEETING_PROTOCOL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

// Of latches and barriers: several heartbeats of a waiter must fit in.
inline constexpr absl::Duration kMinMeetingTtl = absl::Seconds(10);
absl::Status CheckMeetingTtl(absl::Duration ttl);

// What has come about stays so; a Waiter wants to be told for how long. The scripts say the same.
inline constexpr absl::Duration kForGood = absl::Minutes(1);

class MeetingProtocol : public LockProtocol {
 public:
  // `channel`: where this process is woken. Keys as the classes below say.
  MeetingProtocol(std::string name, Keys keys, std::string channel, std::int64_t count,
                  absl::Duration ttl);

  Request Renew(std::string_view owner, absl::Duration ttl) const override;
  Request Release(std::string_view owner, const std::optional<Unused>& unused) const override;

 protected:
  const std::string channel_;
  const std::string count_;
  const std::string ttl_;
};

// Keys: `lease` the latch, `queue` the waiters, `fence` the operations that were counted.
class LatchProtocol final : public MeetingProtocol {
 public:
  using MeetingProtocol::MeetingProtocol;
  static absl::StatusOr<Keys> MakeKeys(const Session& session, std::string_view name);

  std::string_view what() const override { return "latch"; }
  Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const override;
  Request Withdraw(std::string_view owner, absl::Duration memory) const override;
  std::string Taken(std::string_view holder, absl::Duration left) const override;
  Request Count(std::int64_t amount, std::string_view operation, absl::Duration memory) const;
  Request InspectLatch() const;
};

// Keys: `lease` the barrier, `queue` the alive key, `readers` the order key, `fence` the met key.
class BarrierProtocol final : public MeetingProtocol {
 public:
  using MeetingProtocol::MeetingProtocol;
  static absl::StatusOr<Keys> MakeKeys(const Session& session, std::string_view name);

  std::string_view what() const override { return "barrier"; }
  // Always with a place: to ask is to come.
  Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const override;
  // Answers with the token when the owner was let go on before this, else 0.
  Request Withdraw(std::string_view owner, absl::Duration memory) const override;
  std::string Taken(std::string_view holder, absl::Duration left) const override;
};

// A barrier's token: the generation, and how many came after this one.
inline constexpr std::uint64_t kPartiesOfToken = 65536;

}  // namespace coord::internal

#endif  // COORD_LOCK_MEETING_PROTOCOL_H_
