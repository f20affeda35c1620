// A list of recent things that never grows beyond its cap.
//
//   coord::CappedList events(client, "events", {.max_items = 100});
//   absl::StatusOr<coord::PushResult> pushed = events.Push("deployed 1.4");
//   absl::StatusOr<std::vector<std::string>> last = events.Range(-10, -1);
#ifndef COORD_CAPPED_LIST_H_
#define COORD_CAPPED_LIST_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"

namespace coord {

struct CappedListOptions {
  // The most items the list keeps; 1 to 1,000,000,000. The oldest go first. Applied by every Push,
  // so writers of one list should agree.
  std::int64_t max_items = 0;
  // How long the list lives on after a Push; unset leaves its time to live alone. In whole
  // milliseconds, rounded up.
  std::optional<absl::Duration> ttl = std::nullopt;
};

struct PushResult {
  std::int64_t length = 0;  // afterwards
  std::int64_t evicted =
      0;  // how many old items (or, of a push larger than the cap, new ones) went
  std::int64_t sequence = 0;  // number of the newest item: rises by one an item, and goes on rising
                              // after the list was trimmed or lost
};

// Cheap to make; thread-safe. Every call is one round trip. Items are any bytes.
class CappedList {
 public:
  // Never fails; a bad name or option is reported by the calls, as kInvalidArgument.
  CappedList(Client client, std::string_view name, CappedListOptions options);

  // Appends, oldest first, and trims in the same step: nobody ever sees more than max_items. 1 to
  // 4,096 items of together at most 64 MiB. A push whose reply is lost may have been applied, is
  // never repeated, and says so (IsOutcomeUnknown).
  absl::StatusOr<PushResult> Push(std::span<const std::string_view> items,
                                  CallOptions call = {}) const;
  absl::StatusOr<PushResult> Push(std::string_view item, CallOptions call = {}) const;

  // Items from `start` to `stop`, both included; 0 is the oldest, -1 the newest. What is not there
  // is left out.
  absl::StatusOr<std::vector<std::string>> Range(std::int64_t start = 0, std::int64_t stop = -1,
                                                 CallOptions call = {}) const;

 private:
  Client client_;
  std::string name_;
  CappedListOptions options_;
  absl::Status usable_;
  std::string list_key_;
  std::string sequence_key_;
};

}  // namespace coord

#endif  // COORD_CAPPED_LIST_H_
