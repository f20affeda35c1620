// A lock of many processes on many hosts.
//
//   coord::Mutex mutex(client, "deploy", {.ttl = absl::Seconds(10)});
//   absl::StatusOr<coord::Lease> lease = mutex.Acquire(absl::Seconds(5));    // waits at most 5 s
//   if (!lease.ok()) return lease.status();                                  // IsBusy(),
//   IsOutcomeUnknown() Write(lease->token(), lease->stop_token());                              //
//   fenced, and told when it is lost return lease->Release(); // or let the destructor do it
//
// On one server: at most one lease of a name is valid at a time, as long as that server keeps its
// data (see README, "What is guaranteed"). Ownership is the lease's, not a thread's or a Mutex
// object's: a second Acquire waits like any other.
#ifndef COORD_MUTEX_H_
#define COORD_MUTEX_H_

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/quorum.h"

namespace coord {

struct MutexOptions {
  // How long the lock outlives a holder that vanishes; 20 ms to 24 h, in whole milliseconds
  // (rounded up). It also bounds how long a holder that is cut off may go on. Renewed while held,
  // so it has nothing to do with how long the work takes.
  absl::Duration ttl = absl::Seconds(10);
};

// Cheap to make; thread-safe.
class Mutex {
 public:
  // Never fails and sends nothing; a name (1 to 512 bytes, not starting with '}') or option that
  // breaks the rules is reported by the calls below, as kInvalidArgument.
  Mutex(Client client, std::string_view name, MutexOptions options = {});
  // The same lock, granted by a majority of independent servers. A ttl above
  // QuorumOptions::max_ttl breaks the rules. Acquire asks again at random intervals, in no order of
  // waiters.
  Mutex(Quorum quorum, std::string_view name, MutexOptions options = {});

  // One round trip. kAborted (IsBusy) at once when another holds it, naming the holder and the time
  // it has left.
  absl::StatusOr<Lease> TryAcquire(CallOptions options = {}) const;

  // Waits up to `timeout`, asking again at random intervals of at most 100 ms; then kAborted
  // (IsBusy). A failure never leaves the lock held for longer than `ttl`: whatever may have been
  // granted behind a lost reply is withdrawn in the background.
  absl::StatusOr<Lease> Acquire(absl::Duration timeout, std::stop_token stop = {}) const;

  const std::string& name() const { return name_; }

 private:
  absl::StatusOr<Lease> Take(bool wait, absl::Duration timeout, const std::stop_token& stop) const;

  Client client_;                                 // of a quorum: of its first server
  std::shared_ptr<internal::QuorumCore> quorum_;  // null for one deployment
  std::string name_;
  MutexOptions options_;
  absl::Status usable_;
  std::string lease_key_;
  std::string fence_key_;
  std::string ttl_ms_;
};

}  // namespace coord

#endif  // COORD_MUTEX_H_
