// Who says how long a response is fresh where a caller may (RFC 9111 section 4.2.1 leaves that to
// the cache's configuration), redirects by their own freshness, and what is left out.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/strings.h"
#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

using ::coord::internal::StrCat;

Fields Control(std::string directives) {
  return {{"Cache-Control", std::move(directives)}, {"ETag", "\"a\""}};
}
Fields To(std::string location, Fields more = {}) {
  Fields fields = {{"Location", std::move(location)}};
  for (auto& field : more) fields.push_back(std::move(field));
  return fields;
}

std::vector<Case> PrecedenceCases() {
  const char* const section = "RFC 9111 4.2.1";
  const auto pattern = [](Expiry expire) {
    return [expire](SessionOptions& options, const std::string& url) {
      options.urls_expire_after = {{UrlPattern(url), expire}};
    };
  };
  const auto session = [](Expiry expire, HeaderRank rank = HeaderRank::kBelowPatterns) {
    return [expire, rank](SessionOptions& options, const std::string&) {
      options.expire_after = expire;
      options.header_rank = rank;
    };
  };
  const auto after = [](int seconds) { return Expiry::After(absl::Seconds(seconds)); };
  return {
      {"TheCallBeatsTheOrigin",
       section,
       {Get().Expire(after(100)).Miss(Control("max-age=10"), "one"), Get().After(99).Hit("one"),
        Get().After(2).Miss({}, "two")}},
      {"TheCallMayShorten",
       section,
       {Get().Expire(after(10)).Miss(Control("max-age=100"), "one"), Get().After(9).Hit("one"),
        Get().After(2).Miss({}, "two")}},
      {"TheCallBeatsThePattern",
       section,
       {Get().Expire(after(100)).Miss({}, "one"), Get().After(50).Hit("one")},
       pattern(after(10))},
      {"ThePatternBeatsTheOrigin",
       section,
       {Get().Miss(Control("max-age=10"), "one"), Get().After(99).Hit("one"),
        Get().After(2).Miss({}, "two")},
       pattern(after(100))},
      {"TheFirstPatternThatMatchesCounts",
       section,
       {Get("/a").Miss({}, "one"), Get("/b").Miss({}, "two"), Get("/a").After(50).Hit("one"),
        Get("/b").Miss({}, "two again")},
       [after](SessionOptions& options, const std::string& url) {
         options.urls_expire_after = {{UrlPattern("nowhere.invalid/*"), after(1)},
                                      {UrlPattern(StrCat(url, "/a")), after(100)},
                                      {UrlPattern(StrCat(url, "/*")), after(10)}};
       }},
      {"ARegularExpressionIsAPattern",
       section,
       {Get("/17.png").Miss({}, "one"), Get("/x.png").Miss({}, "two"),
        Get("/17.png").After(50).Hit("one"), Get("/x.png").Miss({}, "two again")},
       [after](SessionOptions& options, const std::string&) {
         options.urls_expire_after = {{UrlPattern::Regex("/[0-9]+\\.png$"), after(100)}};
       }},
      {"APatternOfAHostIsForAllBelowIt",
       section,
       {Get("/a/b?c=d").Miss({}, "one"), Get("/a/b?c=d").After(50).Hit("one")},
       [after](SessionOptions& options, const std::string&) {
         options.urls_expire_after = {{UrlPattern("127.0.0.1:*"), after(100)}};
       }},
      {"TheOriginBeatsTheSession",
       section,
       {Get().Miss(Control("max-age=10"), "one"), Get().After(9).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session(after(100))},
      {"ExpiresBeatsTheSession",
       section,
       {Get().Miss({{"Expires", "{now+10}"}}, "one"), Get().After(9).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session(after(100))},
      {"TheSessionSpeaksWhereNobodyElseDoes",
       section,
       {Get().Miss({}, "one"), Get().After(99).Hit("one"), Get().After(2).Miss({}, "two")},
       session(after(100))},
      {"TheSessionBeatsAGuess",
       "RFC 9111 4.2.2",
       {Get().Miss({{"Last-Modified", "{now-10000}"}}, "one"), Get().After(9).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session(after(10))},
      {"RankedFirstTheOriginBeatsTheCall",
       section,
       {Get().Expire(after(100)).Miss(Control("max-age=10"), "one"), Get().After(9).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session({}, HeaderRank::kFirst)},
      {"RankedFirstTheCallBeatsTheSession",
       section,
       {Get().Expire(after(100)).Miss({}, "one"), Get().After(99).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session(after(10), HeaderRank::kFirst)},
      {"RankedFirstTheOriginBeatsThePattern",
       section,
       {Get().Miss(Control("max-age=10"), "one"), Get().After(11).Miss({}, "two")},
       [after](SessionOptions& options, const std::string& url) {
         options.urls_expire_after = {{UrlPattern(url), after(100)}};
         options.header_rank = HeaderRank::kFirst;
       }},
      {"IgnoredTheOriginSaysNothing",
       section,
       {Get().Miss(Control("max-age=10"), "one"), Get().After(99).Hit("one"),
        Get().After(2).Miss({}, "two")},
       session(after(100), HeaderRank::kIgnored)},
      {"IgnoredNotEvenNoStoreIsHeeded",
       section,
       {Get().Miss(Control("no-store"), "one").Stored(true), Get().After(99).Hit("one")},
       session(after(100), HeaderRank::kIgnored)},
      {"IgnoredWithNobodyElseNeverExpires",
       section,
       {Get().Miss(Control("max-age=1"), "one"), Get().After(300 * 86400).Hit("one")},
       session({}, HeaderRank::kIgnored)},
      {"TheCallDoesNotOverrideNoStore",
       "RFC 9111 5.2.2.5",
       {Get().Expire(after(100)).Miss(Control("no-store"), "one").Stored(false),
        Get().Miss({}, "two")}},
      {"ThePatternDoesNotOverrideNoStore",
       "RFC 9111 5.2.2.5",
       {Get().Miss(Control("no-store"), "one").Stored(false), Get().Miss({}, "two")},
       pattern(after(100))},
      {"DoNotCacheByTheCallNeitherStoresNorLooks",
       section,
       {Get().Miss(Control("max-age=60"), "one"),
        Get()
            .Expire(Expiry::DoNotCache())
            .Miss(Control("max-age=60"), "two")
            .Stored(false)
            .SeesNoCondition(),
        Get().Hit("one")}},
      {"DoNotCacheByThePatternNeitherStoresNorLooks",
       section,
       {Get().Miss(Control("max-age=60"), "one").Stored(false),
        Get().Miss(Control("max-age=60"), "two").SeesNoCondition()},
       pattern(Expiry::DoNotCache())},
      {"DoNotCacheByTheSessionLeavesThePatternsUrls",
       section,
       {Get("/a").Miss({}, "one"), Get("/b").Miss({}, "two"), Get("/a").After(50).Hit("one"),
        Get("/b").Miss({}, "two again")},
       [after](SessionOptions& options, const std::string& url) {
         options.urls_expire_after = {{UrlPattern(StrCat(url, "/a")), after(100)}};
         options.expire_after = Expiry::DoNotCache();
       }},
      {"ImmediatelyIsStoredAndAskedAboutEachTime",
       section,
       {Get().Expire(Expiry::Immediately()).Miss(Control("max-age=60"), "one").Stored(true),
        Get().Expire(Expiry::Immediately()).Revalidated({}, "one").Sees("If-None-Match", "\"a\"")}},
      {"ImmediatelyByTheSessionIsAskedAboutEachTime",
       section,
       {Get().Miss({{"ETag", "\"a\""}}, "one"), Get().Revalidated({}, "one"),
        Get().Revalidated({}, "one")},
       session(Expiry::Immediately())},
      {"ZeroIsImmediately",
       section,
       {Get().Miss({{"ETag", "\"a\""}}, "one"), Get().Revalidated({}, "one")},
       pattern(after(0))},
      {"NeverIsFreshForYears",
       section,
       {Get().Expire(Expiry::Never()).Miss(Control("max-age=1"), "one"),
        Get().After(std::int64_t{86400} * 5000).Hit("one")}},
      {"NeverByThePatternIsFreshForYears",
       section,
       {Get().Miss({}, "one"), Get().After(std::int64_t{86400} * 5000).Hit("one")},
       pattern(Expiry::Never())},
      {"AMomentIsTheMoment",
       section,
       {Get().Expire(Expiry::At(absl::FromUnixSeconds(1767225600 + 100))).Miss({}, "one"),
        Get().After(99).Hit("one"), Get().After(2).Miss({}, "two")}},
      {"AMomentInThePastIsAtOnce",
       section,
       {Get()
            .Expire(Expiry::At(absl::FromUnixSeconds(1767225600 - 100)))
            .Miss(Control("max-age=60"), "one"),
        Get().Revalidated({}, "one")}},
      {"AnAgeOnArrivalDoesNotShortenTheCallersTime",
       section,
       {Get().Expire(after(100)).Miss({{"Age", "90"}}, "one"), Get().After(50).Hit("one")}},
  };
}

std::vector<Case> RedirectCases() {
  std::vector<Case> cases = {
      {"ARedirectLeadsOn",
       "RFC 9110 15.4",
       {Get().Miss(To("{path}/b"), "", 302).Leads("/b", {}, "there")}},
      {"ATemporaryRedirectIsAskedForEachTime",
       "RFC 9110 15.4.3",
       {Get().NoRedirects().Miss(To("{path}/b"), "", 302),
        Get().NoRedirects().Miss(To("{path}/c"), "", 302)}},
      {"ARedirectIsCachedApartFromWhereItLeads",
       "RFC 9111 4",
       {Get().Miss(To("{path}/b"), "", 302).Leads("/b", {{"Cache-Control", "max-age=60"}}, "there"),
        Get("/b").Hit("there")}},
      {"ACachedRedirectLeadsToACachedPage",
       "RFC 9111 4",
       {Get()
            .Miss(To("{path}/b", {{"Cache-Control", "max-age=60"}}), "", 302)
            .Leads("/b", {{"Cache-Control", "max-age=60"}}, "there"),
        Get().Hit("there").AlsoNotAsked("/b")}},
      {"AnExpiredPageBehindACachedRedirectIsAskedFor",
       "RFC 9111 4",
       {Get()
            .Miss(To("{path}/b", {{"Cache-Control", "max-age=600"}}), "", 301)
            .Leads("/b", {{"Cache-Control", "max-age=60"}}, "there"),
        Get().After(61).Leads("/b", {}, "there again")}},
      {"APageBehindSeeOtherAfterPostIsCached",
       "RFC 9110 15.4.4",
       {Post()
            .Miss(To("{path}/b"), "", 303)
            .Leads("/b", {{"Cache-Control", "max-age=60"}}, "there"),
        Get("/b").Hit("there")}},
      {"SeeOtherAfterPostIsNotTheAnswerToGet",
       "RFC 9110 15.4.4",
       {Post()
            .Miss(To("{path}/b", {{"Cache-Control", "max-age=60"}}), "", 303)
            .Leads("/b", {}, "there"),
        Get().Miss({}, "here")}},
  };
  for (const int status : {301, 302, 303, 307, 308}) {
    cases.push_back(
        {StrCat("Redirect", status, "WithMaxAgeIsCached"),
         "RFC 9111 3",
         {Get().NoRedirects().Miss(To("{path}/b", {{"Cache-Control", "max-age=60"}}), "", status),
          Get().After(30).NoRedirects().Hit("", status).Returns("Location", "{path}/b")}});
  }
  for (const int status : {301, 308}) {
    cases.push_back(
        {StrCat("Redirect", status, "IsHeuristicallyFresh"),
         "RFC 9110 15.1",
         {Get().NoRedirects().Miss(To("{path}/b", {{"Last-Modified", "{now-100000}"}}), "", status),
          Get().After(60).NoRedirects().Hit("", status)}});
  }
  for (const int status : {302, 303, 307}) {
    cases.push_back(
        {StrCat("Redirect", status, "IsNotHeuristicallyFresh"),
         "RFC 9111 4.2.2",
         {Get().NoRedirects().Miss(To("{path}/b", {{"Last-Modified", "{now-100000}"}}), "", status),
          Get().After(1).NoRedirects().Miss(To("{path}/c"), "", status)}});
  }
  return cases;
}

}  // namespace

std::vector<Case> ExpiryCases() {
  std::vector<Case> cases = PrecedenceCases();
  for (Case& one : RedirectCases()) cases.push_back(std::move(one));
  return cases;
}

}  // namespace coord::http::rfc
