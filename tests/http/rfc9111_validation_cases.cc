// RFC 9111 section 4.3: asking whether a stored response is still good.
#include <string>
#include <utility>
#include <vector>

#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

// To be asked about at once, by the tag `"a"`.
Fields Tagged(Fields more = {}) {
  Fields fields = {{"Cache-Control", "max-age=60"}, {"ETag", "\"a\""}};
  for (auto& field : more) fields.push_back(std::move(field));
  return fields;
}

}  // namespace

std::vector<Case> ValidationCases() {
  return {
      {"AStaleResponseIsAskedAboutByItsTag",
       "RFC 9111 4.3.1",
       {Get().Miss(Tagged(), "one").SeesNoCondition(),
        Get().After(61).Revalidated({}, "one").Sees("If-None-Match", "\"a\"")}},
      {"AStaleResponseIsAskedAboutByItsDate",
       "RFC 9111 4.3.1",
       {Get().Miss(
            {{"Cache-Control", "max-age=60"}, {"Last-Modified", "Tue, 30 Dec 2025 10:00:00 GMT"}},
            "one"),
        Get()
            .After(61)
            .Revalidated({}, "one")
            .Sees("If-Modified-Since", "Tue, 30 Dec 2025 10:00:00 GMT")
            .SeesNo("If-None-Match")}},
      {"BothValidatorsAreSent",
       "RFC 9111 4.3.1",
       {Get().Miss(Tagged({{"Last-Modified", "Tue, 30 Dec 2025 10:00:00 GMT"}}), "one"),
        Get()
            .After(61)
            .Revalidated({}, "one")
            .Sees("If-None-Match", "\"a\"")
            .Sees("If-Modified-Since", "Tue, 30 Dec 2025 10:00:00 GMT")}},
      {"AWeakTagIsSentAsItIs",
       "RFC 9110 8.8.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"ETag", "W/\"a\""}}, "one"),
        Get().After(61).Revalidated({}, "one").Sees("If-None-Match", "W/\"a\"")}},
      {"ATagWithACommaIsSentAsItIs",
       "RFC 9110 8.8.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"ETag", "\"a, b\""}}, "one"),
        Get().After(61).Revalidated({}, "one").Sees("If-None-Match", "\"a, b\"")}},
      {"WithoutAValidatorNothingIsSent",
       "RFC 9111 4.3.1",
       {Get().Miss({{"Cache-Control", "max-age=60"}}, "one"),
        Get().After(61).Miss({}, "two").SeesNo("If-None-Match")}},
      {"AFreshResponseIsNotAskedAbout",
       "RFC 9111 4.2",
       {Get().Miss(Tagged(), "one"), Get().After(30).Hit("one")}},
      {"TheRequestsOwnFieldsAreSentAlong",
       "RFC 9111 4.3.1",
       {Get().With("X-Mine", "1").Miss(Tagged(), "one"), Get()
                                                             .After(61)
                                                             .With("X-Mine", "2")
                                                             .Revalidated({}, "one")
                                                             .Sees("X-Mine", "2")
                                                             .Sees("If-None-Match", "\"a\"")}},
      {"HeadIsNotValidatedIntoABody",
       "RFC 9111 4.3.1",
       {Head().Miss(Tagged(), ""), Head().After(61).Revalidated({}, "")}},

      {"NotModifiedMakesFreshAgain",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged(), "one"), Get().After(61).Revalidated(Tagged(), "one").Stored(true),
        Get().After(59).Hit("one"), Get().After(2).Revalidated(Tagged(), "one")}},
      {"NotModifiedWithNothingToSayMakesFreshAgain",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged(), "one"), Get().After(61).Revalidated({}, "one"),
        Get().After(59).Hit("one")}},
      {"NotModifiedWithADateMakesFreshAgain",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged({{"Date", "{now}"}}), "one"),
        Get().After(61).Revalidated({{"Date", "{now}"}}, "one").Returns("Date", "{now}"),
        Get().After(59).Hit("one")}},
      {"NotModifiedWithoutADateCameNow",
       "RFC 9110 6.6.1",
       {Get().Miss(Tagged({{"Date", "{now}"}}), "one"), Get().After(61).Revalidated({}, "one"),
        Get().After(59).Hit("one").Age(59)}},
      {"NotModifiedMayGiveMoreTime",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged(), "one"),
        Get().After(61).Revalidated({{"Cache-Control", "max-age=600"}}, "one"),
        Get().After(599).Hit("one"), Get().After(2).Revalidated({}, "one")}},
      {"NotModifiedMayGiveLessTime",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged(), "one"),
        Get().After(61).Revalidated({{"Cache-Control", "max-age=5"}}, "one"),
        Get().After(6).Revalidated({}, "one")}},
      {"NotModifiedMayMoveExpires",
       "RFC 9111 4.3.4",
       {Get().Miss({{"Expires", "{now+60}"}, {"ETag", "\"a\""}}, "one"),
        Get().After(61).Revalidated({{"Expires", "{now+60}"}}, "one"), Get().After(59).Hit("one"),
        Get().After(2).Revalidated({}, "one")}},
      {"NotModifiedThatIsOldCountsItsAge",
       "RFC 9111 4.2.3",
       {Get().Miss(Tagged(), "one"), Get().After(61).Revalidated({{"Age", "50"}}, "one"),
        Get().After(9).Hit("one").Age(59), Get().After(1).Revalidated({}, "one")}},
      {"NotModifiedForgetsTheAgeOnArrival",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged({{"Age", "50"}}), "one"), Get().After(11).Revalidated({}, "one"),
        Get().After(30).Hit("one").Age(30)}},
      {"NotModifiedReplacesFields",
       "RFC 9111 3.2",
       {Get().Miss(Tagged({{"X-Old", "kept"}, {"X-New", "before"}}), "one"),
        Get()
            .After(61)
            .Revalidated({{"X-New", "after"}, {"X-More", "added"}}, "one")
            .Returns("X-New", "after"),
        Get()
            .After(1)
            .Hit("one")
            .Returns("X-Old", "kept")
            .Returns("X-New", "after")
            .Returns("X-More", "added")
            .Returns("ETag", "\"a\"")}},
      {"NotModifiedReplacesAllLinesOfAField",
       "RFC 9111 3.2",
       {Get().Miss(Tagged({{"X-Many", "a"}, {"X-Many", "b"}}), "one"),
        Get().After(61).Revalidated({{"X-Many", "c"}}, "one"),
        Get().After(1).Hit("one").Returns("X-Many", "c")}},
      {"NotModifiedKeepsTheStatus",
       "RFC 9111 4.3.4",
       {Get().Miss(Tagged(), "gone", 404),
        Get().After(61).Revalidated(Tagged(), "gone").Status(404), Get().Hit("gone", 404)}},
      {"FieldsOfTheConnectionInNotModifiedAreNotStored",
       "RFC 9111 3.2",
       {Get().Miss(Tagged(), "one"),
        Get().After(61).Revalidated(
            {{"Connection", "X-Hop"}, {"X-Hop", "1"}, {"Proxy-Authenticate", "Basic"}}, "one"),
        Get().After(1).Hit("one").ReturnsNo("X-Hop").ReturnsNo("Proxy-Authenticate")}},
      {"NotModifiedMayForbidToKeepIt",
       "RFC 9111 5.2.2.5",
       {Get().Miss(Tagged(), "one"),
        Get().After(61).Revalidated({{"Cache-Control", "no-store"}}, "one"),
        Get().After(1).Miss({}, "two")}},
      {"AWeakTagInNotModifiedUpdates",
       "RFC 9111 4.3.4",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"ETag", "W/\"a\""}}, "one"),
        Get().After(61).Revalidated({{"ETag", "W/\"a\""}, {"X-New", "1"}}, "one"),
        Get().After(59).Hit("one").Returns("X-New", "1")}},

      {"AnotherBodyTakesTheOldOnesPlace",
       "RFC 9111 4.3.3",
       {Get().Miss(Tagged(), "one"),
        Get()
            .After(61)
            .Miss({{"Cache-Control", "max-age=60"}, {"ETag", "\"b\""}}, "two")
            .Sees("If-None-Match", "\"a\""),
        Get().After(1).Hit("two").Returns("ETag", "\"b\""),
        Get().After(61).Revalidated({}, "two").Sees("If-None-Match", "\"b\"")}},
      {"AnotherBodyBringsItsOwnFieldsOnly",
       "RFC 9111 4.3.3",
       {Get().Miss(Tagged({{"X-Old", "1"}}), "one"), Get().After(61).Miss(Tagged(), "two"),
        Get().After(1).Hit("two").ReturnsNo("X-Old")}},
      {"AServerErrorIsPassedOnWhereNobodyAllowsStale",
       "RFC 9111 4.3.3",
       {Get().Miss(Tagged(), "one"), Get().After(61).Miss({}, "broken", 500)}},
      {"AServerErrorLeavesTheOldOneForLater",
       "RFC 9111 4.3.3",
       {Get().Miss(Tagged(), "one"), Get().After(61).Miss({}, "broken", 503),
        Get().After(1).Revalidated({}, "one").Sees("If-None-Match", "\"a\"")}},
      {"NotFoundIsPassedOn",
       "RFC 9111 4.3.3",
       {Get().Miss(Tagged(), "one"), Get().After(61).Miss({}, "gone", 404)}},
      {"NoStoreInTheNewOneIsHeeded",
       "RFC 9111 5.2.2.5",
       {Get().Miss(Tagged(), "one"),
        Get().After(61).Miss({{"Cache-Control", "no-store"}}, "two").Stored(false),
        Get().After(1).Miss({}, "three")}},

      // 4.3.2: a caller who asks himself whether something is new.
      {"ACallersOwnConditionGoesToTheOriginWhereNothingIsCached",
       "RFC 9111 4.3.2",
       {Get().With("If-None-Match", "\"mine\"").Miss({}, "", 304).Sees("If-None-Match", "\"mine\""),
        Get().Miss(Tagged(), "one")}},
      {"ACallersOwnConditionThatHoldsIsAnsweredByAFreshOne",
       "RFC 9111 4.3.2",
       {Get().Miss(Tagged(), "one"), Get().With("If-None-Match", "\"a\"").Hit("", 304)}},
      {"ACallersOwnListOfTagsIsAnsweredByAFreshOne",
       "RFC 9111 4.3.2",
       {Get().Miss(Tagged(), "one"), Get().With("If-None-Match", "\"x\", W/\"a\"").Hit("", 304)}},
      {"ACallersOwnConditionThatFailsGetsTheFreshOne",
       "RFC 9111 4.3.2",
       {Get().Miss(Tagged(), "one"), Get().With("If-None-Match", "\"other\"").Hit("one")}},
      {"ACallersOwnDateIsAnsweredByAFreshOne",
       "RFC 9111 4.3.2",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"Last-Modified", "{now-1000}"}}, "one"),
        Get().With("If-Modified-Since", "{now-1000}").Hit("", 304),
        Get().With("If-Modified-Since", "{now-2000}").Hit("one")}},
      {"ACallersOwnTagGoesBeforeHisDate",
       "RFC 9111 4.3.2",
       {Get().Miss(Tagged({{"Last-Modified", "{now-1000}"}}), "one"),
        Get().With("If-None-Match", "\"other\"").With("If-Modified-Since", "{now}").Hit("one")}},
      {"ACallersOwnConditionDoesNotSpoilTheCache",
       "RFC 9111 4.3.2",
       {Get().Miss(Tagged(), "one"), Get().With("If-None-Match", "\"a\"").Hit("", 304),
        Get().Hit("one")}},

      // 4.3.5
      {"HeadMakesAStoredGetFreshAgain",
       "RFC 9111 4.3.5",
       {Get().Miss(Tagged(), "one"),
        Head().After(61).Miss({{"Cache-Control", "max-age=600"}, {"ETag", "\"a\""}}, "one"),
        Get().After(300).Hit("one")}},
      {"HeadThatDiffersMakesAStoredGetStale",
       "RFC 9111 4.3.5",
       {Get().Miss(Tagged(), "one"),
        Head().ForceRefresh().Miss({{"Cache-Control", "max-age=60"}, {"ETag", "\"b\""}}, ""),
        Get().Miss({}, "two")}},

      // Asked for by the caller.
      {"RefreshAsksAboutAFreshOne",
       "RFC 9111 5.2.1.4",
       {Get().Miss(Tagged(), "one"),
        Get().After(10).Refresh().Revalidated({}, "one").Sees("If-None-Match", "\"a\""),
        Get().After(59).Hit("one")}},
      {"RefreshTakesWhatIsNew",
       "RFC 9111 5.2.1.4",
       {Get().Miss(Tagged(), "one"), Get().Refresh().Miss(Tagged(), "two"), Get().Hit("two")}},
      {"RefreshOfNothingIsARequest",
       "RFC 9111 5.2.1.4",
       {Get().Refresh().Miss(Tagged(), "one").SeesNoCondition(), Get().Hit("one")}},
      {"ForceRefreshAsksAsIfNothingWereCached",
       "RFC 9111 5.2.1.4",
       {Get().Miss(Tagged({{"Last-Modified", "{now-1000}"}}), "one"),
        Get().ForceRefresh().Miss(Tagged(), "two").SeesNoCondition(), Get().Hit("two")}},
      {"AlwaysRevalidateAsksAboutAFreshOne",
       "RFC 9111 4.3.1",
       {Get().Miss(Tagged(), "one"), Get().Revalidated({}, "one").Sees("If-None-Match", "\"a\""),
        Get().Miss(Tagged(), "two")},
       [](SessionOptions& options, const std::string&) { options.always_revalidate = true; }},
  };
}

}  // namespace coord::http::rfc
