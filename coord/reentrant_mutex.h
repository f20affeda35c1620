// A mutex that whoever has it may take again.
//
//   coord::ReentrantMutex mutex(client, "deploy");
//   absl::StatusOr<coord::ReentrantMutex::Hold> outer = mutex.Acquire(absl::Seconds(5));
//   ...
//   absl::StatusOr<coord::ReentrantMutex::Hold> inner = mutex.Acquire(absl::Seconds(5));  // at
//   once
//
// It belongs to the handle, not to a thread: while a handle has the lock, every thread that uses
// this handle enters. So give each task that shall be alone a handle of its own; between handles,
// also of one process, it is the same lock as a Mutex of its name.
#ifndef COORD_REENTRANT_MUTEX_H_
#define COORD_REENTRANT_MUTEX_H_

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

// Thread-safe, but for moving and destroying. May go before its holds, which keep the lock.
class ReentrantMutex {
  struct State;

 public:
  // One of the acquisitions of a handle. The last of them to go gives the lock back.
  class Hold {
   public:
    Hold();  // none
    Hold(Hold&&) noexcept;
    Hold& operator=(Hold&&) noexcept;
    // As Release(), waiting at most 1 s for the server.
    ~Hold();

    // The same for all holds of the handle, since the lock was taken.
    FencingToken token() const;
    bool valid() const;
    absl::Duration remaining() const;
    // See Lease::stop_token.
    std::stop_token stop_token() const;

    // The last one gives the lock back, as Lease::Release, and returns what that does; the others
    // only count down, no round trip, and return OK, or IsLost when the lock is lost. OK on a
    // repetition.
    absl::Status Release(CallOptions options = {});

   private:
    friend class ReentrantMutex;
    explicit Hold(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;  // null: none, or released
  };

  // As Mutex.
  ReentrantMutex(Client client, std::string_view name, MutexOptions options = {});
  ReentrantMutex(ReentrantMutex&&) noexcept;
  ReentrantMutex& operator=(ReentrantMutex&&) noexcept;
  ~ReentrantMutex();

  // While this handle has the lock: one hold more, at once, no round trip; or IsLost
  // (kFailedPrecondition) when it has lost it, until all its holds are released. Otherwise as
  // Mutex::Acquire. Threads that ask a handle at the same time enter together.
  absl::StatusOr<Hold> Acquire(absl::Duration timeout, std::stop_token stop = {});
  // The same as Mutex::TryAcquire. IsBusy, too, while another thread waits through this handle.
  absl::StatusOr<Hold> TryAcquire(CallOptions options = {});

  // How many holds there are.
  int depth() const;
  const std::string& name() const;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_REENTRANT_MUTEX_H_
