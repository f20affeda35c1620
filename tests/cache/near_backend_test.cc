// The near cache when nothing goes wrong, and what it does where it cannot be one.
#include "cache/near_backend.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cache/near_fixture.h"
#include "tests/support/process.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::MustConnect;
using ::coord::testing::Near;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using internal::StrCat;
using ::testing::HasSubstr;

class NearBackendTest : public ::testing::Test {
 protected:
  void Put(const std::string& key, const std::string& value) {
    EXPECT_EQ(redis_.Text({"SET", key, value}), "OK");
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = MustConnect(server_.url());
};

TEST_F(NearBackendTest, WhatWasReadOnceIsReadWithoutARoundTripUntilAnotherClientWritesIt) {
  Put("k:1", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_OK(near.cache->inactive_because());
  EXPECT_EQ(near.Read("k:1"), "a");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(near.Read("k:1"), "a");
  EXPECT_EQ(CommandCalls(redis_, "get"), 1);
  EXPECT_EQ(near.cache->usage()->entries, 1U);
  Put("k:1", "b");
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "b"; }));
  EXPECT_EQ(near.Read("k:1"), "b");
  EXPECT_EQ(CommandCalls(redis_, "get"), 2);
  redis_.Command({"DEL", "k:1"});
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "(none)"; }));
  const NearBackend::Stats stats = near.cache->stats();
  EXPECT_GE(stats.local_hits, 101U);
  EXPECT_EQ(stats.remote_hits, 2U);
  EXPECT_EQ(stats.misses, 1U);
  EXPECT_EQ(stats.gaps, 0U);
}

TEST_F(NearBackendTest, WhatIsNotThereIsAskedForEachTime) {
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(near.Read("k:1"), "(none)");
  EXPECT_EQ(CommandCalls(redis_, "get"), 3);
}

TEST_F(NearBackendTest, KeysThatItDoesNotCoverPassThrough) {
  Put("other", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(near.Read("other"), "a");
  EXPECT_EQ(CommandCalls(redis_, "get"), 3);
  EXPECT_EQ(near.cache->usage()->entries, 0U);
}

TEST_F(NearBackendTest, AProcessReadsItsOwnWrites) {
  const Near near(client_);
  NearBackend& cache = *near.cache;
  ASSERT_TRUE(near.BecomesActive());
  const std::string key = "k:1";
  const std::vector<std::string> keys = {key};
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(cache.Set({key, StrCat("set", i)}), IsOkAndHolds(true));
    EXPECT_EQ(near.Read(key), StrCat("set", i));
    const Write writes[] = {{key, "many"}};
    EXPECT_OK(cache.SetMany(writes));
    EXPECT_EQ(near.Read(key), "many");
    EXPECT_THAT(cache.Delete(key), IsOkAndHolds(true));
    EXPECT_EQ(near.Read(key), "(none)");
    EXPECT_THAT(cache.Set({key, "again"}, SetIf::kAbsent), IsOkAndHolds(true));
    EXPECT_EQ(near.Read(key), "again");
    EXPECT_THAT(cache.DeleteMany(keys), IsOkAndHolds(1));
    EXPECT_EQ(near.Read(key), "(none)");
    EXPECT_THAT(cache.Set({key, "once more"}), IsOkAndHolds(true));
    EXPECT_EQ(near.Read(key), "once more");
    EXPECT_THAT(cache.DeleteMatching("k:*"), IsOkAndHolds(1));
    EXPECT_EQ(near.Read(key), "(none)");
  }
}

TEST_F(NearBackendTest, BatchesAskForWhatIsNotLocalAndNothingElse) {
  for (int i = 0; i < 4; ++i) Put(StrCat("k:", i), StrCat(i));
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "1");
  const std::vector<std::string> keys = {"k:0", "k:1", "k:2", "none", "k:0"};
  for (int turn = 0; turn < 2; ++turn) {
    redis_.Command({"CONFIG", "RESETSTAT"});
    absl::StatusOr<std::vector<std::optional<Stored>>> got = near.cache->GetMany(keys);
    ASSERT_OK(got.status());
    ASSERT_EQ(got->size(), 5U);
    EXPECT_EQ((*got)[0]->value, "0");
    EXPECT_EQ((*got)[1]->value, "1");
    EXPECT_EQ((*got)[2]->value, "2");
    EXPECT_FALSE((*got)[3].has_value());
    EXPECT_EQ((*got)[4]->value, "0");
    EXPECT_FALSE((*got)[0]->left.has_value());
  }
  EXPECT_EQ(near.Copy("k:2"), "2");
  redis_.Command({"CONFIG", "RESETSTAT"});
  const std::vector<std::string> local = {"k:0", "k:1"};
  EXPECT_OK(near.cache->GetMany(local).status());
  EXPECT_EQ(CommandCalls(redis_, "mget") + CommandCalls(redis_, "get"), 0);
}

TEST_F(NearBackendTest, ACopyNeverHasMoreTimeLeftThanItsKey) {
  const Near near(client_, {"k:"}, absl::Seconds(5));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(redis_.Text({"SET", "k:short", "a", "PX", "3000"}), "OK");
  EXPECT_EQ(redis_.Text({"SET", "k:long", "a", "PX", "600000"}), "OK");
  Put("k:ever", "a");
  for (const char* key : {"k:short", "k:long", "k:ever"}) {
    EXPECT_EQ(near.Read(key), "a");
    const absl::StatusOr<TimeLeft> copy = near.local->Ttl(key);
    const std::int64_t left = redis_.Integer({"PTTL", key});
    ASSERT_OK(copy.status());
    EXPECT_LE(copy->left(), absl::Seconds(5));
    // The copy was looked at before, so it may have what passed between the two more.
    if (std::string_view(key) == "k:short" && copy->kind() != TimeLeft::Kind::kMissing) {
      EXPECT_LT(copy->left(), absl::Milliseconds(3000));
      EXPECT_GT(left, 0);
    }
  }
}

TEST_F(NearBackendTest, WhatExpiresAtTheServerIsGoneHereNoLater) {
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  for (int i = 0; i < 20; ++i) {
    const std::string key = StrCat("k:", i);
    EXPECT_EQ(redis_.Text({"SET", key, "a", "PX", StrCat(20 + i)}), "OK");
    (void)near.Read(key);
    std::string copy;
    EXPECT_TRUE(Eventually([&] {
      // In this order: whatever the server does not have any more, we must not have afterwards.
      const bool gone = redis_.Command({"GET", key}).is_nil();
      copy = near.Copy(key);
      return gone;
    }));
    EXPECT_EQ(copy, "(none)");
  }
}

TEST_F(NearBackendTest, AnotherClientsShorterTimeToLiveDropsTheCopy) {
  Put("k:1", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "a");
  EXPECT_EQ(redis_.Integer({"PEXPIRE", "k:1", "50"}), 1);
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "(none)"; }));
}

TEST_F(NearBackendTest, AskedForTheTimeToLiveItAsksTheServer) {
  EXPECT_EQ(redis_.Text({"SET", "k:1", "a", "PX", "600000"}), "OK");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<std::optional<Stored>> got = near.cache->Get("k:1", Want::kValueAndTtl);
    ASSERT_OK(got.status());
    ASSERT_TRUE(got->has_value());
    EXPECT_GT((*got)->left.value_or(absl::ZeroDuration()), absl::Seconds(500));
  }
  EXPECT_EQ(near.Copy("k:1"), "a");
}

TEST_F(NearBackendTest, WhatOthersOfThisClientChangeCanBeForgottenAtOnce) {
  Put("k:1", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "a");
  EXPECT_OK(client_.Command({"APPEND", "k:1", "b"}).status());
  near.cache->Forget("k:1");
  EXPECT_EQ(near.Read("k:1"), "ab");
}

TEST_F(NearBackendTest, SeveralOverOneClientWithOverlappingPrefixesAllHear) {
  Put("k:a:1", "a");
  auto wide = std::make_unique<Near>(client_, std::vector<std::string>{"k:", "other"});
  const Near narrow(client_, {"k:a:", "k:a:b"});
  ASSERT_TRUE(wide->BecomesActive());
  ASSERT_TRUE(narrow.BecomesActive());
  EXPECT_EQ(wide->Read("k:a:1"), "a");
  EXPECT_EQ(narrow.Read("k:a:1"), "a");
  Put("k:a:1", "b");
  EXPECT_TRUE(Eventually([&] { return wide->Read("k:a:1") == "b"; }));
  EXPECT_TRUE(Eventually([&] { return narrow.Read("k:a:1") == "b"; }));
  wide.reset();
  EXPECT_TRUE(narrow.BecomesActive());
  EXPECT_EQ(narrow.Read("k:a:1"), "b");
  EXPECT_EQ(narrow.Copy("k:a:1"), "b");
  Put("k:a:1", "c");
  EXPECT_TRUE(Eventually([&] { return narrow.Read("k:a:1") == "c"; }));
}

TEST_F(NearBackendTest, AClosedClientIsRefusedAsTheClientDoes) {
  Put("k:1", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "a");
  client_.Close();
  EXPECT_FALSE(near.cache->active());
  EXPECT_THAT(near.cache->Get("k:1"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(near.cache->inactive_because(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(NearBackendTest, ClosedItRefusesAndLeavesTheClientOpen) {
  Put("k:1", "a");
  const Near near(client_);
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "a");
  near.cache->Close();
  near.cache->Close();
  EXPECT_THAT(near.cache->Get("k:1"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(client_.Command({"PING"}).status());
}

TEST_F(NearBackendTest, AForkedChildIsRefusedAndTheParentGoesOn) {
  Put("k:1", "a");
  auto near = std::make_unique<Near>(client_);
  ASSERT_TRUE(near->BecomesActive());
  EXPECT_EQ(near->Read("k:1"), "a");
  testing::Process child = testing::ForkAndRun([&]() -> int {
    if (near->cache->active()) return 1;
    if (near->cache->Get("k:1").status().code() != absl::StatusCode::kFailedPrecondition) return 2;
    if (near->cache->Set({"k:1", "b"}).ok()) return 3;
    if (near->cache->DeleteMatching("k:*").ok()) return 4;
    near.reset();
    return 0;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(near->Read("k:1"), "a");
}

TEST_F(NearBackendTest, WithoutTheRightToTrackEverythingPassesToTheServer) {
  EXPECT_EQ(
      redis_.Text({"ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", "-client|tracking"}),
      "OK");
  Put("k:1", "a");
  const Near near(MustConnect(StrCat("unix://poor:pw@", server_.socket_path())));
  EXPECT_TRUE(Eventually([&] { return !near.cache->inactive_because().ok(); }));
  EXPECT_THAT(near.cache->inactive_because(),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("client|tracking")));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(near.Read("k:1"), "a");
  EXPECT_EQ(CommandCalls(redis_, "get"), 3);
  EXPECT_FALSE(near.cache->active());
}

// Over RESP2 a server takes CLIENT TRACKING, and tells nothing.
TEST(NearOldServerTest, WithoutResp3EverythingPassesToTheServer) {
  testing::RedisServerOptions options;
  options.config = "rename-command HELLO \"\"\n";
  const RedisServer server(options);
  RawRedis redis(server);
  EXPECT_EQ(redis.Text({"SET", "k:1", "a"}), "OK");
  const Near near(MustConnect(server.url()));
  EXPECT_TRUE(Eventually([&] { return !near.cache->inactive_because().ok(); }));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(near.Read("k:1"), "a");
  EXPECT_EQ(CommandCalls(redis, "get"), 3);
  EXPECT_FALSE(near.cache->active());
}

TEST_F(NearBackendTest, BadOptionsAreRefused) {
  const auto remote = std::make_shared<RedisBackend>(client_);
  MemoryOptions memory;
  memory.max_entries = 10;
  const auto local = std::make_shared<MemoryBackend>(memory);
  const auto make = [&](std::shared_ptr<Backend> from, NearOptions options) {
    return NearBackend::Make(std::move(from), local, std::move(options)).status();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_OK(make(remote, {.prefixes = {""}}));
  EXPECT_THAT(make(remote, {}), StatusIs(kInvalid, HasSubstr("prefixes")));
  EXPECT_THAT(make(remote, {.prefixes = {std::string(1025, 'a')}}), StatusIs(kInvalid));
  EXPECT_THAT(make(remote, {.prefixes = {""}, .max_local_ttl = absl::ZeroDuration()}),
              StatusIs(kInvalid, HasSubstr("max_local_ttl")));
  EXPECT_THAT(make(local, {.prefixes = {""}}), StatusIs(kInvalid, HasSubstr("memory")));
  EXPECT_THAT(make(nullptr, {.prefixes = {""}}), StatusIs(kInvalid));
}

}  // namespace
}  // namespace coord
