#include "cache/http/internal/http_date.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>

#include "absl/time/civil_time.h"

namespace coord::http::internal {
namespace {

absl::Time Utc(int year, int month, int day, int hour = 0, int minute = 0, int second = 0) {
  return absl::FromCivil(absl::CivilSecond(year, month, day, hour, minute, second),
                         absl::UTCTimeZone());
}

const absl::Time kNow = Utc(2024, 6, 1, 12);

TEST(HttpDateTest, AllThreeFormsOfRfc9110Section567AreTheSameMoment) {
  const absl::Time moment = Utc(1994, 11, 6, 8, 49, 37);
  EXPECT_EQ(ParseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT", kNow), moment);
  EXPECT_EQ(ParseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT", kNow), moment);
  EXPECT_EQ(ParseHttpDate("Sun Nov  6 08:49:37 1994", kNow), moment);
  EXPECT_EQ(ParseHttpDate("Wed Nov 16 08:49:37 1994", kNow), Utc(1994, 11, 16, 8, 49, 37));
}

TEST(HttpDateTest, CaseMakesNoDifferenceAsRfc9111Section42HasIt) {
  EXPECT_EQ(ParseHttpDate("SUN, 06 nov 1994 08:49:37 gmt", kNow), Utc(1994, 11, 6, 8, 49, 37));
  EXPECT_EQ(ParseHttpDate("sunday, 06-NOV-94 08:49:37 GMT", kNow), Utc(1994, 11, 6, 8, 49, 37));
}

TEST(HttpDateTest, AWrongDayOfTheWeekIsForgiven) {
  EXPECT_EQ(ParseHttpDate("Mon, 06 Nov 1994 08:49:37 GMT", kNow), Utc(1994, 11, 6, 8, 49, 37));
}

TEST(HttpDateTest, ALeapSecondIsTheNextSecond) {
  EXPECT_EQ(ParseHttpDate("Sat, 31 Dec 2016 23:59:60 GMT", kNow), Utc(2017, 1, 1));
}

TEST(HttpDateTest, TwoDigitsAreAYearAtMostFiftyYearsAhead) {
  EXPECT_EQ(ParseHttpDate("Friday, 01-Jun-74 12:00:00 GMT", kNow), Utc(2074, 6, 1, 12));
  EXPECT_EQ(ParseHttpDate("Friday, 01-Jun-74 12:00:01 GMT", kNow), Utc(1974, 6, 1, 12, 0, 1));
  EXPECT_EQ(ParseHttpDate("Friday, 01-Jan-75 00:00:00 GMT", kNow), Utc(1975, 1, 1));
  EXPECT_EQ(ParseHttpDate("Friday, 01-Jan-24 00:00:00 GMT", kNow), Utc(2024, 1, 1));
  EXPECT_EQ(ParseHttpDate("Friday, 01-Jan-00 00:00:00 GMT", kNow), Utc(2000, 1, 1));
  // 2000 had that day.
  EXPECT_EQ(ParseHttpDate("Tuesday, 29-Feb-00 00:00:00 GMT", kNow), Utc(2000, 2, 29));
  EXPECT_EQ(ParseHttpDate("Tuesday, 29-Feb-23 00:00:00 GMT", kNow), std::nullopt);
}

TEST(HttpDateTest, WhatIsNoneIsRefused) {
  for (const std::string_view bad : {"",
                                     "0",
                                     "-1",
                                     "never",
                                     "1994-11-06T08:49:37Z",
                                     "Sun, 06 Nov 1994 08:49:37",
                                     "Sun, 06 Nov 1994 08:49:37 UTC",
                                     "Sun, 06 Nov 1994 08:49:37 +0000",
                                     "Sun, 06 Nov 1994 08:49:37 PST",
                                     "Sun, 06 Nov 1994 08:49:37 GMT ",
                                     " Sun, 06 Nov 1994 08:49:37 GMT",
                                     "Sun, 06 Nov 1994 08:49:37 GMTX",
                                     "Sun, 6 Nov 1994 08:49:37 GMT",
                                     "Sun, 06  Nov 1994 08:49:37 GMT",
                                     "Sun 06 Nov 1994 08:49:37 GMT",
                                     "Sun,06 Nov 1994 08:49:37 GMT",
                                     "Xyz, 06 Nov 1994 08:49:37 GMT",
                                     "Sunday, 06 Nov 1994 08:49:37 GMT",
                                     "06 Nov 1994 08:49:37 GMT",
                                     "Sun, 06 Nox 1994 08:49:37 GMT",
                                     "Sun, 06 November 1994 08:49:37 GMT",
                                     "Sun, 00 Nov 1994 08:49:37 GMT",
                                     "Sun, 31 Nov 1994 08:49:37 GMT",
                                     "Sun, 32 Dec 1994 08:49:37 GMT",
                                     "Tue, 29 Feb 2023 08:49:37 GMT",
                                     "Sun, 06 Nov 1994 24:00:00 GMT",
                                     "Sun, 06 Nov 1994 08:60:37 GMT",
                                     "Sun, 06 Nov 1994 08:49:61 GMT",
                                     "Sun, 06 Nov 1994 8:49:37 GMT",
                                     "Sun, 06 Nov 1994 08:49 GMT",
                                     "Sun, 06 Nov 94 08:49:37 GMT",
                                     "Sun, 06 Nov -994 08:49:37 GMT",
                                     "Sun, 06-Nov-1994 08:49:37 GMT",
                                     "Sun, 06-Nov-94 08:49:37 GMT",
                                     "Sunday, 06-Nov-94 08:49:37 PST",
                                     "Sun Nov 6 08:49:37 1994",
                                     "Sun Nov 06 08:49:37 1994 GMT",
                                     "Sun Nov  6 08:49:37 94"}) {
    EXPECT_EQ(ParseHttpDate(bad, kNow), std::nullopt) << bad;
  }
}

TEST(HttpDateTest, WhatIsWrittenReadsTheSame) {
  EXPECT_EQ(FormatHttpDate(Utc(1994, 11, 6, 8, 49, 37)), "Sun, 06 Nov 1994 08:49:37 GMT");
  std::mt19937_64 random(7);
  std::uniform_int_distribution<std::int64_t> seconds(0, absl::ToUnixSeconds(Utc(9999, 12, 31)));
  for (int i = 0; i < 20'000; ++i) {
    const absl::Time moment = absl::FromUnixSeconds(seconds(random));
    ASSERT_EQ(ParseHttpDate(FormatHttpDate(moment), kNow), moment) << FormatHttpDate(moment);
  }
}

TEST(HttpDateTest, WhatFourDigitsCannotSayIsTheNearestThatTheyCan) {
  EXPECT_EQ(FormatHttpDate(absl::InfiniteFuture()), "Fri, 31 Dec 9999 23:59:59 GMT");
  EXPECT_EQ(FormatHttpDate(absl::InfinitePast()), "Sat, 01 Jan 0000 00:00:00 GMT");
  EXPECT_EQ(FormatHttpDate(absl::FromUnixMillis(999)), "Thu, 01 Jan 1970 00:00:00 GMT");
}

}  // namespace
}  // namespace coord::http::internal
