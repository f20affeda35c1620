// RFC 9111 sections 4.2, 5.1 and 5.3: how long a response is fresh, and how old it is.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

// Fresh after `fresh` seconds, to be asked for after `stale`.
Case Between(std::string name, std::string section, Fields fields, std::int64_t fresh,
             std::int64_t stale) {
  return {std::move(name),
          std::move(section),
          {Get().Miss(std::move(fields), "one"), Get().After(fresh).Hit("one"),
           Get().After(stale - fresh).Miss({}, "two")}};
}
// Not fresh for a second.
Case Never(std::string name, std::string section, Fields fields) {
  return {std::move(name),
          std::move(section),
          {Get().Miss(std::move(fields), "one"), Get().After(1).Miss({}, "two")}};
}
// Fresh after a month.
Case Long(std::string name, std::string section, Fields fields) {
  return {std::move(name),
          std::move(section),
          {Get().Miss(std::move(fields), "one"), Get().After(30 * 86400).Hit("one")}};
}
Fields Control(std::string directives) { return {{"Cache-Control", std::move(directives)}}; }
Fields Expires(std::string value) { return {{"Expires", std::move(value)}}; }

}  // namespace

std::vector<Case> FreshnessCases() {
  return {
      // max-age
      Between("MaxAgeIsFreshUntilItHasPassed", "RFC 9111 5.2.2.1", Control("max-age=60"), 59, 60),
      Never("MaxAgeZeroIsNeverFresh", "RFC 9111 5.2.2.1", Control("max-age=0")),
      Between("DirectivesHaveNoCase", "RFC 9111 5.2", Control("Max-AGE=60"), 59, 60),
      Between("MaxAgeMayBeQuoted", "RFC 9111 5.2", Control("max-age=\"60\""), 59, 60),
      Between("BlanksAndEmptyElementsInAListAreNothing", "RFC 9110 5.6.1",
              Control(" ,  , max-age=60 ,,\tpublic , "), 59, 60),
      Between("UnknownDirectivesAreIgnored", "RFC 9111 5.2.3",
              Control("community=\"UCI\", frobnicate, x=y, max-age=60"), 59, 60),
      Between("DirectivesInsideAQuotedTextAreNone", "RFC 9110 5.6.4",
              Control("ext=\"no-store, max-age=1\", max-age=60"), 59, 60),
      Between("EscapedQuotesDoNotEndAText", "RFC 9110 5.6.4",
              Control("ext=\"a\\\", no-store, \\\\\", max-age=60"), 59, 60),
      Between("PartsOfANameAreNotTheDirective", "RFC 9111 5.2",
              Control("x-no-store, no-storage, xmax-age=1, max-agex=1, max-age=60"), 59, 60),
      Between("LeadingZerosAreDecimal", "RFC 9111 1.2.2", Control("max-age=0060"), 59, 60),
      Long("MaxAgeBeyondAllNumbersIsLong", "RFC 9111 1.2.2",
           Control("max-age=99999999999999999999999999")),
      Long("MaxAgeBeyond31BitsIsLong", "RFC 9111 1.2.2", Control("max-age=2147483649")),
      Never("MaxAgeThatIsNoNumberIsStale", "RFC 9111 4.2.1", Control("max-age=soon")),
      Never("MaxAgeBelowZeroIsStale", "RFC 9111 4.2.1", Control("max-age=-60")),
      Never("MaxAgeWithAFractionIsStale", "RFC 9111 4.2.1", Control("max-age=60.5")),
      Never("MaxAgeWithoutAValueIsStale", "RFC 9111 4.2.1", Control("max-age")),
      Never("MaxAgeWithAnEmptyValueIsStale", "RFC 9111 4.2.1", Control("max-age=")),
      Never("OfTwoMaxAgesALaterLongOneIsNotTrusted", "RFC 9111 4.2.1",
            Control("max-age=0, max-age=3600")),
      Never("OfMaxAgesOnTwoLinesALaterLongOneIsNotTrusted", "RFC 9111 4.2.1",
            {{"Cache-Control", "max-age=0"}, {"Cache-Control", "max-age=3600"}}),
      Between("AHugeCacheControlIsReadToItsEnd", "RFC 9110 5.4",
              {{"Cache-Control", std::string("ext=\"") + std::string(6000, ',') + "\""},
               {"Cache-Control", "max-age=60"}},
              59, 60),
      Between("AnUnterminatedTextDoesNotHideWhatCameBefore", "RFC 9111 5.2",
              Control("max-age=60, ext=\"never ends"), 59, 60),

      // s-maxage: not for us
      Between("SharedMaxAgeDoesNotShorten", "RFC 9111 5.2.2.10", Control("s-maxage=0, max-age=60"),
              59, 60),
      Never("SharedMaxAgeDoesNotLengthen", "RFC 9111 5.2.2.10", Control("max-age=0, s-maxage=600")),
      Never("SharedMaxAgeAloneSaysNothing", "RFC 9111 5.2.2.10", Control("s-maxage=600")),

      // Expires
      Between("ExpiresIsFreshUntilThen", "RFC 9111 5.3", Expires("{now+60}"), 59, 60),
      Never("ExpiresInThePastIsStale", "RFC 9111 5.3", Expires("{now-1}")),
      Never("ExpiresAtOnceIsStale", "RFC 9111 5.3", Expires("{now}")),
      Never("ExpiresZeroIsStale", "RFC 9111 5.3", Expires("0")),
      Never("ExpiresMinusOneIsStale", "RFC 9111 5.3", Expires("-1")),
      Never("ExpiresThatIsNoDateIsStale", "RFC 9111 5.3", Expires("tomorrow")),
      Never("ExpiresAsANumberOfSecondsIsStale", "RFC 9111 5.3", Expires("4102444800")),
      Never("ExpiresOnADayThatIsNoneIsStale", "RFC 9111 5.3",
            Expires("Wed, 32 Dec 2026 00:00:00 GMT")),
      Never("AnInvalidExpiresIsNoReasonToGuess", "RFC 9111 4.2.2",
            {{"Expires", "0"}, {"Last-Modified", "{now-100000}"}}),
      Never("AnEmptyExpiresIsStale", "RFC 9111 5.3",
            {{"Expires", ""}, {"Last-Modified", "{now-100000}"}}),
      Between("ExpiresInTheOldLongForm", "RFC 9110 5.6.7", Expires("{now+60:rfc850}"), 59, 60),
      Between("ExpiresInTheOldShortForm", "RFC 9110 5.6.7", Expires("{now+60:asctime}"), 59, 60),
      Long("ExpiresFarAwayIsLong", "RFC 9111 5.3", Expires("Fri, 31 Dec 9999 23:59:59 GMT")),
      Between("ExpiresCountsFromDate", "RFC 9111 4.2.1",
              {{"Date", "{now+1000}"}, {"Expires", "{now+1060}"}}, 59, 60),
      Between("ExpiresOfASlowClockCountsFromDate", "RFC 9111 4.2.3",
              {{"Date", "{now-30}"}, {"Expires", "{now+30}"}}, 29, 30),
      Never("OfTwoExpiresALaterLongOneIsNotTrusted", "RFC 9111 4.2.1",
            {{"Expires", "{now-10}"}, {"Expires", "{now+3600}"}}),
      Between("MaxAgeBeatsALaterExpires", "RFC 9111 5.3",
              {{"Cache-Control", "max-age=60"}, {"Expires", "{now+3600}"}}, 59, 60),
      Between("MaxAgeBeatsAnEarlierExpires", "RFC 9111 5.3",
              {{"Cache-Control", "max-age=60"}, {"Expires", "{now+10}"}}, 59, 60),
      Between("MaxAgeBeatsAnInvalidExpires", "RFC 9111 5.3",
              {{"Cache-Control", "max-age=60"}, {"Expires", "0"}}, 59, 60),
      Never("MaxAgeZeroBeatsExpires", "RFC 9111 5.3",
            {{"Cache-Control", "max-age=0"}, {"Expires", "{now+3600}"}}),

      // Age
      Between("AgeOnArrivalCounts", "RFC 9111 4.2.3",
              {{"Cache-Control", "max-age=60"}, {"Age", "50"}}, 9, 10),
      Never("AgeAboveMaxAgeIsStale", "RFC 9111 4.2.3",
            {{"Cache-Control", "max-age=60"}, {"Age", "61"}}),
      Never("AgeBeyondAllNumbersIsStale", "RFC 9111 1.2.2",
            {{"Cache-Control", "max-age=60"}, {"Age", "99999999999999999999999"}}),
      Between("AgeThatIsNoNumberIsIgnored", "RFC 9111 5.1",
              {{"Cache-Control", "max-age=60"}, {"Age", "old"}}, 59, 60),
      Between("AgeBelowZeroIsIgnored", "RFC 9111 5.1",
              {{"Cache-Control", "max-age=60"}, {"Age", "-50"}}, 59, 60),
      Between("OfSeveralAgesTheFirstCounts", "RFC 9111 5.1",
              {{"Cache-Control", "max-age=60"}, {"Age", "10, 50"}}, 49, 50),
      Between("OfAgesOnTwoLinesTheFirstCounts", "RFC 9111 5.1",
              {{"Cache-Control", "max-age=60"}, {"Age", "10"}, {"Age", "50"}}, 49, 50),
      {"CachedResponsesSayTheirAge",
       "RFC 9111 5.1",
       {Get().Miss(Control("max-age=60"), "one"), Get().After(9).Hit("one").Age(9),
        Get().After(20).Hit("one").Age(29)}},
      {"AgeOnArrivalIsPartOfTheAgeLater",
       "RFC 9111 5.1",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"Age", "20"}}, "one"),
        Get().After(9).Hit("one").Age(29)}},
      {"ApparentAgeIsPartOfTheAgeLater",
       "RFC 9111 4.2.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"Date", "{now-20}"}}, "one"),
        Get().After(9).Hit("one").Age(29)}},
      {"TheLargerOfAgeAndApparentAgeCounts",
       "RFC 9111 4.2.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"Date", "{now-20}"}, {"Age", "30"}}, "one"),
        Get().After(9).Hit("one").Age(39)}},

      // Date
      Between("AnOldDateMakesAResponseOld", "RFC 9111 4.2.3",
              {{"Cache-Control", "max-age=60"}, {"Date", "{now-50}"}}, 9, 10),
      Between("AnOldDateCountsMoreThanALowerAge", "RFC 9111 4.2.3",
              {{"Cache-Control", "max-age=60"}, {"Date", "{now-50}"}, {"Age", "1"}}, 9, 10),
      Between("ADateInTheFutureIsNoAgeBelowZero", "RFC 9111 4.2.3",
              {{"Cache-Control", "max-age=60"}, {"Date", "{now+1000}"}}, 59, 60),
      Between("ADateThatIsNoneIsTheMomentOfArrival", "RFC 9110 6.6.1",
              {{"Cache-Control", "max-age=60"}, {"Date", "yesterday"}}, 59, 60),
      Between("WithoutADateExpiresCountsFromArrival", "RFC 9110 6.6.1", Expires("{now+60}"), 59,
              60),

      // Guessing
      Between("LastModifiedIsGuessedFromByATenth", "RFC 9111 4.2.2",
              {{"Last-Modified", "{now-1000}"}}, 90, 110),
      Between("LastModifiedIsGuessedFromByDate", "RFC 9111 4.2.2",
              {{"Date", "{now}"}, {"Last-Modified", "{now-1000}"}}, 90, 110),
      Never("ALastModifiedInTheFutureIsNoReasonToGuess", "RFC 9111 4.2.2",
            {{"Last-Modified", "{now+100000}"}}),
      Never("ALastModifiedThatIsNoneIsNoReasonToGuess", "RFC 9111 4.2.2",
            {{"Last-Modified", "long ago"}}),
      Never("AnEntityTagAloneIsNoReasonToGuess", "RFC 9111 4.2.2", {{"ETag", "\"a\""}}),
      Never("MaxAgeLeavesNothingToGuess", "RFC 9111 4.2.2",
            {{"Cache-Control", "max-age=0"}, {"Last-Modified", "{now-100000}"}}),
      Never("NoCacheLeavesNothingToGuess", "RFC 9111 5.2.2.4",
            {{"Cache-Control", "no-cache"}, {"Last-Modified", "{now-100000}"}}),
      {"AGuessHasABound",
       "RFC 9111 4.2.2",
       {Get().Miss({{"Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"}}, "one"),
        Get().After(3600).Hit("one"), Get().After(2 * 366 * 86400).Miss({}, "two")}},
      {"AnAgeLeavesLessOfAGuess",
       "RFC 9111 4.2.3",
       {Get().Miss({{"Last-Modified", "{now-1000}"}, {"Age", "95"}}, "one"),
        Get().After(20).Miss({}, "two")}},

      // Clocks
      {"AClockThatGoesBackDoesNotMakeAnythingOld",
       "RFC 9111 4.2.3",
       {Get().Miss(Control("max-age=60"), "one"), Get().After(-30).Hit("one"),
        Get().After(60).Hit("one")}},
  };
}

}  // namespace coord::http::rfc
