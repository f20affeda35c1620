#include "cache/http/internal/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "tests/http/raw_origin.h"
#include "tests/support/certificates.h"
#include "tests/support/deployment.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http::internal {
namespace {

using coord::dev::Origin;
using coord::internal::StrCat;
using coord::testing::Eventually;
using coord::testing::IsOk;
using coord::testing::OrFatal;
using coord::testing::RawOrigin;
using coord::testing::StatusIs;
using coord::testing::TempDir;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using enum absl::StatusCode;

constexpr std::string_view kHello = "hello, hello, hello, hello";

std::string Bytes(std::string_view literal) { return std::string(literal); }
// kHello, by gzip, zlib and brotli ("hello").
std::string Gzip() {
  return Bytes(
      {"\037\213\010\000\000\000\000\000\002\003\313\110\315\311\311\327\121\310\300\244\000\125"
       "\243\202\167\032\000\000\000",
       29});
}
std::string Deflate() {
  return Bytes({"\170\234\313\110\315\311\311\327\121\310\300\244\000\174\026\011\065", 17});
}
std::string Brotli() { return Bytes({"\x0b\x02\x80hello\x03", 9}); }

struct Kept : Receiver {
  absl::Status OnHead(int new_status, const Headers& new_headers) override {
    ++heads;
    status = new_status;
    headers = new_headers;
    return head_answer;
  }
  absl::Status OnBody(std::string_view piece) override {
    EXPECT_EQ(heads, 1);
    body += piece;
    bytes += piece.size();
    return body_answer;
  }
  absl::Status head_answer, body_answer;
  std::atomic<int> heads = 0;
  int status = 0;
  Headers headers;
  std::string body;
  std::atomic<std::size_t> bytes = 0;
};

struct Asked {
  absl::StatusOr<Ended> ended = absl::UnknownError("not asked");
  bool sent = false;
};

struct Ask {
  std::string method = "GET";
  Headers headers = {};
  std::string body = {};
  absl::Duration timeout = absl::Seconds(30);
  std::stop_token stop = {};
};

Asked Send(Transport& transport, const std::string& url, Kept& kept, const Ask& ask = {}) {
  Asked asked;
  asked.ended = transport.Exchange({.method = ask.method,
                                    .url = url,
                                    .headers = &ask.headers,
                                    .body = ask.body,
                                    .timeout = ask.timeout,
                                    .stop = ask.stop},
                                   kept, &asked.sent);
  return asked;
}

// No test uses the environment's proxy by accident.
std::unique_ptr<Transport> MakeTransport(TransportOptions options = {}) {
  if (options.proxy.empty() && options.unix_socket.empty()) options.proxy = "none";
  return OrFatal(Transport::Make(options));
}

std::unique_ptr<Origin> StartOrigin() { return OrFatal(Origin::Start()); }

std::string Answer(std::string_view fields, std::string_view body = {}) {
  return StrCat("HTTP/1.1 200 OK\r\n", fields, "\r\n", body);
}

// A raw origin that answers so and then closes.
RawOrigin::Script Once(std::string answer) {
  return [answer = std::move(answer)](const std::string&, RawOrigin::Connection& connection) {
    connection.Send(answer);
    connection.Close();
  };
}

TEST(TransportTest, ExchangesOneAfterAnotherShareAConnection) {
  RawOrigin origin(Answer("Content-Length: 2\r\n", "ok"));
  const auto transport = MakeTransport();
  for (int i = 0; i < 50; ++i) {
    Kept kept;
    const Asked asked = Send(*transport, origin.Url("/a"), kept);
    ASSERT_OK(asked.ended);
    EXPECT_FALSE(asked.ended->length_is_wrong);
    EXPECT_TRUE(asked.sent);
    EXPECT_EQ(kept.heads, 1);
    EXPECT_EQ(kept.status, 200);
    EXPECT_EQ(kept.body, "ok");
  }
  EXPECT_EQ(origin.connections(), 1);
}

TEST(TransportTest, EachOfSeveralOriginsKeepsItsConnection) {
  RawOrigin one(Answer("Content-Length: 2\r\n", "ok")),
      other(Answer("Content-Length: 2\r\n", "ok"));
  const auto transport = MakeTransport();
  for (int i = 0; i < 10; ++i) {
    Kept kept, kept_other;
    ASSERT_OK(Send(*transport, one.Url("/a"), kept).ended);
    ASSERT_OK(Send(*transport, other.Url("/a"), kept_other).ended);
  }
  EXPECT_EQ(one.connections(), 1);
  EXPECT_EQ(other.connections(), 1);
}

TEST(TransportTest, NoMoreConnectionsStayOpenThanAllowed) {
  RawOrigin one(Answer("Content-Length: 2\r\n", "ok")),
      other(Answer("Content-Length: 2\r\n", "ok"));
  const auto transport = MakeTransport({.max_idle_connections = 1});
  for (int i = 0; i < 3; ++i) {
    Kept kept, kept_other;
    ASSERT_OK(Send(*transport, one.Url("/a"), kept).ended);
    ASSERT_OK(Send(*transport, other.Url("/a"), kept_other).ended);
  }
  EXPECT_EQ(one.connections(), 3);
  EXPECT_EQ(other.connections(), 3);
}

TEST(TransportTest, ManyThreadsEachGetTheirOwnAnswer) {
  const auto origin = StartOrigin();
  origin->On("/a",
             [](const Origin::Request& request) { return Origin::Reply{.body = request.target}; });
  const auto transport = MakeTransport();
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 20; ++j) {
        const std::string target = StrCat("/a?", i, "-", j);
        Kept kept;
        EXPECT_OK(Send(*transport, origin->Url(target), kept).ended);
        EXPECT_EQ(kept.body, target);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(origin->requests("/a"), 64 * 20);
}

TEST(TransportTest, AConnectionThatWasClosedMeanwhileIsReplaced) {
  RawOrigin origin(Once(Answer("Content-Length: 2\r\n", "ok")));
  const auto transport = MakeTransport();
  for (int i = 0; i < 5; ++i) {
    Kept kept;
    ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  }
  EXPECT_EQ(origin.connections(), 5);
}

// Answers on each connection the first request only, and breaks the connection at the second.
RawOrigin::Script BreakingAtTheSecond() {
  const auto seen = std::make_shared<std::atomic<int>>(0);
  return [seen](const std::string&, RawOrigin::Connection& connection) {
    if (++*seen != 2) {
      connection.Send(Answer("Content-Length: 2\r\n", "ok"));
    } else {
      connection.Close();
    }
  };
}

TEST(TransportTest, APostIsNeverRepeatedOnANewConnection) {
  RawOrigin origin(BreakingAtTheSecond());
  const auto transport = MakeTransport();
  Kept first, second;
  ASSERT_OK(Send(*transport, origin.Url("/a"), first).ended);
  const Asked asked = Send(*transport, origin.Url("/a"), second, {.method = "POST", .body = "x"});
  EXPECT_THAT(asked.ended, StatusIs(kUnavailable));
  EXPECT_TRUE(asked.sent);
  EXPECT_EQ(origin.requests(), 2);
}

TEST(TransportTest, AGetIsRepeatedOnceItsConnectionTurnsOutToBeClosed) {
  RawOrigin origin(BreakingAtTheSecond());
  const auto transport = MakeTransport();
  Kept first, second;
  ASSERT_OK(Send(*transport, origin.Url("/a"), first).ended);
  EXPECT_OK(Send(*transport, origin.Url("/a"), second).ended);
  EXPECT_EQ(second.body, "ok");
}

// ---- Ending early ----

// Longer than any test may take; also to connect, since libcurl's timer for that ends a wait, too.
constexpr absl::Duration kAges = absl::Hours(1);

TEST(TransportTest, AStopEndsAnExchangeInTheMiddleOfABody) {
  RawOrigin origin([](const std::string& request, RawOrigin::Connection& connection) {
    if (request.starts_with("GET /first")) {
      connection.Send(Answer("Content-Length: 2\r\n", "ok"));
      return;
    }
    connection.Send(Answer("Content-Length: 100\r\n", "some"));
    connection.Hold();
  });
  const auto transport = MakeTransport({.connect_timeout = kAges});
  // On a connection that stands, libcurl has no timers that could end a wait by chance.
  Kept first;
  ASSERT_OK(Send(*transport, origin.Url("/first"), first).ended);
  std::stop_source stop;
  Kept kept;
  std::thread stopper([&] {
    EXPECT_TRUE(Eventually([&] { return kept.bytes == 4; }));
    stop.request_stop();
  });
  EXPECT_THAT(
      Send(*transport, origin.Url("/a"), kept, {.timeout = kAges, .stop = stop.get_token()}).ended,
      StatusIs(kCancelled));
  stopper.join();
}

TEST(TransportTest, AStopEndsAnExchangeThatIsConnecting) {
  // TLS that is never answered: the connection stands, and the exchange still has none.
  RawOrigin origin(Answer(""));
  const auto transport = MakeTransport();
  std::stop_source stop;
  Kept kept;
  std::thread stopper([&] {
    EXPECT_TRUE(Eventually([&] { return origin.connections() == 1; }));
    stop.request_stop();
  });
  const Asked asked = Send(*transport, StrCat("https://127.0.0.1:", origin.port(), "/a"), kept,
                           {.timeout = kAges, .stop = stop.get_token()});
  EXPECT_THAT(asked.ended, StatusIs(kCancelled));
  EXPECT_FALSE(asked.sent);
  stopper.join();
}

TEST(TransportTest, AStopBeforeTheExchangeReachesNobody) {
  RawOrigin origin(Answer(""));
  const auto transport = MakeTransport();
  std::stop_source stop;
  stop.request_stop();
  Kept kept;
  EXPECT_THAT(
      Send(*transport, origin.Url("/a"), kept, {.timeout = kAges, .stop = stop.get_token()}).ended,
      StatusIs(kCancelled));
  EXPECT_EQ(origin.connections(), 0);
}

TEST(TransportTest, CloseEndsWhatIsUnderWayAndRefusesOthers) {
  RawOrigin origin(
      [](const std::string&, RawOrigin::Connection& connection) { connection.Hold(); });
  const auto transport = MakeTransport({.connect_timeout = kAges});
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      Kept kept;
      EXPECT_THAT(Send(*transport, origin.Url("/a"), kept, {.timeout = kAges}).ended,
                  StatusIs(kCancelled));
    });
  }
  EXPECT_TRUE(Eventually([&] { return origin.requests() == 8; }));
  transport->Close();
  transport->Close();
  for (std::thread& thread : threads) thread.join();
  Kept kept;
  EXPECT_THAT(Send(*transport, origin.Url("/a"), kept).ended, StatusIs(kFailedPrecondition));
  EXPECT_EQ(origin.requests(), 8);
}

TEST(TransportTest, TheDeadlineEndsEachPhaseAndIsNamed) {
  RawOrigin origin([](const std::string& request, RawOrigin::Connection& connection) {
    if (request.starts_with("GET /body")) {
      connection.Send(Answer("Content-Length: 100\r\n", "some"));
    }
    connection.Hold();
  });
  const auto transport = MakeTransport();
  const Ask ask = {.timeout = absl::Milliseconds(300)};
  Kept kept;
  Asked asked = Send(*transport, origin.Url("/body"), kept, ask);
  EXPECT_THAT(asked.ended, StatusIs(kDeadlineExceeded, HasSubstr("receiving the body")));
  EXPECT_TRUE(asked.sent);
  asked = Send(*transport, origin.Url("/none"), kept, ask);
  EXPECT_THAT(asked.ended, StatusIs(kDeadlineExceeded, HasSubstr("waiting for the response")));
  EXPECT_TRUE(asked.sent);
  asked = Send(*transport, StrCat("https://127.0.0.1:", origin.port(), "/"), kept, ask);
  EXPECT_THAT(asked.ended, StatusIs(kDeadlineExceeded, HasSubstr("connecting")));
  EXPECT_FALSE(asked.sent);
}

TEST(TransportTest, ConnectingHasADeadlineOfItsOwn) {
  RawOrigin origin(Answer(""));
  const auto transport = MakeTransport({.connect_timeout = absl::Milliseconds(200)});
  Kept kept;
  const Asked asked = Send(*transport, StrCat("https://127.0.0.1:", origin.port(), "/"), kept);
  EXPECT_THAT(asked.ended, StatusIs(kDeadlineExceeded, HasSubstr("connecting")));
}

TEST(TransportTest, AReceiversErrorEndsTheExchangeAndComesBackAsItIs) {
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.chunked_bytes = 1'000'000});
  const auto transport = MakeTransport();
  Kept refuses_head, refuses_body, takes;
  refuses_head.head_answer = absl::DataLossError("mine");
  refuses_body.body_answer = absl::DataLossError("mine");
  EXPECT_EQ(Send(*transport, origin->Url("/a"), refuses_head).ended.status(),
            absl::DataLossError("mine"));
  EXPECT_EQ(refuses_head.body, "");
  EXPECT_EQ(Send(*transport, origin->Url("/a"), refuses_body).ended.status(),
            absl::DataLossError("mine"));
  EXPECT_LT(refuses_body.body.size(), 100'000u);
  EXPECT_OK(Send(*transport, origin->Url("/a"), takes).ended);
  EXPECT_EQ(takes.body.size(), 1'000'000u);
}

// ---- Faults ----

struct Fault {
  std::string name;
  RawOrigin::Script script;
  absl::StatusCode code = kUnavailable;
};

RawOrigin::Script ThenReset(std::string bytes) {
  return [bytes = std::move(bytes)](const std::string&, RawOrigin::Connection& connection) {
    connection.Send(bytes);
    connection.Reset();
  };
}

TEST(TransportTest, BrokenAnswersAreErrorsThatSayNothingSecret) {
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += StrCat("X-Field-", i, ": value\r\n");
  std::string long_line = StrCat("X: ", std::string(300'000, 'a'), "\r\n");
  const std::vector<Fault> faults = {
      {"reset before the head", ThenReset("")},
      {"reset in the head", ThenReset("HTTP/1.1 200 OK\r\nContent-")},
      {"reset in the body", ThenReset(Answer("Content-Length: 10\r\n", "four"))},
      {"closed before the head", Once("")},
      {"closed in the head", Once("HTTP/1.1 200 OK\r\nContent-Le")},
      {"closed before the length", Once(Answer("Content-Length: 10\r\n", "four"))},
      {"closed in a chunk", Once(Answer("Transfer-Encoding: chunked\r\n", "a\r\nfour"))},
      {"closed between chunks", Once(Answer("Transfer-Encoding: chunked\r\n", "4\r\nfour\r\n"))},
      {"a size that is none", Once(Answer("Transfer-Encoding: chunked\r\n", "xyz\r\nfour\r\n"))},
      {"an earlier HTTP", Once("<html>four</html>")},
      {"not HTTP", Once("220 mail.example ESMTP\r\n")},
      {"binary", Once(std::string(2000, '\xff'))},
      {"a version to come", Once("HTTP/7.3 200 OK\r\n\r\n")},
      {"a length that is none", Once(Answer("Content-Length: abc\r\n", "four"))},
      {"a negative length", Once(Answer("Content-Length: -1\r\n", "four"))},
      {"a status that is none", Once("HTTP/1.1 abc OK\r\n\r\n")},
      {"only an interim response", Once("HTTP/1.1 103 Early Hints\r\n\r\n")},
      {"another protocol", Once("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")},
      {"no gzip", Once(Answer("Content-Encoding: gzip\r\nContent-Length: 4\r\n", "four"))},
      {"a field without a colon", Once(Answer("No colon\r\n"))},
      {"broken gzip",
       Once(Answer(StrCat("Content-Encoding: gzip\r\nContent-Length: ", Gzip().size(), "\r\n"),
                   Gzip().substr(0, 12) + "\xff\xff\xff" + Gzip().substr(15)))},
      {"no br", Once(Answer("Content-Encoding: br\r\nContent-Length: 4\r\n", "\xff\xff\xff\xff"))},
      {"a long line", Once(Answer(long_line)), kResourceExhausted},
      {"many fields", Once(Answer(many)), kResourceExhausted},
      {"endless fields",
       [](const std::string&, RawOrigin::Connection& connection) {
         connection.Send("HTTP/1.1 200 OK\r\n");
         while (connection.Send("X-Endless: field\r\n")) {
         }
       },
       kResourceExhausted},
      {"endless interim responses",
       [](const std::string&, RawOrigin::Connection& connection) {
         while (connection.Send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")) {
         }
       },
       kResourceExhausted},
  };
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.name);
    RawOrigin origin(fault.script);
    const auto transport = MakeTransport();
    Kept kept;
    const Asked asked = Send(*transport, origin.Url("/path?token=hidden"), kept,
                             {.headers = {{"Authorization", "Bearer hidden"}}});
    EXPECT_THAT(asked.ended,
                StatusIs(fault.code, AllOf(HasSubstr(StrCat("GET ", origin.Url("/path"))),
                                           Not(HasSubstr("hidden")))));
    EXPECT_EQ(coord::IsUnavailable(asked.ended.status()), fault.code == kUnavailable);
    EXPECT_TRUE(asked.sent);
    EXPECT_LE(kept.heads, 1);
  }
}

TEST(TransportTest, NobodyListeningIsUnavailable) {
  const int port = coord::testing::FreePort();
  const auto transport = MakeTransport();
  Kept kept;
  const Asked asked = Send(*transport, StrCat("http://127.0.0.1:", port, "/a?token=hidden"), kept);
  EXPECT_THAT(asked.ended, StatusIs(kUnavailable, AllOf(HasSubstr("could not connect"),
                                                        Not(HasSubstr("hidden")))));
  EXPECT_TRUE(coord::IsUnavailable(asked.ended.status()));
  EXPECT_FALSE(asked.sent);
}

TEST(TransportTest, AHostThatDoesNotExistIsUnavailable) {
  const auto transport = MakeTransport();
  Kept kept;
  const Asked asked = Send(*transport, "http://no.such.host.invalid/", kept);
  EXPECT_THAT(asked.ended, StatusIs(kUnavailable, HasSubstr("look up")));
  EXPECT_FALSE(asked.sent);
}

TEST(TransportTest, LengthsThatAreWrongAreTold) {
  const std::vector<std::string> answers = {
      Answer("Content-Length: 4\r\n", "fourand more"),
      Answer("Content-Length: 4\r\nContent-Length: 5\r\n", "four5"),
      Answer("Content-Length: 5\r\nContent-Length: 4\r\n", "four"),
      Answer("Content-Length: 4, 5\r\n", "four"),
      Answer("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "4\r\nfour\r\n0\r\n\r\n"),
  };
  for (const std::string& answer : answers) {
    SCOPED_TRACE(answer);
    RawOrigin origin(answer);
    const auto transport = MakeTransport();
    for (int i = 1; i <= 2; ++i) {
      Kept kept;
      const Asked asked = Send(*transport, origin.Url("/a"), kept);
      ASSERT_OK(asked.ended);
      EXPECT_TRUE(asked.ended->length_is_wrong);
      EXPECT_TRUE(kept.body.starts_with("four"));
      EXPECT_EQ(origin.connections(), i);  // never used again
    }
  }
}

TEST(TransportTest, BytesThatComeLateAreNoAnswerToTheNextRequest) {
  std::atomic<bool> sent_more = false;
  RawOrigin origin([&](const std::string&, RawOrigin::Connection& connection) {
    connection.Send(Answer("Content-Length: 4\r\n", "four"));
    if (connection.number() != 1) return;
    connection.Hold();
    connection.Send(Answer("Content-Length: 4\r\n", "evil"));
    sent_more = true;
  });
  const auto transport = MakeTransport();
  Kept first, second;
  ASSERT_OK(Send(*transport, origin.Url("/a"), first).ended);
  origin.Release();
  ASSERT_TRUE(Eventually([&] { return sent_more.load(); }));
  ASSERT_OK(Send(*transport, origin.Url("/b"), second).ended);
  EXPECT_EQ(second.body, "four");
  EXPECT_EQ(origin.connections(), 2);
}

TEST(TransportTest, LengthsThatAgreeAreRight) {
  RawOrigin origin(Answer("Content-Length: 4\r\nContent-Length: 4\r\n", "four"));
  const auto transport = MakeTransport();
  Kept kept;
  const Asked asked = Send(*transport, origin.Url("/a"), kept);
  ASSERT_OK(asked.ended);
  EXPECT_FALSE(asked.ended->length_is_wrong);
}

// ---- Heads ----

TEST(TransportTest, TenThousandFieldsArePassedOn) {
  std::string many;
  for (int i = 0; i < 10'000; ++i) many += StrCat("X-", i, ": v\r\n");
  RawOrigin origin(Once(Answer(many + "Content-Length: 0\r\n")));
  const auto transport = MakeTransport();
  Kept kept;
  const Asked asked = Send(*transport, origin.Url("/a"), kept);
  // Newer versions of libcurl have a bound of their own.
  if (asked.ended.ok()) {
    EXPECT_EQ(kept.headers.size(), 10'001u);
    EXPECT_EQ(kept.headers.Get("x-9999"), "v");
  } else {
    EXPECT_THAT(asked.ended, StatusIs(kResourceExhausted));
  }
}

TEST(TransportTest, OddFieldsAreMadeHarmless) {
  RawOrigin origin(
      Once(Answer("Folded: one\r\n \t two\r\nB\xffz: x\r\nSpace : x\r\n"
                  "Control: a\x01"
                  "b\r\nEmpty:\r\nHigh: \xff\xfe\r\n"
                  "Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n")));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  EXPECT_EQ(kept.headers, Headers({{"Folded", "one two"},
                                   {"Control", "a b"},
                                   {"Empty", ""},
                                   {"High", "\xff\xfe"},
                                   {"Set-Cookie", "a=1"},
                                   {"set-cookie", "b=2"},
                                   {"Content-Length", "0"}}));
}

TEST(TransportTest, InterimResponsesAreNotShown) {
  RawOrigin origin("HTTP/1.1 100 Continue\r\nA: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nB: 2\r\n\r\n" +
                   Answer("C: 3\r\nContent-Length: 2\r\n", "ok"));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  EXPECT_EQ(kept.heads, 1);
  EXPECT_EQ(kept.headers, Headers({{"C", "3"}, {"Content-Length", "2"}}));
}

TEST(TransportTest, TrailersAreLeftOut) {
  RawOrigin origin(Answer("Transfer-Encoding: chunked\r\nTrailer: X\r\n",
                          "4\r\nfour\r\n0\r\nX: trailer\r\n\r\n"));
  const auto transport = MakeTransport();
  for (int i = 0; i < 2; ++i) {
    Kept kept;
    ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
    EXPECT_EQ(kept.body, "four");
    EXPECT_FALSE(kept.headers.Has("X"));
  }
  EXPECT_EQ(origin.connections(), 1);
}

TEST(TransportTest, ResponsesWithoutBodyHaveAHead) {
  for (const std::string_view line : {"204 No Content", "304 Not Modified"}) {
    RawOrigin origin(StrCat("HTTP/1.1 ", line, "\r\nETag: \"1\"\r\n\r\n"));
    const auto transport = MakeTransport();
    for (int i = 0; i < 2; ++i) {
      Kept kept;
      ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended) << line;
      EXPECT_EQ(kept.heads, 1);
      EXPECT_EQ(kept.headers.Get("ETag"), "\"1\"");
      EXPECT_EQ(kept.body, "");
    }
    EXPECT_EQ(origin.connections(), 1);
  }
}

TEST(TransportTest, AHeadsLengthIsNotWaitedFor) {
  RawOrigin origin(Answer("Content-Length: 1000\r\n"));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept, {.method = "HEAD"}).ended);
  EXPECT_EQ(kept.headers.Get("Content-Length"), "1000");
  EXPECT_THAT(origin.last_request(), HasSubstr("HEAD /a HTTP/1.1\r\n"));
}

TEST(TransportTest, ABodyWithoutLengthEndsWithTheConnection) {
  RawOrigin origin(Once(Answer("", "all of it")));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  EXPECT_EQ(kept.body, "all of it");
}

// ---- Compression ----

TEST(TransportTest, CompressedBodiesAreDecodedAndNoLongerSaySo) {
  const std::vector<std::pair<std::string, std::string>> bodies = {
      {"gzip", Gzip()}, {"deflate", Deflate()}, {"br", Brotli()}};
  for (const auto& [encoding, body] : bodies) {
    RawOrigin origin(Answer(
        StrCat("Content-Encoding: ", encoding, "\r\nContent-Length: ", body.size(), "\r\n"), body));
    const auto transport = MakeTransport();
    Kept probe;
    ASSERT_OK(Send(*transport, origin.Url("/a"), probe, {.method = "HEAD"}).ended);
    if (encoding == "br" && origin.last_request().find(" br") == std::string::npos) continue;
    RawOrigin fresh(Answer(
        StrCat("Content-Encoding: ", encoding, "\r\nContent-Length: ", body.size(), "\r\n"), body));
    Kept kept;
    ASSERT_OK(Send(*transport, fresh.Url("/a"), kept).ended) << encoding;
    EXPECT_EQ(kept.body, encoding == "br" ? "hello" : kHello) << encoding;
    EXPECT_TRUE(kept.headers.empty()) << encoding;
  }
}

TEST(TransportTest, WhoNamesAcceptEncodingGetsWhatComes) {
  RawOrigin origin(
      Answer(StrCat("Content-Encoding: gzip\r\nContent-Length: ", Gzip().size(), "\r\n"), Gzip()));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(
      Send(*transport, origin.Url("/a"), kept, {.headers = {{"accept-encoding", "gzip"}}}).ended);
  EXPECT_EQ(kept.body, Gzip());
  EXPECT_EQ(kept.headers.Get("Content-Encoding"), "gzip");
  EXPECT_EQ(kept.headers.Get("Content-Length"), StrCat(Gzip().size()));
}

TEST(TransportTest, WithoutDecompressionNothingIsAskedForOrDecoded) {
  RawOrigin origin(
      Answer(StrCat("Content-Encoding: gzip\r\nContent-Length: ", Gzip().size(), "\r\n"), Gzip()));
  const auto transport = MakeTransport({.decompress = false});
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  EXPECT_EQ(kept.body, Gzip());
  EXPECT_THAT(origin.last_request(), Not(HasSubstr("Accept-Encoding")));
}

// ---- Requests ----

TEST(TransportTest, BodiesOfAnyMethodAreSentAsTheyAre) {
  std::string binary;
  for (int i = 0; i < 70'000; ++i) binary.push_back(static_cast<char>(i % 256));
  for (const std::string method : {"POST", "PUT", "PATCH", "DELETE", "GET", "PURGE"}) {
    for (const std::string& body : {std::string(), std::string("a=b"), binary}) {
      RawOrigin origin(Answer("Content-Length: 0\r\n"));
      const auto transport = MakeTransport();
      Kept kept;
      ASSERT_OK(Send(*transport, origin.Url("/a?b"), kept, {.method = method, .body = body}).ended);
      const std::string request = origin.last_request();
      EXPECT_TRUE(request.starts_with(method + " /a?b HTTP/1.1\r\n")) << request.substr(0, 100);
      EXPECT_TRUE(request.ends_with("\r\n\r\n" + body));
      EXPECT_THAT(request, AllOf(Not(HasSubstr("Content-Type:")), Not(HasSubstr("Expect:"))));
      const bool length = !body.empty() || (method[0] == 'P' && method != "PURGE");
      EXPECT_EQ(request.find(StrCat("Content-Length: ", body.size(), "\r\n")) != std::string::npos,
                length);
    }
  }
}

TEST(TransportTest, FieldsAreSentAsGivenAndTheTransfersOwnAreNot) {
  RawOrigin origin(Answer("Content-Length: 0\r\n"));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept,
                 {.method = "POST",
                  .headers = {{"X-Empty", ""},
                              {"X-Two", "1"},
                              {"X-Two", "2"},
                              {"content-length", "999"},
                              {"Transfer-Encoding", "chunked"},
                              {"Expect", "100-continue"},
                              {"Host", "other.example"},
                              {"Content-Type", "text/x"}},
                  .body = "body"})
                .ended);
  const std::string request = origin.last_request();
  EXPECT_THAT(
      request,
      AllOf(HasSubstr("\r\nX-Empty:\r\n"), HasSubstr("\r\nX-Two: 1\r\nX-Two: 2\r\n"),
            HasSubstr("\r\nContent-Type: text/x\r\n"), HasSubstr("\r\nHost: other.example\r\n"),
            HasSubstr("\r\nContent-Length: 4\r\n"), HasSubstr("\r\nUser-Agent: coord/")));
  EXPECT_THAT(request, AllOf(Not(HasSubstr("999")), Not(HasSubstr("chunked")),
                             Not(HasSubstr("100-continue")), Not(HasSubstr("127.0.0.1"))));
}

TEST(TransportTest, NothingCanBeSmuggledIntoARequest) {
  RawOrigin origin(Answer("Content-Length: 0\r\n"));
  const auto transport = MakeTransport();
  Kept kept;
  const std::string url = origin.Url("/a");
  const std::vector<std::pair<std::string, Ask>> bad = {
      {url, {.headers = {{"X", "a\r\nY: b"}}}},
      {url, {.headers = {{"X\r\nY", "b"}}}},
      {url, {.headers = {{"X:", "b"}}}},
      {url, {.method = "GET / HTTP/1.1\r\nX:"}},
      {url, {.method = ""}},
      {url + " HTTP/1.1\r\nX: y", {}},
      {url + "\r\nX:y", {}},
      {"ftp://127.0.0.1/a", {}},
      {"file:///etc/passwd", {}},
      {StrCat("http://user:hidden@127.0.0.1:", origin.port(), "/"), {}},
  };
  for (const auto& [address, ask] : bad) {
    const Asked asked = Send(*transport, address, kept, ask);
    EXPECT_THAT(asked.ended, StatusIs(kInvalidArgument, Not(HasSubstr("hidden")))) << address;
    EXPECT_FALSE(asked.sent);
  }
  EXPECT_EQ(origin.requests(), 0);
}

TEST(TransportTest, ThePathIsSentAsItIs) {
  RawOrigin origin(Answer("Content-Length: 0\r\n"));
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a/../b/./c%2f?x=%20y"), kept).ended);
  EXPECT_THAT(origin.last_request(), HasSubstr("GET /a/../b/./c%2f?x=%20y HTTP/1.1\r\n"));
}

TEST(TransportTest, RedirectsAreAnswers) {
  RawOrigin origin("HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n");
  const auto transport = MakeTransport();
  Kept kept;
  ASSERT_OK(Send(*transport, origin.Url("/a"), kept).ended);
  EXPECT_EQ(kept.status, 302);
  EXPECT_EQ(origin.requests(), 1);
}

TEST(TransportTest, CookiesAreNotKept) {
  RawOrigin origin(Answer("Set-Cookie: a=b\r\nContent-Length: 0\r\n"));
  const auto transport = MakeTransport();
  Kept first, second;
  ASSERT_OK(Send(*transport, origin.Url("/a"), first).ended);
  ASSERT_OK(Send(*transport, origin.Url("/a"), second).ended);
  EXPECT_THAT(origin.last_request(), Not(HasSubstr("Cookie")));
}

// ---- Ways to the origin ----

TEST(TransportTest, AProxyIsAskedWhereOneIsNamed) {
  RawOrigin proxy(Answer("Content-Length: 0\r\n"));
  const auto transport = MakeTransport({.proxy = proxy.Url("")});
  Kept kept;
  ASSERT_OK(Send(*transport, "http://origin.invalid/a", kept).ended);
  EXPECT_THAT(proxy.last_request(), HasSubstr("GET http://origin.invalid/a HTTP/1.1\r\n"));
}

// In a process of its own, whose environment nobody else reads.
TEST(TransportTest, TheEnvironmentsProxyIsAskedUnlessNoneIsWanted) {
  RawOrigin proxy(Answer("Content-Length: 0\r\n")), origin(Answer("Content-Length: 0\r\n"));
  for (const bool none : {false, true}) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setenv("http_proxy", proxy.Url("").c_str(), 1);
      ::unsetenv("no_proxy");
      ::unsetenv("NO_PROXY");
      const auto transport = OrFatal(Transport::Make({.proxy = none ? "none" : ""}));
      Kept kept;
      ::_exit(Send(*transport, origin.Url("/a"), kept).ended.ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(proxy.requests(), 1);
    EXPECT_EQ(origin.requests(), none ? 1 : 0);
  }
}

TEST(TransportTest, AProxysOwnAnswerIsNotTheOrigins) {
  RawOrigin proxy("HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\nnot tls");
  RawOrigin refuses("HTTP/1.1 403 Forbidden\r\nX-Proxy: 1\r\nContent-Length: 0\r\n\r\n");
  for (const RawOrigin* way : {&proxy, &refuses}) {
    const auto transport = MakeTransport({.proxy = way->Url("")});
    Kept kept;
    const Asked asked = Send(*transport, "https://origin.invalid/a", kept);
    EXPECT_THAT(asked.ended, AnyOf(StatusIs(kUnavailable), StatusIs(kFailedPrecondition)));
    EXPECT_EQ(kept.heads, 0);
    EXPECT_FALSE(asked.sent);
  }
}

TEST(TransportTest, AUnixSocketIsConnectedToWhateverTheHostIs) {
  const TempDir directory;
  RawOrigin origin(
      [](const std::string&, RawOrigin::Connection& connection) {
        connection.Send(Answer("Content-Length: 2\r\n", "ok"));
      },
      {.path = directory.File("http")});
  const auto transport = MakeTransport({.unix_socket = directory.File("http")});
  Kept kept;
  ASSERT_OK(Send(*transport, "http://daemon.invalid/a", kept).ended);
  EXPECT_THAT(origin.last_request(), HasSubstr("\r\nHost: daemon.invalid\r\n"));
}

TEST(TransportTest, OptionsThatBreakTheRulesAreRefused) {
  const std::vector<TransportOptions> bad = {
      {.timeout = absl::ZeroDuration()},
      {.timeout = absl::Hours(25)},
      {.connect_timeout = -absl::Seconds(1)},
      {.user_agent = "a\r\nb"},
      {.cert_file = "/only"},
      {.key_file = "/only"},
      {.proxy = "host:8080"},
      {.proxy = "ftp://host"},
      {.proxy = "http://a b"},
      {.proxy = "http://host", .unix_socket = "/a"},
      {.unix_socket = std::string(200, 'a')},
      {.max_header_bytes = 0},
      {.max_idle_connections = -1},
  };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    EXPECT_THAT(Transport::Make(bad[i]), StatusIs(kInvalidArgument)) << i;
  }
}

// ---- TLS ----

class TransportTlsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Origin> Start(const coord::testing::Certificate& certificate,
                                const std::string& client_ca_file = {}) {
    auto origin = OrFatal(Origin::Start({.cert_file = certificate.cert_file,
                                         .key_file = certificate.key_file,
                                         .client_ca_file = client_ca_file}));
    origin->On("/a", Origin::Reply{.body = "ok"});
    return origin;
  }
  coord::testing::Certificate Good() { return authority_.Issue({.addresses = {"127.0.0.1"}}); }
  absl::Status Get(const TransportOptions& options, const std::string& url) {
    const auto transport = MakeTransport(options);
    Kept kept;
    const Asked asked = Send(*transport, url, kept);
    EXPECT_EQ(kept.body, asked.ended.ok() ? "ok" : "");
    return asked.ended.status();
  }

  coord::testing::CertificateAuthority authority_;
};

TEST_F(TransportTlsTest, ACertificateOfTheAuthorityIsAccepted) {
  const auto origin = Start(Good());
  EXPECT_OK(Get({.ca_file = authority_.ca_file()}, origin->Url("/a")));
}

TEST_F(TransportTlsTest, CertificatesThatProveNothingAreRefused) {
  const auto good = Start(Good());
  const auto elsewhere = Start(authority_.Issue({.hosts = {"other.example"}}));
  const auto expired = Start(authority_.Issue({.addresses = {"127.0.0.1"},
                                               .valid_from = -absl::Hours(48),
                                               .valid_until = -absl::Hours(24)}));
  const auto refused =
      StatusIs(kFailedPrecondition, AllOf(HasSubstr("127.0.0.1"), HasSubstr("certificate")));
  EXPECT_THAT(Get({}, good->Url("/a")), refused);
  EXPECT_THAT(Get({.ca_file = authority_.ca_file()}, elsewhere->Url("/a")), refused);
  EXPECT_THAT(Get({.ca_file = authority_.ca_file()}, expired->Url("/a")), refused);
  EXPECT_EQ(good->requests() + elsewhere->requests() + expired->requests(), 0);
  EXPECT_OK(Get({.insecure = true}, expired->Url("/a")));
}

TEST_F(TransportTlsTest, AClientsCertificateIsShownWhereItIsAskedFor) {
  const auto origin = Start(Good(), authority_.ca_file());
  const coord::testing::Certificate mine = authority_.Issue({.hosts = {"client"}});
  EXPECT_OK(
      Get({.ca_file = authority_.ca_file(), .cert_file = mine.cert_file, .key_file = mine.key_file},
          origin->Url("/a")));
  // Depending on who is faster, the refusal is read or only that the connection has ended.
  EXPECT_THAT(Get({.ca_file = authority_.ca_file()}, origin->Url("/a")),
              AnyOf(StatusIs(kFailedPrecondition), StatusIs(kUnavailable)));
  EXPECT_EQ(origin->requests(), 1);
}

TEST_F(TransportTlsTest, FilesThatCannotBeUsedAreNamedAsTheReason) {
  const auto origin = Start(Good());
  EXPECT_THAT(Get({.ca_file = "/nowhere/ca.pem"}, origin->Url("/a")),
              StatusIs(kFailedPrecondition, HasSubstr("authorities")));
  EXPECT_THAT(Get({.ca_file = authority_.ca_file(),
                   .cert_file = "/nowhere/cert.pem",
                   .key_file = "/nowhere/key.pem"},
                  origin->Url("/a")),
              StatusIs(kFailedPrecondition, HasSubstr("client's certificate")));
}

TEST_F(TransportTlsTest, APortThatSpeaksPlainHttpIsNoTransientFault) {
  RawOrigin http([](const std::string&, RawOrigin::Connection&) {}, {},
                 "HTTP/1.1 400 Bad Request\r\n\r\n");
  const absl::Status status = Get({}, StrCat("https://127.0.0.1:", http.port(), "/a"));
  EXPECT_THAT(status, StatusIs(kFailedPrecondition, HasSubstr("TLS")));
}

// ---- Processes ----

TEST(TransportTest, AForkedChildIsRefusedAndTheParentsConnectionLives) {
  RawOrigin origin(Answer("Content-Length: 2\r\n", "ok"));
  auto transport = MakeTransport();
  Kept before, after;
  ASSERT_OK(Send(*transport, origin.Url("/a"), before).ended);
  const pid_t child = ::fork();
  if (child == 0) {
    Kept kept;
    const bool refused =
        Send(*transport, origin.Url("/a"), kept).ended.status().code() == kFailedPrecondition;
    transport->Close();
    transport.reset();
    ::_exit(refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_OK(Send(*transport, origin.Url("/a"), after).ended);
  EXPECT_EQ(origin.connections(), 1);
}

TEST(TransportTest, ABrokenPipeDuringAnExchangeKillsNobody) {
  // As a TLS library does that writes to a peer who has gone.
  struct Breaking : Kept {
    absl::Status OnBody(std::string_view) override {
      int ends[2];
      EXPECT_EQ(::pipe(ends), 0);
      ::close(ends[0]);
      EXPECT_EQ(::write(ends[1], "x", 1), -1);
      ::close(ends[1]);
      return absl::OkStatus();
    }
  } breaking;
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  RawOrigin origin(Answer("Content-Length: 2\r\n", "ok"));
  const auto transport = MakeTransport();
  ASSERT_OK(Send(*transport, origin.Url("/a"), breaking).ended);
  // The signal is as it was before: not blocked, and none is left.
  sigset_t blocked, pending;
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, nullptr, &blocked), 0);
  ASSERT_EQ(::sigpending(&pending), 0);
  EXPECT_EQ(sigismember(&blocked, SIGPIPE), 0);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

TEST_F(TransportTlsTest, APeerThatHasGoneIsAnError) {
  auto origin = Start(Good());
  const auto transport = MakeTransport({.ca_file = authority_.ca_file()});
  const std::string url = origin->Url("/a");
  Kept kept, large;
  ASSERT_OK(Send(*transport, url, kept).ended);
  origin.reset();
  EXPECT_THAT(
      Send(*transport, url, large, {.method = "POST", .body = std::string(10'000'000, 'x')}).ended,
      StatusIs(kUnavailable));
}

std::size_t MemoryPeakKib() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
}

TEST(TransportTest, ABodyOfAnySizeTakesLittleMemory) {
  constexpr std::size_t kSize = 100'000'000;
  const auto origin = StartOrigin();
  origin->On("/a", Origin::Reply{.chunked_bytes = kSize});
  const pid_t child = ::fork();
  if (child == 0) {
    struct Counting : Receiver {
      absl::Status OnHead(int, const Headers&) override { return absl::OkStatus(); }
      absl::Status OnBody(std::string_view piece) override {
        bytes += piece.size();
        return absl::OkStatus();
      }
      std::size_t bytes = 0;
    } counting;
    const Headers none;
    const std::string url = origin->Url("/a");
    const auto transport = MakeTransport();
    const std::size_t before = MemoryPeakKib();
    const auto ended =
        transport->Exchange({.method = "GET", .url = url, .headers = &none, .body = {}}, counting);
    if (!ended.ok() || counting.bytes != kSize) ::_exit(1);
    ::_exit(MemoryPeakKib() - before < (16u << 10) ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace coord::http::internal
