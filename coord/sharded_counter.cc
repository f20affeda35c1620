#include "coord/sharded_counter.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "coord/counter.h"
#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/worker.h"
#include "coord/operation_id.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::MutexLock;
using internal::Quoted;
using internal::StrCat;

__extension__ using Wide = __int128;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
// What a shard takes in one addition, and from where on it is emptied at once. The distance from
// there to its end is that of 2^30 additions, more than can be under way.
constexpr std::int64_t kSmall = std::int64_t{1} << 32;
constexpr std::int64_t kFull = std::int64_t{1} << 62;
constexpr int kShardBits = 4;
// Between attempts after failures, however long the interval is: the server does not remember for
// ever.
constexpr absl::Duration kLongestPause = absl::Seconds(1);
// How long a client that closes lets us try (Session::Close waits no longer).
constexpr absl::Duration kLastWords = absl::Milliseconds(300);

bool Within(std::int64_t value, std::int64_t limit) { return value >= -limit && value <= limit; }

std::int64_t Clamp(Wide value) {
  return static_cast<std::int64_t>(std::clamp<Wide>(value, kLeast, kMost));
}

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

// Every unit that was added is in exactly one place: a shard, pending_, or the one flush op_.
class ShardedCounter::Core final : public internal::Beat,
                                   public std::enable_shared_from_this<ShardedCounter::Core> {
 public:
  Core(internal::Session& session, std::string_view name, ShardedCounterOptions options)
      : session_(session), name_(name), options_(std::move(options)) {
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
      pending_ += amount;
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
  // What is lost with us: that which may have been applied, and that which is not.
  struct Loss {
    std::int64_t unknown = 0;
    std::int64_t amount = 0;
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
    if (!asking_) next_ = absl::InfinitePast();
  }
  // A client that closes lets us bring what is here.
  bool owed() const override { return true; }

 private:
  // One flush, until its outcome is known.
  struct Operation {
    std::int64_t amount;
    OperationId id;
    std::uint64_t number;
    absl::Time doubtful = absl::InfiniteFuture();  // since when it may have been applied
    bool resolving = false;                        // what was asked is what became of it
  };
  struct alignas(64) Shard {
    std::atomic<std::int64_t> sum{0};
  };

  void AddInChild(std::int64_t amount);
  void Wake();
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (Shard& shard : shards_) {
      if (shard.sum.load() != 0) pending_ += shard.sum.exchange(0);
    }
  }
  Wide Local() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return pending_ + (op_ ? op_->amount : 0);
  }
  // What to send now, if there is something; the answer goes to Settle.
  absl::StatusOr<std::optional<internal::Request>> Begin(absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Settle(const absl::StatusOr<Reply>& reply, absl::Time sent, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SettleValue(std::string_view value, bool applied)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // It has not been applied and never will be.
  void Withdraw() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    pending_ += op_->amount;
    op_.reset();
  }
  void TellLosses();
  absl::Status Forgotten(std::int64_t amount) const;
  absl::Duration Window() const { return session_.options().operation_window; }
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
  Wide pending_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<Operation> op_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t begun_ ABSL_GUARDED_BY(mutex_) = 0;    // number of the last one
  std::uint64_t settled_ ABSL_GUARDED_BY(mutex_) = 0;  // of the last that was applied
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;        // somebody waits for an answer for op_
  std::int64_t known_ ABSL_GUARDED_BY(mutex_) = 0;     // the server's value
  Wide unsaid_ ABSL_GUARDED_BY(mutex_) = 0;            // given up, and nobody was there to be told
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
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
    if (!asking_) next_ = std::min(next_, session_.clock().Now() + options_.flush_interval);
  }
  if (session_.background().Add(shared_from_this())) session_.background().Reschedule(*this);
}

absl::StatusOr<std::optional<internal::Request>> ShardedCounter::Core::Begin(absl::Time now) {
  Collect();
  // The server keeps what became of an operation for its window; nobody can tell later.
  if (op_ && now >= op_->doubtful + Window() - Window() / 8) {
    unsaid_ += op_->amount;
    op_.reset();
  }
  if (!op_) {
    if (pending_ == 0) return std::optional<internal::Request>();
    op_.emplace(Operation{Clamp(pending_), OperationId::New(), ++begun_});
    pending_ -= op_->amount;
  }
  const std::string amount = StrCat(op_->amount);
  const std::initializer_list<std::string_view> arguments = {amount,   "", "",
                                                             "reject", "", "create"};
  absl::StatusOr<std::optional<internal::Once>> once =
      internal::PrepareOnce(session_, "counter", name_, op_->id, 'c', arguments);
  if (!once.ok()) {  // no random bits for an id
    Withdraw();
    return once.status();
  }
  // A repetition must not arrive after the window, so from its half on we only ask.
  op_->resolving = now >= op_->doubtful + Window() / 2;
  std::optional<internal::Request> request;
  if (op_->resolving) {
    request = internal::Bind(internal::kOperationResolve, {(*once)->recent, (*once)->older},
                             {(*once)->id, "c", (*once)->window_ms});
  } else {
    std::vector<std::string_view> keys = {key_}, args = arguments;
    (*once)->AppendTo(keys, args);
    request = internal::Request::Call(internal::kCounterAdd, keys, args);
    request->set_retry_safe(true);
  }
  asking_ = true;
  next_ = absl::InfiniteFuture();
  return request;
}

void ShardedCounter::Core::TellLosses() {
  if (!options_.on_loss) return;
  std::int64_t amount = 0;
  {
    MutexLock lock(mutex_);
    amount = Clamp(unsaid_);
    unsaid_ -= amount;
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

absl::Status ShardedCounter::Core::SettleValue(std::string_view value, bool applied) {
  const std::optional<std::int64_t> number = internal::ParseInt64(value);
  if (!number) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat("counter_add answered ", Quoted(value)));
  }
  known_ = *number;
  if (applied) {
    settled_ = op_->number;
    op_.reset();
    return absl::OkStatus();
  }
  const std::int64_t amount = op_->amount;
  Withdraw();
  return internal::MakeStatus(
      absl::StatusCode::kOutOfRange,
      StrCat("the counter is ", *number, ", and ", amount, " more would leave 64 bits"));
}

absl::Status ShardedCounter::Core::Settle(const absl::StatusOr<Reply>& reply, absl::Time sent,
                                          absl::Time now) {
  absl::Status status;
  asking_ = false;
  changed_.NotifyAll();
  if (!op_) return reply.status();  // closed, and accounted for
  if (!reply.ok()) {
    status = reply.status();
    if (IsOutcomeUnknown(status) && !op_->resolving) op_->doubtful = std::min(op_->doubtful, sent);
  } else if (!op_->resolving) {
    const auto items = reply->items();
    status = items.size() == 2 ? SettleValue(items[0].text(), items[1].integer() == 1)
                               : SettleValue(reply->ToDebugString(), false);
  } else if (reply->is_nil()) {
    Withdraw();  // goes again, as another
  } else {
    const std::string_view text = reply->text();
    const auto blank = std::min(text.find(' '), text.size());
    status = SettleValue(text.substr(0, blank), text.substr(blank) == " 1");
  }
  failures_ = status.ok() ? 0 : std::min(failures_ + 1, 20);
  absl::Duration pause = std::min(options_.flush_interval, kLongestPause);
  for (int i = 0; i < failures_ && pause < kLongestPause; ++i) pause *= 2;
  next_ = now + (failures_ == 0 ? options_.flush_interval : std::min(pause, kLongestPause));
  return status;
}

std::optional<internal::Beat::Ask> ShardedCounter::Core::Tick(absl::Time now) {
  std::optional<Ask> ask;
  bool leave = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return std::nullopt;
    next_ = absl::InfiniteFuture();
    if (asking_) return std::nullopt;
    const bool closing = last_words_ != absl::InfiniteFuture();
    awake_.store(false);
    // Who adds from here on wakes us; what was added before is seen.
    absl::StatusOr<std::optional<internal::Request>> request = Begin(now);
    if (request.ok() && *request && now < last_words_) {
      awake_.store(true);
      ask = Ask{*std::move(*request), session_.options().timeout};
    } else {
      if (request.ok() && *request) asking_ = false;
      if (!request.ok()) next_ = now + kLongestPause;
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
    target = begun_ + (pending_ != 0 ? 1 : 0);
  }
  while (true) {
    std::optional<internal::Request> request;
    internal::CallLimits within = limits;
    absl::Status failed;
    absl::Time now;
    {
      MutexLock lock(mutex_);
      while (asking_ && settled_ < target && !limits.stop.stop_requested() &&
             !internal::Passed(limits.deadline)) {
        changed_.WaitUntil(mutex_, limits.deadline);
      }
      if (closed_) {
        failed = internal::MakeStatus(absl::StatusCode::kFailedPrecondition, "it is closed");
      } else if (settled_ >= target || (!op_ && pending_ == 0)) {
        if (unsaid_ == 0) return absl::OkStatus();
        return Forgotten(Clamp(std::exchange(unsaid_, 0)));
      } else if (asking_) {
        failed =
            internal::MakeStatus(limits.stop.stop_requested() ? absl::StatusCode::kCancelled
                                                              : absl::StatusCode::kDeadlineExceeded,
                                 "a flush under way was not answered in time");
      } else {
        now = session_.clock().Now();
        absl::StatusOr<std::optional<internal::Request>> begun = Begin(now);
        if (!begun.ok()) {
          failed = begun.status();
        } else if (!*begun) {
          continue;
        } else {
          request = *std::move(begun);
          // What does not fit into one goes in several.
          if (op_->number == target && pending_ != 0 && Clamp(Local()) != Local()) ++target;
          if (!op_->resolving) {
            const absl::Time until = std::min(now, op_->doubtful) + Window() / 2;
            within.deadline = std::min(within.deadline, internal::DeadlineAfter(until - now));
          }
        }
      }
    }
    TellLosses();
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
    known_ = *value;
  }
  return value;
}

std::int64_t ShardedCounter::Core::Approximate() {
  if (session_.forked()) return in_child_.load();
  MutexLock lock(mutex_);
  Collect();
  return Clamp(known_ + Local());
}

std::int64_t ShardedCounter::Core::Pending() {
  if (session_.forked()) return in_child_.load();
  MutexLock lock(mutex_);
  Collect();
  return Clamp(Local());
}

ShardedCounter::Core::Loss ShardedCounter::Core::Rest(absl::Status why) {
  if (session_.forked()) return {0, in_child_.exchange(0), std::move(why)};
  MutexLock lock(mutex_);
  closed_ = true;
  Collect();
  Loss loss;
  // Under way counts as perhaps applied.
  if (op_ && (asking_ || op_->doubtful != absl::InfiniteFuture())) {
    loss.unknown = op_->amount;
    loss.amount = Clamp(pending_);
  } else {
    loss.amount = Clamp(Local());
  }
  pending_ = 0;
  op_.reset();
  loss.why = std::move(why);
  return loss;
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
