// A Mutex for what the standard library locks: std::scoped_lock, std::unique_lock, std::lock.
//
//   coord::Lockable deploy(coord::Mutex(client, "deploy"));
//   {
//     std::scoped_lock held(deploy);                                       // may throw LockError
//     Write(deploy.lease().token(), deploy.lease().stop_token());          // fenced
//   }
//
// Prefer Mutex itself where nothing asks for this shape: a std::scoped_lock does not say that the
// lock was lost, and it throws.
#ifndef COORD_LOCKABLE_H_
#define COORD_LOCKABLE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/lease.h"
#include "coord/mutex.h"

namespace coord {

// Thrown by Lockable::lock() and by nothing else of this library.
class LockError : public std::runtime_error {
 public:
  explicit LockError(absl::Status status);
  // Why, for IsBusy and its like.
  const absl::Status& status() const noexcept { return *status_; }

 private:
  std::shared_ptr<const absl::Status> status_;  // so that a copy cannot throw
};

struct LockableOptions {
  // How long lock() waits before it throws (IsBusy).
  absl::Duration timeout = absl::InfiniteDuration();
  // Told why an unlock was no release: IsLost, or the server could not be reached and the lock is
  // free when its ttl is over. Called by the thread that unlocks; what it throws is dropped.
  std::function<void(const absl::Status&)> on_unlock_failure = {};
};

// Thread-safe, as std::timed_mutex is: each thread that locks it holds a lease of its own, and
// unlocks in the same thread. Locking what this thread has locked already through the same object
// is refused at once (kFailedPrecondition), where a std::mutex would hang. Must outlive all
// holders.
class Lockable {
 public:
  explicit Lockable(Mutex mutex, LockableOptions options = {});
  // Releases what is still locked.
  ~Lockable();
  Lockable(const Lockable&) = delete;
  Lockable& operator=(const Lockable&) = delete;

  // As Mutex::Acquire with LockableOptions::timeout. Throws LockError when that fails.
  void lock();
  // As Mutex::TryAcquire. False when another holds it, and also when it cannot be had for another
  // reason: no server, a bad name. Never throws.
  bool try_lock() noexcept;
  template <typename Rep, typename Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout) {
    return TryLockFor(std::chrono::duration<double>(timeout).count());
  }
  template <typename Clock, typename Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& deadline) {
    return try_lock_for(deadline - Clock::now());
  }

  // As Lease::Release. Never throws; nothing happens when this thread does not hold it.
  void unlock() noexcept;

  // What this thread holds; a Lease that holds nothing when it does not. Good until this thread
  // unlocks.
  const Lease& lease() const;

 private:
  struct Holders;

  absl::Status Lock(absl::Duration timeout, bool once);
  bool TryLockFor(double seconds) noexcept;

  const Mutex mutex_;
  const LockableOptions options_;
  const std::unique_ptr<Holders> holders_;
};

}  // namespace coord

#endif  // COORD_LOCKABLE_H_
