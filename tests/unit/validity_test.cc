#include "coord/internal/validity.h"
#include "coord/internal/waiting.h"
#include "coord/lock/hand_over.h"
#include "coord/lock/quorum_wait.h"

#include <gtest/gtest.h>

#include "coord/internal/backoff.h"
#include "coord/internal/jitter.h"

namespace coord::internal {
namespace {

const absl::Time kSent = absl::FromUnixSeconds(1000);

TEST(ValidityTest, CountsFromTheMomentOfSendingAndTakesDriftOff) {
  // 1 % of 10 s, and 2 ms.
  EXPECT_EQ(ValidUntil(kSent, absl::Seconds(10), absl::Seconds(10)),
            kSent + absl::Seconds(10) - absl::Milliseconds(102));
}

TEST(ValidityTest, AReplayedGrantIsOnlyAsLongAsTheTimeLeft) {
  EXPECT_EQ(ValidUntil(kSent, absl::Seconds(10), absl::Seconds(3)),
            kSent + absl::Seconds(3) - absl::Milliseconds(102));
}

TEST(ValidityTest, AServerThatAnswersMoreThanWasAskedIsNotBelieved) {
  EXPECT_EQ(ValidUntil(kSent, absl::Seconds(1), absl::Hours(1)),
            ValidUntil(kSent, absl::Seconds(1), absl::Seconds(1)));
}

TEST(ValidityTest, TheRenewalComesLongBeforeTheEnd) {
  for (const absl::Duration ttl :
       {absl::Milliseconds(20), absl::Seconds(1), absl::Seconds(10), absl::Hours(24)}) {
    EXPECT_LT(RenewAt(kSent, ttl), ValidUntil(kSent, ttl, ttl)) << ttl;
    // Between the first attempt and the end there is time for at least one more.
    EXPECT_LT(RetryRenewalAt(RenewAt(kSent, ttl), ttl), ValidUntil(kSent, ttl, ttl)) << ttl;
  }
}

TEST(ValidityTest, FailedRenewalsAreNeitherAStormNorRare) {
  EXPECT_EQ(RetryRenewalAt(kSent, absl::Milliseconds(20)), kSent + absl::Milliseconds(5));
  EXPECT_EQ(RetryRenewalAt(kSent, absl::Seconds(1)), kSent + absl::Milliseconds(50));
  EXPECT_EQ(RetryRenewalAt(kSent, absl::Hours(1)), kSent + absl::Milliseconds(500));
}

TEST(BackoffTest, TheBoundDoublesUpToItsLimit) {
  const BackoffLimits limits{absl::Milliseconds(10), absl::Milliseconds(35)};
  EXPECT_EQ(BackoffBound(limits, 1), absl::Milliseconds(10));
  EXPECT_EQ(BackoffBound(limits, 2), absl::Milliseconds(20));
  EXPECT_EQ(BackoffBound(limits, 3), absl::Milliseconds(35));
  EXPECT_EQ(BackoffBound(limits, 1'000'000), absl::Milliseconds(35));
}

TEST(BackoffTest, DelaysFillTheWholeRangeBelowTheBound) {
  Jitter random(1);
  const BackoffLimits limits{absl::Milliseconds(100), absl::Seconds(1)};
  absl::Duration least = absl::InfiniteDuration();
  absl::Duration most = absl::ZeroDuration();
  for (int i = 0; i < 2000; ++i) {
    const absl::Duration delay = JitteredDelay(limits, 3, random.Next());
    least = std::min(least, delay);
    most = std::max(most, delay);
  }
  EXPECT_GE(least, absl::ZeroDuration());
  EXPECT_LT(least, absl::Milliseconds(40));
  EXPECT_GT(most, absl::Milliseconds(360));
  EXPECT_LE(most, absl::Milliseconds(400));
}

TEST(ReleaseCountTest, AMajorityMustTellOfTheSameRelease) {
  ReleaseCount count(5);
  EXPECT_FALSE(count.enough());
  count.Heard(0, "a");
  count.Heard(0, "a");
  count.Heard(0, "a");  // one server, however often
  count.Heard(1, "a");
  count.Heard(2, "b");
  count.Heard(3, "b");
  EXPECT_FALSE(count.enough());
  count.Heard(3, "a");
  EXPECT_TRUE(count.enough());
  count.Clear();
  EXPECT_FALSE(count.enough());
  ReleaseCount even(4);
  even.Heard(0, "a");
  even.Heard(1, "a");
  EXPECT_FALSE(even.enough());
  even.Heard(2, "a");
  EXPECT_TRUE(even.enough());
}

TEST(PollingPauseTest, QuestionsAreAtMost100MsApart) {
  for (int asked = 1; asked < 50; ++asked) {
    EXPECT_LE(PollingPause(asked, absl::Hours(1), 1.0), absl::Milliseconds(100));
    EXPECT_GE(PollingPause(asked, absl::Hours(1), 0.0), absl::Milliseconds(1));
  }
  EXPECT_EQ(PollingPause(50, absl::Hours(1), 1.0), absl::Milliseconds(100));
}

TEST(PollingPauseTest, TheEndOfTheHoldersLeaseIsNotSleptThrough) {
  EXPECT_EQ(PollingPause(50, absl::Milliseconds(7), 1.0), absl::Milliseconds(8));
  EXPECT_EQ(PollingPause(50, -absl::Seconds(1), 1.0), absl::Milliseconds(1));
}

TEST(HandOverTest, ThirtyTwoTimesAndNoMore) {
  const absl::Time began = absl::UnixEpoch();
  EXPECT_TRUE(MayHandOver({began, 0}, began));
  EXPECT_TRUE(MayHandOver({began, 31}, began + absl::Milliseconds(1)));
  EXPECT_FALSE(MayHandOver({began, 32}, began + absl::Milliseconds(1)));
}

TEST(HandOverTest, FiveMillisecondsAndNoLonger) {
  const absl::Time began = absl::UnixEpoch();
  EXPECT_TRUE(MayHandOver({began, 1}, began + absl::Microseconds(4999)));
  EXPECT_FALSE(MayHandOver({began, 1}, began + absl::Milliseconds(5)));
}

TEST(HandOverTest, AClockThatStepsBackEndsTheTurn) {
  const absl::Time began = absl::UnixEpoch();
  EXPECT_FALSE(MayHandOver({began, 0}, began - absl::Milliseconds(1)));
}

TEST(SleepTest, AStoppedTokenEndsItAtOnce) {
  std::stop_source source;
  source.request_stop();
  EXPECT_FALSE(SleepUntil(DeadlineAfter(absl::Hours(1)), {SteadyTime::max(), source.get_token()}));
}

TEST(SleepTest, ADeadlineBeforeItsEndIsReported) {
  EXPECT_FALSE(
      SleepUntil(DeadlineAfter(absl::Hours(1)), {DeadlineAfter(absl::Milliseconds(1)), {}}));
  EXPECT_TRUE(
      SleepUntil(DeadlineAfter(absl::Milliseconds(1)), {DeadlineAfter(absl::Hours(1)), {}}));
}

}  // namespace
}  // namespace coord::internal
