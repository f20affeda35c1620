// What a ShardedCounter still has to bring to the server: what is under way, of what the outcome is
// unknown, what is asked again and what is given up. Pure: ids, times and answers are passed in.
#ifndef COORD_INTERNAL_COUNTER_FLUSH_H_
#define COORD_INTERNAL_COUNTER_FLUSH_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/operation_id.h"
#include "coord/reply.h"

namespace coord::internal {

__extension__ using Wide = __int128;

// The nearest of 64 bits.
std::int64_t Clamp(Wide value);

// Not thread-safe. Times are of one clock that never goes back. Every unit that was put in is in
// exactly one place until it is known to be on the server or was handed out as lost: it waits, is
// the amount of the one flush, or is forgotten.
class CounterFlush {
 public:
  struct Terms {
    absl::Duration interval;  // from one flush to the next
    absl::Duration window;    // how long the server keeps what became of an operation
    OperationId (*new_id)() = &OperationId::New;
  };

  explicit CounterFlush(const Terms& terms) : terms_(terms) {}

  void Put(Wide amount) { waiting_ += amount; }

  // ---- What to send ----

  struct Ask {
    std::int64_t amount;
    OperationId id;
    std::uint64_t number;  // of the flush, from 1
    bool resolving;        // ask what became of it, and make sure that nothing can any more
    // It must not be sent again later: the server might have forgotten it, and add once more.
    // Infinite when resolving.
    absl::Time repeat_until;
  };
  // Nullopt when there is nothing. From then on `asking`, until Settle, NotSent or Withdraw; until
  // then it must not be called again.
  std::optional<Ask> Begin(absl::Time now);
  // What Begin returned does not go out.
  void NotSent() { asking_ = false; }
  // The same, and its amount waits again: it has not been applied and never will be.
  void Withdraw();

  // The answer to what was sent at `sent`: whether the amount of this flush is settled.
  absl::Status Settle(const absl::StatusOr<Reply>& reply, absl::Time sent);
  // How long to rest after it.
  absl::Duration Pause() const;

  // ---- What is where ----

  bool asking() const { return asking_; }
  bool empty() const { return !flush_ && waiting_ == 0; }
  // Not known to be on the server.
  Wide local() const { return waiting_ + (flush_ ? flush_->amount : 0); }
  // The server's value, when it last said it.
  std::int64_t known() const { return known_; }
  void Learn(std::int64_t value) { known_ = value; }

  // All that has been put in is on the server when the flush of this number is; when that is
  // begun, it may be told that it takes one more, as it did not fit in.
  std::uint64_t Target() const { return begun_ + (waiting_ != 0 ? 1 : 0); }
  bool Splits(std::uint64_t target) const;
  bool Reached(std::uint64_t target) const { return settled_ >= target; }

  // ---- What is lost ----

  // Given up since the last call, as the server may have forgotten whether it was applied; of more
  // than 64 bits the rest comes with the next.
  std::int64_t TakeForgotten();

  struct Loss {
    std::int64_t unknown = 0;  // may have been applied, or yet be
    std::int64_t amount = 0;   // is not and will not be
  };
  // Gives up all but what is forgotten. An answer that comes later settles nothing.
  Loss GiveUp();

 private:
  // One, until its outcome is known.
  struct Flush {
    std::int64_t amount;
    OperationId id;
    std::uint64_t number;
    absl::Time doubtful = absl::InfiniteFuture();  // since when it may have been applied
    bool resolving = false;
  };

  absl::Status SettleFlush(const Reply& reply);
  absl::Status SettleValue(std::string_view value, bool applied);

  const Terms terms_;
  Wide waiting_ = 0;
  std::optional<Flush> flush_;
  bool asking_ = false;
  std::uint64_t begun_ = 0;    // number of the last one
  std::uint64_t settled_ = 0;  // of the last that was applied
  std::int64_t known_ = 0;
  Wide forgotten_ = 0;
  int failures_ = 0;  // in a row
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_COUNTER_FLUSH_H_
