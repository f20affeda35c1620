// What votes add up to, and what a round of them does next. No server and no clock.
#include "coord/lock/quorum_vote.h"

#include <string>
#include <utility>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/validity.h"
#include "coord/lock/quorum_round.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Kind = VoteAnswer::Kind;
using Step = QuorumRound::Step;
using Verdict = QuorumRound::Verdict;
using ::testing::HasSubstr;

const absl::Duration kTtl = absl::Seconds(10);
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);
const absl::Time kCalendar = absl::FromUnixMicros(2'000'000'000'000'000);
constexpr Ballot kBallot = 2'000'000'000'000'000;

VoteAnswer Says(Kind kind, Ballot ballot = kBallot, absl::Duration left = kTtl,
                std::string text = {}) {
  return {kind, ballot, left, std::move(text)};
}

Reply Items(std::vector<Reply> items) {
  return Reply::Items(Reply::Kind::kArray, std::move(items));
}
Reply Text(std::string text) { return Reply::Text(Reply::Kind::kString, std::move(text)); }

// A round of five whose first question is on its way everywhere.
QuorumRound Asked(std::size_t servers = 5) {
  QuorumRound round(servers, kTtl, kBallot);
  for (std::size_t i = 0; i < servers; ++i) {
    EXPECT_EQ(round.Wants(i), Step::kAcquire);
    round.Sent(i);
    EXPECT_EQ(round.Wants(i), Step::kNothing);
  }
  return round;
}

std::string Lost(const QuorumRound& round) {
  const std::vector<std::string> names = {"a", "b", "c", "d", "e"};
  return std::string(round.LostStatus("deploy", names).ToString());
}

TEST(QuorumVoteTest, AMajorityIsMoreThanHalf) {
  EXPECT_EQ(MajorityOf(3), 2u);
  EXPECT_EQ(MajorityOf(4), 3u);
  EXPECT_EQ(MajorityOf(5), 3u);
}

TEST(QuorumVoteTest, ABallotIsAboveTheClockAndAllThatWasSeen) {
  EXPECT_EQ(ProposeBallot(kCalendar, 0), kBallot);
  EXPECT_EQ(ProposeBallot(kCalendar, kBallot - 1), kBallot);
  EXPECT_EQ(ProposeBallot(kCalendar, kBallot), kBallot + 1);
  EXPECT_EQ(ProposeBallot(absl::InfinitePast(), 7), 8u);
  EXPECT_EQ(ProposeBallot(kCalendar, kMaxBallot), 0u);
  EXPECT_EQ(BallotText(42), "0000000000000042");
}

TEST(QuorumVoteTest, ValidityIsTheMajoritysNotTheLongest) {
  const auto at = [](int s) { return kStart + absl::Seconds(s); };
  const Vote votes[] = {{7, at(9)}, {7, at(5)}, {7, at(1)}, {7, at(7)}, {}};
  EXPECT_EQ(MajorityValidUntil(votes, 7), at(5));
  EXPECT_EQ(CountVotes(votes, 7), 4u);
}

TEST(QuorumVoteTest, VotesForDifferentBallotsDoNotCountTogether) {
  const Vote votes[] = {{7, kStart}, {8, kStart}, {7, kStart}, {8, kStart}, {9, kStart}};
  for (const Ballot ballot : {7u, 8u, 9u}) {
    EXPECT_EQ(MajorityValidUntil(votes, ballot), absl::InfinitePast());
  }
  const Vote none[] = {{}, {}, {}};
  EXPECT_EQ(MajorityValidUntil(none, 0), absl::InfinitePast());
}

TEST(QuorumVoteTest, AnswersAreReadAsScriptsGiveThem) {
  const auto granted =
      ReadAcquireAnswer(Items({Reply::Integer(1), Text("2000000000000000"), Text("10000")}));
  ASSERT_TRUE(granted.ok());
  EXPECT_EQ(granted->kind, Kind::kGranted);
  EXPECT_EQ(granted->ballot, kBallot);
  EXPECT_EQ(granted->left, kTtl);
  const auto held = ReadAcquireAnswer(
      Items({Reply::Integer(0), Text("0000000000000005"), Reply::Integer(-1), Text("me")}));
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(held->kind, Kind::kHeld);
  EXPECT_EQ(held->text, "me");
  const auto quarantined = ReadAcquireAnswer(Items({Reply::Integer(-3), Text("1500000")}));
  ASSERT_TRUE(quarantined.ok());
  EXPECT_EQ(quarantined->left, absl::Milliseconds(1500));
  EXPECT_EQ(ReadAcquireAnswer(Items({Reply::Integer(-4)}))->kind, Kind::kNoMarker);
  EXPECT_EQ(ReadRenewAnswer(Items({Reply::Integer(0)}))->kind, Kind::kLost);
}

TEST(QuorumVoteTest, NonsenseIsDataLoss) {
  for (const Reply& reply : {Reply(), Items({}), Reply::Integer(1), Items({Reply::Integer(1)}),
                             Items({Reply::Integer(1), Text("x"), Text("1")}),
                             Items({Reply::Integer(1), Text("9007199254740992"), Text("1")}),
                             Items({Reply::Integer(9)})}) {
    EXPECT_EQ(ReadAcquireAnswer(reply).status().code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(ReadRenewAnswer(Reply()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReadBirthAnswer(Reply(), "1 1").status().code(), absl::StatusCode::kDataLoss);
}

TEST(QuorumVoteTest, ABirthSaysHowLongTheQuarantineLasts) {
  const auto born = ReadBirthAnswer(
      Items({Reply::Integer(1), Text("abc"), Text("0000000000001500"), Text("0000000000000500")}),
      "");
  ASSERT_TRUE(born.ok());
  EXPECT_EQ(born->run_id, "abc");
  EXPECT_EQ(born->quarantine, absl::Milliseconds(1));
}

TEST(QuorumRoundTest, IsWonByTheFirstMajority) {
  QuorumRound round = Asked();
  round.Answered(4, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  round.Answered(0, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kOpen);
  round.Answered(2, kBallot, kStart, Says(Kind::kGranted, kBallot, absl::Seconds(4)), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kWon);
  EXPECT_EQ(round.valid_until(), ValidUntil(kStart, kTtl, absl::Seconds(4)));
  EXPECT_TRUE(round.Pending(1));
  EXPECT_TRUE(round.MayHold(1));
}

TEST(QuorumRoundTest, IsLostOnceNoMajorityIsPossible) {
  QuorumRound round = Asked();
  round.Answered(0, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  for (std::size_t i = 1; i < 3; ++i) {
    round.Answered(i, kBallot, kStart, Says(Kind::kHeld, 5, absl::Seconds(3), "01@you"), kCalendar);
  }
  EXPECT_EQ(round.verdict(), Verdict::kOpen);
  round.Answered(3, kBallot, kStart, Says(Kind::kHeld, 5, absl::Seconds(2), "01@you"), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kLost);
  EXPECT_TRUE(round.MayHold(0));
  EXPECT_FALSE(round.MayHold(1));
  EXPECT_TRUE(round.MayHold(4));  // not answered
  EXPECT_EQ(round.holder_left(), absl::Seconds(3));
  const absl::Status status =
      round.LostStatus("deploy", std::vector<std::string>{"a", "b", "c", "d", "e"});
  EXPECT_TRUE(IsBusy(status));
  EXPECT_THAT(Lost(round), HasSubstr("held by \"you\" on 3 of 5"));
}

TEST(QuorumRoundTest, ServersThatFailAreCountedOut) {
  QuorumRound round = Asked(3);
  round.Failed(0, absl::UnavailableError("refused"), false, kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kOpen);
  round.Failed(1, absl::UnavailableError("no answer"), true, kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kLost);
  EXPECT_FALSE(round.MayHold(0));
  EXPECT_TRUE(round.MayHold(1));
  EXPECT_FALSE(round.lasting());
  EXPECT_THAT(Lost(round), HasSubstr("a: refused; b: no answer"));
}

TEST(QuorumRoundTest, RaisesTheBallotNoFurtherThanAMajorityNeeds) {
  QuorumRound round = Asked();
  const Ballot seen = kBallot + 50;
  round.Answered(0, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  round.Answered(1, kBallot, kStart, Says(Kind::kLow, seen + 1000), kCalendar);
  round.Answered(2, kBallot, kStart, Says(Kind::kLow, seen - 10), kCalendar);
  EXPECT_EQ(round.ballot(), kBallot);  // three could still grant it
  round.Answered(3, kBallot, kStart, Says(Kind::kLow, seen), kCalendar);
  EXPECT_EQ(round.ballot(), seen + 1);
  EXPECT_EQ(round.verdict(), Verdict::kOpen);
  // All are asked anew, also the one that granted the lower one.
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(round.Wants(i), Step::kAcquire) << i;
    round.Sent(i);
  }
  round.Answered(4, kBallot, kStart, Says(Kind::kGranted), kCalendar);  // late, for the old one
  round.Answered(0, seen + 1, kStart, Says(Kind::kGranted, seen + 1), kCalendar);
  round.Answered(2, seen + 1, kStart, Says(Kind::kGranted, seen + 1), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kOpen);
  round.Answered(4, seen + 1, kStart, Says(Kind::kGranted, seen + 1), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kWon);
  EXPECT_EQ(round.Remembered(0), seen + 1);
}

TEST(QuorumRoundTest, RemembersNothingThatOnlyAMinorityHasSeen) {
  QuorumRound round = Asked();
  for (std::size_t i = 0; i < 2; ++i) {
    round.Answered(i, kBallot, kStart, Says(Kind::kLow, kBallot + 9'000'000), kCalendar);
  }
  EXPECT_EQ(round.Remembered(7), 7u);  // of too few to say
  for (std::size_t i = 2; i < 5; ++i) {
    round.Answered(i, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  }
  EXPECT_EQ(round.Remembered(7), kBallot);
}

// Somebody's clock was ahead, and this one had gone along with it.
TEST(QuorumRoundTest, ABallotOfAnothersClockIsForgottenWhenItIsTooFarAhead) {
  const Ballot poisoned = kBallot + 20'000'000;
  QuorumRound round(5, kTtl, poisoned);
  for (std::size_t i = 0; i < 5; ++i) round.Sent(i);
  for (std::size_t i = 0; i < 3; ++i) {
    round.Answered(i, poisoned, kStart, Says(Kind::kAhead, kBallot), kCalendar);
  }
  EXPECT_EQ(round.verdict(), Verdict::kLost);
  EXPECT_FALSE(round.lasting());
  EXPECT_THAT(Lost(round), HasSubstr("some client's clock is 20s ahead"));
  EXPECT_EQ(round.Remembered(poisoned), 0u);
}

TEST(QuorumRoundTest, DoesNotRaiseForAMinority) {
  QuorumRound round = Asked();
  round.Answered(0, kBallot, kStart, Says(Kind::kLow, kBallot + 9), kCalendar);
  round.Answered(1, kBallot, kStart, Says(Kind::kLow, kBallot + 9), kCalendar);
  for (std::size_t i = 2; i < 5; ++i) {
    round.Answered(i, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  }
  EXPECT_EQ(round.verdict(), Verdict::kWon);
  EXPECT_EQ(round.ballot(), kBallot);
  EXPECT_FALSE(round.MayHold(0));
}

TEST(QuorumRoundTest, GivesUpRaisingAfterAWhile) {
  QuorumRound round = Asked(3);
  for (int raise = 0; round.verdict() == Verdict::kOpen; ++raise) {
    ASSERT_LE(raise, QuorumRound::kMostRaises);
    const Ballot asked = round.ballot();
    for (std::size_t i = 0; i < 3; ++i) {
      if (round.Wants(i) == Step::kAcquire) round.Sent(i);
    }
    for (std::size_t i = 0; i < 3; ++i) {
      round.Answered(i, asked, kStart, Says(Kind::kLow, asked + 5), kCalendar);
    }
  }
  EXPECT_THAT(Lost(round), HasSubstr("votes were split"));
}

TEST(QuorumRoundTest, ACheckedMarkerIsWrittenAnewAndTheServerAskedAgain) {
  QuorumRound round = Asked(3);
  round.Answered(0, kBallot, kStart, Says(Kind::kNoMarker), kCalendar);
  EXPECT_EQ(round.Wants(0), Step::kBirth);
  round.Sent(0);
  EXPECT_EQ(round.Wants(0), Step::kNothing);
  round.Born(0, {"id", absl::ZeroDuration()});
  EXPECT_EQ(round.Wants(0), Step::kAcquire);
}

TEST(QuorumRoundTest, QuarantineIsNamedWithItsLength) {
  QuorumRound round = Asked(3);
  round.Answered(0, kBallot, kStart, Says(Kind::kNoMarker), kCalendar);
  round.Sent(0);
  round.Born(0, {"id", absl::Seconds(45)});
  round.Answered(1, kBallot, kStart, Says(Kind::kQuarantined, 0, absl::Seconds(7)), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kLost);
  EXPECT_THAT(Lost(round), HasSubstr("does not vote for another 45s"));
  EXPECT_THAT(Lost(round), HasSubstr("does not vote for another 7s"));
  EXPECT_FALSE(round.lasting());
}

TEST(QuorumRoundTest, AClockThatIsAheadIsALastingFault) {
  QuorumRound round = Asked(3);
  for (std::size_t i = 0; i < 2; ++i) {
    round.Answered(i, kBallot, kStart, Says(Kind::kAhead, kBallot - 60'000'000), kCalendar);
  }
  EXPECT_EQ(round.verdict(), Verdict::kLost);
  EXPECT_TRUE(round.lasting());
  EXPECT_THAT(Lost(round), HasSubstr("our clock is 1m ahead"));
  EXPECT_FALSE(round.MayHold(0));
}

TEST(QuorumRoundTest, ALostQuestionIsAskedAgain) {
  QuorumRound round = Asked(3);
  round.AskAgain(1, true);
  EXPECT_EQ(round.Wants(1), Step::kAcquire);
  EXPECT_TRUE(round.MayHold(1));
  round.Sent(1);
  round.Answered(1, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  round.Answered(0, kBallot, kStart, Says(Kind::kGranted), kCalendar);
  EXPECT_EQ(round.verdict(), Verdict::kWon);
}

}  // namespace
}  // namespace coord::internal
