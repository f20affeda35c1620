// Private: what a Lease is a handle to. A lock on one deployment and one on a quorum are held in
// different ways; to whom holds them they look alike.
#ifndef COORD_LOCK_HELD_H_
#define COORD_LOCK_HELD_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/lease.h"
#include "coord/options.h"

namespace coord::internal {

// Keeps alive whatever it needs for its calls. Thread-safe. Destroying it does not release.
class Held {
 public:
  virtual ~Held() = default;

  // Constant.
  virtual const std::string& name() const = 0;
  virtual const std::string& owner() const = 0;
  virtual std::uint64_t token() const = 0;

  // In a forked child, where nothing below may be called.
  virtual bool forked() const = 0;

  // As Lease says of its methods of these names.
  virtual absl::Duration Remaining() const = 0;
  virtual std::stop_token StopToken() = 0;
  virtual absl::Status Renew(absl::Duration ttl, const CallOptions& options) = 0;
  virtual absl::Status Release(const CallOptions& options) = 0;
  // For those that cannot: kUnimplemented.
  virtual absl::StatusOr<std::string> Detach();
};

// How the library's own parts make a Lease.
struct LeaseAccess {
  static Lease Make(std::unique_ptr<Held> held);
  static Held* HeldOf(Lease& lease);  // null for one that holds nothing
};

}  // namespace coord::internal

#endif  // COORD_LOCK_HELD_H_
