// What a lock gives: the right to be alone for a while, which can be renewed, given back, or lost.
#ifndef COORD_LEASE_H_
#define COORD_LEASE_H_

#include <compare>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

namespace internal {
class Held;
struct LeaseAccess;
}  // namespace internal

// A number that is larger for every later holder of the same name. Hand it to the resource that the
// lock guards, and let that refuse anything smaller than the largest it has seen: a holder that was
// paused beyond its lease cannot be stopped otherwise.
class FencingToken {
 public:
  constexpr FencingToken() = default;
  constexpr explicit FencingToken(std::uint64_t value) : value_(value) {}
  constexpr std::uint64_t value() const { return value_; }  // 1 to 2^53 - 1; 0 for no lease
  friend constexpr auto operator<=>(const FencingToken&, const FencingToken&) = default;

 private:
  std::uint64_t value_ = 0;
};

// Held by value, moved, never copied. The client's background thread renews it every third of its
// time to live until it is released or lost. All methods are thread-safe, except moving and
// destroying.
//
// A lease is valid while now < (moment of sending) + (time to live) - drift, on this machine's own
// boot-time clock; drift is 1 % of the time to live plus 2 ms. That needs no network, so a holder
// that is cut off stops in time.
//
// After fork(), the child's copy is void: it is not valid, and releasing it does nothing.
class Lease {
 public:
  Lease();  // no lease: not valid
  Lease(Lease&&) noexcept;
  Lease& operator=(Lease&&) noexcept;
  // Releases, waiting at most 1 s for the server; if that fails, the rest of the time to live frees
  // the lock.
  ~Lease();

  FencingToken token() const;
  const std::string& name() const;
  // This holder, as the server knows it: 128 random bits and who we are.
  const std::string& owner() const;

  // True while nobody else can hold the lock. No I/O.
  bool valid() const;
  // How long it stays valid without another renewal; zero when it is not.
  absl::Duration remaining() const;

  // Stopped when the lease is lost: at the end of its validity, or at once when a renewal finds
  // that it is gone. Not stopped by a release. Callbacks run on ClientOptions::executor, so polling
  // it or a callback both do; the callbacks of a lease must not wait long.
  std::stop_token stop_token() const;

  // Renews now, and from now on with `ttl`. One round trip. Fails with kFailedPrecondition (IsLost)
  // when it is gone.
  absl::Status Renew(absl::Duration ttl, CallOptions options = {});

  // Gives it back; one round trip, two when the first answer is lost. OK when it is released, also
  // on a repetition. IsLost when it was lost before. Whatever it returns, the lease is no longer
  // valid and is not renewed any more.
  absl::Status Release(CallOptions options = {});

  // Hands it to another process: ends it here without giving it back, and returns a text for Adopt.
  // No round trip. Nobody renews it until it is adopted, which has to happen within what
  // remaining() was before this; after that it is free for others. Afterwards this is as after
  // Release(); its stop token stays untripped. IsLost when it was lost before; kUnimplemented for a
  // kind of lease that stays where it is (a quorum's, a reader's).
  //
  // The text is printable ASCII without spaces or quotes, fit for an argument, a variable or a
  // message. WHOEVER HAS IT CAN TAKE THE LEASE, so it is for the process that shall hold the lock
  // next and for nobody else: not for a log, and on a command line others of the machine can read
  // it. It also shows the lock's name, prefix and holder. It holds no password.
  absl::StatusOr<std::string> Detach();

  // Takes over what Detach has left, with its name, token, time to live and what was left of
  // max_hold, as an owner of its own: whatever the process before may still send no longer matters.
  // One round trip, which renews it. A text works once; IsLost when it is too late, also when
  // somebody else was first. kInvalidArgument, with nothing sent, for a text that is not whole or
  // comes from a client of another prefix. `client` must go to the same deployment, which nothing
  // checks: another one says IsLost.
  static absl::StatusOr<Lease> Adopt(const Client& client, std::string_view text,
                                     CallOptions options = {});

 private:
  friend struct internal::LeaseAccess;
  explicit Lease(std::unique_ptr<internal::Held> held);

  std::unique_ptr<internal::Held> held_;
};

}  // namespace coord

#endif  // COORD_LEASE_H_
