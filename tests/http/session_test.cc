// What a session promises beyond RFC 9111: methods, options, bad input, sinks, redirects, scopes.
#include "cache/http/session.h"

#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/memory_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/http/blackbox_fixture.h"
#include "tests/support/process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::ForkAndRun;
using ::coord::testing::IsOk;
using ::coord::testing::StatusIs;

using dev::Origin;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

class HttpSessionTest : public BlackboxTest {};

// ---- Requests ----

TEST_F(HttpSessionTest, SendsEachMethodWithItsBody) {
  origin_->On("/x", Answer(200, {}, "done"));
  const Session session = Open();
  EXPECT_OK(session.Get(Url("/x")));
  EXPECT_OK(session.Head(Url("/x")));
  EXPECT_OK(session.Options(Url("/x")));
  EXPECT_OK(session.Post(Url("/x"), "posted"));
  EXPECT_OK(session.Put(Url("/x"), "put"));
  EXPECT_OK(session.Patch(Url("/x"), "patched"));
  EXPECT_OK(session.Delete(Url("/x")));
  EXPECT_OK(session.Send("POST", Url("/x"), {.body = "sent"}));
  std::vector<std::pair<std::string, std::string>> seen;
  for (const Origin::Request& request : origin_->log("/x")) {
    seen.emplace_back(request.method, request.body);
  }
  EXPECT_THAT(seen, ::testing::ElementsAre(std::pair("GET", ""), std::pair("HEAD", ""),
                                           std::pair("OPTIONS", ""), std::pair("POST", "posted"),
                                           std::pair("PUT", "put"), std::pair("PATCH", "patched"),
                                           std::pair("DELETE", ""), std::pair("POST", "sent")));
}

TEST_F(HttpSessionTest, AnAnswerOfAnyStatusIsNoError) {
  for (const int status : {200, 204, 400, 401, 404, 418, 500, 503}) {
    origin_->On("/x", Answer(status, {}, status == 204 ? "" : "body"));
    ASSERT_OK_AND_ASSIGN(const Response response, Open().Get(Url("/x")));
    EXPECT_EQ(response.status(), status);
    EXPECT_EQ(response.ok(), status < 300);
  }
}

TEST_F(HttpSessionTest, AResponseSaysWhereItCameFrom) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(Url("/x?q=1")));
  EXPECT_EQ(first.url(), Url("/x?q=1"));
  EXPECT_EQ(first.method(), "GET");
  EXPECT_FALSE(first.from_cache());
  EXPECT_TRUE(first.stored());
  EXPECT_NE(first.key(), "");
  EXPECT_THAT(first.history(), IsEmpty());
  EXPECT_GE(first.elapsed(), absl::ZeroDuration());
  Advance(10);
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(Url("/x?q=1")));
  EXPECT_TRUE(second.from_cache());
  EXPECT_EQ(second.key(), first.key());
  EXPECT_EQ(second.created(), absl::FromUnixSeconds(now_->load() - 10));
  EXPECT_EQ(second.expires(), absl::FromUnixSeconds(now_->load() + 50));
  EXPECT_FALSE(second.is_expired());
  EXPECT_EQ(second.age(), absl::Seconds(10));
  EXPECT_THAT(second.cache_status(), HasSubstr("hit"));
  Advance(51);
  EXPECT_EQ(second.body(), "one");
}

TEST_F(HttpSessionTest, ADefaultResponseIsEmpty) {
  const Response response;
  EXPECT_EQ(response.status(), 0);
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(response.body(), "");
  EXPECT_EQ(response.header("ETag"), "");
  EXPECT_EQ(response.key(), "");
  EXPECT_THAT(response.history(), IsEmpty());
}

TEST_F(HttpSessionTest, ABodyLivesAsLongAsACopy) {
  origin_->On("/x", Fresh(std::string(100'000, 'b')));
  std::string_view body;
  Response copy;
  {
    const Session session = Open();
    ASSERT_OK(session.Get(Url("/x")));
    ASSERT_OK_AND_ASSIGN(const Response cached, session.Get(Url("/x")));
    copy = cached;
    body = cached.body();
  }
  EXPECT_EQ(body, std::string(100'000, 'b'));
}

TEST_F(HttpSessionTest, DefaultFieldsAreSentWhereTheRequestNamesNoneOfItsOwn) {
  origin_->On("/x", Answer(200, {}, "done"));
  SessionOptions options = Options();
  options.transport.headers = {{"X-Default", "session"}, {"X-Both", "session"}};
  options.transport.user_agent = "tester/1";
  const Session session = Open(std::move(options));
  ASSERT_OK(session.Get(Url("/x"), {.headers = {{"x-both", "request"}}}));
  const Origin::Request request = origin_->log("/x").back();
  EXPECT_EQ(request.header("X-Default"), "session");
  EXPECT_EQ(request.header("X-Both"), "request");
  EXPECT_EQ(request.header("User-Agent"), "tester/1");
}

TEST_F(HttpSessionTest, TheUserAgentIsTheLibrarysByDefault) {
  origin_->On("/x", Answer(200, {}, "done"));
  ASSERT_OK(Open().Get(Url("/x")));
  EXPECT_THAT(origin_->log("/x").back().header("User-Agent"), ::testing::StartsWith("coord/"));
}

TEST_F(HttpSessionTest, WithoutDecompressionNobodyAsksForIt) {
  origin_->On("/x", Answer(200, {}, "done"));
  ASSERT_OK(Open().Get(Url("/x")));
  EXPECT_THAT(origin_->log("/x").back().header("Accept-Encoding"), HasSubstr("gzip"));
  SessionOptions options = Options();
  options.transport.decompress = false;
  ASSERT_OK(Open(std::move(options)).Get(Url("/x")));
  EXPECT_EQ(origin_->log("/x").back().header("Accept-Encoding"), "");
}

TEST_F(HttpSessionTest, WhoNamesAnEncodingGetsWhatComesAsItComes) {
  const std::string bytes("\x1f\x8b not really gzip", 18);
  origin_->On("/x",
              Answer(200, {{"Cache-Control", "max-age=60"}, {"Content-Encoding", "gzip"}}, bytes));
  const Session session = Open();
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response,
                         session.Get(Url("/x"), {.headers = {{"Accept-Encoding", "gzip"}}}));
    EXPECT_EQ(response.body(), bytes);
    EXPECT_EQ(response.from_cache(), i == 1);
  }
}

TEST_F(HttpSessionTest, ChunkedBodiesAreStoredWhole) {
  origin_->On("/x", {.headers = {{"Cache-Control", "max-age=60"}}, .chunked_bytes = 300'000});
  const Session session = Open();
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(Url("/x")));
  EXPECT_EQ(first.body().size(), 300'000u);
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(Url("/x")));
  EXPECT_TRUE(second.from_cache());
  EXPECT_EQ(second.body(), first.body());
}

// ---- Bad input ----

TEST_F(HttpSessionTest, ABadUrlIsRefusedBeforeAnythingIsSent) {
  const Session session = Open();
  const std::string host = Url("").substr(7);
  for (const std::string& url : std::vector<std::string>{"",
                                                         "/x",
                                                         "//" + host + "/x",
                                                         host + "/x",
                                                         "http:",
                                                         "http://",
                                                         "http:///x",
                                                         "ftp://" + host + "/x",
                                                         "file:///etc/passwd",
                                                         "gopher://" + host + "/x",
                                                         Url("/a b"),
                                                         " " + Url("/x"),
                                                         Url("/x") + " ",
                                                         Url("/a\tb"),
                                                         Url("/a\r\nX: y"),
                                                         Url("/a\x01"),
                                                         Url("/a\x7f"),
                                                         Url(std::string_view("/a\0b", 4)),
                                                         "http://127.0.0.1:99999/x",
                                                         "http://127.0.0.1:-1/x",
                                                         "http://127.0.0.1:http/x",
                                                         "http://[::1/x",
                                                         "http://a b/x"}) {
    EXPECT_THAT(session.Get(url), StatusIs(kInvalid)) << url;
    EXPECT_THAT(session.Post(url, "body"), StatusIs(kInvalid)) << url;
    EXPECT_THAT(session.NormalizedUrl(url), StatusIs(kInvalid)) << url;
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(HttpSessionTest, ABadMethodIsRefusedBeforeAnythingIsSent) {
  const Session session = Open();
  for (const std::string_view method :
       {std::string_view(""), std::string_view("G ET"), std::string_view(" GET"),
        std::string_view("GET\r\nX: y"), std::string_view("GET\0", 4), std::string_view("G(T"),
        std::string_view("G\xc3\x84T"), std::string_view("CONNECT"), std::string_view("TRACE")}) {
    EXPECT_THAT(session.Send(method, Url("/x")), StatusIs(kInvalid)) << method;
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(HttpSessionTest, ABadHeaderFieldIsRefusedAndItsValueNotShown) {
  const Session session = Open();
  for (const auto& [name, value] : std::vector<Headers::Field>{{"X-A", "hush\r\nX-B: 1"},
                                                               {"X-A", "hush\n"},
                                                               {"X-A", "hush\r"},
                                                               {"X-A", std::string("hush\0", 5)},
                                                               {"X-A", "hush\x7f"},
                                                               {"", "hush"},
                                                               {"X A", "hush"},
                                                               {"X-A:", "hush"},
                                                               {"X-A\r\n", "hush"}}) {
    const auto response = session.Get(Url("/x"), {.headers = {{name, value}}});
    EXPECT_THAT(response, StatusIs(kInvalid, Not(HasSubstr("hush"))));
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(HttpSessionTest, AnExpiryThatBreaksTheRulesIsRefused) {
  const Session session = Open();
  for (const Expiry& expire : {Expiry::After(absl::Seconds(-1)), Expiry(-absl::InfiniteDuration()),
                               Expiry::After(absl::Hours(24 * 3700))}) {
    EXPECT_THAT(expire.Check(), StatusIs(kInvalid));
    EXPECT_THAT(session.Get(Url("/x"), {.expire = expire}), StatusIs(kInvalid));
    SessionOptions whole = Options();
    whole.expire_after = expire;
    EXPECT_THAT(Session::Open(std::move(whole)), StatusIs(kInvalid));
    SessionOptions one = Options();
    one.urls_expire_after = {{UrlPattern("example.com"), expire}};
    EXPECT_THAT(Session::Open(std::move(one)), StatusIs(kInvalid));
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(HttpSessionTest, ATimeoutThatIsNoneIsRefused) {
  const Session session = Open();
  for (const absl::Duration timeout : {absl::ZeroDuration(), absl::Seconds(-1), absl::Hours(25)}) {
    EXPECT_THAT(session.Get(Url("/x"), {.timeout = timeout}), StatusIs(kInvalid));
    SessionOptions options = Options();
    options.transport.timeout = timeout;
    EXPECT_THAT(Session::Open(std::move(options)), StatusIs(kInvalid));
  }
  EXPECT_EQ(origin_->requests(), 0);
}

TEST_F(HttpSessionTest, BadOptionsAreRefused) {
  for (const UrlPattern& pattern : {UrlPattern::Regex("(unclosed"), UrlPattern::Regex("[z-a]"),
                                    UrlPattern::Regex(std::string(1025, 'a'))}) {
    EXPECT_THAT(pattern.status(), StatusIs(kInvalid));
    EXPECT_FALSE(pattern.Matches("http://example.com/"));
    SessionOptions options = Options();
    options.urls_expire_after = {{pattern, Expiry::Never()}};
    EXPECT_THAT(Session::Open(std::move(options)), StatusIs(kInvalid));
  }
  for (const std::string& store :
       {std::string(), std::string("a b"), std::string("a:b"), std::string("a*"),
        std::string("a{b}"), std::string("\xc3\xa4"), std::string(65, 'a')}) {
    SessionOptions options = Options();
    options.store = store;
    EXPECT_THAT(Session::Open(std::move(options)), StatusIs(kInvalid)) << store;
  }
  SessionOptions fields = Options();
  fields.transport.headers = {{"X-A", "1\r\nX-B: 2"}};
  EXPECT_THAT(Session::Open(std::move(fields)), StatusIs(kInvalid));
}

TEST_F(HttpSessionTest, TheLongestStoreNameIsTaken) {
  SessionOptions options = Options();
  options.store = StrCat("aZ09_-.", std::string(57, 'a'));
  EXPECT_OK(Session::Open(std::move(options)));
}

// ---- Redirects ----

TEST_F(HttpSessionTest, AChainOfRedirectsIsFollowedAndRemembered) {
  origin_->On("/a", RedirectTo("/b?x=1", 301));
  origin_->On("/b", RedirectTo(Url("/dir/c"), 302));
  origin_->On("/dir/c", RedirectTo("d", 307));
  origin_->On("/dir/d", Answer(200, {}, "there"));
  ASSERT_OK_AND_ASSIGN(const Response response, Open().Get(Url("/a")));
  EXPECT_EQ(response.body(), "there");
  EXPECT_EQ(response.url(), Url("/dir/d"));
  ASSERT_THAT(response.history(), SizeIs(3));
  EXPECT_EQ(response.history()[0].status(), 301);
  EXPECT_EQ(response.history()[0].url(), Url("/a"));
  EXPECT_EQ(response.history()[1].status(), 302);
  EXPECT_EQ(response.history()[1].url(), Url("/b?x=1"));
  EXPECT_EQ(response.history()[2].status(), 307);
  for (const Response& step : response.history()) EXPECT_EQ(step.body(), "");
  EXPECT_EQ(origin_->log("/b").back().target, "/b?x=1");
}

TEST_F(HttpSessionTest, RelativeLocationsAreResolved) {
  const std::string host = Url("").substr(5);  // "//host:port"
  for (const auto& [location, target] :
       std::vector<std::pair<std::string, std::string>>{{"x", "/one/x"},
                                                        {"./x", "/one/x"},
                                                        {"../x", "/x"},
                                                        {"../../../x", "/x"},
                                                        {"/x/y", "/x/y"},
                                                        {"?q=2", "/one/start?q=2"},
                                                        {host + "/x", "/x"}}) {
    origin_->On("/one/start", [where = location](const Origin::Request& request) {
      return request.target.find("q=2") != std::string::npos ? Answer(200, {}, "there")
                                                             : RedirectTo(where);
    });
    origin_->On("/x", Answer(200, {}, "there"));
    origin_->On("/one/x", Answer(200, {}, "there"));
    origin_->On("/x/y", Answer(200, {}, "there"));
    ASSERT_OK_AND_ASSIGN(const Response response, Open().Get(Url("/one/start?q=1")));
    EXPECT_EQ(response.body(), "there") << location;
    EXPECT_EQ(response.url(), Url(target)) << location;
  }
}

TEST_F(HttpSessionTest, ALoopOfRedirectsEnds) {
  origin_->On("/a", RedirectTo("/b"));
  origin_->On("/b", RedirectTo("/a"));
  origin_->On("/self", RedirectTo("/self"));
  const Session session = Open();
  EXPECT_THAT(session.Get(Url("/a")), StatusIs(kPrecondition));
  EXPECT_THAT(session.Get(Url("/self")), StatusIs(kPrecondition));
  EXPECT_LE(origin_->requests(), 42);
}

TEST_F(HttpSessionTest, ACachedLoopOfRedirectsEnds) {
  origin_->On("/a", Answer(301, {{"Location", "/b"}, {"Cache-Control", "max-age=60"}}, ""));
  origin_->On("/b", Answer(301, {{"Location", "/a"}, {"Cache-Control", "max-age=60"}}, ""));
  const Session session = Open();
  EXPECT_THAT(session.Get(Url("/a")), StatusIs(kPrecondition));
  EXPECT_THAT(session.Get(Url("/a")), StatusIs(kPrecondition));
  EXPECT_LE(origin_->requests(), 21);
}

TEST_F(HttpSessionTest, RedirectsAreFollowedAsOftenAsIsAllowed) {
  origin_->On("/3", RedirectTo("/2"));
  origin_->On("/2", RedirectTo("/1"));
  origin_->On("/1", RedirectTo("/0"));
  origin_->On("/0", Answer(200, {}, "there"));
  SessionOptions options = Options();
  options.transport.max_redirects = 2;
  const Session session = Open(std::move(options));
  EXPECT_OK(session.Get(Url("/2")));
  EXPECT_THAT(session.Get(Url("/3")), StatusIs(kPrecondition));
}

TEST_F(HttpSessionTest, RedirectsAreNotFollowedWhereNobodyWantsIt) {
  origin_->On("/a", RedirectTo("/b"));
  origin_->On("/b", Answer(200, {}, "there"));
  SessionOptions options = Options();
  options.transport.follow_redirects = false;
  const Session session = Open(std::move(options));
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(Url("/a")));
  EXPECT_EQ(first.status(), 302);
  EXPECT_EQ(first.header("Location"), "/b");
  EXPECT_EQ(origin_->requests("/b"), 0);
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(Url("/a"), {.follow_redirects = true}));
  EXPECT_EQ(second.status(), 200);
}

TEST_F(HttpSessionTest, ARedirectWithoutALocationIsTheAnswer) {
  origin_->On("/a", Answer(302, {}, "where?"));
  ASSERT_OK_AND_ASSIGN(const Response response, Open().Get(Url("/a")));
  EXPECT_EQ(response.status(), 302);
  EXPECT_EQ(response.body(), "where?");
}

TEST_F(HttpSessionTest, NoRedirectLeadsToAFile) {
  const coord::testing::TempDir directory;
  for (const std::string& where :
       {StrCat("file://", directory.path(), "/x"), std::string("file:///etc/passwd"),
        std::string("gopher://127.0.0.1:1/")}) {
    origin_->On("/a", RedirectTo(where));
    const absl::StatusOr<Response> response = Open().Get(Url("/a"));
    if (response.ok()) {
      EXPECT_EQ(response->status(), 302);
    }
  }
}

TEST_F(HttpSessionTest, SeeOtherTurnsPostIntoGetWithoutABody) {
  origin_->On("/a", RedirectTo("/b", 303));
  origin_->On("/b", Answer(200, {}, "there"));
  ASSERT_OK(Open().Post(Url("/a"), "posted", {.headers = {{"Content-Type", "text/plain"}}}));
  const Origin::Request request = origin_->log("/b").back();
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.body, "");
  EXPECT_EQ(request.header("Content-Type"), "");
}

TEST_F(HttpSessionTest, TemporaryAndPermanentRedirectsKeepMethodAndBody) {
  for (const int status : {307, 308}) {
    origin_->On("/a", RedirectTo("/b", status));
    origin_->On("/b", Answer(200, {}, "there"));
    ASSERT_OK(Open().Put(Url("/a"), "sent"));
    EXPECT_EQ(origin_->log("/b").back().method, "PUT") << status;
    EXPECT_EQ(origin_->log("/b").back().body, "sent") << status;
  }
}

TEST_F(HttpSessionTest, CredentialsAreNotSentToAnotherOriginAfterARedirect) {
  const std::unique_ptr<Origin> other = OrEnd(Origin::Start());
  other->On("/b", Answer(200, {}, "there"));
  origin_->On("/a", RedirectTo(other->Url("/b")));
  SessionOptions options = Options();
  options.transport.headers = {{"X-API-Key", "of the session"}};
  const Session session = Open(std::move(options));
  ASSERT_OK(session.Get(Url("/a"), {.headers = {{"Authorization", "Bearer secret"},
                                                {"Cookie", "sid=secret"},
                                                {"X-Auth-Token", "secret"},
                                                {"X-Harmless", "1"}}}));
  EXPECT_EQ(origin_->log("/a").back().header("Authorization"), "Bearer secret");
  EXPECT_EQ(origin_->log("/a").back().header("X-API-Key"), "of the session");
  const Origin::Request request = other->log("/b").back();
  for (const std::string_view name : {"Authorization", "Cookie", "X-API-Key", "X-Auth-Token"}) {
    EXPECT_EQ(request.header(name), "") << name;
  }
}

TEST_F(HttpSessionTest, CredentialsOfTheUrlAreNotSentToAnotherOrigin) {
  const std::unique_ptr<Origin> other = OrEnd(Origin::Start());
  other->On("/b", Answer(200, {}, "there"));
  origin_->On("/a", RedirectTo(other->Url("/b")));
  ASSERT_OK(Open().Get(StrCat("http://user:secret@", Url("/a").substr(7))));
  EXPECT_THAT(origin_->log("/a").back().header("Authorization"), ::testing::StartsWith("Basic "));
  EXPECT_EQ(other->log("/b").back().header("Authorization"), "");
}

TEST_F(HttpSessionTest, CredentialsAreSentToTheSameOriginAfterARedirect) {
  origin_->On("/a", RedirectTo("/b"));
  origin_->On("/b", Answer(200, {}, "there"));
  ASSERT_OK(Open().Get(Url("/a"), {.headers = {{"Authorization", "Bearer secret"}}}));
  EXPECT_EQ(origin_->log("/b").back().header("Authorization"), "Bearer secret");
}

// ---- Sinks ----

TEST_F(HttpSessionTest, ASinkGetsTheBodyFromTheOriginAndFromTheCache) {
  const std::string body(200'000, 's');
  origin_->On("/x", Fresh(body));
  const Session session = Open();
  for (int i = 0; i < 2; ++i) {
    std::string got;
    ASSERT_OK_AND_ASSIGN(const Response response,
                         session.Get(Url("/x"), {.sink = [&got](std::string_view piece) {
                                       got += piece;
                                       return absl::OkStatus();
                                     }}));
    EXPECT_EQ(response.from_cache(), i == 1);
    EXPECT_EQ(response.body(), "");
    EXPECT_EQ(got, body);
  }
  EXPECT_EQ(origin_->requests("/x"), 1);
}

TEST_F(HttpSessionTest, ASinksErrorEndsTheCallAndNothingIsStored) {
  origin_->On("/x", Fresh(std::string(500'000, 's')));
  const Session session = Open();
  EXPECT_THAT(
      session.Get(
          Url("/x"),
          {.sink = [](std::string_view) { return absl::DataLossError("the disk is full"); }}),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("the disk is full")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_FALSE(response.from_cache());
  EXPECT_EQ(response.body().size(), 500'000u);
}

TEST_F(HttpSessionTest, ASinksErrorEndsACachedCallToo) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/x")));
  EXPECT_THAT(
      session.Get(
          Url("/x"),
          {.sink = [](std::string_view) { return absl::DataLossError("the disk is full"); }}),
      StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpSessionTest, ASinkThatThrowsEndsTheCall) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  EXPECT_THAT(session.Get(Url("/x"), {.sink = [](std::string_view) -> absl::Status {
                            throw std::runtime_error("no");
                          }}),
              Not(IsOk()));
}

TEST_F(HttpSessionTest, ASinkDoesNotGetTheBodiesOfRedirects) {
  origin_->On("/a", RedirectTo("/b"));
  origin_->On("/b", Answer(200, {}, "there"));
  std::string got;
  ASSERT_OK(Open().Get(Url("/a"), {.sink = [&got](std::string_view piece) {
                         got += piece;
                         return absl::OkStatus();
                       }}));
  EXPECT_EQ(got, "there");
}

TEST_F(HttpSessionTest, ASinkGetsMoreThanWouldBeKeptInMemory) {
  SessionOptions options = Options();
  options.transport.max_body_bytes = 100'000;
  options.max_stored_body = 50'000;
  origin_->On("/x", {.headers = {{"Cache-Control", "max-age=60"}}, .chunked_bytes = 1'000'000});
  const Session session = Open(std::move(options));
  std::size_t got = 0;
  ASSERT_OK_AND_ASSIGN(const Response response,
                       session.Get(Url("/x"), {.sink = [&got](std::string_view piece) {
                                     got += piece.size();
                                     return absl::OkStatus();
                                   }}));
  EXPECT_EQ(got, 1'000'000u);
  EXPECT_FALSE(response.stored());
  EXPECT_THAT(session.Get(Url("/x")), StatusIs(absl::StatusCode::kResourceExhausted));
}

// ---- What is stored ----

TEST_F(HttpSessionTest, LargeBodiesArePassedOnAndNotStored) {
  SessionOptions options = Options();
  options.max_stored_body = 100;
  const Session session = Open(std::move(options));
  origin_->On("/small", Fresh(std::string(100, 'x')));
  origin_->On("/large", Fresh(std::string(101, 'x')));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response small, session.Get(Url("/small")));
    ASSERT_OK_AND_ASSIGN(const Response large, session.Get(Url("/large")));
    EXPECT_TRUE(small.stored());
    EXPECT_FALSE(large.stored());
    EXPECT_EQ(large.body().size(), 101u);
  }
  EXPECT_EQ(origin_->requests("/small"), 1);
  EXPECT_EQ(origin_->requests("/large"), 2);
}

TEST_F(HttpSessionTest, HeadersBeyondTheBoundAreRefused) {
  SessionOptions options = Options();
  options.transport.max_header_bytes = 10'000;
  origin_->On("/x", Answer(200, {{"X-Long", std::string(20'000, 'x')}}, "one"));
  EXPECT_THAT(Open(std::move(options)).Get(Url("/x")),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(HttpSessionTest, TheFilterDecidesWhatIsStored) {
  SessionOptions options = Options();
  options.filter = [](const Response& response) { return response.body() != "secret"; };
  const Session session = Open(std::move(options));
  origin_->On("/open", Fresh("open"));
  origin_->On("/secret", Fresh("secret"));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response open, session.Get(Url("/open")));
    ASSERT_OK_AND_ASSIGN(const Response secret, session.Get(Url("/secret")));
    EXPECT_EQ(open.from_cache(), i == 1);
    EXPECT_FALSE(secret.from_cache());
    EXPECT_FALSE(secret.stored());
    EXPECT_EQ(secret.body(), "secret");
  }
}

TEST_F(HttpSessionTest, AFilterThatThrowsStoresNothing) {
  SessionOptions options = Options();
  options.filter = [](const Response&) -> bool { throw std::runtime_error("no"); };
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
    EXPECT_EQ(response.body(), "one");
    EXPECT_FALSE(response.stored());
  }
  EXPECT_EQ(origin_->requests("/x"), 2);
}

TEST_F(HttpSessionTest, OnlyTheStatusesThatAreNamedAreStored) {
  SessionOptions options = Options();
  options.statuses = {404};
  const Session session = Open(std::move(options));
  origin_->On("/found", Fresh("one"));
  origin_->On("/gone", Answer(404, {{"Cache-Control", "max-age=60"}}, "gone"));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response found, session.Get(Url("/found")));
    ASSERT_OK_AND_ASSIGN(const Response gone, session.Get(Url("/gone")));
    EXPECT_FALSE(found.stored());
    EXPECT_EQ(gone.from_cache(), i == 1);
  }
}

TEST_F(HttpSessionTest, MethodsThatAreNotNamedAreNotStored) {
  SessionOptions options = Options();
  options.methods = {"HEAD"};
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh(""));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response get, session.Get(Url("/x")));
    EXPECT_FALSE(get.from_cache());
    ASSERT_OK_AND_ASSIGN(const Response head, session.Head(Url("/x")));
    EXPECT_EQ(head.from_cache(), i == 1);
  }
}

TEST_F(HttpSessionTest, PostsAreStoredByTheirBodyWhereTheSessionSaysSo) {
  SessionOptions options = Options();
  options.methods = {"GET", "POST"};
  const Session session = Open(std::move(options));
  origin_->On("/x", [](const Origin::Request& request) { return Fresh("to " + request.body); });
  ASSERT_OK(session.Post(Url("/x"), "a"));
  ASSERT_OK_AND_ASSIGN(const Response other, session.Post(Url("/x"), "b"));
  EXPECT_EQ(other.body(), "to b");
  EXPECT_FALSE(other.from_cache());
  ASSERT_OK_AND_ASSIGN(const Response same, session.Post(Url("/x"), "b"));
  EXPECT_TRUE(same.from_cache());
  EXPECT_EQ(same.body(), "to b");
}

TEST_F(HttpSessionTest, PostsThatSayNothingOfTimeAreNotStored) {
  SessionOptions options = Options();
  options.methods = {"GET", "POST"};
  const Session session = Open(std::move(options));
  origin_->On("/x", Answer(200, {{"Last-Modified", "Tue, 30 Dec 2014 10:00:00 GMT"}}, "one"));
  ASSERT_OK(session.Post(Url("/x"), "a"));
  ASSERT_OK_AND_ASSIGN(const Response second, session.Post(Url("/x"), "a"));
  EXPECT_FALSE(second.from_cache());
  ASSERT_OK(session.Post(Url("/x"), "a", {.expire = absl::Minutes(1)}));
  ASSERT_OK_AND_ASSIGN(const Response fourth, session.Post(Url("/x"), "a"));
  EXPECT_TRUE(fourth.from_cache());
}

TEST_F(HttpSessionTest, IgnoredFieldsOfABodyMakeNoDifference) {
  SessionOptions options = Options();
  options.methods = {"GET", "POST"};
  options.ignored_parameters = {"nonce"};
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  const RequestOptions form = {.headers = {{"Content-Type", "application/x-www-form-urlencoded"}}};
  const RequestOptions json = {.headers = {{"Content-Type", "application/json"}}};
  ASSERT_OK(session.Post(Url("/x"), "q=1&nonce=1", form));
  ASSERT_OK_AND_ASSIGN(const Response form_same, session.Post(Url("/x"), "q=1&nonce=2", form));
  EXPECT_TRUE(form_same.from_cache());
  ASSERT_OK_AND_ASSIGN(const Response form_other, session.Post(Url("/x"), "q=2&nonce=1", form));
  EXPECT_FALSE(form_other.from_cache());
  ASSERT_OK(session.Post(Url("/x"), R"({"q":1,"nonce":1})", json));
  ASSERT_OK_AND_ASSIGN(const Response json_same,
                       session.Post(Url("/x"), R"({"q":1,"nonce":[2]})", json));
  EXPECT_TRUE(json_same.from_cache());
  ASSERT_OK_AND_ASSIGN(const Response json_other,
                       session.Post(Url("/x"), R"({"q":2,"nonce":1})", json));
  EXPECT_FALSE(json_other.from_cache());
  EXPECT_EQ(origin_->log("/x")[0].body, "q=1&nonce=1");  // what is sent is whole
}

// ---- Scopes ----

TEST_F(HttpSessionTest, AReadOnlySessionLooksAndStoresNothing) {
  origin_->On("/old", Fresh("old"));
  origin_->On("/new", Fresh("new"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/old")));
  const Session reader = session.ReadOnly();
  ASSERT_OK_AND_ASSIGN(const Response old, reader.Get(Url("/old")));
  EXPECT_TRUE(old.from_cache());
  ASSERT_OK_AND_ASSIGN(const Response fresh, reader.Get(Url("/new")));
  EXPECT_FALSE(fresh.stored());
  ASSERT_OK(reader.Post(Url("/old"), "changed"));
  ASSERT_OK_AND_ASSIGN(const Response kept, session.Get(Url("/old")));
  EXPECT_TRUE(kept.from_cache());
  ASSERT_OK_AND_ASSIGN(const Response again, session.Get(Url("/new")));
  EXPECT_FALSE(again.from_cache());
}

TEST_F(HttpSessionTest, ACookieInNotModifiedIsForTheCallerAndNotStored) {
  const Session session = Open();
  origin_->On("/x", Answer(200, {{"Cache-Control", "max-age=60"}, {"ETag", "\"a\""}}, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  origin_->On("/x", Answer(304, {{"ETag", "\"a\""}, {"Set-Cookie", "a=1"}}, ""));
  ASSERT_OK_AND_ASSIGN(const Response asked, session.Get(Url("/x"), {.refresh = true}));
  EXPECT_TRUE(asked.revalidated());
  EXPECT_EQ(asked.header("Set-Cookie"), "a=1");
  ASSERT_OK_AND_ASSIGN(const Response cached, session.Get(Url("/x")));
  EXPECT_TRUE(cached.from_cache());
  EXPECT_FALSE(cached.headers().Has("Set-Cookie"));
}

TEST_F(HttpSessionTest, ADisabledSessionHasNoCache) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response past, session.Disabled().Get(Url("/x")));
  EXPECT_FALSE(past.from_cache());
  EXPECT_FALSE(past.stored());
  EXPECT_EQ(past.key(), "");
  EXPECT_EQ(origin_->log("/x").back().header("If-None-Match"), "");
  ASSERT_OK_AND_ASSIGN(const Response cached, session.Get(Url("/x")));
  EXPECT_TRUE(cached.from_cache());
}

TEST_F(HttpSessionTest, ScopesAreOptionsToo) {
  origin_->On("/x", Fresh("one"));
  for (const bool disabled : {false, true}) {
    SessionOptions options = Options();
    (disabled ? options.disabled : options.read_only) = true;
    const Session session = Open(std::move(options));
    for (int i = 0; i < 2; ++i) {
      ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
      EXPECT_FALSE(response.from_cache());
      EXPECT_FALSE(response.stored());
    }
  }
}

// ---- Handles ----

TEST_F(HttpSessionTest, CopiesShareWhatIsCachedAndAreClosedTogether) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  const Session copy = session;
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, copy.Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
  copy.Close();
  copy.Close();
  EXPECT_THAT(session.Get(Url("/x")), StatusIs(kPrecondition));
  EXPECT_THAT(session.Disabled().Get(Url("/x")), StatusIs(kPrecondition));
  EXPECT_THAT(session.Post(Url("/x"), ""), StatusIs(kPrecondition));
  EXPECT_EQ(origin_->requests("/x"), 1);
}

TEST_F(HttpSessionTest, ABackendThatWasHandedInStaysOpen) {
  origin_->On("/x", Fresh("one"));
  const auto backend = std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 1000});
  {
    const Session first = OrEnd(Session::Over(backend, OverOptions()));
    ASSERT_OK(first.Get(Url("/x")));
    first.Close();
  }
  EXPECT_OK(backend->Ping());
  const Session second = OrEnd(Session::Over(backend, OverOptions()));
  ASSERT_OK_AND_ASSIGN(const Response response, second.Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpSessionTest, StoresOfOtherNamesAreApart) {
  origin_->On("/x", Fresh("one"));
  const auto backend = std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 1000});
  const Session first = OrEnd(Session::Over(backend, OverOptions()));
  SessionOptions options = OverOptions();
  options.store = "other";
  const Session second = OrEnd(Session::Over(backend, std::move(options)));
  ASSERT_OK(first.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, second.Get(Url("/x")));
  EXPECT_FALSE(response.from_cache());
}

TEST_F(HttpSessionTest, AForkedChildIsTurnedAway) {
  origin_->On("/x", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/x")));
  EXPECT_EQ(
      ForkAndRun([&] { return session.Get(Url("/x")).status().code() == kPrecondition ? 0 : 1; })
          .Wait()
          .exit_code,
      0);
  EXPECT_OK(session.Get(Url("/x")));
}

TEST_F(HttpSessionTest, AStopTokenEndsACall) {
  std::stop_source stop;
  origin_->On("/x", [&stop](const Origin::Request&) {
    stop.request_stop();
    return Fresh("one");
  });
  stop.request_stop();
  EXPECT_THAT(Open().Get(Url("/x"), {.stop = stop.get_token()}),
              StatusIs(absl::StatusCode::kCancelled));
}

// ---- As JSON, as a normalised URL ----

TEST_F(HttpSessionTest, AResponseIsAJsonObject) {
  origin_->On("/text", Fresh("gr\xc3\xbc\xc3\x9f \"dich\"\n"));
  origin_->On("/bytes", Fresh(std::string("\0\xff\x01", 3)));
  const Session session = Open();
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response text, session.Get(Url("/text")));
    const auto json = nlohmann::json::parse(text.ToJson(), nullptr, false);
    ASSERT_TRUE(json.is_object()) << text.ToJson();
    EXPECT_EQ(json.value("body", ""), "gr\xc3\xbc\xc3\x9f \"dich\"\n");
    EXPECT_EQ(json.value("status", 0), 200);
    EXPECT_EQ(json.value("from_cache", i == 0), i == 1);
    EXPECT_EQ(json.value("url", ""), Url("/text"));
    ASSERT_OK_AND_ASSIGN(const Response bytes, session.Get(Url("/bytes")));
    const auto other = nlohmann::json::parse(bytes.ToJson(), nullptr, false);
    ASSERT_TRUE(other.is_object());
    EXPECT_EQ(other.value("body_base64", ""), "AP8B");
    EXPECT_FALSE(other.contains("body"));
  }
  EXPECT_TRUE(nlohmann::json::parse(Response().ToJson(), nullptr, false).is_object());
}

TEST_F(HttpSessionTest, UrlsAreNormalised) {
  const Session session = Open();
  for (const auto& [url, normal] : std::vector<std::pair<std::string, std::string>>{
           {"HTTP://Example.COM", "http://example.com/"},
           {"http://example.com:80/", "http://example.com/"},
           {"https://example.com:443/a", "https://example.com/a"},
           {"https://example.com:80/a", "https://example.com:80/a"},
           {"http://example.com:/a", "http://example.com/a"},
           {"http://example.com/%7euser/%c3%a4", "http://example.com/~user/%C3%A4"},
           {"http://example.com/a/./b/../c", "http://example.com/a/c"},
           {"http://example.com/../../a", "http://example.com/a"},
           {"http://example.com/a%2Fb", "http://example.com/a%2Fb"},
           {"http://example.com/a?x=1#part", "http://example.com/a?x=1"},
           {"http://user:password@example.com/a", "http://example.com/a"},
           {"http://example.com/A?Q=V", "http://example.com/A?Q=V"},
           {"http://example.com?x", "http://example.com/?x"}}) {
    EXPECT_THAT(session.NormalizedUrl(url), coord::testing::IsOkAndHolds(normal)) << url;
  }
}

TEST_F(HttpSessionTest, UrlsThatAreTheSameNormalisedShareAResponse) {
  origin_->On("/a~b", Fresh("one"));
  const Session session = Open();
  ASSERT_OK(session.Get(Url("/a~b")));
  for (const char* const target : {"/a%7Eb", "/a%7eb", "/x/../a~b", "/./a~b"}) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url(target)));
    EXPECT_TRUE(response.from_cache()) << target;
  }
}

TEST_F(HttpSessionTest, TheOrderOfAQueryCountsUnlessTheSessionSaysOtherwise) {
  origin_->On("/x", Fresh("one"));
  for (const bool sort : {false, true}) {
    SessionOptions options = Options();
    options.sort_query = sort;
    const Session session = Open(std::move(options));
    ASSERT_OK(session.Get(Url("/x?b=1&a=2")));
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x?a=2&b=1")));
    EXPECT_EQ(response.from_cache(), sort);
    EXPECT_EQ(origin_->log("/x").back().target, sort ? "/x?b=1&a=2" : "/x?a=2&b=1");
  }
}

TEST(UrlPatternTest, MatchesAsItsCommentSays) {
  for (const auto& [glob, url, matches] : std::vector<std::tuple<std::string, std::string, bool>>{
           {"example.com", "http://example.com/", true},
           {"example.com", "https://example.com/a/b?c", true},
           {"example.com", "http://www.example.com/", false},
           {"example.com", "http://example.com.evil.org/", false},
           {"*.example.com", "http://www.example.com/a", true},
           {"*.example.com", "http://example.com/a", true},
           {"*.example.com", "http://notexample.com/a", false},
           {"*.example.com/static/*", "https://example.com/static/x.png", true},
           {"*.example.com/static/*", "https://a.example.com/other/x.png", false},
           {"https://example.com", "http://example.com/", false},
           {"https://example.com/", "https://example.com/x", true},
           {"example.com/live", "http://example.com/live", true},
           {"example.com/live", "http://example.com/live/1", false},
           {"example.com/live/", "http://example.com/live/1", true},
           {"example.com/page?.html", "http://example.com/page1.html", true},
           {"example.com/[a-c]", "http://example.com/b", true},
           {"example.com/[a-c]", "http://example.com/d", false}}) {
    const UrlPattern pattern(glob);
    EXPECT_OK(pattern.status());
    EXPECT_EQ(pattern.text(), glob);
    EXPECT_EQ(pattern.Matches(url), matches) << glob << " and " << url;
  }
}

TEST(UrlPatternTest, ARegularExpressionIsFoundAnywhereInShortUrls) {
  const UrlPattern pattern = UrlPattern::Regex("/v[0-9]+/");
  EXPECT_OK(pattern.status());
  EXPECT_TRUE(pattern.Matches("http://example.com/v12/x"));
  EXPECT_FALSE(pattern.Matches("http://example.com/vx/x"));
  EXPECT_FALSE(pattern.Matches("http://example.com/v1/" + std::string(4096, 'a')));
}

TEST(HttpHeadersTest, KeepOrderAndHaveNoCase) {
  Headers headers = {{"X-A", "1"}, {"x-b", "2"}, {"x-a", "3"}};
  EXPECT_TRUE(headers.Has("X-B"));
  EXPECT_EQ(headers.Get("x-A"), "1, 3");
  EXPECT_EQ(headers.Get("X-C"), std::nullopt);
  EXPECT_THAT(headers.All("X-a"), ::testing::ElementsAre("1", "3"));
  headers.Set("X-A", "4");
  EXPECT_THAT(headers.All("X-a"), ::testing::ElementsAre("4"));
  headers.Add("X-A", "");
  EXPECT_EQ(headers.Get("X-A"), "4, ");
  EXPECT_EQ(headers.Remove("x-a"), 2u);
  EXPECT_EQ(headers.size(), 1u);
  EXPECT_OK(headers.Check());
  EXPECT_TRUE(SameFieldName("ETag", "etag"));
  EXPECT_FALSE(SameFieldName("ETag", "ETags"));
}

}  // namespace
}  // namespace coord::http
