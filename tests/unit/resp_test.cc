#include "coord/wire/resp.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coord/internal/strings.h"
#include "coord/reply.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using namespace std::literals;

using Kind = Reply::Kind;
using Outcome = RespParser::Outcome;

void Feed(RespParser& parser, std::string_view bytes) {
  const std::span<char> room = parser.Prepare(bytes.size());
  ASSERT_GE(room.size(), bytes.size());
  std::memcpy(room.data(), bytes.data(), bytes.size());
  parser.Commit(bytes.size());
}

struct Result {
  std::vector<Reply> replies;
  std::string error;  // empty when the parser wants more
};

void Drain(RespParser& parser, Result& result) {
  Reply reply;
  Outcome outcome;
  while ((outcome = parser.Next(reply)) == Outcome::kReply) result.replies.push_back(reply);
  if (outcome == Outcome::kError) result.error = std::string(FromAbsl(parser.error().message()));
}

Result Parse(std::string_view bytes, RespLimits limits = {}, std::size_t piece = SIZE_MAX) {
  RespParser parser(limits);
  Result result;
  while (!bytes.empty() && result.error.empty()) {
    Feed(parser, bytes.substr(0, piece));
    Drain(parser, result);
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  return result;
}

Reply ParseOne(std::string_view bytes) {
  Result result = Parse(bytes);
  EXPECT_EQ(result.error, "") << Quoted(bytes);
  EXPECT_EQ(result.replies.size(), 1u) << Quoted(bytes);
  return result.replies.empty() ? Reply() : std::move(result.replies[0]);
}

Reply String(std::string_view text) { return Reply::Text(Kind::kString, std::string(text)); }
Reply Array(std::vector<Reply> items) { return Reply::Items(Kind::kArray, std::move(items)); }

// One stream with every kind, nesting, attributes and pushes in it.
const std::string_view kStream =
    "+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n"
    "*2\r\n:1790000000000000\r\n:10000\r\n*2\r\n*2\r\n$1\r\nx\r\n*0\r\n*1\r\n*1\r\n+deep\r\n"
    "_\r\n#t\r\n,1.5\r\n(123456789012345678901234567890\r\n!3\r\nbad\r\n=7\r\ntxt:abc\r\n"
    "%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n>2\r\n+message\r\n$2\r\nhi\r\n"
    "|1\r\n+ttl\r\n*1\r\n:5\r\n*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n";

// What kStream holds.
const std::size_t kStreamReplies = 19;

TEST(RespParserTest, EveryKindOfTheSecondProtocolIsRead) {
  EXPECT_EQ(ParseOne("+OK\r\n"), Reply::Text(Kind::kStatus, "OK"));
  EXPECT_EQ(ParseOne("+\r\n"), Reply::Text(Kind::kStatus, ""));
  EXPECT_EQ(ParseOne("-ERR no\r\n"), Reply::Text(Kind::kError, "ERR no"));
  EXPECT_EQ(ParseOne(":1\r\n"), Reply::Integer(1));
  EXPECT_EQ(ParseOne(":+7\r\n"), Reply::Integer(7));
  EXPECT_EQ(ParseOne(":-9223372036854775808\r\n"), Reply::Integer(INT64_MIN));
  EXPECT_EQ(ParseOne(":9223372036854775807\r\n"), Reply::Integer(INT64_MAX));
  EXPECT_EQ(ParseOne("$0\r\n\r\n"), String(""));
  EXPECT_EQ(ParseOne("$-1\r\n"), Reply());
  EXPECT_EQ(ParseOne("*-1\r\n"), Reply());
  EXPECT_EQ(ParseOne("*0\r\n"), Array({}));
  EXPECT_EQ(ParseOne("*2\r\n:1790000000000000\r\n:10000\r\n"),
            Array({Reply::Integer(1790000000000000), Reply::Integer(10000)}));
  EXPECT_EQ(ParseOne("*2\r\n*1\r\n$-1\r\n-ERR\r\n"),
            Array({Array({Reply()}), Reply::Text(Kind::kError, "ERR")}));
}

TEST(RespParserTest, EveryKindOfTheThirdProtocolIsRead) {
  EXPECT_EQ(ParseOne("_\r\n"), Reply());
  EXPECT_EQ(ParseOne("#t\r\n"), Reply::Boolean(true));
  EXPECT_EQ(ParseOne("#f\r\n"), Reply::Boolean(false));
  EXPECT_EQ(ParseOne("(-3492890328409238509324850943850943825024385\r\n"),
            Reply::Text(Kind::kBigNumber, "-3492890328409238509324850943850943825024385"));
  EXPECT_EQ(ParseOne("!22\r\nSYNTAX invalid\r\nsyntax\r\n").kind(), Kind::kError);
  EXPECT_EQ(ParseOne("=8\r\ntxt:a\r\nb\r\n"), Reply::Text(Kind::kVerbatim, "a\r\nb"));
  EXPECT_EQ(ParseOne("=4\r\nmkd:\r\n"), Reply::Text(Kind::kVerbatim, ""));
  EXPECT_EQ(ParseOne("%1\r\n+a\r\n:1\r\n"),
            Reply::Items(Kind::kMap, {Reply::Text(Kind::kStatus, "a"), Reply::Integer(1)}));
  EXPECT_EQ(ParseOne("%0\r\n"), Reply::Items(Kind::kMap, {}));
  EXPECT_EQ(ParseOne("~1\r\n:1\r\n"), Reply::Items(Kind::kSet, {Reply::Integer(1)}));
}

TEST(RespParserTest, DoublesAreReadWithTheirSpecialValues) {
  EXPECT_EQ(ParseOne(",1.5\r\n"), Reply::Double(1.5));
  EXPECT_EQ(ParseOne(",-10\r\n"), Reply::Double(-10));
  EXPECT_EQ(ParseOne(",+1e-3\r\n"), Reply::Double(1e-3));
  EXPECT_EQ(ParseOne(",5e-324\r\n"), Reply::Double(5e-324));
  EXPECT_EQ(ParseOne(",inf\r\n"), Reply::Double(std::numeric_limits<double>::infinity()));
  EXPECT_EQ(ParseOne(",-inf\r\n"), Reply::Double(-std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(std::isnan(ParseOne(",nan\r\n").number()));
  EXPECT_TRUE(std::isnan(ParseOne(",-nan\r\n").number()));
}

TEST(RespParserTest, AStringMayHoldAnyBytes) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte) every.push_back(static_cast<char>(byte));
  EXPECT_EQ(ParseOne("$256\r\n" + every + "\r\n"), String(every));
}

TEST(RespParserTest, AnySplitGivesTheSameReplies) {
  const Result whole = Parse(kStream);
  ASSERT_EQ(whole.error, "");
  ASSERT_EQ(whole.replies.size(), kStreamReplies);
  for (std::size_t piece = 1; piece < kStream.size(); ++piece) {
    EXPECT_EQ(Parse(kStream, {}, piece).replies, whole.replies) << piece;
  }
}

TEST(RespParserTest, EverySinglePrefixWantsMore) {
  const std::string_view reply = "*3\r\n$3\r\nabc\r\n:1\r\n%1\r\n+a\r\n=5\r\ntxt:b\r\n";
  for (std::size_t size = 0; size < reply.size(); ++size) {
    const Result result = Parse(reply.substr(0, size));
    EXPECT_EQ(result.error, "") << size;
    EXPECT_TRUE(result.replies.empty()) << size;
  }
  EXPECT_EQ(Parse(reply).replies.size(), 1u);
}

TEST(RespParserTest, AReplyIsUntouchedUntilAWholeOneIsThere) {
  RespParser parser;
  Reply reply = Reply::Integer(7);
  Feed(parser, "*2\r\n:1\r\n");
  EXPECT_EQ(parser.Next(reply), Outcome::kNeedMore);
  EXPECT_EQ(reply, Reply::Integer(7));
  Feed(parser, ":2\r\n");
  EXPECT_EQ(parser.Next(reply), Outcome::kReply);
  EXPECT_EQ(reply, Array({Reply::Integer(1), Reply::Integer(2)}));
}

TEST(RespParserTest, AttributesAreSkippedWhereverTheyStand) {
  EXPECT_EQ(ParseOne("|1\r\n+ttl\r\n:5\r\n:1\r\n"), Reply::Integer(1));
  EXPECT_EQ(ParseOne("|0\r\n|1\r\n+a\r\n|1\r\n+b\r\n+c\r\n+d\r\n+OK\r\n"),
            Reply::Text(Kind::kStatus, "OK"));
  EXPECT_EQ(ParseOne("*2\r\n|1\r\n+a\r\n*1\r\n:9\r\n:1\r\n|0\r\n:2\r\n"),
            Array({Reply::Integer(1), Reply::Integer(2)}));
}

TEST(RespParserTest, AnAttributeAloneIsNoReply) {
  EXPECT_TRUE(Parse("|1\r\n+ttl\r\n:5\r\n").replies.empty());
}

TEST(RespParserTest, APushStandsBetweenReplies) {
  const Result result = Parse(":1\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n:2\r\n");
  ASSERT_EQ(result.replies.size(), 3u);
  EXPECT_EQ(result.replies[1].kind(), Kind::kPush);
  EXPECT_EQ(result.replies[1].items()[1], Array({String("k")}));
  EXPECT_EQ(result.replies[2], Reply::Integer(2));
}

struct Refused {
  std::string_view bytes;
  std::string_view message;  // after "protocol error at byte "
};

const Refused kRefused[] = {
    {"HTTP/1.1", "0 of the stream: no type of reply begins with: \"H\""},
    {"\r\n", "0 of the stream: no type of reply begins with: \"\\r\""},
    {"+OK\r\n?", "5 of the stream: no type of reply begins with: \"?\""},
    {"+OK\n", "0 of the stream: a line feed without CR: \"+OK\\n\""},
    {"+O\rK\r\n", "0 of the stream: a CR without line feed: \"+O\\rK\""},
    {":1 \r\n", "0 of the stream: not a 64-bit integer: \":1 \""},
    {":\r\n", "0 of the stream: not a 64-bit integer: \":\""},
    {":+-1\r\n", "0 of the stream: not a 64-bit integer: \":+-1\""},
    {":1.5\r\n", "0 of the stream: not a 64-bit integer: \":1.5\""},
    {":9223372036854775808\r\n", "0 of the stream: not a 64-bit integer: \":9223372036854775808\""},
    {"$\r\n", "0 of the stream: not a length: \"$\""},
    {"$+3\r\nabc\r\n", "0 of the stream: not a length: \"$+3\""},
    {"$03\r\nabc\r\n", "0 of the stream: not a length: \"$03\""},
    {"$-0\r\n\r\n", "0 of the stream: not a length: \"$-0\""},
    {"$-2\r\n", "0 of the stream: not a length: \"$-2\""},
    {"$0x3\r\nabc\r\n", "0 of the stream: not a length: \"$0x3\""},
    {"$99999999999999999999\r\n", "0 of the stream: not a length: \"$99999999999999999999\""},
    {"!-1\r\n", "0 of the stream: not a length: \"!-1\""},
    {"=-1\r\n", "0 of the stream: not a length: \"=-1\""},
    {"$3\r\nabcd\r\n",
     "7 of the stream: a string of 3 bytes does not end in CRLF but in: \"d\\r\""},
    {"*-2\r\n", "0 of the stream: not a number of elements: \"*-2\""},
    {"*2\r\n:1\r\n*x\r\n", "8 of the stream: not a number of elements: \"*x\""},
    {"%-1\r\n", "0 of the stream: not a number of elements: \"%-1\""},
    {"~-1\r\n", "0 of the stream: not a number of elements: \"~-1\""},
    {">-1\r\n", "0 of the stream: not a number of elements: \">-1\""},
    {"|-1\r\n", "0 of the stream: not a number of elements: \"|-1\""},
    {">0\r\n", "0 of the stream: an empty push: \">0\""},
    {"*1\r\n>1\r\n", "4 of the stream: a push inside a reply: \">1\""},
    {"*?\r\n", "0 of the stream: a streamed aggregate, which is not supported: \"*?\""},
    {"%?\r\n", "0 of the stream: a streamed aggregate, which is not supported: \"%?\""},
    {"$?\r\n", "0 of the stream: a streamed string, which is not supported: \"$?\""},
    {"_x\r\n", "0 of the stream: not a null: \"_x\""},
    {"#T\r\n", "0 of the stream: not a boolean: \"#T\""},
    {"#\r\n", "0 of the stream: not a boolean: \"#\""},
    {",\r\n", "0 of the stream: not a double: \",\""},
    {",.5\r\n", "0 of the stream: not a double: \",.5\""},
    {",INF\r\n", "0 of the stream: not a double: \",INF\""},
    {",nan(1)\r\n", "0 of the stream: not a double: \",nan(1)\""},
    {",infinity\r\n", "0 of the stream: not a double: \",infinity\""},
    {",0x1p3\r\n", "0 of the stream: not a double: \",0x1p3\""},
    {",1e999\r\n", "0 of the stream: not a double: \",1e999\""},
    {",1.5 \r\n", "0 of the stream: not a double: \",1.5 \""},
    {"(\r\n", "0 of the stream: not a big number: \"(\""},
    {"(-\r\n", "0 of the stream: not a big number: \"(-\""},
    {"(12a\r\n", "0 of the stream: not a big number: \"(12a\""},
    {"=3\r\ntxt\r\n", "0 of the stream: a verbatim string without its format: \"=3\""},
    {"=5\r\ntxt.a\r\n", "4 of the stream: a verbatim string without its format: \"txt.\""},
};

TEST(RespParserTest, WhatTheProtocolDoesNotAllowIsRefusedSayingWhereAndWhat) {
  for (const Refused& refused : kRefused) {
    const Result result = Parse(refused.bytes);
    EXPECT_EQ(result.error, StrCat("protocol error at byte ", refused.message));
  }
}

TEST(RespParserTest, AnySplitGivesTheSameError) {
  for (const Refused& refused : kRefused) {
    const std::string bytes = std::string(kStream) + std::string(refused.bytes) + "+rest\r\n";
    const Result whole = Parse(bytes);
    EXPECT_NE(whole.error, "") << Quoted(refused.bytes);
    EXPECT_EQ(whole.replies.size(),
              kStreamReplies + (refused.bytes.starts_with("+OK\r\n") ? 1 : 0));
    for (const std::size_t piece : {1u, 2u, 3u, 5u, 8u, 64u}) {
      const Result split = Parse(bytes, {}, piece);
      EXPECT_EQ(split.error, whole.error) << piece;
      EXPECT_EQ(split.replies, whole.replies) << piece;
    }
  }
}

TEST(RespParserTest, AfterAnErrorEveryCallFails) {
  RespParser parser;
  Feed(parser, "x");
  Reply reply;
  EXPECT_EQ(parser.Next(reply), Outcome::kError);
  EXPECT_EQ(parser.error().code(), absl::StatusCode::kDataLoss);
  Feed(parser, "+OK\r\n");
  EXPECT_EQ(parser.Next(reply), Outcome::kError);
  EXPECT_EQ(parser.error().code(), absl::StatusCode::kDataLoss);
}

TEST(RespParserTest, TheOffsetCountsFromTheStartOfTheStream) {
  RespParser parser;
  Result result;
  for (int i = 0; i < 100'000; ++i) {
    Feed(parser, ":12345\r\n");
    Drain(parser, result);
  }
  Feed(parser, "x");
  Drain(parser, result);
  EXPECT_TRUE(result.error.starts_with("protocol error at byte 800000 of")) << result.error;
}

// Limits. Each is tried at the last input that it allows and at the first that it refuses.

void ExpectAllowed(std::string_view bytes, const RespLimits& limits) {
  for (const std::size_t piece : {SIZE_MAX, std::size_t{1}}) {
    const Result result = Parse(bytes, limits, piece);
    EXPECT_EQ(result.error, "") << Quoted(bytes);
    EXPECT_EQ(result.replies.size(), 1u) << Quoted(bytes);
  }
}

void ExpectRefused(std::string_view bytes, const RespLimits& limits, std::string_view why) {
  for (const std::size_t piece : {SIZE_MAX, std::size_t{1}}) {
    const Result result = Parse(bytes, limits, piece);
    EXPECT_NE(result.error.find(why), std::string::npos) << Quoted(bytes) << result.error;
    EXPECT_TRUE(result.replies.empty()) << Quoted(bytes);
  }
}

TEST(RespParserTest, DepthIsLimited) {
  const RespLimits limits{.max_depth = 3};
  ExpectAllowed("*1\r\n%1\r\n+k\r\n*1\r\n:1\r\n", limits);
  ExpectAllowed("*1\r\n*1\r\n*0\r\n", limits);
  ExpectRefused("*1\r\n%1\r\n+k\r\n*1\r\n*1\r\n", limits, "nested deeper than 3");
  ExpectRefused("*1\r\n*1\r\n*1\r\n*0\r\n", limits, "nested deeper than 3");
  ExpectRefused("|1\r\n|1\r\n|1\r\n|1\r\n", limits, "nested deeper than 3");
}

TEST(RespParserTest, ElementsAreLimitedOverAllDepths) {
  const RespLimits limits{.max_elements = 4};
  ExpectAllowed("*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n", limits);
  ExpectAllowed("*2\r\n%1\r\n:1\r\n:1\r\n:1\r\n", limits);
  ExpectRefused("*5\r\n", limits, "more than 4 elements");
  ExpectRefused("%3\r\n", limits, "more than 4 elements");
  ExpectRefused("*2\r\n*1\r\n:1\r\n*2\r\n", limits, "more than 4 elements");
  ExpectRefused("|2\r\n:1\r\n:1\r\n:1\r\n:1\r\n*1\r\n", limits, "more than 4 elements");
  ExpectRefused("%9223372036854775808\r\n", limits, "more than 4 elements");
}

TEST(RespParserTest, StringsAreLimited) {
  const RespLimits limits{.max_bulk = 5};
  ExpectAllowed("$5\r\nabcde\r\n", limits);
  ExpectRefused("$6\r\n", limits, "a string longer than 5 bytes");
  ExpectRefused("!6\r\n", limits, "a string longer than 5 bytes");
  ExpectRefused("=6\r\n", limits, "a string longer than 5 bytes");
}

TEST(RespParserTest, LinesAreLimited) {
  const RespLimits limits{.max_line = 8};
  ExpectAllowed("+abcde\r\n", limits);
  ExpectRefused("+abcdef\r\n", limits, "a line longer than 8 bytes: \"+abcdef\\r\"");
  ExpectRefused("+abcdefg", limits, "a line longer than 8 bytes");  // with no end in sight
}

TEST(RespParserTest, AWholeReplyIsLimited) {
  const RespLimits limits{.max_total = 20};
  ExpectAllowed("*2\r\n$4\r\nabcd\r\n+abc\r\n", limits);
  ExpectAllowed("$13\r\n0123456789abc\r\n", limits);
  ExpectRefused("*2\r\n$4\r\nabcd\r\n+abcd\r\n", limits, "a reply longer than 20 bytes");
  ExpectRefused("$14\r\n", limits, "a reply longer than 20 bytes");
  ExpectRefused("|0\r\n|0\r\n|0\r\n|0\r\n|0\r\n|0\r\n", limits, "a reply longer than 20 bytes");
}

TEST(RespParserTest, LimitsCountEachReplyAnew) {
  const RespLimits limits{.max_elements = 1, .max_total = 8};
  EXPECT_EQ(Parse("*1\r\n:1\r\n*1\r\n:1\r\n*1\r\n:1\r\n", limits).replies.size(), 3u);
}

TEST(RespParserTest, TheDeepestReplyAllowedByDefaultIsRead) {
  std::string bytes;
  for (int i = 0; i < 128; ++i) bytes += "*1\r\n";
  ExpectAllowed(bytes + ":1\r\n", {});
  ExpectRefused(bytes + "*1\r\n:1\r\n", {}, "nested deeper than 128");
}

// Memory and time.

TEST(RespParserTest, ADeclaredLengthAllocatesNothing) {
  // No machine has what is declared here: to allocate it, or a hundredth of it, is to throw.
  const RespLimits limits{.max_elements = std::size_t{1} << 60,
                          .max_bulk = std::size_t{1} << 60,
                          .max_total = std::size_t{1} << 61};
  const std::string_view streams[] = {
      "$1000000000000000000\r\nsome", "*1000000000000000000\r\n:1\r\n:2\r\n",
      "%500000000000000000\r\n:1\r\n", "|500000000000000000\r\n:1\r\n",
      "=1000000000000000000\r\ntxt:"};
  for (const std::string_view bytes : streams) {
    RespParser parser(limits);
    Feed(parser, bytes);
    Reply reply;
    EXPECT_EQ(parser.Next(reply), Outcome::kNeedMore);
    EXPECT_LE(parser.Prepare(1).size(), 64u << 10);
  }
}

TEST(RespParserTest, TheBufferStaysSmallWhileAHugeStringArrives) {
  const std::string text(8u << 20, 'x');
  const std::string bytes = StrCat("$", text.size(), "\r\n", text, "\r\n");
  RespParser parser;
  Reply reply;
  std::size_t at = 0;
  Outcome outcome = Outcome::kNeedMore;
  while (at < bytes.size()) {
    const std::span<char> room = parser.Prepare(1);
    ASSERT_LE(room.size(), 1u << 20);
    const std::size_t size = std::min(room.size(), bytes.size() - at);
    std::memcpy(room.data(), bytes.data() + at, size);
    parser.Commit(size);
    at += size;
    outcome = parser.Next(reply);
  }
  ASSERT_EQ(outcome, Outcome::kReply);
  EXPECT_TRUE(reply.text() == text);
  EXPECT_LE(reply.text().capacity(), text.size() + 1);
}

TEST(RespParserTest, TheBufferShrinksAfterAHugeReply) {
  RespParser parser;
  Result result;
  const std::string text(4u << 20, 'x');
  Feed(parser, StrCat("$", text.size(), "\r\n", text, "\r\n"));  // all at once
  Drain(parser, result);
  ASSERT_EQ(result.replies.size(), 1u);
  EXPECT_LE(parser.Prepare(1).size(), 64u << 10);
}

TEST(RespParserTest, TheBufferShrinksEvenWhenHalfAReplyIsLeftInIt) {
  RespParser parser;
  Result result;
  const std::string text(1u << 20, 'x');
  Feed(parser, StrCat("$", text.size(), "\r\n", text, "\r\n:1"));
  Drain(parser, result);
  for (int i = 0; i < 1000; ++i) {
    parser.Prepare(1);
    Feed(parser, StrCat("23\r\n$1000\r\n", std::string(1000, 'y'), "\r\n:1"));
    Drain(parser, result);
  }
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.replies.size(), 2001u);
  EXPECT_LE(parser.Prepare(1).size(), 64u << 10);
}

TEST(RespParserTest, PrepareGivesAtLeastWhatIsAskedAndNormallySixteenKilobytes) {
  RespParser parser;
  EXPECT_GE(parser.Prepare(0).size(), 16u << 10);
  EXPECT_GE(parser.Prepare(1u << 20).size(), 1u << 20);
  Result result;
  for (int i = 0; i < 5000; ++i) {
    EXPECT_GE(parser.Prepare(1).size(), 16u << 10);
    Feed(parser, ":1\r\n$3\r\nab");
    Drain(parser, result);
    EXPECT_GE(parser.Prepare(1).size(), 16u << 10);
    Feed(parser, "c\r\n");
    Drain(parser, result);
  }
  EXPECT_EQ(result.replies.size(), 10'000u);
}

TEST(RespParserTest, MuchMayBeCommittedBeforeAnythingIsTaken) {
  RespParser parser;
  for (int i = 0; i < 100'000; ++i) Feed(parser, "$3\r\nabc\r\n");
  Result result;
  Drain(parser, result);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.replies.size(), 100'000u);
}

// Were a half-received reply read again from its start, these two would take hours.
TEST(RespParserTest, AHugeArrayArrivingByteByByteIsReadOnce) {
  std::string bytes = "*200000\r\n";
  for (int i = 0; i < 200'000; ++i) bytes += ":12345\r\n";
  const Result result = Parse(bytes, {}, 1);
  ASSERT_EQ(result.replies.size(), 1u);
  EXPECT_EQ(result.replies[0].items().size(), 200'000u);
}

TEST(RespParserTest, AHugeStringArrivingByteByByteIsReadOnce) {
  const std::string text(2u << 20, 'x');
  const Result result = Parse(StrCat("$", text.size(), "\r\n", text, "\r\n"), {}, 1);
  ASSERT_EQ(result.replies.size(), 1u);
  EXPECT_TRUE(result.replies[0].text() == text);
}

TEST(RespParserTest, LongStringsOfEveryKindSurviveBeingSplit) {
  const std::string text = "txt:" + std::string(50'000, 'z');
  for (const char type : {'$', '!', '='}) {
    const std::string bytes = StrCat(std::string(1, type), text.size(), "\r\n", text, "\r\n");
    const Result whole = Parse(bytes);
    ASSERT_EQ(whole.replies.size(), 1u);
    for (const std::size_t piece : {1u, 7u, 16'384u, 50'011u, 50'013u}) {
      EXPECT_TRUE(Parse(bytes, {}, piece).replies == whole.replies) << type << piece;
    }
    std::string wrong = bytes;
    wrong[wrong.size() - 1] = 'x';
    EXPECT_NE(Parse(wrong).error, "");
    EXPECT_EQ(Parse(wrong, {}, 1).error, Parse(wrong).error);
  }
}

TEST(RespWriterTest, ACommandIsAnArrayOfStrings) {
  std::string out = "before";
  const std::string_view args[] = {"SET", "key", "\0\r\n"sv, ""};
  AppendCommand(out, args);
  EXPECT_EQ(out, "before*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\n\0\r\n\r\n$0\r\n\r\n"sv);
}

TEST(RespWriterTest, TheParserReadsWhatTheWriterWrote) {
  std::string out;
  const std::string big(100'000, 'q');
  AppendArrayHeader(out, 2);
  AppendBulk(out, big);
  AppendBulk(out, "");
  EXPECT_TRUE(ParseOne(out) == Array({String(big), String("")}));
}

TEST(ReplyTest, ToDebugStringShowsEveryKindOnOneLine) {
  EXPECT_EQ(ParseOne("_\r\n").ToDebugString(), "(nil)");
  EXPECT_EQ(ParseOne("+OK\r\n").ToDebugString(), "OK");
  EXPECT_EQ(ParseOne("-ERR no\r\n").ToDebugString(), "(error) ERR no");
  EXPECT_EQ(ParseOne(":-3\r\n").ToDebugString(), "(integer) -3");
  EXPECT_EQ(ParseOne("$5\r\na\"\r\nb\r\n").ToDebugString(), "\"a\\\"\\r\\nb\"");
  EXPECT_EQ(ParseOne(",1.5\r\n").ToDebugString(), "(double) 1.5");
  EXPECT_EQ(ParseOne("#f\r\n").ToDebugString(), "(false)");
  EXPECT_EQ(ParseOne("(12\r\n").ToDebugString(), "12");
  EXPECT_EQ(ParseOne("=5\r\ntxt:a\r\n").ToDebugString(), "\"a\"");
  EXPECT_EQ(ParseOne("*2\r\n:1\r\n*0\r\n").ToDebugString(), "[(integer) 1, []]");
  EXPECT_EQ(ParseOne("%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n").ToDebugString(),
            "{a => (integer) 1, b => (integer) 2}");
  EXPECT_EQ(ParseOne("~1\r\n+a\r\n").ToDebugString(), "set[a]");
  EXPECT_EQ(ParseOne(">1\r\n+a\r\n").ToDebugString(), "push[a]");
}

TEST(ReplyTest, ToDebugStringCutsAtTheLimit) {
  EXPECT_EQ(String("abcdef").ToDebugString(8), "\"abcdef\"");
  EXPECT_EQ(String("abcdef").ToDebugString(7), "\"abcdef...");
  EXPECT_EQ(String(std::string(1u << 20, 'x')).ToDebugString().size(), 256u + 3u);
  EXPECT_EQ(Array(std::vector<Reply>(100'000)).ToDebugString(9), "[(nil), (...");
  EXPECT_EQ(String("a").ToDebugString(0), "...");
}

}  // namespace
}  // namespace coord::internal
