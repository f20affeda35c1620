#include "coord/sharded_counter.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "coord/counter.h"
#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/internal/counter_flush.h"
#include "coord/internal/deadline.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/worker.h"
#include "coord/operation_id.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::Clamp;
using internal::CounterFlush;
using internal::MutexLock;
using internal::Quoted;
using internal::StrCat;
using internal::Wide;

// What a shard takes in one addition, and from where on it is emptied at once. The distance from
// there to its end is that of 2^30 additions, more than can be under way.
constexpr std::int64_t kSmall = std::int64_t{1} << 32;
constexpr std::int64_t kFull = std::int64_t{1} << 62;
constexpr int kShardBits = 4;
// Until the next attempt where there were no random bits for an id.
constexpr absl::Duration kNoBitsPause = absl::Seconds(1);
// How long a client that closes lets us try (Session::Close waits no longer).
constexpr absl::Duration kLastWords = absl::Milliseconds(300);

bool Within(std::int64_t value, std::int64_t limit) { return value >= -limit && value <= limit; }

absl::Status CheckOptions(const ShardedCounterOptions& options) {
  if (options.flush_interval < absl::Milliseconds(1) || options.flush_interval > absl::Hours(1)) {
    return internal::InvalidArgument(StrCat(
        "flush_interval is ", internal::ToText(options.flush_interval), "; it must be 1ms to 1h"));
  }
  if (options.close_timeout <= absl::ZeroDuration() || options.close_timeout > absl::Hours(24)) {
    return internal::InvalidArgument(StrCat("close_timeout is ",
                                            internal::ToText(options.close_timeout),
                                            "; it must be above 0 and at most 24h"));
  }
  return absl::OkStatus();
}

// Spreads threads over the shards: their descriptors differ in bits that a product brings to the
// top.
std::size_t ShardOfThread() {
  const auto self = static_cast<std::uint64_t>(pthread_self());
  return static_cast<std::size_t>((self * 0x9e3779b97f4a7c15u) >> (64 - kShardBits));
}

}  // namespace

// Every unit that was added is in exactly one place: a shard, or flush_.
class ShardedCounter::Core final : public internal::Beat,
                                   public std::enable_shared_from_this<ShardedCounter::Core> {
 public:
  Core(internal::Session& session, std::string_view name, ShardedCounterOptions options)
      : session_(session),
        name_(name),
        options_(std::move(options)),
        flush_({options_.flush_interval, session.options().operation_window}) {
    usable_ = CheckOptions(options_);
    absl::StatusOr<std::string> key = session.Key("counter", name, "count");
    if (!key.ok()) {
      usable_ = key.status();
    } else {
      key_ = *std::move(key);
    }
  }

  void Add(std::int64_t amount) {
    if (session_.forked()) return AddInChild(amount);
    if (!Within(amount, kSmall)) {
      MutexLock lock(mutex_);
      flush_.Put(amount);
    } else {
      const std::int64_t before = shards_[ShardOfThread()].sum.fetch_add(amount);
      if (!Within(before, kFull)) {
        MutexLock lock(mutex_);
        Collect();
      }
    }
    if (!awake_.load()) Wake();
  }

  absl::Status Flush(const internal::CallLimits& limits);
  absl::StatusOr<std::int64_t> Exact(const Client& client, const CallOptions& call);
  std::int64_t Approximate();
  std::int64_t Pending();
  // What is lost with us.
  struct Loss : CounterFlush::Loss {
    absl::Status why;
  };
  Loss Close(const CallOptions& call);
  Loss Rest(absl::Status why);

  bool closed() {
    MutexLock lock(mutex_);
    return closed_;
  }
  const ShardedCounterOptions& options() const { return options_; }
  internal::Session& session() { return session_; }
  std::string Title() const { return StrCat("sharded counter ", Quoted(name_)); }

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    return closed_ ? absl::InfiniteFuture() : next_;
  }
  std::optional<Ask> Tick(absl::Time now) override;
  void Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) override;
  void Closed() override {
    MutexLock lock(mutex_);
    last_words_ = session_.clock().Now() + kLastWords;
    if (!flush_.asking()) next_ = absl::InfinitePast();
  }
  // A client that closes lets us bring what is here.
  bool owed() const override { return true; }

 private:
  struct alignas(64) Shard {
    std::atomic<std::int64_t> sum{0};
  };

  void AddInChild(std::int64_t amount);
  void Wake();
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (Shard& shard : shards_) {
      if (shard.sum.load() != 0) flush_.Put(shard.sum.exchange(0));
    }
  }
  // What to send now, if there is something; the answer goes to Settle.
  struct Sending {
    internal::Request request;
    CounterFlush::Ask what;
  };
  absl::StatusOr<std::optional<Sending>> Begin(absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Settle(const absl::StatusOr<Reply>& reply, absl::Time sent, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellLosses();
  absl::Status Forgotten(std::int64_t amount) const;
  absl::Status Still(const absl::Status& why);

  internal::Session& session_;
  const std::string name_;
  const ShardedCounterOptions options_;
  absl::Status usable_;  // constant after construction, as is
  std::string key_;

  std::array<Shard, std::size_t{1} << kShardBits> shards_;
  std::atomic<bool> awake_{false};  // the background will look by itself
  std::atomic<std::int64_t> in_child_{0};

  internal::Mutex mutex_;
  internal::CondVar changed_;
  CounterFlush flush_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::Time last_words_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // client closes by then
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

void ShardedCounter::Core::AddInChild(std::int64_t amount) {
  std::int64_t before = in_child_.load();
  while (!in_child_.compare_exchange_weak(before, Clamp(Wide{before} + amount))) {
  }
}

// The additions of an interval go together; without any, nobody wakes up.
void ShardedCounter::Core::Wake() {
  if (awake_.exchange(true)) return;
  {
    MutexLock lock(mutex_);
    if (closed_ || !usable_.ok()) return;
    if (!flush_.asking()) next_ = std::min(next_, session_.clock().Now() + options_.flush_interval);
  }
  if (session_.background().Add(shared_from_this())) {
    session_.background().Reschedule(*this);
  } else {
    awake_.store(false);  // no thread now; the next addition may find one
  }
}

absl::StatusOr<std::optional<ShardedCounter::Core::Sending>> ShardedCounter::Core::Begin(
    absl::Time now) {
  Collect();
  std::optional<CounterFlush::Ask> what = flush_.Begin(now);
  if (!what) return std::optional<Sending>();
  const std::string amount = StrCat(what->amount);
  const std::initializer_list<std::string_view> arguments = {amount,   "", "",
                                                             "reject", "", "create"};
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session_, "counter", name_, what->id, 'c', arguments);
  if (!once.ok()) {  // no random bits for an id
    flush_.Withdraw();
    return once.status();
  }
  next_ = absl::InfiniteFuture();
  if (what->resolving) {
    return Sending{internal::Bind(internal::kOperationResolve, {(*once)->recent, (*once)->older},
                                  {(*once)->id, "c", (*once)->window_ms}),
                   *std::move(what)};
  }
  std::vector<std::string_view> keys = {key_}, args = arguments;
  (*once)->AppendTo(keys, args);
  internal::Request request = internal::Request::Call(internal::kCounterAdd, keys, args);
  request.set_retry_safe(true);
  return Sending{std::move(request), *std::move(what)};
}

void ShardedCounter::Core::TellLosses() {
  if (!options_.on_loss) return;
  std::int64_t amount = 0;
  {
    MutexLock lock(mutex_);
    amount = flush_.TakeForgotten();
  }
  if (amount == 0) return;
  session_.Post([tell = options_.on_loss, amount, why = Forgotten(amount)] { tell(amount, why); });
}

absl::Status ShardedCounter::Core::Forgotten(std::int64_t amount) const {
  return internal::MakeStatus(
      absl::StatusCode::kDataLoss,
      StrCat(Title(), ": the server was away for longer than it remembers operations; ", amount,
             " may have been counted or not, and will not be sent again"),
      internal::kOutcomeUnknown);
}

absl::Status ShardedCounter::Core::Settle(const absl::StatusOr<Reply>& reply, absl::Time sent,
                                          absl::Time now) {
  changed_.NotifyAll();
  absl::Status status = flush_.Settle(reply, sent);
  next_ = now + flush_.Pause();
  return status;
}

std::optional<internal::Beat::Ask> ShardedCounter::Core::Tick(absl::Time now) {
  std::optional<Ask> ask;
  bool leave = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return std::nullopt;
    next_ = absl::InfiniteFuture();
    if (flush_.asking()) return std::nullopt;
    const bool closing = last_words_ != absl::InfiniteFuture();
    awake_.store(false);
    // Who adds from here on wakes us; what was added before is seen.
    absl::StatusOr<std::optional<Sending>> sending = Begin(now);
    if (sending.ok() && *sending && now < last_words_) {
      awake_.store(true);
      ask = Ask{std::move((*sending)->request), session_.options().timeout};
    } else {
      flush_.NotSent();
      if (!sending.ok()) next_ = now + kNoBitsPause;
      leave = closing;
    }
  }
  TellLosses();
  if (leave) session_.background().Remove(*this);
  return ask;
}

void ShardedCounter::Core::Answer(absl::StatusOr<Reply> reply, absl::Time sent, absl::Time now) {
  MutexLock lock(mutex_);
  (void)Settle(reply, sent, now);
  if (last_words_ != absl::InfiniteFuture()) next_ = now + absl::Milliseconds(20);
}

// Of a flush that failed, an unknown outcome is our own affair: it is found out.
absl::Status ShardedCounter::Core::Still(const absl::Status& why) {
  return internal::MakeStatus(
      why.code(),
      StrCat(Title(), ": ", Pending(), " not flushed yet: ", internal::FromAbsl(why.message())),
      internal::Reasons(why) & ~unsigned{internal::kOutcomeUnknown});
}

absl::Status ShardedCounter::Core::Flush(const internal::CallLimits& limits) {
  if (absl::Status status = session_.Usable(); !status.ok()) return Still(status);
  if (!usable_.ok()) return Still(usable_);
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits.stop.stop_possible()) on_stop.emplace(limits.stop, wake);

  std::uint64_t target = 0;  // everything is in operations up to this one
  {
    MutexLock lock(mutex_);
    Collect();
    target = flush_.Target();
  }
  while (true) {
    std::optional<internal::Request> request;
    internal::CallLimits within = limits;
    absl::Status failed;
    absl::Time now;
    {
      MutexLock lock(mutex_);
      while (flush_.asking() && !flush_.Reached(target) && !limits.stop.stop_requested() &&
             !internal::Passed(limits.deadline)) {
        changed_.WaitUntil(mutex_, limits.deadline);
      }
      if (closed_) {
        failed = internal::MakeStatus(absl::StatusCode::kFailedPrecondition, "it is closed");
      } else if (flush_.Reached(target) || flush_.empty()) {
        // Who is told by on_loss has been, or will be.
        const std::int64_t forgotten = options_.on_loss ? 0 : flush_.TakeForgotten();
        return forgotten == 0 ? absl::OkStatus() : Forgotten(forgotten);
      } else if (flush_.asking()) {
        failed =
            internal::MakeStatus(limits.stop.stop_requested() ? absl::StatusCode::kCancelled
                                                              : absl::StatusCode::kDeadlineExceeded,
                                 "a flush under way was not answered in time");
      } else {
        now = session_.clock().Now();
        absl::StatusOr<std::optional<Sending>> begun = Begin(now);
        if (!begun.ok()) {
          failed = begun.status();
        } else if (*begun) {
          if (flush_.Splits(target)) ++target;
          request = std::move((*begun)->request);
          const absl::Time until = (*begun)->what.repeat_until;
          if (until != absl::InfiniteFuture()) {
            within.deadline = std::min(within.deadline, internal::DeadlineAfter(until - now));
          }
        }
      }
    }
    TellLosses();
    if (!request && failed.ok()) continue;
    if (!request) return Still(failed);
    const absl::StatusOr<Reply> reply = session_.Execute(*std::move(request), within);
    absl::Status status;
    {
      MutexLock lock(mutex_);
      status = Settle(reply, now, session_.clock().Now());
    }
    session_.background().Reschedule(*this);
    if (!status.ok()) return Still(status);
  }
}

absl::StatusOr<std::int64_t> ShardedCounter::Core::Exact(const Client& client,
                                                         const CallOptions& call) {
  absl::StatusOr<internal::CallLimits> limits = session_.Limits(call);
  if (!limits.ok()) return limits.status();
  if (absl::Status status = Flush(*limits); !status.ok()) return status;
  CallOptions rest = call;
  rest.timeout = std::max(internal::TimeUntil(limits->deadline), absl::Milliseconds(1));
  absl::StatusOr<std::int64_t> value = Counter(client, name_).Get(rest);
  if (value.ok()) {
    MutexLock lock(mutex_);
    flush_.Learn(*value);
  }
  return value;
}

std::int64_t ShardedCounter::Core::Approximate() {
  if (session_.forked()) return in_child_.load();
  MutexLock lock(mutex_);
  Collect();
  return Clamp(flush_.known() + flush_.local());
}

std::int64_t ShardedCounter::Core::Pending() {
  if (session_.forked()) return in_child_.load();
  MutexLock lock(mutex_);
  Collect();
  return Clamp(flush_.local());
}

ShardedCounter::Core::Loss ShardedCounter::Core::Rest(absl::Status why) {
  if (session_.forked()) return {{0, in_child_.exchange(0)}, std::move(why)};
  MutexLock lock(mutex_);
  closed_ = true;
  Collect();
  return {flush_.GiveUp(), std::move(why)};
}

ShardedCounter::Core::Loss ShardedCounter::Core::Close(const CallOptions& call) {
  absl::StatusOr<internal::CallLimits> limits = session_.Limits(call);
  Loss loss = Rest(limits.ok() ? Flush(*limits) : limits.status());
  if (!session_.forked()) session_.background().Remove(*this);
  return loss;
}

ShardedCounter::ShardedCounter(Client client, std::string_view name, ShardedCounterOptions options)
    : client_(std::move(client)),
      core_(std::make_shared<Core>(internal::SessionOf(client_), name, std::move(options))) {}

ShardedCounter::~ShardedCounter() {
  const absl::Duration patience = std::clamp(core_->options().close_timeout, absl::Milliseconds(1),
                                             absl::Duration(absl::Hours(24)));
  const bool forked = core_->session().forked();
  const Core::Loss loss =
      forked            ? core_->Rest(core_->session().Usable())
      : core_->closed() ? core_->Rest(internal::MakeStatus(absl::StatusCode::kFailedPrecondition,
                                                           "it was added after Close"))
                        : core_->Close({.timeout = patience});
  if (!core_->options().on_loss) return;
  const auto tell = [&](std::int64_t amount, unsigned reason) {
    if (amount == 0) return;
    const absl::Status why = internal::MakeStatus(
        loss.why.ok() ? absl::StatusCode::kFailedPrecondition : loss.why.code(),
        StrCat(core_->Title(), ": ", amount,
               reason == 0 ? " were not counted: " : " may have been counted or not: ",
               internal::FromAbsl(loss.why.message())),
        reason);
    internal::RunGuarded([&] { core_->options().on_loss(amount, why); });
  };
  tell(loss.unknown, internal::kOutcomeUnknown);
  tell(loss.amount, 0);
}

void ShardedCounter::Add(std::int64_t amount) { core_->Add(amount); }

absl::Status ShardedCounter::Flush(CallOptions call) {
  absl::StatusOr<internal::CallLimits> limits = core_->session().Limits(call);
  if (!limits.ok()) return limits.status();
  return core_->Flush(*limits);
}

absl::StatusOr<std::int64_t> ShardedCounter::Exact(CallOptions call) {
  return core_->Exact(client_, call);
}

std::int64_t ShardedCounter::Approximate() const { return core_->Approximate(); }
std::int64_t ShardedCounter::pending() const { return core_->Pending(); }

absl::Status ShardedCounter::Close(CallOptions call) {
  if (!core_->session().forked() && core_->closed()) return absl::OkStatus();
  const Core::Loss loss = core_->Close(call);
  if (loss.unknown == 0 && loss.amount == 0) return loss.why;
  return internal::MakeStatus(
      loss.why.ok() ? absl::StatusCode::kFailedPrecondition : loss.why.code(),
      StrCat(core_->Title(), " is closed; ", loss.amount, " were not counted and ", loss.unknown,
             " may have been: ", internal::FromAbsl(loss.why.message())),
      internal::Reasons(loss.why) | (loss.unknown != 0 ? internal::kOutcomeUnknown : 0u));
}

}  // namespace coord
