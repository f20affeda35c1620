// What backend.h and cache_base.h promise, the same claims for every kind of backend.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/disk_backend.h"
#include "cache/internal/glob.h"
#include "cache/memory_backend.h"
#include "cache/near_backend.h"
#include "cache/redis_backend.h"
#include "cache/tiered_backend.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/keyspace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::TempDir;
using internal::StrCat;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Gt;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Optional;
using ::testing::UnorderedElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr absl::Duration kTenYears = absl::Hours(24 * 3660);  // of 366 days, the most there is

MATCHER_P(Holds, value, "") { return arg.value == value; }
const auto kNothing = ::testing::Eq(std::nullopt);

template <typename T>
T OrEnd(absl::StatusOr<T> made) {
  if (!made.ok()) testing::Fatal(made.status().ToString());
  return *std::move(made);
}

// One backend of the kind that the test is for.
class ContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  ContractTest() {
    if (GetParam() == "memory") {
      backend_ = Memory();
    } else if (GetParam() == "disk") {
      backend_ = OrEnd(DiskBackend::Open({.path = directory_.File("c.db")}));
    } else {
      server_ = std::make_unique<RedisServer>();
      const auto redis = std::make_shared<RedisBackend>(OrEnd(Client::Connect(server_->url())));
      if (GetParam() == "redis") {
        backend_ = redis;
      } else if (GetParam() == "tiered") {
        backend_ = OrEnd(TieredBackend::Make({Tier{Memory()}, Tier{redis}}));
      } else {
        const auto near = OrEnd(NearBackend::Make(redis, Memory(), {.prefixes = {""}}));
        if (!Eventually([&] { return near->active(); })) {
          testing::Fatal(near->inactive_because().ToString());
        }
        backend_ = near;
      }
    }
  }

  static std::shared_ptr<Backend> Memory() {
    return std::make_shared<MemoryBackend>(MemoryOptions{.max_entries = 100'000});
  }

  // Whether nobody else has keys where this backend keeps its own.
  bool alone() const { return GetParam() == "memory" || GetParam() == "disk"; }

  Cache Make(CacheOptions options = {}) { return Cache(backend_, std::move(options)); }

  // Every key that matches, each as often as it came.
  std::multiset<std::string> Walk(std::string_view pattern, std::size_t count = 100) {
    std::multiset<std::string> all;
    std::string cursor;
    do {
      absl::StatusOr<ScanPage> page = backend_->Scan(pattern, cursor, count);
      EXPECT_OK(page);
      if (!page.ok()) break;
      all.insert(page->keys.begin(), page->keys.end());
      cursor = page->cursor;
    } while (!cursor.empty());
    return all;
  }
  std::set<std::string> Found(std::string_view pattern, std::size_t count = 100) {
    const std::multiset<std::string> all = Walk(pattern, count);
    return {all.begin(), all.end()};
  }
  bool Gone(std::string_view key) {
    return Eventually([&] {
      const auto got = backend_->Get(key);
      return got.ok() && !*got;
    });
  }

  TempDir directory_;
  std::unique_ptr<RedisServer> server_;
  std::shared_ptr<Backend> backend_;
};

class BackendContractTest : public ContractTest {};
class CacheContractTest : public ContractTest {};

const auto kAll = ::testing::Values("redis", "memory", "disk", "tiered", "near");
const auto kName = [](const ::testing::TestParamInfo<std::string>& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(All, BackendContractTest, kAll, kName);
INSTANTIATE_TEST_SUITE_P(All, CacheContractTest, kAll, kName);

// Bytes that mean something to a pattern, a protocol, a C string or a terminal.
std::vector<std::string> OddBytes() {
  std::vector<std::string> all;
  for (const char c : {'*',  '?',  '[',  ']', '\\', '^', '-', '!', '{',    '}',    ',',
                       '\n', '\r', '\0', ' ', '\'', '"', '%', '_', '\x7f', '\xff', '\x80'}) {
    all.emplace_back(1, c);
  }
  return all;
}

// ---- Backend: keys and values ----

TEST_P(BackendContractTest, EveryByteCanStandInAKeyAndInAValue) {
  std::vector<std::string> keys;
  for (int c = 0; c < 256; ++c) {
    keys.emplace_back(1, static_cast<char>(c));
    keys.push_back(StrCat("k", keys[static_cast<std::size_t>(c) * 2]));
  }
  keys.emplace_back(Backend::kMaxKey, '\0');
  keys.emplace_back(Backend::kMaxKey, '\xff');
  for (const std::string& key : keys) {
    ASSERT_OK(backend_->Set({.key = key, .value = StrCat(key, std::string("\r\n\0$-1", 6))}));
  }
  for (int round = 0; round < 2; ++round) {  // the second is served from nearer by, where it can be
    ASSERT_OK_AND_ASSIGN(const auto many, backend_->GetMany(keys));
    ASSERT_EQ(many.size(), keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::string expected = StrCat(keys[i], std::string("\r\n\0$-1", 6));
      EXPECT_THAT(many[i], Optional(Holds(expected))) << i;
      EXPECT_THAT(backend_->Get(keys[i]), IsOkAndHolds(Optional(Holds(expected)))) << i;
    }
  }
  const std::set<std::string> all(keys.begin(), keys.end());
  EXPECT_EQ(Found("*"), all);
}

TEST_P(BackendContractTest, AnEmptyValueIsThere) {
  ASSERT_THAT(backend_->Set({.key = "k", .value = ""}), IsOkAndHolds(true));
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds(""))));
    EXPECT_THAT(backend_->Get("k", Want::kValueAndTtl), IsOkAndHolds(Optional(Holds(""))));
  }
  EXPECT_THAT(backend_->GetMany(std::vector<std::string>{"k", "l"}),
              IsOkAndHolds(ElementsAre(Optional(Holds("")), kNothing)));
  EXPECT_THAT(backend_->Exists("k"), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Set({.key = "k", .value = "v"}, SetIf::kAbsent), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Set({.key = "k", .value = ""}, SetIf::kPresent), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Delete("k"), IsOkAndHolds(true));
}

TEST_P(BackendContractTest, AValueOfSomeMegabytesComesBackWhole) {
  std::string value(3 << 20, '\0');
  for (std::size_t i = 0; i < value.size(); ++i)
    value[i] = static_cast<char>(i * 2654435761U >> 24);
  ASSERT_OK(backend_->Set({.key = "large", .value = value, .ttl = absl::Hours(1)}));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto got, backend_->Get("large"));
    ASSERT_TRUE(got.has_value());
    EXPECT_TRUE(got->value == value);
  }
  EXPECT_THAT(backend_->Ttl("large"),
              IsOkAndHolds(::testing::Property(&TimeLeft::left,
                                               AllOf(Gt(absl::Minutes(50)), Le(absl::Hours(1))))));
}

TEST_P(BackendContractTest, BadKeysAndTimesAreRefusedByEveryCallAndChangeNothing) {
  const std::string longest(Backend::kMaxKey, 'k');
  ASSERT_OK(backend_->Set({.key = longest, .value = "v"}));
  for (const std::string& key : {std::string(), longest + "k"}) {
    const std::vector<std::string> keys = {longest, key};
    EXPECT_THAT(backend_->Get(key), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Get(key, Want::kValueAndTtl), StatusIs(kInvalid));
    EXPECT_THAT(backend_->GetMany(keys), StatusIs(kInvalid));
    EXPECT_THAT(backend_->GetMany(keys, Want::kValueAndTtl), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Set({.key = key, .value = "w"}), StatusIs(kInvalid));
    EXPECT_THAT(backend_->SetMany(std::vector<Write>{{longest, "w"}, {key, "w"}}),
                StatusIs(kInvalid));
    EXPECT_THAT(backend_->Delete(key), StatusIs(kInvalid));
    EXPECT_THAT(backend_->DeleteMany(keys), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Exists(key), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Ttl(key), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Expire(key, absl::Seconds(1)), StatusIs(kInvalid));
    EXPECT_THAT(backend_->Persist(key), StatusIs(kInvalid));
  }
  for (const absl::Duration ttl :
       {absl::ZeroDuration(), absl::Milliseconds(-1), absl::Microseconds(500),
        absl::Microseconds(1500), absl::Nanoseconds(1), -absl::InfiniteDuration()}) {
    for (const SetIf condition : {SetIf::kAlways, SetIf::kAbsent, SetIf::kPresent}) {
      EXPECT_THAT(backend_->Set({longest, "w", ttl}, condition), StatusIs(kInvalid)) << ttl;
    }
    EXPECT_THAT(backend_->SetMany(std::vector<Write>{{longest, "w"}, {"k", "w", ttl}}),
                StatusIs(kInvalid));
    EXPECT_THAT(backend_->Expire(longest, ttl), StatusIs(kInvalid)) << ttl;
  }
  EXPECT_THAT(backend_->Get(longest), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_THAT(backend_->Ttl(longest), IsOkAndHolds(TimeLeft::Forever()));
}

TEST_P(BackendContractTest, WhatIsNotThereIsNowhere) {
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(kNothing));
  EXPECT_THAT(backend_->Get("k", Want::kValueAndTtl), IsOkAndHolds(kNothing));
  EXPECT_THAT(backend_->Exists("k"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Ttl("k"), IsOkAndHolds(TimeLeft::Missing()));
  EXPECT_THAT(backend_->Expire("k", absl::Seconds(1)), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Expire("k", absl::InfiniteDuration()), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Persist("k"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Delete("k"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->DeleteMany(std::vector<std::string>{"k", "k"}), IsOkAndHolds(0));
  EXPECT_THAT(backend_->DeleteMatching("k*"), IsOkAndHolds(0));
  EXPECT_THAT(backend_->Set({.key = "k", .value = "v"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(kNothing));
  EXPECT_THAT(Found("*"), IsEmpty());
  // And was, and is no more.
  ASSERT_OK(backend_->Set({.key = "k", .value = "v"}));
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_THAT(backend_->Delete("k"), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Delete("k"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(kNothing));
  EXPECT_THAT(backend_->Ttl("k"), IsOkAndHolds(TimeLeft::Missing()));
}

// ---- Backend: times to live ----

TEST_P(BackendContractTest, TheTimeLeftIsOneOfThreeAnswersAfterEachWayToGetThere) {
  const auto minutes = [](int most) {
    return IsOkAndHolds(
        AllOf(::testing::Property(&TimeLeft::kind, TimeLeft::Kind::kExpires),
              ::testing::Property(&TimeLeft::left,
                                  AllOf(Gt(absl::Minutes(most) / 2), Le(absl::Minutes(most))))));
  };
  const auto forever = IsOkAndHolds(TimeLeft::Forever());
  ASSERT_OK(backend_->Set({.key = "k", .value = "v"}));
  EXPECT_THAT(backend_->Ttl("k"), forever);
  EXPECT_THAT(backend_->Persist("k"), IsOkAndHolds(true));  // there is one; nothing to be done
  EXPECT_THAT(backend_->Ttl("k"), forever);
  EXPECT_THAT(backend_->Expire("k", absl::Minutes(10)), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), minutes(10));
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  EXPECT_THAT(backend_->Expire("k", absl::Minutes(100)), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), minutes(100));
  EXPECT_THAT(backend_->Expire("k", absl::InfiniteDuration()), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), forever);
  ASSERT_OK(backend_->SetMany(std::vector<Write>{{"k", "w", absl::Minutes(10)}}));
  EXPECT_THAT(backend_->Ttl("k"), minutes(10));
  EXPECT_THAT(backend_->Persist("k"), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), forever);
  // A write takes the place of the time to live; one that is not done changes nothing.
  EXPECT_THAT(backend_->Set({"k", "x", absl::Minutes(10)}, SetIf::kPresent), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), minutes(10));
  EXPECT_THAT(backend_->Set({"k", "y", absl::Hours(9)}, SetIf::kAbsent), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Ttl("k"), minutes(10));
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds("x"))));
  EXPECT_THAT(backend_->Set({.key = "k", .value = "z"}), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Ttl("k"), forever);
}

TEST_P(BackendContractTest, ReadsSayWhatIsLeftWhenTheyAreAsked) {
  ASSERT_OK(backend_->SetMany(std::vector<Write>{{"forever", "1"}, {"hour", "2", absl::Hours(1)}}));
  const std::vector<std::string> keys = {"hour", "gone", "forever", "hour"};
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto many, backend_->GetMany(keys, Want::kValueAndTtl));
    ASSERT_EQ(many.size(), 4U);
    for (const std::size_t i : {std::size_t{0}, std::size_t{3}}) {
      ASSERT_TRUE(many[i].has_value());
      EXPECT_EQ(many[i]->value, "2");
      EXPECT_THAT(many[i]->left, Optional(AllOf(Gt(absl::Minutes(50)), Le(absl::Hours(1)))));
    }
    EXPECT_FALSE(many[1].has_value());
    ASSERT_TRUE(many[2].has_value());
    EXPECT_THAT(many[2]->left, Optional(absl::InfiniteDuration()));
    for (const std::string& key : keys) {
      ASSERT_OK_AND_ASSIGN(const auto one, backend_->Get(key, Want::kValueAndTtl));
      EXPECT_EQ(one.has_value(), key != "gone");
      if (one) {
        EXPECT_EQ(one->left == absl::InfiniteDuration(), key == "forever");
      }
    }
    EXPECT_OK(backend_->GetMany(keys));  // now they may be near
  }
}

TEST_P(BackendContractTest, AMillisecondIsATimeToLiveAndWhatHasExpiredIsNowhere) {
  ASSERT_OK(backend_->Set({"set", "v", absl::Milliseconds(1)}));
  ASSERT_OK(backend_->SetMany(std::vector<Write>{{"many", "v", absl::Milliseconds(1)}}));
  ASSERT_OK(backend_->Set({"expire", "v"}));
  EXPECT_OK(backend_->Get("expire"));
  EXPECT_OK(backend_->Expire("expire", absl::Milliseconds(1)));
  const std::vector<std::string> keys = {"set", "many", "expire"};
  for (const std::string& key : keys) EXPECT_TRUE(Gone(key)) << key;
  EXPECT_THAT(backend_->GetMany(keys), IsOkAndHolds(ElementsAre(kNothing, kNothing, kNothing)));
  EXPECT_THAT(backend_->GetMany(keys, Want::kValueAndTtl),
              IsOkAndHolds(ElementsAre(kNothing, kNothing, kNothing)));
  EXPECT_THAT(Found("*"), IsEmpty());
  EXPECT_THAT(backend_->Exists("set"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Ttl("set"), IsOkAndHolds(TimeLeft::Missing()));
  EXPECT_THAT(backend_->Persist("set"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Expire("set", absl::Hours(1)), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Set({"set", "w"}, SetIf::kPresent), IsOkAndHolds(false));
  EXPECT_THAT(backend_->Delete("many"), IsOkAndHolds(false));
  EXPECT_THAT(backend_->DeleteMany(keys), IsOkAndHolds(0));
  EXPECT_THAT(backend_->DeleteMatching("e*"), IsOkAndHolds(0));
  EXPECT_THAT(backend_->Set({"set", "w"}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_THAT(backend_->Get("set"), IsOkAndHolds(Optional(Holds("w"))));
  EXPECT_THAT(backend_->Ttl("set"), IsOkAndHolds(TimeLeft::Forever()));
}

TEST_P(BackendContractTest, TenYearsAreKeptAndWhatCannotBeIsRefused) {
  ASSERT_OK(backend_->Set({"set", "v", kTenYears}));
  ASSERT_OK(backend_->Set({"expire", "v"}));
  EXPECT_THAT(backend_->Expire("expire", kTenYears), IsOkAndHolds(true));
  for (const std::string key : {"set", "expire"}) {
    EXPECT_THAT(backend_->Ttl(key),
                IsOkAndHolds(::testing::Property(
                    &TimeLeft::left, AllOf(Gt(kTenYears - absl::Hours(1)), Le(kTenYears)))));
    EXPECT_THAT(backend_->Get(key), IsOkAndHolds(Optional(Holds("v"))));
  }
  // Whole milliseconds, whose sum with now is more than 64 bits hold.
  for (const absl::Duration huge :
       {absl::Milliseconds(INT64_MAX), absl::Milliseconds(INT64_MAX / 2), absl::Seconds(INT64_MAX),
        absl::Milliseconds(INT64_MAX - 1'000'000'000'000)}) {
    const absl::StatusOr<bool> set = backend_->Set({"huge", "v", huge});
    EXPECT_THAT(set.status().code(), AnyOf(absl::StatusCode::kOk, kInvalid)) << set.status();
    if (set.ok()) {
      EXPECT_THAT(backend_->Exists("huge"), IsOkAndHolds(true)) << huge;
    }
    const absl::StatusOr<bool> expired = backend_->Expire("set", huge);
    EXPECT_THAT(expired.status().code(), AnyOf(absl::StatusCode::kOk, kInvalid))
        << expired.status();
    EXPECT_THAT(backend_->Exists("set"), IsOkAndHolds(true)) << huge;
  }
}

// ---- Backend: batches and conditions ----

TEST_P(BackendContractTest, BatchesMayNameAKeyTwice) {
  ASSERT_OK(backend_->SetMany(std::vector<Write>{
      {"a", "1"}, {"b", "1"}, {"a", "2", absl::Hours(1)}, {"b", "2"}, {"a", "3"}}));
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(backend_->GetMany(std::vector<std::string>{"a", "x", "b", "a", "x"}),
                IsOkAndHolds(ElementsAre(Optional(Holds("3")), kNothing, Optional(Holds("2")),
                                         Optional(Holds("3")), kNothing)));
  }
  EXPECT_THAT(backend_->Ttl("a"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(backend_->DeleteMany(std::vector<std::string>{"a", "x", "a"}), IsOkAndHolds(1));
  EXPECT_THAT(backend_->GetMany(std::vector<std::string>{"a", "b"}),
              IsOkAndHolds(ElementsAre(kNothing, Optional(Holds("2")))));
  EXPECT_THAT(backend_->GetMany(std::vector<std::string>{}), IsOkAndHolds(IsEmpty()));
  EXPECT_OK(backend_->SetMany({}));
  EXPECT_THAT(backend_->DeleteMany({}), IsOkAndHolds(0));
}

TEST_P(BackendContractTest, BatchesOfThousandsKeepTheirOrder) {
  constexpr int kKeys = 3000;
  std::vector<std::string> keys, values, asked;
  for (int i = 0; i < kKeys; ++i) {
    keys.push_back(StrCat("key:", i));
    values.push_back(StrCat("value ", i));
    asked.push_back(keys.back());
    asked.push_back(StrCat("none:", i));
  }
  std::vector<Write> writes;
  for (std::size_t i = 0; i < kKeys; ++i) writes.push_back({keys[i], values[i], absl::Hours(1)});
  ASSERT_OK(backend_->SetMany(writes));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto got, backend_->GetMany(asked));
    ASSERT_EQ(got.size(), asked.size());
    for (std::size_t i = 0; i < kKeys; ++i) {
      ASSERT_THAT(got[2 * i], Optional(Holds(values[i])));
      ASSERT_FALSE(got[2 * i + 1].has_value());
    }
  }
  EXPECT_EQ(Found("key:*").size(), static_cast<std::size_t>(kKeys));
  EXPECT_THAT(backend_->DeleteMany(asked), IsOkAndHolds(kKeys));
  EXPECT_THAT(Found("*"), IsEmpty());
}

TEST_P(BackendContractTest, OfManyThatAddOneKeyOneSucceeds) {
  for (int round = 0; round < 20; ++round) {
    const std::string key = StrCat("k", round);
    std::atomic<int> won{0};
    std::vector<std::string> winners(4);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < winners.size(); ++i) {
      threads.emplace_back([&, i] {
        const std::string mine = StrCat("by ", i);
        if (backend_->Set({key, mine}, SetIf::kAbsent).value_or(false)) {
          ++won;
          winners[i] = mine;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(won, 1);
    for (const std::string& winner : winners) {
      if (!winner.empty()) {
        EXPECT_THAT(backend_->Get(key), IsOkAndHolds(Optional(Holds(winner))));
      }
    }
  }
}

// ---- Backend: walks and patterns ----

TEST_P(BackendContractTest, AWalkFindsWhatIsThereAllTheTimeWhileOthersComeAndGo) {
  std::set<std::string> stay;
  std::vector<std::string> go;
  for (int i = 0; i < 300; ++i) {
    stay.insert(StrCat("stay:", i));
    go.push_back(StrCat("go:", i));
  }
  for (const std::string& key : stay) ASSERT_OK(backend_->Set({key, "v"}));
  for (const std::string& key : go) ASSERT_OK(backend_->Set({key, "v"}));
  std::set<std::string> found;
  std::string cursor;
  std::size_t page_number = 0;
  do {
    ASSERT_OK_AND_ASSIGN(const ScanPage page, backend_->Scan("*", cursor, 7));
    found.insert(page.keys.begin(), page.keys.end());
    cursor = page.cursor;
    for (int i = 0; i < 10; ++i) {
      if (!go.empty()) {
        ASSERT_OK(backend_->Delete(go.back()));
        go.pop_back();
      }
      if (page_number < 200) {
        ASSERT_OK(backend_->Set({StrCat("come:", page_number, ":", i), "v"}));
      }
    }
    ASSERT_LT(++page_number, 10'000U) << "the walk has no end";
  } while (!cursor.empty());
  EXPECT_TRUE(std::includes(found.begin(), found.end(), stay.begin(), stay.end()));
}

TEST_P(BackendContractTest, AWalkWithAPatternHasAllThatMatchesWhateverTheStep) {
  std::set<std::string> mine;
  for (int i = 0; i < 400; ++i) {
    ASSERT_OK(backend_->Set({StrCat("other:", i), "v"}));
    if (i % 10 == 0) {
      mine.insert(StrCat("mine:", i));
      ASSERT_OK(backend_->Set({StrCat("mine:", i), "v"}));
    }
  }
  for (const std::size_t count : {1U, 3U, 100U, 1'000'000U}) {
    EXPECT_EQ(Found("mine:*", count), mine) << count;
    EXPECT_EQ(Found("m*:*", count), mine) << count;
    EXPECT_EQ(Found("[m]ine:*0", count), mine) << count;
  }
  EXPECT_THAT(backend_->Scan("*", "", 0), StatusIs(kInvalid));
  for (const std::string& cursor :
       {std::string("no cursor"), std::string("0"), std::string("\0", 1), std::string(5000, '9'),
        std::string("-1"), std::string("18446744073709551616")}) {
    EXPECT_THAT(backend_->Scan("*", cursor), StatusIs(kInvalid)) << cursor.substr(0, 20);
  }
}

TEST_P(BackendContractTest, PatternsMeanTheSameEverywhere) {
  std::vector<std::string> keys = {"a", "b", "ab", "abc", "aXc", "a\nc", "A", "axxc", "é", "aéc"};
  for (const std::string& odd : OddBytes()) {
    keys.push_back(odd);
    keys.push_back(StrCat("a", odd, "c"));
    keys.push_back(StrCat("a", odd));
  }
  for (const std::string& key : keys) ASSERT_OK(backend_->Set({key, "v"}));
  const std::vector<std::string> patterns = {"*",
                                             "**",
                                             "?",
                                             "??",
                                             "a*",
                                             "*c",
                                             "a?c",
                                             "a*c",
                                             "a[b]c",
                                             "[ab]",
                                             "a[^b]c",
                                             "a[!b]c",
                                             "a[a-z]c",
                                             "a[z-a]c",
                                             "a[]c",
                                             "a[^]c",
                                             "a[b-]c",
                                             "a[",
                                             "a[b",
                                             "a\\",
                                             "a\\*c",
                                             "a\\?c",
                                             "a\\[c",
                                             "a\\]c",
                                             "a\\\\c",
                                             "a]c",
                                             "a^c",
                                             "a[\\]]c",
                                             "a[]]c",
                                             "a[\\^]c",
                                             "a[*]c",
                                             "a[?]c",
                                             "a[\\\\]c",
                                             "a-c",
                                             "a{*",
                                             "a[{,}]c",
                                             "abc",
                                             "ABC",
                                             "a%c",
                                             "a_c",
                                             "a\nc",
                                             "\xff",
                                             "a\xff*",
                                             "[\x80-\xff]",
                                             std::string("a\0c", 3),
                                             std::string("a[\0]c", 5),
                                             "*\\",
                                             "a\\c",
                                             "x",
                                             "a**c",
                                             "*?*",
                                             "?*c"};
  for (const std::string& pattern : patterns) {
    std::set<std::string> expected;
    for (const std::string& key : keys) {
      if (internal::GlobMatch(pattern, key)) expected.insert(key);
    }
    EXPECT_EQ(Found(pattern), expected) << pattern;
  }
}

TEST_P(BackendContractTest, AnEscapedKeyMatchesItselfAlone) {
  std::vector<std::string> keys;
  for (const std::string& odd : OddBytes()) {
    keys.push_back(StrCat("p", odd, "q"));
    keys.push_back(StrCat("p", odd, odd, "q"));
    keys.push_back(StrCat("p", odd));
  }
  keys.insert(keys.end(), {"pq", "pxq", "pxxq", "p[ab]q", "paq", "p\\*q", "p[^a]q"});
  for (const std::string& key : keys) ASSERT_OK(backend_->Set({key, "v"}));
  std::set<std::string> left(keys.begin(), keys.end());
  for (const std::string& key : std::set<std::string>(left)) {
    EXPECT_EQ(Found(EscapeGlob(key)), std::set<std::string>{key});
    EXPECT_THAT(backend_->DeleteMatching(EscapeGlob(key)), IsOkAndHolds(1)) << key;
    EXPECT_THAT(backend_->Get(key), IsOkAndHolds(kNothing)) << key;
    left.erase(key);
    EXPECT_EQ(Found("*"), left) << key;
  }
}

TEST_P(BackendContractTest, APatternThatEmptiesThePlaceIsRefused) {
  ASSERT_OK(backend_->Set({"k", "v"}));
  ASSERT_OK(backend_->Set({"key", "v"}));
  for (const std::string pattern : {"", "*", "**", "***", "?*", "*?", "*?*"}) {
    EXPECT_THAT(backend_->DeleteMatching(pattern), StatusIs(kInvalid)) << pattern;
  }
  EXPECT_EQ(Found("*").size(), 2U);
}

TEST_P(BackendContractTest, ClearEmptiesOnlyWhatIsItsOwn) {
  ASSERT_OK(backend_->Set({"k", "v"}));
  EXPECT_OK(backend_->Get("k"));
  if (alone()) {
    EXPECT_OK(backend_->Clear());
    EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(kNothing));
    EXPECT_THAT(Found("*"), IsEmpty());
    EXPECT_OK(backend_->Clear());
  } else {
    EXPECT_THAT(backend_->Clear(), StatusIs(kPrecondition));
    EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
  }
}

// ---- Backend: its end ----

std::vector<std::pair<std::string, std::function<absl::Status(Backend&)>>> BackendCalls() {
  const auto keys = std::make_shared<std::vector<std::string>>(std::vector<std::string>{"k", "l"});
  const auto writes =
      std::make_shared<std::vector<Write>>(std::vector<Write>{{"k", "v"}, {"l", "v"}});
  return {
      {"Get", [](Backend& b) { return b.Get("k").status(); }},
      {"Get ttl", [](Backend& b) { return b.Get("k", Want::kValueAndTtl).status(); }},
      {"GetMany", [keys](Backend& b) { return b.GetMany(*keys).status(); }},
      {"Set",
       [](Backend& b) {
         return b.Set({"k", "v"}).status();
       }},
      {"Add",
       [](Backend& b) {
         return b.Set({"k", "v"}, SetIf::kAbsent).status();
       }},
      {"Replace",
       [](Backend& b) {
         return b.Set({"k", "v"}, SetIf::kPresent).status();
       }},
      {"SetMany", [writes](Backend& b) { return b.SetMany(*writes); }},
      {"Delete", [](Backend& b) { return b.Delete("k").status(); }},
      {"DeleteMany", [keys](Backend& b) { return b.DeleteMany(*keys).status(); }},
      {"Exists", [](Backend& b) { return b.Exists("k").status(); }},
      {"Ttl", [](Backend& b) { return b.Ttl("k").status(); }},
      {"Expire", [](Backend& b) { return b.Expire("k", absl::Hours(1)).status(); }},
      {"Persist", [](Backend& b) { return b.Persist("k").status(); }},
      {"Scan", [](Backend& b) { return b.Scan("*").status(); }},
      {"DeleteMatching", [](Backend& b) { return b.DeleteMatching("k*").status(); }},
      {"Clear", [](Backend& b) { return b.Clear(); }},
      {"Ping", [](Backend& b) { return b.Ping(); }},
      {"Reconnect", [](Backend& b) { return b.Reconnect(); }},
  };
}

TEST_P(BackendContractTest, EveryCallAfterCloseIsRefused) {
  ASSERT_OK(backend_->Set({"k", "v"}));
  backend_->Close();
  backend_->Close();
  for (const auto& [name, call] : BackendCalls()) {
    EXPECT_THAT(call(*backend_), StatusIs(kPrecondition)) << name;
  }
  EXPECT_THAT(backend_->GetMany({}), StatusIs(kPrecondition));
  EXPECT_THAT(backend_->SetMany({}), StatusIs(kPrecondition));
  EXPECT_THAT(backend_->DeleteMany({}), StatusIs(kPrecondition));
  EXPECT_EQ(backend_->kind(), GetParam());
  backend_->usage();
  backend_->Forget("k");
}

TEST_P(BackendContractTest, TwoThatCloseWhileOthersCallBreakNothing) {
  std::atomic<bool> done{false};
  std::atomic<int> calls{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!done) {
        for (const auto& [name, call] : BackendCalls()) {
          call(*backend_).IgnoreError();
          ++calls;
        }
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return calls > 100; }));
  std::thread other([&] { backend_->Close(); });
  backend_->Close();
  other.join();
  const int before = calls;
  EXPECT_TRUE(Eventually([&] { return calls > before + 100; }));
  done = true;
  for (std::thread& thread : threads) thread.join();
  for (const auto& [name, call] : BackendCalls()) {
    EXPECT_THAT(call(*backend_), StatusIs(kPrecondition)) << name;
  }
}

TEST_P(BackendContractTest, ReconnectingLosesNothing) {
  ASSERT_OK(backend_->Set({"k", "v"}));
  EXPECT_OK(backend_->Ping());
  EXPECT_OK(backend_->Reconnect());
  EXPECT_OK(backend_->Ping());
  EXPECT_THAT(backend_->Get("k"), IsOkAndHolds(Optional(Holds("v"))));
}

// ---- Cache: values ----

template <typename T>
auto Hit(T value) {
  return IsOkAndHolds(::testing::Truly([value](const Lookup<T>& found) {
    return found.hit() && *found == value && !found.stale();
  }));
}
template <typename T>
auto Miss() {
  return IsOkAndHolds(::testing::Property("miss", &Lookup<T>::miss, true));
}
template <typename T>
auto Null() {
  return IsOkAndHolds(::testing::Property("null", &Lookup<T>::null, true));
}
auto Left(absl::Duration least, absl::Duration most) {
  return IsOkAndHolds(AllOf(::testing::Property(&TimeLeft::kind, TimeLeft::Kind::kExpires),
                            ::testing::Property(&TimeLeft::left, AllOf(Ge(least), Le(most)))));
}

TEST_P(CacheContractTest, ValuesOfManyTypesComeBack) {
  const Cache cache = Make();
  const std::map<std::string, std::vector<int>> deep = {{"", {}}, {"é\n", {1, -2}}};
  ASSERT_OK(cache.Set("int", INT64_MIN));
  ASSERT_OK(cache.Set("uint", UINT64_MAX));
  ASSERT_OK(cache.Set("double", 0.1));
  ASSERT_OK(cache.Set("bool", false));
  ASSERT_OK(cache.Set("empty", std::string()));
  ASSERT_OK(cache.Set("text", std::string("\0null\n\"", 7)));
  ASSERT_OK(cache.Set("list", std::vector<std::string>{}));
  ASSERT_OK(cache.Set("map", deep));
  ASSERT_OK(cache.Set("optional", std::optional<int>(3)));
  ASSERT_OK(cache.Set("null text", std::string("null")));
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(cache.Get<std::int64_t>("int"), Hit(INT64_MIN));
    EXPECT_THAT(cache.Get<std::uint64_t>("uint"), Hit(UINT64_MAX));
    EXPECT_THAT(cache.Get<double>("double"), Hit(0.1));
    EXPECT_THAT(cache.Get<bool>("bool"), Hit(false));
    EXPECT_THAT(cache.Get<std::string>("empty"), Hit(std::string()));
    EXPECT_THAT(cache.Get<std::string>("text"), Hit(std::string("\0null\n\"", 7)));
    EXPECT_THAT(cache.Get<std::vector<std::string>>("list"), Hit(std::vector<std::string>{}));
    EXPECT_THAT((cache.Get<std::map<std::string, std::vector<int>>>("map")), Hit(deep));
    EXPECT_THAT(cache.Get<int>("optional"), Hit(3));
    EXPECT_THAT(cache.Get<std::string>("null text"), Hit(std::string("null")));
  }
}

TEST_P(CacheContractTest, RawBytesComeBackWhateverTheyAre) {
  const BasicCache<RawCodec> cache(backend_);
  const std::vector<std::string> values = {"",
                                           std::string("\0", 1),
                                           std::string("\0\1\0", 3),
                                           std::string("\0\1\1", 3),
                                           "null",
                                           "\xff",
                                           std::string("\0\1\2\1\5zstd?", 10),
                                           std::string(100'000, '\0')};
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_OK(cache.Set(StrCat("k", i), values[i]));
  }
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_THAT(cache.Get<std::string>(StrCat("k", i)), Hit(values[i])) << i;
    }
  }
}

TEST_P(CacheContractTest, ANullIsAnAnswerInEveryCall) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("a", nullptr));
  ASSERT_OK(cache.Set("b", std::optional<int>()));
  EXPECT_THAT(cache.Add("c", std::nullopt), IsOkAndHolds(true));
  const std::map<std::string, std::optional<int>> some = {{"d", std::nullopt}, {"e", 5}};
  ASSERT_OK(cache.SetMany(some));
  for (int round = 0; round < 2; ++round) {
    for (const std::string key : {"a", "b", "c", "d"}) {
      EXPECT_THAT(cache.Get<int>(key), Null<int>()) << key;
      EXPECT_THAT(cache.Exists(key), IsOkAndHolds(true));
    }
    ASSERT_OK_AND_ASSIGN(const auto many, cache.GetMany<int>({"a", "b", "x", "e", "a"}));
    EXPECT_EQ(many.size(), 4U);
    EXPECT_TRUE(many.at("a").null() && many.at("b").null() && many.at("x").miss());
    EXPECT_EQ(many.at("e").value_or(0), 5);
  }
  EXPECT_THAT(cache.Add("a", 1), IsOkAndHolds(false));
  EXPECT_THAT(cache.Replace("a", 1), IsOkAndHolds(true));
  EXPECT_THAT(cache.Get<int>("a"), Hit(1));
  EXPECT_THAT(cache.Replace("a", std::optional<int>()), IsOkAndHolds(true));
  EXPECT_THAT(cache.Get<int>("a"), Null<int>());
  EXPECT_THAT(cache.Replace("x", 1), IsOkAndHolds(false));
  EXPECT_THAT(cache.Get<int>("x"), Miss<int>());
}

TEST_P(CacheContractTest, BatchesTakeKeysTwiceAndRefuseNoneForWhatIsMissing) {
  const Cache cache = Make();
  ASSERT_OK(cache.SetMany<int>({{"a", 1}, {"b", 2}, {"a", 3}}));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto many, cache.GetMany<int>({"a", "none", "a", "b", "none", "b"}));
    EXPECT_EQ(many.size(), 3U);
    EXPECT_EQ(many.at("a").value_or(0), 3);
    EXPECT_EQ(many.at("b").value_or(0), 2);
    EXPECT_TRUE(many.at("none").miss());
  }
  EXPECT_THAT(cache.DeleteMany(std::vector<std::string>{"a", "a", "none"}), IsOkAndHolds(1));
  EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
}

TEST_P(CacheContractTest, CompressedAndSignedValuesLiveAsLongAsOthers) {
  for (const auto algorithm : {Compression::Algorithm::kZstd, Compression::Algorithm::kLz4}) {
    const std::vector<SigningKey> keys = {{"key 1", "0123456789abcdef"}};
    const BasicCache<Signed<JsonCodec>> cache(
        backend_, {.ttl_jitter = 0, .compression = {.algorithm = algorithm}},
        Signed<JsonCodec>(keys));
    const std::string large(1 << 20, 'x');
    ASSERT_OK(cache.Set("large", large, absl::Minutes(10)));
    ASSERT_OK(cache.Set("null", nullptr, absl::Minutes(10)));
    for (int round = 0; round < 2; ++round) {
      EXPECT_THAT(cache.Get<std::string>("large"), Hit(large));
      EXPECT_THAT(cache.Get<int>("null"), Null<int>());
    }
    EXPECT_THAT(cache.TtlOf("large"), Left(absl::Minutes(9), absl::Minutes(10)));
    EXPECT_THAT(cache.TtlOf("null"), Left(absl::Minutes(9), absl::Minutes(10)));
    ASSERT_OK(cache.Set("large", large, absl::Milliseconds(1)));
    EXPECT_TRUE(Eventually([&] { return cache.Get<std::string>("large")->miss(); }));
    EXPECT_THAT(cache.TtlOf("large"), IsOkAndHolds(TimeLeft::Missing()));
  }
}

// ---- Cache: times to live ----

TEST_P(CacheContractTest, TimesToLiveComeFromTheCallThenTheTypeThenTheCache) {
  TtlPolicy by_type;
  by_type.For<int>(absl::Hours(1)).For<bool>(Ttl::Never());
  const Cache cache = Make({.ttl = absl::Minutes(10), .ttl_by_type = by_type, .ttl_jitter = 0});
  const absl::Time start = absl::Now();
  ASSERT_OK(cache.Set("text", std::string("x")));
  ASSERT_OK(cache.Set("int", 1));
  ASSERT_OK(cache.Set("null int", std::optional<int>()));
  ASSERT_OK(cache.Set("bool", true));
  ASSERT_OK(cache.Set("call", 1, absl::Minutes(20)));
  ASSERT_OK(cache.Set("never", 1, Ttl::Never()));
  ASSERT_OK(cache.Set("at", 1, Ttl::At(start + absl::Hours(5))));
  ASSERT_OK(cache.Set("ten years", 1, kTenYears));
  EXPECT_OK(cache.Add("add", 1));
  ASSERT_OK(cache.SetMany<int>({{"many", 1}}));
  EXPECT_THAT(cache.TtlOf("text"), Left(absl::Minutes(9), absl::Minutes(10)));
  for (const std::string key : {"int", "null int", "add", "many"}) {
    EXPECT_THAT(cache.TtlOf(key), Left(absl::Minutes(59), absl::Hours(1))) << key;
  }
  EXPECT_THAT(cache.TtlOf("bool"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.TtlOf("call"), Left(absl::Minutes(19), absl::Minutes(20)));
  EXPECT_THAT(cache.TtlOf("never"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.TtlOf("at"), Left(absl::Minutes(299), absl::Minutes(300)));
  EXPECT_THAT(cache.TtlOf("ten years"), Left(kTenYears - absl::Hours(1), kTenYears));
  EXPECT_THAT(cache.TtlOf("none"), IsOkAndHolds(TimeLeft::Missing()));

  EXPECT_THAT(cache.Expire("call", Ttl::Default()), IsOkAndHolds(true));
  EXPECT_THAT(cache.TtlOf("call"), Left(absl::Minutes(9), absl::Minutes(10)));
  EXPECT_THAT(cache.Expire("call", Ttl::Never()), IsOkAndHolds(true));
  EXPECT_THAT(cache.TtlOf("call"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.Expire("call", Ttl::At(absl::Now() + absl::Hours(2))), IsOkAndHolds(true));
  EXPECT_THAT(cache.TtlOf("call"), Left(absl::Minutes(119), absl::Minutes(120)));
  EXPECT_THAT(cache.Persist("call"), IsOkAndHolds(true));
  EXPECT_THAT(cache.TtlOf("call"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.Expire("none", absl::Hours(1)), IsOkAndHolds(false));
  for (const Ttl bad : {Ttl(absl::ZeroDuration()), Ttl(absl::Milliseconds(-1)),
                        Ttl(kTenYears + absl::Hours(24 * 30)), Ttl::At(start - absl::Hours(1)),
                        Ttl::At(absl::InfinitePast()), Ttl(-absl::InfiniteDuration())}) {
    EXPECT_THAT(cache.Set("call", 2, bad), StatusIs(kInvalid)) << bad.ToString();
    EXPECT_THAT(cache.Add("new", 2, {.ttl = bad}), StatusIs(kInvalid)) << bad.ToString();
    EXPECT_THAT(cache.SetMany<int>({{"call", 2}}, {.ttl = bad}), StatusIs(kInvalid));
    EXPECT_THAT(cache.Expire("call", bad), StatusIs(kInvalid)) << bad.ToString();
  }
  EXPECT_THAT(cache.Get<int>("call"), Hit(1));
}

TEST_P(CacheContractTest, JitterStaysWithinItsShareAndDiffersFromKeyToKey) {
  const Cache cache = Make({.ttl = absl::Hours(10), .ttl_jitter = 0.2});
  std::map<std::string, int> values;
  for (int i = 0; i < 200; ++i) values[StrCat("k", i)] = i;
  ASSERT_OK(cache.SetMany(values));
  std::set<absl::Duration> times;
  for (const auto& [key, value] : values) {
    const absl::StatusOr<TimeLeft> left = cache.TtlOf(key);
    ASSERT_THAT(left, Left(absl::Hours(8) - absl::Minutes(1), absl::Hours(12)));
    times.insert(left->left());
  }
  EXPECT_GT(times.size(), 150U);
  EXPECT_LT(*times.begin(), absl::Hours(9));
  EXPECT_GT(*times.rbegin(), absl::Hours(11));
}

TEST_P(CacheContractTest, JitterNeverLeavesLessThanAMillisecondNorMoreThanTenYears) {
  const Cache cache = Make({.ttl_jitter = 0.99});
  for (int i = 0; i < 200; ++i) {
    // Would be refused as a time to live of zero, or of too much.
    ASSERT_OK(cache.Set(StrCat("short", i), i, absl::Milliseconds(1)));
    ASSERT_OK(cache.Set(StrCat("long", i), i, kTenYears));
    ASSERT_THAT(cache.TtlOf(StrCat("long", i)), Left(absl::Milliseconds(1), kTenYears));
  }
  EXPECT_TRUE(Eventually([&] { return cache.Count("short*").value_or(-1) == 0; }));
}

TEST_P(CacheContractTest, WhatMayBeServedStaleIsNotFreshForLonger) {
  const Cache cache = Make({.ttl_jitter = 0});
  ASSERT_OK(cache.Set("k", 1, SetOptions{.ttl = absl::Hours(1), .stale_for = absl::Hours(1)}));
  EXPECT_THAT(cache.Get<int>("k"), Hit(1));
  ASSERT_OK(
      cache.Set("k", 2, SetOptions{.ttl = absl::Milliseconds(1), .stale_for = absl::Hours(1)}));
  EXPECT_TRUE(Eventually([&] {
    const auto found = cache.Get<int>("k");
    return found.ok() && (found->stale() || found->miss());
  }));
}

// ---- Cache: what is its own ----

// Any of them as a pattern would match others'.
const char* const kPrefixes[] = {
    "*", "?:", "[ab]:", "a:", "b:", "[^a]:", "\\a:", "x*", "xy:", "x?:", "a\\:", "[a-z]", "aa:"};

TEST_P(CacheContractTest, ClearTakesOnlyWhatIsUnderItsOwnPrefix) {
  for (const bool pattern : {false, true}) {
    for (const std::string clearing : kPrefixes) {
      for (const std::string prefix : kPrefixes) {
        ASSERT_OK(Make({.prefix = KeyPrefix::Literal(prefix)}).SetMany<int>({{"k", 1}, {"*", 2}}));
      }
      const Cache cache = Make({.prefix = KeyPrefix::Literal(clearing)});
      EXPECT_THAT(cache.Keys(), IsOkAndHolds(ElementsAre("*", "k"))) << clearing;
      if (pattern) {
        EXPECT_THAT(cache.DeletePattern("*"), IsOkAndHolds(2)) << clearing;
      } else {
        EXPECT_OK(cache.Clear());
      }
      EXPECT_THAT(cache.Keys(), IsOkAndHolds(IsEmpty())) << clearing;
      for (const std::string prefix : kPrefixes) {
        if (prefix == clearing) continue;
        const Cache other = Make({.prefix = KeyPrefix::Literal(prefix)});
        EXPECT_THAT(other.Get<int>("k"), Hit(1)) << clearing << " took away " << prefix;
        EXPECT_THAT(other.Get<int>("*"), Hit(2)) << clearing << " took away " << prefix;
      }
    }
  }
}

TEST_P(CacheContractTest, PatternsSeeKeysWithoutThePrefixAndEscapedOnesAreLiteral) {
  const Cache cache = Make({.prefix = KeyPrefix::Literal("[p]*?\\:")});
  const Cache other = Make({.prefix = KeyPrefix::Literal("pxy:")});
  std::set<std::string> left;
  for (const std::string& odd : OddBytes()) {
    left.insert(StrCat("k", odd));
    left.insert(StrCat("k", odd, odd));
    left.insert(odd);
  }
  for (const std::string& key : left) {
    ASSERT_OK(cache.Set(key, 1));
    ASSERT_OK(other.Set(key, 1));
  }
  EXPECT_THAT(cache.Keys(), IsOkAndHolds(std::vector<std::string>(left.begin(), left.end())));
  EXPECT_THAT(cache.Count("k?"), IsOkAndHolds(static_cast<std::int64_t>(OddBytes().size())));
  for (const std::string& key : std::set<std::string>(left)) {
    EXPECT_THAT(cache.Keys(EscapeGlob(key)), IsOkAndHolds(ElementsAre(key)));
    EXPECT_THAT(cache.DeletePattern(EscapeGlob(key)), IsOkAndHolds(1)) << key;
    left.erase(key);
    EXPECT_THAT(cache.Count(), IsOkAndHolds(static_cast<std::int64_t>(left.size())));
  }
  EXPECT_THAT(other.Count(), IsOkAndHolds(static_cast<std::int64_t>(OddBytes().size() * 3)));
}

TEST_P(CacheContractTest, AnEmptyPatternIsNeverAll) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("k", 1));
  EXPECT_THAT(cache.DeletePattern(""), StatusIs(kInvalid));
  EXPECT_THAT(cache.Get<int>("k"), Hit(1));
}

TEST_P(CacheContractTest, WithoutAPrefixNoPatternTakesEverything) {
  const Cache cache = Make({.prefix = KeyPrefix::None()});
  ASSERT_OK(backend_->Set({"k", "1"}));
  ASSERT_OK(backend_->Set({"others", "1"}));
  for (const std::string pattern : {"", "*", "**", "?*", "*?", "*?*"}) {
    EXPECT_FALSE(cache.DeletePattern(pattern).ok()) << pattern;
    EXPECT_EQ(Found("*").size(), 2U) << pattern;
  }
  if (!alone()) {
    EXPECT_THAT(cache.Clear(), StatusIs(kPrecondition));
    EXPECT_EQ(Found("*").size(), 2U);
  }
  EXPECT_THAT(cache.DeletePattern("k*"), IsOkAndHolds(1));
  EXPECT_THAT(cache.Get<int>("others"), Hit(1));
}

TEST_P(CacheContractTest, AScopeClearsItselfAlone) {
  const Cache cache = Make();
  const Cache a = cache.Scoped("a:");
  const Cache b = cache.Scoped("[ab]:");
  for (const Cache& one : {cache, a, b}) ASSERT_OK(one.Set("k", 1));
  EXPECT_OK(b.Clear());
  EXPECT_THAT(b.Get<int>("k"), Miss<int>());
  EXPECT_THAT(a.Get<int>("k"), Hit(1));
  EXPECT_THAT(cache.Get<int>("k"), Hit(1));
  EXPECT_THAT(cache.Get<int>("a:k"), Hit(1));
  EXPECT_OK(cache.Clear());
  EXPECT_THAT(a.Get<int>("k"), Miss<int>());
}

TEST_P(CacheContractTest, WalksGoOnWhereTheyEndedAndMayBeLeft) {
  const Cache cache = Make();
  std::map<std::string, int> values;
  for (int i = 0; i < 100; ++i) values[StrCat("k", i)] = i;
  ASSERT_OK(cache.SetMany(values));
  ASSERT_OK(Make({.prefix = KeyPrefix::Literal("other:")}).SetMany(values));
  std::set<std::string> found;
  std::string cursor;
  do {
    ASSERT_OK_AND_ASSIGN(const ScanPage page, Make().Scan("k*", cursor, 3));
    found.insert(page.keys.begin(), page.keys.end());
    cursor = page.cursor;
  } while (!cursor.empty());
  EXPECT_EQ(found.size(), 100U);
  int received = 0;
  EXPECT_OK(cache.ForEachKey("*", [&](const std::string&) { return ++received < 5; }));
  EXPECT_EQ(received, 5);
  EXPECT_THAT(cache.Scan("*", "no cursor"), StatusIs(kInvalid));
  EXPECT_THAT(cache.Scan("*", "", 0), StatusIs(kInvalid));
}

// ---- Cache: tags and epochs ----

TEST_P(CacheContractTest, AnInvalidatedTagTakesItsEntriesAndNoOthers) {
  const Cache cache = Make();
  const Cache stranger = Make({.prefix = KeyPrefix::Literal("stranger:")});
  const std::vector<std::string> tags = {"users", "t*", std::string("\0\xff", 2)};
  for (const std::string& tag : tags) {
    ASSERT_OK(cache.Set("a", 1, SetOptions{.tags = {tag}}));
    ASSERT_OK(cache.Set("both", 2, SetOptions{.tags = {"tx", tag}}));
    ASSERT_OK(cache.Set("other", 3, SetOptions{.tags = {"tx"}}));
    ASSERT_OK(cache.Set("none", 4));
    ASSERT_OK(cache.Set("null", nullptr, SetOptions{.tags = {tag}}));
    ASSERT_OK(stranger.Set("a", 5, SetOptions{.tags = {tag}}));
    for (int round = 0; round < 2; ++round) {
      EXPECT_THAT(cache.Get<int>("a"), Hit(1));
      EXPECT_THAT(cache.Get<int>("a", {.tags = {tag}}), Hit(1));
      EXPECT_THAT(cache.Get<int>("a", {.tags = {"tx"}}), Hit(1));  // not its own: asked for in vain
      EXPECT_THAT(cache.Get<int>("both"), Hit(2));
      EXPECT_THAT(cache.Get<int>("null"), Null<int>());
    }
    EXPECT_OK(cache.InvalidateTag(tag));
    for (int round = 0; round < 2; ++round) {
      EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
      EXPECT_THAT(cache.Get<int>("a", {.tags = {tag}}), Miss<int>());
      EXPECT_THAT(cache.Get<int>("both"), Miss<int>());
      EXPECT_THAT(cache.Get<int>("null"), Miss<int>());
      EXPECT_THAT(cache.Get<int>("other"), Hit(3));
      EXPECT_THAT(cache.Get<int>("none"), Hit(4));
      EXPECT_THAT(stranger.Get<int>("a"), Hit(5));
    }
    ASSERT_OK_AND_ASSIGN(const auto many,
                         cache.GetMany<int>({"a", "both", "other", "none", "null"}));
    EXPECT_TRUE(many.at("a").miss() && many.at("both").miss() && many.at("null").miss());
    EXPECT_TRUE(many.at("other").hit() && many.at("none").hit());
    ASSERT_OK(cache.Set("a", 6, SetOptions{.tags = {tag}}));
    EXPECT_THAT(cache.Get<int>("a"), Hit(6));
    EXPECT_OK(cache.InvalidateTags(tags));
    EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
  }
  // What the tags are kept in is nobody's key.
  ASSERT_OK(cache.Clear());
  ASSERT_OK(cache.Set("k", 1, SetOptions{.tags = tags}));
  EXPECT_OK(cache.InvalidateTags(tags));
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> keys, cache.Keys());
  for (const std::string& key : keys) EXPECT_EQ(key, "k");
  EXPECT_THAT(cache.Get<int>("#coord:x"), StatusIs(kInvalid));
}

TEST_P(CacheContractTest, DeletingByPatternBringsNoInvalidatedEntryBack) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("k", 1, SetOptions{.tags = {"t"}}));
  EXPECT_OK(cache.InvalidateTag("t"));
  EXPECT_THAT(cache.Get<int>("k"), Miss<int>());
  EXPECT_OK(cache.DeletePattern("#*"));
  EXPECT_OK(cache.DeletePattern("*coord*"));
  EXPECT_OK(cache.DeletePattern("[^k]*"));
  EXPECT_THAT(cache.Get<int>("k"), Miss<int>());
}

TEST_P(CacheContractTest, AClearedEpochIsOverForItsOwnEntriesAlone) {
  const Cache cache = Make({.prefix = KeyPrefix::Literal("e*:"), .clear_by_epoch = true});
  const Cache other = Make({.prefix = KeyPrefix::Literal("ee:"), .clear_by_epoch = true});
  for (int round = 0; round < 3; ++round) {
    ASSERT_OK(cache.SetMany<int>({{"a", 1}, {"b", 2}}));
    ASSERT_OK(cache.Set("null", nullptr));
    ASSERT_OK(other.Set("a", 3));
    EXPECT_THAT(cache.Get<int>("a"), Hit(1));
    EXPECT_THAT(cache.Get<int>("null"), Null<int>());
    EXPECT_OK(cache.Clear());
    EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
    EXPECT_THAT(cache.Get<int>("null"), Miss<int>());
    ASSERT_OK_AND_ASSIGN(const auto many, cache.GetMany<int>({"a", "b"}));
    EXPECT_TRUE(many.at("a").miss() && many.at("b").miss());
    EXPECT_THAT(other.Get<int>("a"), Hit(3));
  }
  EXPECT_OK(cache.DeletePattern("#*"));
  EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
  EXPECT_THAT(cache.Add("b", 4), StatusIs(absl::StatusCode::kOk));
}

// ---- Cache: its end ----

TEST_P(CacheContractTest, ClosingOneCacheLeavesTheBackendToAnother) {
  const Cache one = Make();
  const Cache other = Make({.prefix = KeyPrefix::Literal("other:")});
  ASSERT_OK(other.Set("k", 1));
  one.Close();
  EXPECT_THAT(one.Get<int>("k"), StatusIs(kPrecondition));
  EXPECT_THAT(one.Set("k", 1), StatusIs(kPrecondition));
  EXPECT_THAT(one.Keys(), StatusIs(kPrecondition));
  EXPECT_THAT(one.Ping(), StatusIs(kPrecondition));
  EXPECT_THAT(other.Get<int>("k"), Hit(1));
}

}  // namespace
}  // namespace coord
