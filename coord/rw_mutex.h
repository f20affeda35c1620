// A lock that one writer has alone, or any number of readers share.
//
//   coord::RwMutex mutex(client, "catalogue");
//   absl::StatusOr<coord::Lease> reading = mutex.AcquireShared(absl::Seconds(5));
//   absl::StatusOr<coord::Lease> writing = mutex.Acquire(absl::Seconds(5));
//
// A Mutex of the same name is its writer's side: one record, one queue, one fence. Phases are fair
// (Brandenburg and Anderson, "Reader-Writer Synchronization for Shared-Memory Multiprocessor
// Real-Time Systems", ECRTS 2009): while a writer waits no more readers come in, after a phase of
// readers comes the writer who has waited longest, and after a writer all readers who wait. Neither
// side starves.
//
// Readers of one phase share its fencing token, which is above that of every writer and phase
// before: a fence orders writers and phases, not readers among themselves.
#ifndef COORD_RW_MUTEX_H_
#define COORD_RW_MUTEX_H_

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/mutex.h"

namespace coord {

// Cheap to make; thread-safe.
class RwMutex {
 public:
  // As Mutex. A reader's lease lives `ttl` too; `fairness` is the writers' alone.
  RwMutex(Client client, std::string_view name, MutexOptions options = {});

  // The writer's side; see Mutex.
  absl::StatusOr<Lease> TryAcquire(CallOptions options = {}) const;
  absl::StatusOr<Lease> Acquire(absl::Duration timeout, std::stop_token stop = {}) const;

  // A reader's lease: valid while no writer can have the lock. Each call gives a lease of its own.
  // Costs, waiting and errors are those of Mutex.
  absl::StatusOr<Lease> TryAcquireShared(CallOptions options = {}) const;
  absl::StatusOr<Lease> AcquireShared(absl::Duration timeout, std::stop_token stop = {}) const;

  // Makes the writer's lease a reader's, with a new token and a new stop_token(); no writer comes
  // in between, and all readers who wait do. One round trip. IsLost when the lease is gone;
  // InvalidArgument when it is not a writer's lease of this name. After any other error the lease
  // is what it was, or lost.
  absl::Status Downgrade(Lease& lease, CallOptions options = {}) const;

  // Makes the only reader's lease a writer's, before any writer who waits; never waits, since two
  // readers who did would wait for each other: kAborted (IsBusy) while there are others, and the
  // lease stays what it was. One round trip.
  absl::Status Upgrade(Lease& lease, CallOptions options = {}) const;

  // See Mutex.
  absl::StatusOr<LockHolder> Holder(CallOptions options = {}) const;

  const std::string& name() const { return writer_.name(); }

 private:
  Client client_;
  MutexOptions options_;
  Mutex writer_;
  absl::Status usable_;
  std::shared_ptr<const internal::LockProtocol> shared_;
  std::shared_ptr<const internal::LockProtocol> alone_;
};

}  // namespace coord

#endif  // COORD_RW_MUTEX_H_
