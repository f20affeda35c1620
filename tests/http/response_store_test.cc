#include "cache/http/internal/response_store.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/http/store_fixture.h"
#include "tests/support/status_matchers.h"

namespace coord::http::internal {
namespace {

using coord::internal::StrCat;
using coord::testing::IsOkAndHolds;
using coord::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

const Headers kDe = {{"Accept-Language", "de"}};
const Headers kEn = {{"Accept-Language", "en"}};
const std::vector<std::string> kByLanguage = {"accept-language"};

class ResponseStoreTest : public StoreFixture {
 protected:
  // Keys and bodies of a walk.
  std::vector<std::string> Walked() {
    std::vector<std::string> bodies;
    EXPECT_OK(store_->Walk(
        [&](const ResponseStore::Entry& entry) {
          EXPECT_GT(entry.bytes, entry.key.size() + entry.response->body.size());
          bodies.push_back(entry.response->body);
          return true;
        },
        {}));
    return bodies;
  }
};

TEST_P(ResponseStoreTest, FindsWhatWasPut) {
  EXPECT_EQ(Body(kUrl), "-");
  Store(kUrl, "hello");
  const ResponseStore::Found found = Find(kUrl);
  ASSERT_NE(found.response, nullptr);
  StoredResponse expected = Make(kUrl, "hello");
  expected.series = found.series;
  EXPECT_EQ(*found.response, expected);
  EXPECT_THAT(found.series, SizeIs(8));
  EXPECT_EQ(found.key, PrimaryOf(kUrl));
  EXPECT_EQ(Body("http://h/b"), "-");
}

TEST_P(ResponseStoreTest, FindCostsOneRoundTripAndTwoForAnotherVariant) {
  backend_->Taken();
  EXPECT_EQ(Body(kUrl, kDe), "-");
  EXPECT_EQ(backend_->Taken(), 1) << "nothing";
  ResponseStore::Found found = Find(kUrl, kDe);
  backend_->Taken();
  ASSERT_OK(store_->Put(found, Make(kUrl, "de", kByLanguage, kDe), absl::ZeroDuration(), {}));
  EXPECT_EQ(backend_->Taken(), 1) << "the first put";
  EXPECT_EQ(Body(kUrl, kDe), "de");
  EXPECT_EQ(backend_->Taken(), 1) << "the primary";
  found = Find(kUrl, kEn);
  EXPECT_EQ(found.response, nullptr);
  EXPECT_EQ(backend_->Taken(), 2) << "no such variant";
  ASSERT_OK(store_->Put(found, Make(kUrl, "en", kByLanguage, kEn), absl::ZeroDuration(), {}));
  EXPECT_EQ(backend_->Taken(), 1) << "another variant's put";
  EXPECT_EQ(Body(kUrl, kEn), "en");
  EXPECT_EQ(backend_->Taken(), 2) << "another variant";
  found = Find(kUrl, kDe);
  backend_->Taken();
  ASSERT_OK(store_->Put(found, Make(kUrl, "de2", kByLanguage, kDe), absl::ZeroDuration(), {}));
  EXPECT_EQ(backend_->Taken(), 1) << "the primary's replacement";
  EXPECT_EQ(Body(kUrl, kEn), "en") << "it stays of the same series";
  backend_->Taken();
  EXPECT_THAT(store_->Remove({found.key, "nothing", "more"}, {}), IsOkAndHolds(1));
  EXPECT_EQ(backend_->Taken(), 1);
}

TEST_P(ResponseStoreTest, DeletingThePrimaryDeletesAllVariants) {
  const std::string primary = Store(kUrl, "de", kByLanguage, kDe);
  const std::string variant = Store(kUrl, "en", kByLanguage, kEn);
  EXPECT_NE(primary, variant);
  EXPECT_THAT(store_->Remove({primary}, {}), IsOkAndHolds(1));
  EXPECT_EQ(Body(kUrl, kEn), "-");
  Store(kUrl, "de", kByLanguage, kDe);
  EXPECT_EQ(Body(kUrl, kEn), "-");
  EXPECT_TRUE(Exists(variant)) << "though its bytes are still there";
}

TEST_P(ResponseStoreTest, WhatIsDeletedWhileARequestIsUnderWayStaysDeleted) {
  const std::string primary = Store(kUrl, "de", kByLanguage, kDe);
  Store(kUrl, "en", kByLanguage, kEn);
  const ResponseStore::Found found = Find(kUrl, kDe);
  EXPECT_THAT(store_->Remove({primary}, {}), IsOkAndHolds(1));
  ASSERT_OK(store_->Put(found, Make(kUrl, "de2", kByLanguage, kDe), absl::ZeroDuration(), {}));
  EXPECT_EQ(Body(kUrl, kDe), "de2");
  EXPECT_EQ(Body(kUrl, kEn), "-");
}

TEST_P(ResponseStoreTest, AnotherVaryMakesTheOldVariantsUnreachable) {
  Store(kUrl, "de", kByLanguage, kDe);
  Store(kUrl, "en", kByLanguage, kEn);
  Store(kUrl, "xml", {"accept"}, {{"Accept", "xml"}, {"Accept-Language", "de"}});
  EXPECT_EQ(Body(kUrl, {{"Accept", "xml"}, {"Accept-Language", "en"}}), "xml");
  EXPECT_EQ(Body(kUrl, kEn), "-");
  Store(kUrl, "back", kByLanguage, {{"Accept", "xml"}, {"Accept-Language", "de"}});
  EXPECT_EQ(Body(kUrl, kEn), "-") << "not even when the names are the old ones again";
}

TEST_P(ResponseStoreTest, AVariantIsJudgedByItsOwnVary) {
  Store(kUrl, "de", kByLanguage, kDe);
  Store(kUrl, "en xml", {"accept", "accept-language"},
        {{"Accept", "xml"}, {"Accept-Language", "en"}});
  EXPECT_EQ(Body(kUrl, {{"Accept", "xml"}, {"Accept-Language", "en"}}), "en xml");
  EXPECT_EQ(Body(kUrl, {{"Accept", "json"}, {"Accept-Language", "en"}}), "-");
  EXPECT_EQ(Body(kUrl, {{"Accept", "json"}, {"Accept-Language", "de"}}), "de");
  // The origin does not vary any more: for whom it answered that, and for nobody else.
  Store(kUrl, "one for all", {}, kEn);
  EXPECT_EQ(Body(kUrl, kEn), "one for all");
  EXPECT_EQ(Body(kUrl, kDe), "de");
  Store(kUrl, "really all", {}, kDe);
  EXPECT_EQ(Body(kUrl, kEn), "really all");
}

TEST_P(ResponseStoreTest, AVariantThatIsPutWhileThePrimaryIsReplacedIsNotFound) {
  Store(kUrl, "de", kByLanguage, kDe);
  const ResponseStore::Found english = Find(kUrl, kEn);
  EXPECT_THAT(store_->Remove({PrimaryOf(kUrl)}, {}), IsOkAndHolds(1));
  Store(kUrl, "xml", {"accept"}, {{"Accept", "xml"}});
  ASSERT_OK(store_->Put(english, Make(kUrl, "en", kByLanguage, kEn), absl::ZeroDuration(), {}));
  EXPECT_EQ(Body(kUrl, kEn), "-");
  EXPECT_EQ(Body(kUrl, {{"Accept", "xml"}, {"Accept-Language", "en"}}), "xml");
}

TEST_P(ResponseStoreTest, IdentitiesNeverMeet) {
  const std::vector<std::pair<std::string, Headers>> all = {
      {"http://h/a", {}},
      {"http://h/a", {{"Authorization", "Bearer one"}}},
      {"http://h/a", {{"Authorization", "Bearer two"}}},
      {"http://h/a", {{"Cookie", "Bearer one"}}},
      {"http://h/a", {{"Authorization", "Bearer one"}, {"Cookie", "x"}}},
      {"http://h/a?token=one", {}},
      {"http://h/a?token=two", {}},
      {"http://h/a?token=one", {{"Authorization", "Bearer one"}}}};
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t k = i; k < all.size(); ++k) EXPECT_EQ(Body(all[k].first, all[k].second), "-");
    Store(all[i].first, StrCat("of ", i), {}, all[i].second);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(Body(all[i].first, all[i].second), StrCat("of ", i));
  }
}

TEST_P(ResponseStoreTest, IgnoredParametersMakeNoDifference) {
  Store("http://h/a?x=1&utm=2", "hello", {}, {{"utm", "3"}});
  EXPECT_EQ(Body("http://h/a?x=1"), "hello");
  EXPECT_EQ(Body("http://h/a?utm=4&x=1", {{"UTM", "5"}}), "hello");
}

TEST_P(ResponseStoreTest, NoSecretIsInAnyKeyOrValue) {
  const Headers request = {{"Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ=="},
                           {"Cookie", "a=canary"},
                           {"Accept-Language", "de"}};
  for (const auto& vary :
       {std::vector<std::string>{}, {"cookie", "accept-language"}, {"authorization"}}) {
    Store("http://h/a?token=canary&utm=canary", "hello", vary, request);
    Store("http://h/b?token=canary2", "hello", vary, request);
    Store("http://h/b?token=canary2", "hello", vary, {{"Cookie", "canary"}});
  }
  const std::vector<std::string> keys = AllKeys();
  EXPECT_FALSE(keys.empty());
  for (const std::string& key : keys) {
    EXPECT_THAT(key, Not(HasSubstr("canary")));
    const std::optional<Stored> stored = OrEnd(backend_->Get(key, Want::kValue, {}));
    ASSERT_TRUE(stored.has_value());
    EXPECT_THAT(stored->value, Not(HasSubstr("canary")));
    EXPECT_THAT(stored->value, Not(HasSubstr("Y2FuYXJ5")));
  }
}

TEST_P(ResponseStoreTest, GarbageIsAMissAndToldOnce) {
  const std::string key = Store(kUrl, "hello");
  std::string truncated = OrEnd(backend_->Get(key, Want::kValue, {}))->value.substr(0, 20);
  for (const std::string& garbage :
       {std::string("garbage"), std::string(), truncated, std::string("\0\1\2\3", 4),
        std::string("\0", 1), std::string("\1\2", 2)}) {
    SetRaw(key, garbage);
    EXPECT_EQ(Body(kUrl), "-");
    EXPECT_THAT(problems(), ElementsAre(HasSubstr(key)));
    EXPECT_THAT(Walked(), IsEmpty());
    EXPECT_THAT(problems(), SizeIs(1));
    EXPECT_THAT(store_->Has(key, {}), IsOkAndHolds(false));
    problems();
    Store(kUrl, "again");
    problems();
    EXPECT_EQ(Body(kUrl), "again");
    EXPECT_THAT(problems(), IsEmpty());
  }
}

TEST_P(ResponseStoreTest, ACallerThatThrowsWhenToldChangesNothing) {
  StoreRules rules = Rules();
  rules.on_problem = [](const absl::Status&) { throw 1; };
  Open(Names(), rules);
  SetRaw(PrimaryOf(kUrl), "garbage");
  EXPECT_EQ(Body(kUrl), "-");
}

TEST_P(ResponseStoreTest, LargerThanTheBoundIsNeitherStoredNorRead) {
  const std::string key = Store(kUrl, std::string(5000, 'x'));
  StoreRules rules = Rules();
  rules.max_bytes = 4000;
  rules.compression.algorithm = Compression::Algorithm::kZstd;
  Open(Names(), rules);
  backend_->Taken();
  EXPECT_THAT(
      store_->Put({.key = key}, Make(kUrl, std::string(5000, 'x')), absl::ZeroDuration(), {}),
      StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(backend_->Taken(), 0);
  EXPECT_EQ(Body(kUrl), "-");
  EXPECT_THAT(problems(), SizeIs(1));
}

TEST_P(ResponseStoreTest, CompressedAndPlainEntriesAreReadByAll) {
  const std::string text(20'000, 'x');
  Store("http://h/plain", text);
  StoreRules rules = Rules();
  rules.compression.algorithm = Compression::Algorithm::kZstd;
  Open(Names(), rules);
  EXPECT_EQ(Body("http://h/plain"), text);
  const std::string key = Store("http://h/small", text);
  EXPECT_LT(OrEnd(backend_->Get(key, Want::kValue, {}))->value.size(), 1000u);
  const std::string short_key = Store("http://h/short", "hello");
  EXPECT_EQ(OrEnd(backend_->Get(short_key, Want::kValue, {}))->value.front(), '\x01');
  Open();
  EXPECT_EQ(Body("http://h/small"), text);
  EXPECT_EQ(Body("http://h/short"), "hello");
  EXPECT_THAT(problems(), IsEmpty());
}

TEST_P(ResponseStoreTest, LivesInTheBackendBeyondItsFreshness) {
  const auto ttl_of = [&](absl::Time expires, absl::Duration stale_for) {
    StoredResponse response = Make(kUrl, "x");
    response.expires = expires;
    EXPECT_OK(store_->Put({.key = PrimaryOf(kUrl)}, response, stale_for, {}));
    return backend_->last_ttl();
  };
  constexpr absl::Duration kTenYears = absl::Hours(24 * 3660);
  EXPECT_EQ(ttl_of(now() + absl::Minutes(1), absl::ZeroDuration()),
            absl::Minutes(1) + absl::Hours(1));
  EXPECT_EQ(ttl_of(now() + absl::Minutes(1), absl::Minutes(2)), absl::Minutes(3) + absl::Hours(1));
  EXPECT_EQ(ttl_of(now() - absl::Hours(50), absl::ZeroDuration()), absl::Hours(1));
  EXPECT_EQ(ttl_of(absl::InfinitePast(), absl::ZeroDuration()), absl::Hours(1));
  EXPECT_EQ(ttl_of(now(), absl::InfiniteDuration()), kTenYears);
  EXPECT_EQ(ttl_of(now() + 3 * kTenYears, absl::ZeroDuration()), kTenYears);
  EXPECT_EQ(ttl_of(absl::InfiniteFuture(), absl::ZeroDuration()), absl::InfiniteDuration());
  StoreRules rules = Rules();
  rules.ttl_offset = absl::ZeroDuration();
  Open(Names(), rules);
  EXPECT_EQ(ttl_of(now() - absl::Hours(50), absl::ZeroDuration()), absl::Milliseconds(1));
  EXPECT_EQ(ttl_of(now() + absl::Microseconds(1500), absl::ZeroDuration()), absl::Milliseconds(2));
  rules.ttl = false;
  Open(Names(), rules);
  EXPECT_EQ(ttl_of(now(), absl::ZeroDuration()), absl::InfiniteDuration());
}

TEST_P(ResponseStoreTest, CallsOfTheBackendAreBounded) {
  Find(kUrl);
  EXPECT_EQ(backend_->last_timeout(), absl::Seconds(20));
  ASSERT_OK(store_->Find(PrimaryOf(kUrl), {}, {.timeout = absl::Seconds(3)}));
  EXPECT_EQ(backend_->last_timeout(), absl::Seconds(3));
  ASSERT_OK(store_->Find(PrimaryOf(kUrl), {}, {.timeout = absl::Hours(3)}));
  EXPECT_EQ(backend_->last_timeout(), absl::Seconds(20));
}

TEST_P(ResponseStoreTest, AWalkShowsEachOnceAndNothingOfOthers) {
  std::set<std::string> expected;
  for (int i = 0; i < 250; ++i) {
    Store(StrCat("http://h/", i), StrCat("body ", i));
    expected.insert(StrCat("body ", i));
  }
  Store("http://h/v", "de", kByLanguage, kDe);
  Store("http://h/v", "en", kByLanguage, kEn);
  expected.insert({"de", "en"});
  // A pattern that were not escaped would match these, and they would decode.
  const std::string bytes = OrEnd(backend_->Get(PrimaryOf("http://h/1"), Want::kValue, {}))->value;
  const std::string hash(32, 'a');
  for (const std::string& other :
       {StrCat("te*st:", hash), StrCat("tex-st:", hash), StrCat("t[e]xst:", hash),
        StrCat("other:", hash), StrCat("t[e]*st:", hash, ".x"), std::string("t[e]*st:mark"),
        StrCat("t[e]*st:", hash, "x", hash), StrCat("t[e]*st:", std::string(32, 'G'))}) {
    SetRaw(other, bytes);
  }
  const std::vector<std::string> bodies = Walked();
  EXPECT_THAT(bodies, SizeIs(expected.size()));
  EXPECT_EQ(std::set<std::string>(bodies.begin(), bodies.end()), expected);
  EXPECT_THAT(problems(), IsEmpty());

  int shown = 0;
  EXPECT_OK(store_->Walk([&](const ResponseStore::Entry&) { return ++shown < 3; }, {}));
  EXPECT_EQ(shown, 3);

  EXPECT_OK(store_->Clear({}));
  std::vector<std::string> left = AllKeys();
  EXPECT_THAT(left, UnorderedElementsAre(StrCat("te*st:", hash), StrCat("tex-st:", hash),
                                         StrCat("t[e]xst:", hash), StrCat("other:", hash)));
}

TEST_P(ResponseStoreTest, AWalkDeletesVariantsThatNothingFindsAnyMore) {
  const std::string primary = Store(kUrl, "de", kByLanguage, kDe);
  const std::string orphan = Store(kUrl, "en", kByLanguage, kEn);
  EXPECT_THAT(store_->Remove({primary}, {}), IsOkAndHolds(1));
  StoreRules rules = Rules();
  rules.read_only = true;
  Open(Names(), rules);
  EXPECT_THAT(Walked(), IsEmpty());
  EXPECT_TRUE(Exists(orphan));
  Open();
  EXPECT_THAT(Walked(), IsEmpty());
  EXPECT_FALSE(Exists(orphan));

  const std::string old = Store(kUrl, "de", kByLanguage, kDe);
  const std::string of_old = Store(kUrl, "en", kByLanguage, kEn);
  EXPECT_THAT(store_->Remove({old}, {}), IsOkAndHolds(1));
  Store(kUrl, "de2", kByLanguage, kDe);
  const std::string of_new = Store(kUrl, "fr", kByLanguage, {{"Accept-Language", "fr"}});
  EXPECT_THAT(Walked(), UnorderedElementsAre("de2", "fr"));
  EXPECT_FALSE(Exists(of_old));
  EXPECT_TRUE(Exists(of_new));
}

TEST_P(ResponseStoreTest, RewriteGivesAnotherExpiryToWhatIsThere) {
  const std::string key = Store(kUrl, "hello");
  EXPECT_THAT(store_->Rewrite(key, now() + absl::Hours(5), {}), IsOkAndHolds(true));
  EXPECT_EQ(backend_->last_ttl(), absl::Hours(6));
  const ResponseStore::Found found = Find(kUrl);
  ASSERT_NE(found.response, nullptr);
  EXPECT_EQ(found.response->expires, now() + absl::Hours(5));
  EXPECT_TRUE(found.response->by_caller);
  EXPECT_EQ(found.response->body, "hello");
  backend_->BeforeNextSet([&] { EXPECT_THAT(store_->Remove({key}, {}), IsOkAndHolds(1)); });
  EXPECT_THAT(store_->Rewrite(key, now(), {}), IsOkAndHolds(false));
  EXPECT_EQ(Body(kUrl), "-");
  EXPECT_THAT(store_->Rewrite(key, now(), {}), IsOkAndHolds(false));
}

// Threads that store and look for variants of few URLs, delete them, and change their Vary.
TEST_P(ResponseStoreTest, VariantsNeverMixUpWhateverGoesOnAtOnce) {
  const int rounds = GetParam() == "disk" ? 60 : 300;
  const std::vector<std::string> languages = {"de", "en", "fr"};
  const std::vector<std::string> types = {"xml", "json"};
  std::atomic<int> wrong{0};
  std::atomic<int> hits{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      unsigned state = t * 7919 + 1;
      const auto below = [&](unsigned n) {
        state = state * 1664525 + 1013904223;
        return (state >> 16) % n;
      };
      for (int i = 0; i < rounds; ++i) {
        const std::string url = StrCat("http://h/", below(2));
        const std::string language = languages[below(3)];
        const std::string type = types[below(2)];
        const Headers request = {{"Accept-Language", language}, {"Accept", type}};
        const absl::StatusOr<ResponseStore::Found> found =
            store_->Find(PrimaryOf(url, request), request, {});
        if (!found.ok()) {
          ++wrong;
          continue;
        }
        if (found->response != nullptr) {
          ++hits;
          // "url|language|type", '*' where it did not vary by that.
          const std::string& body = found->response->body;
          const auto fits = [&](std::string_view l, std::string_view y) {
            return body == StrCat(url, "|", l, "|", y);
          };
          if (!fits(language, type) && !fits(language, "*") && !fits("*", type)) ++wrong;
          if (below(20) == 0) (void)store_->Remove({PrimaryOf(url, request)}, {});
          if (below(4) != 0) continue;
        }
        const unsigned vary = below(3);
        std::vector<std::string> names;
        if (vary != 0) names.emplace_back("accept-language");
        if (vary != 1) names.emplace_back("accept");
        const std::string body = StrCat(url, "|", vary != 0 ? language : std::string("*"), "|",
                                        vary != 1 ? type : std::string("*"));
        if (!store_->Put(*found, Make(url, body, names, request), absl::ZeroDuration(), {}).ok()) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(hits, 0);
  EXPECT_THAT(problems(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Backends, ResponseStoreTest, ::testing::Values("memory", "disk", "redis"),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace coord::http::internal
