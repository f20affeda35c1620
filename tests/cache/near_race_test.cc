// What a near cache must get right when messages, replies and connections are late or lost.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/deployment/key_watch.h"
#include "coord/deployment/session.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cache/near_fixture.h"
#include "tests/support/fault_proxy.h"

namespace coord {
namespace {

using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::HeldRemote;
using ::coord::testing::MustConnect;
using ::coord::testing::Near;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Stopwatch;
using internal::KeyWatch;
using internal::StrCat;

// In the order in which a client makes them.
constexpr std::size_t kMain = 0;
constexpr std::size_t kBackground = 1;

class NearRaceTest : public ::testing::Test {
 protected:
  void Put(const std::string& key, const std::string& value) {
    EXPECT_EQ(redis_.Text({"SET", key, value}), "OK");
  }

  RedisServer server_;
  RawRedis redis_{server_};
  FaultProxy proxy_{server_.unix_url(), FaultProxy::Listener::kUnix};
};

TEST_F(NearRaceTest, AReplyThatArrivesAfterItsKeysInvalidationIsNotKept) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  proxy_.SetOne(kMain, Direction::kReplies, {.hold = true});
  std::string read;
  std::thread reader([&] { read = near.Read("k:1"); });
  EXPECT_TRUE(Eventually([&] { return proxy_.held(Direction::kReplies) > 0; }));
  Put("k:1", "new");
  EXPECT_TRUE(Eventually([&] { return near.cache->stats().invalidations == 1; }));
  proxy_.SetOne(kMain, Direction::kReplies, {});
  reader.join();
  EXPECT_EQ(read, "old");
  EXPECT_EQ(near.Copy("k:1"), "(none)");
  EXPECT_EQ(near.Read("k:1"), "new");
  EXPECT_EQ(near.cache->stats().refused, 1U);
}

TEST_F(NearRaceTest, AReplyThatOvertakesItsKeysInvalidationIsKeptUntilThatArrives) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  proxy_.SetOne(kMain, Direction::kReplies, {.hold = true});
  std::thread reader([&] { EXPECT_EQ(near.Read("k:1"), "old"); });
  EXPECT_TRUE(Eventually([&] { return proxy_.held(Direction::kReplies) > 0; }));
  proxy_.SetOne(kBackground, Direction::kReplies, {.hold = true});
  Put("k:1", "new");
  proxy_.SetOne(kMain, Direction::kReplies, {});
  reader.join();
  EXPECT_EQ(near.Copy("k:1"), "old");
  proxy_.SetOne(kBackground, Direction::kReplies, {});
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "new"; }));
}

TEST_F(NearRaceTest, AReplyThatArrivesAfterAGapIsNotKept) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  proxy_.SetOne(kMain, Direction::kReplies, {.hold = true});
  std::thread reader([&] { EXPECT_EQ(near.Read("k:1"), "old"); });
  EXPECT_TRUE(Eventually([&] { return proxy_.held(Direction::kReplies) > 0; }));
  proxy_.Set(Direction::kRequests, {.hold = true});  // so that the gap lasts
  redis_.Command({"CLIENT", "KILL", "TYPE", "pubsub"});
  EXPECT_TRUE(Eventually([&] { return !near.cache->active(); }));
  Put("k:1", "new");  // which nobody tells of
  proxy_.Set(Direction::kRequests, {});
  EXPECT_TRUE(near.BecomesActive());
  proxy_.SetOne(kMain, Direction::kReplies, {});
  reader.join();
  EXPECT_EQ(near.Copy("k:1"), "(none)");
  EXPECT_EQ(near.Read("k:1"), "new");
}

// Two readers with a write between them that has not been heard of.
TEST_F(NearRaceTest, WhoHasSeenAValueFindsNoOlderCopy) {
  Put("k:1", "old");
  auto remote = std::make_shared<HeldRemote>(MustConnect(proxy_.url()));
  std::atomic<bool> here = false, go = false;
  remote->on_value = [&](const std::optional<Stored>& value) {
    if (!value || value->value != "old") return;
    here = true;
    EXPECT_TRUE(Eventually([&] { return go.load(); }));
  };
  Near near(remote);
  ASSERT_TRUE(near.BecomesActive());
  std::thread slow([&] { EXPECT_EQ(near.Read("k:1"), "old"); });
  EXPECT_TRUE(Eventually([&] { return here.load(); }));
  proxy_.SetOne(kBackground, Direction::kReplies, {.hold = true});
  Put("k:1", "new");
  EXPECT_EQ(near.Read("k:1"), "new");
  go = true;
  slow.join();
  EXPECT_NE(near.Copy("k:1"), "old");
  EXPECT_EQ(near.Read("k:1"), "new");
  proxy_.SetOne(kBackground, Direction::kReplies, {});
}

// The same with the older value kept first.
TEST_F(NearRaceTest, WhoReadsANewerValueThanTheCopyDropsIt) {
  Put("k:1", "old");
  auto remote = std::make_shared<HeldRemote>(MustConnect(proxy_.url()));
  std::atomic<bool> here = false, go = false;
  remote->on_value = [&](const std::optional<Stored>& value) {
    if (!value || value->value != "new") return;
    here = true;
    EXPECT_TRUE(Eventually([&] { return go.load(); }));
  };
  Near near(remote);
  ASSERT_TRUE(near.BecomesActive());
  proxy_.SetOne(kMain, Direction::kReplies, {.hold = true});
  std::thread first([&] { EXPECT_EQ(near.Read("k:1"), "old"); });
  EXPECT_TRUE(Eventually([&] { return proxy_.held(Direction::kReplies) > 0; }));
  proxy_.SetOne(kBackground, Direction::kReplies, {.hold = true});
  Put("k:1", "new");
  std::thread second([&] { EXPECT_EQ(near.Read("k:1"), "new"); });
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "get") == 2; }));
  proxy_.SetOne(kMain, Direction::kReplies, {});
  EXPECT_TRUE(Eventually([&] { return here.load(); }));
  first.join();
  EXPECT_EQ(near.Copy("k:1"), "old") << "nobody can know better yet";
  go = true;
  second.join();
  EXPECT_NE(near.Copy("k:1"), "old");
  EXPECT_EQ(near.Read("k:1"), "new");
  proxy_.SetOne(kBackground, Direction::kReplies, {});
}

TEST_F(NearRaceTest, AReadThatCrossesAWriteOfThisProcessKeepsNothing) {
  Put("k:1", "old");
  auto remote = std::make_shared<HeldRemote>(MustConnect(proxy_.url()));
  std::atomic<bool> here = false, go = false;
  remote->on_value = [&](const std::optional<Stored>& value) {
    if (!value || value->value != "old") return;
    here = true;
    EXPECT_TRUE(Eventually([&] { return go.load(); }));
  };
  Near near(remote);
  ASSERT_TRUE(near.BecomesActive());
  proxy_.SetOne(kBackground, Direction::kReplies, {.hold = true});
  std::thread slow([&] { EXPECT_EQ(near.Read("k:1"), "old"); });
  EXPECT_TRUE(Eventually([&] { return here.load(); }));
  EXPECT_OK(near.cache->Set({"k:1", "mine"}).status());
  go = true;
  slow.join();
  EXPECT_EQ(near.Read("k:1"), "mine");
  proxy_.SetOne(kBackground, Direction::kReplies, {});
}

TEST_F(NearRaceTest, AfterTheLinkWasKilledNoReadReturnsWhatWasOverwrittenMeanwhile) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "old");
  proxy_.SetOne(kBackground, Direction::kReplies, {.drop = true});  // the message is lost
  Put("k:1", "new");
  redis_.Command({"CLIENT", "KILL", "TYPE", "pubsub"});
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "new"; }));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(near.Read("k:1"), "new");
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "new");
  EXPECT_GE(near.cache->stats().gaps, 1U);
}

// Silence is a gap, though callers' own connection works. Takes KeyWatch::kVouches.
TEST_F(NearRaceTest, ALinkThatSaysNothingIsNotTrustedForLong) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "old");
  proxy_.SetOne(kBackground, Direction::kReplies, {.drop = true});
  Put("k:1", "new");
  const Stopwatch since;
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "new"; }, absl::Seconds(30)));
  RecordProperty("noticed_after", absl::FormatDuration(since.elapsed()));
  EXPECT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "new");
}

// Takes KeyWatch::kVouches.
TEST_F(NearRaceTest, NoCopyIsGivenOutForLongWhileTheServerIsFrozen) {
  Put("k:1", "old");
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "old");
  server_.Pause();
  EXPECT_TRUE(Eventually([&] { return !near.cache->active(); }));
  EXPECT_FALSE(
      near.cache->Get("k:1", Want::kValue, {.timeout = absl::Milliseconds(50)}).status().ok());
  server_.Resume();
  Put("k:1", "new");
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "new"; }));
  EXPECT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "new");
}

TEST_F(NearRaceTest, ALinkTheServerEndsForBeingTooSlowIsAGap) {
  Put("k:1", "old");
  redis_.Command({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 0 0"});
  Near near(MustConnect(proxy_.url()));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "old");
  // One transaction is one message, which is larger than the server keeps for a client.
  redis_.Command({"EVAL",
                  "for i = 1, 30000 do redis.call('SET', 'k:long name of a key:' .. i, i) end "
                  "redis.call('SET', KEYS[1], 'new')",
                  "1", "k:1"});
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "new"; }));
  EXPECT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "new");
  EXPECT_GE(near.cache->stats().gaps, 1U);
}

TEST_F(NearRaceTest, NothingFromBeforeARestartIsGivenOutAfterIt) {
  Put("k:1", "old");
  Near near(MustConnect(server_.unix_url()));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "old");
  server_.Restart(RedisServer::Data::kDrop);
  EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "(none)"; }));
  ASSERT_TRUE(near.BecomesActive());
  EXPECT_EQ(near.Read("k:1"), "(none)");
}

TEST_F(NearRaceTest, FlushingTheDatabaseDropsAllCopies) {
  for (const char* flush : {"FLUSHALL", "FLUSHDB"}) {
    Put("k:1", "old");
    Near near(MustConnect(server_.unix_url()));
    ASSERT_TRUE(near.BecomesActive());
    EXPECT_EQ(near.Read("k:1"), "old");
    EXPECT_EQ(redis_.Text({flush}), "OK");
    EXPECT_TRUE(Eventually([&] { return near.Read("k:1") == "(none)"; })) << flush;
    EXPECT_TRUE(near.cache->active());
  }
}

// ---- Under load ----

// Keeps what it reads whenever it comes, as one would without thinking: what the checks below must
// catch.
class Careless final : public KeyWatch::Listener {
 public:
  explicit Careless(std::shared_ptr<Backend> remote)
      : remote_(std::move(remote)), watch_(internal::SessionOf(*remote_->client()).key_watch()) {
    MemoryOptions options;
    options.max_entries = 1000;
    local_ = std::make_unique<MemoryBackend>(options);
    watch_.Add(*this, {"k:"});
  }
  ~Careless() override { watch_.Remove(*this); }
  void OnInvalidate(std::string_view key) override { (void)local_->Delete(key); }
  const KeyWatch& watch() const { return watch_; }
  absl::StatusOr<std::optional<Stored>> Get(const std::string& key) {
    absl::StatusOr<std::optional<Stored>> got = local_->Get(key);
    if (got.ok() && got->has_value()) return got;
    got = remote_->Get(key);
    if (got.ok() && got->has_value()) (void)local_->Set({key, (*got)->value});
    return got;
  }

 private:
  const std::shared_ptr<Backend> remote_;
  KeyWatch& watch_;
  std::unique_ptr<MemoryBackend> local_;
};

// What has been acknowledged of one key, and when.
class Acknowledged {
 public:
  void Add(std::int64_t version) {
    const std::scoped_lock lock(mutex_);
    all_.emplace_back(std::chrono::steady_clock::now(), version);
  }
  // The last one before that moment; 0: none.
  std::int64_t Before(std::chrono::steady_clock::time_point when) {
    const std::scoped_lock lock(mutex_);
    auto it = std::lower_bound(all_.begin(), all_.end(), std::pair(when, std::int64_t{0}));
    return it == all_.begin() ? 0 : std::prev(it)->second;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::chrono::steady_clock::time_point, std::int64_t>> all_;
};

struct Findings {
  std::atomic<std::int64_t> went_back = 0;  // a reader saw an older version than before
  std::atomic<std::int64_t> too_old = 0;    // a version that had been overwritten for too long
  std::atomic<std::int64_t> never_current = 0;
  std::atomic<std::int64_t> reads = 0, writes = 0;
  std::int64_t violations() const { return went_back + too_old + never_current; }
};

// nullopt: the read has failed.
using Reader = std::function<std::optional<std::int64_t>(const std::string& key)>;

constexpr std::size_t kKeys = 3;
std::string KeyOf(std::size_t i) { return StrCat("k:", i); }

std::optional<std::int64_t> VersionOf(const absl::StatusOr<std::optional<Stored>>& got) {
  if (!got.ok()) return std::nullopt;
  return got->has_value() ? internal::ParseInt64((*got)->value).value_or(-1) : 0;
}

// Versions of keys rise while all read them, and `disturb` is called again and again. What is
// guaranteed, and checked: no thread sees a key's version go back; none sees one that was
// overwritten, as acknowledged, longer ago than the watch vouches (and a second, for messages); and
// once nobody writes, all see the last.
void Stress(const RedisServer& server, const std::vector<Reader>& readers, absl::Duration duration,
            const std::function<void()>& disturb, Findings& found) {
  std::array<Acknowledged, kKeys> acknowledged;
  std::array<std::atomic<std::int64_t>, kKeys> version{};
  std::atomic<bool> ends = false;
  std::thread writer([&] {
    const Client client = MustConnect(server.unix_url());
    std::mt19937 random(1);
    while (!ends) {
      const std::size_t i = random() % kKeys;
      const std::int64_t next = ++version[i];
      if (client.Command({"SET", KeyOf(i), StrCat(next)}).ok()) {
        acknowledged[i].Add(next);
        ++found.writes;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
    }
    // The last ones are there for certain.
    for (std::size_t i = 0; i < kKeys; ++i) {
      EXPECT_TRUE(Eventually([&] {
        return client.Command({"SET", KeyOf(i), StrCat(version[i].load())}).ok();
      }));
    }
  });
  const auto bound = absl::ToChronoNanoseconds(KeyWatch::kVouches) + std::chrono::seconds(1);
  std::vector<std::thread> threads;
  for (const Reader& read : readers) {
    threads.emplace_back([&, read] {
      std::array<std::int64_t, kKeys> seen{};
      for (std::size_t turn = 0; !ends; ++turn) {
        const std::size_t i = turn % kKeys;
        const std::int64_t least = acknowledged[i].Before(std::chrono::steady_clock::now() - bound);
        const std::optional<std::int64_t> now = read(KeyOf(i));
        if (!now) continue;
        ++found.reads;
        if (*now < seen[i]) ++found.went_back;
        if (*now < least) ++found.too_old;
        seen[i] = *now;
        if (turn % 64 == 0) std::this_thread::yield();
      }
    });
  }
  const Stopwatch watch;
  while (watch.elapsed() < duration) {
    disturb();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ends = true;
  writer.join();
  for (std::thread& thread : threads) thread.join();
  for (const Reader& read : readers) {
    for (std::size_t i = 0; i < kKeys; ++i) {
      const bool current =
          Eventually([&] { return read(KeyOf(i)) == version[i].load(); }, absl::Seconds(5));
      if (!current) ++found.never_current;
    }
  }
}

// Replies that take their time on the way back, each another one.
std::shared_ptr<HeldRemote> Dawdling(const RedisServer& server) {
  auto remote = std::make_shared<HeldRemote>(MustConnect(server.unix_url()));
  remote->on_value = [](const std::optional<Stored>&) {
    thread_local std::mt19937 random(std::random_device{}());
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
  };
  return remote;
}

// Takes 5 s.
TEST(NearStressTest, NoReaderGoesBackAndNoneStaysBehindThoughLinksAreKilledAllTheTime) {
  RedisServer server;
  RawRedis redis(server);
  const Near dawdling(Dawdling(server));
  const Near quick(MustConnect(server.unix_url()));
  const Near other(MustConnect(server.unix_url()), {""});
  std::vector<Reader> readers;
  for (const Near* near : {&dawdling, &dawdling, &dawdling, &quick, &quick, &other}) {
    ASSERT_TRUE(near->BecomesActive());
    readers.emplace_back(
        [near](const std::string& key) { return VersionOf(near->cache->Get(key)); });
  }
  int turn = 0;
  Findings found;
  Stress(
      server, readers, absl::Seconds(5),
      [&] {
        ++turn;
        if (turn % 3 == 0) redis.Command({"CLIENT", "KILL", "TYPE", "pubsub"});
        if (turn % 7 == 0) redis.Command({"CLIENT", "KILL", "TYPE", "normal"});
      },
      found);
  EXPECT_EQ(found.went_back, 0);
  EXPECT_EQ(found.too_old, 0);
  EXPECT_EQ(found.never_current, 0);
  EXPECT_GT(found.writes, 100);
  NearBackend::Stats all;
  for (const Near* near : {&dawdling, &quick, &other}) {
    const NearBackend::Stats stats = near->cache->stats();
    all.local_hits += stats.local_hits;
    all.refused += stats.refused;
    all.gaps += stats.gaps;
  }
  EXPECT_GT(all.local_hits, 100U);
  EXPECT_GT(all.refused, 0U) << "nothing crossed, so nothing was shown";
  EXPECT_GT(all.gaps, 0U);
}

TEST(NearStressTest, TheSameCheckFindsACacheThatKeepsWhateverItReads) {
  RedisServer server;
  Careless careless(Dawdling(server));
  ASSERT_TRUE(Eventually([&] { return KeyWatch::IsActive(careless.watch().epoch()); }));
  std::vector<Reader> readers(3,
                              [&](const std::string& key) { return VersionOf(careless.Get(key)); });
  Findings found;
  Stress(
      server, readers, absl::Seconds(2), [] {}, found);
  EXPECT_GT(found.violations(), 0);
}

}  // namespace
}  // namespace coord
