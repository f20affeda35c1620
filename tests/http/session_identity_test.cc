// Who asks: responses of one identity are never another's, and what makes no difference is shared.
#include <atomic>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/http/session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/support/status_matchers.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::StrCat;
using dev::Origin;
using ::testing::HasSubstr;
using ::testing::Not;

// One way to say who asks.
struct Way {
  std::string name;
  std::string header = {};  // of the request
  std::string query = {};   // a parameter's name
  bool in_url = false;      // user:password@
};

void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

class IdentityTest : public BlackboxTest, public ::testing::WithParamInterface<Way> {
 protected:
  // Asks as `who`; nobody in particular when that is empty.
  absl::StatusOr<Response> Get(const Session& session, const std::string& who,
                               std::string_view path = "/x") const {
    const Way& way = GetParam();
    std::string url = Url(path);
    RequestOptions options;
    if (!who.empty()) {
      if (way.in_url) url = StrCat("http://", who, ":pw@", url.substr(7));
      if (!way.query.empty()) url += StrCat("?", way.query, "=", who);
      if (!way.header.empty()) options.headers.Add(way.header, who);
    }
    return session.Get(url, options);
  }

  // Says how many times it was asked.
  void Count(std::string path = "/x") {
    origin_->On(std::move(path), [n = std::make_shared<std::atomic<int>>(0)](
                                     const Origin::Request&) { return Fresh(StrCat(++*n)); });
  }
};

TEST_P(IdentityTest, HasACacheOfItsOwn) {
  Count();
  const Session session = Open();
  for (int round = 0; round < 2; ++round) {
    int expected = 0;
    for (const char* const who : {"alice", "bob", ""}) {
      ASSERT_OK_AND_ASSIGN(const Response response, Get(session, who));
      EXPECT_EQ(response.body(), StrCat(++expected)) << who;
      EXPECT_EQ(response.from_cache(), round == 1) << who;
    }
  }
  EXPECT_EQ(origin_->requests("/x"), 3);
}

TEST_P(IdentityTest, IsNotInUrlOrKey) {
  Count();
  const Session session = Open();
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const Response response, Get(session, "alice-in-secret"));
    EXPECT_THAT(response.key(), Not(HasSubstr("alice")));
    if (response.from_cache()) {
      EXPECT_THAT(response.url(), Not(HasSubstr("alice")));
    }
    EXPECT_THAT(response.ToJson(), ::testing::AnyOf(Not(HasSubstr("alice")),
                                                    HasSubstr(Url("/x?"))));  // as it was sent
    EXPECT_THAT(response.cache_status(), Not(HasSubstr("alice")));
  }
}

TEST_P(IdentityTest, MayBeIgnored) {
  const Way& way = GetParam();
  Count();
  SessionOptions options = Options();
  options.ignored_parameters = {way.in_url ? "Authorization" : StrCat(way.header, way.query)};
  const Session session = Open(std::move(options));
  ASSERT_OK(Get(session, "alice"));
  ASSERT_OK_AND_ASSIGN(const Response response, Get(session, "bob"));
  EXPECT_TRUE(response.from_cache());
}

TEST_P(IdentityTest, MayHaveAKeyedHash) {
  Count();
  std::vector<std::string> keys;
  for (const char* const secret : {"", "one", "two"}) {
    SessionOptions options = Options();
    options.identity_secret = secret;
    const Session session = Open(std::move(options));
    ASSERT_OK_AND_ASSIGN(const Response response, Get(session, "alice"));
    keys.push_back(response.key());
  }
  EXPECT_NE(keys[0], keys[1]);
  EXPECT_NE(keys[1], keys[2]);
}

INSTANTIATE_TEST_SUITE_P(Ways, IdentityTest,
                         ::testing::Values(Way{.name = "Authorization", .header = "Authorization"},
                                           Way{.name = "Cookie", .header = "cookie"},
                                           Way{.name = "ApiKeyField", .header = "X-Api-Key"},
                                           Way{.name = "AuthTokenField", .header = "X-Auth-Token"},
                                           Way{.name = "AccessToken", .query = "access_token"},
                                           Way{.name = "ApiKey", .query = "api_key"},
                                           Way{.name = "Apikey", .query = "apikey"},
                                           Way{.name = "Token", .query = "token"},
                                           Way{.name = "CredentialsInTheUrl", .in_url = true}),
                         [](const auto& one) { return one.param.name; });

class HttpParametersTest : public BlackboxTest {};

TEST_F(HttpParametersTest, CredentialsInTheUrlAreSentAsBasic) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(StrCat("http://user:p%40ss@", Url("/x").substr(7))));
  EXPECT_EQ(origin_->log("/x").back().header("Authorization"), "Basic dXNlcjpwQHNz");
}

TEST_F(HttpParametersTest, TwoWaysToSayWhoAsksAreBothRegarded) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  const auto get = [&](Headers headers) {
    absl::StatusOr<Response> response = session.Get(Url("/x"), {.headers = std::move(headers)});
    return response.ok() && response->from_cache();
  };
  EXPECT_FALSE(get({{"Authorization", "a"}, {"Cookie", "b"}}));
  EXPECT_FALSE(get({{"Authorization", "a"}}));
  EXPECT_FALSE(get({{"Cookie", "b"}}));
  EXPECT_FALSE(get({{"Authorization", "b"}, {"Cookie", "a"}}));
  EXPECT_FALSE(get({{"Authorization", "ab"}, {"Cookie", ""}}));
  EXPECT_TRUE(get({{"Cookie", "b"}, {"Authorization", "a"}}));
}

TEST_F(HttpParametersTest, AnAnswerToOneCallerIsNeverHandedToAnotherThoughTheOriginSaysPublic) {
  origin_->On("/x", [](const Origin::Request& request) {
    return Answer(200, {{"Cache-Control", "public, max-age=60"}},
                  StrCat("for ", request.header("Authorization").substr(0, 1)));
  });
  const Session session = Open();
  for (const char* const who : {"alice", "bob", "alice", "bob"}) {
    ASSERT_OK_AND_ASSIGN(const Response response,
                         session.Get(Url("/x"), {.headers = {{"Authorization", who}}}));
    EXPECT_EQ(response.body(), StrCat("for ", std::string(1, who[0])));
  }
  EXPECT_EQ(origin_->requests("/x"), 2);
}

TEST_F(HttpParametersTest, CredentialsOfTheSessionAreAnIdentityToo) {
  origin_->On("/x", [](const Origin::Request& request) {
    return Fresh(request.header("Authorization").substr(0, 1));
  });
  SessionOptions options = Options();
  options.transport.headers = {{"Authorization", "session"}};
  const Session session = Open(std::move(options));
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response other,
                       session.Get(Url("/x"), {.headers = {{"Authorization", "alice"}}}));
  EXPECT_EQ(other.body(), "a");
  ASSERT_OK_AND_ASSIGN(const Response same, session.Get(Url("/x")));
  EXPECT_EQ(same.body(), "s");
  EXPECT_TRUE(same.from_cache());
}

TEST_F(HttpParametersTest, IgnoredParametersMakeNoDifferenceAndAreSent) {
  origin_->On("/x", Fresh("one"));
  SessionOptions options = Options();
  options.ignored_parameters = {"utm", "X-Trace"};
  options.match_headers = {"X-Trace", "X-Kind"};
  const Session session = Open(std::move(options));
  ASSERT_OK(session.Get(Url("/x?q=1&utm=a"), {.headers = {{"X-Trace", "1"}}}));
  EXPECT_EQ(origin_->log("/x").back().target, "/x?q=1&utm=a");
  EXPECT_EQ(origin_->log("/x").back().header("X-Trace"), "1");
  ASSERT_OK_AND_ASSIGN(const Response same,
                       session.Get(Url("/x?q=1&utm=b"), {.headers = {{"X-Trace", "2"}}}));
  EXPECT_TRUE(same.from_cache());
  EXPECT_THAT(same.url(), Not(HasSubstr("utm=a")));
  EXPECT_THAT(same.url(), Not(HasSubstr("utm=b")));
  ASSERT_OK_AND_ASSIGN(const Response other, session.Get(Url("/x?q=2&utm=a")));
  EXPECT_FALSE(other.from_cache());
}

TEST_F(HttpParametersTest, MatchedFieldsTellResponsesApartWithoutVary) {
  origin_->On("/x", [](const Origin::Request& request) {
    return Fresh(request.header("Accept-Language"));
  });
  SessionOptions options = Options();
  options.match_headers = {"accept-language"};
  const Session session = Open(std::move(options));
  for (int round = 0; round < 2; ++round) {
    for (const char* const language : {"de", "en"}) {
      ASSERT_OK_AND_ASSIGN(const Response response,
                           session.Get(Url("/x"), {.headers = {{"Accept-Language", language}}}));
      EXPECT_EQ(response.body(), language);
      EXPECT_EQ(response.from_cache(), round == 1);
    }
  }
}

TEST_F(HttpParametersTest, FieldsThatNobodyMatchesMakeNoDifference) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/x"), {.headers = {{"Accept-Language", "de"}}}));
  ASSERT_OK_AND_ASSIGN(const Response response,
                       session.Get(Url("/x"), {.headers = {{"Accept-Language", "en"}}}));
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpParametersTest, NormalisedUrlsHaveNoSecrets) {
  SessionOptions options = Options();
  options.ignored_parameters = {"session"};
  const Session session = Open(std::move(options));
  ASSERT_OK_AND_ASSIGN(
      const std::string url,
      session.NormalizedUrl("http://user:hush1@example.com/a?access_token=hush2&q=kept&API_KEY="
                            "hush3&token=hush4&session=hush5&t%6Fken=hush6#hush7"));
  EXPECT_THAT(url, Not(HasSubstr("hush")));
  EXPECT_THAT(url, HasSubstr("q=kept"));
}

}  // namespace
}  // namespace coord::http
