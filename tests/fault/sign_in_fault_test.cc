// Passwords that are wrong or become so, and rights that are missing or taken away: one clear error
// for each question, and a server that is not asked again and again. Counted by the server.
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/lock_history.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::HasSubstr;
using ::testing::Not;

// Nanoseconds: valid() is exact, but it takes a thread to tell somebody, and a loaded machine may
// keep that waiting for longer than the drift of a lease.
constexpr std::int64_t kLateThread = 2'000'000'000;

class SignInFaultTest : public ::testing::Test {
 protected:
  SignInFaultTest() { AllowWorker(); }

  void AllowWorker() {
    EXPECT_EQ(
        redis_.Text({"ACL", "SETUSER", "worker", "reset", "on", ">canary", "~*", "&*", "+@all"}),
        "OK");
  }

  std::string Url(const std::string& password = "canary") const {
    return internal::StrCat("redis://worker:", password, "@127.0.0.1:", server_.port());
  }
  Client Connect(absl::Duration timeout = absl::Seconds(2)) const {
    ClientOptions options;
    options.timeout = timeout;
    absl::StatusOr<Client> client = Client::Connect(Url(), options);
    EXPECT_OK(client.status());
    return *std::move(client);
  }

  std::int64_t Number(const std::string& section, const std::string& name) {
    const std::string info = redis_.Text({"INFO", section});
    const std::size_t at = info.find(name);
    return at == std::string::npos ? 0 : std::stoll(info.substr(at + name.size()));
  }
  std::int64_t Connections() { return Number("stats", "total_connections_received:"); }
  // Refused for a missing right, of the commands with which scripts are run.
  std::int64_t Rejected() {
    const std::string info = redis_.Text({"INFO", "commandstats"});
    std::int64_t count = 0;
    for (const std::string name : {"cmdstat_evalsha:", "cmdstat_eval:"}) {
      const std::size_t at = info.find(name);
      if (at == std::string::npos) continue;
      const std::string field = "rejected_calls=";
      count += std::stoll(info.substr(info.find(field, at) + field.size()));
    }
    return count;
  }

  static void ExpectRefused(const absl::Status& status, absl::StatusCode code) {
    EXPECT_THAT(status, StatusIs(code, Not(HasSubstr("canary"))));
    EXPECT_FALSE(coord::IsUnavailable(status)) << "to try again is of no use: " << status;
    EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
  }

  // A lease of `ttl` is taken, `fault` happens. The lease has to be over before another has it, and
  // `count` rises by `most` at most, in a little more than the lease's time.
  void ExpectLostWithoutAStorm(const std::function<void()>& fault,
                               const std::function<std::int64_t()>& count, std::int64_t most) {
    const Client client = Connect();
    ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(server_.unix_url()));
    ASSERT_OK_AND_ASSIGN(Lease lease,
                         Mutex(client, "deploy", {.ttl = absl::Seconds(3)}).TryAcquire());
    ASSERT_OK(lease.Renew(absl::Seconds(3)));
    std::atomic<std::int64_t> told = 0;
    const std::stop_callback on_loss(lease.stop_token(), [&] { told = BootNanos(); });
    absl::StatusOr<Lease> next;
    bool still_valid = true;
    std::int64_t granted = 0;
    std::jthread waiter([&] {
      next = Mutex(other, "deploy").Acquire(absl::Seconds(20));
      still_valid = lease.valid();
      granted = BootNanos();
    });
    ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
    const std::int64_t before = count();
    fault();
    waiter.join();
    ASSERT_OK(next.status());
    EXPECT_FALSE(still_valid);
    EXPECT_TRUE(Eventually([&] { return told != 0; }));
    EXPECT_LE(told, granted + kLateThread);
    EXPECT_GT(next->token(), lease.token());
    const std::int64_t asked = count() - before;
    EXPECT_LE(asked, most) << "a storm";
    RecordProperty("asked", std::to_string(asked));
    EXPECT_FALSE(lease.Release({.timeout = absl::Seconds(1)}).ok());
    EXPECT_TRUE(next->valid());

    AllowWorker();
    EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }));
    ASSERT_OK(next->Release());
    EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(10)).status());
  }

  RedisServer server_{[] {
    testing::RedisServerOptions options;
    options.port = 0;
    return options;
  }()};
  RawRedis redis_{server_};
};

TEST_F(SignInFaultTest, AWrongPasswordIsOneErrorAndOneConnection) {
  const std::int64_t before = Connections();
  const Stopwatch watch;
  ExpectRefused(Client::Connect(Url("wrong")).status(), absl::StatusCode::kUnauthenticated);
  EXPECT_LT(watch.elapsed(), absl::Seconds(4));
  EXPECT_EQ(Connections() - before, 1);
}

TEST_F(SignInFaultTest, AMissingRightIsOneErrorAndOneCommand) {
  redis_.Command({"ACL", "SETUSER", "worker", "-@scripting"});
  const Client client = Connect();
  const std::int64_t connections = Connections();
  ExpectRefused(Counter(client, "hits").Add(1).status(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Rejected(), 1);
  ExpectRefused(Mutex(client, "deploy").TryAcquire().status(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Rejected(), 2);
  const Stopwatch watch;
  ExpectRefused(Mutex(client, "deploy").Acquire(absl::Seconds(20)).status(),
                absl::StatusCode::kPermissionDenied);
  EXPECT_LT(watch.elapsed(), absl::Seconds(10)) << "it has waited";
  EXPECT_LE(Rejected(), 4);
  EXPECT_LE(Connections() - connections, 1);
  EXPECT_EQ(redis_.Command({"KEYS", "*"}).items().size(), 0u);
}

TEST_F(SignInFaultTest, AKeyOutsideOfTheUsersIsOneError) {
  redis_.Command({"ACL", "SETUSER", "worker", "resetkeys", "~elsewhere:*"});
  const Client client = Connect();
  ExpectRefused(Counter(client, "hits").Add(1).status(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Rejected(), 1);
  EXPECT_EQ(redis_.Command({"KEYS", "*"}).items().size(), 0u);
}

TEST_F(SignInFaultTest, EachCallAfterAChangedPasswordIsOneErrorAndOneConnection) {
  const Client client = Connect();
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  redis_.Command({"ACL", "SETUSER", "worker", "resetpass", ">another"});
  redis_.Command({"CLIENT", "KILL", "USER", "worker"});
  // The first one may still meet the connection that is gone.
  EXPECT_TRUE(Eventually([&] {
    return client.Command({"PING"}).status().code() == absl::StatusCode::kUnauthenticated;
  }));
  const std::int64_t before = Connections();
  constexpr int kCalls = 10;
  const Stopwatch watch;
  for (int i = 0; i < kCalls; ++i) {
    ExpectRefused(Counter(client, "hits").Add(1).status(), absl::StatusCode::kUnauthenticated);
  }
  ExpectRefused(Mutex(client, "deploy").Acquire(absl::Seconds(20)).status(),
                absl::StatusCode::kUnauthenticated);
  EXPECT_LT(watch.elapsed(), absl::Seconds(10)) << "somebody has waited";
  EXPECT_LE(Connections() - before, kCalls + 2);
  redis_.Command({"ACL", "SETUSER", "worker", "resetpass", ">canary"});
  EXPECT_TRUE(Eventually([&] { return client.Command({"PING"}).ok(); }));
  EXPECT_EQ(redis_.Text({"GET", "coord:{hits}:count"}), "1");
}

// The three below take as long as a lease of 3 s.

TEST_F(SignInFaultTest, AHolderWhoseUserIsDeletedIsToldInTimeAndTheServerIsLeftInPeace) {
  // By then there are no connections of that user: each is a new one.
  ExpectLostWithoutAStorm(
      [&] {
        redis_.Integer({"ACL", "DELUSER", "worker"});
      },
      [&] { return Connections(); }, 40);
}

TEST_F(SignInFaultTest, AHolderWhosePasswordChangesIsToldInTimeAndTheServerIsLeftInPeace) {
  ExpectLostWithoutAStorm(
      [&] {
        redis_.Command({"ACL", "SETUSER", "worker", "resetpass", ">another"});
        redis_.Command({"CLIENT", "KILL", "USER", "worker"});
      },
      [&] { return Connections(); }, 40);
}

TEST_F(SignInFaultTest, AHolderWhoseRightsAreTakenIsToldInTimeAndTheServerIsLeftInPeace) {
  ExpectLostWithoutAStorm(
      [&] {
        redis_.Command({"ACL", "SETUSER", "worker", "-@scripting"});
      },
      [&] { return Rejected(); }, 40);
}

TEST_F(SignInFaultTest, AWaiterWhoseUserIsDeletedIsToldAndTheServerIsLeftInPeace) {
  const Client client = Connect();
  ASSERT_OK_AND_ASSIGN(const Client other, Client::Connect(server_.unix_url()));
  ASSERT_OK_AND_ASSIGN(const Lease lease, Mutex(other, "deploy").TryAcquire());
  absl::Status status;
  const Stopwatch watch;
  std::jthread waiter([&] { status = Mutex(client, "deploy").Acquire(absl::Seconds(4)).status(); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  const std::int64_t before = Connections();
  redis_.Integer({"ACL", "DELUSER", "worker"});
  waiter.join();
  EXPECT_LT(watch.elapsed(), absl::Seconds(4 + 5));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, Not(HasSubstr("canary"))));
  EXPECT_LE(Connections() - before, 40) << "a storm";
}

}  // namespace
}  // namespace coord
