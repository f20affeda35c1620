#include "coord/internal/json_text.h"

#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::internal {
namespace {

using ::coord::testing::IsOkAndHolds;
using ::coord::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Where a text is at fault, counted from 0; -1 for nowhere.
int FaultAt(std::string_view text, std::size_t depth = 0) {
  const std::optional<JsonFault> fault = FindJsonFault(text, depth);
  return fault ? static_cast<int>(fault->at) : -1;
}

std::string Nested(std::size_t levels, std::string_view open, std::string_view close) {
  std::string text;
  for (std::size_t i = 0; i < levels; ++i) text += open;
  text += "0";
  for (std::size_t i = 0; i < levels; ++i) text += close;
  return text;
}

TEST(JsonTextTest, EveryKindOfValueIsAccepted) {
  for (const std::string_view text : {"null",
                                      "true",
                                      "false",
                                      "0",
                                      "-0",
                                      "-1.5e+10",
                                      "1E-7",
                                      "0.00",
                                      "18446744073709551616",
                                      "\"\"",
                                      "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\"",
                                      "\"\x7f\xc3\xa9\xf0\x9f\x98\x80\"",
                                      "[]",
                                      "{}",
                                      "[ ]",
                                      "{ }",
                                      "[1,[2,{}],{\"a\":[]}]",
                                      " \t\r\n{ \"a\" : 1 , \"b\" : [ 1 , 2 ] } \n",
                                      "{\"\":{\"\":0}}",
                                      "{\"a\":{\"b\":1},\"b\":{\"a\":1}}"}) {
    EXPECT_EQ(FaultAt(text), -1) << text;
  }
}

TEST(JsonTextTest, WhatIsNotJsonIsRefusedAtItsPlace) {
  const struct {
    std::string_view text;
    int at;
  } cases[] = {
      {"", 0},
      {" ", 1},
      {"nul", 0},
      {"True", 0},
      {"01", 0},
      {"-", 1},
      {"+1", 0},
      {"1.", 2},
      {".5", 0},
      {"1e", 2},
      {"1e+", 3},
      {"0x10", 1},
      {"NaN", 0},
      {"Infinity", 0},
      {"1 2", 2},
      {"[1,]", 3},
      {"[1", 2},
      {"[1 2]", 3},
      {"[,1]", 1},
      {"]", 0},
      {"[1}", 2},
      {"{\"a\":1]", 6},
      {"{\"a\":1,}", 7},
      {"{a:1}", 1},
      {"{'a':1}", 1},
      {"{\"a\" 1}", 5},
      {"{\"a\":}", 5},
      {"{1:2}", 1},
      {"{\"a\":1", 6},
      {"{} x", 3},
      {"\"abc", 4},
      {"\"a\nb\"", 2},
      {"\"\\x\"", 1 + 1},
      {"\"\\u12g4\"", 5},
      {"\"\\", 2},
      {"\"\\ud800\"", 1},
      {"\"\\udc00\"", 1},
      {"\"\\ud800\\ud800\"", 1},
      {"/*x*/1", 0},
      {"\xEF\xBB\xBF"
       "1",
       0},
      {"\v1", 0},
  };
  for (const auto& test : cases) EXPECT_EQ(FaultAt(test.text), test.at) << test.text;
}

TEST(JsonTextTest, AZeroByteIsNoEnd) {
  EXPECT_EQ(FaultAt(std::string_view("1\0", 2)), 1);
  EXPECT_EQ(FaultAt(std::string_view("\"a\0\"", 4)), 2);
  EXPECT_EQ(FaultAt(std::string_view("[1\0]", 4)), 2);
}

TEST(JsonTextTest, InvalidUtf8IsRefused) {
  for (const std::string_view bytes :
       {"\x80", "\xc0\xaf", "\xc1\x81", "\xc3", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
        "\xf0\x80\x80\x80", "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_EQ(FaultAt("\"" + std::string(bytes) + "\""), 1);
  }
}

TEST(JsonTextTest, ANameThatOccursTwiceIsRefusedHoweverItIsSpelled) {
  EXPECT_EQ(FaultAt(R"({"a":1,"a":2})"), 7);
  EXPECT_EQ(FaultAt(R"({"a":1,"\u0061":2})"), 7);
  EXPECT_EQ(FaultAt(R"([{"x":{"\ud83d\ude00":1,)"
                    "\"\xf0\x9f\x98\x80\":2}}]"),
            24);
  EXPECT_FALSE(FindJsonFault(R"({"a":1,"a":2})")->grammar);
}

TEST(JsonTextTest, DepthIsBoundedAndCountsWhatStandsAround) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, std::pair{"{\"a\":", "}"}}) {
    EXPECT_EQ(FaultAt(Nested(kJsonMaxDepth, open, close)), -1);
    EXPECT_NE(FaultAt(Nested(kJsonMaxDepth + 1, open, close)), -1);
    EXPECT_EQ(FaultAt(Nested(kJsonMaxDepth - 3, open, close), 3), -1);
    EXPECT_NE(FaultAt(Nested(kJsonMaxDepth - 2, open, close), 3), -1);
  }
  EXPECT_EQ(FaultAt("1", kJsonMaxDepth), -1);
  EXPECT_EQ(FaultAt(std::string(1'000'000, '[')), static_cast<int>(kJsonMaxDepth));
}

TEST(JsonTextTest, ExponentsAreBoundedByTheirDigits) {
  EXPECT_EQ(FaultAt("1e999999999999999"), -1);
  EXPECT_EQ(FaultAt("1e-0000000000000000000999999999999999"), -1);
  EXPECT_EQ(FaultAt("1e1000000000000000"), 2);
  EXPECT_EQ(FaultAt("1e0000000000000000000000"), -1);
}

TEST(JsonTextTest, AMessageSaysWhatIsWrongAndWhere) {
  EXPECT_THAT(CheckJson("the value", "[1,]"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("the value is not JSON"), HasSubstr("byte 4"))));
  EXPECT_THAT(CheckJson("the value", std::string(kJsonMaxBytes + 1, ' ')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("16777216")));
}

TEST(JsonPointerTest, DepthIsTheNumberOfTokens) {
  EXPECT_THAT(PointerDepth(""), IsOkAndHolds(0U));
  EXPECT_THAT(PointerDepth("/"), IsOkAndHolds(1U));
  EXPECT_THAT(PointerDepth("/a~0b/c~1d//0"), IsOkAndHolds(4U));
  EXPECT_THAT(PointerDepth("/\xf0\x9f\x98\x80"), IsOkAndHolds(1U));
}

TEST(JsonPointerTest, WhatIsNoPointerIsRefused) {
  for (const std::string_view pointer : {"a", "#/a", "/a~", "/a~2", "/~/", "/\xff", "/\xc3"}) {
    EXPECT_THAT(PointerDepth(pointer), StatusIs(absl::StatusCode::kInvalidArgument)) << pointer;
  }
  EXPECT_THAT(PointerDepth(std::string(kJsonMaxDepth + 1, '/')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("128")));
  EXPECT_THAT(PointerDepth("/" + std::string(kJsonMaxPointerBytes, 'a')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4096")));
}

}  // namespace
}  // namespace coord::internal
