// A number of permits that many processes on many hosts share: at most so many at a time.
//
//   coord::Semaphore uploads(client, "uploads", {.permits = 4});
//   absl::StatusOr<coord::Permit> permit = uploads.Acquire(absl::Seconds(30));
//   if (!permit.ok()) return permit.status();      // IsBusy() when the time was over
//   Upload(permit->stop_token());                  // told when it is lost
//   return permit->Release();                      // or let the destructor do it
//
// Waiting is fair: served in the order of asking. Who asks for many and finds too few holds up
// those behind him until there are enough, so he is not starved by those who want few.
//
// At most `permits` are validly held at a time, as long as the server keeps its data and its clock
// does not jump. The number that is free is not kept anywhere but follows from who holds some, each
// with a time of its own to end: nothing is leaked by who vanishes, nor released twice. On one
// deployment only: votes of several do not add up to a count.
//
// A permit has no fencing token: of several holders at a time none is the latest, so there is no
// number by which a resource could tell one that was paused too long.
#ifndef COORD_SEMAPHORE_H_
#define COORD_SEMAPHORE_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/options.h"

namespace coord {

namespace internal {
struct SemaphoreParts;
}  // namespace internal

struct SemaphoreOptions {
  // How many there are; 1 to 1,000,000. All who use a name at the same time must say the same;
  // while nobody holds or waits for any, the next may say another.
  std::int64_t permits = 0;
  // How long permits outlive a holder that vanishes; 20 ms to 24 h. See MutexOptions::ttl.
  absl::Duration ttl = absl::Seconds(10);
  // Permits are not renewed beyond this, and so are lost: a bound for work that hangs.
  absl::Duration max_hold = absl::InfiniteDuration();
};

// Tells holders apart: no two acquisitions ever have the same. It says nothing about who came
// first, so it cannot be compared with others or passed for a fencing token.
class PermitId {
 public:
  PermitId() = default;
  explicit PermitId(std::string value) : value_(std::move(value)) {}
  const std::string& value() const { return value_; }  // printable, no spaces; empty for no permit
  friend bool operator==(const PermitId&, const PermitId&) = default;

 private:
  std::string value_;
};

// The permits of one acquisition, one or more; they are renewed, lost and given back together. All
// that lease.h says of a Lease holds for it: moved, never copied; renewed in the background; void
// in a forked child; released by the destructor.
class Permit {
 public:
  Permit() = default;  // none: not valid

  PermitId id() const { return PermitId(lease_.owner()); }
  std::int64_t count() const { return count_; }  // how many
  const std::string& name() const { return lease_.name(); }

  // True while they are counted for nobody else. No I/O.
  bool valid() const { return lease_.valid(); }
  absl::Duration remaining() const { return lease_.remaining(); }
  std::stop_token stop_token() const { return lease_.stop_token(); }

  // As Lease has them.
  absl::Status Renew(absl::Duration ttl, CallOptions options = {}) {
    return lease_.Renew(ttl, std::move(options));
  }
  absl::Status Release(CallOptions options = {}) { return lease_.Release(std::move(options)); }

 private:
  friend class Semaphore;
  Permit(Lease lease, std::int64_t count) : lease_(std::move(lease)), count_(count) {}

  Lease lease_;
  std::int64_t count_ = 0;
};

// Who holds permits and who waits for some, as it stood at the server.
struct SemaphoreUse {
  struct User {
    PermitId id;
    std::int64_t count = 0;  // how many it holds or waits for
    absl::Duration left;     // until that ends, or it no longer counts as waiting, unless renewed
  };
  std::int64_t permits = 0;    // how many there are
  std::int64_t available = 0;  // how many of them nobody holds
  std::vector<User> holders;   // in the order in which they end
  std::vector<User> waiters;   // first come first
};

// Cheap to make; thread-safe.
class Semaphore {
 public:
  // Never fails and sends nothing; a name (1 to 512 bytes, not starting with '}') or option that
  // breaks the rules is reported by the calls below, as kInvalidArgument.
  Semaphore(Client client, std::string_view name, SemaphoreOptions options);

  // Takes `count` permits, 1 to options.permits, all or none. One round trip. kAborted (IsBusy) at
  // once when there are too few or others wait for some; kFailedPrecondition when it is in use with
  // another number of permits.
  absl::StatusOr<Permit> TryAcquire(std::int64_t count = 1, CallOptions options = {}) const;

  // Waits up to `timeout` for its turn; then kAborted (IsBusy). Its cost, and what a failure leaves
  // behind (nothing), are those of Mutex::Acquire; but every thread has a place in the queue of its
  // own.
  absl::StatusOr<Permit> Acquire(absl::Duration timeout, std::int64_t count = 1,
                                 std::stop_token stop = {}) const;

  // How many are free, and who has the others. One round trip; writes nothing.
  absl::StatusOr<SemaphoreUse> Available(CallOptions options = {}) const;

  const std::string& name() const { return name_; }

 private:
  absl::Status CheckCount(std::int64_t count) const;

  Client client_;
  std::string name_;
  SemaphoreOptions options_;
  absl::Status usable_;
  std::shared_ptr<const internal::SemaphoreParts> parts_;
};

}  // namespace coord

#endif  // COORD_SEMAPHORE_H_
