#include "cache/ttl.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "coord/internal/limits.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::FromAbsl;
using testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(TtlTest, SumsOfUnitsAreRead) {
  EXPECT_EQ(*ParseTtl("2h30m"), absl::Minutes(150));
  EXPECT_EQ(*ParseTtl("1d"), absl::Hours(24));
  EXPECT_EQ(*ParseTtl("1500ms"), absl::Milliseconds(1500));
  EXPECT_EQ(*ParseTtl("1d2h3m4s5ms"),
            absl::Hours(26) + absl::Minutes(3) + absl::Milliseconds(4005));
  EXPECT_EQ(*ParseTtl("0d90s"), absl::Seconds(90));
  EXPECT_EQ(*ParseTtl("007s"), absl::Seconds(7));
  EXPECT_EQ(*ParseTtl("3660d"), internal::kMaxDataTtl);
}

TEST(TtlTest, EverythingElseIsRefusedWithWhatWasExpected) {
  for (const std::string& text : {std::string(),
                                  std::string("0s"),
                                  std::string("0"),
                                  std::string("5"),
                                  std::string("-5m"),
                                  std::string("+5m"),
                                  std::string("5 m"),
                                  std::string(" 5m"),
                                  std::string("5m "),
                                  std::string("5m!"),
                                  std::string("m"),
                                  std::string("5M"),
                                  std::string("5min"),
                                  std::string("1.5h"),
                                  std::string("5m3h"),
                                  std::string("5m3h5m"),
                                  std::string("5m5m"),
                                  std::string("1w"),
                                  std::string("3660d1ms"),
                                  std::string("3661d"),
                                  std::string("1e3s"),
                                  std::string("99999999999999999999s"),
                                  std::string("18446744073709551617ms"),
                                  std::string(1 << 20, '9') + "s",
                                  std::string(1 << 20, '0') + "5s",
                                  std::string("5\0m", 3),
                                  std::string("5m\0", 3),
                                  std::string("\xff")}) {
    const absl::StatusOr<absl::Duration> ttl = ParseTtl(text);
    ASSERT_EQ(ttl.status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 80);
    EXPECT_THAT(FromAbsl(ttl.status().message()), HasSubstr("2h30m"));
    EXPECT_LT(ttl.status().message().size(), 512U);
  }
  EXPECT_THAT(FromAbsl(ParseTtl("5m3h5m").status().message()), HasSubstr("h stands behind m"));
}

TEST(TtlTest, WhatFormatTtlWritesParseTtlReads) {
  EXPECT_EQ(FormatTtl(absl::Seconds(90)), "1m30s");
  EXPECT_EQ(FormatTtl(absl::Hours(26)), "1d2h");
  EXPECT_EQ(FormatTtl(absl::Microseconds(1)), "1ms");
  EXPECT_EQ(FormatTtl(absl::InfiniteDuration()), "never");
  EXPECT_EQ(FormatTtl(absl::ZeroDuration()), "0s");
  EXPECT_EQ(FormatTtl(-absl::Seconds(5)), "-5s");
  EXPECT_EQ(FormatTtl(-absl::InfiniteDuration()), "-inf");
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto most = static_cast<std::uint64_t>(absl::ToInt64Milliseconds(internal::kMaxDataTtl));
    const absl::Duration length =
        absl::Milliseconds(static_cast<std::int64_t>((random() >> (random() % 60)) % most + 1));
    const absl::StatusOr<absl::Duration> again = ParseTtl(FormatTtl(length));
    ASSERT_TRUE(again.ok()) << FormatTtl(length);
    EXPECT_EQ(*again, length);
  }
}

TEST(TtlTest, ResolvesToWholeMillisecondsRoundedUp) {
  EXPECT_EQ(*Ttl(absl::Microseconds(1)).Resolve(kNow), absl::Milliseconds(1));
  EXPECT_EQ(*Ttl(absl::Microseconds(1500)).Resolve(kNow), absl::Milliseconds(2));
  EXPECT_EQ(*Ttl(internal::kMaxDataTtl).Resolve(kNow), internal::kMaxDataTtl);
  EXPECT_EQ(*Ttl::Never().Resolve(kNow), absl::InfiniteDuration());
  EXPECT_EQ(*Ttl::At(kNow + absl::Nanoseconds(1)).Resolve(kNow), absl::Milliseconds(1));
  EXPECT_EQ(*Ttl::At(kNow + absl::Hours(1)).Resolve(kNow), absl::Hours(1));
}

TEST(TtlTest, WhatBreaksTheRulesIsNotResolved) {
  for (const Ttl& ttl :
       {Ttl(), Ttl(absl::ZeroDuration()), Ttl(-absl::Seconds(1)), Ttl(absl::InfiniteDuration()),
        Ttl(-absl::InfiniteDuration()), Ttl(internal::kMaxDataTtl + absl::Nanoseconds(1)),
        Ttl::At(kNow), Ttl::At(kNow - absl::Seconds(1)), Ttl::At(absl::InfiniteFuture()),
        Ttl::At(absl::InfinitePast())}) {
    EXPECT_EQ(ttl.Resolve(kNow).status().code(), absl::StatusCode::kInvalidArgument)
        << ttl.ToString();
  }
}

TEST(TtlTest, SaysItselfForPeople) {
  EXPECT_EQ(Ttl().ToString(), "default");
  EXPECT_EQ(Ttl::Never().ToString(), "never");
  EXPECT_EQ(Ttl(absl::Minutes(150)).ToString(), "2h30m");
  EXPECT_EQ(Ttl::At(kNow).ToString(), "at 2027-01-15T08:00:00+00:00");
}

TEST(TtlTest, JitterStaysWithinItsShare) {
  EXPECT_EQ(Jittered(absl::Seconds(100), 0.1, 0), absl::Seconds(90));
  EXPECT_EQ(Jittered(absl::Seconds(100), 0.1, 0.5), absl::Seconds(100));
  EXPECT_EQ(Jittered(absl::Seconds(100), 0.1, 1), absl::Seconds(110));
  EXPECT_EQ(Jittered(absl::Seconds(100), 0, 1), absl::Seconds(100));
  EXPECT_EQ(Jittered(absl::Milliseconds(1), 1, 0), absl::Milliseconds(1));
  EXPECT_EQ(Jittered(absl::Microseconds(10), 0.1, 0), absl::Milliseconds(1));
  EXPECT_EQ(Jittered(absl::InfiniteDuration(), 0.1, 0), absl::InfiniteDuration());
  // What a cache may say is not jittered into what a backend refuses.
  EXPECT_EQ(Jittered(internal::kMaxDataTtl, 0.1, 1), internal::kMaxDataTtl);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Jittered(absl::Seconds(100), nan, nan), absl::Seconds(100));
  EXPECT_EQ(Jittered(absl::Seconds(100), 1e300, 1e300), absl::Seconds(200));
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> unit(0, 1);
  for (int i = 0; i < 10'000; ++i) {
    const absl::Duration got = Jittered(absl::Milliseconds(12'345), 0.1, unit(random));
    EXPECT_GE(got, absl::Milliseconds(11'110));
    EXPECT_LE(got, absl::Milliseconds(13'580));
    EXPECT_EQ(got % absl::Milliseconds(1), absl::ZeroDuration());
  }
}

TEST(TtlTest, APolicyKnowsTypes) {
  TtlPolicy policy;
  policy.For<int>(absl::Minutes(1)).For<std::string>(Ttl::Never()).For<int>(absl::Minutes(2));
  EXPECT_EQ(policy.Of<int>(), Ttl(absl::Minutes(2)));
  EXPECT_EQ(policy.Of<std::string>(), Ttl::Never());
  EXPECT_TRUE(policy.Of<double>().is_default());
}

}  // namespace
}  // namespace coord
