// A list of recent things that never grows beyond its cap.
//
//   coord::CappedList events(client, "events", {.max_items = 100});
//   absl::StatusOr<coord::PushResult> pushed = events.Push("deployed 1.4");
//   absl::StatusOr<std::vector<std::string>> last = events.Range(-10, -1);
//   events.Follow(pushed->sequence, [](const coord::ListSlice& slice) { return Show(slice); });
#ifndef COORD_CAPPED_LIST_H_
#define COORD_CAPPED_LIST_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/operation_id.h"

namespace coord {

// Applied by every Push, so writers of one list should agree.
struct CappedListOptions {
  // The most items the list keeps; 1 to 1,000,000,000.
  std::int64_t max_items = 0;
  // How long the list lives on after a Push; unset leaves its time to live alone. In whole
  // milliseconds, rounded up.
  std::optional<absl::Duration> ttl = std::nullopt;
  // The most bytes that all items have together; 1 to 2^40. A list that has had such a cap goes on
  // counting bytes, at some cost to every Push.
  std::optional<std::int64_t> max_bytes = std::nullopt;
  // Older items go with the next Push and are read no more, by whoever knows of this: Since, Newest
  // and Follow do by the list itself, Range by these options. In whole milliseconds, rounded up, by
  // the server's clock. The list does not outlive its newest item. Costs every Push.
  std::optional<absl::Duration> max_age = std::nullopt;
  // What a Push does that would exceed max_items or max_bytes.
  enum class Overflow {
    kDropOldest,
    kReject,  // changes nothing
  } overflow = Overflow::kDropOldest;
};

struct PushOptions {
  // Applied once, however often it is asked for.
  std::optional<OperationId> operation_id = std::nullopt;
};

struct PushResult {
  std::int64_t length = 0;  // afterwards
  std::int64_t evicted =
      0;  // how many old items (or, of a push larger than the cap, new ones) went
  std::int64_t sequence = 0;  // number of the newest item: rises by one an item, and goes on rising
                              // after the list was trimmed or lost; 0 for a list OnKey
  bool applied = true;        // false when rejected: see Overflow
};

struct ListItem {
  std::int64_t sequence = 0;  // 0 for a list OnKey
  std::string value;
};

// Items that follow each other, oldest first.
struct ListSlice {
  std::vector<ListItem> items;
  std::int64_t newest = 0;  // number of the newest item there has been, which may be trimmed; 0:
                            // none is known
  // How many numbers lie between where the reader was and the first of these: items that were
  // trimmed or have aged. A large number when the list was lost and has begun anew.
  std::int64_t missed = 0;
};

// Cheap to make; thread-safe. Every call but Follow is one round trip. Items are any bytes.
class CappedList {
 public:
  // Of one slice.
  static constexpr std::int64_t kMaxSlice = 4096;

  // Never fails; a bad name or option is reported by the calls, as kInvalidArgument.
  CappedList(Client client, std::string_view name, CappedListOptions options);

  // The plain list under exactly this Redis key, any 1 to 512 bytes, which other programs may push
  // to and read. Nothing else is kept, so a push costs less, and what lives on records is refused
  // as kInvalidArgument: Since, Follow and Resolve, operation ids, max_bytes and max_age. Push,
  // Range and Newest are as they are for others, without numbers (0). What others push counts, and
  // is trimmed by the next Push here. Never fails, as above.
  static CappedList OnKey(Client client, std::string_view key, CappedListOptions options);

  // Appends, oldest first, and trims in the same step: nobody ever sees more than max_items. 1 to
  // 4,096 items of together at most 64 MiB; kInvalidArgument when an item is larger than max_bytes,
  // or when a push to be rejected otherwise is larger than a cap, so that it never fits. A push
  // whose reply is lost may have been applied, is never repeated, and says so (IsOutcomeUnknown);
  // with an operation id it is exactly once: see operation_id.h. A writer without max_bytes and
  // max_age pays a second round trip on a list that others have given such caps.
  absl::StatusOr<PushResult> Push(std::span<const std::string_view> items, PushOptions options = {},
                                  CallOptions call = {}) const;
  absl::StatusOr<PushResult> Push(std::string_view item, PushOptions options = {},
                                  CallOptions call = {}) const;

  // What became of a Push with this id: its result; or nullopt when it has not been applied, and
  // then it never will be: should it still arrive, it is refused. For as long as the window.
  absl::StatusOr<std::optional<PushResult>> Resolve(const OperationId& id,
                                                    CallOptions call = {}) const;

  // Items from `start` to `stop`, both included; 0 is the oldest, -1 the newest. What is not there
  // is left out. With max_age, places are counted among what is not too old.
  absl::StatusOr<std::vector<std::string>> Range(std::int64_t start = 0, std::int64_t stop = -1,
                                                 CallOptions call = {}) const;

  // The newest `n`, 1 to kMaxSlice. Of a list OnKey, items alone: all numbers are 0.
  absl::StatusOr<ListSlice> Newest(std::int64_t n, CallOptions call = {}) const;

  // The first items after the one with this number, at most `max_items` (1 to kMaxSlice), and none
  // more once they have some 8 MiB: go on after the last of them. 0: from the oldest that there is,
  // and nothing counts as missed. Numbers are 0 or more.
  absl::StatusOr<ListSlice> Since(std::int64_t sequence, std::int64_t max_items = 1000,
                                  CallOptions call = {}) const;

  // Reads on from there as items arrive, and hands them to `receive`, in this thread, in order,
  // each once: every item that is not trimmed before it is read, and how many were, also when no
  // item is left. Woken by a message; a lost one is made up for within a second. Tries again while
  // the server cannot be reached. Ends when `receive` returns false (OK), when `stop` is requested
  // (kCancelled), or on an error that does not pass. The first of a client opens a second
  // connection. One round trip for each time there are items, and one a second.
  absl::Status Follow(std::int64_t sequence, const std::function<bool(const ListSlice&)>& receive,
                      std::stop_token stop = {}) const;

 private:
  CappedList(Client client, CappedListOptions options);

  std::string Title() const;
  absl::Status CheckPush(std::span<const std::string_view> items, const PushOptions& options) const;
  // What a list without a record cannot do: InvalidArgument with what to use instead.
  absl::Status CheckRecorded(std::string_view what, std::string_view instead) const;
  absl::StatusOr<PushResult> PushPlain(std::span<const std::string_view> items,
                                       const CallOptions& call) const;
  // Of a push that needs more than list_push.
  absl::StatusOr<PushResult> Append(std::span<const std::string_view> items,
                                    const PushOptions& options, const CallOptions& call) const;

  Client client_;
  CappedListOptions options_;
  absl::Status usable_;
  std::string name_;  // empty for a list OnKey
  std::string list_key_;
  std::string record_key_;
  std::string times_key_;
  std::string followers_key_;
};

}  // namespace coord

#endif  // COORD_CAPPED_LIST_H_
