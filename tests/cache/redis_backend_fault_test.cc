// RedisBackend while replies are lost, servers die and come back: what cannot be known is said, and
// no answer is made up.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "cache/redis_backend.h"
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

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::IsOkAndHolds;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Stopwatch;
using internal::StrCat;
using ::testing::Each;
using ::testing::Field;
using ::testing::Optional;

CallOptions Within(absl::Duration timeout) { return {.timeout = timeout}; }

Client ConnectTo(const std::string& url) {
  ClientOptions options;
  options.timeout = absl::Seconds(20);
  absl::StatusOr<Client> client = Client::Connect(url, options);
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

auto None() { return ::testing::Eq(std::nullopt); }
auto Value(std::string_view text) { return Optional(Field(&Stored::value, std::string(text))); }

class RedisBackendFaultTest : public ::testing::Test {
 protected:
  // Of the next call; that of signing in is not lost.
  void LoseReply() {
    EXPECT_OK(backend_.Ping());
    proxy_.ResetBeforeReply();
  }

  RedisServer server_{{.port = 0}};
  FaultProxy proxy_{server_.url()};
  RawRedis redis_{server_};
  RedisBackend backend_{ConnectTo(proxy_.url())};
};

TEST_F(RedisBackendFaultTest, AWriteWhoseReplyIsLostIsUnknownAndWasMadeOnce) {
  LoseReply();
  absl::StatusOr<bool> set = backend_.Set({"k", "1"}, SetIf::kAbsent);
  EXPECT_TRUE(IsOutcomeUnknown(set.status())) << set.status();
  EXPECT_TRUE(Eventually([&] { return redis_.Text({"GET", "k"}) == "1"; }));
  EXPECT_EQ(CommandCalls(redis_, "set"), 1);

  LoseReply();
  set = backend_.Set({"k", "2"});
  EXPECT_TRUE(IsOutcomeUnknown(set.status())) << set.status();
  EXPECT_EQ(CommandCalls(redis_, "set"), 2);

  LoseReply();
  EXPECT_TRUE(IsOutcomeUnknown(backend_.SetMany(std::vector<Write>{{"a", "1"}, {"b", "2"}})));
  EXPECT_EQ(CommandCalls(redis_, "set"), 4);

  LoseReply();
  EXPECT_TRUE(IsOutcomeUnknown(backend_.Expire("k", absl::Seconds(90)).status()));
  LoseReply();
  EXPECT_TRUE(IsOutcomeUnknown(backend_.Persist("k").status()));
  LoseReply();
  EXPECT_TRUE(IsOutcomeUnknown(backend_.Delete("k").status()));
  LoseReply();
  EXPECT_TRUE(IsOutcomeUnknown(backend_.DeleteMany(std::vector<std::string>{"a", "b"}).status()));
  EXPECT_EQ(CommandCalls(redis_, "unlink"), 2);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
}

TEST_F(RedisBackendFaultTest, AWriteThatIsNotAnsweredInTimeIsUnknown) {
  proxy_.Set(Direction::kReplies, {.drop = true});
  const absl::StatusOr<bool> set =
      backend_.Set({"k", "1"}, SetIf::kAbsent, Within(absl::Milliseconds(300)));
  EXPECT_EQ(set.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(IsOutcomeUnknown(set.status())) << set.status();
}

TEST_F(RedisBackendFaultTest, AReadWhoseReplyIsLostIsMadeAgain) {
  redis_.Command({"SET", "k", "1"});
  const std::vector<std::string> keys = {"k", "k"};
  LoseReply();
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(Value("1")));
  LoseReply();
  EXPECT_THAT(backend_.Get("k", Want::kValueAndTtl), IsOkAndHolds(Value("1")));
  LoseReply();
  EXPECT_THAT(backend_.GetMany(keys), IsOkAndHolds(Each(Value("1"))));
  LoseReply();
  EXPECT_THAT(backend_.GetMany(keys, Want::kValueAndTtl), IsOkAndHolds(Each(Value("1"))));
  LoseReply();
  EXPECT_THAT(backend_.Exists("k"), IsOkAndHolds(true));
  LoseReply();
  EXPECT_THAT(backend_.Ttl("k"), IsOkAndHolds(TimeLeft::Forever()));
  LoseReply();
  EXPECT_OK(backend_.Ping());
  LoseReply();
  ASSERT_OK_AND_ASSIGN(const ScanPage page, backend_.Scan("*"));
  EXPECT_THAT(page.keys, ::testing::ElementsAre("k"));
  EXPECT_EQ(CommandCalls(redis_, "get"), 4);
  EXPECT_EQ(CommandCalls(redis_, "mget"), 4);
}

TEST_F(RedisBackendFaultTest, ATruncatedReplyIsNeverAShortValue) {
  const std::string value(100'000, 'v');
  redis_.Command({"SET", "k", value});
  const std::vector<std::string> keys = {"k", "k"};
  for (const Want want : {Want::kValue, Want::kValueAndTtl}) {
    for (const std::uint64_t bytes : {1, 9, 50'000, 100'000, 100'008}) {
      proxy_.Set(Direction::kReplies, {.truncate_after = bytes, .once = true});
      EXPECT_THAT(backend_.Get("k", want), IsOkAndHolds(Value(value)));
      proxy_.Set(Direction::kReplies, {.truncate_after = bytes, .once = true});
      EXPECT_THAT(backend_.GetMany(keys, want), IsOkAndHolds(Each(Value(value))));
    }
  }
  // Each time anew, so that the time runs out.
  ASSERT_OK(backend_.Ping());
  proxy_.Set(Direction::kReplies, {.truncate_after = 50'000});
  for (const Want want : {Want::kValue, Want::kValueAndTtl}) {
    EXPECT_FALSE(backend_.Get("k", want, Within(absl::Milliseconds(500))).ok());
    EXPECT_FALSE(backend_.GetMany(keys, want, Within(absl::Milliseconds(500))).ok());
  }
}

TEST_F(RedisBackendFaultTest, SingleBytesGiveTheSameAnswers) {
  redis_.Command({"SET", "k", "some value"});
  proxy_.Set(Direction::kReplies, {.chunk = 1});
  proxy_.Set(Direction::kRequests, {.chunk = 1});
  EXPECT_THAT(backend_.Set({"a", "1", absl::Seconds(90)}, SetIf::kAbsent), IsOkAndHolds(true));
  EXPECT_THAT(backend_.Get("k", Want::kValueAndTtl), IsOkAndHolds(Value("some value")));
  EXPECT_THAT(backend_.GetMany(std::vector<std::string>{"k", "k"}, Want::kValueAndTtl),
              IsOkAndHolds(Each(Value("some value"))));
}

TEST_F(RedisBackendFaultTest, AServerThatDiesIsUnavailableWithinTheTimeAndFoundAgain) {
  redis_.Command({"SET", "k", "1"});
  ASSERT_OK(backend_.Ping());
  server_.Kill();
  const CallOptions brief = Within(absl::Milliseconds(500));
  const std::vector<std::string> keys = {"k"};
  const Stopwatch watch;
  for (const absl::Status& status :
       {backend_.Get("k", Want::kValue, brief).status(),
        backend_.Get("k", Want::kValueAndTtl, brief).status(),
        backend_.GetMany(keys, Want::kValue, brief).status(),
        backend_.GetMany(keys, Want::kValueAndTtl, brief).status(),
        backend_.Set({"k", "2"}, SetIf::kAlways, brief).status(),
        backend_.SetMany(std::vector<Write>{{"k", "2"}}, brief),
        backend_.Delete("k", brief).status(), backend_.Persist("k", brief).status(),
        backend_.Scan("*", {}, 10, brief).status(), backend_.DeleteMatching("k*", brief).status(),
        backend_.Ping(brief)}) {
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  }
  EXPECT_LT(watch.elapsed(), absl::Seconds(20));  // eleven calls of half a second
  server_.Start();
  EXPECT_TRUE(Eventually([&] { return backend_.Ping().ok(); }));
  EXPECT_THAT(backend_.Get("k"), IsOkAndHolds(None()));
  EXPECT_THAT(backend_.Set({"k", "3"}), IsOkAndHolds(true));
}

TEST_F(RedisBackendFaultTest, ARestartIsAMissWhereNothingWasKept) {
  ASSERT_OK(backend_.Set({"k", "1"}).status());
  server_.Restart(RedisServer::Data::kDrop);
  EXPECT_THAT(backend_.Get("k", Want::kValueAndTtl), IsOkAndHolds(None()));
  EXPECT_THAT(backend_.Persist("k"), IsOkAndHolds(false));
}

TEST_F(RedisBackendFaultTest, DeletingThatIsInterruptedSaysHowFarItCame) {
  for (int i = 0; i < 4000; ++i) redis_.Command({"SET", StrCat("app:", i), "v"});
  ASSERT_OK(backend_.Ping());
  proxy_.Set(Direction::kReplies, {.truncate_after = 30'000});
  proxy_.Refuse(true);  // the next connection
  const absl::StatusOr<std::int64_t> gone =
      backend_.DeleteMatching("app:*", Within(absl::Seconds(2)));
  proxy_.Heal();
  ASSERT_FALSE(gone.ok());
  const std::int64_t left = redis_.Integer({"DBSIZE"});
  EXPECT_GT(left, 0);
  EXPECT_LT(left, 4000);
  EXPECT_THAT(gone.status().ToString(), ::testing::HasSubstr(" are gone"));
  EXPECT_TRUE(Eventually([&] { return backend_.Ping().ok(); }));
  ASSERT_OK_AND_ASSIGN(const std::int64_t rest, backend_.DeleteMatching("app:*"));
  EXPECT_EQ(rest, left);
}

}  // namespace
}  // namespace coord
