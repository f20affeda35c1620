// A lock of many processes on many hosts.
//
//   coord::Mutex mutex(client, "deploy", {.ttl = absl::Seconds(10)});
//   absl::StatusOr<coord::Lease> lease = mutex.Acquire(absl::Seconds(5));    // waits at most 5 s
//   if (!lease.ok()) return lease.status();                                  // IsBusy(),
//   IsOutcomeUnknown() Write(lease->token(), lease->stop_token());                              //
//   fenced, and told when it is lost return lease->Release(); // or let the destructor do it
//
// Waiting is fair: processes are served in the order in which they asked, and a release hands the
// lock to the next of them in the same round trip. Threads of one process queue among themselves
// and pass the lock on without the server, for up to 32 turns or 5 ms, before others get theirs.
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
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/quorum.h"

namespace coord {

namespace internal {
class Cohort;
class LockProtocol;
struct MutexAccess;
}  // namespace internal

enum class Fairness { kFifo, kBarging };

struct MutexOptions {
  // How long the lock outlives a holder that vanishes; 20 ms to 24 h, in whole milliseconds
  // (rounded up). It also bounds how long a holder that is cut off may go on. Renewed while held,
  // so it has nothing to do with how long the work takes.
  absl::Duration ttl = absl::Seconds(10);
  // kFifo: a free lock goes to who has waited longest. kBarging: whoever asks while it is free gets
  // it, and who waits is only told that it is free. A burst of short sections of one process then
  // runs faster, since nobody waits for the next one to wake up; the price is that a waiter may
  // wait without bound. All users of a name should choose the same.
  Fairness fairness = Fairness::kFifo;
  // The lease is not renewed beyond this, and so is lost: a bound for sections that hang.
  absl::Duration max_hold = absl::InfiniteDuration();
  // How many replicas must have acknowledged the lease before an acquire returns (WAIT), within
  // replica_timeout, which comes on top of the time that the acquire may take. Too few: the lease
  // is given back, and the acquire fails with kUnavailable, which says how many. 0 to 100; the
  // timeout is above zero and below ttl. TryAcquire stays one round trip; an Acquire may need one
  // more. They go over a connection of their own, on which they wait for each other.
  //
  // Fewer leases are lost in a failover, and that is all: a replica that has acknowledged need not
  // be the one that is promoted. It is no proof that nobody else can get the lock.
  int wait_replicas = 0;
  absl::Duration replica_timeout = absl::Seconds(1);
};

// Who holds a lock and who waits for it, as it stood at the server.
struct LockHolder {
  std::string
      owner;  // who holds it, as Lease::owner() has it; empty: it is free, or readers hold it
  FencingToken token;                // the last one given
  absl::Duration held;               // for how long, by the server's clock; zero when it is free
  absl::Duration left;               // until it runs out unless renewed
  std::vector<std::string> readers;  // owners that share it
  std::vector<std::string> waiters;  // owners that wait, first come first
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

  // Waits up to `timeout` for its turn; then kAborted (IsBusy). One round trip when the lock is
  // free; else one to take a place in the queue (the first of a client opens a second connection),
  // and nothing more until the grant is announced but a sign of life a second. A failure leaves
  // nothing behind for longer than `ttl`: the place in the queue, a grant that crossed the timeout,
  // and whatever may have been granted behind a lost reply are given back in the background.
  absl::StatusOr<Lease> Acquire(absl::Duration timeout, std::stop_token stop = {}) const;

  // Who has it. One round trip; writes nothing.
  absl::StatusOr<LockHolder> Holder(CallOptions options = {}) const;

  // For an operator: takes the lock from whoever has it, who is told at the next renewal, and hands
  // it to who waits first. Exclusion is then the fencing token's alone. With `owner`, only from
  // that one. Returns who had it; empty when it was free or another's.
  absl::StatusOr<std::string> ForceRelease(std::string_view owner = {},
                                           CallOptions options = {}) const;

  const std::string& name() const { return name_; }

 private:
  friend struct internal::MutexAccess;
  Client client_;                                 // of a quorum: of its first server
  std::shared_ptr<internal::QuorumCore> quorum_;  // null for one deployment
  std::string name_;
  MutexOptions options_;
  absl::Status usable_;
  std::shared_ptr<const internal::LockProtocol> lock_;
  std::shared_ptr<internal::Cohort> cohort_;
};

}  // namespace coord

#endif  // COORD_MUTEX_H_
