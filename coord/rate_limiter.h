// How often something may happen, counted across all processes.
//
//   coord::RateLimiter limiter(client, {.permits = 10, .period = absl::Seconds(1), .burst = 20});
//   absl::StatusOr<coord::RateDecision> decision = limiter.Take("user:42");
//   if (decision.ok() && !decision->allowed) return RetryAfter(decision->retry_after);
//
// By the server's clock, in integer microseconds: never over the limit on one server, whatever the
// callers' clocks say. A limit's state is one key, which expires by itself when it says nothing any
// more, or some five seconds later. Across a failover no bound is claimed.
#ifndef COORD_RATE_LIMITER_H_
#define COORD_RATE_LIMITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/operation_id.h"

namespace coord {

namespace internal {
class Request;
struct ScriptText;
}  // namespace internal

struct RateLimit {
  // All round against the taker. Where the server's clock steps back, what was taken at times that
  // are now to come counts as taken now.
  enum class Algorithm {
    // The generic cell rate algorithm (ITU-T I.371, in its virtual scheduling form): a burst at
    // once, and one permit every period / permits, rounded up to a whole microsecond. The cheapest;
    // one number is its state.
    kGcra,
    // The same but exact: in a period come exactly `permits`, also where period / permits is not
    // whole. burst * period must be at most 9e15 permits * microseconds, after both parts of
    // permits / period have been divided by what they have in common.
    kTokenBucket,
    // `permits` in each window of the server's clock, which begin at whole multiples of the period
    // since 1970. Simple to explain; across a border twice as many in a short time.
    kFixedWindow,
    // The same, but the window before counts too, for the part of it that is less than a period
    // ago, as if its permits had been taken evenly. Between windows never much over the limit: at
    // worst twice as many in a period, where all came at the previous one's end. permits * period
    // must be at most 9e15 permits * microseconds.
    kSlidingWindow,
    // Remembers each permit: never more than `permits` in any period whatever. 8 bytes or more each
    // on the server and as much work as there are permits taken, so at most 10,000 permits.
    kSlidingLog,
  };

  // `permits` every `period`; one in a microsecond at most. A period that is no whole number of
  // microseconds is rounded up.
  std::int64_t permits = 0;
  absl::Duration period = absl::Seconds(1);
  // How many may come at once after a quiet time; unset: `permits`. A fixed window, sliding window
  // and sliding log have no other burst than `permits`.
  std::optional<std::int64_t> burst = std::nullopt;
  Algorithm algorithm = Algorithm::kGcra;
};

struct RateDecision {
  bool allowed = false;
  std::int64_t limit = 0;      // the burst
  std::int64_t remaining = 0;  // permits that could be taken after this; Peek: after such a Take
  absl::Duration
      retry_after;  // zero when allowed; infinite when it asks for more than the burst: then never
  absl::Duration reset_after;  // until the whole burst is there again
  std::int64_t taken = 0;      // by this call; 0 of Peek and Refund
  // Which of several limits denies, counted from 0; of those that do, the one that does so for the
  // longest time. Unset when allowed.
  std::optional<std::size_t> limiting_index = std::nullopt;
  // False: the server did not answer, and RateLimiterOptions::when_unreachable decided.
  bool from_server = true;
};

// What Take, TakeUpTo, Wait and Peek answer when the server cannot be asked: there is none, it
// takes no commands at present (coord::IsUnavailable), or no reply came in time
// (kDeadlineExceeded). No other error counts, such as a bad argument, a missing right, another type
// under the key, a stop token or a closed client: those are always returned.
//
// A reply that did not come may be one of a call that was applied, so what kAllow and kLocal let
// through may have been taken from the server as well, and what kDeny denies too; an operation id
// tells later (Resolve). Every call asks the server first, and again as long as its time allows: so
// it decides again as soon as there is a connection, and until then each call takes its whole time.
// Choose ClientOptions::timeout or CallOptions::timeout by how long a caller may be held up, such
// as 50 ms; several round trips at least.
enum class WhenUnreachable {
  kError,  // the error
  // A denial. Nobody knows when there will be an answer, so retry_after and reset_after are a
  // second; or, of more than the burst, infinite, as ever.
  kDeny,
  // Allowed, but for more than the burst. Nothing is remembered: any number is let through.
  kAllow,
  // As a limiter of the same numbers in this process decides, by kGcra whatever the algorithm. N
  // processes let N times the limit through, and what was taken from the server before is of no
  // account. It is shared by copies of a RateLimiter and remembers 10,000 keys; those that come
  // when so many are not whole again are one limit together.
  kLocal,
};

struct RateLimiterOptions {
  WhenUnreachable when_unreachable = WhenUnreachable::kError;
};

struct TakeOptions {
  // Taken once, however often it is asked for; see operation_id.h.
  std::optional<OperationId> operation_id = std::nullopt;
};

// One of several limits that must all allow it.
struct LimitedKey {
  RateLimit limit;
  std::string key;
  std::int64_t cost = 1;
};

// Cheap to make; thread-safe. All but Wait are one round trip each. A denial is a value, not an
// error, and consumes nothing. A lost reply leaves it unknown whether permits were taken or given
// back (IsOutcomeUnknown); nothing is repeated, but for a take with an operation id.
// kFailedPrecondition when the key holds something else; it is left as it was.
//
// Limits of different algorithms keep different keys, so one name may have one of each. Those of
// one algorithm and one name are one limit; who takes with other numbers takes from the same.
class RateLimiter {
 public:
  // Never fails; limits that make no sense are reported by the calls, as kInvalidArgument.
  RateLimiter(Client client, RateLimit limit, RateLimiterOptions options = {});

  // Takes `cost` permits of `key`, or none.
  absl::StatusOr<RateDecision> Take(std::string_view key, std::int64_t cost = 1,
                                    CallOptions call = {}, TakeOptions options = {}) const;
  // Takes as many as there are, `most` at most: see RateDecision::taken. Denied when there is none,
  // and then retry_after is the time until there is one.
  absl::StatusOr<RateDecision> TakeUpTo(std::string_view key, std::int64_t most,
                                        CallOptions call = {}, TakeOptions options = {}) const;
  // What Take would answer; writes nothing.
  absl::StatusOr<RateDecision> Peek(std::string_view key, std::int64_t cost = 1,
                                    CallOptions call = {}) const;
  // Gives back `count` permits, but no more than are missing from the burst: the newest first, and
  // none that no longer counts. Answers what there is then, as allowed.
  absl::StatusOr<RateDecision> Refund(std::string_view key, std::int64_t count,
                                      CallOptions call = {}) const;
  // Takes, waiting up to `timeout` for it to be allowed. Returns a denial at once when that would
  // not be in time. Each question may take the client's timeout, the last one beyond `timeout`.
  absl::StatusOr<RateDecision> Wait(std::string_view key, std::int64_t cost, absl::Duration timeout,
                                    std::stop_token stop = {}) const;
  // Forgets what was taken of `key`.
  absl::Status Reset(std::string_view key, CallOptions call = {}) const;
  // What became of a Take or TakeUpTo with this id: its answer; or nullopt when it has not been
  // applied, and then it never will be. For as long as the window. A Take of more than the burst is
  // never applied.
  absl::StatusOr<std::optional<RateDecision>> Resolve(std::string_view key, const OperationId& id,
                                                      CallOptions call = {}) const;

  // Takes of all of 1 to 32 limits, or of none, in one script and one round trip. When allowed, the
  // answer's numbers are those of the limit with the fewest permits left; when denied, of the one
  // that limiting_index names. kInvalidArgument when a key stands there twice with one algorithm.
  // In a Redis Cluster all keys must lie in one slot, which names without a common hash tag do not.
  // With an operation id, which the first limit's name keeps, all are taken once.
  static absl::StatusOr<RateDecision> TakeAll(const Client& client,
                                              std::span<const LimitedKey> limits,
                                              CallOptions call = {}, TakeOptions options = {});
  // As Resolve, of a TakeAll of the same limits.
  static absl::StatusOr<std::optional<RateDecision>> ResolveAll(const Client& client,
                                                                std::span<const LimitedKey> limits,
                                                                const OperationId& id,
                                                                CallOptions call = {});

 private:
  friend class LocalBudget;

  // What LocalBudget gives permits back with: kGcra counts in time, so also parts of one.
  struct GcraKey {
    std::string key;
    std::int64_t interval_us = 1;  // what one permit costs
    std::int64_t window_us = 1;    // a whole burst
    std::int64_t burst = 1;
  };
  absl::StatusOr<GcraKey> Gcra(std::string_view key) const;
  static internal::Request GiveBack(std::string_view full_key, std::int64_t window_us,
                                    absl::Duration worth);

  // A limit as the scripts take it.
  struct Rule {
    char kind = 'g';
    std::string_view part;  // of the key
    const internal::ScriptText* script = nullptr;
    std::int64_t limit = 0;
    std::int64_t interval_us = 0;  // of a permit, of GCRA
    std::string first, second, third;
  };
  static absl::StatusOr<Rule> RuleOf(const RateLimit& limit);

  class Local;

  // The answer, or what stands in for it.
  absl::StatusOr<RateDecision> OrElse(absl::StatusOr<RateDecision> answer, std::string_view key,
                                      std::int64_t cost, std::string_view mode) const;
  absl::StatusOr<RateDecision> Ask(std::string_view key, std::int64_t cost, std::string_view mode,
                                   const CallOptions& call,
                                   const std::optional<OperationId>& id = std::nullopt) const;

  Client client_;
  absl::StatusOr<Rule> rule_;
  std::string_view part_;
  RateLimiterOptions options_;
  std::shared_ptr<Local> local_;  // of kLocal
};

// What an HTTP server says of a limit:
//   RateLimit-Policy     "default";q=100;w=60   } as the IETF's draft "RateLimit header fields for
//   RateLimit            "default";r=50;t=30    } HTTP" writes them
//   X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset   the burst, and seconds from now
//   Retry-After          only of a denial that is not for ever
// Times are whole seconds, rounded up: who waits so long is not denied for having come too early.
// `policy` is any name; in it only printable ASCII is kept. Names and values; pure.
std::vector<std::pair<std::string, std::string>> RateLimitHeaders(
    const RateDecision& decision, const RateLimit& limit, std::string_view policy = "default");

}  // namespace coord

#endif  // COORD_RATE_LIMITER_H_
