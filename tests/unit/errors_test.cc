#include "coord/errors.h"

#include <gtest/gtest.h>

#include "coord/internal/owner_id.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/wire/spin.h"

namespace coord {
namespace {

using internal::MakeStatus;

TEST(ErrorsTest, HelpersReadTheReasonAndNotTheCode) {
  const absl::Status busy = MakeStatus(absl::StatusCode::kAborted, "x", internal::kBusy);
  EXPECT_TRUE(IsBusy(busy));
  EXPECT_FALSE(IsLost(busy));
  EXPECT_FALSE(IsBusy(absl::AbortedError("somebody else's")));
  EXPECT_FALSE(coord::IsUnavailable(absl::UnavailableError("somebody else's")));
  EXPECT_FALSE(IsBusy(absl::OkStatus()));
}

TEST(ErrorsTest, ABrokenConnectionIsBothUnavailableAndUnknown) {
  const absl::Status status = MakeStatus(absl::StatusCode::kUnavailable, "x",
                                         internal::kUnavailable | internal::kOutcomeUnknown);
  EXPECT_TRUE(coord::IsUnavailable(status));
  EXPECT_TRUE(IsOutcomeUnknown(status));
}

TEST(ErrorsTest, AnnotatingKeepsCodeAndReason) {
  const absl::Status status = internal::Annotate(
      MakeStatus(absl::StatusCode::kFailedPrecondition, "gone", internal::kLost), "mutex \"a\"");
  EXPECT_TRUE(IsLost(status));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "mutex \"a\": gone");
  EXPECT_TRUE(internal::Annotate(absl::OkStatus(), "x").ok());
}

TEST(OwnerIdTest, IsFreshEachTimeAndCarriesTheLabel) {
  const std::string a = internal::NewOwnerId("host:1");
  const std::string b = internal::NewOwnerId("host:1");
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), 32u + 1 + 6);
  EXPECT_EQ(internal::OwnerLabel(a), "host:1");
  EXPECT_EQ(internal::OwnerLabel("plain"), "plain");
}

TEST(SpinJudgeTest, TurnsOffWhereSpinsAreNotAnsweredAndComesBackWhereTheyAre) {
  internal::SpinJudge judge(SpinMode::kAdaptive);
  for (int i = 0; i < 100; ++i) {
    if (judge.ShouldSpin()) judge.Record(false);
  }
  int spins = 0;
  for (int i = 0; i < 10'000; ++i) {
    if (judge.ShouldSpin()) {
      ++spins;
      judge.Record(false);
    }
  }
  EXPECT_LT(spins, 40);  // a probe now and then
  EXPECT_GT(spins, 0);
  for (int i = 0; i < 200'000; ++i) {
    if (judge.ShouldSpin()) judge.Record(true);
  }
  EXPECT_TRUE(judge.ShouldSpin());
}

TEST(SpinJudgeTest, AnOptionForcesEither) {
  internal::SpinJudge never(SpinMode::kNever);
  internal::SpinJudge always(SpinMode::kAlways);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(never.ShouldSpin());
    EXPECT_TRUE(always.ShouldSpin());
    never.Record(true);
    always.Record(false);
  }
}

TEST(StringsTest, WholeNumbersOnly) {
  EXPECT_EQ(internal::ParseInt64("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(internal::ParseInt64("9223372036854775808"), std::nullopt);
  EXPECT_EQ(internal::ParseInt64("1 "), std::nullopt);
  EXPECT_EQ(internal::ParseInt64(""), std::nullopt);
}

TEST(StringsTest, QuotedTextIsPrintableAndBounded) {
  EXPECT_EQ(internal::Quoted("a\n\x01"), "\"a\\n\\x01\"");
  EXPECT_LT(internal::Quoted(std::string(10'000, 'x')).size(), 100u);
}

}  // namespace
}  // namespace coord
