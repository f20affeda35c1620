// One factory at a time for a key in all processes.
#ifndef COORD_CACHE_INTERNAL_FLIGHT_LEASE_H_
#define COORD_CACHE_INTERNAL_FLIGHT_LEASE_H_

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/options.h"
#include "coord/rw_mutex.h"

namespace coord::internal {

// The lock's name for a key as the backend has it. Longer ones than a lock's name may be, as a
// hash.
std::string FlightName(std::string_view full);

// Who computes has the writer's side of a lock. Who comes later waits on the reader's side, so that
// all of them are let in by one push when he leaves, is paused beyond his lease, or dies; and who
// then still finds nothing queues up on the writer's side. One thread at a time.
class FlightLease {
 public:
  FlightLease(const Client& client, std::string_view full, absl::Duration takeover_after);

  // True: it is ours. False: another process computes, or did a moment ago. One round trip.
  absl::StatusOr<bool> Try(const CallOptions& call);
  // Waits until whoever computes has come to an end; IsBusy when he has not after `wait`.
  absl::Status AwaitOthers(const std::stop_token& stop,
                           absl::Duration wait = absl::InfiniteDuration());
  // Waits for its turn.
  absl::Status Take(const std::stop_token& stop);

  // Whether nobody else can have it.
  bool valid() const { return lease_.has_value() && lease_->valid(); }
  // Stopped when it is lost. REQUIRES: it is ours.
  std::stop_token lost() const { return lease_->stop_token(); }
  // IsLost when it was. One round trip more than a lock's: what the lock remembers for two days, so
  // that its tokens rise, nobody needs here, where there may be a lock for each of millions of
  // keys; it goes after a minute.
  absl::Status Release(const CallOptions& call);

 private:
  void ForgetSoon(const CallOptions& call) const;

  const Client client_;
  const std::string name_;
  const RwMutex lock_;
  std::optional<Lease> lease_;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_FLIGHT_LEASE_H_
