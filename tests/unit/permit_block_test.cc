// PermitBlock: what is held in advance, on a time that the test sets.
#include "coord/internal/permit_block.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace coord::internal {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

PermitBlock::Terms Terms(std::int64_t burst = 1000, std::int64_t size = 0) {
  return {.interval = kMs, .burst = burst, .max_age = 100 * kMs, .size = size};
}

TEST(PermitBlockTest, PermitsAreSpentBeforeTheirAgeAndNotAfter) {
  PermitBlock block(Terms());
  EXPECT_FALSE(block.Take(1, kStart));
  block.Put(10, 10 * kMs, kStart, kStart + 5 * kMs);
  EXPECT_FALSE(block.Take(11, kStart + 5 * kMs));
  EXPECT_TRUE(block.Take(4, kStart + 99 * kMs));
  // Counted from when they were asked for: they may be as old as that.
  EXPECT_FALSE(block.Take(1, kStart + 100 * kMs));
  block.Expire(kStart + 100 * kMs);
  EXPECT_EQ(block.left(), 0);
  EXPECT_EQ(block.TakeUnused(kStart + 100 * kMs).permits, 6);
  EXPECT_EQ(block.TakeUnused(kStart + 100 * kMs).permits, 0);
}

TEST(PermitBlockTest, NewPermitsGetNoOlderThanThoseTheyCameTo) {
  PermitBlock block(Terms());
  block.Put(1, kMs, kStart, kStart);
  block.Put(5, 6 * kMs, kStart + 60 * kMs, kStart + 60 * kMs);
  EXPECT_TRUE(block.Take(1, kStart + 99 * kMs));
  EXPECT_FALSE(block.Take(1, kStart + 100 * kMs));
}

TEST(PermitBlockTest, AnAnswerThatCameTooLateBringsNothingButWhatIsGivenBack) {
  PermitBlock block(Terms());
  block.Put(500, 500 * kMs, kStart, kStart + 100 * kMs);
  EXPECT_FALSE(block.Take(1, kStart + 100 * kMs));
  EXPECT_EQ(block.NextUnused(), absl::InfinitePast());
  EXPECT_EQ(block.TakeUnused(kStart + 100 * kMs).worth, 400 * kMs);
}

TEST(PermitBlockTest, WhatTimeHasGivenTheLimiterIsNotGivenBackAgain) {
  PermitBlock block(Terms());
  block.Put(80, 80 * kMs, kStart, kStart);
  EXPECT_TRUE(block.Take(20, kStart));
  block.Retire();
  const PermitBlock::Unused unused = block.TakeUnused(kStart + 25 * kMs);
  EXPECT_EQ(unused.permits, 60);
  EXPECT_EQ(unused.worth, 35 * kMs);

  block.Put(10, 10 * kMs, kStart + 30 * kMs, kStart + 30 * kMs);
  block.Retire();
  EXPECT_EQ(block.TakeUnused(kStart + 50 * kMs).worth, absl::ZeroDuration());
}

TEST(PermitBlockTest, OfSeveralUnusedOnesTheOldestCounts) {
  PermitBlock block(Terms());
  block.Put(50, 50 * kMs, kStart, kStart);
  block.Retire();
  block.Put(50, 90 * kMs, kStart + 10 * kMs, kStart + 10 * kMs);
  block.Retire();
  EXPECT_EQ(block.TakeUnused(kStart + 20 * kMs).worth, 80 * kMs);
}

TEST(PermitBlockTest, TheLimitersAnswerSaysWhenToAskAgain) {
  PermitBlock block(Terms(10));
  EXPECT_TRUE(block.MayAsk(10, kStart));
  // All ten are taken: the first is back after a millisecond, the third after three.
  block.Put(4, 10 * kMs, kStart, kStart);
  ASSERT_TRUE(block.Take(4, kStart));
  EXPECT_EQ(block.DeniedFor(1, kStart), kMs);
  EXPECT_EQ(block.DeniedFor(3, kStart), 3 * kMs);
  EXPECT_FALSE(block.MayAsk(3, kStart + 2 * kMs));
  EXPECT_TRUE(block.MayAsk(3, kStart + 3 * kMs));
}

TEST(PermitBlockTest, WhatIsHeldShortensADenial) {
  PermitBlock block(Terms(10));
  block.Put(4, 10 * kMs, kStart, kStart);
  EXPECT_EQ(block.DeniedFor(5, kStart), kMs);
}

TEST(PermitBlockTest, ALongDenialIsNotBelievedForEver) {
  PermitBlock block({.interval = absl::Hours(1), .burst = 1, .max_age = 100 * kMs});
  block.Put(0, absl::Hours(1), kStart, kStart);
  EXPECT_FALSE(block.MayAsk(1, kStart + 999 * kMs));
  EXPECT_TRUE(block.MayAsk(1, kStart + 1000 * kMs));
  EXPECT_GT(block.DeniedFor(1, kStart + 1000 * kMs), absl::Minutes(59));
}

TEST(PermitBlockTest, GivingBackEndsADenial) {
  PermitBlock block(Terms(10));
  block.Put(10, 10 * kMs, kStart, kStart);
  block.Retire();
  EXPECT_FALSE(block.MayAsk(5, kStart));
  block.TakeUnused(kStart);
  EXPECT_TRUE(block.MayAsk(5, kStart));
}

// Takes at a steady pace for a while, and says what is asked for at last.
std::int64_t BlockAt(absl::Duration pace, std::int64_t burst) {
  PermitBlock block(Terms(burst));
  std::int64_t wanted = 0;
  absl::Time now = kStart;
  for (int i = 0; i < 100'000; ++i, now += pace) {
    if (block.Take(1, now)) continue;
    wanted = block.Wanted(1, now);
    block.Put(wanted, absl::ZeroDuration(), now, now);
    EXPECT_TRUE(block.Take(1, now));
  }
  return wanted;
}

TEST(PermitBlockTest, ABlockLastsTwentyMillisecondsOfItsTakersPace) {
  EXPECT_NEAR(static_cast<double>(BlockAt(absl::Microseconds(1), 1'000'000)), 20'000, 400);
  EXPECT_NEAR(static_cast<double>(BlockAt(absl::Microseconds(100), 1'000'000)), 200, 4);
}

TEST(PermitBlockTest, ASlowTakerHoardsNothing) { EXPECT_EQ(BlockAt(50 * kMs, 1'000'000), 1); }

TEST(PermitBlockTest, ABlockIsAtMostAQuarterOfTheBurst) {
  EXPECT_EQ(BlockAt(absl::Microseconds(1), 1000), 250);
  EXPECT_EQ(BlockAt(absl::Microseconds(1), 3), 1);
}

TEST(PermitBlockTest, ABlockIsAtLeastWhatIsMissing) {
  PermitBlock block(Terms(1000));
  EXPECT_EQ(block.Wanted(700, kStart), 700);
  block.Put(100, 100 * kMs, kStart, kStart);
  EXPECT_EQ(block.Wanted(700, kStart), 600);
  PermitBlock fixed(Terms(1000, 50));
  EXPECT_EQ(fixed.Wanted(1, kStart), 50);
  EXPECT_EQ(fixed.Wanted(60, kStart), 60);
}

TEST(PermitBlockTest, WhatIsHeldForNothingMakesTheNextBlockSmall) {
  PermitBlock block(Terms());
  for (int i = 0; i < 5; ++i) {
    const std::int64_t wanted = block.Wanted(1, kStart);
    block.Put(wanted, absl::ZeroDuration(), kStart, kStart);
    ASSERT_TRUE(block.Take(wanted, kStart));
  }
  EXPECT_GT(block.Wanted(1, kStart), 100);
  block.Put(200, absl::ZeroDuration(), kStart, kStart);
  ASSERT_TRUE(block.Take(1, kStart));
  EXPECT_EQ(block.Wanted(1, kStart + 150 * kMs), 1);
}

}  // namespace
}  // namespace coord::internal
