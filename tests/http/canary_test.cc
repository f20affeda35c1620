// Secrets go into every kind of request, and then everything that is kept or said is searched for
// them: plain, percent-encoded and in base64.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "coord/internal/strings.h"
#include "coord/reply.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::TempDir;
using dev::Origin;

// Told apart by the last letters, and nothing that occurs by chance.
constexpr std::string_view kSecrets[] = {
    "qX7canaryBASICpw", "qX7canaryBEARER",   "qX7canaryCOOKIE",  "qX7canaryAPIKEY",
    "qX7canaryTOKENH",  "qX7canaryACCESSQ",  "qX7canaryTOKENQ",  "qX7canaryFORM",
    "qX7canaryJSON",    "qX7canaryURLPW",    "qX7canaryPROXY",   "qX7canarySETCOOKIE",
    "qX7canaryAPIQ",    "qX7canaryURLUSER",  "qX7canaryDEFAULT", "qX7canaryIGNORED",
    "qX7canaryREDISPW", "qX7 canary+SPACE/",
};
// What must be found: else the search proves nothing.
constexpr std::string_view kVisible = "qX7visible";

std::string Base64(std::string_view text) {
  std::string out;
  absl::Base64Escape(::coord::internal::ToAbsl(text), &out);
  return out;
}

std::string Percent(std::string_view text, bool all, bool upper) {
  const char* const digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (!all && std::string_view(" +/=:@").find(c) == std::string_view::npos) {
      out += c;
    } else {
      out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out;
}

// The ways a secret may look.
std::vector<std::string> Forms(std::string_view secret) {
  std::vector<std::string> forms = {std::string(secret)};
  for (const bool all : {false, true}) {
    for (const bool upper : {false, true}) forms.push_back(Percent(secret, all, upper));
  }
  std::string plus(secret);
  std::replace(plus.begin(), plus.end(), ' ', '+');
  forms.push_back(plus);
  // In the middle of something: the letters that only the secret decides, at each of the three
  // ways it can lie.
  for (const std::string_view before : {"", "x", "xx"}) {
    const std::string encoded = Base64(StrCat(before, secret));
    const std::size_t first = before.empty() ? 0 : 4;
    const std::size_t whole = (before.size() + secret.size()) / 3 * 4;
    forms.push_back(encoded.substr(first, whole - first));
  }
  return forms;
}

// No secret is in `text`, which is called `where`.
void ExpectClean(std::string_view text, std::string_view where) {
  for (const std::string_view secret : kSecrets) {
    for (const std::string& form : Forms(secret)) {
      const std::size_t at = text.find(form);
      EXPECT_EQ(at, std::string_view::npos)
          << secret << " as " << form << " in " << where << ": ..."
          << absl::CEscape(::coord::internal::ToAbsl(text.substr(at < 100 ? 0 : at - 100, 300)));
    }
  }
}

void AppendText(const Reply& reply, std::string& out) {
  out += reply.text();
  out += '\n';
  for (const Reply& item : reply.items()) AppendText(item, out);
}

// Every key and what is in it.
std::string Everything(RawRedis& redis) {
  std::string out;
  const Reply keys = redis.Command({"KEYS", "*"});
  for (const Reply& key : keys.items()) {
    const std::string name(key.text());
    out += name + '\n';
    const std::string type = redis.Text({"TYPE", name});
    const std::vector<std::string> command =
        type == "hash"     ? std::vector<std::string>{"HGETALL", name}
        : type == "list"   ? std::vector<std::string>{"LRANGE", name, "0", "-1"}
        : type == "set"    ? std::vector<std::string>{"SMEMBERS", name}
        : type == "zset"   ? std::vector<std::string>{"ZRANGE", name, "0", "-1"}
        : type == "stream" ? std::vector<std::string>{"XRANGE", name, "-", "+"}
                           : std::vector<std::string>{"GET", name};
    AppendText(redis.Command(command), out);
  }
  return out;
}

std::string Everything(const std::string& directory) {
  std::string out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    out += entry.path().string() + '\n';
    out.append(std::istreambuf_iterator<char>(file), {});
  }
  return out;
}

class HttpCanaryTest : public BlackboxTest {
 protected:
  // Keeps what the session says of a response or an error.
  void Note(const absl::StatusOr<Response>& response) {
    if (!response.ok()) {
      said_ += StrCat(response.status().ToString(), "\n");
      return;
    }
    said_ += StrCat(response->key(), "\n", response->cache_status(), "\n");
    if (!response->from_cache()) return;
    said_ += StrCat(response->url(), "\n");
    // A redirect that came from the origin is shown as it came.
    if (response->history().empty()) said_ += StrCat(response->ToJson(), "\n");
    for (const auto& [name, value] : response->headers()) said_ += StrCat(name, value, "\n");
    for (const Response& step : response->history()) {
      if (step.from_cache()) said_ += StrCat(step.url(), "\n", step.ToJson(), "\n");
    }
  }

  struct Request {
    std::string method = "GET";
    std::string url = {};
    Headers headers = {};
    std::string body = {};
  };

  // One for each place that a secret has.
  std::vector<Request> Requests(const std::string& path) const {
    const std::string url = Url(path);
    const std::string rest = url.substr(7);
    return {
        {.url = url,
         .headers = {{"Authorization", StrCat("Basic ", Base64("user:qX7canaryBASICpw"))}}},
        {.url = url, .headers = {{"authorization", "Bearer qX7canaryBEARER"}}},
        {.url = url, .headers = {{"Cookie", "sid=qX7canaryCOOKIE; other=1"}}},
        {.url = url, .headers = {{"X-API-Key", "qX7canaryAPIKEY"}}},
        {.url = url, .headers = {{"X-Auth-Token", "qX7canaryTOKENH"}}},
        {.url = url, .headers = {{"Proxy-Authorization", "Basic qX7canaryPROXY"}}},
        {.url = url + "?access_token=qX7canaryACCESSQ&q=1"},
        {.url = url + "?q=1&token=qX7canaryTOKENQ"},
        {.url = url + "?API_KEY=qX7canaryAPIQ"},
        {.url = url + "?api%5Fkey=qX7canaryAPIQ"},
        {.url = url + "?token=qX7%20canary%2BSPACE%2F"},
        {.url = url + "?token=qX7+canary%2bSPACE/"},
        {.url = url + "?session=qX7canaryIGNORED"},
        {.url = StrCat("http://qX7canaryURLUSER:qX7canaryURLPW@", rest)},
        {.method = "POST",
         .url = url,
         .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
         .body = "q=1&token=qX7canaryFORM&password=1"},
        {.method = "POST",
         .url = url,
         .headers = {{"Content-Type", "application/json; charset=utf-8"}},
         .body = R"({"q":1,"token":"qX7canaryJSON"})"},
        {.method = "POST",
         .url = url,
         .headers = {{"Content-Type", "application/json"}},
         .body = R"({"deep":[{"access_token":"qX7canaryJSON"}]})"},
    };
  }

  SessionOptions Loud(std::string backend) const {
    SessionOptions options = OptionsAt(std::move(backend));
    options.methods = {"GET", "HEAD", "POST"};
    options.ignored_parameters = {"session", "X-Session"};
    options.match_headers = {"Authorization", "X-Session"};
    options.transport.headers = {{"X-Session", "qX7canaryDEFAULT"}};
    options.transport.timeout = absl::Seconds(5);
    return options;
  }

  // Everything that may go wrong, and everything that is stored, validated and refreshed.
  void Exercise(const Session& session) {
    const dev::Origin::Fields fields = {{"Cache-Control", "max-age=60, stale-while-revalidate=600"},
                                        {"Vary", "Authorization, Cookie, X-API-Key"},
                                        {"ETag", "\"a\""},
                                        {"X-Visible", std::string(kVisible)},
                                        {"Set-Cookie", "sid=qX7canarySETCOOKIE; HttpOnly"}};
    origin_->On("/page", Answer(200, fields, StrCat("page ", kVisible)));
    origin_->On("/away", [](const Origin::Request& request) {
      // A secret parameter is led on, one that is only ignored is not.
      const bool ignored = request.target.find("session=") != std::string::npos;
      return Answer(307,
                    {{"Location", ignored ? "/page" : StrCat("/page", request.target.substr(5))},
                     {"Cache-Control", "max-age=600"}},
                    "");
    });
    origin_->On("/loop", [](const Origin::Request& request) { return RedirectTo(request.target); });
    origin_->On("/asked", [fields](const Origin::Request& request) {
      return request.header("If-None-Match").empty() ? Answer(200, fields, "asked")
                                                     : Answer(304, fields, "");
    });
    origin_->On("/broken", Answer(200, {{"Cache-Control", "max-age=oops"}}, "broken"));
    for (const std::string path : {"/page", "/away", "/asked", "/broken", "/loop"}) {
      for (int round = 0; round < 3; ++round) {
        for (const Request& request : Requests(path)) {
          Note(session.Send(request.method, request.url,
                            {.headers = request.headers, .body = request.body}));
        }
        Advance(round == 0 ? 1 : 61);
      }
    }
    // Nobody listens there.
    const std::string nowhere = StrCat("127.0.0.1:", coord::testing::FreePort());
    for (Request request : Requests("/page")) {
      const std::size_t at = request.url.find(Url("").substr(7));
      request.url.replace(at, Url("").size() - 7, nowhere);
      Note(session.Send(request.method, request.url,
                        {.headers = request.headers, .body = request.body}));
    }
    // Refused before anything is sent.
    Note(session.Get("ftp://qX7canaryURLUSER:qX7canaryURLPW@127.0.0.1/?token=qX7canaryTOKENQ"));
    Note(session.Get("qX7canaryURLUSER:qX7canaryURLPW@127.0.0.1/"));
    Note(session.Get("http://qX7canaryURLUSER:qX7canaryURLPW@127.0.0.1:99999/"));
    Note(session.Get("http://qX7canaryURLUSER:qX7canaryURLPW@127.0.0.1/a b?token=qX7canaryTOKENQ"));
    Note(session.Get(Url("/page"), {.headers = {{"Authorization", "qX7canaryBEARER\r\nX: y"}}}));
    Note(session.Get(Url("/page"), {.headers = {{"Cookie", "qX7canaryCOOKIE\x01"}}}));
    const auto url = session.NormalizedUrl(
        StrCat("http://qX7canaryURLUSER:qX7canaryURLPW@", Url("/page").substr(7),
               "?token=qX7canaryTOKENQ&session=qX7canaryIGNORED"));
    said_ += url.ok() ? *url : url.status().ToString();
    const auto all = session.cache().Filter();
    EXPECT_OK(all);
    if (all.ok()) {
      EXPECT_FALSE(all->empty());
      for (const Response& response : *all) {
        said_ += StrCat(response.key(), "\n", response.url(), "\n", response.ToJson(), "\n");
      }
    }
    const auto urls = session.cache().Urls();
    if (urls.ok()) {
      for (const std::string& one : *urls) said_ += one + "\n";
    }
  }

  void ExpectNothingWasSaid() const {
    std::string problems;
    for (const absl::Status& problem : problems_->all()) problems += problem.ToString() + "\n";
    ExpectClean(problems, "on_problem");
    ExpectClean(said_, "what the session says");
    EXPECT_NE(said_.find(kVisible), std::string::npos);
  }

  std::string said_;
};

TEST(CanaryTest, TheSearchFindsEachForm) {
  for (const std::string_view secret : kSecrets) {
    for (const std::string_view before : {"", "u", "u:", "user:"}) {
      const std::string encoded = Base64(StrCat(before, secret, "tail"));
      bool found = false;
      for (const std::string& form : Forms(secret)) {
        found = found || encoded.find(form) != std::string::npos;
        EXPECT_GE(form.size(), 12u);
      }
      EXPECT_TRUE(found) << encoded;
    }
  }
}

TEST_F(HttpCanaryTest, NoSecretIsInRedisOrInWhatIsSaid) {
  const RedisServer server({.port = 0, .args = {"--requirepass", "qX7canaryREDISPW"}});
  RawRedis redis(server);
  redis.Command({"AUTH", "qX7canaryREDISPW"});
  SessionOptions options = Loud("redis");
  options.redis =
      RedisAddress{.host = "127.0.0.1", .port = server.port(), .password = "qX7canaryREDISPW"};
  {
    const Session session = Open(std::move(options));
    Exercise(session);
    const std::string stored = Everything(redis);
    EXPECT_NE(stored.find(kVisible), std::string::npos);
    ExpectClean(stored, "Redis");
    // Entries that cannot be read are told of.
    const Reply keys = redis.Command({"KEYS", "*"});
    for (const Reply& key : keys.items()) {
      redis.Command({"SET", std::string(key.text()), "garbage"});
    }
    Exercise(session);
    ExpectClean(Everything(redis), "Redis, after garbage");
  }
  ExpectNothingWasSaid();
}

TEST_F(HttpCanaryTest, NoSecretIsOnTheDisk) {
  const TempDir directory;
  {
    const Session session = Open(Loud(StrCat("disk://", directory.File("http.db"))));
    Exercise(session);
    const std::string stored = Everything(directory.path());  // with the log beside the file
    EXPECT_NE(stored.find(kVisible), std::string::npos);
    ExpectClean(stored, "the disk");
  }
  ExpectClean(Everything(directory.path()), "the disk, closed");
  ExpectNothingWasSaid();
}

TEST_F(HttpCanaryTest, AServerThatIsAwayGivesNoSecretAway) {
  RedisServer server({.port = 0, .args = {"--requirepass", "qX7canaryREDISPW"}});
  SessionOptions options = Loud(StrCat("redis://:qX7canaryREDISPW@127.0.0.1:", server.port()));
  options.backend_timeout = absl::Milliseconds(100);
  const Session session = Open(options);
  origin_->On("/page", Fresh(std::string(kVisible)));
  server.Kill();
  for (const Request& request : Requests("/page")) {
    Note(session.Send(request.method, request.url,
                      {.headers = request.headers, .body = request.body}));
  }
  EXPECT_TRUE(Eventually([&] { return !problems_->all().empty(); }));
  options.client.connect_timeout = absl::Milliseconds(200);
  const auto second = Session::Open(std::move(options));
  ASSERT_FALSE(second.ok());
  ExpectClean(second.status().ToString(), "the error of opening");
  std::string problems;
  for (const absl::Status& problem : problems_->all()) problems += problem.ToString() + "\n";
  ExpectClean(problems, "on_problem");
  ExpectClean(said_, "what the session says");
}

TEST_F(HttpCanaryTest, AProxysPasswordIsSaidNowhere) {
  SessionOptions options = Options();
  options.transport.proxy =
      StrCat("http://qX7canaryURLUSER:qX7canaryPROXY@127.0.0.1:", coord::testing::FreePort());
  const absl::StatusOr<Session> session = Session::Open(std::move(options));
  if (!session.ok()) {
    ExpectClean(session.status().ToString(), "the error of opening");
    return;
  }
  const absl::StatusOr<Response> response = session->Get(Url("/page"));
  EXPECT_FALSE(response.ok());
  ExpectClean(response.status().ToString(), "the error");
}

// What an origin does with a secret that it was given.
class HttpEchoTest : public HttpCanaryTest {
 protected:
  // Asks with each secret, twice, over a Redis, and says what is there then.
  std::string StoredAfter(const Origin::Handler& handler) {
    const RedisServer server;
    RawRedis redis(server);
    const Session session = Open(Loud(server.url()));
    origin_->On("/echo", handler);
    origin_->On("/page", Fresh("page"));
    for (int round = 0; round < 2; ++round) {
      for (const Request& request : Requests("/echo")) {
        // What is no secret, and what is no field of the body itself.
        if (request.url.find("session=") != std::string::npos) continue;
        if (request.body.find("deep") != std::string::npos) continue;
        Note(session.Send(request.method, request.url,
                          {.headers = request.headers, .body = request.body}));
      }
    }
    return Everything(redis);
  }

  static std::string Said(const Origin::Request& request) {
    std::string all = request.target + " " + request.body;
    for (const char* const name :
         {"Authorization", "Cookie", "X-API-Key", "X-Auth-Token", "Proxy-Authorization"}) {
      all += " " + request.header(name);
    }
    std::replace(all.begin(), all.end(), '\n', ' ');
    return all;
  }
};

TEST_F(HttpEchoTest, SecretsThatAnOriginSendsBackAsCookiesAreNotStored) {
  ExpectClean(StoredAfter([](const Origin::Request& request) {
                return Answer(200,
                              {{"Cache-Control", "max-age=60"},
                               {"Set-Cookie", "echo=" + Said(request)},
                               {"Authorization", Said(request)}},
                              "page");
              }),
              "Redis");
}

TEST_F(HttpEchoTest, SecretsInTheLocationThatAnOriginLeadsToAreNotStored) {
  ExpectClean(StoredAfter([](const Origin::Request& request) {
                const std::size_t query = request.target.find('?');
                return Answer(307,
                              {{"Cache-Control", "max-age=60"},
                               {"Location", query == std::string::npos
                                                ? "/page"
                                                : "/page" + request.target.substr(query)}},
                              "");
              }),
              "Redis");
}

TEST_F(HttpEchoTest, SecretsInContentLocationAreNotStored) {
  ExpectClean(StoredAfter([](const Origin::Request& request) {
                return Answer(
                    200, {{"Cache-Control", "max-age=60"}, {"Content-Location", request.target}},
                    "page");
              }),
              "Redis");
}

TEST_F(HttpEchoTest, SecretsInAnyFieldAreNotStored) {
  ExpectClean(
      StoredAfter([](const Origin::Request& request) {
        return Answer(200, {{"Cache-Control", "max-age=60"}, {"X-Echo", Said(request)}}, "page");
      }),
      "Redis");
}

TEST_F(HttpEchoTest, SecretsInABodyAreNotStored) {
  ExpectClean(StoredAfter([](const Origin::Request& request) {
                return Answer(200, {{"Cache-Control", "max-age=60"}}, Said(request));
              }),
              "Redis");
}

}  // namespace
}  // namespace coord::http
