// What a cache makes up for after its server was away; recovery_queue_test.cc has the cases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cache/cache.h"
#include "cache/metrics.h"
#include "cache/redis_backend.h"
#include "coord/internal/strings.h"
#include "tests/support/redis_server.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using testing::Eventually;
using testing::RedisServer;

class ThrowingHook : public CacheHook {
 public:
  void Before(const CacheEvent&) override { throw std::runtime_error("before"); }
  void After(const CacheEvent&) override { throw 7; }
  void Error(const CacheEvent&, const absl::Status&) override { throw std::runtime_error("error"); }
};

TEST(CacheRecoveryTest, WhatFailedReachesAServerThatComesBackWithItsOldData) {
  RedisServer server({.append_only = true});
  absl::StatusOr<Client> client = Client::Connect(
      server.url(), {.timeout = absl::Seconds(1), .fail_fast_after = absl::Seconds(2)});
  ASSERT_TRUE(client.ok()) << client.status();
  const auto metrics = std::make_shared<MetricsCollector>();
  CacheOptions options;
  options.prefix = KeyPrefix::Literal("c:");
  options.recovery = {.max_keys = 1000, .retry_every = absl::Milliseconds(20)};
  options.hooks = {metrics, std::make_shared<ThrowingHook>()};
  const Cache cache(std::make_shared<RedisBackend>(*client), options);
  const Ttl ttl = Ttl::After(absl::Minutes(10));
  ASSERT_TRUE(cache.Set("deleted", std::string("old"), ttl).ok());
  ASSERT_TRUE(cache.Set("changed", std::string("old"), ttl).ok());
  EXPECT_GE(cache.hook_failures(), 4u);

  server.Kill();
  EXPECT_FALSE(cache.Delete("deleted").ok());
  EXPECT_FALSE(cache.Set("changed", std::string("new"), ttl).ok());
  EXPECT_FALSE(cache.Set("fresh", std::string("new"), ttl).ok());
  EXPECT_EQ(cache.recovering(), 3u);
  server.Start();
  ASSERT_TRUE(Eventually([&] { return cache.recovering() == 0; }, absl::Seconds(20)));

  EXPECT_TRUE(cache.Get<std::string>("deleted")->miss());
  EXPECT_TRUE(cache.Get<std::string>("changed")->miss());  // never the old one
  EXPECT_EQ(cache.Get<std::string>("fresh")->value_or(""), "new");
  const MetricsSnapshot snapshot = metrics->Snapshot();
  const OperationMetrics* const recovered = snapshot.Find("default", CacheOperation::kRecover);
  ASSERT_NE(recovered, nullptr);
  EXPECT_GE(recovered->keys, 3u);
  cache.Close();
}

TEST(CacheRecoveryTest, WhatIsClearedMeanwhileDoesNotComeBack) {
  RedisServer server;
  absl::StatusOr<Client> client = Client::Connect(
      server.url(), {.timeout = absl::Seconds(5), .fail_fast_after = absl::Seconds(1)});
  ASSERT_TRUE(client.ok()) << client.status();
  CacheOptions options;
  options.recovery = {.max_keys = 1000, .retry_every = absl::Hours(1)};
  const Cache cache(std::make_shared<RedisBackend>(*client), options);
  server.Kill();
  for (const char* key : {"user:1", "user:2", "job:1"}) {
    EXPECT_FALSE(cache.Set(key, std::string("late")).ok());
  }
  EXPECT_EQ(cache.recovering(), 3u);
  server.Start();
  ASSERT_TRUE(Eventually([&] { return cache.Ping().ok(); }, absl::Seconds(20)));
  ASSERT_TRUE(cache.DeletePattern("user:*").ok());
  EXPECT_EQ(cache.recovering(), 1u);
  ASSERT_TRUE(cache.Clear().ok());
  EXPECT_EQ(cache.recovering(), 0u);
  cache.Close();
}

TEST(CacheRecoveryTest, TenThousandKeysAreMadeUpForAndReplaceNothingNewer) {
  RedisServer server;
  const auto connect = [&] {
    absl::StatusOr<Client> client = Client::Connect(
        server.url(), {.timeout = absl::Seconds(5), .fail_fast_after = absl::Seconds(1)});
    if (!client.ok()) ADD_FAILURE() << client.status();
    return std::make_shared<RedisBackend>(*std::move(client));
  };
  CacheOptions options;
  options.prefix = KeyPrefix::Literal("c:");
  options.recovery = {.max_keys = 20'000, .retry_every = absl::Milliseconds(50)};
  const Cache cache(connect(), options);
  std::vector<std::pair<std::string, std::string>> items;
  for (int i = 0; i < 10'000; ++i) items.emplace_back(internal::StrCat("k", i), "ours");
  ASSERT_TRUE(cache.Ping().ok());
  server.Kill();
  EXPECT_FALSE(cache.SetMany(items, {.ttl = Ttl::After(absl::Minutes(10))}).ok());
  EXPECT_EQ(cache.recovering(), 10'000u);
  server.Start();
  // While that goes on; whether before or after a key's turn, this is newer.
  const Cache another(connect(), {.prefix = KeyPrefix::Literal("c:")});
  for (int i = 0; i < 10'000; i += 50) {
    ASSERT_TRUE(another.Set(internal::StrCat("k", i), std::string("newer")).ok());
  }
  ASSERT_TRUE(Eventually([&] { return cache.recovering() == 0; }, absl::Seconds(60)));
  EXPECT_EQ(cache.Get<std::string>("k9999")->value_or(""), "ours");
  for (int i = 0; i < 10'000; i += 50) {
    EXPECT_NE(another.Get<std::string>(internal::StrCat("k", i))->value_or(""), "ours");
  }
  cache.Close();
}

}  // namespace
}  // namespace coord
