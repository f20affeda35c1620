// Who waits is woken over the channel that it names: one with a brace is sharded, in the slot of
// the keys, and any other a plain one.
#include <ostream>
#include <string>
#include <vector>

#include "coord/internal/script.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scripts.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::testing::MatchesRegex;

struct Place {
  const char* name;
  bool cluster;
  const char* channel;
  const char* subscribe;
  const char* publish;  // as commandstats calls it
  friend void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }
};

class ShardedWakeTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (RedisServer::Version().major < 7) GTEST_SKIP() << "no sharded channels before 7.0";
    if (GetParam().cluster) {
      ASSERT_EQ(redis_.Text({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}), "OK");
      ASSERT_TRUE(Eventually(
          [&] {
            return !redis_.Command({"GET", "k"}).is_error();
          },
          absl::Seconds(20)));
    }
    const Reply subscribed = listener_.Command({GetParam().subscribe, GetParam().channel});
    ASSERT_TRUE(subscribed.is_array()) << subscribed.ToDebugString();
  }

  Reply Run(const internal::ScriptText& script, const std::vector<std::string>& keys,
            const std::vector<std::string>& args) {
    std::vector<std::string> command = {"EVAL", std::string(script.text),
                                        std::to_string(keys.size())};
    for (const std::string& key : keys) command.push_back("coord:{n}:" + key);
    command.insert(command.end(), args.begin(), args.end());
    Reply reply = redis_.Command(command);
    EXPECT_FALSE(reply.is_error()) << script.name << ": " << reply.ToDebugString();
    return reply;
  }

  // The one message that the scripts have sent, and the way in which they did.
  void ExpectMessage(const std::string& pattern) {
    EXPECT_THAT(listener_.NextMessage(), MatchesRegex(pattern));
    EXPECT_EQ(CommandCalls(redis_, GetParam().publish), 1);
    EXPECT_EQ(CommandCalls(redis_, "publish") + CommandCalls(redis_, "spublish"), 1);
  }

  const std::string channel_ = GetParam().channel;
  const std::vector<std::string> lock_keys_ = {"lease", "fence", "queue", "readers"};
  RedisServer server_{
      {.port = 0, .args = {"--cluster-enabled", GetParam().cluster ? "yes" : "no"}}};
  RawRedis redis_{server_};
  RawRedis listener_{server_};
};

INSTANTIATE_TEST_SUITE_P(Channels, ShardedWakeTest,
                         ::testing::Values(Place{"ShardedInACluster", true, "coord:{n}:wake:x",
                                                 "SSUBSCRIBE", "spublish"},
                                           Place{"PlainOnOneServer", false, "coord:wake:x",
                                                 "SUBSCRIBE", "publish"}),
                         [](const auto& place) { return place.param.name; });

TEST_P(ShardedWakeTest, AMutexWakesItsHeir) {
  Run(internal::kMutexAcquire, lock_keys_, {"A", "60000", "w"});
  Run(internal::kMutexAcquire, lock_keys_, {"B", "60000", "w", "50000", channel_, "0", "0"});
  EXPECT_EQ(Run(internal::kMutexRelease, lock_keys_, {"A"}), Reply::Integer(1));
  ExpectMessage("B [0-9]+ 50000");
}

// The way of all that include lock_queue, and not the short one that a release takes.
TEST_P(ShardedWakeTest, AWithdrawalWakesTheNextInTheQueue) {
  Run(internal::kMutexAcquire, lock_keys_, {"A", "60000", "w"});
  Run(internal::kMutexAcquire, lock_keys_, {"B", "60000", "w", "50000", channel_, "0", "0"});
  Run(internal::kMutexWithdraw, lock_keys_, {"A", "1000"});
  ExpectMessage("B [0-9]+ 50000");
}

TEST_P(ShardedWakeTest, AnRwMutexWakesItsReaders) {
  Run(internal::kMutexAcquire, lock_keys_, {"A", "60000", "w"});
  Run(internal::kRwMutexShare, lock_keys_, {"R", "60000", "r", "50000", channel_, "0", "0"});
  EXPECT_EQ(Run(internal::kMutexRelease, lock_keys_, {"A"}), Reply::Integer(1));
  ExpectMessage("R [0-9]+ 50000");
}

TEST_P(ShardedWakeTest, AnRwMutexWakesTheWriterBehindItsReaders) {
  Run(internal::kRwMutexShare, lock_keys_, {"R", "60000", "r"});
  Run(internal::kMutexAcquire, lock_keys_, {"W", "60000", "w", "50000", channel_, "0", "0"});
  EXPECT_EQ(Run(internal::kRwMutexUnshare, lock_keys_, {"R"}), Reply::Integer(1));
  ExpectMessage("W [0-9]+ 50000");
}

TEST_P(ShardedWakeTest, ASemaphoreWakesWhoWaitsForPermits) {
  const std::vector<std::string> keys = {"permits", "fence", "queue"};
  Run(internal::kSemaphoreAcquire, keys, {"A", "60000", "1", "1"});
  Run(internal::kSemaphoreAcquire, keys, {"B", "60000", "1", "1", "50000", channel_, "0", "0"});
  EXPECT_EQ(Run(internal::kSemaphoreRelease, keys, {"A", "1"}), Reply::Integer(1));
  ExpectMessage("B [0-9]+ 50000");
}

TEST_P(ShardedWakeTest, ABarrierWakesAllButTheLast) {
  const std::vector<std::string> keys = {"barrier", "alive", "order", "met"};
  Run(internal::kBarrierJoin, keys, {"2", "60000", "A", "50000", channel_});
  Run(internal::kBarrierJoin, keys, {"2", "60000", "B", "50000", "coord:{n}:wake:another"});
  ExpectMessage("A [0-9]+ 60000");
}

TEST_P(ShardedWakeTest, ALatchThatOpensWakesWhoWaits) {
  Run(internal::kLatchWait, {"latch", "waiters"}, {"1", "60000", "A", "50000", channel_, "0"});
  Run(internal::kLatchCount, {"latch", "waiters", "counted"}, {"1", "60000", "1", "op", "60000"});
  ExpectMessage("A 1 60000");
}

TEST_P(ShardedWakeTest, APushWakesWhoFollowsTheList) {
  Run(internal::kListRead, {"list", "record", "times", "followers"},
      {"", "10", "it is me", channel_, "50000"});
  Run(internal::kListPush, {"list", "record", "followers"}, {"10", "", "item"});
  ExpectMessage("it is me");
}

TEST_P(ShardedWakeTest, AnElectionTellsItsObservers) {
  Run(internal::kMutexAcquire, lock_keys_, {"A", "60000", "w"});
  Run(internal::kElectionObserve, {"lease", "term", "observers"}, {"O", channel_, "50000"});
  Run(internal::kElectionResign, {"lease", "fence", "queue", "readers", "term", "observers"},
      {"A"});
  ExpectMessage("O changed");
}

TEST_P(ShardedWakeTest, AQuorumsReleaseWakesTheFirstHint) {
  redis_.Command({"SET", "coord:{n}:lease", "~A"});
  redis_.Command({"ZADD", "coord:{n}:hints", "1", "B " + channel_});
  EXPECT_EQ(Run(internal::kQuorumRelease, {"lease", "fence", "hints"}, {"A", "0"}),
            Reply::Integer(1));
  ExpectMessage("B A");
}

}  // namespace
}  // namespace coord
