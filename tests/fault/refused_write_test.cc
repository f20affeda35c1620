// A server that answers and takes no writes: out of memory, unable to save, without its replicas,
// on a full disk.
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/election.h"
#include "coord/errors.h"
#include "coord/fenced_store.h"
#include "coord/id_generator.h"
#include "coord/json_document.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "coord/rw_mutex.h"
#include "coord/semaphore.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/own_namespaces.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::HasSubstr;

Client ConnectTo(const RedisServer& server, absl::Duration timeout = absl::Seconds(2)) {
  ClientOptions options;
  options.timeout = timeout;
  absl::StatusOr<Client> client = Client::Connect(server.url(), options);
  EXPECT_OK(client.status());
  return *std::move(client);
}

bool Exists(RawRedis& redis, const std::string& key) { return redis.Integer({"EXISTS", key}) == 1; }

struct Call {
  const char* what;
  std::function<absl::Status(const Client&)> run;
};

// Everything that needs room on the server, on objects of the name "x".
std::vector<Call> Writes() {
  using Kind = RateLimit::Algorithm;
  std::vector<Call> calls = {
      {"counter", [](const Client& c) { return Counter(c, "x").Add(1).status(); }},
      {"counter with bounds and ttl",
       [](const Client& c) {
         return Counter(c, "x").Add(1, {.max = 100, .ttl = absl::Hours(1)}).status();
       }},
      {"counter with an id",
       [](const Client& c) {
         return Counter(c, "x").Add(1, {.operation_id = OperationId::New()}).status();
       }},
      {"counter set", [](const Client& c) { return Counter(c, "x").Set(12345).status(); }},
      {"list",
       [](const Client& c) { return CappedList(c, "x", {.max_items = 3}).Push("item").status(); }},
      {"list of bytes with an id",
       [](const Client& c) {
         return CappedList(c, "x", {.max_items = 3, .max_bytes = 100})
             .Push("item", {.operation_id = OperationId::New()})
             .status();
       }},
      {"list on a key",
       [](const Client& c) {
         return CappedList::OnKey(c, "plain", {.max_items = 3}).Push("item").status();
       }},
      {"json", [](const Client& c) { return JsonDocument(c, "x").Set(R"({"state": "new"})"); }},
      {"json field",
       [](const Client& c) {
         return JsonDocument(c, "x")
             .CompareAndSetField("/state", R"("ready")", R"("changed")")
             .status();
       }},
      {"json change with an id",
       [](const Client& c) {
         return JsonDocument(c, "x")
             .Update([](const std::optional<std::string>&) -> absl::StatusOr<std::string> {
               return R"({"state": "updated"})";
             })
             .status();
       }},
      {"mutex", [](const Client& c) { return Mutex(c, "y").TryAcquire().status(); }},
      {"reader", [](const Client& c) { return RwMutex(c, "y").TryAcquireShared().status(); }},
      {"semaphore",
       [](const Client& c) { return Semaphore(c, "y", {.permits = 2}).TryAcquire().status(); }},
      {"election",
       [](const Client& c) {
         return Election(c, "y").Campaign("here", absl::Milliseconds(300)).status();
       }},
      {"fenced store",
       [](const Client& c) {
         return FencedStore(c, "x").Set(FencingToken(1'900'000'000'000'000), "v").status();
       }},
      {"ids", [](const Client& c) { return IdGenerator(c, "y").Next().status(); }},
  };
  for (const Kind kind : {Kind::kGcra, Kind::kTokenBucket, Kind::kFixedWindow, Kind::kSlidingWindow,
                          Kind::kSlidingLog}) {
    const RateLimit limit{.permits = 1000, .period = absl::Hours(1), .algorithm = kind};
    calls.push_back(
        {"limiter", [limit](const Client& c) { return RateLimiter(c, limit).Take("x").status(); }});
    calls.push_back({"limiter with an id", [limit](const Client& c) {
                       return RateLimiter(c, limit)
                           .Take("x", 1, {}, {.operation_id = OperationId::New()})
                           .status();
                     }});
  }
  return calls;
}

// Makes a server refuse writes, and take them again.
struct Refusal {
  const char* name;
  const char* word;  // in the server's error
  absl::StatusCode code;
  std::function<void(RedisServer&, RawRedis&)> begin;
  std::function<void(RawRedis&)> end;

  // How GoogleTest writes it; the bytes would not be the same in each run.
  friend void PrintTo(const Refusal& self, std::ostream* out) { *out << self.name; }
};

void Config(RawRedis& redis, const std::string& name, const std::string& value) {
  EXPECT_EQ(redis.Text({"CONFIG", "SET", name, value}), "OK");
}

Refusal OutOfMemory() {
  return {"OutOfMemory", "OOM", absl::StatusCode::kResourceExhausted,
          [](RedisServer&, RawRedis& redis) { Config(redis, "maxmemory", "1"); },
          [](RawRedis& redis) { Config(redis, "maxmemory", "0"); }};
}

Refusal CannotSave() {
  return {"CannotSave", "MISCONF", absl::StatusCode::kUnavailable,
          [](RedisServer& server, RawRedis& redis) {
            // Rights would not stop root; a directory that is not there stops everybody.
            std::filesystem::remove_all(server.data_directory());
            Config(redis, "save", "3600 1000000");
            redis.Command({"BGSAVE"});
            EXPECT_TRUE(Eventually([&] {
              return redis.Text({"INFO", "persistence"}).find("rdb_last_bgsave_status:err") !=
                     std::string::npos;
            }));
          },
          [](RawRedis& redis) { Config(redis, "stop-writes-on-bgsave-error", "no"); }};
}

Refusal WithoutReplicas() {
  return {"WithoutReplicas", "NOREPLICAS", absl::StatusCode::kUnavailable,
          [](RedisServer&, RawRedis& redis) { Config(redis, "min-replicas-to-write", "1"); },
          [](RawRedis& redis) { Config(redis, "min-replicas-to-write", "0"); }};
}

class RefusedWriteTest : public ::testing::TestWithParam<Refusal> {
 protected:
  void Begin() { GetParam().begin(server_, redis_); }
  void End() { GetParam().end(redis_); }

  void ExpectClear(const absl::Status& status, const std::string& what = "") {
    EXPECT_THAT(status, StatusIs(GetParam().code, HasSubstr(GetParam().word))) << what;
    EXPECT_FALSE(IsOutcomeUnknown(status)) << what << ": " << status;
    EXPECT_FALSE(IsBusy(status)) << what << ": " << status;
    EXPECT_EQ(coord::IsUnavailable(status), GetParam().code == absl::StatusCode::kUnavailable)
        << what << ": " << status;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  Client other_ = ConnectTo(server_);
};

TEST_P(RefusedWriteTest, EveryWriteIsRefusedClearlyAndNothingIsHalfWritten) {
  ASSERT_OK(Counter(client_, "x").Add(5).status());
  ASSERT_OK(JsonDocument(client_, "x").Set(R"({"state": "ready"})"));
  for (const Call& call : Writes()) {
    // The server has seen most of the objects, and the scripts; those of "y" are new to it.
    if (std::string(call.what).starts_with("l")) {
      ASSERT_OK(call.run(client_)) << call.what;
    }
  }
  Begin();
  for (const Call& call : Writes()) {
    const std::string before = redis_.Text({"DEBUG", "DIGEST"});
    ExpectClear(call.run(client_), call.what);
    EXPECT_EQ(redis_.Text({"DEBUG", "DIGEST"}), before) << call.what;
  }
  // To read is another matter.
  ASSERT_OK_AND_ASSIGN(const std::int64_t value, Counter(client_, "x").Get());
  EXPECT_EQ(value, 5);
  ASSERT_OK_AND_ASSIGN(const auto document, JsonDocument(client_, "x").Get());
  EXPECT_EQ(document, R"({"state": "ready"})");

  End();
  for (const Call& call : Writes()) {
    const absl::Status status = call.run(client_);
    EXPECT_TRUE(status.ok() || IsBusy(status)) << call.what << ": " << status;
  }
}

TEST_P(RefusedWriteTest, AcquireFailsClearlyAndLeavesNothing) {
  Begin();
  const Mutex mutex(client_, "deploy");
  ExpectClear(mutex.TryAcquire().status());
  const Stopwatch watch;
  ExpectClear(mutex.Acquire(absl::Milliseconds(300)).status());
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  for (const char* part : {"lease", "queue", "readers"}) {
    EXPECT_FALSE(Exists(redis_, std::string("coord:{deploy}:") + part)) << part;
  }
  End();
  EXPECT_OK(mutex.Acquire(absl::Seconds(10)).status());
}

INSTANTIATE_TEST_SUITE_P(All, RefusedWriteTest,
                         ::testing::Values(OutOfMemory(), CannotSave(), WithoutReplicas()),
                         [](const auto& param) { return std::string(param.param.name); });

// ---- Out of memory: what frees or keeps goes on ----

class OutOfMemoryTest : public ::testing::Test {
 protected:
  bool SomebodyWaits() {
    return Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; });
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  Client other_ = ConnectTo(server_);
  Mutex mutex_{client_, "deploy", {.ttl = absl::Seconds(60)}};
};

TEST_F(OutOfMemoryTest, AReleaseHandsTheLockToWhoWaits) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  absl::StatusOr<Lease> next;
  {
    const std::jthread waiter([&] { next = Mutex(other_, "deploy").Acquire(absl::Seconds(20)); });
    ASSERT_TRUE(SomebodyWaits());
    Config(redis_, "maxmemory", "1");
    EXPECT_OK(lease.Release());
  }
  ASSERT_OK(next.status());
  EXPECT_TRUE(next->valid());
  EXPECT_GT(next->token(), lease.token());
  EXPECT_OK(next->Release());
  EXPECT_FALSE(Exists(redis_, "coord:{deploy}:lease"));
}

TEST_F(OutOfMemoryTest, WhoGivesUpWaitingLeavesTheQueue) {
  ASSERT_OK_AND_ASSIGN(const Lease lease, mutex_.TryAcquire());
  std::stop_source stop;
  std::jthread waiter([&] {
    const absl::Status status =
        Mutex(other_, "deploy").Acquire(absl::Seconds(30), stop.get_token()).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  });
  ASSERT_TRUE(SomebodyWaits());
  Config(redis_, "maxmemory", "1");
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(Eventually([&] { return !Exists(redis_, "coord:{deploy}:queue"); }));
}

TEST_F(OutOfMemoryTest, ALeaseIsRenewedForAsLongAsItIsHeld) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "short", {.ttl = absl::Milliseconds(900)}).TryAcquire());
  Config(redis_, "maxmemory", "1");
  EXPECT_OK(lease.Renew(absl::Milliseconds(900)));
  const Stopwatch watch;
  EXPECT_FALSE(Eventually([&] { return !lease.valid(); }, absl::Seconds(2)));
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
}

// ---- No writes at all: the time to live frees ----

class NoWritesTest : public RefusedWriteTest {};

TEST_P(NoWritesTest, AReleaseIsRefusedClearlyAndTheTimeToLiveFrees) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(2)}).TryAcquire());
  Begin();
  const absl::Status status = lease.Release({.timeout = absl::Milliseconds(500)});
  ExpectClear(status);
  EXPECT_FALSE(IsLost(status)) << status;
  EXPECT_FALSE(lease.valid());
  EXPECT_TRUE(Exists(redis_, "coord:{deploy}:lease"));
  EXPECT_TRUE(Eventually([&] { return !Exists(redis_, "coord:{deploy}:lease"); }));
  End();
  EXPECT_OK(Mutex(other_, "deploy").Acquire(absl::Seconds(10)).status());
}

TEST_P(NoWritesTest, ALeaseThatCannotBeRenewedIsLostInTime) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(2)}).TryAcquire());
  Begin();
  EXPECT_TRUE(Eventually([&] { return !Exists(redis_, "coord:{deploy}:lease"); }));
  EXPECT_FALSE(lease.valid());
  const std::stop_token lost = lease.stop_token();
  EXPECT_TRUE(Eventually([&] { return lost.stop_requested(); }));
  End();
  ASSERT_OK_AND_ASSIGN(const Lease next, Mutex(other_, "deploy").Acquire(absl::Seconds(10)));
  EXPECT_GT(next.token(), lease.token());
}

TEST_P(NoWritesTest, ALeaseOutlivesAShortTimeOfIt) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(12)}).TryAcquire());
  Begin();
  EXPECT_FALSE(lease.Renew(absl::Seconds(12)).ok());
  EXPECT_TRUE(lease.valid());
  End();
  EXPECT_OK(lease.Renew(absl::Seconds(12)));
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
}

TEST_P(NoWritesTest, WhoWaitsIsServedWhenTheServerTakesWritesAgain) {
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(2)}).TryAcquire());
  absl::StatusOr<Lease> next;
  std::jthread waiter([&] { next = Mutex(other_, "deploy").Acquire(absl::Seconds(30)); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  Begin();
  ExpectClear(lease.Release({.timeout = absl::Milliseconds(500)}));
  EXPECT_TRUE(Eventually([&] { return !Exists(redis_, "coord:{deploy}:lease"); }));
  End();
  waiter.join();
  ASSERT_OK(next.status());
  EXPECT_TRUE(next->valid());
}

INSTANTIATE_TEST_SUITE_P(All, NoWritesTest, ::testing::Values(CannotSave(), WithoutReplicas()),
                         [](const auto& param) { return std::string(param.param.name); });

// ---- A full disk ----

class FullDiskTest : public testing::OwnNamespacesTest {};

TEST_F(FullDiskTest, IsAClearErrorAndWorkGoesOnWhenThereIsRoom) {
  if (RanInside()) return;
  const TempDir directory;
  const std::string disk = directory.File("disk");
  std::filesystem::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "no small disk can be mounted: " << std::strerror(errno);
  }
  {
    testing::RedisServerOptions options;
    options.directory = disk;
    // A server that writes each command out ends when it cannot; this one refuses.
    options.args = {"--appendonly", "yes", "--appendfsync", "everysec"};
    RedisServer server(options);
    RawRedis redis(server);
    const Client client = ConnectTo(server);
    ASSERT_OK(Counter(client, "hits").Add(1).status());
    ASSERT_OK_AND_ASSIGN(Lease lease,
                         Mutex(client, "deploy", {.ttl = absl::Seconds(3)}).TryAcquire());
    const std::string ballast = disk + "/ballast";
    std::ofstream(ballast) << std::string(std::size_t{1} << 20, 'x');
    // A page of the file may have some room left.
    absl::Status refused;
    std::int64_t added = 1;
    ASSERT_TRUE(Eventually([&] {
      refused = Counter(client, "hits").Add(1).status();
      if (refused.ok()) ++added;
      return !refused.ok();
    }));
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("MISCONF")));
    EXPECT_FALSE(IsOutcomeUnknown(refused)) << refused;
    const absl::Status acquired = Mutex(client, "other").TryAcquire().status();
    EXPECT_THAT(acquired, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("No space left")));
    const absl::Status released = lease.Release({.timeout = absl::Milliseconds(500)});
    EXPECT_TRUE(coord::IsUnavailable(released)) << released;
    EXPECT_TRUE(Eventually([&] { return !Exists(redis, "coord:{deploy}:lease"); }));
    ASSERT_OK_AND_ASSIGN(std::int64_t value, Counter(client, "hits").Get());
    EXPECT_EQ(value, added);

    // The server tries again every second.
    std::filesystem::remove(ballast);
    EXPECT_TRUE(Eventually([&] { return Counter(client, "hits").Add(1).ok(); }));
    EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(10)).status());
    server.Terminate();
    server.Start();
    const Client after = ConnectTo(server);
    ASSERT_OK_AND_ASSIGN(value, Counter(after, "hits").Get());
    EXPECT_EQ(value, added + 1);
    server.Kill();
  }
  umount(disk.c_str());
}

}  // namespace
}  // namespace coord
