// One exchange with the origin for a key in all processes.
#ifndef COORD_CACHE_HTTP_INTERNAL_ORIGIN_TURN_H_
#define COORD_CACHE_HTTP_INTERNAL_ORIGIN_TURN_H_

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/backend.h"
#include "cache/internal/flight_lease.h"

namespace coord::http::internal {

// Where the backend has a server, a lock: who comes later can wait for whoever has it, and a
// process that dies gives it up within 5 s. Where processes share the backend without one (a file),
// a key that goes by itself: others only learn that somebody is at it. In the memory of one process
// nothing is needed: its threads have their flights. One thread at a time; the destructor gives it
// back.
class OriginTurn {
 public:
  // `backend` is borrowed. `longest`: no exchange takes longer.
  OriginTurn(Backend& backend, std::string_view key, absl::Duration longest,
             absl::Duration timeout);
  ~OriginTurn();
  OriginTurn(const OriginTurn&) = delete;
  OriginTurn& operator=(const OriginTurn&) = delete;

  // Whether other processes may have it.
  bool shared() const { return lease_.has_value() || backend_.kind() != "memory"; }
  // True: it is ours, or cannot be anybody's. At most one round trip.
  absl::StatusOr<bool> Try();
  // Waits until whoever has it has come to an end, at most `wait`; does not wait where that cannot
  // be known.
  absl::Status AwaitOthers(absl::Duration wait, const std::stop_token& stop);

 private:
  Backend& backend_;
  const absl::Duration longest_;
  const CallOptions call_;
  const std::string marker_;
  bool marked_ = false;
  std::optional<coord::internal::FlightLease> lease_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_ORIGIN_TURN_H_
