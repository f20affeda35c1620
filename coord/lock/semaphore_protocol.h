// Private: what a semaphore asks of the server.
#ifndef COORD_LOCK_SEMAPHORE_PROTOCOL_H_
#define COORD_LOCK_SEMAPHORE_PROTOCOL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

// The keys of the semaphore of that name, or what is wrong with the name. They are other keys than
// a mutex of the same name has. Of LockProtocol::Keys: `lease` holds the permits; no readers.
absl::StatusOr<LockProtocol::Keys> SemaphoreKeys(const Session& session, std::string_view name);

// For one who takes `count` of `permits` at once.
class SemaphoreProtocol final : public LockProtocol {
 public:
  SemaphoreProtocol(std::string name, Keys keys, std::int64_t permits, std::int64_t count)
      : LockProtocol(std::move(name), std::move(keys)), permits_(permits), count_(count) {}

  std::string_view what() const override { return "semaphore"; }
  Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const override;
  Request Renew(std::string_view owner, absl::Duration ttl) const override;
  Request Release(std::string_view owner, const std::optional<Unused>& unused) const override;
  Request Withdraw(std::string_view owner, absl::Duration memory) const override;
  std::string Taken(std::string_view holder, absl::Duration left) const override;

 private:
  const std::int64_t permits_;
  const std::int64_t count_;
};

// A semaphore as semaphore_inspect found it.
struct SemaphoreView {
  struct User {
    std::string owner;
    std::int64_t count = 0;
    absl::Duration left;  // until it ends, or is dead, unless something is heard of it
  };
  std::int64_t permits = 0;  // 0: nobody uses it
  std::vector<User> holders;
  std::vector<User> waiters;
};

Request InspectSemaphore(const LockProtocol::Keys& keys);
absl::StatusOr<SemaphoreView> ReadSemaphoreView(const Reply& reply);

}  // namespace coord::internal

#endif  // COORD_LOCK_SEMAPHORE_PROTOCOL_H_
