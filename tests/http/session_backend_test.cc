// What a session keeps, where: looking into it, times to live, sharing, and a backend that fails.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/http/session.h"
#include "cache/registry.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/blackbox_fixture.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"
#include "tools/dev/origin.h"

namespace coord::http {
namespace {

using ::coord::internal::StrCat;
using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;

class HttpBackendTest : public BlackboxTest, public ::testing::WithParamInterface<std::string> {
 protected:
  HttpBackendTest() {
    if (GetParam() == "memory") {
      backend_ = OrEnd(OpenBackend("memory://"));
    } else if (GetParam() == "disk") {
      backend_ = OrEnd(OpenBackend(StrCat("disk://", directory_.File("http.db"))));
    } else {
      server_ = std::make_unique<RedisServer>();
      backend_ = OrEnd(OpenBackend(server_->url()));
    }
  }

  Session Over(std::string store = "test") const {
    SessionOptions options = OverOptions();
    options.store = std::move(store);
    return OrEnd(Session::Over(backend_, std::move(options)));
  }

  // "/a" is fresh for 60 s, "/b" for 600 s, "/c" is a 404 for 600 s.
  void Fill(const Session& session) {
    origin_->On("/a", Fresh("a"));
    origin_->On("/b", Answer(200, {{"Cache-Control", "max-age=600"}}, std::string(2000, 'b')));
    origin_->On("/c", Answer(404, {{"Cache-Control", "max-age=600"}}, "c"));
    for (const char* const path : {"/a", "/b", "/c"}) ASSERT_OK(session.Get(Url(path)));
  }

  bool Cached(const Session& session, std::string_view path) const {
    const auto response = session.Get(Url(path), {.only_if_cached = true});
    return response.ok() && response->status() != 504;
  }

  const TempDir directory_;
  std::unique_ptr<RedisServer> server_;
  std::shared_ptr<Backend> backend_;
};

TEST_P(HttpBackendTest, AnEmptyCacheHasNothing) {
  const Session session = Over();
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(0));
  EXPECT_THAT(session.cache().Size(), IsOkAndHolds(0));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(session.cache().Filter(), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(session.cache().Contains(Url("/a")), IsOkAndHolds(false));
  EXPECT_THAT(session.cache().Delete(Url("/a")), IsOkAndHolds(false));
  EXPECT_THAT(session.cache().DeleteWhere({}), IsOkAndHolds(0));
  EXPECT_OK(session.cache().Clear());
}

TEST_P(HttpBackendTest, ItIsSeenWhatIsCached) {
  const Session session = Over();
  Fill(session);
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(3));
  EXPECT_THAT(session.cache().Size(), IsOkAndHolds(AllOf(Gt(300), Le(100'000))));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(ElementsAre(Url("/a"), Url("/b"), Url("/c"))));
  EXPECT_THAT(session.cache().Contains(Url("/a")), IsOkAndHolds(true));
  EXPECT_THAT(session.cache().Contains(Url("/x/../a#part")), IsOkAndHolds(true));
  EXPECT_THAT(session.cache().Contains(Url("/d")), IsOkAndHolds(false));
  EXPECT_THAT(session.cache().Contains("nonsense"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(HttpBackendTest, AResponseThatIsFoundIsWhole) {
  const Session session = Over();
  Fill(session);
  ASSERT_OK_AND_ASSIGN(const std::vector<Response> found,
                       session.cache().Filter({.urls = UrlPattern(Url("/c"))}));
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].status(), 404);
  EXPECT_EQ(found[0].body(), "c");
  EXPECT_EQ(found[0].url(), Url("/c"));
  EXPECT_EQ(found[0].header("Cache-Control"), "max-age=600");
  EXPECT_NE(found[0].key(), "");
  EXPECT_EQ(found[0].expires(), absl::FromUnixSeconds(now_->load() + 600));
}

TEST_P(HttpBackendTest, FiltersHoldTogether) {
  const Session session = Over();
  Fill(session);
  Advance(100);
  origin_->On("/d", Answer(200, {{"Cache-Control", "max-age=600"}}, "d"));
  ASSERT_OK(session.Get(Url("/d")));
  const ResponseCache& cache = session.cache();
  EXPECT_THAT(cache.Urls({.expired = true}), IsOkAndHolds(ElementsAre(Url("/a"))));
  EXPECT_THAT(cache.Urls({.expired = false}),
              IsOkAndHolds(ElementsAre(Url("/b"), Url("/c"), Url("/d"))));
  EXPECT_THAT(cache.Urls({.older_than = absl::Seconds(50)}),
              IsOkAndHolds(ElementsAre(Url("/a"), Url("/b"), Url("/c"))));
  EXPECT_THAT(cache.Urls({.younger_than = absl::Seconds(50)}),
              IsOkAndHolds(ElementsAre(Url("/d"))));
  const auto not_found = [](const Response& response) { return response.status() == 404; };
  EXPECT_THAT(cache.Urls({.where = not_found}), IsOkAndHolds(ElementsAre(Url("/c"))));
  EXPECT_THAT(cache.Urls({.urls = UrlPattern(Url("/[bd]"))}),
              IsOkAndHolds(ElementsAre(Url("/b"), Url("/d"))));
  EXPECT_THAT(cache.Urls({.urls = UrlPattern::Regex("/[ab]$"), .expired = false}),
              IsOkAndHolds(ElementsAre(Url("/b"))));
  EXPECT_THAT(cache.Count({.expired = true, .where = not_found}), IsOkAndHolds(0));
  EXPECT_THAT(cache.Count({.expired = false, .older_than = absl::Seconds(50)}), IsOkAndHolds(2));
}

TEST_P(HttpBackendTest, AWalkEndsWhenItsCallerSaysSo) {
  const Session session = Over();
  Fill(session);
  int seen = 0;
  EXPECT_OK(session.cache().ForEach({}, [&seen](const Response&) { return ++seen < 2; }));
  EXPECT_EQ(seen, 2);
}

TEST_P(HttpBackendTest, AUrlIsDeletedInAllItsVariants) {
  const Session session = Over();
  Fill(session);
  origin_->On("/v", Answer(200, {{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, "v"));
  for (const char* const value : {"1", "2", "3"}) {
    ASSERT_OK(session.Get(Url("/v"), {.headers = {{"X-A", value}}}));
  }
  EXPECT_THAT(session.cache().Contains(Url("/v")), IsOkAndHolds(true));
  EXPECT_THAT(session.cache().Delete(Url("/v")), IsOkAndHolds(true));
  EXPECT_THAT(session.cache().Delete(Url("/v")), IsOkAndHolds(false));
  EXPECT_THAT(session.cache().Contains(Url("/v")), IsOkAndHolds(false));
  for (const char* const value : {"1", "2", "3"}) {
    ASSERT_OK_AND_ASSIGN(
        const Response response,
        session.Get(Url("/v"), {.headers = {{"X-A", value}}, .only_if_cached = true}));
    EXPECT_EQ(response.status(), 504) << value;
  }
  EXPECT_TRUE(Cached(session, "/a"));
}

TEST_P(HttpBackendTest, AVariantIsCountedOnceEach) {
  const Session session = Over();
  origin_->On("/v", Answer(200, {{"Cache-Control", "max-age=60"}, {"Vary", "X-A"}}, "v"));
  for (const char* const value : {"1", "2", "3", "1"}) {
    ASSERT_OK(session.Get(Url("/v"), {.headers = {{"X-A", value}}}));
  }
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(3));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(ElementsAre(Url("/v"))));
}

TEST_P(HttpBackendTest, AKeyIsDeletedAlone) {
  const Session session = Over();
  Fill(session);
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/a")));
  EXPECT_THAT(session.cache().DeleteKey(response.key()), IsOkAndHolds(true));
  EXPECT_THAT(session.cache().DeleteKey(response.key()), IsOkAndHolds(false));
  EXPECT_FALSE(Cached(session, "/a"));
  EXPECT_TRUE(Cached(session, "/b"));
}

TEST_P(HttpBackendTest, WhatMatchesIsDeleted) {
  const Session session = Over();
  Fill(session);
  Advance(100);
  EXPECT_THAT(session.cache().DeleteWhere({.expired = true}), IsOkAndHolds(1));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(ElementsAre(Url("/b"), Url("/c"))));
  EXPECT_THAT(session.cache().DeleteWhere({.urls = UrlPattern(Url("/b"))}), IsOkAndHolds(1));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(ElementsAre(Url("/c"))));
}

TEST_P(HttpBackendTest, ExpiryIsReset) {
  const Session session = Over();
  Fill(session);
  Advance(10);
  EXPECT_THAT(session.cache().ResetExpiry(Expiry::After(absl::Seconds(30)),
                                          {.urls = UrlPattern(Url("/[ab]"))}),
              IsOkAndHolds(2));
  Advance(29);
  EXPECT_TRUE(Cached(session, "/b"));
  Advance(2);
  EXPECT_FALSE(Cached(session, "/b"));
  EXPECT_TRUE(Cached(session, "/c"));
  EXPECT_THAT(session.cache().ResetExpiry(Expiry::Never()), IsOkAndHolds(3));
  Advance(3000);
  for (const char* const path : {"/a", "/b", "/c"}) EXPECT_TRUE(Cached(session, path)) << path;
  EXPECT_THAT(session.cache().ResetExpiry(Expiry::Immediately(), {.urls = UrlPattern(Url("/a"))}),
              IsOkAndHolds(1));
  EXPECT_FALSE(Cached(session, "/a"));
  ASSERT_OK(session.Get(Url("/a")));
  EXPECT_EQ(origin_->log("/a").back().header("If-None-Match"), "\"a\"");
  EXPECT_THAT(session.cache().ResetExpiry(Expiry::DoNotCache(), {.urls = UrlPattern(Url("/b"))}),
              IsOkAndHolds(1));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(ElementsAre(Url("/a"), Url("/c"))));
  EXPECT_THAT(session.cache().ResetExpiry(Expiry::After(absl::Seconds(-1))),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(HttpBackendTest, ClearingLeavesOtherStores) {
  const Session session = Over("one");
  const Session other = Over("one.two");
  Fill(session);
  Fill(other);
  EXPECT_OK(session.cache().Clear());
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(0));
  EXPECT_FALSE(Cached(session, "/a"));
  EXPECT_THAT(other.cache().Count(), IsOkAndHolds(3));
  EXPECT_TRUE(Cached(other, "/a"));
}

TEST_P(HttpBackendTest, ClearingLeavesAStrangersKeys) {
  const Session session = Over();
  Fill(session);
  ASSERT_OK(backend_->Set({.key = "stranger", .value = "1"}));
  EXPECT_OK(session.cache().Clear());
  EXPECT_THAT(backend_->Exists("stranger"), IsOkAndHolds(true));
}

TEST_P(HttpBackendTest, ManyResponsesAreSeenEachOnce) {
  const Session session = Over();
  origin_->On("/many", Fresh("m"));
  for (int i = 0; i < 350; ++i) ASSERT_OK(session.Get(Url(StrCat("/many?i=", i))));
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(350));
  EXPECT_THAT(session.cache().Urls(), IsOkAndHolds(SizeIs(350)));
  EXPECT_THAT(session.cache().DeleteWhere({}), IsOkAndHolds(350));
  EXPECT_THAT(session.cache().Count(), IsOkAndHolds(0));
}

TEST_P(HttpBackendTest, SessionsOverOneBackendShareWhatTheyKeep) {
  const Session one = Over();
  const Session two = Over();
  Fill(one);
  ASSERT_OK_AND_ASSIGN(const Response response, two.Get(Url("/b")));
  EXPECT_TRUE(response.from_cache());
  EXPECT_EQ(response.body(), std::string(2000, 'b'));
  origin_->On("/b", Answer(200, {}, ""));
  ASSERT_OK(two.Post(Url("/b"), "changed"));
  EXPECT_FALSE(Cached(one, "/b"));
}

TEST_P(HttpBackendTest, CompressedBodiesComeBackWhole) {
  SessionOptions options = OverOptions();
  options.compression.algorithm = Compression::Algorithm::kZstd;
  const Session session = OrEnd(Session::Over(backend_, std::move(options)));
  origin_->On("/x", Fresh(std::string(500'000, 'z')));
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
  EXPECT_EQ(response.body(), std::string(500'000, 'z'));
  EXPECT_THAT(session.cache().Size(), IsOkAndHolds(Le(100'000)));
  ASSERT_OK_AND_ASSIGN(const Response plain, Over().Get(Url("/x")));  // who does not compress
  EXPECT_TRUE(plain.from_cache());
}

TEST_P(HttpBackendTest, AnEntryThatIsGarbageIsAMiss) {
  const Session session = Over();
  origin_->On("/x", Fresh("right"));
  ASSERT_OK_AND_ASSIGN(const Response first, session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const auto stored, backend_->Get(first.key()));
  ASSERT_TRUE(stored.has_value()) << "nothing is kept under " << first.key();
  const std::string whole = stored->value;
  std::vector<std::string> entries = {"", "garbage", std::string(1000, '\0'),
                                      std::string(1000, '\xff'), whole + "x"};
  for (std::size_t length = 0; length < whole.size(); length += 1 + whole.size() / 20) {
    entries.push_back(whole.substr(0, length));
  }
  for (const std::string& entry : entries) {
    ASSERT_OK(backend_->Set({.key = first.key(), .value = entry}));
    EXPECT_OK(session.cache().Count());
    const int before = origin_->requests("/x");
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
    EXPECT_EQ(response.body(), "right");
    EXPECT_FALSE(response.from_cache()) << entry.size() << " bytes of " << whole.size();
    EXPECT_EQ(origin_->requests("/x"), before + 1);
  }
  ASSERT_OK_AND_ASSIGN(const Response again, session.Get(Url("/x")));
  EXPECT_TRUE(again.from_cache());
  EXPECT_THAT(problems_->all(), Not(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(Kinds, HttpBackendTest, ::testing::Values("memory", "redis", "disk"),
                         [](const auto& one) { return one.param; });

// ---- A Redis of its own ----

class HttpRedisTest : public BlackboxTest {
 protected:
  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(HttpRedisTest, KeysBeginWithPrefixAndStore) {
  SessionOptions options = OptionsAt(server_.url());
  options.store = "pages";
  options.client.prefix = "shop:";
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_THAT(response.key(), ::testing::StartsWith("shop:pages:"));
  EXPECT_EQ(redis_.Integer({"EXISTS", response.key()}), 1);
}

TEST_F(HttpRedisTest, AnEntryLivesAnHourLongerThanItsResponse) {
  const Session session = Open(OptionsAt(server_.url()));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_THAT(redis_.Integer({"PTTL", response.key()}), AllOf(Gt(3'600'000), Le(3'661'000)));
}

TEST_F(HttpRedisTest, AnEntryLivesAsMuchLongerAsTheSessionSays) {
  SessionOptions options = OptionsAt(server_.url());
  options.ttl_offset = absl::Minutes(10);
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_THAT(redis_.Integer({"PTTL", response.key()}), AllOf(Gt(600'000), Le(661'000)));
}

TEST_F(HttpRedisTest, AnEntryLivesLongEnoughForStaleIfError) {
  SessionOptions options = OptionsAt(server_.url());
  options.ttl_offset = absl::ZeroDuration();
  const Session session = Open(std::move(options));
  origin_->On("/x", Answer(200, {{"Cache-Control", "max-age=60, stale-if-error=86400"}}, "one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_THAT(redis_.Integer({"PTTL", response.key()}), Gt(86'400'000));
}

TEST_F(HttpRedisTest, WithoutTtlNothingExpiresInTheBackend) {
  SessionOptions options = OptionsAt(server_.url());
  options.ttl = false;
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(redis_.Integer({"PTTL", response.key()}), -1);
  Advance(1'000'000);
  origin_->On("/x", Answer(304, {}, ""));
  ASSERT_OK_AND_ASSIGN(const Response later, session.Get(Url("/x")));
  EXPECT_TRUE(later.revalidated());
  EXPECT_EQ(redis_.Integer({"PTTL", response.key()}), -1);
}

TEST_F(HttpRedisTest, ARevalidatedEntryLivesOn) {
  const Session session = Open(OptionsAt(server_.url()));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  redis_.Integer({"PEXPIRE", response.key(), "100000"});
  Advance(61);
  origin_->On("/x", Answer(304, {}, ""));
  ASSERT_OK(session.Get(Url("/x")));
  EXPECT_THAT(redis_.Integer({"PTTL", response.key()}), AllOf(Gt(3'600'000), Le(3'661'000)));
}

TEST_F(HttpRedisTest, AHitIsOneRoundTrip) {
  const Session session = Open(OptionsAt(server_.url()));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK(session.Get(Url("/x")));
  redis_.Command({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 10; ++i) ASSERT_OK(session.Get(Url("/x")));
  EXPECT_EQ(coord::testing::AllCalls(redis_), 10);
}

TEST_F(HttpRedisTest, ASecondSessionFindsWhatTheFirstStored) {
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(Open(OptionsAt(server_.url())).Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, Open(OptionsAt(server_.url())).Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpRedisTest, TheAliasTakesAnAddress) {
  const RedisServer remote({.port = 0});
  SessionOptions options = OptionsAt("redis");
  options.redis = RedisAddress{.host = "127.0.0.1", .port = remote.port(), .database = 3};
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  RawRedis raw(remote);
  EXPECT_EQ(raw.Integer({"EXISTS", response.key()}), 0);
  raw.Command({"SELECT", "3"});
  EXPECT_EQ(raw.Integer({"EXISTS", response.key()}), 1);
}

TEST_F(HttpRedisTest, AClientThatWasHandedInStaysOpen) {
  const Client client = OrEnd(Client::Connect(server_.url()));
  origin_->On("/x", Fresh("one"));
  {
    const Session session = OrEnd(Session::Over(client, OverOptions()));
    ASSERT_OK(session.Get(Url("/x")));
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
    EXPECT_TRUE(response.from_cache());
    session.Close();
  }
  EXPECT_OK(client.Command({"PING"}));
}

TEST_F(HttpRedisTest, ABackendThatIsAwayCostsLittleAndIsReported) {
  SessionOptions options = OptionsAt(server_.url());
  options.backend_timeout = absl::Milliseconds(200);
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  server_.Kill();
  const Stopwatch watch;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
    EXPECT_EQ(response.body(), "one");
    EXPECT_FALSE(response.from_cache());
    EXPECT_FALSE(response.stored());
    ASSERT_OK(session.Post(Url("/x"), "changed"));
  }
  EXPECT_LT(watch.elapsed(), absl::Seconds(10));
  EXPECT_THAT(problems_->all(), Not(IsEmpty()));
  for (const absl::Status& problem : problems_->all()) {
    EXPECT_THAT(problem, Not(coord::testing::IsOk()));
  }
  EXPECT_THAT(session.cache().Count(), Not(coord::testing::IsOk()));
  server_.Start();
  EXPECT_TRUE(Eventually(
      [&] {
        const auto response = session.Get(Url("/x"));
        return response.ok() && response->from_cache();
      },
      absl::Seconds(20)));
}

TEST_F(HttpRedisTest, ABackendThatStandsStillCostsItsTimeout) {
  SessionOptions options = OptionsAt(server_.url());
  options.backend_timeout = absl::Milliseconds(200);
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  server_.Pause();
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_EQ(response.body(), "one");
  EXPECT_LT(watch.elapsed(), absl::Seconds(10));
  server_.Resume();
}

TEST_F(HttpRedisTest, OnlyIfCachedWithoutABackendIs504) {
  SessionOptions options = OptionsAt(server_.url());
  options.backend_timeout = absl::Milliseconds(200);
  const Session session = Open(std::move(options));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  server_.Kill();
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x"), {.only_if_cached = true}));
  EXPECT_EQ(response.status(), 504);
  EXPECT_EQ(origin_->requests("/x"), 1);
}

TEST_F(HttpRedisTest, ABackendThatIsNotThereAtTheStartIsAnError) {
  server_.Kill();
  SessionOptions options = OptionsAt(server_.url());
  options.client.connect_timeout = absl::Milliseconds(500);
  const absl::StatusOr<Session> session = Session::Open(std::move(options));
  EXPECT_TRUE(coord::IsUnavailable(session.status())) << session.status();
}

TEST_F(HttpRedisTest, AnEmbeddedServerServes) {
  const Session session = Open(OptionsAt("embedded://?private"));
  origin_->On("/x", Fresh("one"));
  ASSERT_OK(session.Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, session.Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
}

TEST_F(HttpRedisTest, ADiskOutlivesItsSession) {
  const TempDir directory;
  origin_->On("/x", Fresh("one"));
  const std::string url = StrCat("disk://", directory.File("http.db"));
  ASSERT_OK(Open(OptionsAt(url)).Get(Url("/x")));
  ASSERT_OK_AND_ASSIGN(const Response response, Open(OptionsAt(url)).Get(Url("/x")));
  EXPECT_TRUE(response.from_cache());
}

}  // namespace
}  // namespace coord::http
