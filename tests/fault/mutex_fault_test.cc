// Mutex and Lease while holders are killed, servers vanish and networks lie.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_server.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/sockets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FakeScript;
using ::coord::testing::FakeServer;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::TempDir;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kLease[] = "coord:{deploy}:lease";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

ClientOptions WithTimeout(absl::Duration timeout) {
  ClientOptions options;
  options.timeout = timeout;
  return options;
}

std::int64_t BootMicros() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * std::int64_t{1'000'000} + now.tv_nsec / 1000;
}

absl::Duration Since(std::int64_t start) { return absl::Microseconds(BootMicros() - start); }

bool IsFree(RawRedis& redis) { return redis.Integer({"EXISTS", kLease}) == 0; }

// ---- Among processes ----

// What a holder writes into the file that the lock guards.
struct Entry {
  char kind = 0;  // 'B' when it begins, 'E' when it ends
  std::uint64_t token = 0;
  int pid = 0;
  std::int64_t asked = 0;  // when it sent its last request at the earliest, boot time in us
  std::int64_t at = 0;
};

void Append(const std::string& path, const Entry& entry) {
  char line[160];
  const int size =
      std::snprintf(line, sizeof(line), "%c %llu %d %lld %lld\n", entry.kind,
                    static_cast<unsigned long long>(entry.token), entry.pid,
                    static_cast<long long>(entry.asked), static_cast<long long>(entry.at));
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, line, static_cast<std::size_t>(size)) != size) testing::Fatal("append");
  close(fd);
}

std::vector<Entry> ReadEntries(const std::string& path) {
  std::ifstream file(path);
  std::vector<Entry> entries;
  Entry entry;
  while (file >> entry.kind >> entry.token >> entry.pid >> entry.asked >> entry.at) {
    entries.push_back(entry);
  }
  return entries;
}

// Takes the lock `rounds` times and writes when it was inside; in the last round it stays, if asked
// to.
int Work(const std::string& url, const std::string& file, absl::Duration ttl, int rounds,
         bool stay) {
  const absl::StatusOr<Client> client = Client::Connect(url);
  if (!client.ok()) return 2;
  const Mutex mutex(*client, "deploy", {.ttl = ttl});
  for (int round = 1; round <= rounds; ++round) {
    std::int64_t asked = 0;
    absl::StatusOr<Lease> lease;
    do {
      asked = BootMicros();
      lease = mutex.TryAcquire();
      if (!lease.ok() && !IsBusy(lease.status())) return 3;
      if (!lease.ok()) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    } while (!lease.ok());
    Append(file, {'B', lease->token().value(), getpid(), asked, BootMicros()});
    while (stay && round == rounds) pause();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    Append(file, {'E', lease->token().value(), getpid(), asked, BootMicros()});
    if (!lease->Release().ok()) return 4;
  }
  return 0;
}

TEST(MutexFaultTest, ProcessesExcludeEachOtherThoughHoldersAreKilled) {
  const absl::Duration ttl = absl::Milliseconds(500);
  RedisServer server;
  const TempDir directory;
  const std::string file = directory.File("history");
  std::vector<Process> workers;
  std::vector<Process> victims;
  for (int i = 0; i < 3; ++i) {
    workers.push_back(ForkAndRun([&] { return Work(server.url(), file, ttl, 25, false); }));
    victims.push_back(ForkAndRun([&] { return Work(server.url(), file, ttl, 2, true); }));
  }
  std::map<int, std::int64_t> killed;  // pid and when
  for (int i = 0; i < 3; ++i) {
    Process* staying = nullptr;
    ASSERT_TRUE(Eventually([&] {  // the last to begin is a victim in its last round
      const std::vector<Entry> entries = ReadEntries(file);
      if (entries.empty() || entries.back().kind != 'B') return false;
      int begun = 0;
      for (const Entry& entry : entries) {
        if (entry.kind == 'B' && entry.pid == entries.back().pid) ++begun;
      }
      for (Process& victim : victims) {
        if (victim.pid() == entries.back().pid && begun == 2 && killed.count(victim.pid()) == 0) {
          staying = &victim;
        }
      }
      return staying != nullptr;
    }));
    if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(800));  // it is renewed
    const std::size_t before = ReadEntries(file).size();
    killed[staying->pid()] = BootMicros();
    staying->Kill();
    EXPECT_EQ(ReadEntries(file).size(), before) << "somebody went in beside a living holder";
  }
  for (Process& worker : workers) EXPECT_EQ(worker.Wait().exit_code, 0);

  const std::vector<Entry> entries = ReadEntries(file);
  EXPECT_EQ(entries.size(), 2 * 3 * 25u + 3 * 3u);
  std::uint64_t last_token = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].kind == 'B') {
      EXPECT_GT(entries[i].token, last_token) << "line " << i + 1;
      last_token = entries[i].token;
      if (i > 0 && entries[i - 1].kind == 'B') {  // the one before was killed
        ASSERT_EQ(killed.count(entries[i - 1].pid), 1u) << "two inside at line " << i + 1;
        // Free at the ttl, not before: the server counts from some time after it was asked.
        EXPECT_GE(entries[i].at - entries[i - 1].asked, absl::ToInt64Microseconds(ttl) - 5000);
        EXPECT_GE(entries[i].at, killed[entries[i - 1].pid]);
      }
    } else {
      ASSERT_GT(i, 0u);
      EXPECT_EQ(entries[i - 1].kind, 'B') << "two inside at line " << i + 1;
      EXPECT_EQ(entries[i].token, entries[i - 1].token) << "two inside at line " << i + 1;
    }
  }
}

TEST(MutexFaultTest, TheLockOfAKilledHolderIsFreeWithinItsTimeToLive) {
  RedisServer server;
  RawRedis redis(server);
  Process holder = ForkAndRun([&]() -> int {
    const absl::StatusOr<Client> client = Client::Connect(server.url());
    if (!client.ok()) return 1;
    const absl::StatusOr<Lease> lease =
        Mutex(*client, "deploy", {.ttl = absl::Seconds(1)}).TryAcquire();
    while (lease.ok()) pause();
    return 2;
  });
  ASSERT_TRUE(Eventually([&] { return !IsFree(redis); }));
  holder.Kill();
  const std::int64_t start = BootMicros();
  const Client client = ConnectTo(server.url());
  EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(20)).status());
  EXPECT_LT(Since(start),
            absl::Seconds(4));  // at most 1 s by the server, and what a loaded machine adds
}

// ---- The server vanishes ----

// Watches a lease from `asked` before to `granted` after its last renewal can have been sent.
void ExpectEndsBeforeTheServerWouldFreeIt(const Lease& lease, absl::Duration ttl,
                                          std::int64_t granted) {
  const std::stop_token token = lease.stop_token();
  EXPECT_TRUE(lease.valid());
  std::int64_t last_valid = 0;
  std::int64_t stopped = 0;
  ASSERT_TRUE(Eventually(
      [&] {
        const std::int64_t now = BootMicros();
        if (lease.valid()) last_valid = now;
        if (stopped == 0 && token.stop_requested()) stopped = now;
        return stopped != 0 && !lease.valid();
      },
      absl::Seconds(9)));
  const std::int64_t server_frees_it = granted + absl::ToInt64Microseconds(ttl);
  EXPECT_LT(last_valid, server_frees_it);
  // The token is tripped by a thread, which a loaded machine may keep waiting.
  EXPECT_LT(stopped, server_frees_it + 400'000);
  EXPECT_EQ(lease.remaining(), absl::ZeroDuration());
}

TEST(MutexFaultTest, TheStopTokenTripsBeforeTheTtlIsOverWhenTheServerHangs) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  RedisServer server;
  const Client client = ConnectTo(server.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "deploy", {.ttl = ttl}).TryAcquire());
  server.Pause();
  const std::int64_t granted = BootMicros();
  ExpectEndsBeforeTheServerWouldFreeIt(lease, ttl, granted);
  EXPECT_TRUE(IsLost(lease.Renew(ttl, {.timeout = absl::Milliseconds(200)})));
  server.Resume();
}

TEST(MutexFaultTest, TheStopTokenTripsBeforeTheTtlIsOverWhenTheServerIsKilled) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  RedisServer server;
  const Client client = ConnectTo(server.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "deploy", {.ttl = ttl}).TryAcquire());
  server.Kill();
  const std::int64_t granted = BootMicros();
  ExpectEndsBeforeTheServerWouldFreeIt(lease, ttl, granted);
  const std::int64_t start = BootMicros();
  EXPECT_FALSE(lease.Release().ok());
  EXPECT_LT(Since(start), absl::Seconds(8));
}

TEST(MutexFaultTest, TheStopTokenTripsBeforeTheTtlIsOverWhenRepliesVanish) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  RedisServer server;
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "deploy", {.ttl = ttl}).TryAcquire());
  proxy.Set(Direction::kReplies, {.drop = true});
  const std::int64_t granted = BootMicros();
  ExpectEndsBeforeTheServerWouldFreeIt(lease, ttl, granted);
  proxy.Heal();
  EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(10)).status());
}

TEST(MutexFaultTest, ALeaseOutlivesAnInterruptionShorterThanItsTime) {
  RedisServer server;
  RawRedis redis(server);
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Milliseconds(1500)}).TryAcquire());
  proxy.Refuse(true);
  proxy.ResetConnections();
  std::this_thread::sleep_for(std::chrono::milliseconds(600));  // the scenario: a renewal fails
  proxy.Heal();
  std::this_thread::sleep_for(std::chrono::milliseconds(1800));  // and its first time passes
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_EQ(redis.Text({"GET", kLease}), lease.owner());
  EXPECT_OK(lease.Release());
}

TEST(MutexFaultTest, TheDestructorIsBoundedWhenTheServerHangs) {
  RedisServer server;
  std::int64_t start = 0;
  const Client client = ConnectTo(server.url());
  {
    ASSERT_OK_AND_ASSIGN(const Lease lease,
                         Mutex(client, "deploy", {.ttl = absl::Hours(1)}).TryAcquire());
    server.Pause();
    start = BootMicros();
  }
  EXPECT_LT(Since(start), absl::Seconds(4));  // 1 s, and what a loaded machine adds
  server.Resume();
}

TEST(MutexFaultTest, TokensRiseThroughRestartsWithoutPersistence) {
  RedisServer server;
  const Client client = ConnectTo(server.url());
  const Mutex mutex(client, "deploy", {.ttl = absl::Seconds(60)});
  FencingToken last;
  for (int i = 0; i < 4; ++i) {
    ASSERT_OK_AND_ASSIGN(Lease lease, mutex.Acquire(absl::Seconds(10)));
    EXPECT_GT(lease.token(), last);
    last = lease.token();
    server.Restart(RedisServer::Data::kDrop);
  }
}

TEST(MutexFaultTest, ALeaseIsLostWhenTheServerComesBackWithoutIt) {
  RedisServer server;
  const Client client = ConnectTo(server.url());
  const Mutex mutex(client, "deploy", {.ttl = absl::Seconds(5)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  server.Restart(RedisServer::Data::kDrop);
  const std::int64_t start = BootMicros();
  EXPECT_TRUE(Eventually([&] { return lease.stop_token().stop_requested(); }));
  EXPECT_LT(Since(start), absl::Seconds(4));  // by the renewal at a third of the ttl
  EXPECT_TRUE(IsLost(lease.Release()));
}

TEST(MutexFaultTest, ALeaseSurvivesARestartOfAServerThatKeptItsData) {
  RedisServer server({.append_only = true});
  const Client client = ConnectTo(server.url());
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  server.Restart(RedisServer::Data::kKeep);
  EXPECT_OK(lease.Renew(absl::Seconds(60)));
  EXPECT_TRUE(lease.valid());
  EXPECT_TRUE(IsBusy(Mutex(client, "deploy").TryAcquire().status()));
  EXPECT_OK(lease.Release());
}

// ---- Under load ----

struct LoadResult {
  int entered = 0;
  int counted = 0;  // by a plain counter that only the lock guards
  int unknown = 0;
  std::string failure;  // one that is neither success nor an unknown or a not applied outcome
};

// Several threads take one lock again and again for `duration`, while `disturb` runs in a loop.
template <typename Disturb>
LoadResult RunUnderLoad(const std::vector<Client>& clients, absl::Duration duration,
                        Disturb&& disturb) {
  constexpr int kThreads = 6;
  LoadResult result;
  std::mutex result_mutex;
  std::atomic<bool> stop = false;
  std::atomic<int> counter = 0;  // atomic for the sanitizer's sake alone: read, then written
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        const Mutex mutex(clients[static_cast<std::size_t>(i) % clients.size()], "deploy",
                          {.ttl = absl::Seconds(3)});
        int entered = 0;
        int unknown = 0;
        std::string failure;
        while (!stop) {
          absl::StatusOr<Lease> lease = mutex.Acquire(absl::Seconds(20));
          if (!lease.ok()) {
            ++unknown;
            if (!IsOutcomeUnknown(lease.status()) && !coord::IsUnavailable(lease.status())) {
              failure = lease.status().ToString();
            }
            continue;
          }
          const int read = counter.load(std::memory_order_relaxed);
          std::this_thread::sleep_for(std::chrono::microseconds(200));
          if (lease->valid()) {
            counter.store(read + 1, std::memory_order_relaxed);
            ++entered;
          }
          const absl::Status released = lease->Release();
          if (released.ok()) continue;
          ++unknown;
          if (!IsOutcomeUnknown(released) && !coord::IsUnavailable(released)) {
            failure = released.ToString();
          }
        }
        const std::lock_guard lock(result_mutex);
        result.entered += entered;
        result.unknown += unknown;
        if (!failure.empty()) result.failure = failure;
      });
    }
    const std::int64_t start = BootMicros();
    while (Since(start) < duration) {
      disturb();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    stop = true;
  }
  result.counted = counter;
  return result;
}

TEST(MutexFaultTest, ARenewalThatIsOvertakenByALongerOneDoesNotMakeTheLeaseBelieveTooMuch) {
  RedisServer server;
  RawRedis redis(server);
  testing::FaultProxy proxy(server.unix_url(), testing::FaultProxy::Listener::kTcp);
  const Client client = ConnectTo(proxy.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, "late", {.ttl = absl::Seconds(3)}).TryAcquire());
  // The background's connection comes up with the first renewal, which is held on its way.
  ASSERT_TRUE(Eventually([&] { return proxy.accepted() == 2; }));
  ASSERT_TRUE(Eventually([&] { return redis.Integer({"PTTL", "coord:{late}:lease"}) > 2500; }));
  proxy.SetOne(1, testing::Direction::kRequests, {.hold = true});
  ASSERT_TRUE(Eventually([&] { return proxy.held(testing::Direction::kRequests) > 0; }));
  EXPECT_OK(lease.Renew(absl::Seconds(60)));
  proxy.Heal();  // now the shorter one arrives behind the longer one
  const testing::Stopwatch watch;
  while (watch.elapsed() < absl::Milliseconds(300)) {
    const testing::Stopwatch asking;
    const absl::Duration believed = lease.remaining();
    const absl::Duration left = absl::Milliseconds(redis.Integer({"PTTL", "coord:{late}:lease"}));
    ASSERT_LE(believed, left + asking.elapsed()) << "the server would let another in";
  }
  EXPECT_TRUE(lease.valid());
}

TEST(MutexFaultTest, FlushingScriptsInALoopChangesNothing) {
  RedisServer server;
  RawRedis redis(server);
  int flushes = 0;
  const LoadResult result =
      RunUnderLoad({ConnectTo(server.url()), ConnectTo(server.url())}, absl::Seconds(2), [&] {
        redis.Command({"SCRIPT", "FLUSH"});
        ++flushes;
      });
  EXPECT_EQ(result.counted, result.entered);
  EXPECT_EQ(result.unknown, 0);
  EXPECT_EQ(result.failure, "");
  EXPECT_GT(result.entered, 20);
  EXPECT_GT(flushes, 20);
}

TEST(MutexFaultTest, KillingConnectionsInALoopLetsNobodyInTwice) {
  RedisServer server;
  RawRedis redis(server);
  std::int64_t kills = 0;
  const std::vector<Client> clients = {ConnectTo(server.url()), ConnectTo(server.url())};
  const LoadResult result = RunUnderLoad(clients, absl::Seconds(3), [&] {
    kills += redis.Integer({"CLIENT", "KILL", "TYPE", "normal"});
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  });
  EXPECT_EQ(result.counted, result.entered);
  EXPECT_EQ(result.failure, "");
  EXPECT_GT(result.entered, 10);
  EXPECT_GT(kills, 10);
  // And work goes on.
  for (const Client& client : clients) {
    EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(10)).status());
  }
}

// ---- Lost and late replies ----

// With a lock that would be held for a minute if the library left it.
class MutexReplyFaultTest : public ::testing::Test {
 protected:
  // After an acquisition that failed: unknown, and soon free again, long before its time is over.
  void ExpectUnknownAndGivenBack(const absl::Status& status) {
    EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
    EXPECT_TRUE(Eventually([&] { return IsFree(redis_); }, absl::Seconds(8)));
    const Client other = ConnectTo(server_.url());
    EXPECT_OK(Mutex(other, "deploy").Acquire(absl::Seconds(5)).status());
  }

  RedisServer server_;
  RawRedis redis_{server_};
  FaultProxy proxy_{server_.url()};
  Client client_ = ConnectTo(proxy_.url(), WithTimeout(absl::Seconds(2)));
  Mutex mutex_{client_, "deploy", {.ttl = absl::Seconds(60)}};
};

TEST_F(MutexReplyFaultTest, AnAcquireWhoseReplyIsResetIsUnknownOrGranted) {
  int granted = 0;
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Eventually([&] { return client_.Command({"PING"}).ok(); }));
    const std::size_t before = proxy_.accepted();
    proxy_.ResetBeforeReply();
    absl::StatusOr<Lease> lease =
        i % 2 == 0 ? mutex_.TryAcquire() : mutex_.Acquire(absl::Seconds(5));
    EXPECT_TRUE(Eventually([&] { return proxy_.accepted() > before; })) << "nothing was reset";
    if (lease.ok()) {
      ++granted;
      EXPECT_TRUE(lease->valid());
      EXPECT_EQ(redis_.Text({"GET", kLease}), lease->owner());
      EXPECT_THAT(redis_.Text({"GET", "coord:{deploy}:fence"}),
                  HasSubstr(std::to_string(lease->token().value())));
      EXPECT_OK(lease->Release());
      EXPECT_TRUE(IsFree(redis_));
    } else {
      ExpectUnknownAndGivenBack(lease.status());
    }
  }
  RecordProperty("granted", granted);
}

TEST_F(MutexReplyFaultTest, AnAcquireWhoseReplyIsDroppedIsUnknownAndGivenBack) {
  proxy_.SetPresent(Direction::kReplies, {.drop = true});
  const std::int64_t start = BootMicros();
  const absl::Status status = mutex_.TryAcquire({.timeout = absl::Milliseconds(300)}).status();
  EXPECT_LT(Since(start), absl::Seconds(4));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("deploy")));
  ExpectUnknownAndGivenBack(status);
}

TEST_F(MutexReplyFaultTest, AnAcquireThatArrivesAfterItWasGivenUpTakesNothing) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  proxy_.SetPresent(Direction::kRequests, {.hold = true});  // a new connection overtakes it
  const absl::Status status = mutex_.TryAcquire({.timeout = absl::Milliseconds(300)}).status();
  EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
  EXPECT_GT(proxy_.held(Direction::kRequests), 0u);
  // The withdrawal comes by another connection, or stands behind the acquire on this one.
  const auto scripts_run = [&] {
    return CommandCalls(redis_, "evalsha") + CommandCalls(redis_, "eval");
  };
  (void)Eventually([&] { return scripts_run() >= 1; }, absl::Seconds(1));
  proxy_.Set(Direction::kRequests, {});
  EXPECT_TRUE(Eventually([&] { return scripts_run() >= 2; }));
  EXPECT_TRUE(Eventually([&] { return IsFree(redis_); }, absl::Seconds(8)));
  const Client other = ConnectTo(server_.url());
  EXPECT_OK(Mutex(other, "deploy").Acquire(absl::Seconds(5)).status());
}

TEST_F(MutexReplyFaultTest, AStopWhileAReplyIsAwaitedIsUnknownAndGivenBack) {
  proxy_.SetPresent(Direction::kReplies, {.drop = true});
  const std::uint64_t before = proxy_.arrived(Direction::kReplies);
  std::stop_source stop;
  absl::Status status;
  std::jthread caller(
      [&] { status = mutex_.Acquire(absl::Seconds(30), stop.get_token()).status(); });
  EXPECT_TRUE(Eventually([&] { return proxy_.arrived(Direction::kReplies) > before; }));
  stop.request_stop();
  caller.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  ExpectUnknownAndGivenBack(status);
}

TEST_F(MutexReplyFaultTest, AReleaseWhoseReplyIsResetIsStillAReleaseAndNoLoss) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  proxy_.ResetBeforeReply();
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(IsFree(redis_));
  EXPECT_FALSE(lease.valid());
  EXPECT_OK(mutex_.Acquire(absl::Seconds(5)).status());
}

TEST_F(MutexReplyFaultTest, ARenewalWhoseReplyIsResetDoesNotLoseTheLease) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  proxy_.ResetBeforeReply();
  const absl::Status renewed = lease.Renew(absl::Seconds(90));
  EXPECT_TRUE(renewed.ok() || IsOutcomeUnknown(renewed)) << renewed;
  EXPECT_TRUE(lease.valid());
  EXPECT_FALSE(lease.stop_token().stop_requested());
  EXPECT_OK(lease.Release());
}

TEST_F(MutexReplyFaultTest, ASlowReplyShortensTheValidityItGrants) {
  proxy_.Set(Direction::kReplies, {.delay = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client_, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  EXPECT_LE(lease.remaining(), absl::Seconds(60) - absl::Milliseconds(300 + 602));
}

TEST_F(MutexReplyFaultTest, AGrantWhoseReplyComesAfterItsTimeIsNoLease) {
  proxy_.Set(Direction::kReplies, {.hold = true});
  const std::uint64_t before = proxy_.arrived(Direction::kReplies);
  absl::StatusOr<Lease> lease;
  bool valid = false;
  std::jthread caller([&] {
    lease = Mutex(client_, "deploy", {.ttl = absl::Milliseconds(300)})
                .TryAcquire({.timeout = absl::Seconds(10)});
    valid = lease.ok() && lease->valid();
  });
  EXPECT_TRUE(Eventually([&] { return proxy_.arrived(Direction::kReplies) > before; }));
  EXPECT_TRUE(Eventually([&] { return IsFree(redis_); }));  // its time is over
  redis_.Command({"SET", kLease, "the next", "PX", "60000"});
  proxy_.Heal();
  caller.join();
  EXPECT_FALSE(valid);
  EXPECT_FALSE(lease.ok() && lease->valid());
  EXPECT_EQ(redis_.Text({"GET", kLease}), "the next");
}

TEST(MutexFaultTest, ALateGrantOfAPausedServerIsRefusedAndGivenBack) {
  RedisServer server;
  FaultProxy proxy(server.url());
  const Client client = ConnectTo(proxy.url());
  const absl::Duration ttl = absl::Milliseconds(1200);
  RawRedis redis(server);
  redis.Command({"CONFIG", "RESETSTAT"});
  server.Pause();
  const std::uint64_t before = proxy.arrived(Direction::kRequests);
  absl::StatusOr<Lease> lease;
  absl::Duration remaining;
  std::int64_t left = 0;
  std::jthread caller([&] {
    lease = Mutex(client, "deploy", {.ttl = ttl}).TryAcquire({.timeout = absl::Seconds(8)});
    if (!lease.ok()) return;
    remaining = lease->remaining();
    left = redis.Integer({"PTTL", kLease});
  });
  EXPECT_TRUE(Eventually([&] { return proxy.arrived(Direction::kRequests) > before; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));  // the scenario: past the ttl
  server.Resume();
  caller.join();
  if (lease.ok()) {  // asked for again, so it may be granted, by what the server now says
    EXPECT_LE(remaining, absl::Milliseconds(left) + absl::Milliseconds(500));
    EXPECT_LT(remaining, ttl);
    EXPECT_EQ(redis.Text({"GET", kLease}), lease->owner());
  } else {
    EXPECT_FALSE(IsLost(lease.status())) << lease.status();  // it never was a lease
    EXPECT_TRUE(Eventually([&] { return IsFree(redis); }));
    EXPECT_GE(CommandCalls(redis, "del"), 1) << "only its time has freed it";
  }
}

// ---- No Redis there ----

struct Liar {
  const char* name;
  FakeScript (*script)();
};

class NotRedisTest : public ::testing::TestWithParam<Liar> {};

TEST_P(NotRedisTest, ConnectingEndsInAClearErrorByTheDeadline) {
  const FakeServer liar(GetParam().script());
  ClientOptions options;
  options.connect_timeout = absl::Milliseconds(400);
  options.timeout = absl::Milliseconds(400);
  const std::int64_t start = BootMicros();
  const absl::Status status = Client::Connect(liar.url(), options).status();
  EXPECT_LT(Since(start), absl::Seconds(4));
  EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kDataLoss,
                                   absl::StatusCode::kDeadlineExceeded))
      << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(liar.port())));
}

TEST_P(NotRedisTest, AcquiringEndsInAClearErrorByTheDeadlineWhenTheServerIsReplaced) {
  RedisServer server;
  FaultProxy proxy(server.url());
  ClientOptions options = WithTimeout(absl::Milliseconds(600));
  options.connect_timeout = absl::Milliseconds(300);
  const Client client = ConnectTo(proxy.url(), options);
  const Mutex mutex(client, "deploy");
  ASSERT_OK(mutex.TryAcquire().status());
  const FakeServer liar(GetParam().script());
  proxy.SetUpstream(liar.url());
  proxy.ResetConnections();
  for (const bool wait : {false, true}) {
    const std::int64_t start = BootMicros();
    const absl::Status status =
        (wait ? mutex.Acquire(absl::Milliseconds(600)) : mutex.TryAcquire()).status();
    EXPECT_LT(Since(start), absl::Seconds(4));
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kDataLoss,
                                     absl::StatusCode::kDeadlineExceeded))
        << status;
    EXPECT_FALSE(IsBusy(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(proxy.port())));
  }
  proxy.SetUpstream(server.url());
  proxy.ResetConnections();
  EXPECT_OK(mutex.Acquire(absl::Seconds(10)).status());
}

INSTANTIATE_TEST_SUITE_P(
    Liars, NotRedisTest,
    ::testing::Values(
        Liar{"BlackHole", [] { return testing::Hangs(); }},
        Liar{"Http", [] { return testing::AnswersHttp(); }},
        Liar{"Closing", [] { return testing::ClosesAtOnce(); }},
        Liar{"Resetting", [] { return testing::ResetsAtOnce(); }},
        Liar{"Nonsense", [] { return testing::Says("\x01\x02 what is this? \xff\xfe\r\n\r\n"); }},
        Liar{"HugeLength", [] { return testing::AnswersAll("$9223372036854775807\r\n"); }},
        Liar{"HugeArray", [] { return testing::AnswersAll("*2147483647\r\n"); }},
        Liar{"Ssh", [] { return testing::Says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"); }}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(MutexFaultTest, ARefusedConnectionIsAClearErrorAtOnce) {
  const int port = testing::FreePort();
  const std::int64_t start = BootMicros();
  const absl::Status status = Client::Connect("redis://127.0.0.1:" + std::to_string(port)).status();
  EXPECT_LT(Since(start), absl::Seconds(4));
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(std::to_string(port))));
  EXPECT_THAT(std::string(status.message()), ::testing::ContainsRegex("[Rr]efused"));
}

TEST(MutexFaultTest, AMissingSocketIsAClearError) {
  const TempDir directory;
  const std::string path = directory.File("nobody.sock");
  EXPECT_THAT(Client::Connect("unix://" + path),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(path)));
}

TEST(MutexFaultTest, AcquiringFromAServerThatIsGoneEndsUnavailableByTheDeadline) {
  RedisServer server;
  const Client client = ConnectTo(server.url(), WithTimeout(absl::Milliseconds(500)));
  server.Kill();
  const Mutex mutex(client, "deploy");
  for (const bool wait : {false, true}) {
    const std::int64_t start = BootMicros();
    const absl::Status status =
        (wait ? mutex.Acquire(absl::Milliseconds(500)) : mutex.TryAcquire()).status();
    EXPECT_LT(Since(start), absl::Seconds(4));
    EXPECT_TRUE(coord::IsUnavailable(status)) << status;
    EXPECT_FALSE(IsBusy(status));
  }
}

void ExpectAcquiredFromAServerDownFor(std::chrono::milliseconds outage, ClientOptions options) {
  RedisServer server;
  const Client client = ConnectTo(server.url(), options);
  server.Kill();
  std::atomic<bool> back = false;
  std::jthread caller([&] {
    const absl::StatusOr<Lease> lease = Mutex(client, "deploy").Acquire(absl::Seconds(20));
    EXPECT_OK(lease.status());
    EXPECT_TRUE(back);
  });
  std::this_thread::sleep_for(outage);
  back = true;
  server.Start();
}

TEST(MutexFaultTest, AcquireWaitsForAServerThatComesBack) {
  ExpectAcquiredFromAServerDownFor(std::chrono::milliseconds(300), {});
}

TEST(MutexFaultTest, AcquireWaitsForAServerThatComesBackLongerThanOneCallMayTake) {
  ExpectAcquiredFromAServerDownFor(std::chrono::milliseconds(800),
                                   WithTimeout(absl::Milliseconds(200)));
}

TEST(MutexFaultTest, AReadOnlyReplicaGrantsNothing) {
  RedisServer server;
  RawRedis redis(server);
  const Client client = ConnectTo(server.url(), WithTimeout(absl::Milliseconds(500)));
  redis.Command({"REPLICAOF", "127.0.0.1", "1"});
  const absl::Status status = Mutex(client, "deploy").TryAcquire().status();
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
}

TEST(MutexFaultTest, AServerOutOfMemoryRefusesAcquiresAndStillReleases) {
  RedisServer server;
  RawRedis redis(server);
  const Client client = ConnectTo(server.url(), WithTimeout(absl::Seconds(1)));
  ASSERT_OK_AND_ASSIGN(Lease lease,
                       Mutex(client, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  redis.Command({"CONFIG", "SET", "maxmemory", "1"});
  const absl::Status status = Mutex(client, "other").TryAcquire().status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
  EXPECT_OK(lease.Release());
  EXPECT_TRUE(IsFree(redis));
}

}  // namespace
}  // namespace coord
