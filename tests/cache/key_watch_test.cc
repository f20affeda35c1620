// What a client hears of changes to keys, and how it knows that it hears.
#include "coord/deployment/key_watch.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "coord/deployment/session.h"
#include "coord/internal/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cache/near_fixture.h"
#include "tests/support/deployment.h"
#include "tools/dev/cluster.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::MustConnect;
using ::coord::testing::Near;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using internal::CoveringPrefixes;
using internal::KeyWatch;
using internal::StrCat;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(CoveringPrefixesTest, AreThoseThatNoOtherCovers) {
  EXPECT_THAT(CoveringPrefixes({}), IsEmpty());
  EXPECT_THAT(CoveringPrefixes({"a:b:", "a:", "b", "a:", "a:c"}), ElementsAre("a:", "b"));
  EXPECT_THAT(CoveringPrefixes({"ab", "a!", "a\xff", "b"}), ElementsAre("a!", "ab", "a\xff", "b"));
  EXPECT_THAT(CoveringPrefixes({"a", "", "b"}), ElementsAre(""));
}

class Ears final : public KeyWatch::Listener {
 public:
  Ears(const Client& client, std::vector<std::string> prefixes)
      : client_(client), watch_(internal::SessionOf(client_).key_watch()) {
    watch_.Add(*this, std::move(prefixes));
  }
  ~Ears() override { watch_.Remove(*this); }
  void OnInvalidate(std::string_view key) override {
    const std::scoped_lock lock(mutex_);
    heard_.emplace(key);
  }
  bool Heard(const std::string& key) {
    return Eventually([&] {
      const std::scoped_lock lock(mutex_);
      return heard_.count(key) > 0;
    });
  }
  bool Active() {
    return Eventually([&] { return KeyWatch::IsActive(watch_.epoch()); }, absl::Seconds(20));
  }
  KeyWatch& watch() { return watch_; }

 private:
  const Client client_;
  KeyWatch& watch_;
  std::mutex mutex_;
  std::multiset<std::string> heard_;
};

class KeyWatchTest : public ::testing::Test {
 protected:
  std::string Clients() { return redis_.Text({"CLIENT", "LIST", "TYPE", "pubsub"}); }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = MustConnect(server_.url());
};

TEST_F(KeyWatchTest, ListenersHearOfAllPrefixesThatAnyWants) {
  Ears wide(client_, {"a:"});
  ASSERT_TRUE(wide.Active());
  const std::uint64_t before = wide.watch().epoch();
  Ears narrow(client_, {"a:b:", "c"});
  EXPECT_TRUE(Eventually([&] {
    return wide.watch().epoch() > before && KeyWatch::IsActive(wide.watch().epoch());
  })) << "another set of prefixes is a gap";
  redis_.Command({"MSET", "a:b:1", "x", "c1", "x", "z", "x"});
  EXPECT_TRUE(wide.Heard("a:b:1"));
  EXPECT_TRUE(narrow.Heard("c1"));
}

TEST_F(KeyWatchTest, APrefixThatIsCoveredAlreadyIsNoGap) {
  Ears wide(client_, {"a:"});
  ASSERT_TRUE(wide.Active());
  const std::uint64_t before = wide.watch().epoch();
  const Ears narrow(client_, {"a:b:"});
  EXPECT_EQ(wide.watch().epoch(), before);
}

TEST_F(KeyWatchTest, WhenTheLastListenerGoesTheServerStopsTelling) {
  {
    Ears ears(client_, {"a:"});
    ASSERT_TRUE(ears.Active());
    EXPECT_THAT(Clients(), HasSubstr("flags=PtB"));
  }
  EXPECT_TRUE(Eventually([&] { return Clients().find("flags=PtB") == std::string::npos; }));
  EXPECT_THAT(Clients(), HasSubstr("flags=P")) << "the connection stays";
  Ears again(client_, {"b"});
  EXPECT_TRUE(again.Active());
  redis_.Command({"SET", "b", "x"});
  EXPECT_TRUE(again.Heard("b"));
}

TEST_F(KeyWatchTest, SignsOfLifeKeepItVouchedFor) {
  Ears ears(client_, {"a:"});
  ASSERT_TRUE(ears.Active());
  const std::int64_t first = ears.watch().vouched_until();
  EXPECT_TRUE(Eventually([&] { return ears.watch().vouched_until() > first; }));
  EXPECT_TRUE(KeyWatch::IsActive(ears.watch().epoch()));
}

TEST_F(KeyWatchTest, AFlushIsAnEpochOfItsOwnAndTheNextBeginsAtOnce) {
  Ears ears(client_, {"a:"});
  ASSERT_TRUE(ears.Active());
  const std::uint64_t before = ears.watch().epoch();
  redis_.Command({"FLUSHALL"});
  EXPECT_TRUE(Eventually([&] { return ears.watch().epoch() == before + 2; }));
}

// Starts a Cluster, which takes some seconds.
TEST(KeyWatchClusterTest, AllMastersTellAndThoseWhoComeToServeAreTrackedBeforeCopiesAreKept) {
  const auto cluster = OrFatal(dev::Cluster::Start());
  const Near near(MustConnect(cluster->url()));
  ASSERT_TRUE(near.BecomesActive());
  std::vector<std::string> keys;
  for (std::size_t master = 0; master < 3; ++master) {
    for (int i = 0;; ++i) {
      const std::string key = StrCat("k:", i);
      if (OrFatal(cluster->master_of(OrFatal(cluster->slot_of(key)))) != master) continue;
      keys.push_back(key);
      break;
    }
  }
  const auto put = [&](std::size_t node, const std::string& key, const std::string& value) {
    EXPECT_EQ(OrFatal(cluster->node(node).Ask({"SET", key, value})).text(), "OK");
  };
  for (std::size_t i = 0; i < 3; ++i) {
    put(i, keys[i], "a");
    // The message of the write itself may still drop the first copy.
    EXPECT_TRUE(Eventually([&] { return near.Read(keys[i]) == "a" && near.Copy(keys[i]) == "a"; }));
  }
  for (std::size_t i = 0; i < 3; ++i) {
    put(i, keys[i], "b");
    EXPECT_TRUE(Eventually([&] { return near.Read(keys[i]) == "b"; })) << "master " << i;
  }
  // A failover that nobody tells us of: another client writes at the new master. What is read after
  // we know of it is from a server that tells us.
  const std::size_t replica = OrFatal(cluster->replicas_of(0)).at(0);
  OrFatal(cluster->Failover(replica));
  put(replica, keys[0], "c");
  EXPECT_TRUE(Eventually([&] { return near.Read(keys[0]) == "c"; }));
  EXPECT_TRUE(near.BecomesActive());
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(near.Read(keys[0]), "c");
    return near.Copy(keys[0]) == "c";
  }));
  EXPECT_GE(near.cache->stats().gaps, 1U);
  put(replica, keys[0], "d");
  EXPECT_TRUE(Eventually([&] { return near.Read(keys[0]) == "d"; }));
  // A master that dies.
  const std::uint64_t gaps = near.cache->stats().gaps;
  EXPECT_EQ(near.Read(keys[1]), "b");
  cluster->KillNode(1);
  EXPECT_TRUE(Eventually([&] {
    (void)near.cache->Get(keys[2], Want::kValue, {.timeout = absl::Milliseconds(100)});
    return near.cache->stats().gaps > gaps;
  }));
  OrFatal(cluster->WaitUntilOk());
  const std::size_t heir = OrFatal(cluster->master_of(OrFatal(cluster->slot_of(keys[1]))));
  put(heir, keys[1], "e");
  EXPECT_TRUE(Eventually([&] { return near.Read(keys[1]) == "e"; }, absl::Seconds(20)));
  EXPECT_TRUE(near.BecomesActive());
  EXPECT_TRUE(Eventually([&] {
    (void)near.Read(keys[1]);
    return near.Copy(keys[1]) == "e";
  }));
  put(heir, keys[1], "f");
  EXPECT_TRUE(Eventually([&] { return near.Read(keys[1]) == "f"; }));
}

}  // namespace
}  // namespace coord
