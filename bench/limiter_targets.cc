// Rate limiters.
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "bench/hiredis_caller.h"
#include "bench/machine.h"
#include "bench/server_cost.h"
#include "bench/targets.h"
#include "bench/vs_hiredis.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/rate_limiter.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

void MeasureLimiter(Run& run) {
  const Script window_script(
      "local n = redis.call('INCR', KEYS[1]) "
      "if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end "
      "return n");
  const ScriptText window = TextOf(window_script, "fixed_window");
  Compare(run, "limiter.gcra.server_cpu", Bound::AtMost(3.1),
          {"GCRA",
           {&internal::kLimiterTake},
           [](HiredisCaller& caller, int i) {
             return caller.Append(internal::kLimiterTake, {StrCat("coord:{l-", i, "}:gcra")},
                                  {"10", "10000000", "1", "take"});
           }},
          {"a fixed window by INCR", {&window}, [&](HiredisCaller& caller, int i) {
             return caller.Append(window, {StrCat("window-", i)}, {"10000"});
           }});
}

// Three limits in one call, against three calls.
void MeasureSeveralLimits(Run& run) {
  Compare(run, "limiter.three.server_cpu", Bound::AtMost(0.65),
          {"three limits in one call",
           {&internal::kLimiterTakeAllGcra},
           [](HiredisCaller& caller, int i) {
             const std::string tag = StrCat("coord:{a-", i, "}:");
             return caller.Append(internal::kLimiterTakeAllGcra,
                                  {StrCat(tag, "gcra"), StrCat(tag, "gcra2"), StrCat(tag, "gcra3")},
                                  {"10", "10000000", "10", "10000000", "10", "10000000"});
           }},
          {"three calls",
           {&internal::kLimiterTake},
           [](HiredisCaller& caller, int i) {
             const std::string tag = StrCat("coord:{b-", i, "}:");
             for (const char* part : {"gcra", "gcra2", "gcra3"}) {
               if (!caller.Append(internal::kLimiterTake, {StrCat(tag, part)},
                                  {"10", "10000000", "1", "take"})) {
                 return false;
               }
             }
             return true;
           },
           3});
}

// Keys of their own, at a rate that is never denied. A connection for each caller.
class HiredisTakers {
 public:
  HiredisTakers(const std::string& socket_path, int callers) {
    for (int i = 0; i < callers; ++i) {
      callers_.emplace_back(socket_path).Load(internal::kLimiterTake);
      keys_.push_back(StrCat("coord:{them-", i, "}:gcra"));
    }
  }

  bool Take(int caller) {
    const std::size_t i = static_cast<std::size_t>(caller);
    const HiredisReply reply =
        callers_[i].Run(internal::kLimiterTake, {keys_[i]}, {"1", "1000000", "1", "take"});
    return reply != nullptr && reply->elements == 4 && reply->element[0]->integer == 1;
  }

 private:
  std::deque<HiredisCaller> callers_;
  std::deque<std::string> keys_;
};

// One client for all callers, as a program would have it.
class CoordTakers {
 public:
  CoordTakers(const std::string& url, int callers) : limiter_(Connect(url), OneAMicrosecond()) {
    for (int i = 0; i < callers; ++i) keys_.push_back(StrCat("ours-", i));
  }

  bool Take(int caller) const {
    const absl::StatusOr<RateDecision> decision =
        limiter_.Take(keys_[static_cast<std::size_t>(caller)]);
    return decision.ok() && decision->allowed;
  }

 private:
  static Client Connect(const std::string& url) {
    absl::StatusOr<Client> client = Client::Connect(url);
    if (!client.ok()) Fatal(client.status().ToString());
    return *std::move(client);
  }
  static RateLimit OneAMicrosecond() {
    RateLimit limit;
    limit.permits = 1'000'000;
    return limit;
  }

  const RateLimiter limiter_;
  std::deque<std::string> keys_;
};

void Against(Run& run, int callers, Mode mode, Bound bound) {
  AgainstHiredis(run, "limiter", callers, mode, bound, [&] {
    const auto theirs = std::make_shared<HiredisTakers>(run.server.socket_path(), callers);
    const auto ours = std::make_shared<CoordTakers>(run.server.url(), callers);
    return Contest{[theirs](int caller) { return theirs->Take(caller); },
                   [ours](int caller) { return ours->Take(caller); }};
  });
}

}  // namespace

void MeasureLimiters(Run& run) {
  // At most 1.10 of the time.
  Against(run, 1, Mode::kSame, Bound::AtLeast(0.91));
  Against(run, 64, Mode::kPin, Bound::AtLeast(1.5));
  MeasureLimiter(run);
  MeasureSeveralLimits(run);
}

}  // namespace coord::bench
