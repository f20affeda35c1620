// RFC 9111 section 4.4: what a request that changes something makes the cache forget.
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

using ::coord::internal::StrCat;

const Fields kMinute = {{"Cache-Control", "max-age=60"}};

Fields With(std::string name, std::string value) { return {{std::move(name), std::move(value)}}; }

}  // namespace

std::vector<Case> InvalidationCases() {
  std::vector<Case> cases = {
      {"InvalidationIsOfThatQueryAlone",
       "RFC 9111 4.4",
       {Get("?q=1").Miss(kMinute, "one"), Get("?q=2").Miss(kMinute, "two"),
        Post("?q=1").Miss({}, "done"), Get("?q=2").Hit("two"), Get("?q=1").Miss({}, "new")}},
      {"InvalidationIsOfAllVariants",
       "RFC 9111 4.4",
       {Get().With("X-A", "1").Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, "one"),
        Get().With("X-A", "2").Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, "two"),
        Post().Miss({}, "done"),
        Get().With("X-A", "1").Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, "three"),
        Get().With("X-A", "2").Miss({}, "four")}},
      {"InvalidationIsOfHeadToo",
       "RFC 9111 4.4",
       {Head().Miss(kMinute, ""), Post().Miss({}, "done"), Head().Miss({}, "")}},
      {"InvalidationIsOfWhatTheCallerHasAndOfNobodys",
       "RFC 9111 4.4",
       {Get().With("Authorization", "Bearer one").Miss(kMinute, "one"),
        Get().With("Authorization", "Bearer two").Miss(kMinute, "two"),
        Get().Miss(kMinute, "nobody"), Post().With("Authorization", "Bearer one").Miss({}, "done"),
        Get().With("Authorization", "Bearer two").Hit("two"),
        Get().With("Authorization", "Bearer one").Miss({}, "one again"),
        Get().Miss({}, "nobody again")}},
      {"ARedirectAfterPostInvalidates",
       "RFC 9111 4.4",
       {Get().Miss(kMinute, "one"),
        Post().NoRedirects().Miss(With("Location", "{path}/seen"), "", 303),
        Get().Miss({}, "two")}},
      {"OptionsInvalidatesNothing",
       "RFC 9110 9.2.1",
       {Get().Miss(kMinute, "one"), Send("OPTIONS").Miss({}, "done"), Get().Hit("one")}},
      {"HeadInvalidatesNothing",
       "RFC 9110 9.2.1",
       {Get().Miss(kMinute, "one"), Head().Hit(""), Get().Hit("one")}},
      {"LocationIsForgottenToo",
       "RFC 9111 4.4",
       {Get("/new").Miss(kMinute, "one"),
        Post().Miss(With("Location", "{base}{path}/new"), "done", 201),
        Get("/new").Miss({}, "two")}},
      {"ARelativeLocationIsForgottenToo",
       "RFC 9111 4.4",
       {Get("/new?x=1").Miss(kMinute, "one"),
        Post().Miss(With("Location", "{path}/new?x=1"), "done", 201),
        Get("/new?x=1").Miss({}, "two")}},
      {"ContentLocationIsForgottenToo",
       "RFC 9111 4.4",
       {Get("/new").Miss(kMinute, "one"),
        Send("PUT").Miss(With("Content-Location", "{path}/new"), "done"),
        Get("/new").Miss({}, "two")}},
      {"BothLocationsAreForgotten",
       "RFC 9111 4.4",
       {Get("/a").Miss(kMinute, "a"), Get("/b").Miss(kMinute, "b"), Get("/c").Miss(kMinute, "c"),
        Post().Miss({{"Location", "{path}/a"}, {"Content-Location", "{base}{path}/b"}}, "done",
                    201),
        Get("/a").Miss({}, "a again"), Get("/b").Miss({}, "b again"), Get("/c").Hit("c")}},
      {"ALocationElsewhereIsNotForgotten",
       "RFC 9111 4.4",
       {Get("/new").Elsewhere().Miss(kMinute, "one"),
        Post().Miss(With("Location", "{elsewhere}{path}/new"), "done", 201),
        Get("/new").Elsewhere().Hit("one")}},
      {"AContentLocationElsewhereIsNotForgotten",
       "RFC 9111 4.4",
       {Get("/new").Elsewhere().Miss(kMinute, "one"),
        Post().Miss(With("Content-Location", "{elsewhere}{path}/new"), "done"),
        Get("/new").Elsewhere().Hit("one")}},
      {"TheLocationOfAnErrorIsNotForgotten",
       "RFC 9111 4.4",
       {Get("/new").Miss(kMinute, "one"), Post().Miss(With("Location", "{path}/new"), "no", 409),
        Get("/new").Hit("one")}},
      {"TheLocationOfASafeRequestIsNotForgotten",
       "RFC 9111 4.4",
       {Get("/new").Miss(kMinute, "one"), Get().Miss(With("Content-Location", "{path}/new"), "two"),
        Get("/new").Hit("one")}},
      {"ALocationThatIsNoneHarmsNobody",
       "RFC 9111 4.4",
       {Get().Miss(kMinute, "one"),
        Post().Miss({{"Location", "http://["}, {"Content-Location", "::::"}}, "done", 201),
        Get().Miss({}, "two")}},
      {"APostGoesToTheOriginThoughGetIsCached",
       "RFC 9111 4",
       {Get().Miss(kMinute, "one"), Post().Miss({}, "done").SeesNoCondition()}},
      {"APostThatSaysHowLongIsNotKeptForGet",
       "RFC 9111 4.4",
       {Get().Miss(kMinute, "one"), Post().Miss(kMinute, "done"), Get().Miss({}, "two")}},
  };
  for (const char* const method : {"POST", "PUT", "DELETE", "PATCH"}) {
    for (const int status : {200, 202, 204}) {
      cases.push_back(
          {StrCat(method, "Answered", status, "MakesTheCacheForget"),
           "RFC 9111 4.4",
           {Get().Miss(kMinute, "one"), Send(method).Miss({}, status == 204 ? "" : "done", status),
            Get().Miss({}, "two").SeesNoCondition()}});
    }
    for (const int status : {400, 404, 500}) {
      cases.push_back(
          {StrCat(method, "Answered", status, "ForgetsNothing"),
           "RFC 9111 4.4",
           {Get().Miss(kMinute, "one"), Send(method).Miss({}, "no", status), Get().Hit("one")}});
    }
  }
  return cases;
}

}  // namespace coord::http::rfc
