// LocalLimiter: the limit of this process alone, on a time that the test sets.
#include "coord/internal/local_limiter.h"

#include <string>

#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Mode = LocalLimiter::Mode;

constexpr absl::Duration kMs = absl::Milliseconds(1);
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

TEST(LocalLimiterTest, ABurstAtOnceAndThenAtTheRate) {
  LocalLimiter limiter(10 * kMs, 3, 100);
  for (int left = 2; left >= 0; --left) {
    const auto decision = limiter.Ask("a", 1, Mode::kTake, kStart);
    EXPECT_TRUE(decision.allowed);
    EXPECT_EQ(decision.taken, 1);
    EXPECT_EQ(decision.remaining, left);
    EXPECT_EQ(decision.retry_after, absl::ZeroDuration());
    EXPECT_EQ(decision.reset_after, (3 - left) * 10 * kMs);
  }
  const auto denied = limiter.Ask("a", 1, Mode::kTake, kStart + 4 * kMs);
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(denied.taken, 0);
  EXPECT_EQ(denied.retry_after, 6 * kMs);
  EXPECT_EQ(denied.reset_after, 26 * kMs);
  EXPECT_FALSE(limiter.Ask("a", 1, Mode::kTake, kStart + 9 * kMs).allowed);
  EXPECT_TRUE(limiter.Ask("a", 1, Mode::kTake, kStart + 10 * kMs).allowed);
  EXPECT_FALSE(limiter.Ask("a", 1, Mode::kTake, kStart + 19 * kMs).allowed);
}

TEST(LocalLimiterTest, AQuietTimeGivesNoMoreThanTheBurst) {
  LocalLimiter limiter(10 * kMs, 3, 100);
  EXPECT_TRUE(limiter.Ask("a", 3, Mode::kTake, kStart).allowed);
  EXPECT_TRUE(limiter.Ask("a", 3, Mode::kTake, kStart + absl::Hours(1)).allowed);
  EXPECT_FALSE(limiter.Ask("a", 1, Mode::kTake, kStart + absl::Hours(1)).allowed);
}

TEST(LocalLimiterTest, ADenialConsumesNothingAndAPeekNeither) {
  LocalLimiter limiter(10 * kMs, 3, 100);
  EXPECT_EQ(limiter.Ask("a", 2, Mode::kPeek, kStart).remaining, 1);
  EXPECT_EQ(limiter.size(), 0u);
  EXPECT_TRUE(limiter.Ask("a", 2, Mode::kTake, kStart).allowed);
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(limiter.Ask("a", 2, Mode::kTake, kStart).allowed);
    EXPECT_EQ(limiter.Ask("a", 1, Mode::kPeek, kStart).taken, 0);
  }
  EXPECT_TRUE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
}

TEST(LocalLimiterTest, UpToTakesWhatThereIs) {
  LocalLimiter limiter(10 * kMs, 3, 100);
  EXPECT_EQ(limiter.Ask("a", 2, Mode::kTakeUpTo, kStart).taken, 2);
  EXPECT_EQ(limiter.Ask("a", 99, Mode::kTakeUpTo, kStart).taken, 1);
  const auto denied = limiter.Ask("a", 99, Mode::kTakeUpTo, kStart);
  EXPECT_FALSE(denied.allowed);
  EXPECT_EQ(denied.retry_after, 10 * kMs);
}

TEST(LocalLimiterTest, KeysAreLimitsOfTheirOwn) {
  LocalLimiter limiter(10 * kMs, 1, 100);
  EXPECT_TRUE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
  EXPECT_TRUE(limiter.Ask("b", 1, Mode::kTake, kStart).allowed);
  EXPECT_FALSE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
}

TEST(LocalLimiterTest, KeysThatAreWholeAgainMakeRoom) {
  LocalLimiter limiter(10 * kMs, 1, 3);
  absl::Time now = kStart;
  for (int i = 0; i < 1000; ++i, now += 5 * kMs) {
    EXPECT_TRUE(limiter.Ask(std::to_string(i), 1, Mode::kTake, now).allowed);
    EXPECT_LE(limiter.size(), 3u);
  }
}

TEST(LocalLimiterTest, KeysThatFindNoRoomAreOneLimitTogether) {
  LocalLimiter limiter(10 * kMs, 2, 3);
  for (const char* const key : {"a", "b", "c"}) {
    EXPECT_TRUE(limiter.Ask(key, 1, Mode::kTake, kStart).allowed);
  }
  EXPECT_TRUE(limiter.Ask("d", 1, Mode::kTake, kStart).allowed);
  EXPECT_TRUE(limiter.Ask("e", 1, Mode::kTake, kStart).allowed);
  EXPECT_FALSE(limiter.Ask("f", 1, Mode::kTake, kStart).allowed);
  EXPECT_EQ(limiter.size(), 3u);
  // Those that are remembered lose nothing by it.
  EXPECT_TRUE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
  EXPECT_FALSE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
  // b and c are whole again, and so is one of the two that were taken together.
  EXPECT_FALSE(limiter.Ask("f", 2, Mode::kTake, kStart + 10 * kMs).allowed);
  EXPECT_TRUE(limiter.Ask("f", 1, Mode::kTake, kStart + 10 * kMs).allowed);
  EXPECT_TRUE(limiter.Ask("g", 2, Mode::kTake, kStart + 20 * kMs).allowed);
}

TEST(LocalLimiterTest, AKeyThatFindsRoomLaterHasNotGotItsBurstBack) {
  LocalLimiter limiter(10 * kMs, 5, 1);
  EXPECT_TRUE(limiter.Ask("a", 1, Mode::kTake, kStart).allowed);
  EXPECT_TRUE(limiter.Ask("b", 5, Mode::kTake, kStart).allowed);
  // a is whole again, and b has a place of its own; it has one permit more than it would have had.
  const absl::Time later = kStart + 10 * kMs;
  EXPECT_EQ(limiter.Ask("b", 1, Mode::kPeek, later).remaining, 0);
  EXPECT_EQ(limiter.Ask("b", 5, Mode::kTakeUpTo, later).taken, 1);
  EXPECT_FALSE(limiter.Ask("b", 1, Mode::kTake, later).allowed);
  EXPECT_TRUE(limiter.Ask("b", 1, Mode::kTake, later + 10 * kMs).allowed);
}

TEST(LocalLimiterTest, MemoryThatWasEmptiedOnceIsEmptiedAgain) {
  LocalLimiter limiter(10 * kMs, 2, 3);
  absl::Time now = kStart;
  for (int round = 0; round < 5; ++round, now += absl::Hours(1)) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(limiter.Ask(std::to_string(10 * round + i), 2, Mode::kTake, now).allowed);
    }
  }
  EXPECT_TRUE(limiter.Ask("x", 2, Mode::kTake, now).allowed);
  EXPECT_TRUE(limiter.Ask("y", 2, Mode::kTake, now).allowed);
  EXPECT_EQ(limiter.size(), 2u);
}

}  // namespace
}  // namespace coord::internal
