// RFC 9111 section 4.1: which of the stored responses a request may have.
#include <string>
#include <utility>
#include <vector>

#include "tests/http/rfc9111_case.h"

namespace coord::http::rfc {
namespace {

Fields By(std::string names) {
  return {{"Cache-Control", "max-age=60"}, {"Vary", std::move(names)}};
}

}  // namespace

std::vector<Case> VaryCases() {
  return {
      {"VaryHitsWhereTheFieldIsTheSame",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"), Get().With("X-A", "1").Hit("one")}},
      {"VaryAsksWhereTheFieldDiffers",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "2").Miss(By("X-A"), "two")}},
      {"VaryKeepsSeveralVariants",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "2").Miss(By("X-A"), "two"),
        Get().With("X-A", "3").Miss(By("X-A"), "three"), Get().With("X-A", "1").Hit("one"),
        Get().With("X-A", "2").Hit("two"), Get().With("X-A", "3").Hit("three")}},
      {"VaryOnSeveralFieldsNeedsAllOfThem",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "1").Miss(By("X-A, X-B"), "one"),
        Get().With("X-A", "1").With("X-B", "2").Miss(By("X-A, X-B"), "two"),
        Get().With("X-A", "2").With("X-B", "1").Miss(By("X-A, X-B"), "three"),
        Get().With("X-A", "1").With("X-B", "1").Hit("one"),
        Get().With("X-A", "1").With("X-B", "2").Hit("two"),
        Get().With("X-A", "2").With("X-B", "1").Hit("three")}},
      {"VaryOnTwoLinesIsOneList",
       "RFC 9110 5.3",
       {Get()
            .With("X-A", "1")
            .With("X-B", "1")
            .Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}, {"Vary", "X-B"}}, "one"),
        Get().With("X-A", "1").With("X-B", "2").Miss(By("X-A, X-B"), "two"),
        Get().With("X-A", "2").With("X-B", "1").Miss(By("X-A, X-B"), "three")}},
      {"VaryDoesNotMixUpItsFields",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "2").Miss(By("X-A, X-B"), "one"),
        Get().With("X-A", "2").With("X-B", "1").Miss(By("X-A, X-B"), "two")}},
      {"VaryStarNeverMatches",
       "RFC 9111 4.1",
       {Get().Miss(By("*"), "one"), Get().Miss(By("*"), "two")}},
      {"VaryStarAmongNamesNeverMatches",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A, *"), "one"),
        Get().With("X-A", "1").Miss(By("X-A, *"), "two")}},
      {"AFieldThatIsMissingOnBothSidesMatches",
       "RFC 9111 4.1",
       {Get().Miss(By("X-A"), "one"), Get().Hit("one")}},
      {"AFieldThatWasMissingDoesNotMatchOneThatIsThere",
       "RFC 9111 4.1",
       {Get().Miss(By("X-A"), "one"), Get().With("X-A", "1").Miss(By("X-A"), "two"),
        Get().Hit("one")}},
      {"AFieldThatWasThereDoesNotMatchOneThatIsMissing",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"), Get().Miss(By("X-A"), "two")}},
      {"AnAbsentFieldIsNotAnotherValue",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "1").Miss(By("X-A, X-B"), "one"),
        Get().With("X-A", "1").Miss(By("X-A, X-B"), "two"),
        Get().With("X-B", "1").Miss(By("X-A, X-B"), "three"), Get().Miss(By("X-A, X-B"), "four"),
        Get().With("X-A", "1").Hit("two"), Get().With("X-B", "1").Hit("three"), Get().Hit("four")}},
      {"NamesInVaryHaveNoCase",
       "RFC 9110 12.5.5",
       {Get().With("x-a", "1").Miss(By("X-A"), "one"), Get().With("X-a", "1").Hit("one"),
        Get().With("X-A", "2").Miss(By("x-A"), "two"), Get().With("x-A", "1").Hit("one")}},
      {"ValuesOfVaryFieldsHaveCase",
       "RFC 9111 4.1",
       {Get().With("X-A", "abc").Miss(By("X-A"), "one"),
        Get().With("X-A", "ABC").Miss(By("X-A"), "two")}},
      {"TheOrderOfFieldsInARequestMakesNoDifference",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "2").Miss(By("X-A, X-B"), "one"),
        Get().With("X-B", "2").With("X-A", "1").Hit("one")}},
      {"TheOrderOfNamesInVaryMakesNoDifference",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "2").Miss(By("X-A, X-B"), "one"),
        Get().With("X-A", "1").With("X-B", "3").Miss(By("X-B, X-A"), "two"),
        Get().With("X-A", "1").With("X-B", "2").Hit("one"),
        Get().With("X-A", "1").With("X-B", "3").Hit("two")}},
      {"BlanksInVaryMakeNoDifference",
       "RFC 9110 5.6.1",
       {Get().With("X-A", "1").With("X-B", "2").Miss(By("  X-A ,,X-B , "), "one"),
        Get().With("X-A", "1").With("X-B", "2").Hit("one"),
        Get().With("X-A", "1").With("X-B", "3").Miss(By("X-A,X-B"), "two")}},
      {"AnEmptyVaryIsNone",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By(""), "one"), Get().With("X-A", "2").Hit("one")}},
      {"FieldsThatVaryDoesNotNameMakeNoDifference",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-C", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "1").With("X-C", "2").Hit("one")}},
      {"VariantsMayVaryOnOtherFields",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").With("X-B", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "2").With("X-B", "1").Miss(By("X-A, X-B"), "two"),
        Get().With("X-A", "2").With("X-B", "1").Hit("two"),
        Get().With("X-A", "2").With("X-B", "2").Miss(By("X-A, X-B"), "three"),
        Get().With("X-A", "2").With("X-B", "1").Hit("two")}},
      {"VaryOnAcceptEncodingHitsWhereNobodyNamesIt",
       "RFC 9111 4.1",
       {Get().Miss(By("Accept-Encoding"), "one"), Get().Hit("one")}},
      {"VaryOnAcceptEncodingTellsApartWhoNamesIt",
       "RFC 9111 4.1",
       {Get().With("Accept-Encoding", "x-one").Miss(By("Accept-Encoding"), "one"),
        Get().With("Accept-Encoding", "x-two").Miss(By("Accept-Encoding"), "two"),
        Get().With("Accept-Encoding", "x-one").Hit("one")}},
      {"VaryOnUserAgentHitsForTheSession",
       "RFC 9111 4.1",
       {Get().Miss(By("User-Agent"), "one"), Get().Hit("one")}},
      {"VaryOnAuthorizationHitsForTheSameCaller",
       "RFC 9111 4.1",
       {Get().With("Authorization", "Bearer one").Miss(By("Authorization"), "one"),
        Get().With("Authorization", "Bearer one").Hit("one"),
        Get().With("Authorization", "Bearer two").Miss(By("Authorization"), "two"),
        Get().With("Authorization", "Bearer one").Hit("one")}},
      {"VaryOnCookieTellsCookiesApart",
       "RFC 9111 4.1",
       {Get().With("Cookie", "a=1").Miss(By("Cookie"), "one"),
        Get().With("Cookie", "a=2").Miss(By("Cookie"), "two"),
        Get().With("Cookie", "a=1").Hit("one")}},
      {"AVariantExpiresByItself",
       "RFC 9111 4.1",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "2").After(40).Miss(By("X-A"), "two"),
        Get().With("X-A", "1").After(30).Miss(By("X-A"), "one again"),
        Get().With("X-A", "2").Hit("two"), Get().With("X-A", "1").Hit("one again")}},
      {"AVariantIsValidatedByItself",
       "RFC 9111 4.3.1",
       {Get()
            .With("X-A", "1")
            .Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}, {"ETag", "\"a\""}}, "one"),
        Get()
            .With("X-A", "2")
            .Miss({{"Cache-Control", "max-age=600"}, {"Vary", "X-A"}, {"ETag", "\"b\""}}, "two"),
        Get()
            .With("X-A", "1")
            .After(61)
            .Revalidated({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}, {"ETag", "\"a\""}},
                         "one"),
        Get().With("X-A", "2").Hit("two"), Get().With("X-A", "1").After(30).Hit("one")}},
      {"HeadIsAnsweredByTheVariantThatMatches",
       "RFC 9111 4.1",
       {Get()
            .With("X-A", "1")
            .Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}, {"X-Which", "1"}}, "one"),
        Get()
            .With("X-A", "2")
            .Miss({{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}, {"X-Which", "2"}}, "two"),
        Head().With("X-A", "1").Hit("").Returns("X-Which", "1"),
        Head().With("X-A", "2").Hit("").Returns("X-Which", "2")}},
      {"OnlyIfCachedFindsTheVariant",
       "RFC 9111 5.2.1.7",
       {Get().With("X-A", "1").Miss(By("X-A"), "one"),
        Get().With("X-A", "1").OnlyIfCached().Hit("one"),
        Get().With("X-A", "2").OnlyIfCached().GatewayTimeout()}},
      {"ALongValueOfAVaryFieldIsTold",
       "RFC 9111 4.1",
       {Get().With("X-A", std::string(3000, 'a') + "1").Miss(By("X-A"), "one"),
        Get().With("X-A", std::string(3000, 'a') + "2").Miss(By("X-A"), "two"),
        Get().With("X-A", std::string(3000, 'a') + "1").Hit("one")}},
      {"VariantsOfOneQueryAreNotAnothers",
       "RFC 9111 4.1",
       {Get("?q=1").With("X-A", "1").Miss(By("X-A"), "one"),
        Get("?q=2").With("X-A", "1").Miss(By("X-A"), "two"),
        Get("?q=1").With("X-A", "1").Hit("one")}},
  };
}

}  // namespace coord::http::rfc
