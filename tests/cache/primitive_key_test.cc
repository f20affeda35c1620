// Whether IsPrimitiveKey knows all keys that the library's primitives make.
#include "cache/internal/primitive_key.h"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <regex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/barrier.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/concurrency_limiter.h"
#include "coord/counter.h"
#include "coord/election.h"
#include "coord/fenced_store.h"
#include "coord/id_generator.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "coord/latch.h"
#include "coord/local_budget.h"
#include "coord/multi_mutex.h"
#include "coord/mutex.h"
#include "coord/quorum.h"
#include "coord/rate_limiter.h"
#include "coord/reentrant_mutex.h"
#include "coord/rw_mutex.h"
#include "coord/semaphore.h"
#include "coord/sharded_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using internal::IsPrimitiveKey;
using internal::StrCat;
using ::testing::Contains;
using ::testing::IsSupersetOf;
using Algorithm = RateLimit::Algorithm;

constexpr absl::Duration kLong = absl::Seconds(20);

Client PrivateServer() {
  absl::StatusOr<Client> client = Client::Connect("embedded://?private");
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

// All keys that the server has, whoever made them.
std::vector<std::string> KeysOf(const Client& client) {
  const absl::StatusOr<Reply> reply = client.Command({"KEYS", "*"});
  if (!reply.ok()) testing::Fatal(reply.status().ToString());
  std::vector<std::string> keys;
  for (const Reply& key : reply->items()) keys.push_back(key.text());
  return keys;
}

// The parts of keys, as the library's sources write them: the last word of each call of
// Session::Key that stands there as text.
std::set<std::string> PartsInTheSources() {
  std::set<std::string> parts;
  const std::regex key_call(
      R"re((?:Key|KeyOf)\(\s*(?:[^;"()]|"[^"]*"|\([^()]*\))*"([a-z-]+)"\))re");
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(COORD_SOURCE_DIR "/coord")) {
    if (file.path().extension() != ".cc") continue;
    std::ifstream in(file.path());
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    for (std::sregex_iterator at(text.begin(), text.end(), key_call), end; at != end; ++at) {
      parts.insert((*at)[1]);
    }
  }
  return parts;
}

// A new primitive's part must be in the list of primitive_key.cc, or a cache would delete it.
TEST(PrimitiveKeyTest, EveryPartThatTheSourcesNameIsKnown) {
  const std::set<std::string> parts = PartsInTheSources();
  EXPECT_THAT(parts, IsSupersetOf({"lease", "hints", "permits-queue", "count", "seq", "json"}));
  for (const std::string& part : parts) {
    EXPECT_TRUE(IsPrimitiveKey(StrCat("coord:{name}:", part))) << part;
  }
}

// Of all that have keys, and with names that try to look like something else.
TEST(PrimitiveKeyTest, EveryKeyThatPrimitivesMakeIsKnown) {
  const Client client = PrivateServer();
  std::set<std::string> kinds;
  for (const std::string name : {"plain", "a}:b", "{x}:list", "colon:}"}) {
    SCOPED_TRACE(name);
    const auto id = [] { return std::optional<OperationId>(OperationId::New()); };
    // Kept until the keys have been looked at.
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(client, name).TryAcquire());
    std::jthread waiter(
        [&](std::stop_token stop) { (void)Mutex(client, name).Acquire(kLong, stop); });
    ASSERT_OK_AND_ASSIGN(const Lease read, RwMutex(client, name + "-rw").TryAcquireShared());
    ReentrantMutex reentrant(client, name + "-re");
    ASSERT_OK_AND_ASSIGN(const auto hold, reentrant.TryAcquire());
    ASSERT_OK_AND_ASSIGN(const MultiLease both,
                         MultiMutex(client, {name + "-1", name + "-2"}).TryAcquire());
    const Semaphore semaphore(client, name, {.permits = 1});
    ASSERT_OK_AND_ASSIGN(const Permit permit, semaphore.TryAcquire());
    std::jthread semaphore_waiter(
        [&](std::stop_token stop) { (void)semaphore.Acquire(kLong, 1, stop); });
    ASSERT_OK_AND_ASSIGN(const ConcurrencyEntry entry,
                         ConcurrencyLimiter(client, {.limit = 2}).Enter(name + "-limit"));
    const Election election(client, name + "-election");
    ASSERT_OK_AND_ASSIGN(const Leadership lead, election.Campaign("me", kLong));
    ASSERT_OK_AND_ASSIGN(const auto leader, election.GetLeader());
    std::jthread observer(
        [&](std::stop_token stop) { (void)election.AwaitChange(leader, kLong, stop); });
    const Latch latch(client, name, {.count = 3});
    ASSERT_OK(latch.CountDown().status());
    std::jthread latch_waiter([&](std::stop_token stop) { (void)latch.Wait(kLong, stop); });
    const Barrier barrier(client, name, {.parties = 2});
    {
      std::jthread other([&] { EXPECT_OK(barrier.Await(kLong).status()); });
      EXPECT_OK(barrier.Await(kLong).status());
    }
    std::jthread barrier_waiter([&](std::stop_token stop) { (void)barrier.Await(kLong, stop); });
    ASSERT_OK(Counter(client, name).Add(1, {.operation_id = id()}).status());
    ASSERT_OK(IdGenerator(client, name).Next().status());
    ShardedCounter sharded(client, name + "-sharded");
    sharded.Add(1);
    ASSERT_OK(sharded.Flush());
    ASSERT_OK(FencedStore(client, name).Set(lease.token(), "value").status());
    ASSERT_OK(JsonDocument(client, name).Set("{}"));
    const CappedList list(client, name,
                          {.max_items = 9, .max_bytes = 999, .max_age = absl::Hours(1)});
    ASSERT_OK(list.Push("item", {.operation_id = id()}).status());
    std::jthread follower([&](std::stop_token stop) {
      (void)list.Follow(
          0, [](const ListSlice&) { return true; }, stop);
    });
    for (const Algorithm algorithm :
         {Algorithm::kGcra, Algorithm::kTokenBucket, Algorithm::kFixedWindow,
          Algorithm::kSlidingWindow, Algorithm::kSlidingLog}) {
      const RateLimiter limiter(client, {.permits = 5, .period = kLong, .algorithm = algorithm});
      ASSERT_OK(limiter.Take(name).status());
    }
    LocalBudget budget(client, {.permits = 100, .period = kLong}, name + "-budget");
    ASSERT_OK(budget.Take().status());
    // Those who wait have come, and said so there.
    const auto ending = [&](std::string_view part) { return StrCat("coord:{", name, part); };
    EXPECT_TRUE(Eventually([&] {
      const std::vector<std::string> keys = KeysOf(client);
      std::size_t missing = 0;
      for (const std::string& wanted :
           {ending("}:queue"), ending("}:permits-queue"), ending("-election}:observers"),
            ending("}:latch-waiters"), ending("}:barrier-alive"), ending("}:followers")}) {
        if (std::find(keys.begin(), keys.end(), wanted) == keys.end()) ++missing;
      }
      return missing == 0;
    }));
    for (const std::string& key : KeysOf(client)) {
      EXPECT_TRUE(IsPrimitiveKey(key)) << key;
      kinds.insert(key.substr(key.rfind("}:")));
    }
  }
  // So that it was a run of all of them.
  for (const std::string& part : PartsInTheSources()) {
    // Those are a quorum's (below), or of a barrier and a latch at other times.
    if (part == "hints" || part == "birth") continue;
    EXPECT_THAT(kinds, Contains(StrCat("}:", part)));
  }
}

TEST(PrimitiveKeyTest, EveryKeyOfAQuorumIsKnown) {
  const std::vector<Client> servers = {PrivateServer(), PrivateServer(), PrivateServer()};
  std::vector<std::string> urls;
  for (const Client& client : servers) {
    ASSERT_OK_AND_ASSIGN(const Reply path, client.Command({"CONFIG", "GET", "unixsocket"}));
    urls.push_back(StrCat("unix://", path.items()[1].text()));
  }
  ASSERT_OK(Quorum::DeclareNew(urls));
  ASSERT_OK_AND_ASSIGN(const Quorum quorum, Quorum::Connect(urls));
  ASSERT_OK_AND_ASSIGN(const Lease lease, Mutex(quorum, "job").Acquire(kLong));
  std::jthread waiter(
      [&](std::stop_token stop) { (void)Mutex(quorum, "job").Acquire(kLong, stop); });
  EXPECT_TRUE(Eventually([&] {
    for (const Client& client : servers) {
      if (KeysOf(client).size() > 3) return true;
    }
    return false;
  }));
  for (const Client& client : servers) {
    for (const std::string& key : KeysOf(client)) EXPECT_TRUE(IsPrimitiveKey(key)) << key;
  }
}

TEST(PrimitiveKeyTest, KeysOfOthersAreNone) {
  for (const std::string_view key :
       {"", "lease", ":lease", "{}:lease", "name}:lease", "{name:lease", "coord:{name}lease",
        "coord:{name}:", "coord:{name}:leases", "coord:{name}:lease:x", "coord:{name}: lease",
        "coord:{name}:op:", "coord:{name}:op:x", "coord:{name}:op:1:old", "coord:{name}:op::older",
        "user:{1}:profile", "}:lease{", "a:b:count"}) {
    EXPECT_FALSE(IsPrimitiveKey(key)) << key;
  }
  for (const std::string_view key :
       {"{n}:lease", "coord:{n}:lease", "coord:{{}:lease", "tenant:{a}:b}:count", "coord:{n}:op:0",
        "coord:{n}:op:63:older"}) {
    EXPECT_TRUE(IsPrimitiveKey(key)) << key;
  }
}

}  // namespace
}  // namespace coord
