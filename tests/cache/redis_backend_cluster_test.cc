// RedisBackend on a real Cluster, and before Sentinels.
//
// Each takes 3 to 10 s: what a Cluster and a Sentinel group need to find themselves.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cache/internal/scan_cursor.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/deployment.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"
#include "tools/dev/sentinels.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::OrFatal;
using ::coord::testing::StatusIs;
using internal::StrCat;

Client ConnectTo(const std::string& url) {
  ClientOptions options;
  options.timeout = options.connect_timeout = absl::Seconds(20);
  return OrFatal(Client::Connect(url, options));
}

// All from there to the end; an error ends it.
absl::StatusOr<std::set<std::string>> Walk(RedisBackend& backend, std::string_view pattern,
                                           std::string cursor = {}) {
  std::set<std::string> all;
  do {
    absl::StatusOr<ScanPage> page = backend.Scan(pattern, cursor);
    if (!page.ok()) return page.status();
    all.insert(page->keys.begin(), page->keys.end());
    cursor = page->cursor;
  } while (!cursor.empty());
  return all;
}

TEST(RedisBackendClusterTest, BatchesReachAllMasters) {
  const auto cluster = OrFatal(dev::Cluster::Start({.replicas = 0}));
  RedisBackend backend(ConnectTo(cluster->url()));
  std::vector<std::string> keys;
  for (int i = 0; i < 300; ++i) keys.push_back(StrCat("key:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, key, absl::Seconds(90)});
  ASSERT_OK(backend.SetMany(writes));
  keys.push_back("none");
  ASSERT_OK(backend.client()->Command({"HSET", "hash", "f", "v"}).status());
  keys.push_back("hash");
  for (const Want want : {Want::kValue, Want::kValueAndTtl}) {
    ASSERT_OK_AND_ASSIGN(const auto found, backend.GetMany(keys, want));
    ASSERT_EQ(found.size(), keys.size());
    for (std::size_t i = 0; i < 300; ++i) {
      ASSERT_TRUE(found[i].has_value()) << keys[i];
      EXPECT_EQ(found[i]->value, keys[i]);
      EXPECT_EQ(found[i]->left.has_value(), want == Want::kValueAndTtl);
      EXPECT_GT(found[i]->left.value_or(absl::InfiniteDuration()), absl::Seconds(10));
    }
    EXPECT_FALSE(found[300].has_value());
    EXPECT_FALSE(found[301].has_value());
  }
  EXPECT_THAT(backend.Persist("key:0"), IsOkAndHolds(true));
  EXPECT_THAT(backend.Get("hash"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(backend.Ping());
  EXPECT_THAT(backend.DeleteMany(keys), IsOkAndHolds(301));
  ASSERT_OK_AND_ASSIGN(const std::set<std::string> left, Walk(backend, "*"));
  EXPECT_TRUE(left.empty());
}

TEST(RedisBackendClusterTest, WalkingAndDeletingReachAllMastersAndSpareThePrimitives) {
  const auto cluster = OrFatal(dev::Cluster::Start({.replicas = 0}));
  const Client client = ConnectTo(cluster->url());
  RedisBackend backend(client), other(ConnectTo(cluster->url()));
  std::vector<std::string> keys;
  for (int i = 0; i < 900; ++i) keys.push_back(StrCat("coord:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, "v"});
  ASSERT_OK(backend.SetMany(writes));
  ASSERT_OK(Counter(client, "hits").Add(1, {.operation_id = OperationId::New()}).status());
  // Their answers lie beside them.
  for (const std::string_view key : {"plain", "app:{user}:hits"}) {
    ASSERT_OK(Counter::OnKey(client, key).Add(1, {.operation_id = OperationId::New()}).status());
  }
  EXPECT_THAT(Counter::OnKey(client, "a}b").Add(1, {.operation_id = OperationId::New()}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  // Each page by another client.
  std::set<std::string> all;
  std::string cursor;
  bool turn = false;
  do {
    turn = !turn;
    ASSERT_OK_AND_ASSIGN(const ScanPage page, (turn ? backend : other).Scan("coord:*", cursor, 50));
    all.insert(page.keys.begin(), page.keys.end());
    cursor = page.cursor;
  } while (!cursor.empty());
  EXPECT_EQ(all, std::set<std::string>(keys.begin(), keys.end()));
  EXPECT_THAT(backend.DeleteMatching("coord:*"), IsOkAndHolds(900));
  EXPECT_THAT(Counter(client, "hits").Get(), IsOkAndHolds(1));
}

TEST(RedisBackendClusterTest, AWalkBeginsAnewWhenAMasterIsAnother) {
  const auto cluster = OrFatal(dev::Cluster::Start());
  RedisBackend backend(ConnectTo(cluster->url()));
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(StrCat("key:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, "v"});
  ASSERT_OK(backend.SetMany(writes));
  ASSERT_OK_AND_ASSIGN(const ScanPage page, backend.Scan("key:*"));
  ASSERT_FALSE(page.cursor.empty());
  OrFatal(cluster->Failover(OrFatal(cluster->replicas_of(0)).front()));
  // Who comes now knows of it at once, who was there before as soon as it finds out.
  RedisBackend fresh(ConnectTo(cluster->url()));
  EXPECT_THAT(fresh.Scan("key:*", page.cursor), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK_AND_ASSIGN(const std::set<std::string> all, Walk(fresh, "key:*"));
  EXPECT_EQ(all, std::set<std::string>(keys.begin(), keys.end()));
  ASSERT_OK_AND_ASSIGN(const ScanPage first, backend.Scan("key:*"));
  EXPECT_THAT(backend.Scan("key:*", page.cursor), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(backend.Scan("key:*", first.cursor).status());
}

// Takes some 7 s.
TEST(RedisBackendClusterTest, AWalkThatStandsAtAMasterThatDiesIsUnavailableAndThenBeginsAnew) {
  const auto cluster = OrFatal(dev::Cluster::Start());
  RedisBackend backend(ConnectTo(cluster->url()));
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(StrCat("key:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, "v"});
  ASSERT_OK(backend.SetMany(writes));
  ASSERT_OK_AND_ASSIGN(const ScanPage page, backend.Scan("key:*", {}, 10));
  // The walk goes by their names.
  std::vector<std::pair<std::string, std::size_t>> masters;
  for (std::size_t i = 0; i < 3; ++i) {
    masters.emplace_back(StrCat("127.0.0.1:", cluster->node(i).port()), i);
  }
  std::sort(masters.begin(), masters.end());
  const auto place = internal::DecodeScanCursor(page.cursor);
  ASSERT_TRUE(place.has_value());
  ASSERT_EQ(place->master, 0u);
  OrFatal(cluster->WaitUntilOk());
  cluster->KillNode(masters[0].second);
  const CallOptions brief{.timeout = absl::Milliseconds(300)};
  const absl::Status status = backend.Scan("key:*", page.cursor, 10, brief).status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_TRUE(Eventually(
      [&] {
        return backend.Scan("key:*", page.cursor, 10, brief).status().code() ==
               absl::StatusCode::kAborted;
      },
      absl::Seconds(30)));
  EXPECT_OK(backend.DeleteMatching("key:*").status());
}

// Takes some 7 s.
TEST(RedisBackendSentinelTest, AWalkBeginsAnewAfterAFailover) {
  const auto sentinels = OrFatal(dev::Sentinels::Start());
  RedisBackend backend(ConnectTo(sentinels->url()));
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(StrCat("key:", i));
  std::vector<Write> writes;
  for (const std::string& key : keys) writes.push_back({key, "v"});
  ASSERT_OK(backend.SetMany(writes));
  ASSERT_OK_AND_ASSIGN(ScanPage page, backend.Scan("key:*"));
  ASSERT_FALSE(page.cursor.empty());
  EXPECT_OK(backend.Scan("key:*", page.cursor).status());
  OrFatal(sentinels->Failover());
  EXPECT_TRUE(Eventually(
      [&] {
        return backend.Scan("key:*", page.cursor).status().code() == absl::StatusCode::kAborted;
      },
      absl::Seconds(30)));
  EXPECT_TRUE(Eventually([&] { return backend.DeleteMatching("key:*").ok(); }, absl::Seconds(30)));
  ASSERT_OK_AND_ASSIGN(const std::set<std::string> left, Walk(backend, "key:*"));
  EXPECT_TRUE(left.empty());
}

}  // namespace
}  // namespace coord
