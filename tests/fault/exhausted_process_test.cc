// A process that has no descriptors or no threads left: errors that say so, nothing leaks, and all
// works again when there are some.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/local_budget.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "coord/semaphore.h"
#include "coord/sharded_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::FatalErrno;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::ProcessResult;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::HasSubstr;

std::ptrdiff_t OpenDescriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}

// The soft limit of something, as long as it lives.
class Limit {
 public:
  using Resource = decltype(RLIMIT_NOFILE);

  Limit(Resource what, rlim_t value) : what_(what) {
    if (getrlimit(what_, &before_) != 0) FatalErrno("getrlimit");
    const rlimit now{value, before_.rlim_max};
    if (setrlimit(what_, &now) != 0) FatalErrno("setrlimit");
  }
  ~Limit() { setrlimit(what_, &before_); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  const Resource what_;
  rlimit before_{};
};

// The limit under which just so many more descriptors can be had.
rlim_t LimitThatLeaves(int descriptors) {
  int fd = 0;
  for (int free = 0; free < descriptors || fcntl(fd, F_GETFD) != -1; ++fd) {
    if (fcntl(fd, F_GETFD) == -1) ++free;
  }
  return static_cast<rlim_t>(fd);
}

testing::RedisServerOptions OverTcp() {
  testing::RedisServerOptions options;
  options.port = 0;
  return options;
}

class OutOfDescriptorsTest : public ::testing::Test {
 protected:
  void KillConnections() { redis_.Integer({"CLIENT", "KILL", "TYPE", "normal"}); }

  RedisServer server_{OverTcp()};
  RawRedis redis_{server_};
};

TEST_F(OutOfDescriptorsTest, ConnectingIsAClearErrorAndLeaksNothing) {
  for (const std::string& url : {server_.unix_url(), server_.tcp_url(),
                                 "redis://localhost:" + std::to_string(server_.port())}) {
    ASSERT_OK(Client::Connect(url).status());
    const std::ptrdiff_t before = OpenDescriptors();
    for (int left = 0; left < 5; ++left) {
      absl::StatusOr<Client> client;
      {
        const Limit limit(RLIMIT_NOFILE, LimitThatLeaves(left));
        client = Client::Connect(url);
      }
      if (left == 0) {
        EXPECT_FALSE(client.ok());
        EXPECT_TRUE(coord::IsUnavailable(client.status())) << client.status();
        EXPECT_FALSE(IsOutcomeUnknown(client.status())) << client.status();
        if (url.find("localhost") == std::string::npos) {
          EXPECT_THAT(std::string(client.status().message()), HasSubstr("Too many open files"));
        }
      }
      if (client.ok()) {
        EXPECT_OK(client->Command({"PING"}).status());
      } else {
        EXPECT_EQ(OpenDescriptors(), before) << url << " with " << left;
      }
      client = absl::CancelledError();
      EXPECT_EQ(OpenDescriptors(), before) << url << " with " << left;
    }
    EXPECT_OK(Client::Connect(url).status());
  }
}

TEST_F(OutOfDescriptorsTest, AConnectionThatCannotBeReplacedIsAnErrorInTimeAndLaterReplaced) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  redis_.Command({"PING"});  // or it would connect later, and count
  const std::ptrdiff_t before = OpenDescriptors();
  KillConnections();
  {
    // Those that are open stay so.
    const Limit limit(RLIMIT_NOFILE, 3);
    absl::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = Counter(client, "hits").Add(1, {}, {.timeout = absl::Milliseconds(200)}).status();
      return !IsOutcomeUnknown(status);
    }));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("Too many open files")));
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    const Stopwatch watch;
    for (int i = 0; i < 5; ++i) {
      EXPECT_FALSE(client.Command({"PING"}, {.timeout = absl::Milliseconds(100)}).ok());
    }
    EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  }
  EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }));
  EXPECT_EQ(OpenDescriptors(), before);
  ASSERT_OK_AND_ASSIGN(const std::int64_t value, Counter(client, "hits").Get());
  EXPECT_EQ(value, 1);
}

TEST_F(OutOfDescriptorsTest, AHolderThatCannotConnectAgainIsToldInTime) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  const Mutex mutex(client, "deploy", {.ttl = absl::Seconds(2)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_OK(client.Command({"PING"}).status());
  // Renewed once, so that its connection is there.
  EXPECT_TRUE(Eventually([&] {
    return redis_.Text({"CLIENT", "LIST"}).find("sub=1") != std::string::npos;
  }));
  const std::ptrdiff_t before = OpenDescriptors();
  {
    const Limit limit(RLIMIT_NOFILE, 3);
    KillConnections();
    redis_.Integer({"CLIENT", "KILL", "TYPE", "pubsub"});
    const std::stop_token lost = lease.stop_token();
    EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }));
    EXPECT_FALSE(lease.valid());
  }
  ASSERT_OK_AND_ASSIGN(Lease next, mutex.Acquire(absl::Seconds(20)));
  EXPECT_GT(next.token(), lease.token());
  EXPECT_OK(next.Release());
  EXPECT_LE(OpenDescriptors(), before);
}

TEST_F(OutOfDescriptorsTest, AWaiterIsServedThoughItsSecondConnectionComesLate) {
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(const Client holder, Client::Connect(server_.url()));
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder, "deploy").TryAcquire());
  ASSERT_OK(client.Command({"PING"}).status());
  absl::StatusOr<Lease> next;
  {
    const Limit limit(RLIMIT_NOFILE, 3);
    const absl::Status status = Mutex(client, "deploy").Acquire(absl::Milliseconds(500)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(IsLost(status)) << status;
    EXPECT_OK(lease.Release());
  }
  std::jthread waiter([&] { next = Mutex(client, "deploy").Acquire(absl::Seconds(20)); });
  waiter.join();
  EXPECT_OK(next.status());
}

// Its reader has to be woken for that, which takes a descriptor too.
TEST_F(OutOfDescriptorsTest, AConnectionMadeWithTheLastDescriptorsObeysStopTokensLater) {
  int connected = 0;
  for (int left = 0; left < 5; ++left) {
    absl::StatusOr<Client> client;
    {
      const Limit limit(RLIMIT_NOFILE, LimitThatLeaves(left));
      client = Client::Connect(server_.url());
    }
    if (!client.ok()) continue;
    ++connected;
    server_.Pause();
    std::stop_source stop;
    const Stopwatch watch;
    std::jthread caller([&] {
      const CallOptions options{.timeout = absl::Seconds(12), .stop = stop.get_token()};
      const absl::Status status = client->Command({"PING"}, options).status();
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled)) << "with " << left;
    });
    // It shall be waiting for the reply by then; if not, it is stopped before.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stop.request_stop();
    caller.join();
    EXPECT_LT(watch.elapsed(), absl::Seconds(8)) << "with " << left;
    server_.Resume();
  }
  EXPECT_GT(connected, 0);
}

TEST_F(OutOfDescriptorsTest, AServerOfItsOwnThatCannotBeStartedIsAnErrorAndLeaksNothing) {
  const TempDir temporary;
  ASSERT_EQ(setenv("TMPDIR", temporary.path().c_str(), 1), 0);
  const std::ptrdiff_t before = OpenDescriptors();
  for (int left = 0; left < 8; left += 2) {
    absl::StatusOr<Client> client;
    {
      const Limit limit(RLIMIT_NOFILE, LimitThatLeaves(left));
      client = Client::Connect("embedded://?private&connect_timeout=3s");
    }
    EXPECT_FALSE(left == 0 && client.ok());
    client = absl::CancelledError();
    EXPECT_TRUE(Eventually([&] { return OpenDescriptors() == before; })) << left;
    EXPECT_TRUE(Eventually([&] { return std::filesystem::is_empty(temporary.path()); })) << left;
  }
}

// ---- Threads ----

// In a forked child: complains and ends it when the condition is false.
#define REQUIRE(condition, status)                                    \
  do {                                                                \
    if (!(condition)) {                                               \
      std::fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, \
                   std::string((status).message()).c_str());          \
      return 1;                                                       \
    }                                                                 \
  } while (false)

// Root has no limit of threads, so the child becomes somebody else.
void BecomeNobody() {
  constexpr uid_t kNobody = 65534;
  if (geteuid() != 0) return;
  if (setresuid(kNobody, kNobody, kNobody) != 0) FatalErrno("setresuid");
  prctl(PR_SET_DUMPABLE, 1);  // or it may not look at its own descriptors
}

bool ThreadsCanBeHad() {
  try {
    std::thread([] {}).join();
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

// Runs `body` in a child that can have no more threads while a Limit on RLIMIT_NPROC lives.
template <typename Body>
void RunAsNobody(Body body) {
  Process child = ForkAndRun([&]() -> int {
    BecomeNobody();
    {
      const Limit limit(RLIMIT_NPROC, 0);
      if (ThreadsCanBeHad()) return 77;
    }
    return body();
  });
  const ProcessResult result = child.Wait(absl::Seconds(60));
  if (result.exit_code == 77) GTEST_SKIP() << "RLIMIT_NPROC binds nobody here";
  EXPECT_EQ(result.exit_code, 0) << result.err << " signal " << result.signal;
}

TEST(OutOfThreadsTest, ALockIsAClearErrorLeavesNothingAndWorksLater) {
  const RedisServer server(OverTcp());
  RunAsNobody([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    REQUIRE(client.ok(), client.status());
    const Mutex mutex(*client, "deploy", {.ttl = absl::Seconds(60)});
    const std::ptrdiff_t before = OpenDescriptors();
    {
      const Limit limit(RLIMIT_NPROC, 0);
      const absl::Status tried = mutex.TryAcquire().status();
      REQUIRE(tried.message().find("no thread") != absl::string_view::npos, tried);
      const absl::Status waited = mutex.Acquire(absl::Seconds(1)).status();
      REQUIRE(waited.message().find("no thread") != absl::string_view::npos, waited);
      // Without a thread all the rest goes on.
      const absl::Status added = Counter(*client, "hits").Add(1).status();
      REQUIRE(added.ok(), added);
    }
    REQUIRE(OpenDescriptors() == before, absl::OkStatus());
    absl::StatusOr<Reply> left = client->Command({"EXISTS", "coord:{deploy}:lease"});
    REQUIRE(left.ok(), left.status());
    REQUIRE(left->integer() == 0, absl::InternalError("the lock is held by nobody"));
    absl::StatusOr<Lease> lease = mutex.TryAcquire();
    REQUIRE(lease.ok(), lease.status());
    return lease->Release().ok() ? 0 : 2;
  });
}

TEST(OutOfThreadsTest, WhatWaitsAndRenewsEndsInAnErrorOrGoesOn) {
  const RedisServer server(OverTcp());
  RunAsNobody([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    REQUIRE(client.ok(), client.status());
    {
      const Limit limit(RLIMIT_NPROC, 0);
      const absl::Status permit =
          Semaphore(*client, "pool", {.permits = 1, .ttl = absl::Seconds(60)})
              .TryAcquire()
              .status();
      REQUIRE(!permit.ok(), permit);
      // Adds here, and brings it when asked to.
      ShardedCounter sharded(*client, "visits");
      for (int i = 0; i < 100; ++i) sharded.Add(1);
      const absl::Status flushed = sharded.Flush();
      REQUIRE(flushed.ok(), flushed);
    }
    absl::StatusOr<Permit> permit =
        Semaphore(*client, "pool", {.permits = 1, .ttl = absl::Seconds(60)}).TryAcquire();
    REQUIRE(permit.ok(), permit.status());
    absl::StatusOr<std::int64_t> value = Counter(*client, "visits").Get();
    REQUIRE(value.ok(), value.status());
    REQUIRE(*value == 100, absl::InternalError(std::to_string(*value)));
    return 0;
  });
}

TEST(OutOfThreadsTest, AShardedCounterIsFlushedInTheBackgroundOnceThereAreThreads) {
  const RedisServer server(OverTcp());
  RunAsNobody([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    REQUIRE(client.ok(), client.status());
    ShardedCounter sharded(*client, "visits");
    {
      const Limit limit(RLIMIT_NPROC, 0);
      sharded.Add(1);
    }
    sharded.Add(1);
    const bool flushed = Eventually([&] { return sharded.pending() == 0; });
    REQUIRE(flushed, absl::InternalError("nothing was flushed"));
    absl::StatusOr<std::int64_t> value = Counter(*client, "visits").Get();
    REQUIRE(value.ok() && *value == 2, value.status());
    return 0;
  });
}

TEST(OutOfThreadsTest, ALocalBudgetGivesBackWhatIsUnusedOnceThereAreThreads) {
  const RedisServer server(OverTcp());
  RunAsNobody([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    REQUIRE(client.ok(), client.status());
    LocalBudget budget(*client, {.permits = 1000, .period = absl::Hours(24)}, "user",
                       {.block = 100, .max_age = absl::Milliseconds(300)});
    {
      const Limit limit(RLIMIT_NPROC, 0);
      const absl::StatusOr<RateDecision> taken = budget.Take();
      REQUIRE(taken.ok() && taken->allowed, taken.status());
    }
    // More than is here, so that it asks again.
    const absl::StatusOr<RateDecision> taken = budget.Take(100);
    REQUIRE(taken.ok() && taken->allowed, taken.status());
    const RateLimiter limiter(*client, {.permits = 1000, .period = absl::Hours(24)});
    const bool given_back = Eventually([&] {
      const absl::StatusOr<RateDecision> left = limiter.Peek("user");
      return left.ok() && left->remaining >= 1000 - 101 - 1;  // it says what a Take would leave
    });
    REQUIRE(given_back, absl::InternalError("the unused ones are kept"));
    return 0;
  });
}

TEST(OutOfThreadsTest, AHolderIsToldAllTheSame) {
  const RedisServer server(OverTcp());
  RunAsNobody([&]() -> int {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    REQUIRE(client.ok(), client.status());
    absl::StatusOr<Lease> lease =
        Mutex(*client, "deploy", {.ttl = absl::Milliseconds(900)}).TryAcquire();
    REQUIRE(lease.ok(), lease.status());
    // The worker that callbacks run on would be started now.
    const Limit limit(RLIMIT_NPROC, 0);
    const absl::Status deleted = client->Command({"DEL", "coord:{deploy}:lease"}).status();
    REQUIRE(deleted.ok(), deleted);
    REQUIRE(Eventually([&] { return lease->stop_token().stop_requested(); }), absl::OkStatus());
    return lease->valid() ? 3 : 0;
  });
}

}  // namespace
}  // namespace coord
