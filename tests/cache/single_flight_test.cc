// Single flights without a cache, and the moment at which a value is made anew early.
#include "cache/internal/single_flight.h"

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/internal/early_refresh.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::internal {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::StatusIs;
using Ticket = SingleFlight::Ticket;

constexpr SteadyTime kNever = SteadyTime::max();
constexpr SteadyTime kAtOnce = SteadyTime::min();

class SingleFlightTest : public ::testing::Test {
 protected:
  Ticket Join(std::string_view key = "k") {
    absl::StatusOr<Ticket> ticket = flights_.Join(key, flights_.Mark(key));
    EXPECT_OK(ticket);
    return *ticket;
  }
  // As another thread would, that lands it later.
  Ticket Begun(std::string_view key = "k") {
    const Ticket ticket = Join(key);
    std::thread([&] { EXPECT_TRUE(flights_.Begin(ticket.flight)); }).join();
    return ticket;
  }

  SingleFlight flights_;
};

TEST_F(SingleFlightTest, OneLeadsAndAllGetWhatItBrings) {
  const Ticket leader = Begun();
  EXPECT_TRUE(leader.leads);
  std::atomic<int> got{0};
  std::vector<std::thread> others;
  for (int i = 0; i < 8; ++i) {
    const Ticket other = Join();
    EXPECT_FALSE(other.leads);
    others.emplace_back([this, other, &got] {
      const auto result = flights_.Await(other.flight, kNever, {}, false);
      if (result.has_value() && result->ok() && (*result)->payload == "v") ++got;
    });
  }
  EXPECT_TRUE(Join("another").leads);
  flights_.Land(leader.flight, Landing{false, true, "v"});
  for (std::thread& other : others) other.join();
  EXPECT_EQ(got, 8);
  EXPECT_TRUE(Join().leads);
}

TEST_F(SingleFlightTest, WhoLeavesAtHisDeadlineLeavesTheOthersWaiting) {
  const Ticket leader = Begun();
  const Ticket other = Join();
  EXPECT_EQ(flights_.Await(other.flight, kAtOnce, {}, false), std::nullopt);
  EXPECT_TRUE(flights_.Awaited(leader.flight));
  EXPECT_FALSE(leader.flight->stop().stop_requested());
  EXPECT_EQ(flights_.Await(leader.flight, kAtOnce, {}, false), std::nullopt);
  EXPECT_TRUE(leader.flight->stop().stop_requested());
  EXPECT_TRUE(Join().given_up);
}

TEST_F(SingleFlightTest, WhoLeavesContentStillWantsIt) {
  const Ticket leader = Begun();
  const Ticket other = Join();
  EXPECT_EQ(flights_.Await(leader.flight, kAtOnce, {}, true), std::nullopt);
  EXPECT_EQ(flights_.Await(other.flight, kAtOnce, {}, false), std::nullopt);
  EXPECT_FALSE(leader.flight->stop().stop_requested());
}

TEST_F(SingleFlightTest, AStopTokenEndsAWait) {
  const Ticket leader = Begun();
  std::stop_source stop;
  std::thread waiter([&] {
    EXPECT_EQ(flights_.Await(leader.flight, kNever, stop.get_token(), true), std::nullopt);
  });
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(leader.flight->stop().stop_requested());
}

TEST_F(SingleFlightTest, AThreadInsideAFlightIsNotToldToWaitForItself) {
  const Ticket leader = Join();
  EXPECT_TRUE(flights_.Begin(leader.flight));
  EXPECT_THAT(flights_.Join("k", 0), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(flights_.Supersede("k"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(flights_.overtaken(leader.flight));
  EXPECT_TRUE(Join("another").leads);
  std::thread([&] { EXPECT_FALSE(Join().leads); }).join();
}

TEST_F(SingleFlightTest, NobodyJoinsWhatIsOvertaken) {
  const Ticket old = Begun();
  flights_.Overtake("k");
  EXPECT_TRUE(flights_.overtaken(old.flight));
  const Ticket next = Begun();
  EXPECT_TRUE(next.leads);
  flights_.Land(old.flight, Landing{false, true, "old"});
  EXPECT_FALSE(Join().leads) << "the older one has taken the newer one with it";
  EXPECT_TRUE(flights_.Supersede("k")->leads);
  EXPECT_TRUE(flights_.overtaken(next.flight));
}

TEST_F(SingleFlightTest, WhoLeadsLearnsThatOneHasLandedSinceHeLooked) {
  const std::uint64_t mark = flights_.Mark("k");
  const Ticket first = Begun();
  flights_.Land(first.flight, Landing{});
  EXPECT_TRUE(flights_.Join("k", mark)->landed_since);
  EXPECT_FALSE(first.landed_since);
}

TEST_F(SingleFlightTest, OneInTheBackgroundIsOnlyBegunWhereThereIsNone) {
  const std::uint64_t mark = flights_.Mark("k");
  const SingleFlight::Handle one = flights_.Background("k", mark);
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(flights_.Background("k", mark), nullptr);
  EXPECT_FALSE(Join().leads);
  EXPECT_FALSE(flights_.Withdraw(one)) << "somebody waits";
  flights_.Land(one, Landing{});
  EXPECT_EQ(flights_.Background("k", mark), nullptr) << "what it would refresh is new";
}

TEST_F(SingleFlightTest, WhatIsToBeRunIsTakenOnce) {
  const Ticket ticket = Join();
  flights_.SetRun(ticket.flight, [] {});
  EXPECT_TRUE(flights_.TakeRun(ticket.flight));
  EXPECT_FALSE(flights_.TakeRun(ticket.flight));
  flights_.Cancel(ticket.flight, absl::AbortedError(""));
  EXPECT_EQ(flights_.Await(ticket.flight, kAtOnce, {}, false), std::nullopt) << "it has begun";
}

TEST_F(SingleFlightTest, CloseCancelsWhatHasNotBegunAndWaitsForTheRest) {
  const Ticket waiting = Join("not begun");
  const Ticket begun = Join("begun");
  EXPECT_TRUE(flights_.Begin(begun.flight));
  std::atomic<bool> closed{false};
  std::thread closing([&] {
    flights_.Close();
    closed = true;
  });
  const auto result = flights_.Await(waiting.flight, kNever, {}, false);
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(*result, StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Eventually([&] { return begun.flight->stop().stop_requested(); }));
  EXPECT_FALSE(closed);
  flights_.Land(begun.flight, Landing{});
  closing.join();
  EXPECT_THAT(flights_.Join("k", 0), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(EarlyRefreshTest, TheLongerAValueTakesTheEarlierItIsMadeAnew) {
  const absl::Duration left = absl::Seconds(10);
  // -ln(0.5) is 0.69.
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(14), 1, left, 0.5));
  EXPECT_TRUE(RefreshesEarly(absl::Seconds(15), 1, left, 0.5));
  EXPECT_TRUE(RefreshesEarly(absl::Seconds(8), 2, left, 0.5));
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(7), 2, left, 0.5));
}

TEST(EarlyRefreshTest, AnyRandomNumberHasAnAnswer) {
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(1), 1, absl::Milliseconds(1), 1));
  EXPECT_TRUE(RefreshesEarly(absl::Seconds(1), 1, absl::Seconds(20), 0));
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(1), 1, absl::Hours(1), 0));
}

TEST(EarlyRefreshTest, WhatNobodyMeasuredOrDoesNotExpireIsLeftAlone) {
  EXPECT_FALSE(RefreshesEarly(absl::ZeroDuration(), 1, absl::ZeroDuration(), 0.5));
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(1), 0, absl::Milliseconds(1), 0.001));
  EXPECT_FALSE(RefreshesEarly(absl::Seconds(1), 1, absl::InfiniteDuration(), 0));
}

}  // namespace
}  // namespace coord::internal
