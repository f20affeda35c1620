// A value that only the newest holder of a lock can write: what a fencing token is for.
//
//   coord::FencedStore state(client, "deploy-state");
//   absl::StatusOr<coord::FencedResult> wrote = state.Set(lease->token(), "halfway");
//   if (wrote.ok() && !wrote->applied) return;   // somebody has the lock after us: stop
//
// A lock alone protects nothing from a holder that was paused beyond its lease and goes on writing.
// Here such a write is refused by the server, from the moment when a later holder has written.
#ifndef COORD_FENCED_STORE_H_
#define COORD_FENCED_STORE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"

namespace coord {

struct FencedOptions {
  // How long the value lives after this write; unset: until it is overwritten. Above zero, in whole
  // milliseconds, rounded up. The token is remembered for two days longer, twice the longest lease,
  // so that the end of a value does not let in a holder who was paused meanwhile.
  std::optional<absl::Duration> ttl = std::nullopt;
};

struct FencedResult {
  bool applied = false;  // false: refused, and nothing has changed
  FencingToken token;    // the largest seen, which is that of the write when it was applied
};

struct FencedValue {
  std::optional<std::string> value;  // unset: never written, or over
  FencingToken token;                // the largest seen; 0: none
};

// Cheap to make; thread-safe. Each call is one round trip. The tokens must all come from the same
// lock; this object need not have the lock's name. The value is a plain string under
// "<prefix>{<name>}:fenced", for others to read.
class FencedStore {
 public:
  // Never fails; a bad name is reported by the calls, as kInvalidArgument.
  FencedStore(Client client, std::string_view name);

  // Writes unless a larger token has been seen. Of writes with the same token the last one stays.
  // At most once: a lost reply is IsOutcomeUnknown, and repeating the call is for the caller, who
  // knows whether he has written since. `value`: any bytes, at most 64 MiB. kInvalidArgument for
  // the token of no lease.
  absl::StatusOr<FencedResult> Set(FencingToken token, std::string_view value,
                                   FencedOptions options = {}, CallOptions call = {}) const;

  // Value and token of one moment.
  absl::StatusOr<FencedValue> Get(CallOptions call = {}) const;

 private:
  Client client_;
  std::string name_;
  absl::StatusOr<std::string> value_key_;
  std::string token_key_;
};

}  // namespace coord

#endif  // COORD_FENCED_STORE_H_
