#include "coord/local_budget.h"

#include <algorithm>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "coord/deployment/background.h"
#include "coord/deployment/session.h"
#include "coord/internal/deadline.h"
#include "coord/internal/permit_block.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::MutexLock;
using internal::PermitBlock;
using internal::Quoted;
using internal::StrCat;

absl::Status CheckOptions(const LocalBudgetOptions& options, std::int64_t burst) {
  if (options.block < 0 || options.block > burst) {
    return InvalidArgument(StrCat("block is ", options.block, "; it must be 1 to ", burst,
                                  ", the burst, or 0 for a block by what is spent"));
  }
  if (options.max_age < absl::Milliseconds(1) || options.max_age > absl::Hours(1)) {
    return InvalidArgument(
        StrCat("max_age is ", internal::ToText(options.max_age), "; it must be 1ms to 1h"));
  }
  if (options.close_timeout <= absl::ZeroDuration() || options.close_timeout > absl::Hours(24)) {
    return InvalidArgument(StrCat("close_timeout is ", internal::ToText(options.close_timeout),
                                  "; it must be above 0 and at most 24h"));
  }
  return absl::OkStatus();
}

}  // namespace

class LocalBudget::Core final : public internal::Beat,
                                public std::enable_shared_from_this<LocalBudget::Core> {
 public:
  // `session` outlives it. The numbers are of no account where `usable` is an error.
  Core(internal::Session& session, std::string_view name, RateLimiter::GcraKey key,
       absl::Status usable, const LocalBudgetOptions& options)
      : session_(session),
        name_(name),
        key_(std::move(key.key)),
        window_us_(key.window_us),
        burst_(key.burst),
        usable_(std::move(usable)),
        options_(options),
        block_({absl::Microseconds(key.interval_us), key.burst, options.max_age, options.block}) {}

  absl::StatusOr<RateDecision> Take(const RateLimiter& limiter, std::int64_t cost,
                                    const CallOptions& call) {
    // A child has a copy of the permits, and perhaps of a lock that nobody will open.
    if (session_.forked()) return session_.Usable();
    if (cost >= 1) {
      MutexLock lock(mutex_);
      const absl::Time now = session_.clock().Now();
      if (block_.Take(cost, now)) return Allowed(cost, now);
    }
    return Fetch(limiter, cost, call);
  }

  absl::Status Return(const CallOptions& call);
  void Leave() { session_.background().Remove(*this); }
  bool forked() const { return session_.forked(); }
  const LocalBudgetOptions& options() const { return options_; }
  std::int64_t held() {
    if (session_.forked()) return 0;
    MutexLock lock(mutex_);
    block_.Expire(session_.clock().Now());
    return block_.left();
  }

  absl::Time NextTick() override {
    MutexLock lock(mutex_);
    if (asking_) return absl::InfiniteFuture();
    return closing_ ? absl::InfinitePast() : block_.NextUnused();
  }
  std::optional<Ask> Tick(absl::Time now) override;
  // Whether or not it was applied, it is not repeated: given back twice would be too many.
  void Answer(absl::StatusOr<Reply>, absl::Time, absl::Time) override {
    MutexLock lock(mutex_);
    asking_ = false;
  }
  void Closed() override {
    MutexLock lock(mutex_);
    closing_ = true;
    block_.Retire();
  }
  // A client that closes lets us give back what is here.
  bool owed() const override { return true; }

 private:
  absl::StatusOr<RateDecision> Fetch(const RateLimiter& limiter, std::int64_t cost,
                                     const CallOptions& call);
  // One question, after others' have been waited for; nullopt to ask again.
  std::optional<absl::StatusOr<RateDecision>> FetchOnce(const RateLimiter& limiter,
                                                        std::int64_t cost, const CallOptions& call,
                                                        const internal::CallLimits& limits);
  // Whether permits came that can be spent.
  bool Settle(const RateDecision& answer, absl::Time sent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Schedule();

  RateDecision Allowed(std::int64_t cost, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RateDecision decision;
    decision.allowed = true;
    decision.limit = burst_;
    decision.remaining = block_.left();
    decision.reset_after = block_.WholeAfter(now);
    decision.taken = cost;
    return decision;
  }
  RateDecision Denied(std::int64_t cost, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RateDecision decision;
    decision.limit = burst_;
    decision.remaining = block_.left();
    // What has come in the meantime may be there at once; a time is said all the same.
    decision.retry_after = std::max(block_.DeniedFor(cost, now), absl::Microseconds(1));
    decision.reset_after = block_.WholeAfter(now);
    decision.limiting_index = 0;
    return decision;
  }
  std::string Title() const { return StrCat("local budget ", Quoted(name_)); }

  internal::Session& session_;
  const std::string name_;
  const std::string key_;
  const std::int64_t window_us_;
  const std::int64_t burst_;
  const absl::Status usable_;
  const LocalBudgetOptions options_;

  internal::Mutex mutex_;
  internal::CondVar changed_;
  PermitBlock block_ ABSL_GUARDED_BY(mutex_);
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
  bool asking_ ABSL_GUARDED_BY(mutex_) = false;     // the background gives some back
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;  // the background will look by itself
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::StatusOr<RateDecision> LocalBudget::Core::Fetch(const RateLimiter& limiter, std::int64_t cost,
                                                      const CallOptions& call) {
  if (!usable_.ok()) return usable_;
  if (cost < 1) return InvalidArgument(StrCat("cost is ", cost, "; it must be at least 1"));
  absl::StatusOr<internal::CallLimits> limits = session_.Limits(call);
  if (!limits.ok()) return limits.status();
  if (cost > burst_) {
    MutexLock lock(mutex_);
    RateDecision never = Denied(1, session_.clock().Now());
    never.retry_after = absl::InfiniteDuration();
    return never;
  }
  const auto wake = [this] {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  std::optional<std::stop_callback<decltype(wake)>> on_stop;
  if (limits->stop.stop_possible()) on_stop.emplace(limits->stop, wake);

  // More than once only where others took, in the meantime, what was counted on.
  while (true) {
    std::optional<absl::StatusOr<RateDecision>> decision = FetchOnce(limiter, cost, call, *limits);
    if (decision) return *std::move(decision);
  }
}

std::optional<absl::StatusOr<RateDecision>> LocalBudget::Core::FetchOnce(
    const RateLimiter& limiter, std::int64_t cost, const CallOptions& call,
    const internal::CallLimits& limits) {
  std::int64_t wanted = 0;
  absl::Time sent;
  {
    MutexLock lock(mutex_);
    while (true) {
      sent = session_.clock().Now();
      block_.Expire(sent);
      if (block_.Take(cost, sent)) return Allowed(cost, sent);
      if (!block_.MayAsk(cost, sent)) return Denied(cost, sent);
      if (!fetching_) break;
      const bool stopped = limits.stop.stop_requested();
      if (stopped || internal::Passed(limits.deadline)) {
        return internal::MakeStatus(
            stopped ? absl::StatusCode::kCancelled : absl::StatusCode::kDeadlineExceeded,
            StrCat(Title(), ": another thread's request for permits was not answered in time"));
      }
      changed_.WaitUntil(mutex_, limits.deadline);
    }
    fetching_ = true;
    wanted = block_.Wanted(cost, sent);
  }
  CallOptions rest = call;
  // What was left of it may have gone in waiting for the others.
  rest.timeout = std::max(internal::TimeUntil(limits.deadline), absl::Microseconds(1));
  const absl::StatusOr<RateDecision> answer = limiter.TakeUpTo(name_, wanted, rest);
  std::optional<absl::StatusOr<RateDecision>> decision;
  {
    MutexLock lock(mutex_);
    fetching_ = false;
    changed_.NotifyAll();
    if (!answer.ok()) return internal::Annotate(answer.status(), Title());
    const bool in_time = Settle(*answer, sent);
    const absl::Time now = session_.clock().Now();
    // Before others can empty it.
    if (block_.Take(cost, now)) {
      decision = Allowed(cost, now);
    } else if (in_time) {
      if (answer->taken == 0 || !block_.MayAsk(cost, now)) decision = Denied(cost, now);
    } else {
      decision = internal::MakeStatus(
          absl::StatusCode::kUnavailable,
          StrCat(Title(), ": the server's answer took longer than max_age, ",
                 internal::ToText(options_.max_age), "; its permits are given back"),
          internal::kUnavailable);
    }
  }
  Schedule();
  return decision;
}

bool LocalBudget::Core::Settle(const RateDecision& answer, absl::Time sent) {
  const absl::Time now = session_.clock().Now();
  block_.Put(answer.taken, answer.reset_after, sent, now);
  if (closing_) block_.Retire();
  return answer.taken == 0 || block_.left() > 0;
}

// Once for all blocks until it has looked: who takes quickly does not wake it with each.
void LocalBudget::Core::Schedule() {
  {
    MutexLock lock(mutex_);
    if (scheduled_ || block_.NextUnused() == absl::InfiniteFuture()) return;
    scheduled_ = true;
  }
  if (session_.background().Add(shared_from_this())) {
    session_.background().Reschedule(*this);
    return;
  }
  // No thread now; the next block may find one.
  MutexLock lock(mutex_);
  scheduled_ = false;
}

std::optional<internal::Beat::Ask> LocalBudget::Core::Tick(absl::Time now) {
  std::optional<Ask> ask;
  bool leave = false;
  {
    MutexLock lock(mutex_);
    if (asking_) return std::nullopt;
    block_.Expire(now);
    const PermitBlock::Unused unused = block_.TakeUnused(now);
    scheduled_ = block_.NextUnused() != absl::InfiniteFuture();
    if (unused.worth > absl::ZeroDuration()) {
      asking_ = true;
      ask = Ask{RateLimiter::GiveBack(key_, window_us_, unused.worth), session_.options().timeout};
    } else {
      leave = closing_;
    }
  }
  if (leave) session_.background().Remove(*this);
  return ask;
}

absl::Status LocalBudget::Core::Return(const CallOptions& call) {
  if (session_.forked()) return session_.Usable();
  if (!usable_.ok()) return usable_;
  absl::StatusOr<internal::CallLimits> limits = session_.Limits(call);
  if (!limits.ok()) return limits.status();
  PermitBlock::Unused unused;
  {
    MutexLock lock(mutex_);
    block_.Retire();
    unused = block_.TakeUnused(session_.clock().Now());
  }
  if (unused.worth == absl::ZeroDuration()) return absl::OkStatus();
  return internal::Annotate(
      session_.Execute(RateLimiter::GiveBack(key_, window_us_, unused.worth), *limits).status(),
      StrCat(Title(), ": ", unused.permits, " permits not given back"));
}

LocalBudget::LocalBudget(Client client, const RateLimit& limit, std::string_view key,
                         LocalBudgetOptions options)
    : client_(std::move(client)), limiter_(client_, limit), core_([&] {
        absl::StatusOr<RateLimiter::GcraKey> gcra = limiter_.Gcra(key);
        absl::Status usable = gcra.ok() ? CheckOptions(options, gcra->burst) : gcra.status();
        return std::make_shared<Core>(internal::SessionOf(client_), key,
                                      gcra.ok() ? *std::move(gcra) : RateLimiter::GcraKey(),
                                      std::move(usable), options);
      }()) {}

LocalBudget::~LocalBudget() {
  if (core_->forked()) return;
  core_->Leave();
  core_->Return({.timeout = core_->options().close_timeout}).IgnoreError();
}

absl::StatusOr<RateDecision> LocalBudget::Take(std::int64_t cost, CallOptions call) {
  return core_->Take(limiter_, cost, call);
}

absl::Status LocalBudget::Return(CallOptions call) { return core_->Return(call); }
std::int64_t LocalBudget::held() const { return core_->held(); }

}  // namespace coord
