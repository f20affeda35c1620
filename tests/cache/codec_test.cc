#include "cache/codec.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "codec_test.pb.h"
#include "coord/internal/strings.h"
#include "gtest/gtest.h"

namespace coord {
namespace codec_test {

struct User {
  std::string name;
  int age = 0;
  friend bool operator==(const User&, const User&) = default;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(User, name, age)

struct Thrower {};
void to_json(nlohmann::json&, const Thrower&) { throw std::runtime_error("to_json is broken"); }
void from_json(const nlohmann::json&, Thrower&) { throw 7; }

}  // namespace codec_test

namespace {

using cache_test::Person;
using codec_test::Thrower;
using codec_test::User;
using Json = nlohmann::json;

static_assert(CodecFor<JsonCodec, User>);
static_assert(CodecFor<JsonCodec, Json>);
static_assert(CodecFor<MessagePackCodec, std::vector<User>>);
static_assert(CodecFor<ProtobufCodec, Person>);
static_assert(CodecFor<RawCodec, std::string>);
static_assert(CodecFor<RawCodec, std::int64_t>);
static_assert(CodecFor<RawCodec, double>);
static_assert(CodecFor<RawCodec, bool>);
static_assert(!CodecFor<RawCodec, std::string_view>);  // would point into what is gone
static_assert(!CodecFor<RawCodec, User>);
static_assert(CodecFor<Signed<JsonCodec>, User>);

template <typename C, typename T>
std::string Encoded(const C& codec, const T& value) {
  std::string out = "before";
  const absl::Status status = codec.Encode(value, out);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(out.substr(0, 6), "before");
  return out.substr(6);
}

template <typename C, typename T>
void ExpectRefused(const C& codec, const T& value) {
  std::string out = "before";
  EXPECT_EQ(codec.Encode(value, out).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(out, "before");
}

template <typename T, typename C>
void ExpectLost(const C& codec, std::string_view bytes) {
  EXPECT_EQ(codec.template Decode<T>(bytes).status().code(), absl::StatusCode::kDataLoss)
      << internal::Quoted(bytes);
}

Json RandomJson(std::mt19937_64& random, int depth = 0) {
  switch (random() % (depth > 6 ? 7 : 9)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<std::int64_t>(random());
    case 3:
      return random();
    case 4:
      return static_cast<std::int64_t>(random() % 300) - 150;
    case 5: {
      const double number = std::ldexp(static_cast<double>(random() % 100'000) - 50'000,
                                       static_cast<int>(random() % 200) - 100);
      return number;
    }
    case 6: {
      std::string text;
      const std::string_view pieces[] = {"a", "\"", "\\", "\n", "\x01", "é", "€", "\U0001F600"};
      for (std::uint64_t i = random() % 50; i > 0; --i) text += pieces[random() % 8];
      return text;
    }
    case 7: {
      Json array = Json::array();
      for (std::uint64_t i = random() % 20; i > 0; --i) {
        array.push_back(RandomJson(random, depth + 1));
      }
      return array;
    }
    default: {
      Json object = Json::object();
      for (std::uint64_t i = random() % 20; i > 0; --i) {
        object[internal::StrCat("é", random() % 1000)] = RandomJson(random, depth + 1);
      }
      return object;
    }
  }
}

Json Deep(std::size_t depth) {
  Json json = 1;
  for (std::size_t i = 0; i < depth; ++i) {
    Json outer = Json::array();
    outer.push_back(std::move(json));
    json = std::move(outer);
  }
  return json;
}

TEST(JsonCodecTest, RandomValuesComeBack) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 300; ++i) {
    const Json json = RandomJson(random);
    EXPECT_EQ(*JsonCodec().Decode<Json>(Encoded(JsonCodec(), json)), json);
    EXPECT_EQ(*MessagePackCodec().Decode<Json>(Encoded(MessagePackCodec(), json)), json);
  }
}

TEST(JsonCodecTest, TypesWithTheHooksComeBack) {
  const std::map<std::string, std::vector<User>> users = {{"all", {{"Ada", 36}, {"Çelik", 0}}}};
  EXPECT_EQ(
      (*JsonCodec().Decode<std::map<std::string, std::vector<User>>>(Encoded(JsonCodec(), users))),
      users);
  EXPECT_EQ((*MessagePackCodec().Decode<std::map<std::string, std::vector<User>>>(
                Encoded(MessagePackCodec(), users))),
            users);
  EXPECT_EQ(Encoded(JsonCodec(), User{"Ada", 36}), R"({"age":36,"name":"Ada"})");
}

TEST(JsonCodecTest, OnlyStrictJsonIsRead) {
  for (const std::string& text : {std::string(),
                                  std::string(" "),
                                  std::string("{"),
                                  std::string("[1,]"),
                                  std::string("1 2"),
                                  std::string("01"),
                                  std::string("// x\n1"),
                                  std::string("/* x */ 1"),
                                  std::string("NaN"),
                                  std::string("'a'"),
                                  std::string("\"\xff\""),
                                  std::string("\"\\ud800\""),
                                  std::string("\"\n\""),
                                  std::string("1e999"),
                                  std::string("1\0", 2),
                                  std::string("1\0garbage", 9),
                                  std::string("\"a\0\"", 4),
                                  std::string("\xef\xbb\xbf"
                                              "1"),
                                  std::string("\"\\\0\"", 4),
                                  std::string("tru")}) {
    ExpectLost<Json>(JsonCodec(), text);
  }
  EXPECT_EQ(*JsonCodec().Decode<Json>(" { \"[[\" : \"\\\"]\" } \r\n"), Json({{"[[", "\"]"}}));
}

TEST(JsonCodecTest, NestingIsBoundedBothWays) {
  EXPECT_EQ(*JsonCodec().Decode<Json>(Encoded(JsonCodec(), Deep(128))), Deep(128));
  EXPECT_EQ(*MessagePackCodec().Decode<Json>(Encoded(MessagePackCodec(), Deep(128))), Deep(128));
  ExpectRefused(JsonCodec(), Deep(129));
  ExpectRefused(MessagePackCodec(), Deep(129));
  // As deep as would end the process, if anything recursed.
  ExpectRefused(JsonCodec(), Deep(1'000'000));
  ExpectRefused(MessagePackCodec(), Deep(1'000'000));
  ExpectLost<Json>(JsonCodec(), std::string(129, '[') + std::string(129, ']'));
  ExpectLost<Json>(JsonCodec(), std::string(10'000'000, '['));
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"\":";
  ExpectLost<Json>(JsonCodec(), objects);
  ExpectLost<Json>(MessagePackCodec(), std::string(129, '\x91') + "\x01");
  ExpectLost<Json>(MessagePackCodec(), std::string(10'000'000, '\x91') + "\x01");
  ExpectLost<Json>(MessagePackCodec(), std::string(10'000'000, '\x81'));
}

TEST(JsonCodecTest, WhatWouldNotComeBackIsNotEncoded) {
  const double infinite = std::numeric_limits<double>::infinity();
  ExpectRefused(JsonCodec(), infinite);
  ExpectRefused(JsonCodec(), std::numeric_limits<float>::quiet_NaN());
  ExpectRefused(JsonCodec(), std::map<std::string, std::vector<double>>{{"a", {1, -infinite}}});
  ExpectRefused(JsonCodec(), Json::binary({1, 2}));
  ExpectRefused(JsonCodec(), Json(Json::value_t::discarded));
  for (const std::string text : {"\xff", "a\xc3", "\xed\xa0\x80"}) {
    ExpectRefused(JsonCodec(), text);
    ExpectRefused(MessagePackCodec(), text);
    ExpectRefused(JsonCodec(), std::map<std::string, int>{{text, 1}});
    ExpectRefused(MessagePackCodec(), std::map<std::string, int>{{text, 1}});
  }
}

TEST(JsonCodecTest, HooksThatThrowAreErrors) {
  ExpectRefused(JsonCodec(), Thrower());
  ExpectRefused(MessagePackCodec(), Thrower());
  ExpectLost<Thrower>(JsonCodec(), "1");
  ExpectLost<Thrower>(MessagePackCodec(), "\x01");
}

TEST(JsonCodecTest, AnotherTypeIsAnErrorAndSoIsANumberThatDoesNotFit) {
  ExpectLost<User>(JsonCodec(), "[]");
  ExpectLost<User>(JsonCodec(), R"({"name":"x"})");
  ExpectLost<std::string>(JsonCodec(), "1");
  ExpectLost<int>(JsonCodec(), "1.5");
  ExpectLost<int>(JsonCodec(), "true");
  ExpectLost<int>(JsonCodec(), "2147483648");
  ExpectLost<std::int8_t>(MessagePackCodec(), "\xcc\x80");
  ExpectLost<unsigned>(JsonCodec(), "-1");
  ExpectLost<std::int64_t>(JsonCodec(), "9223372036854775808");
  EXPECT_EQ(*JsonCodec().Decode<std::uint64_t>("18446744073709551615"),
            std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(*JsonCodec().Decode<std::int64_t>("-9223372036854775808"),
            std::numeric_limits<std::int64_t>::min());
}

TEST(JsonCodecTest, NullIsRecognised) {
  for (const std::string_view text : {"null", " null\r\n", "\tnull"}) {
    EXPECT_TRUE(JsonCodec::IsNull(text));
  }
  for (const std::string_view text : {"", " ", "nul", "nullx", "\"null\"", "null null", "[null]"}) {
    EXPECT_FALSE(JsonCodec::IsNull(text));
  }
  EXPECT_TRUE(JsonCodec::IsNull(Encoded(JsonCodec(), Json())));
  EXPECT_TRUE(MessagePackCodec::IsNull(Encoded(MessagePackCodec(), Json())));
  EXPECT_FALSE(MessagePackCodec::IsNull("\xc0\xc0"));
  EXPECT_FALSE(MessagePackCodec::IsNull(""));
  EXPECT_FALSE(RawCodec::IsNull("null"));
  EXPECT_FALSE(ProtobufCodec::IsNull(""));
  EXPECT_TRUE(Signed<JsonCodec>::IsNull("null"));
}

TEST(MessagePackCodecTest, EveryKindOfHeadIsRead) {
  const auto decode = [](const std::string& bytes) {
    const absl::StatusOr<Json> json = MessagePackCodec().Decode<Json>(bytes);
    EXPECT_TRUE(json.ok()) << json.status() << internal::Quoted(bytes);
    return json.ok() ? *json : Json();
  };
  EXPECT_EQ(decode("\x7f"), 127);
  EXPECT_EQ(decode("\xff"), -1);
  EXPECT_EQ(decode("\xc2"), false);
  EXPECT_EQ(decode("\xc3"), true);
  EXPECT_EQ(decode(std::string("\xca\x3f\x80\0\0", 5)), 1.0);
  EXPECT_EQ(decode(std::string("\xcb\x3f\xf0\0\0\0\0\0\0", 9)), 1.0);
  EXPECT_EQ(decode("\xcd\x01\x01"), 257);
  EXPECT_EQ(decode(std::string("\xce\0\0\0\x01", 5)), 1);
  EXPECT_EQ(decode(std::string("\xcf\0\0\0\0\0\0\0\x01", 9)), 1);
  EXPECT_EQ(decode("\xd0\xff"), -1);
  EXPECT_EQ(decode("\xd1\xff\xff"), -1);
  EXPECT_EQ(decode("\xd2\xff\xff\xff\xff"), -1);
  EXPECT_EQ(decode("\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), -1);
  EXPECT_EQ(decode("\xa1x"), "x");
  EXPECT_EQ(decode("\xd9\x01x"), "x");
  EXPECT_EQ(decode(std::string("\xda\0\x01x", 4)), "x");
  EXPECT_EQ(decode(std::string("\xdb\0\0\0\x01x", 6)), "x");
  EXPECT_EQ(decode(std::string("\xdc\0\x01\x05", 4)), Json({5}));
  EXPECT_EQ(decode(std::string("\xdd\0\0\0\x01\x05", 6)), Json({5}));
  EXPECT_EQ(decode(std::string("\xde\0\x01\xa1x\x05", 6)), Json({{"x", 5}}));
  EXPECT_EQ(decode(std::string("\xdf\0\0\0\x01\xa1x\x05", 8)), Json({{"x", 5}}));
  EXPECT_EQ(decode("\x81\xa1x\x91\xc0"), Json({{"x", {nullptr}}}));
  for (const std::string& binary :
       {std::string("\xc4\x02\x01\x02"), std::string("\xc5\0\x02\x01\x02", 5),
        std::string("\xc6\0\0\0\x02\x01\x02", 7), std::string("\xc7\x02\x05\x01\x02"),
        std::string("\xc8\0\x02\x05\x01\x02", 6), std::string("\xc9\0\0\0\x02\x05\x01\x02", 8),
        std::string("\xd5\x05\x01\x02")}) {
    EXPECT_EQ(static_cast<const std::vector<std::uint8_t>&>(decode(binary).get_binary()),
              (std::vector<std::uint8_t>{1, 2}));
    for (std::size_t size = 0; size < binary.size(); ++size) {
      ExpectLost<Json>(MessagePackCodec(), binary.substr(0, size));
    }
  }
  EXPECT_TRUE(decode(std::string("\xd4\x01\x02", 3)).is_binary());
  EXPECT_TRUE(decode("\xd6" + std::string(5, '\1')).is_binary());
  EXPECT_TRUE(decode("\xd7" + std::string(9, '\1')).is_binary());
  EXPECT_TRUE(decode("\xd8" + std::string(17, '\1')).is_binary());
}

TEST(MessagePackCodecTest, LengthsThatLieAndWhatStandsBehindAreRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("\xc1"), std::string("\x01\x01"), std::string("\x91"),
        std::string("\xdd\xff\xff\xff\xff"), std::string("\xdf\xff\xff\xff\xff"),
        std::string("\xdb\xff\xff\xff\xffx"), std::string("\xc6\xff\xff\xff\xffx"),
        std::string("\xc9\xff\xff\xff\xffx"), std::string("\xdc\xff\xff\x01"),
        std::string("\x81\x01\x01"), std::string("\x81\xa1x"), std::string("\xa1\xff"),
        std::string("\x81\xa1\xff\x01"), std::string("\xd9\x02\xc3x")}) {
    ExpectLost<Json>(MessagePackCodec(), bytes);
  }
}

TEST(MessagePackCodecTest, TruncatedAndChangedBytesNeverCrash) {
  std::mt19937_64 random(9);
  for (int i = 0; i < 100; ++i) {
    const std::string bytes = Encoded(MessagePackCodec(), RandomJson(random, 4));
    for (std::size_t at = 0; at < bytes.size(); at += 1 + bytes.size() / 100) {
      ExpectLost<Json>(MessagePackCodec(), bytes.substr(0, at));
      std::string changed = bytes;
      changed[at] = static_cast<char>(random());
      const absl::StatusOr<Json> got = MessagePackCodec().Decode<Json>(changed);
      if (!got.ok()) {
        EXPECT_EQ(got.status().code(), absl::StatusCode::kDataLoss);
      }
    }
  }
}

TEST(MessagePackCodecTest, NumbersThatAreNotFiniteComeBack) {
  const double infinite = std::numeric_limits<double>::infinity();
  EXPECT_EQ(*MessagePackCodec().Decode<double>(Encoded(MessagePackCodec(), -infinite)), -infinite);
  EXPECT_TRUE(std::isnan(*MessagePackCodec().Decode<double>(
      Encoded(MessagePackCodec(), std::numeric_limits<double>::quiet_NaN()))));
}

TEST(ProtobufCodecTest, MessagesComeBack) {
  Person person;
  person.set_name("Ada");
  person.set_age(36);
  person.add_friends()->set_name("Charles");
  person.set_picture(std::string("\0\xff", 2));
  const absl::StatusOr<Person> again =
      ProtobufCodec().Decode<Person>(Encoded(ProtobufCodec(), person));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->SerializeAsString(), person.SerializeAsString());
}

TEST(ProtobufCodecTest, WhatIsIncompleteOrNoMessageIsRefused) {
  ExpectRefused(ProtobufCodec(), Person());
  ExpectLost<Person>(ProtobufCodec(), "");
  ExpectLost<Person>(ProtobufCodec(), "\x10\x24");  // an age, no name
  ExpectLost<Person>(ProtobufCodec(),
                     "\x0a\x7f"
                     "Ada");  // longer than is there
  ExpectLost<Person>(ProtobufCodec(), "\xff\xff\xff");
  // Messages in messages, each inside the one before.
  std::string deep = "\x0a\x01x";
  for (int i = 0; i < 10'000; ++i) {
    std::string outer = "\x0a\x01x\x1a";
    for (std::size_t size = deep.size(); true; size >>= 7) {
      outer.push_back(static_cast<char>((size & 0x7f) | (size >= 0x80 ? 0x80 : 0)));
      if (size < 0x80) break;
    }
    deep = outer + deep;
  }
  ExpectLost<Person>(ProtobufCodec(), deep);
}

struct OwnMessage {
  int value = 0;
  bool SerializeToString(std::string* out) const {
    if (value < 0) throw std::runtime_error("negative");
    *out = internal::StrCat(value);
    return value != 13;
  }
  bool ParseFromString(const std::string& text) {
    const auto parsed = internal::ParseInt64(text);
    if (parsed) value = static_cast<int>(*parsed);
    return parsed.has_value();
  }
};

TEST(ProtobufCodecTest, AnythingWithTheTwoMethodsWillDo) {
  EXPECT_EQ(ProtobufCodec().Decode<OwnMessage>(Encoded(ProtobufCodec(), OwnMessage{7}))->value, 7);
  ExpectRefused(ProtobufCodec(), OwnMessage{13});
  ExpectRefused(ProtobufCodec(), OwnMessage{-1});
  ExpectLost<OwnMessage>(ProtobufCodec(), "x");
}

TEST(RawCodecTest, TextIsStoredAsItIs) {
  const std::string text("a\0\xff", 3);
  EXPECT_EQ(Encoded(RawCodec(), text), text);
  EXPECT_EQ(Encoded(RawCodec(), std::string_view(text)), text);
  EXPECT_EQ(Encoded(RawCodec(), "literal"), "literal");
  EXPECT_EQ(*RawCodec().Decode<std::string>(text), text);
  ExpectRefused(RawCodec(), static_cast<const char*>(nullptr));
}

TEST(RawCodecTest, NumbersAreTheirDecimalText) {
  EXPECT_EQ(Encoded(RawCodec(), 42), "42");
  EXPECT_EQ(Encoded(RawCodec(), std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(Encoded(RawCodec(), 0.1), "0.1");
  EXPECT_EQ(Encoded(RawCodec(), true), "1");
  EXPECT_EQ(*RawCodec().Decode<std::uint64_t>("18446744073709551615"),
            std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(*RawCodec().Decode<bool>("0"), false);
  std::mt19937_64 random(10);
  for (int i = 0; i < 10'000; ++i) {
    const double number =
        std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 2000) - 1060);
    if (!std::isfinite(number)) continue;
    EXPECT_EQ(*RawCodec().Decode<double>(Encoded(RawCodec(), number)), number);
  }
}

TEST(RawCodecTest, OnlyAWholeTextIsANumber) {
  for (const std::string_view text : {"", " 1", "1 ", "+1", "1x", "1.0", "0x1", "128", "-129"}) {
    ExpectLost<std::int8_t>(RawCodec(), text);
  }
  for (const std::string_view text : {"", "nan", "inf", "-inf", "1,5", "1e999", " 1", "1f"}) {
    ExpectLost<double>(RawCodec(), text);
  }
  ExpectLost<bool>(RawCodec(), "true");
  ExpectRefused(RawCodec(), std::numeric_limits<double>::infinity());
  ExpectRefused(RawCodec(), std::numeric_limits<float>::quiet_NaN());
}

}  // namespace
}  // namespace coord
