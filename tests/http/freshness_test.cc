#include "cache/http/internal/freshness.h"

#include <gtest/gtest.h>

#include <string>

#include "cache/http/internal/http_date.h"

namespace coord::http::internal {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);
const ExchangeTimes kTimes{.requested = kNow, .received = kNow};

std::string Date(int seconds_ago) { return FormatHttpDate(kNow - absl::Seconds(seconds_ago)); }
Headers Control(std::string value) { return {{"Cache-Control", std::move(value)}}; }
CacheControl Asks(std::string value) { return ParseCacheControl(Control(std::move(value)), true); }

TEST(FreshnessTest, TheInitialAgeIsAsRfc9111Section423HasIt) {
  struct Case {
    const char* what;
    Headers headers;
    int delay;
    int age;
  };
  for (const Case& c : {
           Case{"nothing said", {}, 0, 0},
           Case{"response_delay counts", {}, 3, 3},
           Case{"apparent_age", {{"Date", Date(10)}}, 3, 10},
           Case{"Age and delay", {{"Date", Date(10)}, {"Age", "20"}}, 3, 23},
           Case{"Date in the future", {{"Date", Date(-50)}}, 0, 0},
           Case{"Date that is none", {{"Date", "yesterday"}}, 0, 0},
           Case{"Age that is none (5.1)", {{"Age", "-7"}}, 0, 0},
           Case{"of a list of ages the first (5.1)", {{"Age", "7, 9"}}, 0, 7},
           Case{"of two lines of ages the first (5.1)", {{"Age", "7"}, {"Age", "9"}}, 0, 7},
           Case{"request after response: no negative delay", {{"Age", "7"}}, -5, 7},
       }) {
    const ExchangeTimes times{.requested = kNow - absl::Seconds(c.delay), .received = kNow};
    EXPECT_EQ(InitialAge(c.headers, times), absl::Seconds(c.age)) << c.what;
  }
}

TEST(FreshnessTest, AResponseGetsOlderAndNeverYounger) {  // section 4.2.3
  StoredResponse stored;
  stored.received = kNow;
  stored.initial_age = absl::Seconds(5);
  EXPECT_EQ(CurrentAge(stored, kNow + absl::Seconds(7)), absl::Seconds(12));
  EXPECT_EQ(CurrentAge(stored, kNow - absl::Seconds(7)), absl::Seconds(5));
}

TEST(FreshnessTest, TheOriginsLifetimeIsAsRfc9111Section421HasIt) {
  struct Case {
    const char* what;
    Headers headers;
    std::optional<int> lifetime;
  };
  for (const Case& c : {
           Case{"nothing", {}, std::nullopt},
           Case{"max-age", Control("max-age=9"), 9},
           Case{"s-maxage is for shared caches", Control("s-maxage=9"), std::nullopt},
           Case{"max-age before Expires (5.3)",
                {{"Expires", Date(-60)}, {"Cache-Control", "max-age=9"}},
                9},
           Case{"also one that is none",
                {{"Expires", Date(-60)}, {"Cache-Control", "max-age=x"}},
                0},
           Case{"Expires less Date", {{"Expires", Date(-60)}, {"Date", Date(10)}}, 70},
           Case{"Expires without Date", {{"Expires", Date(-60)}}, 60},
           Case{"Expires with a Date that is none", {{"Expires", Date(-60)}, {"Date", "x"}}, 60},
           Case{"Expires before Date", {{"Expires", Date(60)}, {"Date", Date(10)}}, 0},
           Case{"Expires: 0 (5.3)", {{"Expires", "0"}}, 0},
           Case{"Expires that is no date (5.3)", {{"Expires", "soon"}}, 0},
           Case{"of two the first", {{"Expires", Date(-60)}, {"Expires", Date(-90)}}, 60},
       }) {
    const auto lifetime = ExplicitLifetime(c.headers, kNow);
    EXPECT_EQ(lifetime.has_value(), c.lifetime.has_value()) << c.what;
    if (lifetime && c.lifetime) {
      EXPECT_EQ(*lifetime, absl::Seconds(*c.lifetime)) << c.what;
    }
  }
}

TEST(FreshnessTest, TheHeuristicIsATenthSinceLastModified) {  // section 4.2.2
  const Headers modified = {{"Last-Modified", Date(1000)}};
  EXPECT_EQ(HeuristicLifetime(200, modified, kNow), absl::Seconds(100));
  EXPECT_EQ(HeuristicLifetime(200, {{"Last-Modified", Date(1000)}, {"Date", Date(500)}}, kNow),
            absl::Seconds(50));
  EXPECT_EQ(HeuristicLifetime(200, {{"Last-Modified", Date(1000)}, {"Date", Date(-500)}}, kNow),
            absl::Seconds(100));
  EXPECT_EQ(HeuristicLifetime(200, {{"Last-Modified", Date(10'000'000)}}, kNow), absl::Hours(24));
  EXPECT_EQ(HeuristicLifetime(200, {{"Last-Modified", Date(-10)}}, kNow), absl::ZeroDuration());
  EXPECT_EQ(HeuristicLifetime(200, {{"Last-Modified", "x"}}, kNow), std::nullopt);
  EXPECT_EQ(HeuristicLifetime(200, {}, kNow), std::nullopt);
  EXPECT_EQ(HeuristicLifetime(302, modified, kNow), std::nullopt);
  EXPECT_EQ(
      HeuristicLifetime(302, {{"Last-Modified", Date(1000)}, {"Cache-Control", "public"}}, kNow),
      absl::Seconds(100));
}

TEST(FreshnessTest, SomeStatusesAreHeuristicallyCacheable) {  // RFC 9110 section 15.1
  for (const int status : {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}) {
    EXPECT_TRUE(HeuristicallyCacheable(status)) << status;
  }
  for (const int status : {100, 201, 202, 206, 302, 303, 304, 307, 400, 403, 500, 502, 503}) {
    EXPECT_FALSE(HeuristicallyCacheable(status)) << status;
  }
}

TEST(FreshnessTest, WhoSaysHowLongIsInTheOrderOfTheRank) {
  const Headers origin = Control("max-age=1");
  const Headers dated = {{"Last-Modified", Date(1000)}};
  const Expiry call = absl::Seconds(2), pattern = absl::Seconds(3), session = absl::Seconds(4);
  struct Case {
    const char* what;
    HeaderRank rank;
    Headers headers;
    ExpirySources sources;
    absl::Duration lifetime;
    bool by_caller;
    bool explicitly;
  };
  const HeaderRank below = HeaderRank::kBelowPatterns, first = HeaderRank::kFirst,
                   ignored = HeaderRank::kIgnored;
  for (Case c : {
           Case{"call", below, origin, {call, pattern, session}, absl::Seconds(2), true, true},
           Case{"pattern", below, origin, {{}, pattern, session}, absl::Seconds(3), true, true},
           Case{"origin", below, origin, {{}, {}, session}, absl::Seconds(1), false, true},
           Case{"session", below, dated, {{}, {}, session}, absl::Seconds(4), true, true},
           Case{"heuristic", below, dated, {}, absl::Seconds(100), false, false},
           Case{"nobody", below, {}, {}, absl::ZeroDuration(), false, false},
           Case{"no-cache of the origin is above the session",
                below,
                Control("no-cache"),
                {{}, {}, session},
                absl::ZeroDuration(),
                false,
                false},
           Case{"first: origin",
                first,
                origin,
                {call, pattern, session},
                absl::Seconds(1),
                false,
                true},
           Case{"first: no-cache",
                first,
                Control("no-cache"),
                {call, {}, {}},
                absl::ZeroDuration(),
                false,
                false},
           Case{
               "first: call", first, dated, {call, pattern, session}, absl::Seconds(2), true, true},
           Case{"first: session", first, dated, {{}, {}, session}, absl::Seconds(4), true, true},
           Case{"first: heuristic", first, dated, {}, absl::Seconds(100), false, false},
           Case{"ignored: session",
                ignored,
                origin,
                {{}, {}, session},
                absl::Seconds(4),
                true,
                true},
           Case{"ignored: nobody",
                ignored,
                Control("no-store"),
                {},
                absl::InfiniteDuration(),
                true,
                false},
       }) {
    c.sources.rank = c.rank;
    const Freshness freshness = DecideFreshness(200, c.headers, kTimes, c.sources);
    EXPECT_EQ(freshness.expires, kNow + c.lifetime) << c.what;
    EXPECT_EQ(freshness.by_caller, c.by_caller) << c.what;
    EXPECT_EQ(freshness.explicitly, c.explicitly) << c.what;
    EXPECT_FALSE(freshness.do_not_cache) << c.what;
  }
}

TEST(FreshnessTest, DoNotCacheCountsWhereItIsChosen) {
  EXPECT_TRUE(DecideFreshness(200, {}, kTimes, {.call = Expiry::DoNotCache()}).do_not_cache);
  EXPECT_TRUE(DecideFreshness(200, {}, kTimes, {.session = Expiry::DoNotCache()}).do_not_cache);
  EXPECT_FALSE(DecideFreshness(200, Control("max-age=1"), kTimes, {.session = Expiry::DoNotCache()})
                   .do_not_cache);
}

TEST(FreshnessTest, WhatAResponseHasLivedAlreadyIsTakenOffTheOriginsWordOnly) {  // section 4.2.3
  const Headers aged = {{"Age", "40"}, {"Cache-Control", "max-age=60"}};
  EXPECT_EQ(DecideFreshness(200, aged, kTimes, {}).expires, kNow + absl::Seconds(20));
  EXPECT_EQ(DecideFreshness(200, aged, kTimes, {.call = absl::Seconds(60)}).expires,
            kNow + absl::Seconds(60));
}

struct JudgeCase {
  const char* what;
  std::string response = {};
  std::string request = {};
  int age;  // of a response that is fresh for 100 s
  Use use;
  bool on_error;
  bool by_caller = false;
  bool refresh = false;
  bool always = false;
  int stale_if_error = 0;
  int stale_while_revalidate = 0;
};

void ExpectVerdict(const JudgeCase& c) {
  StoredResponse stored;
  stored.received = kNow;
  stored.expires = kNow + absl::Seconds(100);
  stored.by_caller = c.by_caller;
  stored.headers = Control(c.response);
  const Demand demand{.control = c.request.empty() ? CacheControl() : Asks(c.request),
                      .refresh = c.refresh,
                      .always_revalidate = c.always,
                      .stale_if_error = absl::Seconds(c.stale_if_error),
                      .stale_while_revalidate = absl::Seconds(c.stale_while_revalidate)};
  const Verdict verdict = Judge(stored, demand, kNow + absl::Seconds(c.age));
  EXPECT_EQ(verdict.use, c.use) << c.what;
  EXPECT_EQ(verdict.on_error, c.on_error) << c.what;
  EXPECT_EQ(verdict.stale, c.age >= 100) << c.what;
  EXPECT_EQ(verdict.age, absl::Seconds(c.age)) << c.what;
}

constexpr Use kServe = Use::kServe, kAsk = Use::kRevalidate, kBoth = Use::kServeAndRefresh;

TEST(FreshnessTest, AVerdictIsAsTheDirectivesOfBothSidesHaveIt) {
  for (const JudgeCase& c :
       {JudgeCase{"4.2: fresh", "", "", 99, kServe, true},
        JudgeCase{"4.2: stale", "", "", 100, kAsk, false},
        JudgeCase{"5.2.2.4: no-cache", "no-cache", "", 1, kAsk, false},
        JudgeCase{"5.2.2.4: no-cache, never on error", "no-cache, stale-if-error=900", "", 1, kAsk,
                  false},
        JudgeCase{"5.2.2.4: with names only those", "no-cache=\"a\"", "", 1, kServe, true},
        JudgeCase{"5.2.2.2: must-revalidate, fresh", "must-revalidate", "", 1, kServe, true},
        JudgeCase{"5.2.2.2: must-revalidate, stale", "must-revalidate, stale-if-error=900", "", 101,
                  kAsk, false},
        JudgeCase{"5.2.2.8: proxy-revalidate is for others", "proxy-revalidate", "max-stale", 101,
                  kServe, false},
        JudgeCase{"5.2.1.1: max-age", "", "max-age=10", 10, kServe, true},
        JudgeCase{"5.2.1.1: max-age, older", "", "max-age=10", 11, kAsk, false},
        JudgeCase{"5.2.1.1: max-age=0", "", "max-age=0", 1, kAsk, false},
        JudgeCase{"5.2.1.1: max-age with max-stale", "", "max-age=10, max-stale", 11, kAsk, false},
        JudgeCase{"5.2.1.3: min-fresh", "", "min-fresh=10", 90, kServe, true},
        JudgeCase{"5.2.1.3: min-fresh, too little", "", "min-fresh=10", 91, kAsk, false},
        JudgeCase{"5.2.1.3: min-fresh, none", "", "min-fresh=x", 1, kAsk, false},
        JudgeCase{"5.2.1.2: max-stale", "", "max-stale", 9999, kServe, false},
        JudgeCase{"5.2.1.2: max-stale=10", "", "max-stale=10", 110, kServe, false},
        JudgeCase{"5.2.1.2: max-stale=10, staler", "", "max-stale=10", 111, kAsk, false},
        JudgeCase{"5.2.1.2: not against must-revalidate", "must-revalidate", "max-stale", 101, kAsk,
                  false},
        JudgeCase{"5.2.1.2: not against no-cache", "no-cache", "max-stale", 1, kAsk, false},
        JudgeCase{"5.2.1.4: request no-cache", "immutable", "no-cache, stale-if-error=9", 1, kAsk,
                  false},
        JudgeCase{"5.2.1.5: request no-store may be served", "", "no-store", 1, kServe, true},
        JudgeCase{.what = "refresh", .age = 1, .use = kAsk, .on_error = false, .refresh = true},
        JudgeCase{.what = "refresh against immutable",
        .response = "immutable",
        .age = 1,
        .use = kAsk,
        .on_error = false,
        .refresh = true},
        JudgeCase{.what = "refresh with stale-if-error",
        .age = 1,
        .use = kAsk,
        .on_error = true,
        .refresh = true,
        .stale_if_error = 5},
        JudgeCase{.what = "always", .age = 1, .use = kAsk, .on_error = true, .always = true},
        JudgeCase{.what = "always, stale",
        .request = "max-stale",
        .age = 101,
        .use = kAsk,
        .on_error = false,
        .always = true},
        JudgeCase{.what = "RFC 8246 s2: immutable",
        .response = "immutable",
        .age = 1,
        .use = kServe,
        .on_error = true,
        .always = true},
        JudgeCase{.what = "RFC 8246 s2: stale",
        .response = "immutable",
        .age = 101,
        .use = kAsk,
        .on_error = false,
        .always = true},
        JudgeCase{"RFC 5861 s4: response", "stale-if-error=10", "", 110, kAsk, true},
        JudgeCase{"RFC 5861 s4: response, later", "stale-if-error=10", "", 111, kAsk, false},
        JudgeCase{"RFC 5861 s4: request", "", "stale-if-error=10", 110, kAsk, true},
        JudgeCase{"RFC 5861 s4: request first", "stale-if-error=50", "stale-if-error=10", 111, kAsk,
                  false},
        JudgeCase{.what = "RFC 5861 s4: session",
        .age = 110,
        .use = kAsk,
        .on_error = true,
        .stale_if_error = 10},
        JudgeCase{.what = "RFC 5861 s4: origin before session",
        .response = "stale-if-error=0",
        .age = 110,
        .use = kAsk,
        .on_error = false,
        .stale_if_error = 10},
        JudgeCase{"RFC 5861 s3", "stale-while-revalidate=10", "", 110, kBoth, false},
        JudgeCase{"RFC 5861 s3: later", "stale-while-revalidate=10", "", 111, kAsk, false},
        JudgeCase{"RFC 5861 s3: must-revalidate", "stale-while-revalidate=10, must-revalidate", "",
                  101, kAsk, false},
        JudgeCase{"RFC 5861 s3: request max-age", "stale-while-revalidate=10", "max-age=50", 105,
                  kAsk, false},
        JudgeCase{"RFC 5861 s3: request min-fresh", "stale-while-revalidate=10", "min-fresh=0", 105,
                  kAsk, false},
        JudgeCase{"RFC 5861 s3: request no-cache", "stale-while-revalidate=10", "no-cache", 105,
                  kAsk, false},
        JudgeCase{.what = "RFC 5861 s3: session",
        .age = 110,
        .use = kBoth,
        .on_error = false,
        .stale_while_revalidate = 10},
        JudgeCase{.what = "by caller: no-cache",
        .response = "no-cache",
        .age = 1,
        .use = kServe,
        .on_error = true,
        .by_caller = true},
        JudgeCase{.what = "by caller: must-revalidate",
        .response = "must-revalidate",
        .request = "max-stale",
        .age = 101,
        .use = kServe,
        .on_error = false,
        .by_caller = true},
        JudgeCase{.what = "by caller: request no-cache",
        .request = "no-cache",
        .age = 1,
        .use = kAsk,
        .on_error = false,
        .by_caller = true}}) {
    ExpectVerdict(c);
  }
}

TEST(FreshnessTest, WhatTheCallerWouldHaveExpireAtOnceIsAskedAboutEachTime) {
  StoredResponse stored;
  stored.received = stored.expires = kNow;
  const Demand demand{.stale_while_revalidate = absl::Hours(1)};
  EXPECT_EQ(Judge(stored, demand, kNow).use, Use::kServeAndRefresh);
  stored.by_caller = true;
  EXPECT_EQ(Judge(stored, demand, kNow).use, Use::kRevalidate);
  // Also by a clock that is behind.
  EXPECT_TRUE(Judge(stored, demand, kNow - absl::Hours(1)).stale);
}

TEST(FreshnessTest, TheAllowanceIsTheLongerOfBothUnlessItMustBeRevalidated) {
  const Demand demand{.stale_if_error = absl::Seconds(5),
                      .stale_while_revalidate = absl::Seconds(7)};
  EXPECT_EQ(StaleAllowance({}, demand), absl::Seconds(7));
  EXPECT_EQ(StaleAllowance(Control("stale-if-error=9"), demand), absl::Seconds(9));
  EXPECT_EQ(StaleAllowance(Control("stale-while-revalidate=0"), demand), absl::Seconds(5));
  EXPECT_EQ(StaleAllowance(Control("must-revalidate"), demand), absl::ZeroDuration());
  EXPECT_EQ(StaleAllowance(Control("no-cache"), demand), absl::ZeroDuration());
  EXPECT_EQ(StaleAllowance(Control("no-cache"), demand, true), absl::Seconds(7));
  EXPECT_EQ(StaleAllowance({}, {}), absl::ZeroDuration());
}

}  // namespace
}  // namespace coord::http::internal
