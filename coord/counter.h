// A number that many processes add to, exact over the whole signed 64-bit range.
//
//   coord::Counter visits(client, "visits");
//   absl::StatusOr<coord::CounterResult> result = visits.Add(1);
//
// At most once: an Add whose reply is lost may or may not have been applied, is never repeated, and
// says so (IsOutcomeUnknown). With an operation id it is exactly once: see operation_id.h.
#ifndef COORD_COUNTER_H_
#define COORD_COUNTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  // The counter under exactly this Redis key, any 1 to 1,024 bytes, which other programs may share
  // (INCRBY, GET). Its operation ids need a key of at most 512 bytes that does not start with '}',
  // and in a Redis Cluster one without '}' or with a hash tag; what breaks that is
  // kInvalidArgument. Never fails, as above.
  static Counter OnKey(Client client, std::string_view key);

  // What each call does with a key that holds something else than an integer, as INCRBY takes one
  // (so not "01" or " 1"): kFailedPrecondition, and it is left as it was.

  // An addition that would leave the bounds is no error: see CounterResult::applied.
  absl::StatusOr<CounterResult> Add(std::int64_t amount, AddOptions options = {},
                                    CallOptions call = {}) const;

  // What became of an Add with this id: its result; or nullopt when it has not been applied, and
  // then it never will be: should it still arrive, it is refused. For as long as the window. Of a
  // GetAndReset: the value that it returned, applied.
  absl::StatusOr<std::optional<CounterResult>> Resolve(const OperationId& id,
                                                       CallOptions call = {}) const;

  // 0 where there is no counter.
  absl::StatusOr<std::int64_t> Get(CallOptions call = {}) const;

  // Returns the value before.
  absl::StatusOr<std::int64_t> Set(std::int64_t value,
                                   std::optional<absl::Duration> ttl = std::nullopt,
                                   CallOptions call = {}) const;
  // Removes the counter and its time to live; returns the value before, 0 where there was none. No
  // addition is lost or counted twice between two of these, but with a lost reply goes the value:
  // unless there is an operation id, with which it is asked for again (see Add).
  absl::StatusOr<std::int64_t> GetAndReset(std::optional<OperationId> operation_id = std::nullopt,
                                           CallOptions call = {}) const;
  // The same without an id.
  absl::StatusOr<std::int64_t> Reset(CallOptions call = {}) const;

 private:
  Counter(Client client, std::string_view name, std::string_view tag,
          absl::StatusOr<std::string> key);
  // The key, where it is given raw; else empty.
  std::string_view raw() const { return *key_ == name_ ? name_ : std::string_view(); }

  Client client_;
  std::string name_;  // for messages
  std::string tag_;   // what its keys have in braces
  absl::StatusOr<std::string> key_;
};

// ---- Many counters in one round trip ----

// How many one call may name.
inline constexpr std::size_t kMaxCounters = 1024;

struct CounterAddition {
  std::string name;
  std::int64_t amount = 1;
  AddOptions options = {};
};

// Adds to each, in order; a name may come twice. Returns what Add would have, one each, in the same
// order. They are not atomic together: others' additions may come between them, and one that fails
// does not stop the rest. A fault of the way there is the whole call's: when its outcome is unknown
// (IsOutcomeUnknown), any of them may have been applied. It is not repeated; where all have
// operation ids, the caller may. Bad input in any (kInvalidArgument, which says which) refuses all,
// and nothing is sent.
absl::StatusOr<std::vector<absl::StatusOr<CounterResult>>> AddToCounters(
    const Client& client, std::span<const CounterAddition> additions, CallOptions call = {});

// What Get would have returned of each, in the same order. Not a snapshot.
absl::StatusOr<std::vector<absl::StatusOr<std::int64_t>>> GetCounters(
    const Client& client, std::span<const std::string> names, CallOptions call = {});

}  // namespace coord

#endif  // COORD_COUNTER_H_
