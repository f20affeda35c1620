// What could hurt where a session's parts meet: HEAD beside GET, conditions beside refreshes,
// flights beside time limits, and the ends of sessions.
#include <atomic>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "cache/memory_backend.h"
#include "coord/internal/sync.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/http/raw_origin.h"
#include "tests/http/store_fixture.h"
#include "tests/support/process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::MutexLock;
using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::RawOrigin;
using dev::Origin;
using internal::CountingBackend;
using ::testing::HasSubstr;
using ::testing::Not;

// Closed until somebody opens it.
class Gate {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    changed_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(mutex_);
    while (!open_) changed_.Wait(mutex_);
  }

 private:
  coord::internal::Mutex mutex_;
  coord::internal::CondVar changed_;
  bool open_ = false;
};

class HttpReviewTest : public BlackboxTest {
 protected:
  static std::shared_ptr<CountingBackend> Counting() {
    return std::make_shared<CountingBackend>(
        std::make_shared<MemoryBackend>(MemoryOptions{.max_bytes = 64 << 20}));
  }
  Session Over(std::shared_ptr<Backend> backend) const {
    return OrEnd(Session::Over(std::move(backend), OverOptions()));
  }
};

// ---- HEAD beside GET ----

TEST_F(HttpReviewTest, AHeadThatFailsTakesNoGetsPlace) {
  const Session session = Open();
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  origin_->On("/x", Answer(503, {{"Cache-Control", "max-age=60"}}, "broken"));
  ASSERT_OK(session.Head(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "broken");
}

TEST_F(HttpReviewTest, AHeadTakesNoPlaceOfAGetThatHasJustGone) {
  const auto backend = Counting();
  const Session session = Over(backend);
  origin_->On("/x", Answer(200, {{"Cache-Control", "max-age=60"}}, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  // It was there when the HEAD looked first.
  backend->BeforeGet(2, [&] { EXPECT_OK(session.cache().Clear()); });
  ASSERT_OK(session.Head(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "one");
}

TEST_F(HttpReviewTest, AHeadsOkDoesNotConfirmACachedNotFound) {
  const Session session = Open();
  origin_->On("/x", Answer(404, {{"Cache-Control", "max-age=60"}}, "none"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  origin_->On("/x", {.headers = {{"Cache-Control", "max-age=60"}}, .chunked_bytes = 10});
  ASSERT_OK(session.Head(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.status(), 200);
}

TEST_F(HttpReviewTest, AHeadAsksABackendThatIsAwayNoMoreOftenThanAGet) {
  const auto backend = Counting();
  const Session session = Over(backend);
  origin_->On("/x", Fresh("one"));
  backend->Close();
  ASSERT_OK(session.Get(Url("/x")));
  const int get = backend->Taken();
  ASSERT_OK(session.Head(Url("/x")));
  EXPECT_EQ(backend->Taken(), get);
  ASSERT_OK_AND_ASSIGN(const Response response, session.Head(Url("/x"), {.only_if_cached = true}));
  EXPECT_EQ(response.status(), 504);
}

// ---- Identities and variants ----

TEST_F(HttpReviewTest, HostsThatRequestsNameAreToldApart) {
  const Session session = Open();
  origin_->On("/x", [](const Origin::Request& request) { return Fresh(request.header("Host")); });
  for (const std::string host : {"one.example", "two.example", "one.example"}) {
    ASSERT_OK_AND_ASSIGN(const Response response,
                         session.Get(Url("/x"), {.headers = {{"Host", host}}}));
    EXPECT_EQ(response.body(), host);
  }
  EXPECT_EQ(origin_->requests("/x"), 2);
}

TEST_F(HttpReviewTest, WhatAHostsPostHasChangedIsForgotten) {
  const Session session = Open();
  const RequestOptions there{.headers = {{"Host", "one.example"}}};
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x"), there));
  ASSERT_OK(session.Post(Url("/x"), "new", there));
  origin_->On("/x", Fresh("two"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x"), there));
  EXPECT_EQ(response.body(), "two");
}

TEST_F(HttpReviewTest, ASecretFieldIsNotSentToAnotherOriginThoughItIsIgnored) {
  const std::unique_ptr<Origin> other = OrEnd(Origin::Start());
  other->On("/b", Fresh("one"));
  origin_->On("/a", RedirectTo(other->Url("/b")));
  SessionOptions options = Options();
  options.ignored_parameters = {"X-API-Key"};
  options.transport.headers = {{"X-API-Key", "qX7secret"}};
  const Session session = Open(std::move(options));
  ASSERT_OK(session.Get(Url("/a")));
  ASSERT_EQ(other->requests("/b"), 1);
  EXPECT_EQ(other->log("/b").front().header("X-API-Key"), "");
}

TEST_F(HttpReviewTest, ANotModifiedThatNamesAVaryNarrowsWhatItConfirms) {
  const Session session = Open();
  origin_->On("/x", Fresh("english"));
  ASSERT_OK(session.Get(Url("/x"), {.headers = {{"Accept-Language", "en"}}}));
  Advance(61);
  origin_->On("/x", [](const Origin::Request& request) {
    const Origin::Fields fields = {
        {"Cache-Control", "max-age=60"}, {"Vary", "Accept-Language"}, {"ETag", "\"a\""}};
    if (request.header("Accept-Language") == "en") return Answer(304, fields, "");
    return Answer(200, {{"Cache-Control", "max-age=60"}, {"Vary", "Accept-Language"}}, "german");
  });
  ASSERT_OK(session.Get(Url("/x"), {.headers = {{"Accept-Language", "en"}}}));
  ASSERT_OK_AND_ASSIGN(const Response german,
                       session.Get(Url("/x"), {.headers = {{"Accept-Language", "de"}}}));
  EXPECT_EQ(german.body(), "german");
  ASSERT_OK_AND_ASSIGN(
      const Response english,
      session.Get(Url("/x"), {.headers = {{"Accept-Language", "en"}}, .only_if_cached = true}));
  EXPECT_EQ(english.body(), "english");
}

// ---- Conditions of the caller's own ----

TEST_F(HttpReviewTest, ANotModifiedForTheCallersOwnTagDoesNotConfirmAnother) {
  const Session session = Open();
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  // About "b", which the caller has; it does not say so.
  origin_->On("/x", Answer(304, {{"Cache-Control", "max-age=60"}}, ""));
  ASSERT_OK_AND_ASSIGN(const Response own,
                       session.Get(Url("/x"), {.headers = {{"If-None-Match", "\"b\""}}}));
  EXPECT_EQ(own.status(), 304);
  origin_->On("/x", Answer(200, {{"ETag", "\"b\""}}, "two"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "two");
}

TEST_F(HttpReviewTest, AConditionalRequestThatIsServedStaleRefreshesToo) {
  const Session session = Open();
  const Origin::Fields fields = {{"Cache-Control", "max-age=60, stale-while-revalidate=600"},
                                 {"ETag", "\"a\""}};
  origin_->On("/x", Answer(200, fields, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  origin_->On("/x", Answer(200, {{"Cache-Control", "max-age=60"}, {"ETag", "\"b\""}}, "two"));
  ASSERT_OK_AND_ASSIGN(const Response response,
                       session.Get(Url("/x"), {.headers = {{"If-None-Match", "\"a\""}}}));
  EXPECT_EQ(response.status(), 304);
  EXPECT_TRUE(Eventually([&] {
    const auto now = session.Get(Url("/x"), {.only_if_cached = true});
    return now.ok() && now->body() == "two";
  }));
}

TEST_F(HttpReviewTest, ARefreshDoesNotAskByTheConditionsOfItsCaller) {
  const Session session = Open();
  const Origin::Fields fields = {{"Cache-Control", "max-age=60, stale-while-revalidate=600"},
                                 {"ETag", "\"a\""}};
  origin_->On("/x", Answer(200, fields, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  origin_->On("/x", [](const Origin::Request& request) {
    const Origin::Fields now = {{"Cache-Control", "max-age=60"}, {"ETag", "\"b\""}};
    if (request.header("If-None-Match") == "\"b\"") return Answer(304, now, "");
    return Answer(200, now, "two");
  });
  ASSERT_OK(session.Get(Url("/x"), {.headers = {{"If-None-Match", "\"b\""}}}));
  EXPECT_TRUE(Eventually([&] {
    const auto now = session.Get(Url("/x"), {.only_if_cached = true});
    return now.ok() && now->body() == "two";
  }));
}

// ---- Flights ----

TEST_F(HttpReviewTest, TheTimeLimitOfTheOneWhoAsksIsNotThatOfTheOthers) {
  const Session session = Open();
  // The origin may be with them longer than this test.
  const auto arrived = std::make_shared<Gate>(), go_on = std::make_shared<Gate>();
  origin_->On("/x", [=, asked = std::make_shared<std::atomic<int>>(0)](const Origin::Request&) {
    if (++*asked == 1) {
      arrived->Open();
      go_on->Pass();
    }
    return Fresh("one");
  });
  std::thread hasty([&] {
    const auto response = session.Get(Url("/x"), {.timeout = absl::Seconds(1)});
    EXPECT_EQ(response.status().code(), absl::StatusCode::kDeadlineExceeded);
  });
  arrived->Pass();
  const auto response = session.Get(Url("/x"), {.timeout = absl::Seconds(60)});
  EXPECT_OK(response);
  hasty.join();
  go_on->Open();
}

TEST_F(HttpReviewTest, AStopOfTheOneWhoAsksIsNotThatOfTheOthers) {
  const Session session = Open();
  // The origin may be with them longer than this test.
  const auto arrived = std::make_shared<Gate>(), go_on = std::make_shared<Gate>();
  origin_->On("/x", [=, asked = std::make_shared<std::atomic<int>>(0)](const Origin::Request&) {
    if (++*asked == 1) {
      arrived->Open();
      go_on->Pass();
    }
    return Fresh("one");
  });
  std::stop_source stop;
  std::thread stopped([&] {
    const auto response = session.Get(Url("/x"), {.stop = stop.get_token()});
    EXPECT_EQ(response.status().code(), absl::StatusCode::kCancelled);
  });
  arrived->Pass();
  std::thread patient([&] { EXPECT_OK(session.Get(Url("/x"))); });
  stop.request_stop();
  stopped.join();
  patient.join();
  go_on->Open();
}

// What 16 threads at once cost the origin.
int RequestsOfMany(const Session& session, Origin& origin, const std::string& url,
                   const std::string& path) {
  const int before = origin.requests(path);
  std::atomic<int> started{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      ++started;
      while (started < 16) std::this_thread::yield();
      EXPECT_OK(session.Get(url));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return origin.requests(path) - before;
}

TEST_F(HttpReviewTest, AHeadThatIsAnsweredInFullDoesNotMakeEachGetAskForItself) {
  const Session session = Open();
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  ASSERT_OK(session.Head(Url("/x")));
  Advance(61);
  EXPECT_EQ(RequestsOfMany(session, *origin_, Url("/x"), "/x"), 1);
}

TEST_F(HttpReviewTest, WhatCanBeSharedAgainIsAskedForOnceAgain) {
  const Session session = Open();
  origin_->On("/x", Answer(200, {{"Cache-Control", "no-store"}}, "one"));
  ASSERT_OK(session.Get(Url("/x")));
  origin_->On("/x", Fresh("two"));
  ASSERT_OK(session.Get(Url("/x")));
  Advance(61);
  EXPECT_EQ(RequestsOfMany(session, *origin_, Url("/x"), "/x"), 1);
}

// ---- Unsafe methods ----

TEST_F(HttpReviewTest, ChangesElsewhereSeldomKeepAResponseFromBeingStored) {
  const Session session = Open();
  origin_->On("/y", Answer(200, {}, ""));
  bool stored = false;
  // By chance one in some thousands changes of others does.
  for (int i = 0; i < 8 && !stored; ++i) {
    const std::string path = StrCat("/x", i);
    Gate arrived, go_on;
    origin_->On(path, [&](const Origin::Request&) {
      arrived.Open();
      go_on.Pass();
      return Fresh("one");
    });
    std::thread reader([&] {
      const auto response = session.Get(Url(path));
      stored = response.ok() && response->stored();
    });
    arrived.Pass();
    for (int j = 0; j < 400; ++j) EXPECT_OK(session.Post(Url(StrCat("/y?", i, "-", j)), ""));
    go_on.Open();
    reader.join();
  }
  EXPECT_TRUE(stored);
}

TEST_F(HttpReviewTest, WhatIsMadeInvalidWhileItIsWrittenDoesNotStay) {
  const auto backend = Counting();
  const Session session = Over(backend);
  origin_->On("/x", Fresh("one"));
  backend->BeforeNextSet([&] { EXPECT_OK(session.Post(Url("/x"), "new")); });
  ASSERT_OK_AND_ASSIGN(const Response old, session.Get(Url("/x")));
  EXPECT_FALSE(old.stored());
  origin_->On("/x", Fresh("two"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "two");
}

// ---- Bounds ----

TEST_F(HttpReviewTest, WithoutABoundLargeBodiesAreStored) {
  SessionOptions options = Options();
  options.max_stored_body = std::numeric_limits<std::size_t>::max();
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh(std::string(1'000'000, 'b')));
  origin_->On("/y", Fresh(std::string(1'000'000, 'b')));
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK(session.Get(Url("/y"), {.sink = [](std::string_view) { return absl::OkStatus(); }}));
  for (const char* path : {"/x", "/y"}) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url(path)));
    EXPECT_TRUE(response.from_cache()) << path;
    EXPECT_EQ(response.body().size(), 1'000'000U);
  }
}

TEST_F(HttpReviewTest, AStatusThatIsNoneIsPassedOnAndNotStored) {
  const Session session = Open();
  const RawOrigin origin(
      "HTTP/1.1 999 Denied\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nno");
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(origin.Url("/x")));
  EXPECT_EQ(response.status(), 999);
  EXPECT_FALSE(response.stored());
}

TEST_F(HttpReviewTest, WhatTheCacheSaysOfItselfHasNoBlanksInAWord) {  // RFC 9211, RFC 8941
  const Session session = Open();
  origin_->On("/x", Answer(200, {}, "one"));
  ASSERT_OK_AND_ASSIGN(const Response bare, session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response asked,
                       session.Get(Url("/x"), {.headers = {{"Cache-Control", "no-store"}}}));
  for (const Response& response : {bare, asked}) {
    std::string without = response.cache_status();
    for (std::size_t at = 0; (at = without.find("; ", at)) != std::string::npos;) {
      without.replace(at, 2, ";");
    }
    EXPECT_THAT(without, Not(HasSubstr(" ")));
  }
}

// ---- Ends ----

TEST_F(HttpReviewTest, CloseInAForkedChildLeavesTheParentsExchangesAlone) {
  const Session session = Open();
  Gate arrived, go_on;
  origin_->On("/x", [&](const Origin::Request&) {
    arrived.Open();
    go_on.Pass();
    return Fresh("one");
  });
  std::thread reader([&] { EXPECT_OK(session.Get(Url("/x"))); });
  arrived.Pass();
  const auto child = ForkAndRun([&] {
                       session.Close();
                       return 7;
                     }).Wait(absl::Seconds(10));
  EXPECT_EQ(child.exit_code, 7);
  go_on.Open();
  reader.join();
}

// Some seconds.
TEST_F(HttpReviewTest, TheEndOfASessionDoesNotWaitForALongQueueOfRefreshes) {
  constexpr int kPages = 40;
  std::atomic<bool> hangs{false};
  std::atomic<int> refreshed{0};
  const RawOrigin origin([&](const std::string&, RawOrigin::Connection& connection) {
    if (hangs) {
      ++refreshed;
      connection.WaitForClose();
      return;
    }
    connection.Send(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60, stale-while-revalidate=600\r\n"
        "Content-Length: 3\r\n\r\none");
  });
  {
    SessionOptions options = Options();
    options.transport.timeout = absl::Seconds(1);
    const Session session = Open(std::move(options));
    const auto get_all = [&] {
      for (int i = 0; i < kPages; ++i) ASSERT_OK(session.Get(origin.Url(StrCat("/", i))));
    };
    get_all();
    Advance(61);
    hangs = true;
    get_all();
  }
  EXPECT_LT(refreshed, kPages);
}

}  // namespace
}  // namespace coord::http
