#include "coord/internal/counter_flush.h"

#include <algorithm>
#include <limits>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

// Between attempts after failures, however long the interval is: the server does not remember for
// ever.
constexpr absl::Duration kLongestPause = absl::Seconds(1);

}  // namespace

std::int64_t Clamp(Wide value) {
  return static_cast<std::int64_t>(std::clamp<Wide>(value, std::numeric_limits<std::int64_t>::min(),
                                                    std::numeric_limits<std::int64_t>::max()));
}

std::optional<CounterFlush::Ask> CounterFlush::Begin(absl::Time now) {
  // The server keeps what became of an operation for its window; nobody can tell later.
  if (flush_ && now >= flush_->doubtful + terms_.window - terms_.window / 8) {
    forgotten_ += flush_->amount;
    flush_.reset();
  }
  if (!flush_) {
    if (waiting_ == 0) return std::nullopt;
    flush_.emplace(Flush{Clamp(waiting_), terms_.new_id(), ++begun_});
    waiting_ -= flush_->amount;
  }
  // A repetition must not arrive after the window, so from its half on we only ask.
  flush_->resolving = now >= flush_->doubtful + terms_.window / 2;
  asking_ = true;
  return Ask{flush_->amount, flush_->id, flush_->number, flush_->resolving,
             flush_->resolving ? absl::InfiniteFuture()
                               : std::min(now, flush_->doubtful) + terms_.window / 2};
}

void CounterFlush::Withdraw() {
  asking_ = false;
  if (!flush_) return;
  waiting_ += flush_->amount;
  flush_.reset();
}

bool CounterFlush::Splits(std::uint64_t target) const {
  return flush_ && flush_->number == target && waiting_ != 0 && Clamp(local()) != local();
}

absl::Status CounterFlush::Settle(const absl::StatusOr<Reply>& reply, absl::Time sent) {
  asking_ = false;
  if (!flush_) return reply.status();  // given up, and accounted for
  absl::Status status = reply.ok() ? SettleFlush(*reply) : reply.status();
  if (!reply.ok() && IsOutcomeUnknown(status) && !flush_->resolving) {
    flush_->doubtful = std::min(flush_->doubtful, sent);
  }
  failures_ = status.ok() ? 0 : std::min(failures_ + 1, 20);
  return status;
}

absl::Status CounterFlush::SettleFlush(const Reply& reply) {
  if (!flush_->resolving) {
    const auto items = reply.items();
    return items.size() == 2 ? SettleValue(items[0].text(), items[1].integer() == 1)
                             : SettleValue(reply.ToDebugString(), false);
  }
  if (reply.is_nil()) {
    Withdraw();  // goes again, as another
    return absl::OkStatus();
  }
  const std::string_view text = reply.text();
  const auto blank = std::min(text.find(' '), text.size());
  return SettleValue(text.substr(0, blank), text.substr(blank) == " 1");
}

absl::Status CounterFlush::SettleValue(std::string_view value, bool applied) {
  const std::optional<std::int64_t> number = ParseInt64(value);
  if (!number) {
    return MakeStatus(absl::StatusCode::kDataLoss, StrCat("counter_add answered ", Quoted(value)));
  }
  known_ = *number;
  if (applied) {
    settled_ = flush_->number;
    flush_.reset();
    return absl::OkStatus();
  }
  const std::int64_t amount = flush_->amount;
  Withdraw();
  return MakeStatus(absl::StatusCode::kOutOfRange, StrCat("the counter is ", *number, ", and ",
                                                          amount, " more would leave 64 bits"));
}

absl::Duration CounterFlush::Pause() const {
  if (failures_ == 0) return terms_.interval;
  absl::Duration pause = std::min(terms_.interval, kLongestPause);
  for (int i = 0; i < failures_ && pause < kLongestPause; ++i) pause *= 2;
  return std::min(pause, kLongestPause);
}

std::int64_t CounterFlush::TakeForgotten() {
  const std::int64_t amount = Clamp(forgotten_);
  forgotten_ -= amount;
  return amount;
}

CounterFlush::Loss CounterFlush::GiveUp() {
  Loss loss;
  // Under way counts as perhaps applied.
  if (flush_ && (asking_ || flush_->doubtful != absl::InfiniteFuture())) {
    loss.unknown = flush_->amount;
    loss.amount = Clamp(waiting_);
  } else {
    loss.amount = Clamp(local());
  }
  waiting_ = 0;
  flush_.reset();
  return loss;
}

}  // namespace coord::internal
