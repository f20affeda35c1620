// coord cache, from outside: values, times to live, keys under a prefix.
#ifdef COORD_PROGRAM

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/redis_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class CacheCliTest : public ::testing::Test {
 protected:
  ProcessResult Run(const Words& words, std::string input = "") const {
    Words argv = {COORD_PROGRAM, "cache"};
    argv.insert(argv.end(), words.begin(), words.end());
    return RunProgram(argv,
                      {.stdin_text = std::move(input), .env = {{"COORD_URL", server_.url()}}});
  }
  Json RunJson(Words words) const {
    words.emplace_back("--json");
    const ProcessResult result = Run(words);
    Json value = Json::parse(result.out, nullptr, false);
    EXPECT_TRUE(value.is_object()) << result.out << result.err;
    return value;
  }
  // What a C++ program sees under the default prefix.
  Cache OpenCache(CacheOptions options = {}) const {
    absl::StatusOr<std::shared_ptr<RedisBackend>> backend = RedisBackend::Connect(server_.url());
    EXPECT_OK(backend);
    return Cache(*backend, std::move(options));
  }

  RedisServer server_;
  RawRedis redis_{server_};
};

TEST_F(CacheCliTest, AValueComesBackInItsBytes) {
  EXPECT_EQ(Run({"get", "k"}).exit_code, 75);
  EXPECT_EQ(Run({"set", "k", "a value"}).exit_code, 0);
  const ProcessResult found = Run({"get", "k"});
  EXPECT_EQ(found.exit_code, 0);
  EXPECT_EQ(found.out, "a value");
  EXPECT_EQ(redis_.Text({"GET", "coord:cache:k"}), "a value");
  const std::string bytes("\0\xff\n\0end\n", 9);
  EXPECT_EQ(Run({"set", "b", "-"}, bytes).exit_code, 0);
  EXPECT_EQ(Run({"get", "b"}).out, bytes);
  EXPECT_EQ(Run({"set", "dashed", "--", "--ttl"}).exit_code, 0);
  EXPECT_EQ(Run({"get", "dashed"}).out, "--ttl");
  EXPECT_EQ(Run({"set", "get", "[1,2]"}).exit_code, 0);
  EXPECT_EQ(Run({"get", "get"}).out, "[1,2]");
}

TEST_F(CacheCliTest, OfSeveralKeysEachHasALine) {
  Run({"set", "a", "1"});
  Run({"set", "c", "\xff"});
  const ProcessResult found = Run({"get", "a", "b", "c"});
  EXPECT_EQ(found.exit_code, 75);
  EXPECT_EQ(found.out, "1\n\xff\n");
  EXPECT_THAT(found.err, HasSubstr("\"b\" is not cached"));
  EXPECT_EQ(Run({"get", "a", "b", "c", "--json"}).out,
            "{\"key\":\"a\",\"state\":\"hit\",\"value\":\"1\"}\n"
            "{\"key\":\"b\",\"state\":\"miss\",\"value\":null}\n"
            "{\"key\":\"c\",\"state\":\"hit\",\"value\":{\"base64\":\"/w==\"}}\n");
  EXPECT_EQ(Run({"get", "a", "c"}).exit_code, 0);
}

TEST_F(CacheCliTest, WhatAProgramHasCompressedOrCachedAsNullIsUnderstood) {
  CacheOptions options;
  options.compression = {.algorithm = Compression::Algorithm::kZstd, .threshold = 100};
  const Cache cache = OpenCache(options);
  const std::string text(10000, 'x');
  ASSERT_OK(cache.Set("long", text, {.stale_for = absl::Minutes(1)}));
  ASSERT_OK(cache.Set("none", std::optional<int>()));
  ASSERT_OK(cache.Set("tagged", 7, {.tags = {"t"}}));
  ASSERT_LT(redis_.Integer({"STRLEN", "coord:cache:long"}), 1000);
  EXPECT_EQ(Run({"get", "long"}).out, "\"" + text + "\"");
  const ProcessResult null = Run({"get", "none"});
  EXPECT_EQ(null.exit_code, 0);
  EXPECT_EQ(RunJson({"get", "none"})["state"], "null");
  EXPECT_EQ(RunJson({"get", "none"})["value"], nullptr);
  EXPECT_EQ(Run({"get", "tagged"}).out, "7");
  EXPECT_EQ(Run({"invalidate", "t"}).exit_code, 0);
  EXPECT_EQ(Run({"get", "tagged"}).exit_code, 75);
  const auto seen = cache.Get<int>("tagged");
  ASSERT_OK(seen);
  EXPECT_TRUE(seen->miss());
}

TEST_F(CacheCliTest, WhatIsStoredWithATagIsAMissOnceItIsInvalidated) {
  Run({"set", "a", "1", "--tag", "x", "--tag", "y"});
  Run({"set", "b", "2", "--tag", "x"});
  EXPECT_EQ(Run({"get", "a"}).out, "1");
  EXPECT_EQ(RunJson({"invalidate", "y", "z"})["invalidated"], 2);
  EXPECT_EQ(Run({"get", "a"}).exit_code, 75);
  EXPECT_EQ(Run({"get", "b"}).out, "2");
}

TEST_F(CacheCliTest, WhatCannotBeReadIsAnError) {
  redis_.Command({"SET", "coord:cache:k", std::string("\0\x7f", 2)});
  const ProcessResult broken = Run({"get", "k"});
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_THAT(broken.err, HasSubstr("coord:cache:k"));
}

TEST_F(CacheCliTest, AddStoresOnlyWhereThereIsNothing) {
  EXPECT_EQ(Run({"add", "k", "1"}).exit_code, 0);
  EXPECT_EQ(Run({"add", "k", "2"}).exit_code, 75);
  EXPECT_EQ(RunJson({"add", "k", "2"})["added"], false);
  EXPECT_EQ(Run({"get", "k"}).out, "1");
}

TEST_F(CacheCliTest, OnRequestOnlyJsonIsStored) {
  EXPECT_EQ(Run({"set", "k", "{\"a\": 1}", "--as-json"}).exit_code, 0);
  const ProcessResult refused = Run({"set", "k", "{\"a\": 1", "--as-json"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("not JSON"));
  EXPECT_EQ(Run({"get", "k"}).out, "{\"a\": 1}");
}

TEST_F(CacheCliTest, TimesToLiveAreSetShownChangedAndTakenAway) {
  EXPECT_EQ(Run({"ttl", "k"}).exit_code, 75);
  EXPECT_EQ(RunJson({"ttl", "k"}), Json({{"state", "missing"}, {"ttl_ms", nullptr}}));
  Run({"set", "k", "1", "--ttl", "1h2m3s"});
  EXPECT_THAT(Run({"ttl", "k"}).out, AnyOf("1h2m3s\n", "1h2m2s\n", "1h2m1s\n", "1h2m\n"));
  const Json left = RunJson({"ttl", "k"});
  EXPECT_EQ(left["state"], "expires");
  EXPECT_LE(left["ttl_ms"], 3723000);
  EXPECT_GT(left["ttl_ms"], 3600000);
  EXPECT_EQ(Run({"expire", "k", "2d"}).exit_code, 0);
  EXPECT_GT(redis_.Integer({"PTTL", "coord:cache:k"}), 24 * 3600 * 1000);
  EXPECT_EQ(Run({"persist", "k"}).exit_code, 0);
  EXPECT_EQ(Run({"ttl", "k"}).out, "never\n");
  Run({"set", "n", "1", "--ttl", "never"});
  EXPECT_EQ(redis_.Integer({"PTTL", "coord:cache:n"}), -1);
  Run({"set", "d", "1"});
  EXPECT_GT(redis_.Integer({"PTTL", "coord:cache:d"}), 200'000);
  EXPECT_LE(redis_.Integer({"PTTL", "coord:cache:d"}), 300'000);
  EXPECT_EQ(Run({"expire", "missing", "1h"}).exit_code, 75);
  EXPECT_EQ(Run({"persist", "missing"}).exit_code, 75);
}

TEST_F(CacheCliTest, KeysAreCountedListedAndForgotten) {
  for (const char* const key : {"user:1", "user:2", "order:1"}) Run({"set", key, "v"});
  EXPECT_EQ(Run({"keys"}).out, "order:1\nuser:1\nuser:2\n");
  EXPECT_EQ(Run({"keys", "user:*"}).out, "user:1\nuser:2\n");
  EXPECT_EQ(Run({"keys", "order:*", "--json"}).out, "{\"key\":\"order:1\"}\n");
  EXPECT_EQ(Run({"count"}).out, "3\n");
  EXPECT_EQ(RunJson({"count", "user:?"})["count"], 2);
  EXPECT_EQ(Run({"del", "user:1", "nothing"}).out, "1\n");
  EXPECT_EQ(RunJson({"clear", "user:*"})["deleted"], 1);
  const ProcessResult unasked = Run({"clear"});
  EXPECT_EQ(unasked.exit_code, 2);
  EXPECT_THAT(unasked.err, HasSubstr("--yes"));
  EXPECT_EQ(Run({"clear", "**"}).exit_code, 2);
  EXPECT_EQ(Run({"count"}).out, "1\n");
  EXPECT_EQ(Run({"clear", "--yes"}).out, "1\n");
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(CacheCliTest, GlobCharactersInAPrefixMeanThemselves) {
  for (const char* const key : {"a*:k", "ab:k", "a[b]:k", "a?:k"})
    redis_.Command({"SET", key, "v"});
  EXPECT_EQ(Run({"keys", "--key-prefix", "a*:"}).out, "k\n");
  EXPECT_EQ(Run({"keys", "--key-prefix", "a[b]:"}).out, "k\n");
  EXPECT_EQ(Run({"clear", "--key-prefix", "a*:", "--yes"}).out, "1\n");
  EXPECT_EQ(Run({"clear", "--key-prefix", "a?:", "--yes"}).out, "1\n");
  EXPECT_EQ(redis_.Integer({"EXISTS", "ab:k", "a[b]:k"}), 2);
  // And in keys, where they are no patterns either.
  Run({"set", "x*", "1"});
  Run({"set", "xy", "2"});
  EXPECT_EQ(Run({"del", "x*"}).out, "1\n");
  EXPECT_EQ(Run({"get", "xy"}).out, "2");
  Run({"set", "x*", "1"});
  EXPECT_EQ(Run({"clear", "x\\*"}).out, "1\n");
  EXPECT_EQ(Run({"get", "xy"}).out, "2");
}

TEST_F(CacheCliTest, ClearingNeverTakesALockOrACounterUnderTheSamePrefix) {
  Run({"set", "k", "v"});
  redis_.Command({"SET", "coord:cache:{deploy}:lease", "held"});
  redis_.Command({"SET", "coord:{visits}:count", "3"});
  EXPECT_EQ(Run({"keys"}).out, "k\n");
  EXPECT_EQ(Run({"clear", "--yes"}).out, "1\n");
  // Even where the prefix covers all that coord has.
  Run({"set", "k", "v", "--key-prefix", "coord:"});
  EXPECT_EQ(Run({"clear", "--yes", "--key-prefix", "coord:"}).out, "1\n");
  EXPECT_EQ(redis_.Integer({"EXISTS", "coord:cache:{deploy}:lease", "coord:{visits}:count"}), 2);
  EXPECT_EQ(Run({"set", "--key-prefix", "coord:", "{visits}:count", "9"}).exit_code, 2);
}

TEST_F(CacheCliTest, PrefixesAreTheClientsAnothersOrNone) {
  Run({"set", "k", "default"});
  Run({"set", "k", "client's", "--prefix", "app:"});
  Run({"set", "k", "literal", "--key-prefix", "mine/"});
  Run({"set", "k", "raw", "--raw"});
  EXPECT_EQ(redis_.Text({"GET", "coord:cache:k"}), "default");
  EXPECT_EQ(redis_.Text({"GET", "app:cache:k"}), "client's");
  EXPECT_EQ(redis_.Text({"GET", "mine/k"}), "literal");
  EXPECT_EQ(redis_.Text({"GET", "k"}), "raw");
  EXPECT_EQ(Run({"get", "k", "--raw"}).out, "raw");
  EXPECT_EQ(Run({"clear", "--raw", "--yes"}).exit_code, 2);
  EXPECT_EQ(Run({"clear", "--key-prefix", "", "--yes"}).exit_code, 2);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 4);
}

TEST_F(CacheCliTest, StatsTellKeysBytesAndWhatTheServerCounts) {
  Run({"set", "a", "12345"});
  Run({"set", "b", "123"});
  redis_.Command({"SET", "elsewhere", "1"});
  Run({"get", "a"});
  const Json stats = RunJson({"stats"});
  EXPECT_EQ(stats["prefix"], "coord:cache:");
  EXPECT_EQ(stats["keys"], 2);
  EXPECT_EQ(stats["bytes"], 8);
  EXPECT_GE(stats["server"]["hits"], 1);
  EXPECT_EQ(stats["server"]["evicted"], 0);
  EXPECT_GT(stats["server"]["used_memory"], 0);
  EXPECT_EQ(RunJson({"stats", "a*"})["bytes"], 5);
  EXPECT_THAT(Run({"stats"}).out, HasSubstr("prefix coord:cache:\nkeys 2\nbytes 8\n"));
}

TEST_F(CacheCliTest, MisuseIsRefusedBeforeAnythingIsSent) {
  const std::pair<Words, std::string> cases[] = {
      {{}, "subcommand"},
      {{"get"}, "KEY"},
      {{"get", ""}, "empty"},
      {{"get", "#coord:epoch"}, "#coord:"},
      {{"get", "k", "--nonsense"}, "--nonsense"},
      {{"set", "k"}, "VALUE"},
      {{"set", "k", "v", "w"}, "\"w\""},
      {{"set", "k", "v", "--ttl", "10"}, "--ttl"},
      {{"set", "k", "v", "--ttl", "0s"}, "--ttl"},
      {{"set", "k", "v", "--ttl", "-1s"}, "--ttl"},
      {{"set", "k", "v", "--ttl", "1h x"}, "--ttl"},
      {{"set", "k", "v", "--ttl", ""}, "--ttl"},
      {{"set", "k", "v", "--ttl", "99999d"}, "--ttl"},
      {{"set", "k", "v", "--tag", ""}, "tag"},
      {{"set", "k", "v", "--raw", "--key-prefix", "x"}, "--key-prefix"},
      {{"set", "k", "v", "--key-prefix", "{x}"}, "prefix"},
      {{"set", "k", "v", "--prefix", "{x}"}, "prefix"},
      {{"expire", "k"}, "TTL"},
      {{"expire", "k", "soon"}, "TTL"},
      {{"ttl"}, "KEY"},
      {{"ttl", "a", "b"}, "\"b\""},
      {{"keys", ""}, "pattern"},
      {{"clear"}, "--yes"},
      {{"invalidate"}, "TAG"},
      {{"get", "k", "--url", "nonsense"}, "URL"},
  };
  for (const auto& [words, why] : cases) {
    const ProcessResult result = Run(words);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(words) << result.err;
    EXPECT_THAT(result.err, HasSubstr(why)) << ::testing::PrintToString(words);
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(CacheCliTest, WithoutAServerEachSays69) {
  server_.Kill();
  for (const Words& words : std::vector<Words>{{"get", "k"},
                                               {"set", "k", "v"},
                                               {"del", "k"},
                                               {"ttl", "k"},
                                               {"keys"},
                                               {"clear", "--yes"},
                                               {"invalidate", "t"},
                                               {"stats"},
                                               {"memo", "k", "--", "true"}}) {
    Words with_timeout = words;
    with_timeout.insert(with_timeout.begin() + 1, {"--timeout", "300ms"});
    const ProcessResult result = Run(with_timeout);
    EXPECT_EQ(result.exit_code, 69) << ::testing::PrintToString(words) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

}  // namespace
}  // namespace coord::testing

#endif  // COORD_PROGRAM
