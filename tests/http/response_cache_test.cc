#include "cache/http/response_cache.h"

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/http/internal/response_parts.h"
#include "cache/http/response.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/http/store_fixture.h"
#include "tests/support/status_matchers.h"

namespace coord::http {
namespace {

using coord::internal::StrCat;
using coord::testing::IsOkAndHolds;
using coord::testing::StatusIs;
using internal::ResponseParts;
using internal::ResponseStore;
using internal::StoredResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class ResponseCacheTest : public internal::StoreFixture {
 protected:
  ResponseCache cache() { return ResponseCache(store_); }
  std::vector<std::string> Urls(const ResponseFilter& filter = {}) {
    return internal::OrEnd(cache().Urls(filter));
  }
};

TEST_P(ResponseCacheTest, ShowsResponsesAsASessionWould) {
  const std::string key = Store("http://h/a?token=canary", "hello");
  Advance(absl::Seconds(10));
  const std::vector<Response> all = internal::OrEnd(cache().Filter());
  ASSERT_THAT(all, SizeIs(1));
  const Response& response = all.front();
  EXPECT_EQ(response.status(), 200);
  EXPECT_TRUE(response.ok());
  EXPECT_EQ(response.url(), "http://h/a?token=REDACTED");
  EXPECT_EQ(response.method(), "GET");
  EXPECT_EQ(response.body(), "hello");
  EXPECT_EQ(response.header("content-type"), "text/plain");
  EXPECT_EQ(response.header("Age"), "10");
  EXPECT_EQ(response.age(), absl::Seconds(10));
  EXPECT_TRUE(response.from_cache());
  EXPECT_TRUE(response.stored());
  EXPECT_FALSE(response.stale());
  EXPECT_FALSE(response.revalidated());
  EXPECT_EQ(response.key(), key);
  EXPECT_EQ(response.created(), now() - absl::Seconds(10));
  EXPECT_EQ(response.expires(), now() + absl::Seconds(50));
  EXPECT_FALSE(response.is_expired());
  Advance(absl::Seconds(50));
  EXPECT_TRUE(response.is_expired());
  EXPECT_TRUE(internal::OrEnd(cache().Filter()).front().stale());
}

TEST_P(ResponseCacheTest, FiltersByEachCondition) {
  Store("http://h/old", "x");
  Advance(absl::Seconds(40));
  Store("http://h/new", "y");
  Store("http://g/new", "z");
  Advance(absl::Seconds(20));
  EXPECT_THAT(Urls(), ElementsAre("http://g/new", "http://h/new", "http://h/old"));
  EXPECT_THAT(Urls({.urls = UrlPattern("http://h/*")}),
              ElementsAre("http://h/new", "http://h/old"));
  EXPECT_THAT(Urls({.expired = true}), ElementsAre("http://h/old"));
  EXPECT_THAT(Urls({.expired = false}), ElementsAre("http://g/new", "http://h/new"));
  EXPECT_THAT(Urls({.older_than = absl::Seconds(30)}), ElementsAre("http://h/old"));
  EXPECT_THAT(Urls({.younger_than = absl::Seconds(30)}),
              ElementsAre("http://g/new", "http://h/new"));
  EXPECT_THAT(Urls({.where = [](const Response& one) { return one.body() == "z"; }}),
              ElementsAre("http://g/new"));
  EXPECT_THAT(Urls({.urls = UrlPattern("http://h/*"), .expired = false}),
              ElementsAre("http://h/new"));
  EXPECT_THAT(Urls({.where = [](const Response&) -> bool { throw std::runtime_error("no"); }}),
              IsEmpty());
  EXPECT_THAT(cache().Count(), IsOkAndHolds(3));
  EXPECT_THAT(cache().Count({.expired = true}), IsOkAndHolds(1));
  EXPECT_THAT(cache().Count({.urls = UrlPattern("")}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(ResponseCacheTest, WhatTheCallersFunctionThrowsEndsTheWalkAndIsTold) {
  Store(kUrl, "x");
  const absl::Status status = cache().ForEach(
      {}, [](const Response&) -> bool { throw std::runtime_error("out of cheese"); });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, HasSubstr("out of cheese")));
}

TEST_P(ResponseCacheTest, SizeIsThatOfKeysAndValues) {
  EXPECT_THAT(cache().Size(), IsOkAndHolds(0));
  const std::string key = Store(kUrl, "hello");
  const auto bytes = internal::OrEnd(backend_->Get(key, Want::kValue, {}))->value.size();
  EXPECT_THAT(cache().Size(), IsOkAndHolds(static_cast<std::int64_t>(key.size() + bytes)));
}

TEST_P(ResponseCacheTest, ContainsAndDeleteAreForNobodyInParticularAndOneRoundTrip) {
  Store(kUrl, "x", {"accept"}, {{"Accept", "xml"}});
  Store("http://h/mine", "y", {}, {{"Authorization", "Bearer abcdef"}});
  backend_->Taken();
  EXPECT_THAT(cache().Contains("HTTP://H:80/b/../a#f"), IsOkAndHolds(true));
  EXPECT_EQ(backend_->Taken(), 1);
  EXPECT_THAT(cache().Contains("http://h/mine"), IsOkAndHolds(false));
  EXPECT_THAT(cache().Contains("nothing"), StatusIs(absl::StatusCode::kInvalidArgument));
  backend_->Taken();
  EXPECT_THAT(cache().Delete(kUrl), IsOkAndHolds(true));
  EXPECT_EQ(backend_->Taken(), 1);
  EXPECT_THAT(cache().Delete(kUrl), IsOkAndHolds(false));
  EXPECT_THAT(cache().Delete("http://h/mine"), IsOkAndHolds(false));
  EXPECT_THAT(cache().Contains(kUrl), IsOkAndHolds(false));
  EXPECT_EQ(Body("http://h/mine", {{"Authorization", "Bearer abcdef"}}), "y");

  StoredResponse head = Make(kUrl, "");
  head.method = "HEAD";
  ASSERT_OK(store_->Put({.key = PrimaryOf(kUrl, {}, "HEAD")}, head, absl::ZeroDuration(), {}));
  EXPECT_THAT(cache().Contains(kUrl), IsOkAndHolds(false));
  EXPECT_THAT(cache().Delete(kUrl), IsOkAndHolds(true));
}

TEST_P(ResponseCacheTest, AUrlThatNamesSomebodyIsForThem) {
  Store(kUrl, "x", {}, {{"Authorization", "Basic dTpw"}});  // u:p
  EXPECT_THAT(cache().Contains("http://u:p@h/a"), IsOkAndHolds(true));
  EXPECT_THAT(cache().Contains("http://u:q@h/a"), IsOkAndHolds(false));
}

TEST_P(ResponseCacheTest, DeletesByKeyWithinItsStoreAlone) {
  const std::string key = Store(kUrl, "x");
  SetRaw("other:1", "y");
  backend_->Taken();
  for (const std::string_view stranger : {"other:1", "", "t[e]*st:", "t[e]*st"}) {
    EXPECT_THAT(cache().DeleteKey(stranger), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_EQ(backend_->Taken(), 0);
  EXPECT_THAT(cache().DeleteKey(key), IsOkAndHolds(true));
  EXPECT_EQ(backend_->Taken(), 1);
  EXPECT_THAT(cache().DeleteKey(key), IsOkAndHolds(false));
  EXPECT_TRUE(Exists("other:1"));
}

TEST_P(ResponseCacheTest, DeletesAllThatMatchVariantsToo) {
  for (int i = 0; i < 230; ++i) Store(StrCat("http://h/", i), "x");
  Store("http://g/", "de", {"accept-language"}, {{"Accept-Language", "de"}});
  Store("http://g/", "en", {"accept-language"}, {{"Accept-Language", "en"}});
  Store("http://f/", "stays");
  EXPECT_THAT(cache().DeleteWhere({.urls = UrlPattern("http://g/*")}), IsOkAndHolds(2));
  EXPECT_THAT(cache().Count(), IsOkAndHolds(231));
  EXPECT_THAT(cache().DeleteWhere({.urls = UrlPattern("http://h/*")}), IsOkAndHolds(230));
  EXPECT_THAT(Urls(), ElementsAre("http://f/"));
}

TEST_P(ResponseCacheTest, ResetsExpiryFromNowOn) {
  Store("http://h/a", "x");
  Store("http://g/a", "y");
  Advance(absl::Seconds(30));
  const ResponseFilter h = {.urls = UrlPattern("http://h/*")};
  const auto expires = [&] { return internal::OrEnd(cache().Filter(h)).front().expires(); };
  EXPECT_THAT(cache().ResetExpiry(absl::Hours(2), h), IsOkAndHolds(1));
  EXPECT_EQ(expires(), now() + absl::Hours(2));
  EXPECT_EQ(backend_->Taken() > 0, true);
  EXPECT_THAT(cache().ResetExpiry(Expiry::Never(), h), IsOkAndHolds(1));
  EXPECT_EQ(expires(), absl::InfiniteFuture());
  EXPECT_THAT(cache().ResetExpiry(Expiry::At(now() + absl::Seconds(5)), h), IsOkAndHolds(1));
  EXPECT_EQ(expires(), now() + absl::Seconds(5));
  EXPECT_THAT(cache().ResetExpiry(Expiry::Immediately(), h), IsOkAndHolds(1));
  EXPECT_EQ(expires(), now());
  EXPECT_THAT(Urls({.expired = true}), ElementsAre("http://h/a"));
  EXPECT_THAT(cache().ResetExpiry(Expiry(), h), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(cache().ResetExpiry(absl::Seconds(-1), h),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(cache().ResetExpiry(Expiry::DoNotCache(), h), IsOkAndHolds(1));
  EXPECT_THAT(Urls(), ElementsAre("http://g/a"));
}

TEST_P(ResponseCacheTest, ClearTakesEverythingOfThisStoreAndNothingElse) {
  Store("http://h/a", "x");
  SetRaw(PrimaryOf("http://h/b"), "garbage");
  SetRaw("t[e]*st:mark", "x");
  SetRaw("te-st:1", "x");
  EXPECT_OK(cache().Clear());
  EXPECT_THAT(AllKeys(), ElementsAre("te-st:1"));
}

TEST_P(ResponseCacheTest, ResponsesOutliveTheStore) {
  Store(kUrl, "hello");
  std::vector<Response> all = internal::OrEnd(cache().Filter());
  store_ = nullptr;
  EXPECT_EQ(all.front().body(), "hello");
  EXPECT_FALSE(all.front().is_expired());
}

INSTANTIATE_TEST_SUITE_P(Backends, ResponseCacheTest, ::testing::Values("memory", "disk", "redis"),
                         [](const auto& tested) { return tested.param; });

Response Of(ResponseParts parts) {
  return Response(std::make_shared<const ResponseParts>(std::move(parts)));
}

TEST(ResponseTest, ADefaultOneSaysNothing) {
  const Response response;
  EXPECT_EQ(response.status(), 0);
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(response.body(), "");
  EXPECT_EQ(response.header("x"), "");
  EXPECT_TRUE(response.history().empty());
  EXPECT_EQ(response.created(), absl::InfinitePast());
  EXPECT_TRUE(nlohmann::json::accept(response.ToJson()));
}

TEST(ResponseTest, IsWrittenAsJsonWithSecretsRedacted) {
  ResponseParts first;
  first.status = 302;
  first.url = "http://h/0";
  ResponseParts parts;
  parts.status = 200;
  parts.method = "GET";
  parts.url = "http://h/";
  parts.headers = {{"A", "1"}, {"a", "2"}, {"X-Key", "canary"}};
  parts.secret_names =
      std::make_shared<const std::vector<std::string>>(std::vector<std::string>{"x-key"});
  parts.own_body = "h\xc3\xa4llo\n";
  parts.body = parts.own_body;
  parts.created = absl::FromUnixMillis(1'700'000'000'500);
  parts.expires = absl::InfiniteFuture();
  parts.age = absl::Milliseconds(1500);
  parts.history = {Of(std::move(first))};
  auto shared = std::make_shared<ResponseParts>(std::move(parts));
  shared->body = shared->own_body;
  const std::string text = Response(shared).ToJson();
  EXPECT_THAT(text, Not(HasSubstr("canary")));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["status"], 200);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["body"], "h\xc3\xa4llo\n");
  EXPECT_EQ(json["headers"][1], nlohmann::json::array({"a", "2"}));
  EXPECT_EQ(json["headers"][2][1], "REDACTED");
  EXPECT_EQ(json["created"], "2023-11-14T22:13:20.5+00:00");
  EXPECT_EQ(json["expires"], "never");
  EXPECT_EQ(json["age"], 1.5);
  EXPECT_EQ(json["history"][0]["status"], 302);
}

TEST(ResponseTest, WritesWhatIsNoTextInBase64) {
  ResponseParts parts;
  parts.body = std::string_view("\xff\x00\x01", 3);
  parts.url = "http://h/\xff";
  parts.headers = {{"A", "\xfe"}};
  const nlohmann::json json = nlohmann::json::parse(Of(parts).ToJson(), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["body_base64"], "/wAB");
  EXPECT_FALSE(json.contains("body"));
}

TEST(ResponseTest, AHitSharesTheBodyAndHasItsAge) {
  const auto stored = std::make_shared<StoredResponse>();
  stored->status = 200;
  stored->headers = {{"Age", "3"}, {"B", "1"}};
  stored->received = absl::FromUnixSeconds(100);
  stored->created = absl::FromUnixSeconds(50);
  stored->initial_age = absl::Seconds(3);
  stored->expires = absl::FromUnixSeconds(110);
  stored->body = "hello";
  const Response hit = internal::FromStored(stored, "key", absl::FromUnixMillis(107'900), nullptr);
  EXPECT_EQ(hit.body().data(), stored->body.data());
  EXPECT_EQ(hit.headers().All("age"), std::vector<std::string_view>{"10"});
  EXPECT_EQ(hit.age(), absl::Milliseconds(10'900));
  EXPECT_EQ(hit.created(), stored->created);
  EXPECT_FALSE(hit.stale());
  EXPECT_TRUE(hit.is_expired()) << "by the host's calendar";
}

}  // namespace
}  // namespace coord::http
