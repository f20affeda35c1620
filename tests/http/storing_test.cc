#include "cache/http/internal/storing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace coord::http::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);
constexpr char kOld[] = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr char kNewer[] = "Mon, 07 Nov 1994 08:49:37 GMT";

TEST(StoringTest, MethodsAreSafeOrIdempotentByName) {  // RFC 9110 sections 9.2.1 and 9.2.2
  for (const char* safe : {"GET", "HEAD", "OPTIONS", "TRACE"}) {
    EXPECT_TRUE(IsSafe(safe) && IsIdempotent(safe)) << safe;
  }
  for (const char* unsafe : {"POST", "PATCH", "PUT", "DELETE", "get"}) {
    EXPECT_FALSE(IsSafe(unsafe)) << unsafe;
  }
  EXPECT_TRUE(IsIdempotent("PUT") && IsIdempotent("DELETE"));
  EXPECT_FALSE(IsIdempotent("POST") || IsIdempotent("PATCH"));
}

struct Asked {
  const char* what;
  std::string why;
  int status = 200;
  std::string control = {};
  std::string method = "GET";
  Headers request = {};
  Headers response = {};
  bool heed = true;
  bool complete = true;
  bool fresh = true;
  bool explicitly = true;
  bool by_caller = false;
  bool do_not_cache = false;
  int stale_for = 0;
};

TEST(StoringTest, WhatMayNotBeStoredIsAsRfc9111Section3HasIt) {
  for (const Asked& c : {
           Asked{"3: fresh", ""},
           Asked{.what = "expiry", .why = "expiry", .do_not_cache = true},
           Asked{"5.2.2.5: no-store", "no-store", 200, "no-store, max-age=9"},
           Asked{"5.2.2.7: private", "", 200, "private"},
           Asked{.what = "kIgnored", .why = "", .control = "no-store", .heed = false},
           Asked{.what = "5.2.1.5",
           .why = "request no-store",
           .request = {{"Cache-Control", "no-store"}}},
           Asked{.what = "5.2.1.5 under kIgnored",
           .why = "request no-store",
           .request = {{"Cache-Control", "no-store"}},
           .heed = false},
           Asked{"5.2.2.3: understood", "", 200, "must-understand, no-store"},
           Asked{"5.2.2.3: not understood", "must-understand", 299, "must-understand"},
           Asked{"5.2.2.3: 418 is not", "must-understand", 418, "must-understand, no-store"},
           Asked{"5.2.2.3: 206 neither", "status", 206, "must-understand"},
           Asked{"3: not final", "status", 103},
           Asked{"3.3: 206", "status", 206},
           Asked{"4.3.4: 304", "status", 304},
           Asked{"3: 500 with expiry", "", 500},
           Asked{.what = "3: 500 without", .why = "status", .status = 500, .explicitly = false},
           Asked{.what = "3: public",
           .why = "",
           .status = 302,
           .control = "public",
           .explicitly = false},
           Asked{.what = "3: private",
           .why = "",
           .status = 302,
           .control = "private=\"x\"",
           .explicitly = false},
           Asked{.what = "3: 404", .why = "", .status = 404, .explicitly = false},
           Asked{.what = "3.3: incomplete", .why = "incomplete", .complete = false},
           Asked{.what = "range", .why = "range", .request = {{"Range", "bytes=0-"}}},
           Asked{.what = "4.1: Vary: *", .why = "vary", .response = {{"Vary", "a, *"}}},
           Asked{.what = "POST", .why = "", .method = "POST"},
           Asked{.what = "POST without expiry",
           .why = "method",
           .method = "POST",
           .explicitly = false},
           Asked{.what = "HEAD", .why = "", .method = "HEAD", .explicitly = false},
           Asked{.what = "of no use", .why = "no expiry or validator", .fresh = false},
           Asked{.what = "ETag", .why = "", .response = {{"ETag", "\"a\""}}, .fresh = false},
           Asked{.what = "date", .why = "", .response = {{"Last-Modified", kOld}}, .fresh = false},
           Asked{.what = "RFC 5861", .why = "", .control = "stale-if-error=9", .fresh = false},
           Asked{.what = "RFC 5861, revoked",
           .why = "no expiry or validator",
           .control = "stale-if-error=9, must-revalidate",
           .fresh = false},
           Asked{.what = "session's stale", .why = "", .fresh = false, .stale_for = 1},
           Asked{.what = "immediately", .why = "", .fresh = false, .by_caller = true},
       }) {
    Headers response = c.response;
    if (!c.control.empty()) response.Add("Cache-Control", c.control);
    StoringQuestion question{
        .method = c.method, .request = &c.request, .status = c.status, .response = &response};
    question.freshness = {.expires = c.fresh ? kNow + absl::Seconds(1) : kNow,
                          .by_caller = c.by_caller,
                          .explicitly = c.explicitly,
                          .do_not_cache = c.do_not_cache};
    question.heed_headers = c.heed;
    question.complete = c.complete;
    question.received = kNow;
    question.stale_for = absl::Seconds(c.stale_for);
    EXPECT_EQ(WhyNotStored(question), c.why) << c.what;
  }
}

TEST(StoringTest, FieldsOfTheConnectionAndCookiesAreNotStored) {  // section 3.1
  const Headers response = {
      {"Connection", "close, X-Hop"},   {"Keep-Alive", "1"}, {"X-hop", "1"},
      {"Proxy-Anything", "1"},          {"TE", "1"},         {"Trailer", "1"},
      {"Transfer-Encoding", "chunked"}, {"Upgrade", "1"},    {"Set-Cookie", "a=b"},
      {"set-cookie2", "a=b"},           {"A", "1"}};
  EXPECT_EQ(StorableHeaders(response), (Headers{{"A", "1"}}));
}

// Sections 5.2.2.4 and 5.2.2.7: what `private` names is for private caches.
TEST(StoringTest, FieldsThatNoCacheNamesAreNotStored) {
  const Headers response = {{"Cache-Control", "no-cache=\"a, vary\", private=\"B, cache-control\""},
                            {"A", "1"},
                            {"b", "2"},
                            {"C", "3"},
                            {"Vary", "c"}};
  EXPECT_EQ(StorableHeaders(response),
            (Headers{*response.begin(), {"b", "2"}, {"C", "3"}, {"Vary", "c"}}));
}

TEST(StoringTest, VaryIsAListOverAllItsLines) {  // RFC 9110 section 12.5.5
  EXPECT_THAT(*VaryNames({{"Vary", "B, a"}, {"vary", "b,,C"}}), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*VaryNames({}), IsEmpty());
  EXPECT_EQ(VaryNames({{"Vary", "a"}, {"Vary", "b, *"}}), std::nullopt);
}

TEST(StoringTest, AStoredResponseIsAskedAboutByItsValidators) {  // section 4.3.1
  EXPECT_EQ(Validators({{"ETag", "W/\"a\""}, {"Last-Modified", kOld}}),
            (Headers{{"If-None-Match", "W/\"a\""}, {"If-Modified-Since", kOld}}));
  EXPECT_TRUE(Validators({{"ETag", ""}}).empty());
}

TEST(StoringTest, A304IsAboutWhatHasItsValidators) {  // section 4.3.4
  struct Case {
    const char* what;
    Headers not_modified;
    Headers stored;
    bool confirms;
  };
  for (const Case& c : {
           Case{"strong", {{"ETag", "\"a\""}}, {{"ETag", "\"a\""}}, true},
           Case{"strong, another", {{"ETag", "\"a\""}}, {{"ETag", "\"b\""}}, false},
           Case{"strong of a weak one", {{"ETag", "\"a\""}}, {{"ETag", "W/\"a\""}}, false},
           Case{"strong before the date",
                {{"ETag", "\"a\""}, {"Last-Modified", kOld}},
                {{"ETag", "\"b\""}, {"Last-Modified", kOld}},
                false},
           Case{"strong of none", {{"ETag", "\"a\""}}, {}, false},
           Case{"weak", {{"ETag", "W/\"a\""}}, {{"ETag", "\"a\""}}, true},
           Case{"weak, another", {{"ETag", "W/\"a\""}}, {{"ETag", "W/\"b\""}}, false},
           Case{"w/ is no prefix", {{"ETag", "w/\"a\""}}, {{"ETag", "W/\"a\""}}, false},
           Case{"weak, the same date",
                {{"ETag", "W/\"a\""}, {"Last-Modified", kOld}},
                {{"ETag", "W/\"b\""}, {"Last-Modified", kOld}},
                true},
           Case{"date", {{"Last-Modified", kOld}}, {{"Last-Modified", kOld}}, true},
           Case{"another date", {{"Last-Modified", kOld}}, {{"Last-Modified", kNewer}}, false},
           Case{"date of none", {{"Last-Modified", kOld}}, {{"ETag", "\"a\""}}, false},
           Case{"no validator", {}, {{"ETag", "\"a\""}}, true},
       }) {
    EXPECT_EQ(Confirms(c.not_modified, c.stored), c.confirms) << c.what;
  }
}

TEST(StoringTest, AHeadConfirmsWhatHasTheSameValidatorsAndLength) {  // section 4.3.5
  const Headers stored = {{"ETag", "\"a\""}, {"Last-Modified", kOld}, {"Content-Length", "5"}};
  EXPECT_TRUE(ConfirmsByHead(stored, stored));
  EXPECT_TRUE(ConfirmsByHead({}, stored));
  EXPECT_TRUE(ConfirmsByHead({{"Content-Length", "5"}}, stored));
  EXPECT_FALSE(ConfirmsByHead({{"Content-Length", "6"}}, stored));
  EXPECT_FALSE(ConfirmsByHead({{"ETag", "\"b\""}, {"Content-Length", "5"}}, stored));
  EXPECT_FALSE(ConfirmsByHead({{"Last-Modified", kNewer}}, stored));
  EXPECT_FALSE(ConfirmsByHead({{"ETag", "\"a\""}}, {}));
  // A decoded one has no length.
  EXPECT_TRUE(ConfirmsByHead(stored, {{"ETag", "\"a\""}, {"Last-Modified", kOld}}));
  EXPECT_FALSE(ConfirmsByHead({{"Content-Length", "5"}}, {{"ETag", "\"a\""}}));
}

TEST(StoringTest, A304BringsFieldsUpToDateButNotThoseOfTheBody) {  // section 3.2
  const Headers stored = {{"A", "1"},
                          {"a", "2"},
                          {"B", "3"},
                          {"Age", "9"},
                          {"Content-Length", "5"},
                          {"Content-Type", "x/y"},
                          {"C", "4"}};
  const Headers fresh = {{"A", "7"},
                         {"Content-Length", "0"},
                         {"Content-Type", "z"},
                         {"Content-Encoding", "gzip"},
                         {"Content-Range", "x"},
                         {"Set-Cookie", "s"},
                         {"Connection", "x"},
                         {"Cache-Control", "no-cache=\"c\""}};
  EXPECT_EQ(Merged(stored, fresh), (Headers{{"B", "3"},
                                            {"Content-Length", "5"},
                                            {"Content-Type", "x/y"},
                                            {"A", "7"},
                                            {"Cache-Control", "no-cache=\"c\""}}));
}

TEST(StoringTest, ARequestsOwnConditionsAreAnswered) {  // section 4.3.2
  struct Case {
    const char* what;
    Headers request;
    Condition condition;
    std::string method = "GET";
    int status = 200;
  };
  StoredResponse stored;
  stored.headers = {{"ETag", "\"a\\,b\""}, {"Last-Modified", kOld}};
  stored.received = kNow;
  const auto yes = Condition::kNotModified, no = Condition::kModified, none = Condition::kNone;
  for (const Case& c : {
           Case{"none", {}, none},
           Case{"same", {{"If-None-Match", "\"a\\,b\""}}, yes},
           Case{"weakly", {{"If-None-Match", "W/\"a\\,b\""}}, yes},
           Case{"in a list", {{"If-None-Match", "\"x\\\", \"a\\,b\" , \"c\""}}, yes},
           Case{"on another line",
                {{"If-None-Match", "\"x\""}, {"If-None-Match", "\"a\\,b\""}},
                yes},
           Case{"another", {{"If-None-Match", "\"a\", \"b\""}}, no},
           Case{"any", {{"If-None-Match", " * "}}, yes},
           Case{"tag before date", {{"If-None-Match", "\"x\""}, {"If-Modified-Since", kNewer}}, no},
           Case{"since", {{"If-Modified-Since", kOld}}, yes},
           Case{"since later", {{"If-Modified-Since", kNewer}}, yes},
           Case{"since before", {{"If-Modified-Since", "Sat, 05 Nov 1994 08:49:37 GMT"}}, no},
           Case{"since that is none", {{"If-Modified-Since", "x"}}, none},
           Case{"HEAD", {{"If-None-Match", "*"}}, yes, "HEAD"},
           Case{"POST", {{"If-None-Match", "*"}}, none, "POST"},
           Case{"404", {{"If-None-Match", "*"}}, none, "GET", 404},
       }) {
    stored.status = c.status;
    EXPECT_EQ(EvaluateConditions(c.method, c.request, stored, kNow), c.condition) << c.what;
  }
  stored.status = 200;
  stored.headers = {{"Date", kNewer}};
  EXPECT_EQ(EvaluateConditions("GET", {{"If-Modified-Since", kOld}}, stored, kNow), no);
  EXPECT_EQ(EvaluateConditions("GET", {{"If-Modified-Since", kNewer}}, stored, kNow), yes);
  EXPECT_EQ(EvaluateConditions("GET", {{"If-None-Match", "\"a\""}}, stored, kNow), no);
  stored.headers = {};
  EXPECT_EQ(EvaluateConditions("GET", {{"If-Modified-Since", kNewer}}, stored, kNow), no);
}

TEST(StoringTest, SomeConditionsAreForTheOriginAlone) {  // section 4.3.2
  for (const char* name : {"If-Match", "If-Unmodified-Since", "If-Range", "range"}) {
    EXPECT_TRUE(ForOriginAlone({{name, "x"}})) << name;
  }
  EXPECT_FALSE(ForOriginAlone({{"If-None-Match", "x"}, {"If-Modified-Since", "x"}}));
}

}  // namespace
}  // namespace coord::http::internal
