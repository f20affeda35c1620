#include "tools/dev/origin.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/strings.h"
#include "tests/support/sockets.h"
#include "tests/support/wait.h"

namespace coord::dev {
namespace {

using coord::internal::StrCat;
using coord::testing::Eventually;
using coord::testing::Stopwatch;
using coord::testing::UniqueFd;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::unique_ptr<Origin> StartOrigin() {
  auto origin = Origin::Start();
  EXPECT_TRUE(origin.ok()) << origin.status();
  return std::move(origin).value();
}

UniqueFd ConnectTo(const Origin& origin) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(origin.port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

void Write(const UniqueFd& fd, std::string_view bytes) {
  EXPECT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

// Until the text ends with `end`, or nothing more comes.
std::string ReadUntil(const UniqueFd& fd, std::string_view end) {
  std::string text;
  char piece[4096];
  while (end.empty() || !text.ends_with(end)) {
    const ssize_t size = ::recv(fd.get(), piece, sizeof(piece), 0);
    if (size <= 0) break;
    text.append(piece, static_cast<std::size_t>(size));
  }
  return text;
}

// What comes in answer to `request`, of which the last line is still to be added.
std::string Ask(const Origin& origin, std::string_view request) {
  const UniqueFd fd = ConnectTo(origin);
  Write(fd, StrCat(request, "Host: x\r\nConnection: close\r\n\r\n"));
  return ReadUntil(fd, "");
}

TEST(OriginTest, SendsWhatItIsToldAndNothingElse) {
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.headers = {{"ETag", "\"1\""}}, .body = "hello"});
  EXPECT_EQ(
      Ask(*origin, "GET /a HTTP/1.1\r\n"),
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello");
}

TEST(OriginTest, AHeadHasTheLengthAndNoBody) {
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.body = "hello"});
  EXPECT_EQ(Ask(*origin, "HEAD /a HTTP/1.1\r\n"),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
}

TEST(OriginTest, A304HasNeitherLengthNorBody) {
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.status = 304, .headers = {{"ETag", "\"1\""}}, .body = "no"});
  EXPECT_EQ(Ask(*origin, "GET /a HTTP/1.1\r\n"),
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: \"1\"\r\n\r\n");
}

TEST(OriginTest, NeitherCompressesNorCutsByItself) {
  const auto origin = StartOrigin();
  const std::string body(1000, 'a');
  origin->On("/plain", Origin::Reply{.headers = {{"Content-Type", "text/plain"}}, .body = body});
  origin->On("/claims", Origin::Reply{.headers = {{"Content-Type", "text/plain"},
                                                  {"Content-Encoding", "gzip"}},
                                      .body = "not gzip"});
  origin->On("/chunked",
             Origin::Reply{.headers = {{"Content-Type", "text/plain"}}, .chunked_bytes = 100});
  constexpr std::string_view kFields =
      " HTTP/1.1\r\nAccept-Encoding: gzip, br\r\nRange: bytes=2-5\r\n";
  const std::string plain = Ask(*origin, StrCat("GET /plain", kFields));
  EXPECT_THAT(plain, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(plain.ends_with(StrCat("\r\n\r\n", body)));
  EXPECT_THAT(plain, Not(HasSubstr("Content-Encoding")));
  EXPECT_TRUE(Ask(*origin, StrCat("GET /claims", kFields)).ends_with("\r\n\r\nnot gzip"));
  const std::string chunked = Ask(*origin, StrCat("GET /chunked", kFields));
  EXPECT_THAT(chunked, HasSubstr("\r\n\r\n64\r\n0123456789abcdef"));
  EXPECT_THAT(chunked, Not(HasSubstr("Content-Length")));
}

TEST(OriginTest, FieldsOfOneNameKeepTheirOrder) {
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{
                       .headers = {{"Link", "<1>"}, {"A", "b"}, {"Link", "<2>"}, {"Link", "<3>"}}});
  EXPECT_THAT(Ask(*origin, "GET /a HTTP/1.1\r\n"),
              HasSubstr("Link: <1>\r\nLink: <2>\r\nLink: <3>\r\n"));
}

TEST(OriginTest, HandlersSeeTheRequestAsItWasSent) {
  const auto origin = StartOrigin();
  for (const std::string method : {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}) {
    const std::string path = "/" + method;
    std::string body(20'000, 'a');
    body.push_back('\0');
    origin->On(path, [](const Origin::Request& request) {
      return Origin::Reply{.status = 201, .body = request.body};
    });
    const UniqueFd fd = ConnectTo(*origin);
    Write(fd, StrCat(method, " ", path, "?q=%20b HTTP/1.1\r\nConnection: close\r\n",
                     "Content-Type: application/x-www-form-urlencoded\r\n",
                     "Content-Encoding: gzip\r\nX-A: 1\r\nContent-Length: ", body.size(),
                     "\r\n\r\n", body));
    EXPECT_TRUE(ReadUntil(fd, "").ends_with(StrCat("\r\n\r\n", body))) << method;
    ASSERT_EQ(origin->log(path).size(), 1u) << method;
    const Origin::Request request = origin->log(path).front();
    EXPECT_EQ(request.method, method);
    EXPECT_EQ(request.target, path + "?q=%20b");
    EXPECT_EQ(request.body, body);
    EXPECT_THAT(request.headers,
                UnorderedElementsAre(Pair("Connection", "close"),
                                     Pair("Content-Type", "application/x-www-form-urlencoded"),
                                     Pair("Content-Encoding", "gzip"), Pair("X-A", "1"),
                                     Pair("Content-Length", StrCat(body.size()))));
    EXPECT_EQ(request.header("x-a"), "1");
    EXPECT_EQ(request.header("x-b"), "");
  }
}

TEST(OriginTest, CountsByPathWithoutTheQuery) {
  const auto origin = StartOrigin();
  EXPECT_THAT(Ask(*origin, "GET /a?b HTTP/1.1\r\n"), HasSubstr("404 Not Found"));
  origin->On("/a", Origin::Reply{.body = "one"});
  EXPECT_THAT(Ask(*origin, "GET /a?c HTTP/1.1\r\n"), HasSubstr("one"));
  origin->On("/a", Origin::Reply{.body = "two"});
  EXPECT_THAT(Ask(*origin, "GET http://other/a HTTP/1.1\r\n"), HasSubstr("two"));
  Ask(*origin, "GET /b HTTP/1.1\r\n");
  EXPECT_EQ(origin->requests("/a"), 3);
  EXPECT_EQ(origin->requests("/b"), 1);
  EXPECT_EQ(origin->requests(), 4);
}

TEST(OriginTest, KeepsManyConnectionsOpenAtOnce) {
  const auto origin = StartOrigin();
  std::atomic<int> inside = 0;
  origin->On("/a", [&](const Origin::Request&) {
    ++inside;
    Eventually([&] { return inside == 128; }, absl::Seconds(15));
    return Origin::Reply{.body = "end"};
  });
  std::vector<UniqueFd> open;
  for (int i = 0; i < 128; ++i) {
    open.push_back(ConnectTo(*origin));
    Write(open.back(), "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  for (const UniqueFd& fd : open) EXPECT_THAT(ReadUntil(fd, "end"), HasSubstr("200 OK"));
  EXPECT_EQ(inside, 128);
  EXPECT_EQ(origin->requests("/a"), 128);
}

TEST(OriginTest, EndsWithoutWaitingForIdleConnections) {
  auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.body = "end"});
  const UniqueFd used = ConnectTo(*origin), unused = ConnectTo(*origin);
  Write(used, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  ReadUntil(used, "end");
  const Stopwatch watch;
  origin.reset();
  EXPECT_LT(watch.elapsed(), absl::Seconds(20));  // it keeps connections for a minute
}

}  // namespace
}  // namespace coord::dev
