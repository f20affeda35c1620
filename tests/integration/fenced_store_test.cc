// Writes that only the newest holder of a lock may make.
#include "coord/fenced_store.h"

#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;

constexpr char kValue[] = "coord:{state}:fenced";
constexpr char kSeen[] = "coord:{state}:seen";
constexpr std::uint64_t kLargest = (std::uint64_t{1} << 53) - 1;

// Numbers that do not order holders cannot be passed.
static_assert(!std::is_invocable_v<decltype(&FencedStore::Set), const FencedStore&, std::uint64_t,
                                   std::string_view, FencedOptions, CallOptions>);

Client ConnectTo(const std::string& url) {
  absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class FencedStoreTest : public ::testing::Test {
 protected:
  bool Set(std::uint64_t token, const std::string& value) {
    const absl::StatusOr<FencedResult> result = store_.Set(FencingToken(token), value);
    EXPECT_OK(result.status());
    return result.ok() && result->applied;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
  FencedStore store_{client_, "state"};
};

TEST_F(FencedStoreTest, TakesTheSameAndLargerTokensAndRefusesSmallerOnes) {
  EXPECT_TRUE(Set(100, "a"));
  EXPECT_TRUE(Set(100, "b"));
  EXPECT_TRUE(Set(1000, "c"));  // not as texts compare
  ASSERT_OK_AND_ASSIGN(const FencedResult refused, store_.Set(FencingToken(999), "d"));
  EXPECT_FALSE(refused.applied);
  EXPECT_EQ(refused.token, FencingToken(1000));
  ASSERT_OK_AND_ASSIGN(const FencedValue found, store_.Get());
  EXPECT_EQ(found.value, "c");
  EXPECT_EQ(found.token, FencingToken(1000));
  EXPECT_TRUE(Set(kLargest, "e"));
  EXPECT_FALSE(Set(kLargest - 1, "f"));
  EXPECT_EQ(redis_.Text({"GET", kValue}), "e");
}

TEST_F(FencedStoreTest, APausedHolderOfALockCannotWriteBehindTheNext) {
  const Mutex mutex(client_, "deploy", {.ttl = absl::Milliseconds(50)});
  ASSERT_OK_AND_ASSIGN(Lease first, mutex.TryAcquire());
  const FencingToken old = first.token();
  redis_.Command({"DEL", "coord:{deploy}:lease"});  // as if it had been paused beyond its lease
  ASSERT_OK_AND_ASSIGN(Lease second, mutex.Acquire(absl::Seconds(5)));
  ASSERT_OK_AND_ASSIGN(const FencedResult applied, store_.Set(second.token(), "second"));
  EXPECT_TRUE(applied.applied);
  ASSERT_OK_AND_ASSIGN(const FencedResult late, store_.Set(old, "first"));
  EXPECT_FALSE(late.applied);
  EXPECT_EQ(late.token, second.token());
}

TEST_F(FencedStoreTest, NothingWrittenIsNoValueAndNoToken) {
  ASSERT_OK_AND_ASSIGN(const FencedValue found, store_.Get());
  EXPECT_EQ(found.value, std::nullopt);
  EXPECT_EQ(found.token, FencingToken());
}

TEST_F(FencedStoreTest, AnyBytesAreKept) {
  const std::string bytes("\0\r\n\xff", 4);
  EXPECT_TRUE(Set(5, bytes));
  ASSERT_OK_AND_ASSIGN(const FencedValue found, store_.Get());
  EXPECT_EQ(found.value, bytes);
  EXPECT_TRUE(Set(5, ""));
  ASSERT_OK_AND_ASSIGN(const FencedValue empty, store_.Get());
  EXPECT_EQ(empty.value, "");
}

TEST_F(FencedStoreTest, AValueThatRanOutLeavesItsTokenForTwoDays) {
  ASSERT_OK(store_.Set(FencingToken(7), "x", {.ttl = absl::Milliseconds(30)}).status());
  EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kValue}) == 0; }));
  EXPECT_GT(redis_.Integer({"PTTL", kSeen}), 47 * 3'600'000);
  EXPECT_FALSE(Set(6, "late"));
  ASSERT_OK_AND_ASSIGN(const FencedValue found, store_.Get());
  EXPECT_EQ(found.value, std::nullopt);
  EXPECT_EQ(found.token, FencingToken(7));
  EXPECT_TRUE(Set(7, "stays"));
  EXPECT_EQ(redis_.Integer({"PTTL", kValue}), -1);
  EXPECT_EQ(redis_.Integer({"PTTL", kSeen}), -1);  // as long as what it guards
}

TEST_F(FencedStoreTest, ManyWritersEndWithTheLargestToken) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (std::uint64_t n = 0; n < 50; ++n) {
        const std::uint64_t token = 1 + n * 8 + static_cast<std::uint64_t>(i);
        EXPECT_OK(store_.Set(FencingToken(token), std::to_string(token)).status());
        const absl::StatusOr<FencedValue> found = store_.Get();
        EXPECT_OK(found.status());
        EXPECT_EQ(found->value, std::to_string(found->token.value()));  // of one moment
        EXPECT_GE(found->token.value(), token);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(redis_.Text({"GET", kValue}), "400");
}

TEST_F(FencedStoreTest, ALostReplyIsUnknownAndNotRepeated) {
  const RedisServer remote({.port = 0});
  RawRedis raw(remote);
  FaultProxy proxy(remote.url());
  const FencedStore store(ConnectTo(proxy.url()), "state");
  ASSERT_OK(store.Set(FencingToken(1), "a").status());
  raw.Command({"CONFIG", "RESETSTAT"});
  proxy.ResetBeforeReply();
  const absl::Status unknown = store.Set(FencingToken(2), "b").status();
  EXPECT_TRUE(IsOutcomeUnknown(unknown)) << unknown;
  EXPECT_EQ(CommandCalls(raw, "evalsha") + CommandCalls(raw, "eval"), 1);
}

TEST_F(FencedStoreTest, EachCallIsOneRoundTrip) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_TRUE(Set(1, "a"));
  ASSERT_OK(store_.Get().status());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 2);
}

TEST_F(FencedStoreTest, KeysOfAnotherTypeAreReportedAndLeftAlone) {
  redis_.Command({"RPUSH", kValue, "a"});
  EXPECT_THAT(store_.Set(FencingToken(1), "x").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Integer({"LLEN", kValue}), 1);
  EXPECT_EQ(redis_.Integer({"EXISTS", kSeen}), 0);
  redis_.Command({"DEL", kValue});
  redis_.Command({"SET", kSeen, "no token"});
  EXPECT_THAT(store_.Set(FencingToken(1), "x").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(redis_.Text({"GET", kSeen}), "no token");
  EXPECT_EQ(redis_.Integer({"EXISTS", kValue}), 0);
}

TEST_F(FencedStoreTest, BadArgumentsReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(store_.Set(FencingToken(), "x").status(), refused);
  EXPECT_THAT(store_.Set(FencingToken(kLargest + 1), "x").status(), refused);
  EXPECT_THAT(store_.Set(FencingToken(1), "x", {.ttl = absl::ZeroDuration()}).status(), refused);
  EXPECT_THAT(store_.Set(FencingToken(1), std::string((64u << 20) + 1, 'x')).status(), refused);
  const FencedStore bad(client_, "}");
  EXPECT_THAT(bad.Set(FencingToken(1), "x").status(), refused);
  EXPECT_THAT(bad.Get().status(), refused);
  EXPECT_EQ(AllCalls(redis_), 0);
}

}  // namespace
}  // namespace coord
