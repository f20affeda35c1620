// RwMutex: readers together, a writer alone, and phases that are fair to both.
#include "coord/rw_mutex.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Client ConnectTo(const RedisServer& server) {
  absl::StatusOr<Client> client = Client::Connect(server.url());
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class RwMutexTest : public ::testing::Test {
 protected:
  std::int64_t Waiting() { return redis_.Integer({"LLEN", "coord:{book}:queue"}); }
  bool SomeWait(std::int64_t how_many) {
    return Eventually([&] { return Waiting() == how_many; });
  }
  // Acquires in a thread of its own, through a client of its own: as another process would.
  struct Later {
    std::thread thread;
    std::atomic<bool> done{false};
    std::optional<Lease> lease;
    ~Later() {
      if (thread.joinable()) thread.join();
    }
    Lease& Get() {
      thread.join();
      return *lease;
    }
  };
  std::unique_ptr<Later> Ask(bool shared, absl::Duration timeout = absl::Seconds(20)) {
    auto later = std::make_unique<Later>();
    later->thread = std::thread([this, shared, timeout, l = later.get()] {
      const Client client = ConnectTo(server_);
      const RwMutex mutex(client, "book");
      absl::StatusOr<Lease> got = shared ? mutex.AcquireShared(timeout) : mutex.Acquire(timeout);
      EXPECT_OK(got.status());
      if (got.ok()) l->lease.emplace(*std::move(got));
      l->done = true;
    });
    return later;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_);
  RwMutex mutex_{client_, "book"};
};

TEST_F(RwMutexTest, ReadersShareAndAWriterIsAlone) {
  ASSERT_OK_AND_ASSIGN(Lease one, mutex_.TryAcquireShared());
  ASSERT_OK_AND_ASSIGN(Lease two, mutex_.TryAcquireShared());
  EXPECT_TRUE(one.valid() && two.valid());
  const absl::Status busy = mutex_.TryAcquire().status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy.ToString(), HasSubstr("readers"));
  ASSERT_OK(one.Release());
  EXPECT_TRUE(IsBusy(mutex_.TryAcquire().status()));
  ASSERT_OK(two.Release());
  ASSERT_OK_AND_ASSIGN(Lease writer, mutex_.TryAcquire());
  EXPECT_TRUE(IsBusy(mutex_.TryAcquireShared().status()));
  EXPECT_TRUE(IsBusy(mutex_.TryAcquire().status()));
}

TEST_F(RwMutexTest, AMutexOfTheSameNameExcludesReadersAndWriter) {
  const Mutex plain(client_, "book");
  {
    ASSERT_OK_AND_ASSIGN(Lease lease, plain.TryAcquire());
    EXPECT_TRUE(IsBusy(mutex_.TryAcquireShared().status()));
    EXPECT_TRUE(IsBusy(mutex_.TryAcquire().status()));
  }
  ASSERT_OK_AND_ASSIGN(Lease reader, mutex_.TryAcquireShared());
  EXPECT_TRUE(IsBusy(plain.TryAcquire().status()));
  ASSERT_OK(reader.Release());
  EXPECT_OK(plain.TryAcquire().status());
}

TEST_F(RwMutexTest, ATokenOrdersWritersAndPhases) {
  ASSERT_OK_AND_ASSIGN(Lease first, mutex_.TryAcquireShared());
  ASSERT_OK_AND_ASSIGN(Lease second, mutex_.TryAcquireShared());
  EXPECT_EQ(first.token(), second.token());
  const FencingToken phase = first.token();
  ASSERT_OK(first.Release());
  ASSERT_OK(second.Release());
  ASSERT_OK_AND_ASSIGN(Lease writer, mutex_.TryAcquire());
  EXPECT_GT(writer.token(), phase);
  const FencingToken written = writer.token();
  ASSERT_OK(writer.Release());
  ASSERT_OK_AND_ASSIGN(Lease third, mutex_.TryAcquireShared());
  EXPECT_GT(third.token(), written);
}

TEST_F(RwMutexTest, WhileAWriterWaitsNoReaderComesIn) {
  ASSERT_OK_AND_ASSIGN(Lease reader, mutex_.TryAcquireShared());
  auto writer = Ask(false);
  ASSERT_TRUE(SomeWait(1));
  EXPECT_TRUE(IsBusy(mutex_.TryAcquireShared().status()));
  EXPECT_FALSE(writer->done);
  const Stopwatch watch;
  ASSERT_OK(reader.Release());
  EXPECT_TRUE(writer->Get().valid());
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(700)) << "the grant was not announced";
}

TEST_F(RwMutexTest, AWriterThatGoesAwayLetsReadersInAgain) {
  ASSERT_OK_AND_ASSIGN(Lease reader, mutex_.TryAcquireShared());
  const Client other = ConnectTo(server_);
  EXPECT_TRUE(IsBusy(RwMutex(other, "book").Acquire(absl::Milliseconds(100)).status()));
  ASSERT_TRUE(SomeWait(0));
  EXPECT_OK(mutex_.TryAcquireShared().status());
}

TEST_F(RwMutexTest, AfterAWriterAllReadersComeAndThenTheNextWriter) {
  ASSERT_OK_AND_ASSIGN(Lease writer, mutex_.TryAcquire());
  auto next_writer = Ask(false);
  ASSERT_TRUE(SomeWait(1));
  auto reader_one = Ask(true);
  ASSERT_TRUE(SomeWait(2));
  auto reader_two = Ask(true);
  ASSERT_TRUE(SomeWait(3));
  ASSERT_OK(writer.Release());
  Lease& one = reader_one->Get();
  Lease& two = reader_two->Get();
  EXPECT_EQ(one.token(), two.token());
  EXPECT_FALSE(next_writer->done);
  ASSERT_OK(one.Release());
  EXPECT_FALSE(next_writer->done);
  const FencingToken phase = two.token();
  ASSERT_OK(two.Release());
  EXPECT_GT(next_writer->Get().token(), phase);
}

TEST_F(RwMutexTest, ADowngradeLetsNoWriterInBetweenAndAllWaitingReaders) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const FencingToken written = lease.token();
  auto writer = Ask(false);
  ASSERT_TRUE(SomeWait(1));
  auto reader = Ask(true);
  ASSERT_TRUE(SomeWait(2));
  ASSERT_OK(mutex_.Downgrade(lease));
  EXPECT_TRUE(lease.valid());
  EXPECT_GT(lease.token(), written);
  EXPECT_EQ(reader->Get().token(), lease.token());
  EXPECT_FALSE(writer->done);
  ASSERT_OK(reader->lease->Release());
  EXPECT_FALSE(writer->done);
  ASSERT_OK(lease.Release());
  EXPECT_TRUE(writer->Get().valid());
}

TEST_F(RwMutexTest, TheOnlyReaderBecomesTheWriterAndOthersPreventIt) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquireShared());
  const FencingToken phase = lease.token();
  {
    ASSERT_OK_AND_ASSIGN(Lease other, mutex_.TryAcquireShared());
    const absl::Status refused = mutex_.Upgrade(lease);
    EXPECT_TRUE(IsBusy(refused)) << refused;
    EXPECT_TRUE(lease.valid());
    EXPECT_EQ(lease.token(), phase);
  }
  ASSERT_OK(mutex_.Upgrade(lease));
  EXPECT_TRUE(lease.valid());
  EXPECT_GT(lease.token(), phase);
  EXPECT_TRUE(IsBusy(mutex_.TryAcquireShared().status()));
  ASSERT_OK(lease.Release());
  EXPECT_OK(mutex_.TryAcquireShared().status());
}

TEST_F(RwMutexTest, OnlyTheRightKindOfLeaseIsConverted) {
  ASSERT_OK_AND_ASSIGN(Lease reader, mutex_.TryAcquireShared());
  EXPECT_THAT(mutex_.Downgrade(reader), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(Lease stranger, RwMutex(client_, "another").TryAcquire());
  EXPECT_THAT(mutex_.Downgrade(stranger), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(mutex_.Upgrade(stranger), StatusIs(absl::StatusCode::kInvalidArgument));
  Lease nothing;
  EXPECT_THAT(mutex_.Upgrade(nothing), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_TRUE(reader.valid() && stranger.valid());
}

TEST_F(RwMutexTest, ALeaseThatIsGoneIsNotConverted) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  redis_.Command({"FLUSHALL"});
  const absl::Status status = mutex_.Downgrade(lease);
  EXPECT_TRUE(IsLost(status)) << status;
  EXPECT_FALSE(lease.valid());
}

TEST_F(RwMutexTest, ReadersAreRenewed) {
  const RwMutex brief(client_, "book", {.ttl = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(Lease one, brief.TryAcquireShared());
  ASSERT_OK_AND_ASSIGN(Lease two, brief.TryAcquireShared());
  const Client other = ConnectTo(server_);
  EXPECT_TRUE(IsBusy(RwMutex(other, "book").Acquire(absl::Seconds(1)).status()));
  EXPECT_TRUE(one.valid() && two.valid());
}

TEST_F(RwMutexTest, AReaderThatIsKilledHoldsAWriterUpForItsTtlOnly) {
  Process reader = ForkAndRun([&] {
    const Client client = ConnectTo(server_);
    absl::StatusOr<Lease> lease =
        RwMutex(client, "book", {.ttl = absl::Milliseconds(600)}).TryAcquireShared();
    if (!lease.ok()) return 1;
    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", "coord:{book}:readers"}) == 1; }));
  reader.Kill();
  const Stopwatch watch;
  EXPECT_OK(mutex_.Acquire(absl::Seconds(10)).status());
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));  // ttl, the backstop of 1 s, and a slow machine
}

TEST_F(RwMutexTest, NothingIsLeftBehindButTheFence) {
  {
    ASSERT_OK_AND_ASSIGN(Lease writer, mutex_.TryAcquire());
    auto reader = Ask(true);
    ASSERT_TRUE(SomeWait(1));
    ASSERT_OK(writer.Release());
    ASSERT_OK(reader->Get().Release());
  }
  const Reply keys = redis_.Command({"KEYS", "*"});
  ASSERT_EQ(keys.items().size(), 1u) << keys.ToDebugString();
  EXPECT_EQ(keys.items()[0].text(), "coord:{book}:fence");
}

TEST_F(RwMutexTest, HolderShowsReadersAndWhoWaits) {
  ASSERT_OK_AND_ASSIGN(Lease reader, mutex_.TryAcquireShared());
  auto writer = Ask(false);
  ASSERT_TRUE(SomeWait(1));
  ASSERT_OK_AND_ASSIGN(LockHolder holder, mutex_.Holder());
  EXPECT_EQ(holder.owner, "");
  EXPECT_THAT(holder.readers, ElementsAre(reader.owner()));
  EXPECT_EQ(holder.waiters.size(), 1u);
  EXPECT_GT(holder.left, absl::ZeroDuration());
  ASSERT_OK(reader.Release());
  const std::string owner = writer->Get().owner();
  ASSERT_OK_AND_ASSIGN(holder, mutex_.Holder());
  EXPECT_EQ(holder.owner, owner);
  EXPECT_EQ(holder.token, writer->lease->token());
  EXPECT_TRUE(holder.readers.empty() && holder.waiters.empty());
}

TEST_F(RwMutexTest, ReadersNeverMeetAWriterUnderLoad) {
  std::atomic<int> readers{0}, writers{0}, bad{0}, together{0};
  std::atomic<int> read{0}, written{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&, i] {
      const Client client = ConnectTo(server_);
      const RwMutex mutex(client, "book");
      for (int turn = 0; turn < 25; ++turn) {
        const bool shared = (i + turn) % 3 != 0;
        absl::StatusOr<Lease> lease =
            shared ? mutex.AcquireShared(absl::Seconds(30)) : mutex.Acquire(absl::Seconds(30));
        ASSERT_OK(lease.status());
        if (shared) {
          if (readers.fetch_add(1) > 0) ++together;
          if (writers != 0) ++bad;
          std::this_thread::yield();
          --readers;
          ++read;
        } else {
          if (writers.fetch_add(1) != 0 || readers != 0) ++bad;
          std::this_thread::yield();
          --writers;
          ++written;
        }
        ASSERT_OK(lease->Release());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(read + written, 12 * 25);
  EXPECT_GT(together, 0);
  EXPECT_EQ(Waiting(), 0);
}

}  // namespace
}  // namespace coord
