// Private: the lock that a leader holds, and what is published with it.
#ifndef COORD_LOCK_ELECTION_PROTOCOL_H_
#define COORD_LOCK_ELECTION_PROTOCOL_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "coord/lock/lock_protocol.h"

namespace coord::internal {

class ElectionProtocol final : public MutexProtocol {
 public:
  ElectionProtocol(std::string name, Keys keys, std::string term_key, std::string observers_key);

  std::string_view what() const override { return "election"; }
  Request Renew(std::string_view owner, absl::Duration ttl) const override;
  Request Release(std::string_view owner, const std::optional<Unused>& unused) const override;
  // A leader is not changed without the server, which tells who watches.
  std::optional<Request> Reserve(std::string_view, int) const override { return std::nullopt; }
  // The value that is published stays with the owner who has published it.
  bool detachable() const override { return false; }

  Request Proclaim(std::string_view owner, std::uint64_t term, std::uint64_t revision,
                   std::string_view value) const;
  // Who leads; with an observer's id, it is woken on `channel` for `interest`.
  Request Observe() const;
  Request Observe(std::string_view observer, std::string_view channel,
                  absl::Duration interest) const;

 private:
  const std::string term_key_;
  const std::string observers_key_;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_ELECTION_PROTOCOL_H_
