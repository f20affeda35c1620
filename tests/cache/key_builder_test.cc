#include "cache/key_builder.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::FromAbsl;
using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Canonical(const Json& json) {
  const auto text = CanonicalJson(json);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : std::string();
}

TEST(CanonicalJsonTest, NumbersAreAsTheRfcHasThem) {
  // RFC 8785, appendix B, and its neighbours.
  const std::pair<std::uint64_t, std::string> samples[] = {
      {0x0000000000000000, "0"},
      {0x8000000000000000, "0"},
      {0x0000000000000001, "5e-324"},
      {0x8000000000000001, "-5e-324"},
      {0x7fefffffffffffff, "1.7976931348623157e+308"},
      {0xffefffffffffffff, "-1.7976931348623157e+308"},
      {0x4340000000000000, "9007199254740992"},
      {0xc340000000000000, "-9007199254740992"},
      {0x4430000000000000, "295147905179352830000"},
      {0x44b52d02c7e14af5, "9.999999999999997e+22"},
      {0x44b52d02c7e14af6, "1e+23"},
      {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
      {0x444b1ae4d6e2ef4e, "999999999999999700000"},
      {0x444b1ae4d6e2ef4f, "999999999999999900000"},
      {0x444b1ae4d6e2ef50, "1e+21"},
      {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
      {0x3eb0c6f7a0b5ed8d, "0.000001"},
      {0x41b3de4355555553, "333333333.3333332"},
      {0x41b3de4355555554, "333333333.33333325"},
      {0x41b3de4355555555, "333333333.3333333"},
      {0xbecbf647612f3696, "-0.0000033333333333333333"},
      {0x43143ff3c1cb0959, "1424953923781206.2"},
  };
  for (const auto& [bits, text] : samples) {
    double number = 0;
    std::memcpy(&number, &bits, sizeof(number));
    EXPECT_EQ(Canonical(number), text);
  }
}

TEST(CanonicalJsonTest, WholeNumbersStayExactAndOneNumberHasOneText) {
  EXPECT_EQ(Canonical(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(Canonical(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(Canonical(std::int64_t{9007199254740993}), "9007199254740993");
  EXPECT_EQ(Canonical(1.0), "1");
  EXPECT_EQ(Canonical(-1.0), "-1");
  EXPECT_EQ(Canonical(std::ldexp(1.0, 60)), Canonical(std::int64_t{1} << 60));
  EXPECT_EQ(Canonical(std::ldexp(1.0, 63)), Canonical(std::uint64_t{1} << 63));
  EXPECT_EQ(Canonical(std::ldexp(-1.0, 63)), Canonical(std::numeric_limits<std::int64_t>::min()));
  EXPECT_EQ(Canonical(std::ldexp(1.0, 64)), "18446744073709552000");
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_EQ(CanonicalJson(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(CanonicalJsonTest, NamesAreInOrderAndTextsShort) {
  EXPECT_EQ(Canonical(Json::parse(R"({"b":[1.0,null,true],"a":"\u00e9\/\u001f\n\"\\","":{}})")),
            "{\"\":{},\"a\":\"é/\\u001f\\n\\\"\\\\\",\"b\":[1,null,true]}");
  EXPECT_EQ(Canonical("\b\t\f\r\x7f"), "\"\\b\\t\\f\\r\x7f\"");
  EXPECT_EQ(Canonical(Json({{"z", 1}, {"é", 2}, {"\U0001F600", 3}, {"\uFB33", 4}})),
            "{\"z\":1,\"é\":2,\"\uFB33\":4,\"\U0001F600\":3}");
}

TEST(CanonicalJsonTest, WhatHasNoCanonicalTextIsRefused) {
  Json deep = 1;
  for (int i = 0; i < 129; ++i) deep = Json::array({std::move(deep)});
  for (const Json& json : {Json("\xff"), Json({{"\xff", 1}}), Json::binary({1}), deep}) {
    EXPECT_EQ(CanonicalJson(json).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(KeyBuilderTest, AKeyIsTheSameForEver) {
  // SHA-256 of  [4:prod,12:llm:response,{"a":[1,"x"],"b":0.5}]  by another program.
  EXPECT_EQ(*KeyBuilder("prod").Build("llm:response", {{"b", 0.5}, {"a", {1, "x"}}}),
            "prod:llm:response:c09baad51b11a562bbe682039fe74639");
}

TEST(KeyBuilderTest, EqualArgumentsHaveEqualKeysHoweverTheyAreWritten) {
  const KeyBuilder keys("prod");
  const std::string key = *keys.BuildFromText("f", R"({"a":1,"b":[1e2,"é"]})");
  EXPECT_EQ(*keys.BuildFromText("f", "{ \"b\" : [ 100.0, \"\\u00e9\" ] ,\n\"a\":1.0 }"), key);
  EXPECT_EQ(*keys.Build("f", {{"a", 1U}, {"b", {100, "é"}}}), key);
}

TEST(KeyBuilderTest, DifferentTriplesHaveDifferentKeys) {
  const std::string places[] = {"a", "b", "a:b", "b:c", "c", "a%3Ab", "%", "a:", ":b", "1", "{a}"};
  const Json arguments[] = {nullptr, 1,     "1", "a",        Json::array(), Json::object(),
                            "a:b",   "%3A", {1}, {{"a", 1}}, "b:c",         std::string(100, 'x')};
  for (const std::size_t clear_bytes : {std::size_t{0}, std::size_t{64}}) {
    std::map<std::string, std::string> seen;
    for (const std::string& ns : places) {
      for (const std::string& name : places) {
        for (const Json& json : arguments) {
          const auto key = KeyBuilder(ns, {.clear_bytes = clear_bytes}).Build(name, json);
          ASSERT_TRUE(key.ok()) << key.status();
          const std::string triple = Json({ns, name, json}).dump();
          const auto [at, fresh] = seen.emplace(*key, triple);
          EXPECT_TRUE(fresh) << *key << " is both of " << at->second << " and " << triple;
        }
      }
    }
  }
}

TEST(KeyBuilderTest, ShortArgumentsMayStandInTheClear) {
  const KeyBuilder keys("prod", {.clear_bytes = 16});
  EXPECT_EQ(*keys.Build("user", 7), "prod:user:7");
  EXPECT_EQ(*keys.Build("user", {7, "en"}), "prod:user:%5B7,\"en\"%5D");
  EXPECT_EQ(*keys.Build("user", "0123456789abcdef"),
            *KeyBuilder("prod").Build("user", "0123456789abcdef"));
  EXPECT_EQ(*KeyBuilder("a:b").Build("f", 1), *KeyBuilder("a:b").Build("f", 1));
  EXPECT_THAT(*KeyBuilder("a:b").Build("f", 1), testing::StartsWith("a%3Ab:f:"));
}

TEST(KeyBuilderTest, WhatBreaksTheRulesIsRefused) {
  const auto code = [](const absl::StatusOr<std::string>& key) { return key.status().code(); };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(KeyBuilder("").Build("f", 1)), kInvalid);
  EXPECT_EQ(code(KeyBuilder(std::string(129, 'n')).Build("f", 1)), kInvalid);
  EXPECT_EQ(code(KeyBuilder("n").Build("", 1)), kInvalid);
  EXPECT_EQ(code(KeyBuilder("n").Build(std::string(513, 'f'), 1)), kInvalid);
  EXPECT_EQ(code(KeyBuilder("n").Build("f", std::nan(""))), kInvalid);
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("1 2"), std::string("{\"a\":1,\"a\":2}"),
        std::string("\"\xff\""), std::string("1e999"), std::string(1'000'000, '[')}) {
    EXPECT_EQ(code(KeyBuilder("n").BuildFromText("f", text)), kInvalid);
  }
  const auto longest =
      KeyBuilder(std::string(128, ':'), {.clear_bytes = 1000}).Build(std::string(512, 'f'), 1);
  ASSERT_TRUE(longest.ok());
  EXPECT_LE(longest->size(), 1024U);
}

TEST(KeyTemplateTest, NamesPositionsAndNeither) {
  const auto named = KeyTemplate::Parse("user:{id}:{lang}:{id}");
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_THAT(named->names(), ElementsAre("id", "lang"));
  EXPECT_EQ(*named->Expand({"7", "en"}), "user:7:en:7");
  EXPECT_EQ(*named->ExpandNamed({{"lang", "en"}, {"id", "7"}}), "user:7:en:7");
  EXPECT_EQ(*named->Expand(std::vector<std::string>{"7", "en"}), "user:7:en:7");

  const auto positions = KeyTemplate::Parse("{1}:{0}");
  ASSERT_TRUE(positions.ok()) << positions.status();
  EXPECT_THAT(positions->names(), ElementsAre("0", "1"));
  EXPECT_EQ(*positions->Expand({"a", "b"}), "b:a");

  EXPECT_EQ(*KeyTemplate::Parse("{}-{}")->Expand({"a", "b"}), "a-b");
  EXPECT_EQ(*KeyTemplate::Parse("all")->Expand(std::vector<std::string>()), "all");
  EXPECT_EQ(*KeyTemplate::Parse("{{{x}}}:{{}}")->Expand({"1"}), "{1}:{}");
}

TEST(KeyTemplateTest, ValuesAreEscaped) {
  const auto plain = KeyTemplate::Parse("u:{a}:{b}");
  EXPECT_EQ(*plain->Expand({"a@b.c-d_e", "é"}), "u:a@b.c-d_e:é");
  EXPECT_EQ(*plain->Expand({"1:2", "50%"}), "u:1%3A2:50%25");
  EXPECT_EQ(*plain->Expand({"{x}", "*?[]\\"}), "u:%7Bx%7D:%2A%3F%5B%5D%5C");
  EXPECT_EQ(*plain->Expand({std::string_view("\0 \n", 3), ""}), "u:%00%20%0A:");
  // What separates here is escaped here.
  EXPECT_EQ(*KeyTemplate::Parse("{a}-{b}")->Expand({"1-2", "3"}), "1%2D2-3");
}

TEST(KeyTemplateTest, DifferentValuesHaveDifferentExpansions) {
  const std::vector<std::string> values = {"",  "a",  "b",   ":",   "a:", ":a",   "-",  "a-", "-b",
                                           "x", "%",  "%3A", "a-x", "::", "--",   "x-", "é",  "→",
                                           "{", "{}", "a:x", "-x-", "x:", "\xe2", " ",  "%2D"};
  for (const char* const text : {"{a}:{b}", "{a}-{b}", "{a}x-{b}", "{a}-x{b}", "k{a}→{b}",
                                 "{a}--{b}x", "{b}:{a}:{b}", "{a}{{{b}", "{a}%-{b}", "{a} {b}"}) {
    const auto parsed = KeyTemplate::Parse(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    std::map<std::string, std::string> seen;
    for (const std::string& a : values) {
      for (const std::string& b : values) {
        const auto key = parsed->Expand({a, b});
        ASSERT_TRUE(key.ok());
        const auto [at, fresh] = seen.emplace(*key, a + " and " + b);
        EXPECT_TRUE(fresh) << text << ": " << *key << " is of " << at->second << ", " << a
                           << " and " << b;
      }
    }
  }
}

TEST(KeyTemplateTest, TemplatesThatBreakTheRulesAreRefused) {
  const std::pair<std::string, std::string> bad[] = {
      {"", "0 bytes"},
      {std::string(513, 'x'), "513 bytes"},
      {"a{", "a '{' without"},
      {"a{b", "a '{' without"},
      {"a{b{c}}", "a '{' without"},
      {"a}", "a '}' without"},
      {"{a}}", "a '}' without"},
      {"{a b}", "neither a name nor"},
      {"{a:b}", "neither a name nor"},
      {"{1a}", "neither a name nor"},
      {"{00}", "neither a name nor"},
      {"{999999999999999999999}", "neither a name nor"},
      {"{é}", "neither a name nor"},
      {"{}:{0}", "do not go together"},
      {"{a}:{0}", "do not go together"},
      {"{a}{b}", "nothing separates {a} and {b}"},
      {"{a}x{b}", "nothing separates"},
      {"{a}%{b}", "nothing separates"},
      {"{a}:{b}1{a}", "nothing separates"},
      {"{0}:{2}", "position 1 is left out"},
      {"{1}", "position 0 is left out"},
  };
  for (const auto& [text, why] : bad) {
    const auto parsed = KeyTemplate::Parse(text);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(FromAbsl(parsed.status().message()), HasSubstr(why));
  }
  std::string many;
  for (int i = 0; i < 33; ++i) many += "{}:";
  EXPECT_FALSE(KeyTemplate::Parse(many).ok());
}

TEST(KeyTemplateTest, ValuesMustBeThoseThatTheTemplateHas) {
  const auto parsed = KeyTemplate::Parse("u:{id}:{lang}");
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(parsed->Expand({"7"}).status().code(), kInvalid);
  EXPECT_EQ(parsed->Expand({"7", "en", "x"}).status().code(), kInvalid);
  const auto message = [&](std::initializer_list<KeyTemplate::Named> values) {
    return std::string(FromAbsl(parsed->ExpandNamed(values).status().message()));
  };
  EXPECT_THAT(message({{"id", "7"}}), HasSubstr("no value for {lang}"));
  EXPECT_THAT(message({{"id", "7"}, {"id", "8"}}), HasSubstr("two values for {id}"));
  EXPECT_THAT(message({{"id", "7"}, {"land", "8"}}), HasSubstr("no placeholder \"land\""));
  EXPECT_EQ(parsed->Expand({std::string(1024, 'x'), ""}).status().code(), kInvalid);
  EXPECT_EQ(KeyTemplate::Parse("{a}")->Expand({""}).status().code(), kInvalid);
}

}  // namespace
}  // namespace coord
