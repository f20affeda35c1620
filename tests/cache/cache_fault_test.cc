// Cache over a Redis with bad bytes under its keys, over one that cannot be reached, and with user
// code that throws.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/compression.h"
#include "cache/internal/envelope.h"
#include "cache/redis_backend.h"
#include "cache/typed_cache.h"
#include "codec_test.pb.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace shop {

struct Item {
  std::string id;
  int count = 0;
  friend bool operator==(const Item&, const Item&) = default;
};
void to_json(nlohmann::json& json, const Item& item) {
  json = {{"id", item.id}, {"count", item.count}};
}
void from_json(const nlohmann::json& json, Item& item) {
  json.at("id").get_to(item.id);
  json.at("count").get_to(item.count);
}

struct Glob {
  std::string id;
};
void to_json(nlohmann::json& json, const Glob& glob) { json = glob.id; }
void from_json(const nlohmann::json& json, Glob& glob) { json.get_to(glob.id); }

}  // namespace shop

template <>
struct coord::CacheKeyTrait<shop::Item> {
  static constexpr std::string_view kName = "item";
  static std::string Id(const shop::Item& item) { return item.id; }
};
// As a pattern it would match the other's.
template <>
struct coord::CacheKeyTrait<shop::Glob> {
  static constexpr std::string_view kName = "it[e]*";
  static std::string Id(const shop::Glob& glob) { return glob.id; }
};

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using internal::StrCat;
using shop::Item;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

template <typename T>
auto Hit(T value) {
  return IsOkAndHolds(
      ::testing::Truly([value](const Lookup<T>& found) { return found.hit() && *found == value; }));
}
template <typename T>
auto Miss() {
  return IsOkAndHolds(::testing::Property("miss", &Lookup<T>::miss, true));
}

class Counts final : public CacheHook {
 public:
  void Before(const CacheEvent&) override { ++before; }
  void After(const CacheEvent& event) override {
    ++after;
    hits += event.hits;
    misses += event.misses;
    undecodable += event.undecodable;
    fell_back += event.fell_back ? 1 : 0;
  }
  void Error(const CacheEvent& event, const absl::Status&) override {
    ++errors;
    undecodable += event.undecodable;
  }
  std::atomic<std::size_t> before{0}, after{0}, errors{0};
  std::atomic<std::size_t> hits{0}, misses{0}, undecodable{0}, fell_back{0};
};

// ---- Bad bytes ----

class CacheBadValueTest : public ::testing::Test {
 protected:
  void Plant(const std::string& key, const std::string& bytes) {
    ASSERT_EQ(redis_.Text({"SET", "c:" + key, bytes}), "OK");
  }
  std::string Raw(const std::string& key) { return redis_.Text({"GET", "c:" + key}); }

  // What stands under "bad" is a miss and counted, or on request an error, and stands in nobody's
  // way: "good" has `good`.
  template <typename T, typename Codec>
  void ExpectUndecodable(const std::string& bytes, Codec codec, const T& good,
                         CacheOptions options = {}, const std::string& key = "bad") {
    const auto counts = std::make_shared<Counts>();
    options.prefix = KeyPrefix::Literal("c:");
    options.hooks = {counts};
    const BasicCache<Codec> cache(backend_, options, codec);
    options.hooks = {};
    options.undecodable_is_error = true;
    const BasicCache<Codec> strict(backend_, options, codec);
    ASSERT_OK(cache.Set("good", good));
    Plant(key, bytes);
    EXPECT_THAT(cache.template Get<T>(key), Miss<T>());
    EXPECT_EQ(counts->misses, 1U);
    EXPECT_EQ(counts->undecodable, 1U);
    const auto many = cache.template GetMany<T>({"good", key, "none"});
    ASSERT_OK(many);
    EXPECT_TRUE(many->at("good").hit());
    EXPECT_TRUE(many->at(key).miss());
    EXPECT_TRUE(many->at("none").miss());
    EXPECT_EQ(counts->misses, 3U);
    EXPECT_EQ(counts->undecodable, 2U);
    EXPECT_EQ(counts->errors, 0U);
    EXPECT_THAT(strict.template Get<T>(key), StatusIs(kDataLoss));
    EXPECT_THAT(strict.template GetMany<T>({"good", key}), StatusIs(kDataLoss));
    EXPECT_THAT(strict.template Get<T>("none"), Miss<T>());
    EXPECT_TRUE(Raw(key) == bytes);  // reading changes nothing
    ASSERT_OK(cache.Set(key, good));
    EXPECT_TRUE(strict.template Get<T>(key)->hit());
  }

  RedisServer server_;
  RawRedis redis_{server_.url()};
  std::shared_ptr<RedisBackend> backend_ = std::make_shared<RedisBackend>(ConnectTo(server_.url()));
};

TEST_F(CacheBadValueTest, JsonThatIsNotOfTheType) {
  const Item good{"i", 1};
  for (const std::string& bytes :
       {std::string(R"({"id":"i","count":1)"), std::string(R"({"id":"i"})"), std::string("[]"),
        std::string("7"), std::string(R"({"id":7,"count":1})"), std::string(),
        std::string(R"({"id":"\ud800","count":1})"), std::string("{\"id\":\"\xff\",\"count\":1}"),
        std::string(R"({"id":"i","count":1}x)"), std::string(100'000, '['),

        std::string("\x80\x04K\1.")}) {
    SCOPED_TRACE(bytes.substr(0, 40));
    ExpectUndecodable(bytes, JsonCodec(), good);
  }
  ExpectUndecodable("256", JsonCodec(), std::uint8_t{1});
  ExpectUndecodable("-1", JsonCodec(), std::uint64_t{1});
  ExpectUndecodable("1.5", JsonCodec(), 1);
}

TEST_F(CacheBadValueTest, MessagePackGarbage) {
  const Item good{"i", 1};
  for (const std::string& bytes :
       {std::string(), std::string("\xc1"), std::string("\xdd\xff\xff\xff\xff", 5),
        std::string("\xdb\xff\xff\xff\xffx", 6), std::string(100'000, '\x91'),
        std::string("\x82\xa2id\xa1i\xa5"
                    "count",
                    12),
        std::string("\x07\x07"), std::string("\xc7\xff\1", 3),
        std::string("{\"id\":\"i\",\"count\":1}")}) {
    SCOPED_TRACE(bytes.substr(0, 40));
    ExpectUndecodable(bytes, MessagePackCodec(), good);
  }
}

TEST_F(CacheBadValueTest, ProtobufGarbage) {
  cache_test::Person good;
  good.set_name("p");
  for (const std::string& bytes :
       {std::string(), std::string("\x0a\xff"), std::string("\xff\xff\xff\xff\xff\xff\xff\xff"),
        std::string("\x0a\xff\xff\xff\xff\x0f"), std::string("\x10\x05"),
        std::string("{\"name\":\"p\"}"), std::string(1000, '\x1b')}) {
    SCOPED_TRACE(bytes.substr(0, 40));
    ExpectUndecodable(bytes, ProtobufCodec(), good);
  }
}

internal::EnvelopeFields AllFields() {
  return {.stale_for = absl::Seconds(30), .cost = absl::Milliseconds(250), .ttl = absl::Minutes(5)};
}

std::string SealedAt(const std::string& key, std::string_view payload, const Signer* signer,
                     Compression::Algorithm algorithm = Compression::Algorithm::kZstd) {
  auto sealed =
      internal::Seal(key, payload, AllFields(),
                     {.compression = {.algorithm = algorithm, .threshold = 64}, .signer = signer});
  if (!sealed.ok()) testing::Fatal(sealed.status().ToString());
  return *sealed;
}

const std::vector<SigningKey>& TheKeys() {
  static const auto* const keys =
      new std::vector<SigningKey>{{"2026-11", "0123456789abcdef"}, {"old", "abcdefghijklmnop"}};
  return *keys;
}
Signed<JsonCodec> SignedCodec() { return Signed<JsonCodec>(TheKeys()); }

TEST_F(CacheBadValueTest, AnEnvelopeCutShortAnywhere) {
  const std::string json = "\"" + std::string(500, 'x') + "\"";
  for (const auto algorithm : {Compression::Algorithm::kNone, Compression::Algorithm::kZstd,
                               Compression::Algorithm::kLz4}) {
    for (const Signer* signer :
         {static_cast<const Signer*>(nullptr), SignedCodec().signer().get()}) {
      // Where the cache's own key is what is signed.
      const Signer mine(TheKeys());
      const std::string whole =
          SealedAt("bad", json, signer == nullptr ? nullptr : &mine, algorithm);
      const auto counts = std::make_shared<Counts>();
      const CacheOptions options{.prefix = KeyPrefix::Literal("c:"), .hooks = {counts}};
      std::size_t expected = 0;
      for (std::size_t length = 0; length < whole.size(); ++length) {
        Plant("bad", whole.substr(0, length));
        if (signer == nullptr) {
          const Cache cache(backend_, options);
          ASSERT_THAT(cache.Get<std::string>("bad"), Miss<std::string>()) << length;
        } else {
          const BasicCache<Signed<JsonCodec>> cache(backend_, options, SignedCodec());
          ASSERT_THAT(cache.Get<std::string>("bad"), Miss<std::string>()) << length;
        }
        ASSERT_EQ(counts->undecodable, ++expected) << length;
      }
    }
  }
}

TEST_F(CacheBadValueTest, ASignedValueWithAnyByteChanged) {
  const auto counts = std::make_shared<Counts>();
  const BasicCache<Signed<JsonCodec>> cache(
      backend_, {.prefix = KeyPrefix::Literal("c:"), .hooks = {counts}}, SignedCodec());
  ASSERT_OK(cache.Set("bad", std::string("a value")));
  EXPECT_THAT(cache.Get<std::string>("bad"), Hit(std::string("a value")));
  const std::string whole = Raw("bad");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char change : {'\x01', '\x80'}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ change);
      Plant("bad", changed);
      ASSERT_THAT(cache.Get<std::string>("bad"), Miss<std::string>()) << at;
    }
  }
  EXPECT_EQ(counts->undecodable, whole.size() * 2);
  Plant("bad", whole);
  EXPECT_THAT(cache.Get<std::string>("bad"), Hit(std::string("a value")));
}

TEST_F(CacheBadValueTest, ASignatureOfAnotherKeyPlaceOrNobody) {
  const std::string good = "good";
  const BasicCache<Signed<JsonCodec>> cache(backend_, {.prefix = KeyPrefix::Literal("c:")},
                                            SignedCodec());
  ASSERT_OK(cache.Set("here", std::string("x")));
  const std::string moved = Raw("here");
  ExpectUndecodable(moved, SignedCodec(), good);    // to another key
  ExpectUndecodable("\"x\"", SignedCodec(), good);  // never signed
  ExpectUndecodable("", SignedCodec(), good);
  ExpectUndecodable(SealedAt("bad", "\"x\"", nullptr), SignedCodec(), good);
  for (const SigningKey& key : {SigningKey{"2026-11", "0123456789abcdeF"},     // not the secret
                                SigningKey{"unknown", "0123456789abcdef"}}) {  // not the name
    const Signer stranger({key});
    ExpectUndecodable(SealedAt("bad", "\"x\"", &stranger), SignedCodec(), good);
    ExpectUndecodable(SealedAt("c:bad", "\"x\"", &stranger), SignedCodec(), good);
  }
  // Who cannot check a signature does not believe it.
  ExpectUndecodable(moved, JsonCodec(), good);
  // Under another prefix, too: what is signed for one tenant is none of another's.
  ASSERT_EQ(redis_.Text({"SET", "d:here", moved}), "OK");
  const BasicCache<Signed<JsonCodec>> other(backend_, {.prefix = KeyPrefix::Literal("d:")},
                                            SignedCodec());
  EXPECT_THAT(other.Get<std::string>("here"), Miss<std::string>());
}

TEST_F(CacheBadValueTest, AnEnvelopeOfAnUnknownVersionOrFlag) {
  const std::string good = "good";
  for (const std::string& bytes :
       {std::string("\0", 1), std::string("\0\1", 2), std::string("\0\0\0\"x\"", 6),
        std::string("\0\2\0\"x\"", 6), std::string("\0\xff\0\"x\"", 6),
        std::string("\0\1\x80\"x\"", 6), std::string("\0\1\xff\"x\"", 6),
        std::string("\0\1\1\"x\"", 6), std::string("\0\1\2\3\1x", 6),
        std::string("\0\1\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\"x\"", 16)}) {
    ExpectUndecodable(bytes, JsonCodec(), good);
  }
}

TEST_F(CacheBadValueTest, ALargerOneThanMayBe) {
  const CacheOptions options{.max_value_bytes = 1000};
  const std::string good = "good";
  ExpectUndecodable("\"" + std::string(999, 'x') + "\"", JsonCodec(), good, options);
  // Small as it is stored, and not when it is inflated.
  for (const auto algorithm : {Compression::Algorithm::kZstd, Compression::Algorithm::kLz4}) {
    const std::string sealed =
        SealedAt("bad", "\"" + std::string(999, 'x') + "\"", nullptr, algorithm);
    ASSERT_LT(sealed.size(), 200U);
    ExpectUndecodable(sealed, JsonCodec(), good, options);
  }
  const Cache cache(backend_, {.prefix = KeyPrefix::Literal("c:"), .max_value_bytes = 1000});
  ASSERT_OK(cache.Set("k", 1));
  EXPECT_THAT(cache.Set("k", std::string(1000, 'x')), StatusIs(kInvalid));
  EXPECT_THAT(cache.SetMany<std::string>({{"l", "x"}, {"k", std::string(1000, 'x')}}),
              StatusIs(kInvalid));
  EXPECT_THAT(cache.Get<int>("k"), Hit(1));
  EXPECT_THAT(cache.Get<int>("l"), Miss<int>());
}

TEST_F(CacheBadValueTest, ADecompressionBomb) {
  const std::string large(256 << 20, '\0');
  const std::string good = "good";
  for (const auto& [algorithm, code] : {std::pair(Compression::Algorithm::kZstd, '\1'),
                                        std::pair(Compression::Algorithm::kLz4, '\2')}) {
    ASSERT_OK_AND_ASSIGN(const std::string bomb, internal::Compress(large, algorithm, 3));
    // What it says of itself: 256 MiB, 64 MiB, 100 bytes, and 2^63.
    for (const std::string& size :
         {std::string("\x80\x80\x80\x80\1", 5), std::string("\x80\x80\x80\x20", 4),
          std::string("\x64"), std::string("\x80\x80\x80\x80\x80\x80\x80\x80\x80\1", 10)}) {
      ExpectUndecodable(StrCat(std::string("\0\1\2", 3), std::string(1, code), size, bomb),
                        JsonCodec(), good);
    }
  }
}

TEST_F(CacheBadValueTest, AnotherTypeUnderTheKeyIsNoCrash) {
  const Cache cache(backend_, {.prefix = KeyPrefix::Literal("c:")});
  redis_.Command({"HSET", "c:hash", "f", "v"});
  redis_.Command({"RPUSH", "c:list", "v"});
  ASSERT_OK(cache.Set("text", 1));
  EXPECT_THAT(cache.Get<int>("hash"), StatusIs(kPrecondition));
  ASSERT_OK_AND_ASSIGN(const auto many, cache.GetMany<int>({"hash", "text", "list"}));
  EXPECT_TRUE(many.at("hash").miss() && many.at("list").miss() && many.at("text").hit());
  EXPECT_THAT(cache.HashGet<int>("list", "f"), StatusIs(kPrecondition));
  EXPECT_THAT(cache.Push("hash", 1, 10), StatusIs(kPrecondition));
  EXPECT_FALSE(cache.Range<int>("hash").ok());
  EXPECT_FALSE(cache.HashGetAll<int>("list").ok());
  EXPECT_FALSE(cache.HashSet("list", "f", 1).ok());
  EXPECT_FALSE(cache.Increment("hash").ok());
}

TEST_F(CacheBadValueTest, FieldsAndItemsThatCannotBeDecodedAreLeftOutAndCounted) {
  const auto counts = std::make_shared<Counts>();
  const Cache cache(backend_, {.prefix = KeyPrefix::Literal("c:"), .hooks = {counts}});
  ASSERT_OK(cache.HashSet("h", "good", 1));
  EXPECT_OK(cache.Push("l", 1, 10));
  for (const std::string name : {"h", "l"}) {
    ASSERT_OK_AND_ASSIGN(const ScanPage keys, backend_->Scan(StrCat("c:", name, "*")));
    // Wherever they are kept, it is a hash or a list.
    ASSERT_LE(keys.keys.size(), 1U);
  }
  redis_.Command({"HSET", "c:h", "bad", "\xff"});
  redis_.Command({"RPUSH", "c:l", "\xff"});
  EXPECT_THAT(cache.HashGetAll<int>("h"), IsOkAndHolds(ElementsAre(::testing::Pair("good", 1))));
  EXPECT_THAT(cache.Range<int>("l"), IsOkAndHolds(ElementsAre(1)));
  EXPECT_THAT(cache.HashGet<int>("h", "bad"), Miss<int>());
  EXPECT_EQ(counts->undecodable, 3U);
}

// ---- Only its own ----

TEST_F(CacheBadValueTest, ProjectionsWithoutAPrefixTakeOnlyTheirTypes) {
  const Cache cache(backend_, {.prefix = KeyPrefix::None()});
  const TypedCache<Item> items(cache);
  const TypedCache<shop::Glob> globs(cache);
  ASSERT_OK(items.AddMany({{"a", 1}, {"*", 2}, {"[a]", 3}}));
  ASSERT_OK(globs.Add({"a"}));
  redis_.Command({"SET", "others", "1"});
  for (const std::string pattern : {"", "*", "**", "?*", "*?"}) {
    EXPECT_FALSE(cache.DeletePattern(pattern).ok()) << pattern;
  }
  EXPECT_FALSE(items.RemoveMatching("").ok());
  EXPECT_THAT(cache.Clear(), StatusIs(kPrecondition));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 5);
  EXPECT_THAT(items.RemoveMatching("[[]a]"), IsOkAndHolds(1));
  EXPECT_THAT(items.RemoveById("*"), IsOkAndHolds(true));
  EXPECT_THAT(items.Get("a"), Hit(Item{"a", 1}));
  EXPECT_THAT(globs.RemoveMatching("*"), IsOkAndHolds(1));
  EXPECT_THAT(items.Get("a"), Hit(Item{"a", 1}));
  EXPECT_THAT(items.RemoveMatching("?*"), IsOkAndHolds(1));
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 1);
}

TEST_F(CacheBadValueTest, APrefixThatTurnsOutEmptyClearsNothing) {
  for (const bool epochs : {false, true}) {
    const Cache cache(backend_, {.prefix = KeyPrefix::PerOperation([] { return std::string(); }),
                                 .clear_by_epoch = epochs});
    redis_.Command({"SET", "others", "1"});
    ASSERT_OK(cache.Set("k", 1));
    cache.Clear().IgnoreError();
    for (const std::string pattern : {"", "*", "**", "?*"}) {
      EXPECT_FALSE(cache.DeletePattern(pattern).ok());
    }
    EXPECT_EQ(redis_.Text({"GET", "others"}), "1");
    EXPECT_EQ(redis_.Integer({"EXISTS", "k"}), 1);
  }
}

// ---- Every call ----

enum class Away {
  kAnswered,  // the fallback answers
  kTold,      // an error whatever the policy is
};

struct Call {
  std::string name;
  std::function<absl::Status(const Cache&, const CallOptions&)> run;
  Away away = Away::kAnswered;
};

const std::vector<std::string>& TwoKeys() {
  static const auto* const keys = new std::vector<std::string>{"k", "l"};
  return *keys;
}

// Of CacheBase and Cache, those that ask the backend about keys.
std::vector<Call> KeyCalls() {
  using C = const Cache&;
  using O = const CallOptions&;
  return {
      {"Get", [](C c, O o) { return c.Get<int>("k", {.call = o}).status(); }},
      {"Get tags", [](C c, O o) { return c.Get<int>("k", {.tags = {"t"}, .call = o}).status(); }},
      {"GetMany", [](C c, O o) { return c.GetMany<int>(TwoKeys(), {.call = o}).status(); }},
      {"Set", [](C c, O o) { return c.Set("k", 1, SetOptions{.call = o}); }},
      {"Set null", [](C c, O o) { return c.Set("k", nullptr, SetOptions{.call = o}); }},
      {"Set tags", [](C c, O o) { return c.Set("k", 1, SetOptions{.tags = {"t"}, .call = o}); }},
      {"Add", [](C c, O o) { return c.Add("k", 1, {.call = o}).status(); }},
      {"Replace", [](C c, O o) { return c.Replace("k", 1, {.call = o}).status(); }},
      {"SetMany",
       [](C c, O o) {
         return c.SetMany<int>({{"k", 1}, {"l", 2}}, {.call = o});
       }},
      {"Delete", [](C c, O o) { return c.Delete("k", o).status(); }},
      {"DeleteMany", [](C c, O o) { return c.DeleteMany(TwoKeys(), o).status(); }},
      {"Exists", [](C c, O o) { return c.Exists("k", o).status(); }},
      {"TtlOf", [](C c, O o) { return c.TtlOf("k", o).status(); }},
      {"Expire", [](C c, O o) { return c.Expire("k", absl::Hours(1), o).status(); }},
      {"Persist", [](C c, O o) { return c.Persist("k", o).status(); }},
      {"Scan", [](C c, O o) { return c.Scan("*", "", 10, o).status(); }},
      {"Keys", [](C c, O o) { return c.Keys("*", o).status(); }},
      {"ForEachKey",
       [](C c, O o) {
         return c.ForEachKey(
             "*", [](const std::string&) { return true; }, o);
       }},
      {"Count", [](C c, O o) { return c.Count("*", o).status(); }},
      {"DeletePattern", [](C c, O o) { return c.DeletePattern("x*", o).status(); }},
      {"Clear", [](C c, O o) { return c.Clear(o); }},
      {"InvalidateTags", [](C c, O o) { return c.InvalidateTags(TwoKeys(), o); }},
      {"Increment", [](C c, O o) { return c.Increment("n", 1, Ttl::Never(), o).status(); },
       Away::kTold},
      {"Decrement", [](C c, O o) { return c.Decrement("n", 1, Ttl::Never(), o).status(); },
       Away::kTold},
      {"HashGet", [](C c, O o) { return c.HashGet<int>("h", "f", o).status(); }},
      {"HashGetAll", [](C c, O o) { return c.HashGetAll<int>("h", o).status(); }},
      {"HashSet", [](C c, O o) { return c.HashSet("h", "f", 1, o); }},
      {"Push", [](C c, O o) { return c.Push("p", 1, 5, Ttl::Never(), o).status(); }, Away::kTold},
      {"Range", [](C c, O o) { return c.Range<int>("p", 0, -1, o).status(); }},
      {"CompareAndSetField",
       [](C c, O o) { return c.CompareAndSetField("doc", "/v", 1, 2, Ttl::Default(), o).status(); },
       Away::kTold},
  };
}

std::vector<Call> AllCacheCalls() {
  std::vector<Call> calls = KeyCalls();
  calls.push_back(
      {"Ping", [](const Cache& c, const CallOptions& o) { return c.Ping(o); }, Away::kTold});
  calls.push_back({"Health",
                   [](const Cache& c, const CallOptions& o) { return c.Health(o).status; },
                   Away::kTold});
  calls.push_back({"Reconnect", [](const Cache& c, const CallOptions& o) { return c.Reconnect(o); },
                   Away::kTold});
  return calls;
}

bool IsAway(const absl::Status& status) {
  return coord::IsUnavailable(status) || status.code() == absl::StatusCode::kDeadlineExceeded;
}

class CacheFaultTest : public ::testing::Test {
 protected:
  Cache Make(CacheOptions options = {}) {
    options.prefix = KeyPrefix::Literal("c:");
    return Cache(backend_, std::move(options));
  }
  CacheOptions WithFallback(Fallback::Mode mode) {
    CacheOptions options{.fallback = {.mode = mode}, .hooks = {counts_}};
    if (mode == Fallback::Mode::kCallback) {
      options.fallback.callback = [this](std::string_view, std::string_view,
                                         const absl::Status& error) -> std::optional<std::string> {
        EXPECT_TRUE(IsAway(error)) << error;
        ++asked_;
        return "5";
      };
    }
    return options;
  }

  // Every call does what the policy says, within its time, and tells its hooks once.
  void ExpectPolicies() {
    const CallOptions quick{.timeout = absl::Milliseconds(50)};
    for (const auto mode :
         {Fallback::Mode::kPropagate, Fallback::Mode::kMiss, Fallback::Mode::kCallback}) {
      const Cache cache = Make(WithFallback(mode));
      for (const Call& call : AllCacheCalls()) {
        SCOPED_TRACE(StrCat(call.name, " with mode ", static_cast<int>(mode)));
        const Stopwatch watch;
        const std::size_t fell_back = counts_->fell_back;
        const absl::Status status = call.run(cache, quick);
        EXPECT_LT(watch.elapsed(), absl::Seconds(5));
        EXPECT_EQ(counts_->before, counts_->after + counts_->errors);
        if (mode == Fallback::Mode::kPropagate || call.away == Away::kTold) {
          EXPECT_TRUE(IsAway(status)) << status;
          EXPECT_EQ(counts_->fell_back, fell_back);
        } else {
          EXPECT_OK(status);
          EXPECT_EQ(counts_->fell_back, fell_back + 1);
        }
      }
      if (mode == Fallback::Mode::kPropagate) continue;
      const bool callback = mode == Fallback::Mode::kCallback;
      const auto found = cache.Get<int>("k", {.call = quick});
      ASSERT_OK(found);
      EXPECT_EQ(found->hit(), callback);
      const auto many = cache.GetMany<int>({"k", "l"}, {.call = quick});
      ASSERT_OK(many);
      EXPECT_EQ(many->at("k").value_or(0), callback ? 5 : 0);
      EXPECT_EQ(many->at("l").value_or(0), callback ? 5 : 0);
      EXPECT_THAT(cache.Exists("k", quick), IsOkAndHolds(false));
      EXPECT_THAT(cache.TtlOf("k", quick), IsOkAndHolds(TimeLeft::Missing()));
      EXPECT_THAT(cache.Count("*", quick), IsOkAndHolds(0));
      EXPECT_THAT(cache.DeleteMany(TwoKeys(), quick), IsOkAndHolds(0));
      // What is wrong with an argument is no fault of the way there.
      EXPECT_THAT(cache.Get<int>("", {.call = quick}), StatusIs(kInvalid));
      EXPECT_THAT(cache.Set("k", 1, SetOptions{.ttl = absl::ZeroDuration(), .call = quick}),
                  StatusIs(kInvalid));
      EXPECT_THAT(cache.Scan("", "", 1, quick), StatusIs(kInvalid));
    }
    EXPECT_GE(asked_, 4);
  }

  void ExpectUsedAgain() {
    const Cache cache = Make(WithFallback(Fallback::Mode::kMiss));
    EXPECT_TRUE(Eventually([&] {
      const auto found = cache.Get<int>("kept", {.call = {.timeout = absl::Seconds(1)}});
      return found.ok() && found->hit() && **found == 7;
    }));
    for (const Call& call : AllCacheCalls()) {
      if (call.name == "CompareAndSetField") continue;  // there is no document
      EXPECT_OK(call.run(Make(), {})) << call.name;
    }
  }

  RedisServer server_{{.port = 0}};
  FaultProxy proxy_{server_.url()};
  RawRedis redis_{server_.unix_url()};
  Client client_ = ConnectTo(proxy_.url());
  std::shared_ptr<RedisBackend> backend_ = std::make_shared<RedisBackend>(client_);
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
  int asked_ = 0;
};

// Takes some 5 s, as does the next: each call uses its whole time.
TEST_F(CacheFaultTest, ARefusedConnectionIsWhatThePolicySaysForEveryCall) {
  ASSERT_OK(Make().Set("kept", 7));
  proxy_.Refuse(true);
  proxy_.ResetConnections();
  ExpectPolicies();
  proxy_.Heal();
  ExpectUsedAgain();
}

TEST_F(CacheFaultTest, ABlackHoleIsWhatThePolicySaysForEveryCall) {
  ASSERT_OK(Make().Set("kept", 7));
  proxy_.Set(Direction::kRequests, {.drop = true});
  proxy_.Set(Direction::kReplies, {.drop = true});
  ExpectPolicies();
  proxy_.Heal();
  proxy_.ResetConnections();
  ExpectUsedAgain();
}

TEST_F(CacheFaultTest, ACallThatIsStoppedIsToldWhateverThePolicyIs) {
  proxy_.Set(Direction::kReplies, {.drop = true});
  std::stop_source stop;
  stop.request_stop();
  const Cache cache = Make(WithFallback(Fallback::Mode::kMiss));
  for (const Call& call : KeyCalls()) {
    EXPECT_THAT(call.run(cache, {.timeout = absl::Seconds(10), .stop = stop.get_token()}),
                StatusIs(absl::StatusCode::kCancelled))
        << call.name;
  }
}

TEST_F(CacheFaultTest, AWriteWhoseReplyIsLostIsUnknownOrGivenUpAsThePolicySays) {
  const auto lose = [this] {
    ASSERT_OK(client_.Command({"PING"}));
    proxy_.ResetBeforeReply();
  };
  lose();
  EXPECT_TRUE(IsOutcomeUnknown(Make().Set("a", 1)));
  EXPECT_THAT(Make().Get<int>("a"), Hit(1));
  lose();
  EXPECT_TRUE(IsOutcomeUnknown(Make().Add("b", 1).status()));
  EXPECT_THAT(Make().Get<int>("b"), Hit(1));
  const Cache lenient = Make(WithFallback(Fallback::Mode::kMiss));
  lose();
  EXPECT_OK(lenient.Set("c", 1));
  EXPECT_EQ(counts_->fell_back, 1U);
  EXPECT_THAT(Make().Get<int>("c"), Hit(1));
  lose();
  EXPECT_THAT(lenient.Add("d", 1), IsOkAndHolds(false));  // who was first is not known
  EXPECT_THAT(Make().Get<int>("d"), Hit(1));
  lose();
  EXPECT_TRUE(IsOutcomeUnknown(lenient.Increment("n").status()));
  EXPECT_THAT(Make().Increment("n"), IsOkAndHolds(2));
}

TEST_F(CacheFaultTest, ACallbackThatThrowsOrAnswersRubbishIsAMissOrAnError) {
  const CallOptions quick{.timeout = absl::Milliseconds(50)};
  const std::vector<std::function<std::optional<std::string>()>> callbacks = {
      []() -> std::optional<std::string> { throw std::runtime_error("callback"); },
      []() -> std::optional<std::string> { throw 1; },
      [] { return std::string("{rubbish"); },
      [] { return std::string("\0\1\1", 3); },
      [] { return std::string(); },
  };
  proxy_.Refuse(true);
  proxy_.ResetConnections();
  for (const auto& answer : callbacks) {
    CacheOptions options = WithFallback(Fallback::Mode::kCallback);
    options.fallback.callback = [&answer](std::string_view, std::string_view, const absl::Status&) {
      return answer();
    };
    const Cache cache = Make(options);
    const auto found = cache.Get<int>("k", {.call = quick});
    EXPECT_TRUE(!found.ok() || found->miss());
    const auto many = cache.GetMany<int>(TwoKeys(), {.call = quick});
    EXPECT_TRUE(!many.ok() || (many->at("k").miss() && many->at("l").miss()));
    EXPECT_OK(cache.Set("k", 1, SetOptions{.call = quick}));
  }
  // One that is not there at all.
  CacheOptions none = WithFallback(Fallback::Mode::kCallback);
  none.fallback.callback = nullptr;
  const auto found = Make(none).Get<int>("k", {.call = quick});
  EXPECT_TRUE(!found.ok() || found->miss());
}

TEST_F(CacheFaultTest, ARefusalIsToldWhateverThePolicyIs) {
  ASSERT_OK(Make().Set("k", 1));
  redis_.Command({"HSET", "c:hash", "f", "v"});
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  for (const auto mode : {Fallback::Mode::kMiss, Fallback::Mode::kCallback}) {
    const Cache cache = Make(WithFallback(mode));
    EXPECT_THAT(cache.Set("new", 1), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(cache.Add("new", 1), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(cache.SetMany<int>({{"new", 1}}), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(cache.Get<int>("hash"), StatusIs(kPrecondition));
    EXPECT_THAT(cache.Get<int>("k"), Hit(1));
  }
  EXPECT_EQ(counts_->fell_back, 0U);
  EXPECT_EQ(asked_, 0);
}

TEST_F(CacheFaultTest, ACacheOfNoBackendRefusesEveryCall) {
  for (const auto mode : {Fallback::Mode::kPropagate, Fallback::Mode::kMiss}) {
    const Cache cache(nullptr, WithFallback(mode));
    for (const Call& call : AllCacheCalls()) {
      EXPECT_THAT(call.run(cache, {}), StatusIs(kInvalid)) << call.name;
      EXPECT_THAT(call.run(cache.Scoped("s:"), {}), StatusIs(kInvalid)) << call.name;
    }
    EXPECT_THAT(cache.Lock("l"), StatusIs(kInvalid));
    EXPECT_EQ(cache.client(), nullptr);
    cache.Close();
  }
}

// ---- User code that throws ----

class Thrower final : public CacheHook {
 public:
  void Before(const CacheEvent&) override { throw std::runtime_error("before"); }
  void After(const CacheEvent&) override { throw 1; }
  void Error(const CacheEvent&, const absl::Status&) override { throw std::string("error"); }
};

TEST_F(CacheFaultTest, HooksThatThrowChangeNoCallAndSilenceNoOtherHook) {
  std::atomic<int> problems{0};
  const Cache plain = Make();
  const Cache cache =
      Make({.hooks = {std::make_shared<Thrower>(), counts_, std::make_shared<Thrower>()},
            .on_problem = [&](const absl::Status&) {
              ++problems;
              throw std::runtime_error("told of a problem");
            }});
  for (const Call& call : AllCacheCalls()) {
    const std::size_t before = counts_->before, ended = counts_->after + counts_->errors;
    const std::uint64_t failures = cache.hook_failures();
    EXPECT_EQ(call.run(cache, {}).code(), call.run(plain, {}).code()) << call.name;
    EXPECT_EQ(counts_->before - before, counts_->after + counts_->errors - ended) << call.name;
    EXPECT_EQ(cache.hook_failures() - failures, 4 * (counts_->before - before)) << call.name;
  }
  const std::size_t errors = counts_->errors;
  EXPECT_THAT(cache.Get<int>(""), StatusIs(kInvalid));
  EXPECT_THAT(cache.Set("k", 1, absl::ZeroDuration()), StatusIs(kInvalid));
  EXPECT_THAT(cache.DeletePattern(""), StatusIs(kInvalid));
  EXPECT_EQ(counts_->errors, errors + 3);
  EXPECT_GT(problems, 0);
}

TEST_F(CacheFaultTest, ACalendarThatThrowsIsTheHosts) {
  const Cache cache = Make({.calendar = []() -> absl::Time { throw 1; }});
  EXPECT_OK(cache.Set("k", 1, Ttl::At(absl::Now() + absl::Hours(2))));
  ASSERT_OK_AND_ASSIGN(const TimeLeft left, cache.TtlOf("k"));
  EXPECT_GT(left.left(), absl::Hours(1));
  for (const Call& call : AllCacheCalls()) {
    EXPECT_EQ(call.run(cache, {}).code(), call.run(Make(), {}).code()) << call.name;
  }
}

TEST_F(CacheFaultTest, APrefixThatCannotBeHadFailsEveryCallAndSendsNothing) {
  struct Case {
    std::function<absl::StatusOr<std::string>()> ask;
    std::optional<absl::StatusCode> code;
  };
  const std::vector<Case> cases = {
      {[]() -> absl::StatusOr<std::string> { throw std::runtime_error("prefix"); }, std::nullopt},
      {[]() -> absl::StatusOr<std::string> { throw 1; }, std::nullopt},
      {[] { return absl::NotFoundError("no tenant"); }, absl::StatusCode::kNotFound},
      // Its own, and no fault of ours that a fallback could answer.
      {[] { return absl::UnavailableError("no tenant"); }, absl::StatusCode::kUnavailable},
      {[] { return absl::DeadlineExceededError("no tenant"); },
       absl::StatusCode::kDeadlineExceeded},
      {[] { return std::string("te{n}ant:"); }, kInvalid},
      {[] { return std::string(2000, 'p'); }, kInvalid},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    for (const auto mode : {Fallback::Mode::kPropagate, Fallback::Mode::kMiss}) {
      CacheOptions options{.prefix = KeyPrefix::PerOperation(cases[i].ask),
                           .fallback = {.mode = mode},
                           .hooks = {counts_}};
      const Cache cache(backend_, options);
      ASSERT_OK(client_.Command({"PING"}));
      const std::int64_t before = AllCalls(redis_);
      for (const Call& call : KeyCalls()) {
        const absl::Status status = call.run(cache, {});
        EXPECT_FALSE(status.ok()) << call.name << " " << i;
        if (cases[i].code) {
          EXPECT_THAT(status, StatusIs(*cases[i].code)) << call.name << " " << i;
        }
      }
      EXPECT_EQ(AllCalls(redis_), before) << i;
      EXPECT_FALSE(cache.Lock("l").ok()) << i;
      EXPECT_FALSE(cache.FullKey("k").ok()) << i;
    }
  }
}

TEST_F(CacheFaultTest, APrefixOf300BytesIsOnePrefixOrRefusedAlways) {
  const Cache cache(backend_,
                    {.prefix = KeyPrefix::PerOperation([] { return std::string(300, 'p'); })});
  const Cache literal(backend_, {.prefix = KeyPrefix::Literal(std::string(300, 'p'))});
  const absl::StatusCode code = cache.Get<int>("k").status().code();
  EXPECT_TRUE(code == absl::StatusCode::kOk || code == kInvalid);
  for (const Call& call : KeyCalls()) {
    const absl::Status status = call.run(cache, {});
    EXPECT_EQ(status.code(), call.run(literal, {}).code()) << call.name;
    if (code != absl::StatusCode::kOk) {
      EXPECT_THAT(status, StatusIs(code)) << call.name;
    }
  }
}

// ---- The end ----

TEST_F(CacheFaultTest, TwoThatCloseWhileOthersCallBreakNothingAndEndEverything) {
  for (const bool lenient : {false, true}) {
    const Cache cache =
        Make(lenient ? WithFallback(Fallback::Mode::kMiss) : CacheOptions{.hooks = {counts_}});
    std::atomic<bool> done{false};
    std::atomic<int> calls{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, mine = cache] {
        while (!done) {
          for (const Call& call : AllCacheCalls()) {
            call.run(mine, {}).IgnoreError();
            ++calls;
          }
        }
      });
    }
    EXPECT_TRUE(Eventually([&] { return calls > 200; }));
    std::thread other([copy = cache] { copy.Close(); });
    cache.Close();
    other.join();
    const int before = calls;
    EXPECT_TRUE(Eventually([&] { return calls > before + 100; }));
    done = true;
    for (std::thread& thread : threads) thread.join();
    for (const Call& call : AllCacheCalls()) {
      EXPECT_THAT(call.run(cache, {}), StatusIs(kPrecondition)) << call.name;
      EXPECT_THAT(call.run(cache.Scoped("s:"), {}), StatusIs(kPrecondition)) << call.name;
    }
    EXPECT_THAT(cache.Lock("l"), StatusIs(kPrecondition));
    EXPECT_THAT(cache.GetMany<int>({}), StatusIs(kPrecondition));
    EXPECT_THAT(cache.DeleteMany({}), StatusIs(kPrecondition));
    EXPECT_EQ(counts_->before, counts_->after + counts_->errors);
    EXPECT_OK(client_.Command({"PING"}));
  }
}

}  // namespace
}  // namespace coord
