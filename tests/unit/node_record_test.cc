// What is known of a server, and the channel to it, without one: on times and dialers of the test's
// own.
#include "coord/deployment/node_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <memory>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/deployment/channel.h"
#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tests/support/pair_socket.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::internal {
namespace {

using coord::testing::Eventually;
using coord::testing::PairSocket;
using coord::testing::StatusIs;
using coord::testing::Stopwatch;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Patience = Channel::Patience;

constexpr SteadyTime kStart{std::chrono::hours(1)};
SteadyTime At(absl::Duration after) { return kStart + absl::ToChronoNanoseconds(after); }

absl::Status Refused() {
  return MakeStatus(absl::StatusCode::kUnavailable, "cannot connect to db1:6379: refused",
                    kUnavailable);
}
absl::Status WrongPassword() {
  return MakeStatus(absl::StatusCode::kUnauthenticated, "db1:6379: WRONGPASS");
}

// A record that remembers what it has told.
struct Told {
  explicit Told(absl::Duration fail_fast_after = absl::Seconds(5))
      : record("db1:6379", fail_fast_after, [this](const NodeEvent& event) {
          const MutexLock lock(mutex);
          states.push_back(event.state);
          reasons.push_back(event.reason);
        }) {}
  std::vector<NodeState> seen() {
    const MutexLock lock(mutex);
    return states;
  }
  Mutex mutex;
  std::vector<NodeState> states;
  std::vector<std::string> reasons;
  NodeRecord record;
};

TEST(NodeRecordTest, EveryChangeOfStateIsToldOnceAndNothingElseIs) {
  Told told;
  NodeRecord& record = told.record;
  EXPECT_EQ(record.Look().state, NodeState::kConnecting);
  record.Failed(Refused(), false, At(absl::ZeroDuration()));  // it is so already
  record.Connected();
  record.Connected();  // its second connection
  record.Answered();
  record.Late(Refused());
  record.Late(Refused());
  record.Answered();
  record.Late(Refused());
  record.Broke(Refused());
  record.Broke(Refused());
  record.Late(Refused());  // there is nothing that could be late
  record.Answered();
  record.Failed(Refused(), false, At(absl::Seconds(10)));
  record.Failed(Refused(), false, At(absl::Seconds(16)));
  record.Failed(Refused(), false, At(absl::Seconds(17)));
  record.Broke(Refused());
  record.Connected();
  EXPECT_THAT(told.states, ElementsAre(NodeState::kReady, NodeState::kDegraded, NodeState::kReady,
                                       NodeState::kDegraded, NodeState::kConnecting,
                                       NodeState::kDown, NodeState::kReady));
  EXPECT_THAT(told.reasons[5], HasSubstr("refused"));
}

TEST(NodeRecordTest, GivesUpAfterItsTimeAndNotBefore) {
  Told told;
  NodeRecord& record = told.record;
  record.Connected();
  record.Broke(Refused());
  // The time begins with the first failure to connect.
  record.Failed(Refused(), false, At(absl::Seconds(100)));
  record.Failed(Refused(), false, At(absl::Seconds(105) - absl::Nanoseconds(1)));
  EXPECT_FALSE(record.refusing());
  EXPECT_FALSE(record.Refusal().has_value());
  EXPECT_EQ(record.Look().state, NodeState::kConnecting);
  record.Failed(Refused(), false, At(absl::Seconds(105)));
  EXPECT_TRUE(record.refusing());
  EXPECT_EQ(record.Look().state, NodeState::kDown);
  const std::optional<absl::Status> why = record.Refusal();
  ASSERT_TRUE(why.has_value());
  EXPECT_TRUE(coord::IsUnavailable(*why));
  EXPECT_FALSE(IsOutcomeUnknown(*why));
  EXPECT_THAT(std::string(FromAbsl(why->message())),
              ::testing::AllOf(HasSubstr("refused"), HasSubstr("given up for now")));
}

TEST(NodeRecordTest, ASuccessLetsCallersInAndBeginsTheTimeAnew) {
  Told told;
  NodeRecord& record = told.record;
  record.Failed(Refused(), false, At(absl::ZeroDuration()));
  record.Failed(Refused(), false, At(absl::Seconds(6)));
  ASSERT_TRUE(record.refusing());
  record.Connected();
  EXPECT_FALSE(record.refusing());
  record.Broke(Refused());
  record.Failed(Refused(), false, At(absl::Seconds(8)));
  record.Failed(Refused(), false, At(absl::Seconds(12)));
  EXPECT_FALSE(record.refusing());
  record.Failed(Refused(), false, At(absl::Seconds(13)));
  EXPECT_TRUE(record.refusing());
  record.Reset();
  EXPECT_FALSE(record.refusing());
  record.Failed(Refused(), false, At(absl::Seconds(14)));
  EXPECT_FALSE(record.refusing());
}

TEST(NodeRecordTest, WithoutATimeItNeverGivesUp) {
  Told told(absl::InfiniteDuration());
  told.record.Failed(Refused(), false, At(absl::ZeroDuration()));
  told.record.Failed(Refused(), false, At(absl::Hours(24 * 365)));
  EXPECT_FALSE(told.record.refusing());
  EXPECT_EQ(told.record.Look().state, NodeState::kConnecting);
}

TEST(NodeRecordTest, AServerThatRefusesUsIsDownAtOnceAndItsOwnErrorIsNotCoveredByAnother) {
  Told told;
  NodeRecord& record = told.record;
  record.Failed(WrongPassword(), true, At(absl::ZeroDuration()));
  EXPECT_THAT(told.states, ElementsAre(NodeState::kDown));
  EXPECT_TRUE(record.down());
  // It answers, so it can be reached: "unavailable" would be the wrong word, however long it lasts.
  record.Failed(WrongPassword(), true, At(absl::Seconds(60)));
  EXPECT_FALSE(record.refusing());
  // Now it cannot.
  record.Failed(Refused(), false, At(absl::Seconds(61)));
  EXPECT_FALSE(record.refusing());
  record.Failed(Refused(), false, At(absl::Seconds(66)));
  EXPECT_TRUE(record.refusing());
  EXPECT_TRUE(record.down());
  record.Connected();
  EXPECT_FALSE(record.down());
}

TEST(NodeRecordTest, ANodeThatWasGivenUpStaysDownUntilItIsReached) {
  Told told;
  NodeRecord& record = told.record;
  record.Failed(Refused(), false, At(absl::ZeroDuration()));
  record.Failed(Refused(), false, At(absl::Seconds(6)));
  ASSERT_TRUE(record.down());
  record.Reset();
  record.Failed(Refused(), false, At(absl::Seconds(7)));
  // Who looks after those that are down must not forget it.
  EXPECT_TRUE(record.down());
  EXPECT_FALSE(record.refusing());
}

TEST(NodeRecordTest, OfItsHistoryTheLastPartIsKept) {
  Told told;
  for (int i = 0; i < 500; ++i) {
    told.record.Connected();
    told.record.Note(StrCat("note ", i));
    told.record.Broke(Refused());
  }
  EXPECT_EQ(told.states.size(), 1500u);
  const NodeRecord::View view = told.record.Look();
  EXPECT_EQ(view.history.size(), 32u);
  EXPECT_EQ(view.history[30].reason, "note 499");
  EXPECT_EQ(view.history[31].state, NodeState::kConnecting);
  EXPECT_EQ(view.last_error, Refused());
}

TEST(NodeRecordTest, ANewNameIsInWhatIsToldFromThenOn) {
  std::vector<std::string> names;
  NodeRecord record("db1:6379", absl::Seconds(5),
                    [&](const NodeEvent& event) { names.push_back(event.node); });
  record.Connected();
  record.Rename("db2:6379");
  record.Note("failover");
  EXPECT_THAT(names, ElementsAre("db1:6379", "db2:6379"));
}

// A listener that is slow must not be overtaken: the last that is told is what is so.
TEST(NodeRecordTest, ChangesByManyThreadsAreToldInTheirOrder) {
  std::atomic<int> running = 0;
  std::atomic<bool> together = false;
  std::vector<NodeState> told;  // without a lock: one at a time
  NodeRecord record("db1:6379", absl::Hours(1), [&](const NodeEvent& event) {
    if (running.fetch_add(1) != 0) together = true;
    std::this_thread::yield();
    told.push_back(event.state);
    running.fetch_sub(1);
  });
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < 2000; ++round) {
          record.Connected();
          record.Broke(Refused());
        }
      });
    }
  }
  EXPECT_FALSE(together);
  for (std::size_t i = 1; i < told.size(); ++i) {
    ASSERT_NE(told[i], told[i - 1]) << "told out of order, at " << i;
  }
  EXPECT_EQ(told.back(), record.Look().state);
}

TEST(NodeRecordTest, AListenerMayAskTheRecord) {
  NodeRecord* self = nullptr;
  std::vector<NodeState> seen;
  NodeRecord record("db1:6379", absl::Seconds(5), [&](const NodeEvent&) {
    seen.push_back(self->Look().state);
    if (seen.size() == 1) self->Note("from within");
  });
  self = &record;
  record.Connected();
  EXPECT_THAT(seen, ElementsAre(NodeState::kReady, NodeState::kReady));
}

TEST(LatencyRecordTest, PercentilesAreRightToAFifth) {
  constexpr unsigned kSeed = 20220623;
  std::mt19937_64 random(kSeed);
  for (const double spread : {0.2, 1.0, 3.0}) {
    LatencyRecord record;
    std::lognormal_distribution<double> draw(std::log(50'000.0), spread);  // ns
    std::vector<double> all(100'000);
    for (double& ns : all) {
      ns = std::ceil(draw(random)) + 8;  // below 8 ns a step is as wide as the value
      record.Add(absl::Nanoseconds(ns));
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(record.count(), all.size());
    for (const double share : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = static_cast<std::size_t>(std::ceil(share * 1e5)) - 1;
      const double said = absl::ToDoubleNanoseconds(record.Percentile(share));
      EXPECT_LE(std::abs(said / all[rank] - 1), 0.13)
          << share << ' ' << spread << ": " << said << " for " << all[rank];
    }
  }
}

TEST(LatencyRecordTest, OfNothingAndOfOddValuesItSaysSomethingHarmless) {
  LatencyRecord record;
  EXPECT_EQ(record.Percentile(0.5), absl::ZeroDuration());
  record.Add(absl::ZeroDuration());
  record.Add(-absl::Seconds(1));
  record.Add(absl::InfiniteDuration());
  EXPECT_EQ(record.count(), 3u);
  EXPECT_LE(record.Percentile(0), absl::Nanoseconds(2));
  EXPECT_LE(record.Percentile(0.5), absl::Nanoseconds(2));
  EXPECT_GT(record.Percentile(1), absl::Seconds(60));
}

// ---- Channel ----

std::shared_ptr<Connection> Working() {
  int fds[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  const UniqueFd peer(fds[1]);
  return std::make_shared<Connection>(std::make_unique<PairSocket>(fds[0]), "db1:6379",
                                      SpinJudge(SpinMode::kNever));
}

CallLimits Within(absl::Duration wait, std::stop_token stop = {}) {
  return {DeadlineAfter(wait), stop};
}

class ChannelTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<Connection>> Dial(const CallLimits& limits) {
    ++dials_;
    std::function<absl::Status(const CallLimits&)> answer;
    {
      const MutexLock lock(mutex_);
      answer = answer_;
    }
    const absl::Status status = answer ? answer(limits) : absl::OkStatus();
    if (!status.ok()) return status;
    return Working();
  }
  void Answer(const absl::Status& status) {
    Answer([status](const CallLimits&) { return status; });
  }
  void Answer(std::function<absl::Status(const CallLimits&)> answer) {
    const MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }

  std::atomic<int> dials_ = 0;
  Mutex mutex_;
  std::function<absl::Status(const CallLimits&)> answer_;  // unset: connects
  Told told_{absl::Milliseconds(200)};
  Channel channel_{"db1:6379", told_.record, true,
                   [this](const CallLimits& limits) { return Dial(limits); }};
};

TEST_F(ChannelTest, AConnectionIsMadeOnceAndAgainWhenItBreaks) {
  EXPECT_EQ(channel_.Current(), nullptr);
  ASSERT_OK_AND_ASSIGN(const auto first, channel_.Get(Within(absl::Seconds(10))));
  ASSERT_OK_AND_ASSIGN(const auto again, channel_.Get(Within(absl::Seconds(10))));
  EXPECT_EQ(first, again);
  EXPECT_EQ(channel_.Current(), first);
  first->Break(Refused());
  EXPECT_EQ(channel_.Current(), nullptr);
  EXPECT_THAT(told_.seen(), ElementsAre(NodeState::kReady, NodeState::kConnecting));
  ASSERT_OK_AND_ASSIGN(const auto second, channel_.Get(Within(absl::Seconds(10))));
  EXPECT_NE(first, second);
  EXPECT_EQ(channel_.generation(), 2);
  EXPECT_EQ(dials_, 2);
}

TEST_F(ChannelTest, WhoWaitsTriesAgainUntilItWorks) {
  Answer([this](const CallLimits&) { return dials_ < 5 ? Refused() : absl::OkStatus(); });
  EXPECT_OK(channel_.Get(Within(absl::Seconds(20))).status());
  EXPECT_EQ(dials_, 5);
}

TEST_F(ChannelTest, OnceIsOneAttemptAtOnce) {
  Answer(Refused());
  for (int i = 1; i <= 20; ++i) {
    EXPECT_THAT(channel_.Get(Within(absl::Seconds(20)), Patience::kOnce).status(),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("refused")));
    EXPECT_EQ(dials_, i);
  }
}

TEST_F(ChannelTest, IfDueIsNoAttemptBeforeItsTime) {
  Answer(Refused());
  const Stopwatch watch;
  // The bound of the delay doubles with each attempt, up to a second: within the time of this loop
  // there may be a handful of attempts, and a storm without backoff would be 100,000.
  for (int i = 0; i < 100'000; ++i) {
    const absl::Status status = channel_.Get(Within(absl::Seconds(20)), Patience::kIfDue).status();
    ASSERT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("refused")));
    ASSERT_TRUE(coord::IsUnavailable(status));
  }
  EXPECT_LT(dials_, 60 + 10 * absl::ToDoubleSeconds(watch.elapsed()));
  channel_.Hurry();
  const int before = dials_;
  (void)channel_.Get(Within(absl::Seconds(20)), Patience::kIfDue);
  EXPECT_EQ(dials_, before + 1);
}

TEST_F(ChannelTest, CallersInALoopAreNoStormAndAreToldAtOnceOnceItIsGivenUp) {
  Answer(Refused());
  std::atomic<int> calls = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back([&](const std::stop_token& stop) {
        while (!stop.stop_requested() && calls < 100'000) {
          const absl::Status status = channel_.Get(Within(absl::Seconds(20))).status();
          EXPECT_TRUE(coord::IsUnavailable(status)) << status;
          ++calls;
        }
      });
    }
    EXPECT_TRUE(Eventually([&] { return calls >= 100'000; }, absl::Seconds(60)));
  }
  // Until then one of them dials for all; from then on nobody does.
  EXPECT_LT(dials_, 200);
  EXPECT_THAT(told_.seen(), ElementsAre(NodeState::kDown));
  // The background thread goes on.
  Answer(absl::OkStatus());
  EXPECT_TRUE(
      Eventually([&] { return channel_.Get(Within(absl::Seconds(1)), Patience::kIfDue).ok(); }));
  EXPECT_OK(channel_.Get(Within(absl::Seconds(20))).status());
  EXPECT_THAT(told_.seen(), ElementsAre(NodeState::kDown, NodeState::kReady));
}

TEST_F(ChannelTest, WhoWaitsWhenItIsGivenUpIsToldThen) {
  Answer(Refused());
  const Stopwatch watch;
  const absl::Status status = channel_.Get(Within(absl::Seconds(60))).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("given up for now")));
  EXPECT_LT(watch.elapsed(), absl::Seconds(30));
}

TEST_F(ChannelTest, WhatLastsIsRememberedUntilTheNextAttemptIsDue) {
  Answer(WrongPassword());
  // As often as the caller likes: the server is asked with backoff.
  const Stopwatch watch;
  for (int i = 0; i < 50'000; ++i) {
    const absl::Status status = channel_.Get(Within(absl::Seconds(20))).status();
    ASSERT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("WRONGPASS")));
    ASSERT_FALSE(coord::IsUnavailable(status)) << status;
  }
  EXPECT_LT(dials_, 60 + 10 * absl::ToDoubleSeconds(watch.elapsed()));
  // And it is asked again, whoever calls.
  const int before = dials_;
  EXPECT_TRUE(Eventually([&] {
    (void)channel_.Get(Within(absl::Seconds(20)));
    return dials_ > before;
  }));
  Answer(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return channel_.Get(Within(absl::Seconds(20))).ok(); }));
}

TEST_F(ChannelTest, WhatLastedIsForgottenWhenItShallHurryOrWasDisconnected) {
  for (const bool hurry : {true, false}) {
    Answer(WrongPassword());
    for (int i = 0; i < 12; ++i) (void)channel_.Get(Within(absl::Seconds(1)), Patience::kOnce);
    Answer(absl::OkStatus());
    if (hurry) {
      channel_.Hurry();
    } else {
      channel_.Disconnect(Refused());
    }
    EXPECT_OK(channel_.Get(Within(absl::Seconds(20))).status()) << hurry;
    channel_.Disconnect(Refused());
  }
}

TEST_F(ChannelTest, AStopEndsTheWaitForTheNextAttempt) {
  Answer(Refused());
  for (int i = 0; i < 12; ++i) (void)channel_.Get(Within(absl::Seconds(1)), Patience::kOnce);
  told_.record.Reset();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(channel_.Get(Within(absl::Seconds(20), stop.get_token())).status(),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(ChannelTest, AStopEndsTheWaitForSomebodyElsesAttempt) {
  std::atomic<bool> go = false;
  Answer([&](const CallLimits&) {
    EXPECT_TRUE(Eventually([&] { return go.load(); }, absl::Seconds(30)));
    return absl::OkStatus();
  });
  std::jthread dialing([&] { EXPECT_OK(channel_.Get(Within(absl::Seconds(30))).status()); });
  ASSERT_TRUE(Eventually([&] { return dials_ == 1; }));
  std::stop_source stop;
  std::atomic<bool> ended = false;
  std::jthread waiting([&] {
    EXPECT_THAT(channel_.Get(Within(absl::Seconds(30), stop.get_token())).status(),
                StatusIs(absl::StatusCode::kCancelled));
    ended = true;
  });
  stop.request_stop();
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  EXPECT_FALSE(go);
  go = true;
}

// Its own stop says nothing of the server.
TEST_F(ChannelTest, AnAttemptThatItsCallerStoppedIsNoFailure) {
  Answer([](const CallLimits& limits) {
    return limits.stop.stop_possible()
               ? MakeStatus(absl::StatusCode::kCancelled, "stopped while connecting")
               : absl::OkStatus();
  });
  ASSERT_OK(channel_.Get(Within(absl::Seconds(20))).status());
  channel_.Disconnect(Refused());
  std::stop_source stop;
  EXPECT_FALSE(channel_.Get(Within(absl::Seconds(20), stop.get_token()), Patience::kOnce).ok());
  EXPECT_THAT(told_.seen(), ElementsAre(NodeState::kReady, NodeState::kConnecting));
  EXPECT_EQ(told_.record.Look().last_error, Refused());
  EXPECT_OK(channel_.Get(Within(absl::Seconds(20)), Patience::kIfDue).status());
}

TEST_F(ChannelTest, OnceClosedNothingIsDialled) {
  ASSERT_OK_AND_ASSIGN(const auto connection, channel_.Get(Within(absl::Seconds(10))));
  channel_.Close();
  EXPECT_TRUE(connection->broken());
  for (const Patience patience : {Patience::kWait, Patience::kOnce, Patience::kIfDue}) {
    EXPECT_THAT(channel_.Get(Within(absl::Seconds(10)), patience).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("closed")));
  }
  EXPECT_EQ(dials_, 1);
}

TEST_F(ChannelTest, AConnectionMadeWhileItWasClosedIsNotHandedOut) {
  Answer([this](const CallLimits&) {
    channel_.Close();
    return absl::OkStatus();
  });
  EXPECT_THAT(channel_.Get(Within(absl::Seconds(10))).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(channel_.Current(), nullptr);
}

// Or a caller with little patience would hear "no answer in time" of a server that has answered
// all others.
TEST_F(ChannelTest, AnAttemptCutByTheCallersDeadlineDoesNotCoverWhatTheServerSaidBefore) {
  Answer(MakeStatus(absl::StatusCode::kUnavailable, "the server says: LOADING", kUnavailable));
  (void)channel_.Get(Within(absl::Seconds(1)), Patience::kOnce);
  Answer([](const CallLimits& limits) {
    EXPECT_TRUE(Eventually([&] { return Passed(limits.deadline); }));
    return MakeStatus(absl::StatusCode::kUnavailable, "no answer in time", kUnavailable);
  });
  for (int i = 0; i < 3; ++i) {
    const absl::Status status =
        channel_.Get(Within(absl::Milliseconds(20)), Patience::kOnce).status();
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kUnavailable,
                         ::testing::AllOf(HasSubstr("no answer in time"), HasSubstr("LOADING"))));
    EXPECT_LT(status.message().size(), 200u) << "it grows: " << status;
    EXPECT_TRUE(coord::IsUnavailable(status));
  }
  // What is well again leaves no trace.
  Answer(absl::OkStatus());
  ASSERT_OK(channel_.Get(Within(absl::Seconds(10)), Patience::kOnce).status());
  channel_.Disconnect(Refused());
  Answer([](const CallLimits& limits) {
    EXPECT_TRUE(Eventually([&] { return Passed(limits.deadline); }));
    return MakeStatus(absl::StatusCode::kUnavailable, "no answer in time", kUnavailable);
  });
  EXPECT_THAT(channel_.Get(Within(absl::Milliseconds(20)), Patience::kOnce).status(),
              StatusIs(absl::StatusCode::kUnavailable, ::testing::Not(HasSubstr("LOADING"))));
}

}  // namespace
}  // namespace coord::internal
