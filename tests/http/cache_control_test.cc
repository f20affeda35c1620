#include "cache/http/internal/cache_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace coord::http::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CacheControl Of(std::string line, bool request = false) {
  return ParseCacheControl({{"Cache-Control", std::move(line)}}, request);
}

TEST(CacheControlTest, DirectivesHaveNoCaseAndUnknownOnesMeanNothing) {  // RFC 9111 section 5.2
  const CacheControl control = Of("NO-STORE, Max-Age=5, x=\"no-cache, private\", y");
  EXPECT_TRUE(control.no_store);
  EXPECT_EQ(control.max_age, absl::Seconds(5));
  EXPECT_FALSE(control.no_cache);
  EXPECT_FALSE(control.is_private);
}

TEST(CacheControlTest, EachFlagIsItsOwn) {
  const auto flags = [](const CacheControl& c) {
    return std::vector<bool>{
        c.no_cache,        c.is_private,       c.no_store,        c.no_transform, c.only_if_cached,
        c.must_revalidate, c.proxy_revalidate, c.must_understand, c.is_public,    c.immutable};
  };
  const std::vector<std::string> names = {
      "no-cache",        "private",          "no-store",        "no-transform", "only-if-cached",
      "must-revalidate", "proxy-revalidate", "must-understand", "public",       "immutable"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::vector<bool> expected(names.size(), false);
    expected[i] = true;
    EXPECT_EQ(flags(Of(names[i])), expected) << names[i];
    EXPECT_EQ(flags(Of(names[i] + "=\"\"")), expected) << names[i];
  }
}

TEST(CacheControlTest, ANumberThatIsNoneNeverMakesFresher) {  // sections 4.2.1 and 5.2
  for (const char* bad : {"", "-1", "1.5", "abc", " 5", "5x", "\"5", "\"5\"x", "\"\"", "+5"}) {
    const std::string value = std::string("=") + bad;
    EXPECT_EQ(Of("max-age" + value).max_age, absl::ZeroDuration()) << bad;
    EXPECT_EQ(Of("s-maxage" + value).s_maxage, absl::ZeroDuration()) << bad;
    EXPECT_EQ(Of("stale-if-error" + value).stale_if_error, absl::ZeroDuration()) << bad;
    EXPECT_EQ(Of("stale-while-revalidate" + value).stale_while_revalidate, absl::ZeroDuration());
    EXPECT_EQ(Of("max-stale" + value).max_stale, absl::ZeroDuration()) << bad;
    EXPECT_EQ(Of("min-fresh" + value).min_fresh, absl::InfiniteDuration()) << bad;
  }
  EXPECT_EQ(Of("max-age").max_age, absl::ZeroDuration());
  EXPECT_EQ(Of("min-fresh").min_fresh, absl::InfiniteDuration());
  EXPECT_EQ(Of("max-stale").max_stale, absl::InfiniteDuration());
}

TEST(CacheControlTest, ANumberIsReadAsTokenAndQuoted) {  // section 5.2
  EXPECT_EQ(Of("max-age=\"7\"").max_age, absl::Seconds(7));
  EXPECT_EQ(Of("max-age=\"\\7\"").max_age, absl::Seconds(7));
  EXPECT_EQ(Of("s-maxage=1").s_maxage, absl::Seconds(1));
  EXPECT_EQ(Of("min-fresh=2").min_fresh, absl::Seconds(2));
  EXPECT_EQ(Of("max-stale=3").max_stale, absl::Seconds(3));
  EXPECT_EQ(Of("stale-while-revalidate=4").stale_while_revalidate, absl::Seconds(4));
  EXPECT_EQ(Of("stale-if-error=5").stale_if_error, absl::Seconds(5));
}

TEST(CacheControlTest, OfANumberThatComesTwiceTheFirstCounts) {  // section 4.2.1
  EXPECT_EQ(Of("max-age=1, max-age=2").max_age, absl::Seconds(1));
  EXPECT_EQ(Of("max-age=x, max-age=2").max_age, absl::ZeroDuration());
  EXPECT_EQ(
      ParseCacheControl({{"Cache-Control", "max-age=1"}, {"cache-control", "max-age=2"}}, false)
          .max_age,
      absl::Seconds(1));
}

TEST(CacheControlTest, QuotedNamesRestrictNoCacheAndPrivate) {  // sections 5.2.2.4 and 5.2.2.7
  const CacheControl control = Of("no-cache=\"A, b\", private=\"X\", max-age=1");
  EXPECT_FALSE(control.no_cache);
  EXPECT_THAT(control.no_cache_fields, ElementsAre("a", "b"));
  EXPECT_FALSE(control.is_private);
  EXPECT_THAT(control.private_fields, ElementsAre("x"));
  EXPECT_EQ(control.max_age, absl::Seconds(1));
  EXPECT_THAT(Of("no-cache=a").no_cache_fields, ElementsAre("a"));
}

TEST(CacheControlTest, NamesThatCannotBeReadRestrictNothing) {  // section 5.2.2.4
  for (const char* bad : {"no-cache=", "no-cache=\"\"", "no-cache=\", ,\"", "no-cache=\"a b\"",
                          "no-cache=\"a", "no-cache=\"a\", no-cache"}) {
    EXPECT_TRUE(Of(bad).no_cache) << bad;
  }
  EXPECT_TRUE(Of("no-cache=a", true).no_cache);  // section 5.2.1.4: a request's has none
}

TEST(CacheControlTest, AnOpenQuoteHidesNoOtherLine) {
  EXPECT_TRUE(ParseCacheControl({{"Cache-Control", "x=\"a"}, {"Cache-Control", "no-store"}}, false)
                  .no_store);
}

TEST(CacheControlTest, PragmaCountsInARequestWithoutCacheControl) {  // section 5.4
  EXPECT_TRUE(ParseCacheControl({{"Pragma", "x, No-Cache"}}, true).no_cache);
  EXPECT_FALSE(ParseCacheControl({{"Pragma", "no-cache"}}, false).no_cache);
  EXPECT_FALSE(
      ParseCacheControl({{"Pragma", "no-cache"}, {"Cache-Control", "max-age=1"}}, true).no_cache);
}

TEST(CacheControlTest, AListIsSplitOutsideQuotes) {  // RFC 9110 section 5.6.1
  EXPECT_THAT(SplitList(" a ,, \"b,\\\"c\" ,\td=\"e,f\","),
              ElementsAre("a", "\"b,\\\"c\"", "d=\"e,f\""));
  EXPECT_THAT(SplitList("a\\,b"), ElementsAre("a\\", "b"));
  EXPECT_THAT(SplitList("a, \"b, c"), ElementsAre("a", "\"b, c"));
  EXPECT_THAT(SplitList(" , ,\t"), IsEmpty());
  EXPECT_THAT(SplitList(""), IsEmpty());
}

TEST(CacheControlTest, SecondsAreCappedAndNothingButDigits) {  // section 1.2.2
  EXPECT_EQ(ParseDeltaSeconds("0"), absl::ZeroDuration());
  EXPECT_EQ(ParseDeltaSeconds("007"), absl::Seconds(7));
  const absl::Duration most = absl::Seconds(std::int64_t{1} << 31);
  EXPECT_EQ(ParseDeltaSeconds("2147483647"), most - absl::Seconds(1));
  EXPECT_EQ(ParseDeltaSeconds("2147483649"), most);
  EXPECT_EQ(ParseDeltaSeconds(std::string(400, '9')), most);
  for (const char* bad : {"", "-1", "1 ", "0x1", "1e3"}) {
    EXPECT_EQ(ParseDeltaSeconds(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace coord::http::internal
