// RFC 9111 section 3: what may be stored, and what of it.
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

using ::coord::internal::StrCat;

const Fields kMinute = {{"Cache-Control", "max-age=60"}};

std::vector<Case> StatusCases() {
  std::vector<Case> cases;
  // Final ones that say themselves how long, understood or not.
  for (const int status : {200, 201, 202, 203, 299, 400, 403, 404, 405, 410, 414, 451, 499, 501}) {
    cases.push_back({StrCat("Status", status, "WithMaxAgeIsStored"),
                     "RFC 9111 3",
                     {Get().Miss(kMinute, "one", status).Stored(true),
                      Get().After(30).Hit("one", status).Stored(true)}});
  }
  // Those that may be reused on a guess.
  for (const int status : {200, 203, 404, 405, 410, 414, 501}) {
    cases.push_back({StrCat("Status", status, "IsHeuristicallyFresh"),
                     "RFC 9110 15.1",
                     {Get().Miss({{"Last-Modified", "{now-100000}"}}, "one", status),
                      Get().After(60).Hit("one", status)}});
  }
  for (const int status : {201, 202, 299, 400, 403, 500, 503}) {
    cases.push_back({StrCat("Status", status, "IsNotHeuristicallyFresh"),
                     "RFC 9111 4.2.2",
                     {Get().Miss({{"Last-Modified", "{now-100000}"}}, "one", status),
                      Get().After(1).Miss({}, "two", status)}});
  }
  // ... but for the origin's word that anybody may keep it.
  cases.push_back(
      {"PublicMakesAnyStatusHeuristicallyFresh",
       "RFC 9111 4.2.2",
       {Get().Miss({{"Last-Modified", "{now-100000}"}, {"Cache-Control", "public"}}, "one", 299),
        Get().After(60).Hit("one", 299)}});
  return cases;
}

}  // namespace

std::vector<Case> StoringCases() {
  std::vector<Case> cases = {
      {"GetWithMaxAgeIsStoredAndReused",
       "RFC 9111 3",
       {Get().Miss(kMinute, "one").Stored(true), Get().After(10).Hit("one").Stored(true)}},
      {"OneQueryIsNotAnother",
       "RFC 9111 2",
       {Get("?q=1").Miss(kMinute, "one"), Get("?q=2").Miss(kMinute, "two"), Get("?q=1").Hit("one"),
        Get("?q=2").Hit("two")}},
      {"NoQueryIsNotAnEmptyValue",
       "RFC 9111 2",
       {Get().Miss(kMinute, "one"), Get("?q=").Miss(kMinute, "two"), Get().Hit("one")}},
      {"ThePathIsCaseSensitive",
       "RFC 9110 4.2.3",
       {Get("/a").Miss(kMinute, "one"), Get("/A").Miss(kMinute, "two"), Get("/a").Hit("one")}},
      {"FragmentsMakeNoDifference",
       "RFC 9110 7.1",
       {Get("#top").Miss(kMinute, "one"), Get("#end").Hit("one"), Get().Hit("one")}},
      {"HeadIsStoredForHead", "RFC 9111 3", {Head().Miss(kMinute, ""), Head().After(10).Hit("")}},
      {"HeadIsNoAnswerToGet",
       "RFC 9110 9.3.2",
       {Head().Miss(kMinute, ""), Get().Miss(kMinute, "one")}},
      {"GetAnswersHead",
       "RFC 9110 9.3.2",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"X-Kind", "page"}}, "one"),
        Head().After(10).Hit("").Returns("X-Kind", "page")}},
      {"HeadAfterGetLeavesTheBodyForGet",
       "RFC 9110 9.3.2",
       {Get().Miss(kMinute, "one"), Head().Hit(""), Get().Hit("one")}},
      {"OptionsIsNotStored",
       "RFC 9110 9.3.7",
       {Send("OPTIONS").Miss(kMinute, "one").Stored(false), Send("OPTIONS").Miss(kMinute, "two")}},
      {"PostIsNotStored",
       "RFC 9111 3",
       {Post().Miss(kMinute, "one").Stored(false), Post().Miss(kMinute, "two"),
        Get().Miss(kMinute, "three")}},
      {"PutIsNotStored",
       "RFC 9110 9.3.4",
       {Send("PUT").Miss(kMinute, "one").Stored(false), Get().Miss(kMinute, "two")}},
      {"DeleteIsNotStored",
       "RFC 9110 9.3.5",
       {Send("DELETE").Miss(kMinute, "one").Stored(false), Get().Miss(kMinute, "two")}},
      {"PatchIsNotStored",
       "RFC 5789 2",
       {Send("PATCH").Miss(kMinute, "one").Stored(false), Get().Miss(kMinute, "two")}},

      {"ResponseNoStoreIsNotStored",
       "RFC 9111 5.2.2.5",
       {Get().Miss({{"Cache-Control", "no-store"}}, "one").Stored(false), Get().Miss({}, "two")}},
      {"ResponseNoStoreBeatsMaxAge",
       "RFC 9111 5.2.2.5",
       {Get().Miss({{"Cache-Control", "max-age=60, no-store"}}, "one").Stored(false),
        Get().Miss({}, "two")}},
      {"ResponseNoStoreInAnyCase",
       "RFC 9111 5.2",
       {Get().Miss({{"cache-control", "MAX-AGE=60, No-Store"}}, "one").Stored(false),
        Get().Miss({}, "two")}},
      {"ResponseNoStoreOnASecondLineCounts",
       "RFC 9110 5.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"Cache-Control", "no-store"}}, "one"),
        Get().Miss({}, "two")}},
      {"ResponseNoStoreBeatsExpires",
       "RFC 9111 5.2.2.5",
       {Get().Miss({{"Cache-Control", "no-store"}, {"Expires", "{now+60}"}}, "one").Stored(false),
        Get().Miss({}, "two")}},
      {"RequestNoStoreIsNotStored",
       "RFC 9111 5.2.1.5",
       {Get().Ask("no-store").Miss(kMinute, "one").Stored(false), Get().Miss(kMinute, "two"),
        Get().Hit("two")}},
      {"PrivateIsStored",
       "RFC 9111 5.2.2.7",
       {Get().Miss({{"Cache-Control", "private, max-age=60"}}, "one").Stored(true),
        Get().After(10).Hit("one")}},
      {"PrivateWithFieldNamesIsStored",
       "RFC 9111 5.2.2.7",
       {Get().Miss({{"Cache-Control", "private=\"X-User\", max-age=60"}, {"X-User", "7"}}, "one"),
        Get().Hit("one").Returns("X-User", "7")}},
      {"PublicIsStored",
       "RFC 9111 5.2.2.9",
       {Get().Miss({{"Cache-Control", "public, max-age=60"}}, "one").Stored(true),
        Get().After(10).Hit("one")}},
      {"PublicAloneIsNotFresh",
       "RFC 9111 5.2.2.9",
       {Get().Miss({{"Cache-Control", "public"}}, "one"), Get().After(1).Miss({}, "two")}},
      {"AuthorizedResponsesAreStoredForTheSameCaller",
       "RFC 9111 3.5",
       {Get().With("Authorization", "Bearer one").Miss(kMinute, "one").Stored(true),
        Get().With("Authorization", "Bearer one").After(10).Hit("one")}},
      {"AuthorizedResponsesAreNotForAnotherCaller",
       "RFC 9111 3.5",
       {Get().With("Authorization", "Bearer one").Miss(kMinute, "one"),
        Get().With("Authorization", "Bearer two").Miss(kMinute, "two"),
        Get().Miss(kMinute, "nobody"), Get().With("Authorization", "Bearer one").Hit("one"),
        Get().With("Authorization", "Bearer two").Hit("two"), Get().Hit("nobody")}},
      {"NobodysResponseIsNotForACaller",
       "RFC 9111 3.5",
       {Get().Miss(kMinute, "nobody"),
        Get().With("Authorization", "Bearer one").Miss(kMinute, "one")}},

      {"MustUnderstandOverridesNoStoreOfAKnownStatus",
       "RFC 9111 5.2.2.3",
       {Get().Miss({{"Cache-Control", "must-understand, no-store, max-age=60"}}, "one"),
        Get().After(10).Hit("one")}},
      {"MustUnderstandForbidsAnUnknownStatus",
       "RFC 9111 5.2.2.3",
       {Get().Miss({{"Cache-Control", "must-understand, max-age=60"}}, "one", 299).Stored(false),
        Get().Miss({}, "two", 299)}},
      {"MustUnderstandWithNoStoreForbidsAnUnknownStatus",
       "RFC 9111 5.2.2.3",
       {Get()
            .Miss({{"Cache-Control", "must-understand, no-store, max-age=60"}}, "one", 299)
            .Stored(false),
        Get().Miss({}, "two", 299)}},

      {"PartialContentIsNotStored",
       "RFC 9111 3.3",
       {Get()
            .With("Range", "bytes=0-2")
            .Miss({{"Cache-Control", "max-age=60"}, {"Content-Range", "bytes 0-2/9"}}, "one", 206)
            .Stored(false),
        Get().Miss(kMinute, "one, whole")}},
      {"ARangeIsPassedThroughAndAskedEachTime",
       "RFC 9111 3.3",
       {Get()
            .With("Range", "bytes=0-2")
            .Miss({{"Cache-Control", "max-age=60"}, {"Content-Range", "bytes 0-2/9"}}, "one", 206)
            .Sees("Range", "bytes=0-2"),
        Get()
            .With("Range", "bytes=0-2")
            .Miss({{"Cache-Control", "max-age=60"}, {"Content-Range", "bytes 0-2/9"}}, "two",
                  206)}},
      {"ARangeLeavesTheWholeOneCached",
       "RFC 9111 3.4",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"ETag", "\"a\""}}, "one, whole"),
        Get()
            .With("Range", "bytes=0-2")
            .Miss({{"Cache-Control", "max-age=60"},
                   {"ETag", "\"a\""},
                   {"Content-Range", "bytes 0-2/10"}},
                  "one", 206),
        Get().Hit("one, whole")}},
      {"ARangeWithIfRangeIsPassedThrough",
       "RFC 9110 13.1.5",
       {Get()
            .With("Range", "bytes=0-2")
            .With("If-Range", "\"a\"")
            .Miss({{"Content-Range", "bytes 0-2/9"}}, "one", 206)
            .Sees("Range", "bytes=0-2")
            .Sees("If-Range", "\"a\"")}},
      {"NoContentIsStored",
       "RFC 9110 15.3.5",
       {Get().Miss(kMinute, "", 204), Get().After(10).Hit("", 204)}},
      {"AnEmptyBodyIsStored", "RFC 9111 3", {Get().Miss(kMinute, ""), Get().Hit("")}},

      {"SetCookieIsNotGivenFromTheCache",
       "RFC 9111 7.3",
       {Get()
            .Miss({{"Cache-Control", "max-age=60"}, {"Set-Cookie", "sid=original"}}, "one")
            .Returns("Set-Cookie", "sid=original"),
        Get().Hit("one").Lacks("original")}},
      {"FieldsOfTheConnectionAreNotStored",
       "RFC 9111 3.1",
       {Get().Miss({{"Cache-Control", "max-age=60"},
                    {"Keep-Alive", "timeout=5"},
                    {"Proxy-Authenticate", "Basic realm=x"},
                    {"Proxy-Authentication-Info", "x=1"},
                    {"Upgrade", "h2c"},
                    {"X-Kept", "yes"}},
                   "one"),
        Get()
            .Hit("one")
            .ReturnsNo("Keep-Alive")
            .ReturnsNo("Proxy-Authenticate")
            .ReturnsNo("Proxy-Authentication-Info")
            .ReturnsNo("Upgrade")
            .ReturnsNo("Connection")
            .Returns("X-Kept", "yes")}},
      {"FieldsThatConnectionNamesAreNotStored",
       "RFC 9110 7.6.1",
       {Get().Miss({{"Cache-Control", "max-age=60"},
                    {"Connection", "X-Hop, x-other-hop"},
                    {"X-Hop", "1"},
                    {"X-Other-Hop", "1"},
                    {"X-Kept", "yes"}},
                   "one"),
        Get().Hit("one").ReturnsNo("X-Hop").ReturnsNo("X-Other-Hop").Returns("X-Kept", "yes")}},
      {"UnknownFieldsAreStored",
       "RFC 9111 3.1",
       {Get().Miss({{"Cache-Control", "max-age=60"},
                    {"X-Unheard-Of", "a; b=\"c, d\""},
                    {"Content-Type", "text/x-odd"},
                    {"Content-Language", "de"},
                    {"ETag", "\"tag\""}},
                   "one"),
        Get()
            .Hit("one")
            .Returns("X-Unheard-Of", "a; b=\"c, d\"")
            .Returns("Content-Type", "text/x-odd")
            .Returns("Content-Language", "de")
            .Returns("ETag", "\"tag\"")}},
      {"FieldsOfOneNameAreStoredInOrder",
       "RFC 9110 5.3",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"X-Many", "a"}, {"X-Many", "b"}}, "one"),
        Get().Hit("one").Returns("X-Many", "a, b")}},
      {"ALongFieldIsStoredWhole",
       "RFC 9110 5.4",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"X-Long", std::string(6000, 'x')}}, "one"),
        Get().Hit("one").Returns("X-Long", std::string(6000, 'x'))}},
      {"BytesAboveAsciiInAFieldAreStored",
       "RFC 9110 5.5",
       {Get().Miss({{"Cache-Control", "max-age=60"}, {"X-Name", "J\xc3\xbcrgen"}}, "one"),
        Get().Hit("one").Returns("X-Name", "J\xc3\xbcrgen")}},
      {"BodiesOfAnyBytesAreStored",
       "RFC 9111 3",
       {Get().Miss(kMinute, std::string("\0\r\n\xff\xfe", 5)),
        Get().Hit(std::string("\0\r\n\xff\xfe", 5))}},
      {"ANewerResponseTakesTheOldOnesPlace",
       "RFC 9111 4",
       {Get().Miss(kMinute, "one"), Get().After(61).Miss(kMinute, "two"), Get().Hit("two")}},
      {"AResponseWithNothingToSayIsAskedForAgain",
       "RFC 9111 3",
       {Get().Miss({}, "one"), Get().Miss({}, "two").SeesNoCondition()}},
      {"ServerErrorsWithMaxAgeAreStored",
       "RFC 9111 3",
       {Get().Miss(kMinute, "busy", 503).Stored(true), Get().After(10).Hit("busy", 503)}},
  };
  for (Case& one : StatusCases()) cases.push_back(std::move(one));
  return cases;
}

}  // namespace coord::http::rfc
