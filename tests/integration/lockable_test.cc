// A Mutex under the standard library's locks.
#include "coord/lockable.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class LockableTest : public ::testing::Test {
 protected:
  bool Held(const std::string& name) {
    return redis_.Integer({"EXISTS", "coord:{" + name + "}:lease"}) == 1;
  }
  Mutex Named(const std::string& name) { return Mutex(client_, name); }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
};

TEST_F(LockableTest, AScopedLockHoldsALeaseAndGivesItBack) {
  Lockable deploy(Named("deploy"));
  EXPECT_FALSE(deploy.lease().valid());
  {
    const std::scoped_lock held(deploy);
    EXPECT_TRUE(Held("deploy"));
    EXPECT_TRUE(deploy.lease().valid());
    EXPECT_GT(deploy.lease().token().value(), 0u);
    EXPECT_FALSE(deploy.lease().stop_token().stop_requested());
  }
  EXPECT_FALSE(Held("deploy"));
  EXPECT_FALSE(deploy.lease().valid());
}

TEST_F(LockableTest, AUniqueLockTriesAndWaitsForItsTime) {
  Lockable deploy(Named("deploy"));
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  std::unique_lock lock(deploy, std::try_to_lock);
  EXPECT_FALSE(lock.owns_lock());
  const Stopwatch watch;
  EXPECT_FALSE(lock.try_lock_for(std::chrono::milliseconds(100)));
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(90));
  EXPECT_FALSE(lock.try_lock_for(std::chrono::milliseconds(-5)));
  EXPECT_FALSE(
      lock.try_lock_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(10)));
  EXPECT_OK(rival.Release());
  EXPECT_TRUE(lock.try_lock_for(std::chrono::hours::max()));
  EXPECT_TRUE(Held("deploy"));
  lock.unlock();
  EXPECT_FALSE(Held("deploy"));
}

TEST_F(LockableTest, StdLockTakesTwoInAnyOrderWithoutDeadlock) {
  Lockable a(Named("a"));
  Lockable b(Named("b"));
  std::atomic<int> inside = 0;
  std::atomic<int> overlaps = 0;
  std::atomic<int> rounds = 0;
  const auto work = [&](Lockable& first, Lockable& second) {
    for (int i = 0; i < 10; ++i) {
      const std::scoped_lock both(first, second);  // std::lock
      if (inside.fetch_add(1) != 0) ++overlaps;
      std::this_thread::yield();
      inside.fetch_sub(1);
      ++rounds;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] { work(a, b); });
      threads.emplace_back([&] { work(b, a); });
    }
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(rounds, 40);
  EXPECT_FALSE(Held("a"));
  EXPECT_FALSE(Held("b"));
}

TEST_F(LockableTest, LockThrowsWhatWentWrong) {
  ASSERT_OK_AND_ASSIGN(Lease rival, Mutex(ConnectTo(server_), "deploy").TryAcquire());
  Lockable deploy(Named("deploy"), {.timeout = absl::Milliseconds(50)});
  try {
    deploy.lock();
    FAIL() << "locked";
  } catch (const LockError& error) {
    EXPECT_TRUE(IsBusy(error.status()));
    EXPECT_THAT(error.what(), HasSubstr("deploy"));
  }
  deploy.unlock();  // of what is not locked: nothing
  EXPECT_TRUE(rival.valid());
}

TEST_F(LockableTest, LockingTwiceInOneThreadIsRefusedAtOnce) {
  Lockable deploy(Named("deploy"));
  const std::scoped_lock held(deploy);
  EXPECT_FALSE(deploy.try_lock());
  try {
    deploy.lock();
    FAIL() << "locked";
  } catch (const LockError& error) {
    EXPECT_THAT(error.status(), StatusIs(absl::StatusCode::kFailedPrecondition));
  }
  EXPECT_TRUE(deploy.lease().valid());
}

TEST_F(LockableTest, AnUnlockOfALostLeaseThrowsNothingAndIsReported) {
  absl::Status told;
  Lockable deploy(Named("deploy"), {.on_unlock_failure = [&](const absl::Status& status) {
                    told = status;
                    throw 1;
                  }});
  {
    const std::scoped_lock held(deploy);
    redis_.Command({"FLUSHALL"});
  }
  EXPECT_TRUE(IsLost(told)) << told;
  EXPECT_TRUE(deploy.try_lock());
  deploy.unlock();
}

TEST_F(LockableTest, AThreadWhoseLeaseWasLostDoesNotUnlockTheNextHolders) {
  Lockable deploy(Mutex(client_, "deploy", {.ttl = absl::Seconds(60)}));
  deploy.lock();
  redis_.Command({"FLUSHALL"});
  std::atomic<bool> unlocked = false;
  std::atomic<bool> locked = false;
  std::jthread other([&] {
    while (!deploy.try_lock()) std::this_thread::yield();
    locked = true;
    while (!unlocked) std::this_thread::yield();
    EXPECT_TRUE(deploy.lease().valid());
    EXPECT_TRUE(Held("deploy"));
    deploy.unlock();
  });
  while (!locked) std::this_thread::yield();
  deploy.unlock();
  unlocked = true;
  other.join();
  EXPECT_FALSE(Held("deploy"));
}

TEST_F(LockableTest, BadNamesReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  Lockable bad(Named(""));
  EXPECT_FALSE(bad.try_lock());
  EXPECT_FALSE(bad.try_lock_for(std::chrono::seconds(1)));
  EXPECT_THROW(bad.lock(), LockError);
  EXPECT_EQ(AllCalls(redis_), 0);
}

TEST_F(LockableTest, TryLockIsFalseWithoutAServer) {
  Lockable deploy(Named("deploy"));
  client_.Close();
  EXPECT_FALSE(deploy.try_lock());
}

}  // namespace
}  // namespace coord
