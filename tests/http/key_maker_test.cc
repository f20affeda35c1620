#include "cache/http/internal/key_maker.h"
#include "cache/http/internal/secrets.h"

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace coord::http::internal {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr std::string_view kUrl = "http://h/a";
const Headers kForm = {{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
const Headers kJson = {{"content-type", "Application/JSON"}};

KeyRules Rules() {
  return {.prefix = "coord:http_cache:",
          .ignored_parameters = {"utm_source", "X-Trace"},
          .secret_parameters = {"Authorization", "Cookie", "X-API-Key", "access_token", "token",
                                "utm_source"},
          .identity_secret = "pepper"};
}

KeyMaker::Identified Who(const KeyMaker& keys, std::string_view url, const Headers& headers = {},
                         std::string_view body = {}) {
  const absl::StatusOr<KeyMaker::Identified> who =
      keys.Identify(body.empty() ? "GET" : "POST", url, headers, body);
  EXPECT_OK(who);
  return who.ok() ? *who : KeyMaker::Identified{};
}

std::string Key(const KeyMaker& keys, std::string_view url, const Headers& headers = {},
                std::string_view body = {}) {
  return keys.Primary(body.empty() ? "GET" : "POST", Who(keys, url, headers, body), body,
                      headers.Get("Content-Type").value_or(""));
}

TEST(KeyMakerTest, KeysAreThePrefixAndAHash) {
  const KeyMaker keys(Rules());
  const std::string primary = Key(keys, kUrl);
  EXPECT_THAT(primary, MatchesRegex("coord:http_cache:[0-9a-f]{32}"));
  EXPECT_EQ(primary, Key(keys, "HTTP://H:80/b/../a#x"));
  EXPECT_THAT(keys.Variant(primary, "12345678", {{"accept", "x"}}),
              MatchesRegex(primary + "\\.[0-9a-f]{32}"));
}

// Each of them is another request; framing and where a field stands are what keeps them apart.
TEST(KeyMakerTest, NoTwoRequestsThatDifferShareAKey) {
  const KeyMaker keys(Rules());
  std::vector<std::string> all = {
      Key(keys, kUrl),
      Key(keys, "http://h/b"),
      Key(keys, "http://h/a?token=1234"),
      Key(keys, "http://h/a?token=1235"),
      Key(keys, "http://h/a?token="),
      Key(keys, "http://h/a?token"),
      Key(keys, "http://h/a?token=REDACTED"),
      Key(keys, "http://h/a?token=1&token=2"),
      Key(keys, "http://h/a?token=2&token=1"),
      Key(keys, "http://h/a?token=1&access_token=2"),
      Key(keys, "http://h/a?token=2&access_token=1"),
      Key(keys, "http://h/a?token=12&access_token="),
      Key(keys, kUrl, {{"Authorization", ""}}),
      Key(keys, kUrl, {{"Authorization", "a"}}),
      Key(keys, kUrl, {{"Cookie", "a"}}),
      Key(keys, kUrl, {{"X-API-Key", "a"}}),
      Key(keys, kUrl, {{"Authorization", "ab"}}),
      Key(keys, kUrl, {{"Authorization", "a"}, {"Authorization", "b"}}),
      Key(keys, kUrl, {{"Authorization", "b"}, {"Authorization", "a"}}),
      Key(keys, kUrl, {{"Authorization", "a"}, {"Cookie", "b"}}),
      Key(keys, kUrl, {{"Authorization", "b"}, {"Cookie", "a"}}),
      Key(keys, kUrl, {{"token", "1234"}}),
      Key(keys, kUrl, kForm, "token=1234"),
      Key(keys, kUrl, kForm, "token=1235"),
      Key(keys, kUrl, kForm, "token=1234&a=1"),
      Key(keys, kUrl, kForm, "a=1&b=2"),
      Key(keys, kUrl, kForm, "a=1"),
      Key(keys, kUrl, kForm, "a"),
      Key(keys, kUrl, kForm, "a="),
      Key(keys, kUrl, kJson, R"({"token":"1234"})"),
      Key(keys, kUrl, kJson, R"({"token":1234})"),
      Key(keys, kUrl, kJson, R"({"token":"1235"})"),
      Key(keys, kUrl, kJson, R"({"token":"1234","token":"1235"})"),
      Key(keys, kUrl, kJson, R"({"token":"1235","token":"1234"})"),
      Key(keys, kUrl, kJson, R"({"a":{"token":"1234"}})"),
      Key(keys, kUrl, kJson, R"({"token":"1","id":12345678901234567890123})"),
      Key(keys, kUrl, kJson, R"({"token":"1","id":12345678901234567890124})"),
      Key(keys, kUrl, kJson, R"(["token"])"),
      Key(keys, kUrl, kJson, R"({"token":"1234")"),
      Key(keys, kUrl, {}, R"({"token":"1234"})"),
      Key(keys, kUrl, {}, "token=1234"),
  };
  const KeyMaker::Identified who = Who(keys, kUrl);
  all.push_back(keys.Primary("HEAD", who, "", ""));
  all.push_back(keys.Primary("GET", who, "token=1234", ""));
  const std::set<std::string> once(all.begin(), all.end());
  EXPECT_EQ(once.size(), all.size());
}

TEST(KeyMakerTest, IdentitiesDependOnTheSecretOfTheHash) {
  KeyRules rules = Rules();
  const KeyMaker one(rules);
  rules.identity_secret = "salt";
  const KeyMaker other(rules);
  rules.identity_secret.clear();
  const KeyMaker none(rules);
  const Headers headers = {{"Authorization", "Bearer canary"}};
  EXPECT_NE(Who(one, kUrl, headers).identity, Who(other, kUrl, headers).identity);
  EXPECT_NE(Who(one, kUrl, headers).identity, Who(none, kUrl, headers).identity);
  EXPECT_THAT(Who(none, kUrl, headers).identity, SizeIs(64));
  EXPECT_NE(Key(one, kUrl, headers), Key(other, kUrl, headers));
  EXPECT_EQ(Key(one, kUrl), Key(other, kUrl));
  // A body may have secrets that nobody finds.
  EXPECT_NE(Key(one, kUrl, {}, "body"), Key(other, kUrl, {}, "body"));
  EXPECT_THAT(Who(one, kUrl).identity, IsEmpty());
}

TEST(KeyMakerTest, NamesAndOrderOfSecretsMakeNoDifference) {
  const KeyMaker keys(Rules());
  EXPECT_EQ(Key(keys, kUrl, {{"Authorization", "a"}, {"Cookie", "b"}}),
            Key(keys, kUrl, {{"cookie", "b"}, {"AUTHORIZATION", "a"}}));
  EXPECT_EQ(Who(keys, "http://h/?token=1&access_token=2").identity,
            Who(keys, "http://h/?Access_Token=2&TOKEN=1").identity);
}

TEST(KeyMakerTest, IgnoredParametersMakeNoDifference) {
  const KeyMaker keys(Rules());
  EXPECT_EQ(Key(keys, kUrl), Key(keys, "http://h/a?utm_source=x"));
  EXPECT_EQ(Key(keys, kUrl), Key(keys, "http://h/a?UTM%5FSource=y"));
  EXPECT_EQ(Key(keys, kUrl), Key(keys, kUrl, {{"x-trace", "1"}, {"utm_source", "2"}}));
  EXPECT_EQ(Key(keys, kUrl, kForm, "a=1&b=2"), Key(keys, kUrl, kForm, "a=1&utm_source=x&b=2"));
  EXPECT_EQ(Key(keys, kUrl, kJson, R"({"a": 1, "b": [2]})"),
            Key(keys, kUrl, kJson, R"({"a": 1, "utm_\u0073ource": {"x": "}"}, "b": [2]})"));
  EXPECT_FALSE(keys.IsSecret("utm_source"));
  EXPECT_TRUE(keys.IsIgnored("UTM_SOURCE"));
  EXPECT_TRUE(keys.IsSecret("COOKIE"));
}

TEST(KeyMakerTest, NoSecretStandsInUrlIdentityOrKey) {
  const KeyMaker keys(Rules());
  const Headers headers = {{"Authorization", "Bearer canary"},
                           {"Cookie", "a=canary"},
                           {"Content-Type", "application/json"}};
  const std::string_view body = R"({"token":"canary"})";
  const KeyMaker::Identified who = Who(keys, "http://h/canary2?token=canary#canary", headers, body);
  EXPECT_EQ(who.url, "http://h/canary2?token=REDACTED");
  EXPECT_THAT(who.identity, Not(HasSubstr("canary")));
  EXPECT_THAT(keys.Primary("POST", who, body, "application/json"), Not(HasSubstr("canary")));
  // Who knows all but the secrets cannot confirm a guess of them.
  KeyMaker::Identified nobody = who;
  nobody.identity.clear();
  EXPECT_EQ(keys.Primary("POST", nobody, R"({"token":"canary"})", "application/json"),
            keys.Primary("POST", nobody, R"({"token":"guess!"})", "application/json"));
}

TEST(KeyMakerTest, KnowsAllFormsOfASecretValue) {
  const KeyMaker keys(Rules());
  const auto secrets = [&](const Headers& headers, std::string_view body = {},
                           std::string_view url = kUrl) {
    return Who(keys, url, headers, body).secrets;
  };
  EXPECT_THAT(secrets({{"Authorization", "Basic dXNlcjpwYXNzd2Q="}}),
              ElementsAre("Basic dXNlcjpwYXNzd2Q=", "dXNlcjpwYXNzd2Q=", "passwd", "user:passwd"));
  EXPECT_THAT(secrets({{"Authorization", "bearer  abcdef"}}),
              ElementsAre("abcdef", "bearer  abcdef"));
  // Short ones are in every text, and most cookies are no secrets.
  EXPECT_THAT(
      secrets({{"Cookie", "a=the-first-one; b=\"the-second-one\";c; theme=dark-green"}}),
      AllOf(Contains("the-first-one"), Contains("the-second-one"), Not(Contains("dark-green"))));
  EXPECT_THAT(secrets({{"X-API-Key", "abcde"}}), IsEmpty());
  EXPECT_THAT(secrets({}, {}, "http://h/?token=a%20b%2Bc+d"),
              ElementsAre("a b+c d", "a b+c+d", "a%20b%2Bc+d"));
  Headers form = kForm;
  EXPECT_THAT(secrets(form, "x=1&token=ab%26cdef"), ElementsAre("ab%26cdef", "ab&cdef"));
  EXPECT_THAT(secrets(kJson, R"({"token": {"deep": ["q\"uote", 12345]}, "other": "public"})"),
              ElementsAre("q\"uote"));
  EXPECT_THAT(secrets(kJson, R"({"list": [{"user": {"token": "hidden"}}], "other": "public"})"),
              ElementsAre("hidden"));
}

TEST(KeyMakerTest, WhatIsSecretAndIgnoredTellsNobodyApartAndIsStillSecret) {
  KeyRules rules = Rules();
  rules.ignored_parameters = {"Authorization", "token"};
  const KeyMaker keys(rules);
  const auto one = Who(keys, "http://h/a?token=first-one", {{"Authorization", "Bearer abcdef"}});
  const auto other = Who(keys, "http://h/a?token=second-one", {});
  EXPECT_EQ(one.url, other.url);
  EXPECT_EQ(one.identity, other.identity);
  EXPECT_THAT(one.secrets, AllOf(Contains("first-one"), Contains("abcdef")));
}

TEST(KeyMakerTest, FindsSecretsThatAResponseRepeats) {
  const std::vector<std::string> secrets = {"s3cr/t \"x",
                                            "\xc3\xbc"
                                            "ber"};
  for (const std::string_view text :
       {"a s3cr/t \"x b", "s3cr/t%20%22x", "%73%33cr%2ft+%22x", "s3cr/t+\"x", R"(s3cr\/t \"x)",
        R"({"a":"s3cr/t \u0022x"})", R"(\u00fcber)", "%C3%BCber", "%c3%bcber"}) {
    EXPECT_TRUE(RepeatsSecret(text, secrets)) << text;
  }
  for (const std::string_view text : {"", "s3cr", "s3cr/tx", "%73%33cr%2", "\\u00f", "\\", "%"}) {
    EXPECT_FALSE(RepeatsSecret(text, secrets)) << text;
  }
  EXPECT_FALSE(RepeatsSecret("anything", {}));
  EXPECT_FALSE(RepeatsSecret("anything", {""}));
  std::string large(std::size_t{4} << 20, '%');
  EXPECT_FALSE(RepeatsSecret(large, secrets));
  EXPECT_TRUE(RepeatsSecret(large + "s3cr%2ft+\"x", secrets));
}

TEST(KeyMakerTest, SelectsByVaryAndByTheFieldsThatMustMatch) {
  KeyRules rules = Rules();
  rules.match_headers = {"Accept", "X-Trace"};
  const KeyMaker keys(rules);
  EXPECT_THAT(
      keys.SelectingFields(
          {"accept-language", "x-trace", "accept"},
          {{"Accept-Language", " de , en;q=1"}, {"accept-LANGUAGE", "fr"}, {"X-Trace", "1"}}),
      ElementsAre(Pair("accept", ""), Pair("accept-language", "de,en;q=1,fr")));
  EXPECT_THAT(keys.SelectingFields({}, {{"Accept", "\"a , b\" , c d"}}),
              ElementsAre(Pair("accept", "\"a , b\",c d")));
}

TEST(KeyMakerTest, TellsAnEmptyFieldFromNone) {
  const KeyMaker keys(Rules());
  EXPECT_NE(keys.SelectingFields({"accept"}, {{"Accept", ""}}),
            keys.SelectingFields({"accept"}, {}));
}

TEST(KeyMakerTest, HashesSecretFieldsThatSelect) {
  const KeyMaker keys(Rules());
  const auto of = [&](std::string_view cookie) {
    return keys.SelectingFields({"cookie"}, {{"Cookie", std::string(cookie)}}).front().second;
  };
  EXPECT_THAT(of("a=canary"), MatchesRegex("[0-9a-f]{64}"));
  EXPECT_NE(of("a=canary"), of("a=other"));
}

TEST(KeyMakerTest, VariantsDifferBySeriesNamesAndValues) {
  const KeyMaker keys(Rules());
  const std::set<std::string> once = {
      keys.Variant("p", "1", {{"a", "b"}}), keys.Variant("p", "2", {{"a", "b"}}),
      keys.Variant("p", "1", {{"a", "c"}}), keys.Variant("p", "1", {{"b", "a"}}),
      keys.Variant("p", "1", {{"ab", ""}}), keys.Variant("p", "1", {{"a", ""}, {"b", ""}}),
      keys.Variant("q", "1", {{"a", "b"}})};
  EXPECT_THAT(once, SizeIs(7));
}

TEST(KeyMakerTest, RedactsSecretAndIgnoredFieldsOfResponses) {
  const KeyMaker keys(Rules());
  EXPECT_EQ(keys.Redacted({{"ETag", "1"}, {"x-api-key", "canary"}, {"X-Trace", "2"}}),
            (Headers{{"ETag", "1"}, {"x-api-key", "REDACTED"}, {"X-Trace", "REDACTED"}}));
}

TEST(KeyMakerTest, RefusesWhatIsNoUrl) {
  const KeyMaker keys(Rules());
  EXPECT_THAT(keys.Identify("GET", "ftp://h/", {}, ""),
              coord::testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace coord::http::internal
