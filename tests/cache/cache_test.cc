// BasicCache over a real Redis that nothing happens to.
#include "cache/cache.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/redis_backend.h"
#include "cache/typed_cache.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace shop {

struct Order {
  std::string id;
  int items = 0;
  friend bool operator==(const Order&, const Order&) = default;
};
void to_json(nlohmann::json& json, const Order& order) {
  json = {{"id", order.id}, {"items", order.items}};
}
void from_json(const nlohmann::json& json, Order& order) {
  json.at("id").get_to(order.id);
  json.at("items").get_to(order.items);
}

}  // namespace shop

template <>
struct coord::CacheKeyTrait<shop::Order> {
  static constexpr std::string_view kName = "order_summary";
  static std::string Id(const shop::Order& order) { return order.id; }
};

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using shop::Order;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

template <typename T>
auto Hit(T value) {
  return IsOkAndHolds(::testing::AllOf(::testing::Property("hit", &Lookup<T>::hit, true),
                                       ::testing::Property("value_or", &Lookup<T>::hit, true),
                                       ::testing::Truly([value](const Lookup<T>& found) {
                                         return found.hit() && *found == value;
                                       })));
}
template <typename T>
auto Miss() {
  return IsOkAndHolds(::testing::Property("miss", &Lookup<T>::miss, true));
}
template <typename T>
auto Null() {
  return IsOkAndHolds(::testing::Property("null", &Lookup<T>::null, true));
}

class CacheTest : public ::testing::Test {
 protected:
  Cache Make(CacheOptions options = {}) { return Cache(backend_, std::move(options)); }
  std::string Raw(std::string_view key) { return redis_.Command({"GET", std::string(key)}).text(); }
  std::int64_t PttlOf(std::string_view key) {
    return redis_.Command({"PTTL", std::string(key)}).integer();
  }
  // Commands that the server has run meanwhile.
  void Forget() { redis_.Command({"CONFIG", "RESETSTAT"}); }
  std::int64_t Calls() { return AllCalls(redis_); }

  RedisServer server_;
  RawRedis redis_{server_.url()};
  Client client_ = ConnectTo(server_);
  std::shared_ptr<RedisBackend> backend_ = std::make_shared<RedisBackend>(client_);
};

// ---- Values ----

TEST_F(CacheTest, WhatIsSetIsFound) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("user:1", Order{"a", 3}));
  EXPECT_THAT(cache.Get<Order>("user:1"), Hit(Order{"a", 3}));
  ASSERT_OK(cache.Set("text", "literal"));
  EXPECT_THAT(cache.Get<std::string>("text"), Hit<std::string>("literal"));
  EXPECT_THAT(cache.Get<Order>("user:2"), Miss<Order>());
}

TEST_F(CacheTest, ValuesStandAsPlainJsonUnderThePrefixWhereOthersCanReadThem) {
  ASSERT_OK(Make().Set("user:1", Order{"a", 3}));
  EXPECT_EQ(Raw("coord:cache:user:1"), R"({"id":"a","items":3})");
}

TEST_F(CacheTest, ACachedNullIsNoMiss) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("none", std::optional<Order>()));
  EXPECT_THAT(cache.Get<Order>("none"), Null<Order>());
  ASSERT_OK(cache.Set("none2", nullptr));
  EXPECT_THAT(cache.Get<Order>("none2"), Null<Order>());
  // Another program's JSON null.
  redis_.Command({"SET", "coord:cache:none3", "null"});
  EXPECT_THAT(cache.Get<Order>("none3"), Null<Order>());
}

TEST_F(CacheTest, AddAndReplaceKeepTheirConditions) {
  const Cache cache = Make();
  EXPECT_THAT(cache.Replace("k", 1), IsOkAndHolds(false));
  EXPECT_THAT(cache.Add("k", 2), IsOkAndHolds(true));
  EXPECT_THAT(cache.Add("k", 3), IsOkAndHolds(false));
  EXPECT_THAT(cache.Get<int>("k"), Hit(2));
  EXPECT_THAT(cache.Replace("k", 4), IsOkAndHolds(true));
  EXPECT_THAT(cache.Get<int>("k"), Hit(4));
}

TEST_F(CacheTest, AValueThatCannotBeDecodedIsAMissOrOnRequestAnError) {
  redis_.Command({"SET", "coord:cache:k", "{\"id\":"});
  EXPECT_THAT(Make().Get<Order>("k"), Miss<Order>());
  EXPECT_THAT(Make({.undecodable_is_error = true}).Get<Order>("k"),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(CacheTest, CompressedValuesComeBack) {
  const Cache cache = Make({.compression = {Compression::Algorithm::kZstd}});
  const std::string large(100'000, 'x');
  ASSERT_OK(cache.Set("large", large));
  EXPECT_LT(Raw("coord:cache:large").size(), 1000u);
  EXPECT_THAT(cache.Get<std::string>("large"), Hit(large));
  // Also by a cache that does not compress.
  EXPECT_THAT(Make().Get<std::string>("large"), Hit(large));
}

TEST_F(CacheTest, ASignedValueCannotBeForgedOrMoved) {
  const BasicCache cache(backend_, CacheOptions{},
                         Signed<JsonCodec>(std::vector<SigningKey>{{"k1", "sixteen bytes or more"}}));
  ASSERT_OK(cache.Set("a", 1));
  EXPECT_THAT(cache.Get<int>("a"), Hit(1));
  redis_.Command({"SET", "coord:cache:b", Raw("coord:cache:a")});
  EXPECT_THAT(cache.Get<int>("b"), Miss<int>());
  redis_.Command({"SET", "coord:cache:a", "1"});
  EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
}

TEST_F(CacheTest, ValuesAboveTheLimitAreRefusedAndReadAsMisses) {
  const Cache cache = Make({.max_value_bytes = 100});
  EXPECT_THAT(cache.Set("k", std::string(200, 'x')), StatusIs(kInvalid, HasSubstr("100")));
  ASSERT_OK(Make().Set("k", std::string(200, 'x')));
  EXPECT_THAT(cache.Get<std::string>("k"), Miss<std::string>());
}

// ---- Times to live ----

TEST_F(CacheTest, TimesToLiveComeFromTheCallThenTheTypeThenTheCache) {
  TtlPolicy by_type;
  by_type.For<Order>(absl::Seconds(50));
  const Cache cache = Make({.ttl = absl::Seconds(100), .ttl_by_type = by_type, .ttl_jitter = 0});
  ASSERT_OK(cache.Set("cache", 1));
  ASSERT_OK(cache.Set("type", Order{}));
  ASSERT_OK(cache.Set("call", Order{}, absl::Seconds(10)));
  ASSERT_OK(cache.Set("never", Order{}, Ttl::Never()));
  EXPECT_THAT(PttlOf("coord:cache:cache"), AllOf(Ge(90'000), Le(100'000)));
  EXPECT_THAT(PttlOf("coord:cache:type"), AllOf(Ge(40'000), Le(50'000)));
  EXPECT_THAT(PttlOf("coord:cache:call"), AllOf(Ge(1'000), Le(10'000)));
  EXPECT_EQ(PttlOf("coord:cache:never"), -1);
}

TEST_F(CacheTest, EachKeyOfABatchHasItsOwnJitter) {
  const Cache cache = Make({.ttl = absl::Hours(10), .ttl_jitter = 0.1});
  std::map<std::string, int> values;
  for (int i = 0; i < 50; ++i) values["k" + std::to_string(i)] = i;
  ASSERT_OK(cache.SetMany(values));
  std::set<std::int64_t> left;
  for (const auto& [key, value] : values) {
    const std::int64_t ms = PttlOf("coord:cache:" + key);
    EXPECT_THAT(ms, AllOf(Ge(9 * 3600'000 - 60'000), Le(11 * 3600'000)));
    left.insert(ms / 1000);
  }
  EXPECT_GT(left.size(), 30u);
}

TEST_F(CacheTest, TheTimeLeftIsOneOfThreeAnswers) {
  const Cache cache = Make({.ttl_jitter = 0});
  EXPECT_THAT(cache.TtlOf("k"), IsOkAndHolds(TimeLeft::Missing()));
  ASSERT_OK(cache.Set("k", 1, Ttl::Never()));
  EXPECT_THAT(cache.TtlOf("k"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.Expire("k", absl::Minutes(1)), IsOkAndHolds(true));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, cache.TtlOf("k"));
  EXPECT_EQ(left.kind(), TimeLeft::Kind::kExpires);
  EXPECT_THAT(left.left(), AllOf(Ge(absl::Seconds(30)), Le(absl::Minutes(1))));
  EXPECT_THAT(cache.Persist("k"), IsOkAndHolds(true));
  EXPECT_THAT(cache.TtlOf("k"), IsOkAndHolds(TimeLeft::Forever()));
  EXPECT_THAT(cache.Expire("missing", absl::Minutes(1)), IsOkAndHolds(false));
}

TEST_F(CacheTest, TimesThatBreakTheRulesAreRefusedBeforeAnythingIsSent) {
  const Cache cache = Make();
  Forget();
  EXPECT_THAT(cache.Set("k", 1, absl::ZeroDuration()), StatusIs(kInvalid));
  EXPECT_THAT(cache.Set("k", 1, absl::Seconds(-1)), StatusIs(kInvalid));
  EXPECT_THAT(cache.Set("k", 1, Ttl::At(absl::Now() - absl::Seconds(1))), StatusIs(kInvalid));
  EXPECT_THAT(cache.Expire("k", absl::ZeroDuration()), StatusIs(kInvalid));
  EXPECT_THAT(cache.SetMany(std::map<std::string, int>{{"a", 1}}, {.ttl = absl::Seconds(-1)}),
              StatusIs(kInvalid));
  EXPECT_EQ(Calls(), 0);
}

// ---- Batches ----

TEST_F(CacheTest, ABatchIsOneRoundTripAndHasEveryKey) {
  const Cache cache = Make();
  ASSERT_OK(cache.SetMany<int>({{"a", 1}, {"b", 2}}));
  Forget();
  auto found = cache.GetMany<int>({"a", "b", "c"});
  ASSERT_OK(found);
  EXPECT_EQ(found->size(), 3u);
  EXPECT_EQ((*found)["a"].value(), 1);
  EXPECT_EQ((*found)["b"].value(), 2);
  EXPECT_TRUE((*found)["c"].miss());
  EXPECT_EQ(Calls(), 1);
  EXPECT_THAT(cache.DeleteMany(std::vector<std::string>{"a", "b", "c"}), IsOkAndHolds(2));
}

TEST_F(CacheTest, AnEmptyBatchIsNoRoundTrip) {
  const Cache cache = Make();
  Forget();
  ASSERT_OK(cache.SetMany(std::map<std::string, int>{}));
  EXPECT_THAT(cache.GetMany<int>({}), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(cache.DeleteMany({}), IsOkAndHolds(0));
  EXPECT_EQ(Calls(), 0);
}

TEST_F(CacheTest, OneBadKeyRefusesTheWholeBatch) {
  const Cache cache = Make();
  EXPECT_THAT(cache.SetMany(std::map<std::string, int>{{"good", 1}, {"", 2}}), StatusIs(kInvalid));
  EXPECT_THAT(cache.Exists("good"), IsOkAndHolds(false));
}

// ---- Keys and prefixes ----

TEST_F(CacheTest, KeysAreWalkedWithoutThePrefixAndWithoutTheCachesOwn) {
  const Cache cache = Make();
  ASSERT_OK(cache.SetMany<int>({{"user:1", 1}, {"user:2", 2}, {"job:1", 3}}, {.tags = {"t"}}));
  redis_.Command({"SET", "other:user:3", "x"});
  EXPECT_THAT(cache.Keys(), IsOkAndHolds(ElementsAre("job:1", "user:1", "user:2")));
  EXPECT_THAT(cache.Keys("user:*"), IsOkAndHolds(ElementsAre("user:1", "user:2")));
  EXPECT_THAT(cache.Count("user:*"), IsOkAndHolds(2));
  std::vector<std::string> one;
  ASSERT_OK(cache.ForEachKey("*", [&](const std::string& key) {
    one.push_back(key);
    return false;
  }));
  EXPECT_EQ(one.size(), 1u);
  EXPECT_THAT(cache.Keys(""), StatusIs(kInvalid));
}

TEST_F(CacheTest, AScanGoesOnWhereItsCursorSays) {
  const Cache writer = Make();
  std::map<std::string, int> values;
  for (int i = 0; i < 500; ++i) values["k" + std::to_string(i)] = i;
  ASSERT_OK(writer.SetMany(values));
  std::set<std::string> seen;
  std::string cursor;
  int pages = 0;
  do {
    const Cache another = Make();
    ASSERT_OK_AND_ASSIGN(const ScanPage page, another.Scan("k*", cursor, 50));
    seen.insert(page.keys.begin(), page.keys.end());
    cursor = page.cursor;
    ++pages;
  } while (!cursor.empty());
  EXPECT_EQ(seen.size(), 500u);
  EXPECT_GT(pages, 2);
}

TEST_F(CacheTest, GlobsInPrefixesAndKeysHitOnlyTheirOwn) {
  const Cache star = Make({.prefix = KeyPrefix::Literal("t*:")});
  const Cache other = Make({.prefix = KeyPrefix::Literal("tx:")});
  ASSERT_OK(star.SetMany<int>({{"a[1]", 1}, {"a1", 2}}));
  ASSERT_OK(other.Set("a1", 3));
  EXPECT_THAT(star.Keys(), IsOkAndHolds(ElementsAre("a1", "a[1]")));
  EXPECT_THAT(star.Delete("a[1]"), IsOkAndHolds(true));
  EXPECT_THAT(star.Keys(), IsOkAndHolds(ElementsAre("a1")));
  ASSERT_OK(star.Clear());
  EXPECT_THAT(star.Count(), IsOkAndHolds(0));
  EXPECT_THAT(other.Get<int>("a1"), Hit(3));
}

TEST_F(CacheTest, APrefixMayBeAskedForOnceAnOperation) {
  std::string tenant = "a:";
  int asked = 0;
  const Cache cache = Make({.prefix = KeyPrefix::PerOperation([&]() -> absl::StatusOr<std::string> {
                              ++asked;
                              return tenant;
                            })});
  ASSERT_OK(cache.Set("config", 1));
  tenant = "b:";
  ASSERT_OK(cache.SetMany<int>({{"config", 2}, {"more", 3}}));
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(Raw("a:config"), "1");
  EXPECT_EQ(Raw("b:config"), "2");
  ASSERT_OK(cache.Clear());
  EXPECT_EQ(Raw("a:config"), "1");
  EXPECT_EQ(Raw("b:config"), "");
}

TEST_F(CacheTest, APrefixThatFailsOrThrowsFailsTheOperation) {
  const Cache fails = Make({.prefix = KeyPrefix::PerOperation([]() -> absl::StatusOr<std::string> {
                              return absl::PermissionDeniedError("no tenant");
                            })});
  EXPECT_THAT(fails.Set("k", 1),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("no tenant")));
  const Cache throws =
      Make({.prefix = KeyPrefix::PerOperation([]() -> absl::StatusOr<std::string> { throw 1; })});
  EXPECT_THAT(throws.Get<int>("k"), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(CacheTest, ScopesShareTheCacheAndNotTheKeys) {
  const Cache cache = Make();
  const Cache a = cache.Scoped("tenant_a:");
  const Cache b = cache.Scoped("tenant_b:");
  ASSERT_OK(a.Set("config", 1));
  ASSERT_OK(b.Set("config", 2));
  EXPECT_EQ(Raw("coord:cache:tenant_a:config"), "1");
  ASSERT_OK(a.Clear());
  EXPECT_THAT(a.Get<int>("config"), Miss<int>());
  EXPECT_THAT(b.Get<int>("config"), Hit(2));
}

TEST_F(CacheTest, ACacheWithoutAPrefixReadsOthersKeysAndIsNeverCleared) {
  redis_.Command({"SET", "theirs", R"({"id":"x","items":1})"});
  const Cache cache = Make({.prefix = KeyPrefix::None()});
  EXPECT_THAT(cache.Get<Order>("theirs"), Hit(Order{"x", 1}));
  EXPECT_THAT(cache.Clear(), StatusIs(kPrecondition));
  EXPECT_THAT(cache.DeletePattern("*"), StatusIs(kPrecondition));
  EXPECT_THAT(cache.DeletePattern("**"), StatusIs(kPrecondition));
  EXPECT_THAT(cache.Get<Order>("theirs"), Hit(Order{"x", 1}));
  EXPECT_THAT(cache.DeletePattern("the*"), IsOkAndHolds(1));
}

TEST_F(CacheTest, ClearingNeverTouchesALockUnderTheSamePrefix) {
  const Mutex mutex(client_, "deploy");
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  const Cache cache = Make({.prefix = KeyPrefix::Literal("coord:")});
  ASSERT_OK(cache.Set("k", 1));
  ASSERT_OK(cache.Clear());
  EXPECT_THAT(cache.Get<int>("k"), Miss<int>());
  ASSERT_OK(lease.Renew(absl::Seconds(10)));
  EXPECT_THAT(cache.Set("{deploy}:lease", 1), StatusIs(kInvalid, HasSubstr("lock")));
  EXPECT_THAT(cache.Delete("{deploy}:lease"), StatusIs(kInvalid));
}

TEST_F(CacheTest, BadKeysAreRefused) {
  const Cache cache = Make();
  EXPECT_THAT(cache.Set("", 1), StatusIs(kInvalid));
  EXPECT_THAT(cache.Get<int>("#coord:tag:x"), StatusIs(kInvalid));
  EXPECT_THAT(cache.Get<int>(std::string(2000, 'k')), StatusIs(kInvalid, HasSubstr("1024")));
}

TEST_F(CacheTest, BadOptionsAreToldByEveryCall) {
  EXPECT_THAT(Make({.ttl_jitter = 2}).Get<int>("k"), StatusIs(kInvalid, HasSubstr("jitter")));
  EXPECT_THAT(Make({.prefix = KeyPrefix::Literal("{a}")}).Set("k", 1),
              StatusIs(kInvalid, HasSubstr("brace")));
  EXPECT_THAT(Cache(nullptr).Set("k", 1), StatusIs(kInvalid));
}

TEST_F(CacheTest, BoundCallsAreForTheirKey) {
  const auto user = Make().Bind("user:1");
  ASSERT_OK(user.Set(Order{"a", 1}, absl::Hours(1)));
  EXPECT_THAT(user.Get<Order>(), Hit(Order{"a", 1}));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, user.Ttl());
  EXPECT_EQ(left.kind(), TimeLeft::Kind::kExpires);
  EXPECT_THAT(user.Persist(), IsOkAndHolds(true));
  EXPECT_THAT(user.Exists(), IsOkAndHolds(true));
  EXPECT_THAT(user.Delete(), IsOkAndHolds(true));
  EXPECT_THAT(user.Exists(), IsOkAndHolds(false));
}

// ---- Tags and epochs ----

TEST_F(CacheTest, AnInvalidatedTagMakesMissesOfWhatHasIt) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("a", 1, {.tags = {"red", "round"}}));
  ASSERT_OK(cache.Set("b", 2, {.tags = {"red"}}));
  ASSERT_OK(cache.Set("c", 3, {.tags = {"round"}}));
  ASSERT_OK(cache.Set("d", 4));
  EXPECT_THAT(cache.Get<int>("a"), Hit(1));
  Forget();
  ASSERT_OK(cache.InvalidateTag("red"));
  EXPECT_EQ(Calls(), 1);
  EXPECT_THAT(cache.Get<int>("a"), Miss<int>());
  EXPECT_THAT(cache.Get<int>("b"), Miss<int>());
  EXPECT_THAT(cache.Get<int>("c"), Hit(3));
  EXPECT_THAT(cache.Get<int>("d"), Hit(4));
  ASSERT_OK(cache.Set("a", 5, {.tags = {"red"}}));
  EXPECT_THAT(cache.Get<int>("a"), Hit(5));
  auto found = cache.GetMany<int>({"a", "b", "c", "d"});
  ASSERT_OK(found);
  EXPECT_TRUE((*found)["a"].hit());
  EXPECT_TRUE((*found)["b"].miss());
  EXPECT_TRUE((*found)["c"].hit());
}

TEST_F(CacheTest, TagsThatAreNamedCostNoSecondRoundTrip) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("a", 1, {.tags = {"red"}}));
  Forget();
  EXPECT_THAT(cache.Get<int>("a", {.tags = {"red"}}), Hit(1));
  EXPECT_EQ(Calls(), 1);
  EXPECT_THAT(cache.Set("a", 1, {.tags = {""}}), StatusIs(kInvalid));
  EXPECT_THAT(cache.InvalidateTag("#epoch"), StatusIs(kInvalid));
}

TEST_F(CacheTest, AnEpochIsEndedInOneRoundTrip) {
  const Cache cache = Make({.clear_by_epoch = true});
  std::map<std::string, int> values;
  for (int i = 0; i < 100; ++i) values["k" + std::to_string(i)] = i;
  ASSERT_OK(cache.SetMany(values));
  EXPECT_THAT(cache.Get<int>("k7"), Hit(7));
  Forget();
  ASSERT_OK(cache.Clear());
  EXPECT_EQ(Calls(), 1);
  EXPECT_THAT(cache.Get<int>("k7"), Miss<int>());
  ASSERT_OK(cache.Set("k7", 8));
  Forget();
  EXPECT_THAT(cache.Get<int>("k7"), Hit(8));
  EXPECT_EQ(Calls(), 1);
}

// ---- Counters, hashes, lists, documents, locks ----

TEST_F(CacheTest, CountersShareTheKeyspace) {
  const Cache cache = Make();
  EXPECT_THAT(cache.Increment("hits"), IsOkAndHolds(1));
  EXPECT_THAT(cache.Increment("hits", 9, absl::Minutes(1)), IsOkAndHolds(10));
  EXPECT_THAT(cache.Decrement("hits", 3), IsOkAndHolds(7));
  EXPECT_THAT(cache.Get<int>("hits"), Hit(7));
  EXPECT_THAT(PttlOf("coord:cache:hits"), AllOf(Ge(1), Le(60'000)));
  EXPECT_THAT(cache.Increment("hits", INT64_MAX), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(cache.Decrement("hits", INT64_MIN), StatusIs(kInvalid));
  ASSERT_OK(cache.Set("text", "x"));
  EXPECT_THAT(cache.Increment("text"), StatusIs(kPrecondition));
  ASSERT_OK(cache.Clear());
  EXPECT_THAT(cache.Exists("hits"), IsOkAndHolds(false));
}

TEST_F(CacheTest, HashesHaveTypedFields) {
  const Cache cache = Make();
  ASSERT_OK(cache.HashSet("h", "a", Order{"a", 1}));
  ASSERT_OK(cache.HashSet("h", "b", Order{"b", 2}));
  EXPECT_THAT(cache.HashGet<Order>("h", "a"), Hit(Order{"a", 1}));
  EXPECT_THAT(cache.HashGet<Order>("h", "c"), Miss<Order>());
  redis_.Command({"HSET", "coord:cache:h", "bad", "?"});
  EXPECT_THAT(
      cache.HashGetAll<Order>("h"),
      IsOkAndHolds(UnorderedElementsAre(Pair("a", Order{"a", 1}), Pair("b", Order{"b", 2}))));
  EXPECT_THAT(cache.HashGetAll<Order>("none"), IsOkAndHolds(IsEmpty()));
}

TEST_F(CacheTest, ListsAreCapped) {
  const Cache cache = Make();
  for (int i = 0; i < 5; ++i) EXPECT_THAT(cache.Push("l", i, 3, absl::Minutes(1)), ::testing::_);
  EXPECT_THAT(cache.Range<int>("l"), IsOkAndHolds(ElementsAre(2, 3, 4)));
  EXPECT_THAT(cache.Range<int>("l", -1, -1), IsOkAndHolds(ElementsAre(4)));
  EXPECT_THAT(cache.Push("l", 5, 3), IsOkAndHolds(3));
}

TEST_F(CacheTest, DocumentsAreReplacedOnlyIfTheyAreAsExpected) {
  const Cache cache = Make();
  ASSERT_OK(cache.Set("job", Order{"a", 1}, absl::Minutes(1)));
  EXPECT_THAT(cache.CompareAndReplace("job", "/items", 2, Order{"b", 3}), IsOkAndHolds(false));
  EXPECT_THAT(cache.CompareAndReplace("job", "/items", 1, Order{"b", 3}), IsOkAndHolds(true));
  EXPECT_THAT(cache.Get<Order>("job"), Hit(Order{"b", 3}));
  EXPECT_THAT(cache.CompareAndSetField("job", "/items", 3, 4), IsOkAndHolds(true));
  EXPECT_THAT(cache.Get<Order>("job"), Hit(Order{"b", 4}));
  EXPECT_THAT(PttlOf("coord:cache:job"), Ge(1));
  EXPECT_THAT(cache.CompareAndSetField("missing", "/items", 3, 4), IsOkAndHolds(false));
}

TEST_F(CacheTest, LocksStandUnderTheCachesPrefix) {
  const Cache a = Make().Scoped("a:");
  const Cache b = Make().Scoped("b:");
  ASSERT_OK_AND_ASSIGN(const Mutex first, a.Lock("job"));
  ASSERT_OK_AND_ASSIGN(const Mutex second, a.Lock("job"));
  ASSERT_OK_AND_ASSIGN(const Mutex other, b.Lock("job"));
  ASSERT_OK_AND_ASSIGN(Lease lease, first.TryAcquire());
  EXPECT_THAT(second.TryAcquire(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_OK(other.TryAcquire());
  ASSERT_OK(a.Clear());
  EXPECT_OK(lease.Renew(absl::Seconds(10)));
}

// ---- Hooks ----

class Recorder final : public CacheHook {
 public:
  void Before(const CacheEvent& event) override { Note("before", event); }
  void After(const CacheEvent& event) override {
    Note("after", event);
    hits += event.hits;
    misses += event.misses;
    undecodable += event.undecodable;
  }
  void Error(const CacheEvent& event, const absl::Status&) override { Note("error", event); }
  void Note(std::string_view when, const CacheEvent& event) {
    notes.push_back(std::string(when) + " " + std::string(ToString(event.operation)) + " " +
                    std::string(event.key));
  }
  std::vector<std::string> notes;
  std::size_t hits = 0, misses = 0, undecodable = 0;
};

class Thrower final : public CacheHook {
 public:
  void Before(const CacheEvent&) override { throw std::runtime_error("hook"); }
  void After(const CacheEvent&) override { throw 1; }
};

TEST_F(CacheTest, HooksSeeEveryOperationWithItsLogicalKey) {
  const auto hook = std::make_shared<Recorder>();
  const Cache cache = Make({.hooks = {hook}});
  ASSERT_OK(cache.Set("k", 1));
  EXPECT_OK(cache.Get<int>("k"));
  EXPECT_OK(cache.Get<Order>("k"));
  EXPECT_FALSE(cache.Set("k", 1, absl::Seconds(-1)).ok());
  EXPECT_THAT(hook->notes,
              ElementsAre("before set k", "after set k", "before get k", "after get k",
                          "before get k", "after get k", "before set k", "error set k"));
  EXPECT_EQ(hook->hits, 1u);
  EXPECT_EQ(hook->misses, 1u);
  EXPECT_EQ(hook->undecodable, 1u);
}

TEST_F(CacheTest, AHookThatThrowsBreaksNothing) {
  const Cache cache = Make({.hooks = {std::make_shared<Thrower>()}});
  ASSERT_OK(cache.Set("k", 1));
  EXPECT_THAT(cache.Get<int>("k"), Hit(1));
  EXPECT_EQ(cache.hook_failures(), 4u);
}

// ---- Typed ----

TEST_F(CacheTest, ProjectionsAreKeptUnderTheirTypeAndId) {
  const TypedCache<Order> orders(Make({.prefix = KeyPrefix::None(), .ttl_jitter = 0}));
  ASSERT_OK(orders.Add({"ord-123", 1}));
  EXPECT_EQ(Raw("order_summary:::ord-123"), R"({"id":"ord-123","items":1})");
  ASSERT_OK(orders.AddMany({{"ord-124", 2}, {"ord-2*", 3}}));
  EXPECT_THAT(orders.Get("ord-124"), Hit(Order{"ord-124", 2}));
  EXPECT_THAT(orders.Count(), IsOkAndHolds(3));
  EXPECT_THAT(orders.Count("ord-12*"), IsOkAndHolds(2));
  EXPECT_THAT(orders.SetTtl("ord-123", absl::Minutes(10)), IsOkAndHolds(true));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, orders.GetTtl("ord-123"));
  EXPECT_THAT(left.left(), AllOf(Ge(absl::Minutes(9)), Le(absl::Minutes(10))));
  EXPECT_THAT(orders.Remove({"ord-124", 0}), IsOkAndHolds(true));
  EXPECT_THAT(orders.RemoveMatching("ord-1*"), IsOkAndHolds(1));
  EXPECT_THAT(orders.GetAll(), IsOkAndHolds(ElementsAre(Order{"ord-2*", 3})));
  redis_.Command({"SET", "unrelated", "x"});
  EXPECT_THAT(orders.RemoveMatching("*"), IsOkAndHolds(1));
  EXPECT_EQ(Raw("unrelated"), "x");
}

// ---- The backend ----

TEST_F(CacheTest, PingHealthAndClose) {
  const Cache cache = Make();
  EXPECT_OK(cache.Ping());
  const CacheHealth health = cache.Health();
  EXPECT_OK(health.status);
  EXPECT_EQ(health.backend, "redis");
  EXPECT_TRUE(health.server.has_value());
  EXPECT_OK(cache.Reconnect());
  const Cache copy = cache;
  cache.Close();
  cache.Close();
  EXPECT_THAT(copy.Get<int>("k"), StatusIs(kPrecondition, HasSubstr("closed")));
  EXPECT_THAT(copy.Ping(), StatusIs(kPrecondition));
  EXPECT_OK(client_.Command({"PING"}));
}

TEST_F(CacheTest, AServerThatIsDownIsAnErrorAMissOrWhatACallbackSays) {
  const Cache strict = Make();
  const Cache lenient = Make({.fallback = {Fallback::Mode::kMiss}});
  std::vector<std::string> asked;
  const Cache other =
      Make({.fallback = {Fallback::Mode::kCallback,
                         [&](std::string_view operation, std::string_view key,
                             const absl::Status&) -> std::optional<std::string> {
                           asked.push_back(std::string(operation) + " " + std::string(key));
                           if (key == "a") return "5";
                           return std::nullopt;
                         }}});
  ASSERT_OK(strict.Set("a", 1));
  server_.Kill();
  const CallOptions quick{.timeout = absl::Milliseconds(200)};
  EXPECT_FALSE(strict.Get<int>("a", {.call = quick}).ok());
  EXPECT_THAT(lenient.Get<int>("a", {.call = quick}), Miss<int>());
  EXPECT_OK(lenient.Set("a", 2, {.call = quick}));
  EXPECT_THAT(lenient.Add("a", 2, {.call = quick}), IsOkAndHolds(false));
  EXPECT_THAT(lenient.Delete("a", quick), IsOkAndHolds(false));
  EXPECT_FALSE(lenient.Increment("n", 1, Ttl::Never(), quick).ok());
  EXPECT_THAT(other.Get<int>("a", {.call = quick}), Hit(5));
  EXPECT_THAT(other.Get<int>("b", {.call = quick}), Miss<int>());
  EXPECT_THAT(asked, ElementsAre("get a", "get b"));
  // Not a fault of the way there.
  EXPECT_THAT(lenient.Set("", 1), StatusIs(kInvalid));
}

}  // namespace
}  // namespace coord
