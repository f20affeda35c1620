// A number that many processes add to, exact over the whole signed 64-bit range.
//
//   coord::Counter visits(client, "visits");
//   absl::StatusOr<coord::CounterResult> result = visits.Add(1);
//
// At most once: an Add whose reply is lost may or may not have been applied, is never repeated, and
// says so (IsOutcomeUnknown). With an operation id it is exactly once: see operation_id.h.
#ifndef COORD_COUNTER_H_
#define COORD_COUNTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/operation_id.h"

namespace coord {

struct AddOptions {
  // The value must stay within these, both included. Unset: the 64-bit range.
  std::optional<std::int64_t> min = std::nullopt;
  std::optional<std::int64_t> max = std::nullopt;
  // What an addition does that would leave them.
  enum class Overflow {
    kReject,    // changes nothing
    kSaturate,  // stops at the bound
  } overflow = Overflow::kReject;
  // How long the counter lives on; unset leaves its time to live alone. In whole milliseconds,
  // rounded up.
  std::optional<absl::Duration> ttl = std::nullopt;
  enum class TtlMode {
    kOnCreate,  // only where the counter has no time to live yet: a window that starts with the
                // first addition
    kRefresh,   // at every addition
  } ttl_mode = TtlMode::kOnCreate;
  // Applied once, however often it is asked for.
  std::optional<OperationId> operation_id = std::nullopt;
};

struct CounterResult {
  std::int64_t value = 0;  // afterwards
  bool applied = false;    // in full; false when rejected or cut short at a bound
};

// Cheap to make; thread-safe. Every call is one round trip.
class Counter {
 public:
  // Never fails; a bad name (see README, "Names") is reported by the calls, as kInvalidArgument.
  Counter(Client client, std::string_view name);

  // An addition that would leave the bounds is no error: see CounterResult::applied.
  // kFailedPrecondition when the key holds something else than an integer; it is left as it was.
  absl::StatusOr<CounterResult> Add(std::int64_t amount, AddOptions options = {},
                                    CallOptions call = {}) const;

  // What became of an Add with this id: its result; or nullopt when it has not been applied, and
  // then it never will be: should it still arrive, it is refused. For as long as the window.
  absl::StatusOr<std::optional<CounterResult>> Resolve(const OperationId& id,
                                                       CallOptions call = {}) const;

  // 0 where there is no counter.
  absl::StatusOr<std::int64_t> Get(CallOptions call = {}) const;

  // Returns the value before.
  absl::StatusOr<std::int64_t> Set(std::int64_t value,
                                   std::optional<absl::Duration> ttl = std::nullopt,
                                   CallOptions call = {}) const;
  // Removes the counter; returns the value before.
  absl::StatusOr<std::int64_t> Reset(CallOptions call = {}) const;

 private:
  Client client_;
  std::string name_;
  absl::StatusOr<std::string> key_;
};

}  // namespace coord

#endif  // COORD_COUNTER_H_
