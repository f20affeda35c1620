#include "coord/rate_limiter.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "coord/deployment/session.h"
#include "coord/errors.h"
#include "coord/internal/deadline.h"
#include "coord/internal/local_limiter.h"
#include "coord/internal/once.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "coord/internal/waiting.h"
#include "scripts.h"

namespace coord {
namespace {

using internal::InvalidArgument;
using internal::Quoted;
using internal::StrCat;

using Algorithm = RateLimit::Algorithm;

// Of fingerprints: of one limit, and of several.
constexpr char kKind = 'r';
constexpr char kAllKind = 'R';

// The scripts count in doubles: server time (2^50.7 us now) plus a burst's window must stay below
// 2^53, and so must each product.
constexpr std::int64_t kMaxWindowUs = 4'000'000'000'000'000;  // 126 years
constexpr std::int64_t kMaxProduct = 9'000'000'000'000'000;
constexpr std::int64_t kMaxPermits = 1'000'000'000'000;
// Each is an entry of a list on the server, and is written down one by one.
constexpr std::int64_t kMaxLog = 10'000;
constexpr std::size_t kMaxLimits = 32;
// What kLocal remembers.
constexpr std::size_t kMaxLocalKeys = 10'000;
// When to ask again a server that is away: nobody knows.
constexpr absl::Duration kAwayRetry = absl::Seconds(1);

std::string_view PartOf(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kGcra:
      return "gcra";
    case Algorithm::kTokenBucket:
      return "bucket";
    case Algorithm::kFixedWindow:
      return "fixed";
    case Algorithm::kSlidingWindow:
      return "sliding";
    case Algorithm::kSlidingLog:
      return "log";
  }
  return "gcra";
}

absl::Status CheckLimit(const RateLimit& limit, std::int64_t burst) {
  if (limit.permits < 1 || limit.permits > kMaxPermits) {
    return InvalidArgument(
        StrCat("rate has ", limit.permits, " permits; it must have 1 to ", kMaxPermits));
  }
  if (limit.period <= absl::ZeroDuration() || limit.period > absl::Hours(24 * 366)) {
    return InvalidArgument(StrCat("rate has a period of ", internal::ToText(limit.period),
                                  "; it must be above 0 and at most 366 days"));
  }
  if (burst < 1 || burst > kMaxPermits) {
    return InvalidArgument(StrCat("burst is ", burst, "; it must be 1 to ", kMaxPermits));
  }
  if (limit.period / limit.permits < absl::Microseconds(1)) {
    return InvalidArgument(StrCat("rate of ", limit.permits, " permits every ",
                                  internal::ToText(limit.period),
                                  " is one in less than a microsecond, which is the least"));
  }
  return absl::OkStatus();
}

absl::Status CheckWindow(const RateLimit& limit, std::int64_t burst, std::int64_t period_us) {
  if (burst != limit.permits) {
    return InvalidArgument(StrCat("burst is ", burst, "; a window of ", limit.permits,
                                  " permits lets those through at once and no other number"));
  }
  if (limit.algorithm == Algorithm::kSlidingLog && limit.permits > kMaxLog) {
    return InvalidArgument(StrCat("rate has ", limit.permits,
                                  " permits; a sliding log has at most ", kMaxLog,
                                  ", since the server remembers each"));
  }
  if (limit.algorithm == Algorithm::kSlidingWindow && limit.permits > kMaxProduct / period_us) {
    return InvalidArgument(StrCat("rate has ", limit.permits,
                                  " permits; a sliding window of this period counts exactly up to ",
                                  kMaxProduct / period_us, "; lower them, or take GCRA"));
  }
  return absl::OkStatus();
}

absl::Status CheckCost(std::string_view what, std::int64_t cost) {
  if (cost >= 1 && cost <= kMaxPermits) return absl::OkStatus();
  return InvalidArgument(StrCat(what, " is ", cost, "; it must be 1 to ", kMaxPermits));
}

absl::StatusOr<std::string> KeyOf(const Client& client, std::string_view name,
                                  std::string_view part) {
  return internal::SessionOf(client).Key("rate limiter", name, part);
}

RateDecision Decide(std::int64_t limit, std::int64_t taken, std::int64_t remaining,
                    std::int64_t retry_us, std::int64_t reset_us) {
  RateDecision decision;
  decision.allowed = taken > 0;
  decision.limit = limit;
  decision.remaining = remaining;
  decision.retry_after = absl::Microseconds(retry_us);
  decision.reset_after = absl::Microseconds(reset_us);
  decision.taken = taken;
  if (!decision.allowed) decision.limiting_index = 0;
  return decision;
}

absl::Status BadId(const OperationId& id) {
  return InvalidArgument(StrCat("operation id ", Quoted(id.text()),
                                " must be 1 to 64 of the characters A-Z a-z 0-9 - _"));
}

// What limiter_take_all answers, of which the second says whose the numbers are.
RateDecision DecideAll(const LimitedKey& whose, std::int64_t limit,
                       const std::array<std::int64_t, 5>& answer) {
  RateDecision decision =
      Decide(limit, answer[0] == 0 ? whose.cost : 0, answer[2], answer[3], answer[4]);
  if (!decision.allowed) decision.limiting_index = static_cast<std::size_t>(answer[1]);
  return decision;
}

// The answer that an operation has kept: numbers with blanks between them.
template <std::size_t kCount>
absl::StatusOr<std::array<std::int64_t, kCount>> NumbersOf(const OperationId& id,
                                                           std::string_view kept) {
  std::array<std::int64_t, kCount> numbers{};
  std::string_view rest = kept;
  for (std::int64_t& number : numbers) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::optional<std::int64_t> value = internal::ParseInt64(rest.substr(0, end));
    if (!value) {
      return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                  StrCat("operation ", id.text(), " has kept ", Quoted(kept)));
    }
    number = *value;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return numbers;
}

// Whether it says that there is no server to ask, and nothing of the question. A connection that
// was refused for its password says kUnavailable too, but not as its code.
bool IsUnreachable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDeadlineExceeded ||
         (status.code() == absl::StatusCode::kUnavailable && coord::IsUnavailable(status));
}

// Rounded up: never more than was asked for.
std::int64_t IntervalUs(const RateLimit& limit) {
  return absl::ToInt64Microseconds(absl::Ceil(limit.period / limit.permits, absl::Microseconds(1)));
}

}  // namespace

absl::StatusOr<RateLimiter::Rule> RateLimiter::RuleOf(const RateLimit& limit) {
  const std::int64_t burst = limit.burst.value_or(limit.permits);
  if (absl::Status status = CheckLimit(limit, burst); !status.ok()) return status;
  const std::int64_t period_us =
      absl::ToInt64Microseconds(absl::Ceil(limit.period, absl::Microseconds(1)));
  Rule rule;
  rule.part = PartOf(limit.algorithm);
  rule.limit = burst;
  if (limit.algorithm == Algorithm::kGcra) {
    const std::int64_t interval_us = IntervalUs(limit);
    if (burst > kMaxWindowUs / interval_us) {
      return InvalidArgument(StrCat("burst of ", burst, " permits at one every ", interval_us,
                                    " us takes more than 126 years to fill; lower it"));
    }
    rule.kind = 'g';
    rule.script = &internal::kLimiterTake;
    rule.interval_us = interval_us;
    rule.first = StrCat(interval_us);
    rule.second = StrCat(interval_us * burst);
    return rule;
  }
  if (limit.algorithm == Algorithm::kTokenBucket) {
    const std::int64_t common = std::gcd(limit.permits, period_us);
    const std::int64_t unit = period_us / common, rate = limit.permits / common;
    if (burst > kMaxProduct / unit || burst * unit / rate > kMaxWindowUs) {
      return InvalidArgument(StrCat("burst is ", burst, "; a token bucket of this rate counts ",
                                    "exactly up to ", kMaxProduct / unit,
                                    " that take at most 126 years to fill; lower it"));
    }
    rule.kind = 'b';
    rule.script = &internal::kLimiterTakeBucket;
    rule.first = StrCat(rate);
    rule.second = StrCat(unit);
    rule.third = StrCat(burst);
    return rule;
  }
  if (absl::Status status = CheckWindow(limit, burst, period_us); !status.ok()) return status;
  if (limit.algorithm == Algorithm::kFixedWindow) {
    rule.kind = 'f';
    rule.script = &internal::kLimiterTakeFixed;
  } else if (limit.algorithm == Algorithm::kSlidingWindow) {
    rule.kind = 's';
    rule.script = &internal::kLimiterTakeSliding;
  } else {
    rule.kind = 'l';
    rule.script = &internal::kLimiterTakeLog;
  }
  rule.first = StrCat(limit.permits);
  rule.second = StrCat(period_us);
  return rule;
}

class RateLimiter::Local {
 public:
  Local(absl::Duration interval, std::int64_t burst) : limiter_(interval, burst, kMaxLocalKeys) {}

  internal::LocalLimiter::Decision Ask(std::string_view key, std::int64_t cost,
                                       internal::LocalLimiter::Mode mode, const Clock& clock) {
    internal::MutexLock lock(mutex_);
    return limiter_.Ask(key, cost, mode, clock.Now());
  }

 private:
  internal::Mutex mutex_;
  internal::LocalLimiter limiter_ ABSL_GUARDED_BY(mutex_);
};

RateLimiter::RateLimiter(Client client, RateLimit limit, RateLimiterOptions options)
    : client_(std::move(client)),
      rule_(RuleOf(limit)),
      part_(PartOf(limit.algorithm)),
      options_(options) {
  if (rule_.ok() && options_.when_unreachable == WhenUnreachable::kLocal) {
    local_ = std::make_shared<Local>(absl::Microseconds(IntervalUs(limit)), rule_->limit);
  }
}

absl::StatusOr<RateDecision> RateLimiter::OrElse(absl::StatusOr<RateDecision> answer,
                                                 std::string_view key, std::int64_t cost,
                                                 std::string_view mode) const {
  if (answer.ok() || options_.when_unreachable == WhenUnreachable::kError ||
      !IsUnreachable(answer.status())) {
    return answer;
  }
  RateDecision decision;
  decision.from_server = false;
  decision.limit = rule_->limit;
  if (cost > rule_->limit && mode != "upto") {
    decision.retry_after = absl::InfiniteDuration();
  } else if (local_ != nullptr) {
    using Mode = internal::LocalLimiter::Mode;
    const auto local = local_->Ask(key, cost,
                                   mode == "upto"   ? Mode::kTakeUpTo
                                   : mode == "peek" ? Mode::kPeek
                                                    : Mode::kTake,
                                   internal::SessionOf(client_).clock());
    decision.allowed = local.allowed;
    decision.remaining = local.remaining;
    decision.retry_after = local.retry_after;
    decision.reset_after = local.reset_after;
    decision.taken = local.taken;
  } else if (options_.when_unreachable == WhenUnreachable::kAllow) {
    decision.allowed = true;
    if (mode != "peek") decision.taken = std::min(cost, rule_->limit);
  } else {
    decision.retry_after = kAwayRetry;
    decision.reset_after = kAwayRetry;
  }
  if (!decision.allowed) decision.limiting_index = 0;
  return decision;
}

absl::StatusOr<RateDecision> RateLimiter::Ask(std::string_view key, std::int64_t cost,
                                              std::string_view mode, const CallOptions& call,
                                              const std::optional<OperationId>& id) const {
  if (!rule_.ok()) return rule_.status();
  const Rule& rule = *rule_;
  absl::StatusOr<std::string> full = KeyOf(client_, key, rule.part);
  if (!full.ok()) return full.status();
  // More than the burst is refused whatever it is; asking for one beyond it keeps the script's
  // numbers small.
  const std::int64_t asked = std::min(cost, rule.limit + 1);
  const std::string asked_text = StrCat(asked);
  internal::Session& session = internal::SessionOf(client_);
  absl::StatusOr<Reply> reply;
  if (id) {
    const char kind[] = {rule.kind};
    std::vector<std::string_view> keys = {*full};
    std::vector<std::string_view> args = {
        std::string_view(kind, 1), rule.first, rule.second, asked_text, rule.third, mode};
    absl::StatusOr<std::optional<internal::Once>> once =
        internal::PrepareOnce(session, "rate limiter", key, id, kKind,
                              {args[0], args[1], args[2], args[3], args[4], args[5]});
    if (!once.ok()) return once.status();
    (*once)->AppendTo(keys, args);
    reply = internal::ExecuteOnce(
        session, internal::Request::Call(internal::kLimiterTakeOnce, keys, args), *once, call);
  } else {
    const std::string_view keys[] = {*full};
    const std::string_view args[] = {rule.first, rule.second, asked_text, mode, rule.third};
    reply = session.Execute(
        internal::Request::Call(*rule.script, keys, std::span(args, rule.third.empty() ? 4 : 5)),
        call);
  }
  if (!reply.ok()) return internal::Annotate(reply.status(), StrCat("rate limiter ", Quoted(key)));
  const auto items = reply->items();
  if (items.size() != 4) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat(rule.script->name, " answered ", reply->ToDebugString()));
  }
  return Decide(rule.limit, items[0].integer(), items[1].integer(), items[2].integer(),
                items[3].integer());
}

absl::StatusOr<RateDecision> RateLimiter::Take(std::string_view key, std::int64_t cost,
                                               CallOptions call, TakeOptions options) const {
  if (!rule_.ok()) return rule_.status();
  if (absl::Status status = CheckCost("cost", cost); !status.ok()) return status;
  if (cost <= rule_->limit) {
    return OrElse(Ask(key, cost, "take", call, options.operation_id), key, cost, "take");
  }
  if (options.operation_id && !options.operation_id->valid()) return BadId(*options.operation_id);
  // Never: nothing to be kept under an id.
  absl::StatusOr<RateDecision> decision = Ask(key, cost, "take", call);
  if (decision.ok()) decision->retry_after = absl::InfiniteDuration();
  return OrElse(std::move(decision), key, cost, "take");
}

absl::StatusOr<RateDecision> RateLimiter::TakeUpTo(std::string_view key, std::int64_t most,
                                                   CallOptions call, TakeOptions options) const {
  if (absl::Status status = CheckCost("most", most); !status.ok()) return status;
  return OrElse(Ask(key, most, "upto", call, options.operation_id), key, most, "upto");
}

absl::StatusOr<RateDecision> RateLimiter::Peek(std::string_view key, std::int64_t cost,
                                               CallOptions call) const {
  if (!rule_.ok()) return rule_.status();
  if (absl::Status status = CheckCost("cost", cost); !status.ok()) return status;
  absl::StatusOr<RateDecision> decision = Ask(key, cost, "peek", call);
  if (!decision.ok()) return OrElse(std::move(decision), key, cost, "peek");
  decision->taken = 0;
  if (cost > rule_->limit) decision->retry_after = absl::InfiniteDuration();
  return decision;
}

absl::StatusOr<RateDecision> RateLimiter::Refund(std::string_view key, std::int64_t count,
                                                 CallOptions call) const {
  if (absl::Status status = CheckCost("count", count); !status.ok()) return status;
  absl::StatusOr<RateDecision> decision = Ask(key, count, "refund", call);
  if (!decision.ok()) return decision;
  decision->allowed = true;
  decision->limiting_index.reset();
  return decision;
}

absl::StatusOr<RateDecision> RateLimiter::Wait(std::string_view key, std::int64_t cost,
                                               absl::Duration timeout, std::stop_token stop) const {
  if (timeout < absl::ZeroDuration()) {
    return InvalidArgument(
        StrCat("timeout is ", internal::ToText(timeout), "; it must not be negative"));
  }
  const internal::CallLimits limits{internal::DeadlineAfter(timeout), stop};
  while (true) {
    absl::StatusOr<RateDecision> decision = Take(key, cost, {.stop = stop});
    if (!decision.ok() || decision->allowed) return decision;
    if (decision->retry_after == absl::InfiniteDuration() ||
        decision->retry_after > internal::TimeUntil(limits.deadline)) {
      return decision;
    }
    if (!internal::SleepUntil(internal::DeadlineAfter(decision->retry_after), limits)) {
      return internal::MakeStatus(absl::StatusCode::kCancelled,
                                  StrCat("rate limiter ", Quoted(key), ": stopped while waiting"));
    }
  }
}

absl::StatusOr<RateLimiter::GcraKey> RateLimiter::Gcra(std::string_view key) const {
  if (!rule_.ok()) return rule_.status();
  if (rule_->script != &internal::kLimiterTake) {
    return InvalidArgument("permits of this algorithm cannot be held in advance; take GCRA");
  }
  absl::StatusOr<std::string> full = KeyOf(client_, key, rule_->part);
  if (!full.ok()) return full.status();
  const std::int64_t window_us = internal::ParseInt64(rule_->second).value_or(1);
  return GcraKey{*std::move(full), window_us / rule_->limit, window_us, rule_->limit};
}

internal::Request RateLimiter::GiveBack(std::string_view full_key, std::int64_t window_us,
                                        absl::Duration worth) {
  // To the script, a limit of the same window with a permit a microsecond.
  return internal::Bind(
      internal::kLimiterTake, {full_key},
      {"1", StrCat(window_us), StrCat(absl::ToInt64Microseconds(worth)), "refund"});
}

absl::Status RateLimiter::Reset(std::string_view key, CallOptions call) const {
  // Forgetting depends on no rate.
  absl::StatusOr<std::string> full = KeyOf(client_, key, part_);
  if (!full.ok()) return full.status();
  return internal::Annotate(internal::SessionOf(client_)
                                .Execute(internal::Bind(internal::kLimiterReset, {*full}), call)
                                .status(),
                            StrCat("rate limiter ", Quoted(key)));
}

absl::StatusOr<std::optional<RateDecision>> RateLimiter::Resolve(std::string_view key,
                                                                 const OperationId& id,
                                                                 CallOptions call) const {
  if (!rule_.ok()) return rule_.status();
  absl::StatusOr<std::optional<std::string>> kept =
      internal::ResolveOnce(internal::SessionOf(client_), "rate limiter", key, id, kKind, call);
  if (!kept.ok()) return kept.status();
  if (!*kept) return std::optional<RateDecision>();
  const auto numbers = NumbersOf<4>(id, **kept);
  if (!numbers.ok()) return numbers.status();
  const auto& [taken, remaining, retry_us, reset_us] = *numbers;
  return std::optional<RateDecision>(Decide(rule_->limit, taken, remaining, retry_us, reset_us));
}

absl::StatusOr<RateDecision> RateLimiter::TakeAll(const Client& client,
                                                  std::span<const LimitedKey> limits,
                                                  CallOptions call, TakeOptions options) {
  if (limits.empty() || limits.size() > kMaxLimits) {
    return InvalidArgument(
        StrCat("there are ", limits.size(), " limits; there must be 1 to ", kMaxLimits));
  }
  std::vector<Rule> rules;
  std::vector<std::string> keys, costs;
  rules.reserve(limits.size());
  keys.reserve(limits.size());
  costs.reserve(limits.size());
  std::optional<std::size_t> never;
  for (const LimitedKey& one : limits) {
    absl::StatusOr<Rule> rule = RuleOf(one.limit);
    if (!rule.ok()) return internal::Annotate(rule.status(), StrCat("limit of ", Quoted(one.key)));
    if (absl::Status status = CheckCost("cost", one.cost); !status.ok()) return status;
    absl::StatusOr<std::string> key = KeyOf(client, one.key, rule->part);
    if (!key.ok()) return key.status();
    if (std::find(keys.begin(), keys.end(), *key) != keys.end()) {
      return InvalidArgument(StrCat("key ", Quoted(one.key),
                                    " is there twice with one algorithm, which makes it one limit; "
                                    "take it once, with the sum"));
    }
    if (one.cost > rule->limit && !never) never = keys.size();
    rules.push_back(*std::move(rule));
    keys.push_back(*std::move(key));
    costs.push_back(StrCat(one.cost));
  }
  if (options.operation_id && !options.operation_id->valid()) return BadId(*options.operation_id);
  if (never) {
    // The others are of no account then.
    const LimitedKey& one = limits[*never];
    absl::StatusOr<RateDecision> decision =
        RateLimiter(client, one.limit).Peek(one.key, one.cost, call);
    if (decision.ok()) decision->limiting_index = *never;
    return decision;
  }
  // GCRA alone has a script of its own, which takes the costs as time, and none where all are one.
  const bool gcra =
      !options.operation_id &&
      std::all_of(rules.begin(), rules.end(), [](const Rule& rule) { return rule.kind == 'g'; });
  const bool ones = std::all_of(limits.begin(), limits.end(),
                                [](const LimitedKey& one) { return one.cost == 1; });
  std::vector<std::string_view> key_views(keys.begin(), keys.end()), args;
  key_views.reserve(limits.size() + 2);
  args.reserve(5 * limits.size() + 3);
  for (std::size_t i = 0; i < limits.size(); ++i) {
    if (gcra) {
      args.insert(args.end(), {rules[i].first, rules[i].second});
    } else {
      args.insert(args.end(), {std::string_view(&rules[i].kind, 1), rules[i].first, rules[i].second,
                               costs[i], rules[i].third});
    }
  }
  if (gcra && !ones) {
    for (std::size_t i = 0; i < limits.size(); ++i) {
      costs[i] = StrCat(limits[i].cost * rules[i].interval_us);
      args.push_back(costs[i]);
    }
  }
  internal::Session& session = internal::SessionOf(client);
  const internal::ScriptText* script =
      gcra ? &internal::kLimiterTakeAllGcra : &internal::kLimiterTakeAll;
  absl::StatusOr<Reply> reply;
  if (options.operation_id) {
    // The first name keeps the answer; that all others are the same too is what the fingerprint
    // says. A key cannot be taken for the end of one: its length stands before it.
    std::string what;
    for (const std::string_view key : key_views) what += StrCat(key.size(), " ", key);
    for (const std::string_view arg : args) what += StrCat(" ", arg);
    absl::StatusOr<std::optional<internal::Once>> once = internal::PrepareOnce(
        session, "rate limiter", limits[0].key, options.operation_id, kAllKind, {what});
    if (!once.ok()) return once.status();
    (*once)->AppendTo(key_views, args);
    script = &internal::kLimiterTakeAllOnce;
    reply = internal::ExecuteOnce(session, internal::Request::Call(*script, key_views, args), *once,
                                  call);
  } else {
    reply = session.Execute(internal::Request::Call(*script, key_views, args), call);
  }
  if (!reply.ok()) {
    return internal::Annotate(reply.status(),
                              StrCat("rate limiters ", Quoted(limits[0].key), " and others"));
  }
  const auto items = reply->items();
  std::array<std::int64_t, 5> answer{};
  for (std::size_t i = 0; i < answer.size() && items.size() == answer.size(); ++i) {
    answer[i] = items[i].integer();
  }
  const std::size_t which = static_cast<std::size_t>(answer[1]);
  if (items.size() != answer.size() || which >= limits.size()) {
    return internal::MakeStatus(absl::StatusCode::kDataLoss,
                                StrCat(script->name, " answered ", reply->ToDebugString()));
  }
  return DecideAll(limits[which], rules[which].limit, answer);
}

absl::StatusOr<std::optional<RateDecision>> RateLimiter::ResolveAll(
    const Client& client, std::span<const LimitedKey> limits, const OperationId& id,
    CallOptions call) {
  if (limits.empty() || limits.size() > kMaxLimits) {
    return InvalidArgument(
        StrCat("there are ", limits.size(), " limits; there must be 1 to ", kMaxLimits));
  }
  absl::StatusOr<std::optional<std::string>> kept = internal::ResolveOnce(
      internal::SessionOf(client), "rate limiter", limits[0].key, id, kAllKind, call);
  if (!kept.ok()) return kept.status();
  if (!*kept) return std::optional<RateDecision>();
  const auto numbers = NumbersOf<5>(id, **kept);
  if (!numbers.ok()) return numbers.status();
  const std::size_t which = static_cast<std::size_t>((*numbers)[1]);
  if (which >= limits.size()) {
    return InvalidArgument(StrCat("operation ", id.text(), " was on ", which + 1,
                                  " limits or more, not on ", limits.size()));
  }
  const absl::StatusOr<Rule> rule = RuleOf(limits[which].limit);
  if (!rule.ok()) return rule.status();
  return std::optional<RateDecision>(DecideAll(limits[which], rule->limit, *numbers));
}

}  // namespace coord
