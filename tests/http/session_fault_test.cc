// Origins that break, lie and hang: what is answered then, and that nothing broken is ever cached.
#include <atomic>
#include <ostream>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "coord/errors.h"
#include "coord/internal/sync.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/http/raw_origin.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::http {
namespace {

using ::coord::internal::MutexLock;
using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using ::coord::testing::IsOk;
using ::coord::testing::RawOrigin;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;
using ::testing::Not;

// A whole response with that body.
std::string Whole(std::string_view body, std::string_view fields = "Cache-Control: max-age=60\r\n",
                  std::string_view status = "200 OK") {
  return StrCat("HTTP/1.1 ", status, "\r\n", fields, "Content-Length: ", body.size(), "\r\n\r\n",
                body);
}

class HttpRawTest : public BlackboxTest {
 protected:
  using Script = RawOrigin::Script;

  HttpRawTest()
      : raw_([this](const std::string& request, RawOrigin::Connection& connection) {
          Script script;
          {
            MutexLock lock(mutex_);
            script = script_;
          }
          script(request, connection);
        }) {}

  void Plays(Script script) {
    MutexLock lock(mutex_);
    script_ = std::move(script);
  }
  void Says(std::string bytes) {
    Plays([bytes = std::move(bytes)](const std::string&, RawOrigin::Connection& connection) {
      connection.Send(bytes);
    });
  }

 private:
  coord::internal::Mutex mutex_;
  Script script_;

 protected:
  RawOrigin raw_;  // last: its scripts use the above
};

// ---- Each fault, three times: with something stale, without it, and before there is anything ----

struct Fault {
  std::string name;
  RawOrigin::Script script;
  bool is_answer = false;  // a whole response of the origin, of a server's error
  bool hangs = false;
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

Fault SaysAndCloses(std::string name, std::string bytes) {
  return {std::move(name),
          [bytes = std::move(bytes)](const std::string&, RawOrigin::Connection& connection) {
            connection.Send(bytes);
            connection.Close();
          }};
}
Fault SaysAndResets(std::string name, std::string bytes) {
  return {std::move(name),
          [bytes = std::move(bytes)](const std::string&, RawOrigin::Connection& connection) {
            connection.Send(bytes);
            connection.Reset();
          }};
}
Fault SaysAndHangs(std::string name, std::string bytes) {
  return {.name = std::move(name),
          .script =
              [bytes = std::move(bytes)](const std::string&, RawOrigin::Connection& connection) {
                connection.Send(bytes);
                connection.WaitForClose();
              },
          .hangs = true};
}
Fault Fails(std::string name, std::string status) {
  return {.name = std::move(name),
          .script = [bytes = Whole("failed", "", status)](
                        const std::string&,
                        RawOrigin::Connection& connection) { connection.Send(bytes); },
          .is_answer = true};
}

const char kHead[] = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";

std::vector<Fault> Faults() {
  const std::string head = kHead;
  const std::string chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  return {
      SaysAndResets("ResetBeforeTheHead", ""),
      SaysAndCloses("ClosedBeforeTheHead", ""),
      SaysAndResets("ResetInTheHead", "HTTP/1.1 200 OK\r\nCache-Con"),
      SaysAndCloses("ClosedInTheHead", "HTTP/1.1 200 OK\r\nCache-Con"),
      SaysAndResets("ResetInTheBody", head + "Content-Length: 10\r\n\r\nfour"),
      SaysAndCloses("TruncatedBody", head + "Content-Length: 10\r\n\r\nfour"),
      SaysAndCloses("TruncatedByOneByte", head + "Content-Length: 11\r\n\r\n0123456789"),
      SaysAndCloses("NoBodyAtAll", head + "Content-Length: 10\r\n\r\n"),
      SaysAndCloses("ChunkCutShort", chunked + "a\r\nfour"),
      SaysAndCloses("LastChunkMissing", chunked + "4\r\nfour\r\n"),
      SaysAndCloses("LastChunkCutShort", chunked + "4\r\nfour\r\n0\r"),
      SaysAndCloses("ChunkSizeIsNoNumber", chunked + "4\r\nfour\r\nzz\r\nmore\r\n0\r\n\r\n"),
      SaysAndCloses("ChunkSizeIsHuge", chunked + "ffffffffffffffffff\r\nfour\r\n0\r\n\r\n"),
      SaysAndCloses("NotHttp", "SSH-2.0-OpenSSH_9.0\r\n"),
      SaysAndCloses("NotHttpAtAll", std::string("\x15\x03\x01\x00\x02\x02\x28", 7)),
      SaysAndHangs("SilenceBeforeTheHead", ""),
      SaysAndHangs("SilenceInTheHead", "HTTP/1.1 200 OK\r\nCache-Con"),
      SaysAndHangs("SilenceInTheBody", head + "Content-Length: 10\r\n\r\nfour"),
      SaysAndHangs("SilenceInAChunk", chunked + "4\r\nfour\r\n"),
      Fails("InternalError", "500 Internal Server Error"),
      Fails("BadGateway", "502 Bad Gateway"),
      Fails("Unavailable", "503 Service Unavailable"),
      Fails("GatewayTimeout", "504 Gateway Timeout"),
  };
}

class HttpFaultTest : public HttpRawTest, public ::testing::WithParamInterface<Fault> {
 protected:
  RequestOptions Impatient() const {
    RequestOptions options;
    if (GetParam().hangs) options.timeout = absl::Milliseconds(300);
    return options;
  }
};

TEST_P(HttpFaultTest, IsAnsweredByAStaleResponseWhereThatIsAllowed) {
  const Session session = Open();
  Says(Whole("one", "Cache-Control: max-age=60, stale-if-error=600\r\nETag: \"a\"\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Plays(GetParam().script);
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x"), Impatient()));
    EXPECT_EQ(response.status(), 200);
    EXPECT_EQ(response.body(), "one");
    EXPECT_TRUE(response.from_cache());
    EXPECT_TRUE(response.stale());
    EXPECT_FALSE(response.revalidated());
  }
  Says(Whole("two"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
  EXPECT_EQ(response.body(), "two");
  EXPECT_FALSE(response.stale());
}

TEST_P(HttpFaultTest, IsTheCallersWhereNothingStaleIsAllowed) {
  const Session session = Open();
  Says(Whole("one", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Plays(GetParam().script);
  const absl::StatusOr<Response> failed = session.Get(raw_.Url("/x"), Impatient());
  if (GetParam().is_answer) {
    ASSERT_OK(failed);
    EXPECT_EQ(failed->body(), "failed");
    EXPECT_FALSE(failed->from_cache());
  } else if (GetParam().hangs) {
    EXPECT_THAT(failed, StatusIs(absl::StatusCode::kDeadlineExceeded));
  } else {
    EXPECT_TRUE(coord::IsUnavailable(failed.status())) << failed.status();
  }
  // What was there is still good for asking about.
  Says("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
  EXPECT_EQ(response.body(), "one");
  EXPECT_TRUE(response.revalidated());
}

TEST_P(HttpFaultTest, IsNeverCached) {
  const Session session = Open();
  Plays(GetParam().script);
  const absl::StatusOr<Response> failed = session.Get(raw_.Url("/x"), Impatient());
  EXPECT_EQ(failed.ok(), GetParam().is_answer) << failed.status();
  ASSERT_OK_AND_ASSIGN(const Response nothing,
                       session.Get(raw_.Url("/x"), {.only_if_cached = true}));
  EXPECT_EQ(nothing.status(), 504);
  EXPECT_FALSE(nothing.from_cache());
  Says(Whole("whole"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
  EXPECT_EQ(response.body(), "whole");
  EXPECT_FALSE(response.from_cache());
  EXPECT_THAT(raw_.last_request(), Not(HasSubstr("If-")));
}

INSTANTIATE_TEST_SUITE_P(Faults, HttpFaultTest, ::testing::ValuesIn(Faults()),
                         [](const auto& one) { return one.param.name; });

class HttpOriginFaultTest : public HttpRawTest {};

TEST_F(HttpOriginFaultTest, AnOriginThatIsGoneIsAnsweredByAStaleResponse) {
  const Session session = Open();
  const int port = coord::testing::FreePort();
  const std::string url = StrCat("http://127.0.0.1:", port, "/x");
  coord::testing::Endpoint endpoint;
  endpoint.port = port;
  {
    const RawOrigin origin(
        [](const std::string&, RawOrigin::Connection& connection) {
          connection.Send(Whole("one", "Cache-Control: max-age=60, stale-if-error=600\r\n"));
        },
        endpoint);
    ASSERT_OK(session.Get(url));
  }
  Advance(61);
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(url));
  EXPECT_EQ(response.body(), "one");
  EXPECT_TRUE(response.stale());
  const absl::StatusOr<Response> other = session.Get(url + "2");
  EXPECT_TRUE(coord::IsUnavailable(other.status())) << other.status();
  EXPECT_FALSE(coord::IsOutcomeUnknown(other.status()));
}

TEST_F(HttpOriginFaultTest, BytesBehindABodyAreNoPartOfIt) {
  const Session session = Open();
  Says(StrCat(kHead, "Content-Length: 4\r\n\r\nfour and more"));
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  EXPECT_EQ(first.body(), "four");
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/x")));
  EXPECT_EQ(second.body(), "four");
  Says(Whole("other"));
  ASSERT_OK_AND_ASSIGN(const Response other, session.Get(raw_.Url("/y")));
  EXPECT_EQ(other.body(), "other");
}

TEST_F(HttpOriginFaultTest, AResponseBehindAResponseIsNobodys) {
  const Session session = Open();
  Says(StrCat(Whole("one"), Whole("smuggled")));
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  EXPECT_EQ(first.body(), "one");
  Says(Whole("two"));
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/y")));
  EXPECT_EQ(second.body(), "two");
}

TEST_F(HttpOriginFaultTest, InterimResponsesAreNotTheAnswer) {
  const Session session = Open();
  Says(StrCat("HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\nCache-Control: no-store\r\n\r\n",
              Whole("one")));
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  EXPECT_EQ(first.status(), 200);
  EXPECT_EQ(first.header("X-Hint"), "");
  EXPECT_TRUE(first.stored());
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/x")));
  EXPECT_TRUE(second.from_cache());
}

TEST_F(HttpOriginFaultTest, HeadersOfManyKilobytesAreTakenAndStored) {
  const Session session = Open();
  std::string fields = "Cache-Control: max-age=60\r\n";
  for (int i = 0; i < 1000; ++i) fields += StrCat("X-", i, ": ", std::string(80, 'v'), "\r\n");
  fields += StrCat("X-Long: ", std::string(60'000, 'l'), "\r\n");
  Says(Whole("one", fields));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
    EXPECT_EQ(response.from_cache(), i == 1);
    EXPECT_EQ(response.header("X-999"), std::string(80, 'v'));
    EXPECT_EQ(response.header("X-Long").size(), 60'000u);
  }
}

TEST_F(HttpOriginFaultTest, HeadersWithoutAnEndAreRefused) {
  const Session session = Open();
  Plays([](const std::string&, RawOrigin::Connection& connection) {
    connection.Send("HTTP/1.1 200 OK\r\n");
    const std::string line = StrCat("X-More: ", std::string(4000, 'm'), "\r\n");
    for (int i = 0; i < 2000 && connection.Send(line); ++i) {
    }
    connection.Close();
  });
  EXPECT_THAT(session.Get(raw_.Url("/x")), Not(IsOk()));
  Says(Whole("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
  EXPECT_FALSE(response.from_cache());
}

TEST_F(HttpOriginFaultTest, NotModifiedThatNobodyAskedForIsNotCached) {
  const Session session = Open();
  Says("HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\r\n");
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  EXPECT_FALSE(first.stored());
  Says(Whole("one"));
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/x")));
  EXPECT_EQ(second.body(), "one");
}

TEST_F(HttpOriginFaultTest, TheLengthInNotModifiedIsNotThatOfTheBody) {
  const Session session = Open();
  Says(Whole("one", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Says("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 999\r\n\r\n");
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
    EXPECT_EQ(response.body(), "one");
    EXPECT_NE(response.header("Content-Length"), "999");
  }
}

TEST_F(HttpOriginFaultTest, NotModifiedForATagThatNobodyHasFreshensNothing) {
  const Session session = Open();
  Says(Whole("one", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Plays([](const std::string& request, RawOrigin::Connection& connection) {
    connection.Send(request.find("\"a\"") != std::string::npos
                        ? "HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\nCache-Control: "
                          "max-age=600\r\n\r\n"
                        : Whole("two", "Cache-Control: max-age=600\r\nETag: \"b\"\r\n"));
  });
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  const int asked = raw_.requests();
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/x")));
  // Either it asked again at once, or it does so now: the old body is not fresh by a stranger's
  // 304.
  if (first.body() != "two") {
    EXPECT_GT(raw_.requests(), asked);
  } else {
    EXPECT_EQ(second.body(), "two");
  }
}

TEST_F(HttpOriginFaultTest, NotModifiedChoosesAmongVariants) {
  const Session session = Open();
  const auto get = [&](const char* value) {
    return session.Get(raw_.Url("/x"), {.headers = {{"X-A", value}}});
  };
  Says(Whole("one", "Cache-Control: max-age=60\r\nVary: X-A\r\nETag: \"a\"\r\n"));
  ASSERT_OK(get("1"));
  Says(Whole("two", "Cache-Control: max-age=60\r\nVary: X-A\r\nETag: \"b\"\r\n"));
  ASSERT_OK(get("2"));
  Plays([](const std::string& request, RawOrigin::Connection& connection) {
    connection.Send(request.find("\"b\"") != std::string::npos
                        ? "HTTP/1.1 304 Not Modified\r\nVary: X-A\r\nETag: \"b\"\r\n\r\n"
                        : Whole("two", "Vary: X-A\r\nETag: \"b\"\r\n"));
  });
  ASSERT_OK_AND_ASSIGN(const Response third, get("3"));
  EXPECT_EQ(third.status(), 200);
  EXPECT_EQ(third.body(), "two");
}

TEST_F(HttpOriginFaultTest, AnUnknownMethodIsNotStoredAndMakesTheCacheForget) {
  const Session session = Open();
  Says(Whole("one"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Says(Whole("frobbed"));
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Send("FROB", raw_.Url("/x")));
    EXPECT_EQ(response.body(), "frobbed");
    EXPECT_FALSE(response.from_cache());
    EXPECT_THAT(raw_.last_request(), ::testing::StartsWith("FROB /x HTTP/1.1\r\n"));
  }
  EXPECT_EQ(raw_.requests(), 3);
  Says(Whole("two"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(raw_.Url("/x")));
  EXPECT_EQ(response.body(), "two");
}

TEST_F(HttpOriginFaultTest, APostThatMayHaveArrivedIsNotSentAgain) {
  const Session session = Open();
  for (const Fault& fault : {SaysAndResets("", ""), SaysAndCloses("", ""),
                             SaysAndCloses("", StrCat(kHead, "Content-Length: 10\r\n\r\nfour"))}) {
    Plays(fault.script);
    const int before = raw_.requests();
    const absl::StatusOr<Response> response = session.Post(raw_.Url("/x"), "order");
    EXPECT_TRUE(coord::IsOutcomeUnknown(response.status())) << response.status();
    EXPECT_EQ(raw_.requests(), before + 1);
  }
  Plays(SaysAndHangs("", "").script);
  const absl::StatusOr<Response> late =
      session.Post(raw_.Url("/x"), "order", {.timeout = absl::Milliseconds(300)});
  EXPECT_THAT(late, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(coord::IsOutcomeUnknown(late.status()));
}

TEST_F(HttpOriginFaultTest, AGetThatFailedIsNotOfUnknownOutcome) {
  Plays(SaysAndResets("", "").script);
  const absl::StatusOr<Response> response = Open().Get(raw_.Url("/x"));
  EXPECT_FALSE(coord::IsOutcomeUnknown(response.status())) << response.status();
}

TEST_F(HttpOriginFaultTest, WhatASinkWasGivenIsNotFollowedBySomethingStale) {
  const Session session = Open();
  Says(Whole("stale", "Cache-Control: max-age=60, stale-if-error=600\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Plays([](const std::string&, RawOrigin::Connection& connection) {
    connection.Send(StrCat(kHead, "Content-Length: 2000000\r\n\r\n", std::string(1'000'000, 'n')));
    connection.Close();
  });
  std::string got;
  const absl::StatusOr<Response> response =
      session.Get(raw_.Url("/x"), {.sink = [&got](std::string_view piece) {
                    got += piece;
                    return absl::OkStatus();
                  }});
  if (response.ok()) {
    EXPECT_EQ(got, "stale");
  } else {
    EXPECT_THAT(got, Not(HasSubstr("stale")));
  }
}

TEST_F(HttpOriginFaultTest, AStopTokenEndsAnExchange) {
  const Session session = Open();
  std::stop_source stop;
  // A copy: the exchange may be over, and the test, before request_stop returns.
  Plays([stop](const std::string&, RawOrigin::Connection& connection) mutable {
    connection.Send(StrCat(kHead, "Content-Length: 10\r\n\r\nfour"));
    stop.request_stop();
    connection.WaitForClose();
  });
  const Stopwatch watch;
  EXPECT_THAT(session.Get(raw_.Url("/x"), {.stop = stop.get_token()}),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_LT(watch.elapsed(), absl::Seconds(15));
  Says(Whole("one"));
  EXPECT_OK(session.Get(raw_.Url("/x")));
}

TEST_F(HttpOriginFaultTest, CloseEndsAnExchange) {
  const Session session = Open();
  std::atomic<bool> closed{false};
  Plays([&](const std::string&, RawOrigin::Connection& connection) {
    session.Close();
    closed = true;
    connection.WaitForClose();
  });
  const Stopwatch watch;
  const absl::StatusOr<Response> response = session.Get(raw_.Url("/x"));
  // The exchange is over before Close returns, and that still uses the session.
  EXPECT_TRUE(Eventually([&] { return closed.load(); }, absl::Seconds(20)));
  EXPECT_THAT(response, Not(IsOk()));
  EXPECT_LT(watch.elapsed(), absl::Seconds(15));
}

TEST_F(HttpOriginFaultTest, ARefreshThatFailsIsReportedAndTheStaleOneStays) {
  const Session session = Open();
  Says(Whole("one", "Cache-Control: max-age=60, stale-while-revalidate=600\r\n"));
  ASSERT_OK(session.Get(raw_.Url("/x")));
  Advance(61);
  Plays(SaysAndResets("", "").script);
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(raw_.Url("/x")));
  EXPECT_TRUE(first.stale());
  EXPECT_TRUE(Eventually([&] { return !problems_->all().empty(); }));
  ASSERT_OK_AND_ASSIGN(const Response second, session.Get(raw_.Url("/x")));
  EXPECT_EQ(second.body(), "one");
  EXPECT_TRUE(second.stale());
}

}  // namespace
}  // namespace coord::http
