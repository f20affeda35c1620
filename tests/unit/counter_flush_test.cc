// CounterFlush: on schedules of answers, lost replies and late answers, nothing counts twice and
// nothing vanishes.
#include "coord/internal/counter_flush.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::StatusIs;
using ::testing::HasSubstr;

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
const absl::Time kStart = absl::FromUnixSeconds(1'000);

CounterFlush::Terms Terms() {
  return {.interval = absl::Milliseconds(100), .window = absl::Seconds(80)};
}
absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

Reply Added(std::int64_t value, bool applied = true) {
  std::vector<Reply> items;
  items.push_back(Reply::Text(Reply::Kind::kString, StrCat(value)));
  items.push_back(Reply::Integer(applied ? 1 : 0));
  return Reply::Items(Reply::Kind::kArray, std::move(items));
}
Reply Kept(std::int64_t value, bool applied = true) {
  return Reply::Text(Reply::Kind::kString, StrCat(value, applied ? " 1" : " 0"));
}
absl::Status Lost() {
  return MakeStatus(absl::StatusCode::kDeadlineExceeded, "no reply", kOutcomeUnknown);
}
absl::Status Away() { return MakeStatus(absl::StatusCode::kUnavailable, "not sent", kUnavailable); }

TEST(CounterFlushTest, WhatWasPutInGoesInOneFlush) {
  CounterFlush flush(Terms());
  EXPECT_TRUE(flush.empty());
  EXPECT_FALSE(flush.Begin(At(0)));
  EXPECT_FALSE(flush.asking());
  flush.Put(3);
  flush.Put(-1);
  const std::uint64_t target = flush.Target();
  const auto ask = flush.Begin(At(0));
  ASSERT_TRUE(ask);
  EXPECT_EQ(ask->amount, 2);
  EXPECT_TRUE(ask->id.valid());
  EXPECT_FALSE(ask->resolving);
  EXPECT_EQ(ask->repeat_until, At(40));
  EXPECT_TRUE(flush.asking());
  EXPECT_FALSE(flush.Reached(target));
  EXPECT_EQ(flush.local(), 2);
  EXPECT_OK(flush.Settle(Added(12), At(0)));
  EXPECT_TRUE(flush.Reached(target));
  EXPECT_TRUE(flush.empty());
  EXPECT_EQ(flush.known(), 12);
  EXPECT_EQ(flush.Pause(), absl::Milliseconds(100));
}

TEST(CounterFlushTest, WhatComesWhileOneIsUnderWayIsTheNexts) {
  CounterFlush flush(Terms());
  flush.Put(3);
  const auto first = flush.Begin(At(0));
  flush.Put(4);
  EXPECT_EQ(flush.local(), 7);
  EXPECT_EQ(flush.Target(), 2u);
  ASSERT_OK(flush.Settle(Added(3), At(0)));
  EXPECT_FALSE(flush.Reached(2));
  const auto second = flush.Begin(At(1));
  EXPECT_EQ(second->amount, 4);
  EXPECT_NE(second->id, first->id);
}

TEST(CounterFlushTest, AFailedOneIsRepeatedWithItsIdAndAmount) {
  for (const absl::Status& why : {Lost(), Away()}) {
    CounterFlush flush(Terms());
    flush.Put(3);
    const auto first = flush.Begin(At(0));
    EXPECT_EQ(flush.Settle(why, At(0)), why);
    flush.Put(5);
    const auto again = flush.Begin(At(1));
    EXPECT_EQ(again->amount, 3);
    EXPECT_EQ(again->id, first->id);
    EXPECT_EQ(again->number, first->number);
    EXPECT_FALSE(again->resolving);
    // The window began when it may have been applied, if it may.
    EXPECT_EQ(again->repeat_until, IsOutcomeUnknown(why) ? At(40) : At(41));
  }
}

TEST(CounterFlushTest, FromHalfTheWindowOnItIsResolvedAndBeforeItsEndForgotten) {
  CounterFlush flush(Terms());
  flush.Put(3);
  const auto first = flush.Begin(At(0));
  (void)flush.Settle(Lost(), At(0));
  EXPECT_FALSE(flush.Begin(At(39.9))->resolving);
  (void)flush.Settle(Lost(), At(39.9));
  // The first time is what counts.
  const auto ask = flush.Begin(At(40));
  EXPECT_TRUE(ask->resolving);
  EXPECT_EQ(ask->id, first->id);
  EXPECT_EQ(ask->repeat_until, absl::InfiniteFuture());
  // To ask leaves nothing in doubt that was not.
  (void)flush.Settle(Lost(), At(40));
  EXPECT_TRUE(flush.Begin(At(69.9))->resolving);
  (void)flush.Settle(Away(), At(69.9));
  EXPECT_EQ(flush.TakeForgotten(), 0);
  EXPECT_FALSE(flush.Begin(At(70)));
  EXPECT_EQ(flush.TakeForgotten(), 3);
  EXPECT_EQ(flush.TakeForgotten(), 0);
  EXPECT_TRUE(flush.empty());
}

TEST(CounterFlushTest, OneThatWasNeverInDoubtIsNeverForgotten) {
  CounterFlush flush(Terms());
  flush.Put(3);
  (void)flush.Begin(At(0));
  (void)flush.Settle(Away(), At(0));
  const auto again = flush.Begin(At(100'000));
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->resolving);
  EXPECT_EQ(again->amount, 3);
}

TEST(CounterFlushTest, WhatIsFoundAppliedIsSettledAndWhatIsVoidGoesAsAnother) {
  for (const bool applied : {true, false}) {
    CounterFlush flush(Terms());
    flush.Put(3);
    const auto first = flush.Begin(At(0));
    (void)flush.Settle(Lost(), At(0));
    flush.Put(4);
    ASSERT_TRUE(flush.Begin(At(50))->resolving);
    ASSERT_OK(flush.Settle(applied ? Kept(30) : Reply(), At(50)));
    EXPECT_EQ(flush.Reached(1), applied);
    const auto next = flush.Begin(At(51));
    EXPECT_EQ(next->amount, applied ? 4 : 7);
    EXPECT_NE(next->id, first->id);
    EXPECT_FALSE(next->resolving);
    EXPECT_EQ(next->repeat_until, At(91));
  }
}

TEST(CounterFlushTest, WhatDoesNotFitWaitsAgain) {
  for (const bool resolved : {false, true}) {
    CounterFlush flush(Terms());
    flush.Put(3);
    const auto first = flush.Begin(At(0));
    if (resolved) {
      (void)flush.Settle(Lost(), At(0));
      (void)flush.Begin(At(50));
    }
    EXPECT_THAT(flush.Settle(resolved ? Kept(kMost - 1, false) : Added(kMost - 1, false), At(50)),
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("3 more")));
    EXPECT_EQ(flush.known(), kMost - 1);
    flush.Put(-2);
    const auto next = flush.Begin(At(51));
    EXPECT_EQ(next->amount, 1);
    EXPECT_NE(next->id, first->id);
  }
}

TEST(CounterFlushTest, AnAnswerThatIsNoneIsAFailureAndItIsAskedAgain) {
  CounterFlush flush(Terms());
  flush.Put(3);
  const auto first = flush.Begin(At(0));
  EXPECT_THAT(flush.Settle(Reply(), At(0)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(flush.Begin(At(1))->id, first->id);
}

TEST(CounterFlushTest, MoreThan64BitsGoInSeveral) {
  CounterFlush flush(Terms());
  flush.Put(kMost);
  flush.Put(kMost);
  flush.Put(5);
  std::uint64_t target = flush.Target();
  std::vector<std::int64_t> amounts;
  while (!flush.Reached(target)) {
    amounts.push_back(flush.Begin(At(0))->amount);
    if (flush.Splits(target)) ++target;
    ASSERT_OK(flush.Settle(Added(0), At(0)));
  }
  EXPECT_THAT(amounts, ::testing::ElementsAre(kMost, kMost, 5));
  EXPECT_TRUE(flush.empty());
}

TEST(CounterFlushTest, RestsLongerAfterEachFailureButNotTooLong) {
  CounterFlush flush(Terms());
  flush.Put(1);
  std::vector<absl::Duration> pauses;
  for (int i = 0; i < 30; ++i) {
    (void)flush.Begin(At(i));
    (void)flush.Settle(Away(), At(i));
    pauses.push_back(flush.Pause());
  }
  EXPECT_EQ(pauses[0], absl::Milliseconds(200));
  EXPECT_EQ(pauses[1], absl::Milliseconds(400));
  EXPECT_EQ(pauses.back(), absl::Seconds(1));
  (void)flush.Begin(At(30));
  ASSERT_OK(flush.Settle(Added(1), At(30)));
  EXPECT_EQ(flush.Pause(), absl::Milliseconds(100));
  // Who flushes once an hour does not wait as long with what failed.
  CounterFlush rare({.interval = absl::Hours(1), .window = absl::Minutes(10)});
  rare.Put(1);
  (void)rare.Begin(At(0));
  (void)rare.Settle(Away(), At(0));
  EXPECT_EQ(rare.Pause(), absl::Seconds(1));
}

TEST(CounterFlushTest, WhatDidNotGoOutIsInNoDoubt) {
  CounterFlush flush(Terms());
  flush.Put(3);
  const auto ask = flush.Begin(At(0));
  flush.NotSent();
  EXPECT_FALSE(flush.asking());
  EXPECT_EQ(flush.Begin(At(1))->id, ask->id);
  flush.Withdraw();
  EXPECT_FALSE(flush.asking());
  EXPECT_NE(flush.Begin(At(2))->id, ask->id);
  flush.NotSent();
  const CounterFlush::Loss loss = flush.GiveUp();
  EXPECT_EQ(loss.unknown, 0);
  EXPECT_EQ(loss.amount, 3);
}

TEST(CounterFlushTest, WhatIsGivenUpWhileItIsUnderWayOrInDoubtIsUnknown) {
  for (const bool under_way : {true, false}) {
    CounterFlush flush(Terms());
    flush.Put(3);
    (void)flush.Begin(At(0));
    if (!under_way) (void)flush.Settle(Lost(), At(0));
    flush.Put(4);
    const CounterFlush::Loss loss = flush.GiveUp();
    EXPECT_EQ(loss.unknown, 3);
    EXPECT_EQ(loss.amount, 4);
    EXPECT_TRUE(flush.empty());
    // The answer comes too late to settle anything.
    flush.Put(1);
    EXPECT_OK(flush.Settle(Added(3), At(1)));
    EXPECT_EQ(flush.local(), 1);
    EXPECT_EQ(flush.GiveUp().unknown, 0);
  }
}

// A counter on a server that remembers operations as it promises: for the window, and no longer
// than it must.
class Server {
 public:
  explicit Server(absl::Duration window) : window_(window) {}

  Reply Run(const CounterFlush::Ask& ask, absl::Time now) {
    std::erase_if(kept_, [&](const auto& one) { return now >= one.second.until; });
    const auto kept = kept_.find(ask.id.text());
    if (ask.resolving) {
      if (kept == kept_.end()) kept_[ask.id.text()] = {true, 0, now + window_};
      if (kept == kept_.end() || kept->second.is_void) return Reply();
      return Kept(kept->second.value);
    }
    if (kept == kept_.end()) {
      value_ += ask.amount;
      kept_[ask.id.text()] = {false, value_, now + window_};
      return Added(value_);
    }
    if (kept->second.is_void) return Reply::Text(Reply::Kind::kError, "OPVOID");
    return Added(kept->second.value);
  }
  std::int64_t value() const { return value_; }

 private:
  struct Answer {
    bool is_void = false;
    std::int64_t value = 0;
    absl::Time until;
  };
  const absl::Duration window_;
  std::int64_t value_ = 0;
  std::map<std::string, Answer> kept_;
};

std::uint64_t Seed() {
  const char* const given = std::getenv("COORD_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
}

// Requests are run, lost, or run late, when later ones have been answered; replies are lost;
// whoever asks gives up at some time, and all this for longer than the server remembers.
// Whether nothing was forgotten: of that nobody can know, of all else it is exact.
bool RunSchedule(std::uint64_t seed) {
  SCOPED_TRACE(StrCat("COORD_TEST_SEED=", seed));
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t n) { return static_cast<std::int64_t>(random() % n); };
  struct Late {
    CounterFlush::Ask ask;
    absl::Time at;
  };
  std::vector<Late> late;
  const absl::Duration window = absl::Seconds(8);
  Server server(window);
  CounterFlush flush({.interval = absl::Milliseconds(100), .window = window});
  absl::Time now = kStart;
  std::int64_t put = 0, forgotten = 0;
  const std::int64_t bad = below(10);  // of ten messages so many are lost or late
  const auto pass = [&](absl::Duration time) {
    now += time;
    // A message is on its way for no longer than a call may take.
    std::erase_if(late, [&](const Late& one) {
      if (one.at <= now) (void)server.Run(one.ask, one.at);
      return one.at <= now;
    });
  };
  const auto turn = [&](bool well) {
    const std::optional<CounterFlush::Ask> ask = flush.Begin(now);
    forgotten += flush.TakeForgotten();
    if (!ask) return;
    if (!well && below(20) == 0) {
      below(2) == 0 ? flush.NotSent() : (void)flush.Settle(Away(), now);
      return;
    }
    const absl::Time sent = now;
    const bool lost = !well && below(10) < bad;
    if (!lost || below(2) == 0) {
      const Reply reply = server.Run(*ask, now);
      pass(absl::Milliseconds(below(50)));
      if (!lost) {
        if (reply.is_error()) {
          (void)flush.Settle(Away(), sent);
        } else {
          EXPECT_OK(flush.Settle(reply, sent));
        }
        return;
      }
    } else if (below(2) == 0) {
      late.push_back({*ask, now + absl::Milliseconds(below(900))});
    }
    pass(absl::Milliseconds(below(400)));
    (void)flush.Settle(Lost(), sent);
  };
  for (int step = 0; step < 200; ++step) {
    if (below(2) == 0) {
      const std::int64_t amount = below(9) - 3;
      put += amount;
      flush.Put(amount);
    }
    turn(false);
    pass(below(30) == 0 ? absl::Seconds(below(5)) : absl::Milliseconds(below(300)));
  }
  for (int step = 0; step < 50 && !flush.empty(); ++step) {
    turn(true);
    pass(absl::Seconds(1));
  }
  EXPECT_TRUE(flush.empty());
  EXPECT_EQ(server.value(), forgotten == 0 ? put : server.value());
  return forgotten == 0;
}

TEST(CounterFlushTest, OnRandomSchedulesTheServerHasAllThatWasPutInOnce) {
  const std::uint64_t seed = Seed();
  std::cout << "COORD_TEST_SEED=" << seed << std::endl;
  int exact = 0;
  for (std::uint64_t i = 0; i < 3000 && !::testing::Test::HasFailure(); ++i) {
    exact += RunSchedule(seed + i) ? 1 : 0;
  }
  EXPECT_GT(exact, 1000);
}

}  // namespace
}  // namespace coord::internal
