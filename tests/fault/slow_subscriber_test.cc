// A client that is too slow to read its messages: the server ends its connection, and with it its
// subscription.
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::ProcessResult;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Shared;

class SlowSubscriberTest : public ::testing::Test {
 protected:
  static testing::RedisServerOptions Strict() {
    testing::RedisServerOptions options;
    options.args = {"--client-output-buffer-limit", "pubsub 64kb 0 0"};
    return options;
  }

  // The only channel that somebody listens to; empty when there is none.
  std::string Channel() {
    const Reply channels = redis_.Command({"PUBSUB", "CHANNELS"});
    return channels.items().size() == 1 ? std::string(channels.items()[0].text()) : "";
  }
  bool SomebodyWaits() {
    return Eventually([&] {
      return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1 && !Channel().empty();
    });
  }
  // Nobody reads, and what the kernel holds is bounded.
  bool DrownedOut(const std::string& channel) {
    const std::string noise(std::size_t{1} << 16, 'x');
    return Eventually([&] { return redis_.Integer({"PUBLISH", channel, noise}) == 0; });
  }

  RedisServer server_{Strict()};
  RawRedis redis_{server_};
};

// They are forked before there is a client here, and begin when they are told.
struct Stage {
  std::atomic<bool> begins = false;
  std::atomic<bool> granted = false;
  std::atomic<bool> ends = false;
  std::atomic<int> seen = 0;
};

bool Await(const std::atomic<bool>& flag) {
  return Eventually([&] { return flag.load(); }, absl::Seconds(30));
}

TEST_F(SlowSubscriberTest, AWaiterThatWasStoppedMeanwhileIsServedAndListensAgain) {
  const Shared<Stage> stage;
  Process waiter = ForkAndRun([&]() -> int {
    if (!Await(stage->begins)) return 1;
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 2;
    absl::StatusOr<Lease> lease = Mutex(*client, "deploy").Acquire(absl::Seconds(30));
    if (!lease.ok() || !lease->valid()) return 3;
    stage->granted = true;
    if (!Await(stage->ends)) return 4;
    return lease->Release().ok() ? 0 : 5;
  });
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "deploy").TryAcquire());
  stage->begins = true;
  ASSERT_TRUE(SomebodyWaits());
  const std::string channel = Channel();
  waiter.Pause();
  ASSERT_TRUE(DrownedOut(channel));
  EXPECT_EQ(Channel(), "");
  EXPECT_THAT(server_.log(), ::testing::HasSubstr("output buffer limits"));
  EXPECT_OK(lease.Release());  // its message finds nobody
  waiter.Resume();
  EXPECT_TRUE(Await(stage->granted));
  EXPECT_TRUE(Eventually([&] { return Channel() == channel; })) << Channel();
  stage->ends = true;
  EXPECT_EQ(waiter.Wait().exit_code, 0) << waiter.err();
}

TEST_F(SlowSubscriberTest, AFollowerMissesNothing) {
  const Shared<Stage> stage;
  Process follower = ForkAndRun([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 2;
    const CappedList list(*client, "events", {.max_items = 1000});
    return list.Follow(0,
                       [&](const ListSlice& slice) {
                         return (stage->seen += static_cast<int>(slice.items.size())) < 30;
                       })
                   .ok()
               ? 0
               : 3;
  });
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  const CappedList list(client, "events", {.max_items = 1000});
  for (int i = 0; i < 10; ++i) ASSERT_OK(list.Push("early").status());
  ASSERT_TRUE(Eventually([&] { return stage->seen == 10 && !Channel().empty(); }));
  const std::string channel = Channel();
  follower.Pause();
  ASSERT_TRUE(DrownedOut(channel));
  for (int i = 0; i < 10; ++i) ASSERT_OK(list.Push("while it was away").status());
  follower.Resume();
  EXPECT_TRUE(Eventually([&] { return stage->seen == 20; })) << stage->seen;
  EXPECT_TRUE(Eventually([&] { return !Channel().empty(); }));
  for (int i = 0; i < 10; ++i) ASSERT_OK(list.Push("late").status());
  EXPECT_EQ(follower.Wait().exit_code, 0) << follower.err() << stage->seen;
  EXPECT_EQ(stage->seen, 30);
}

}  // namespace
}  // namespace coord
