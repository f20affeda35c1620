// All of the library against a real Redis Cluster that nothing happens to.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "coord/barrier.h"
#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/deployment/slot.h"
#include "coord/election.h"
#include "coord/errors.h"
#include "coord/fenced_store.h"
#include "coord/internal/strings.h"
#include "coord/json_document.h"
#include "coord/keyspace.h"
#include "coord/latch.h"
#include "coord/locks.h"
#include "coord/multi_mutex.h"
#include "coord/mutex.h"
#include "coord/rate_limiter.h"
#include "coord/rw_mutex.h"
#include "coord/semaphore.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/acl_rights.h"
#include "tests/support/deployment.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::OrFatal;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using internal::StrCat;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;

constexpr auto kLong = absl::Seconds(20);

// Of whoever signs in with `credentials`.
Client Connect(const dev::Cluster& cluster, const Credentials& credentials = {}) {
  ClientOptions options;
  options.timeout = kLong;
  options.connect_timeout = kLong;
  if (!credentials.password.empty()) options.credentials = [=] { return credentials; };
  return OrFatal(Client::Connect(cluster.url(), options));
}

int SlotOfName(std::string_view name) { return internal::SlotOf(StrCat("coord:{", name, "}:")); }

// How often the nodes together have run one of these commands.
std::int64_t Calls(dev::Cluster& cluster, const std::vector<std::string>& commands) {
  std::int64_t calls = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    for (const std::string& command : commands) {
      const std::string line =
          OrFatal(cluster.node(i).Info("commandstats", StrCat("cmdstat_", command)));
      if (!line.empty()) calls += std::stoll(line.substr(line.find("calls=") + 6));
    }
  }
  return calls;
}

// Names of objects at all masters: the first `each` of every third of the slots.
std::vector<std::string> NamesEverywhere(const std::string& prefix, int each) {
  std::vector<std::string> names;
  int found[3] = {};
  for (int i = 0; names.size() < static_cast<std::size_t>(3 * each); ++i) {
    std::string name = StrCat(prefix, i);
    const int third = SlotOfName(name) * 3 / 16384;
    if (found[third]++ < each) names.push_back(std::move(name));
  }
  return names;
}

// What every client must be able to do with every master, whoever it is.
void ExpectLocksAndCountersWork(const Client& first, const Client& second,
                                const std::string& prefix) {
  for (const std::string& name : NamesEverywhere(prefix, 2)) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(first, name).TryAcquire());
    EXPECT_TRUE(IsBusy(Mutex(second, name).TryAcquire().status()));
    absl::StatusOr<Lease> next = absl::UnknownError("");
    std::jthread waiter([&] { next = Mutex(second, name).Acquire(kLong); });
    ASSERT_TRUE(Eventually([&] {
      const auto holder = Mutex(first, name).Holder();
      return holder.ok() && holder->waiters.size() == 1;
    }));
    EXPECT_OK(lease.Release());
    waiter.join();
    ASSERT_OK(next);
    EXPECT_GT(next->token(), lease.token());
    EXPECT_OK(next->Release());
    ASSERT_OK_AND_ASSIGN(const CounterResult sum, Counter(first, name).Add(2));
    EXPECT_EQ(sum.value, 2);
    EXPECT_THAT(Counter(second, name).Get(), testing::IsOkAndHolds(2));
  }
}

class ClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = OrFatal(dev::Cluster::Start()); }
  static void TearDownTestSuite() { cluster_.reset(); }

  static std::unique_ptr<dev::Cluster> cluster_;
  const Client first_ = Connect(*cluster_);
  const Client second_ = Connect(*cluster_);
};
std::unique_ptr<dev::Cluster> ClusterTest::cluster_;

TEST_F(ClusterTest, LocksAndCountersWorkAtEveryMaster) {
  ExpectLocksAndCountersWork(first_, second_, "everywhere");
}

// A message that did not come would cost up to a second each.
TEST_F(ClusterTest, WaitersOfOtherClientsAreServedInOrderAndByMessages) {
  std::vector<absl::Duration> handovers;
  for (const std::string& name : NamesEverywhere("handover", 3)) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(first_, name).TryAcquire());
    const std::vector<Client> clients = {second_, Connect(*cluster_), Connect(*cluster_)};
    std::atomic<int> served = 0;
    std::vector<int> order(clients.size(), -1);
    absl::Duration took[3];
    const Stopwatch all;
    std::vector<std::jthread> waiters;
    for (std::size_t i = 0; i < clients.size(); ++i) {
      waiters.emplace_back([&, i] {
        auto mine = Mutex(clients[i], name).Acquire(kLong);
        took[i] = all.elapsed();
        order[i] = served++;
        EXPECT_OK(mine);
        if (!mine.ok()) return;
        EXPECT_OK(mine->Release());
      });
      ASSERT_TRUE(Eventually([&] {
        const auto holder = Mutex(first_, name).Holder();
        return holder.ok() && holder->waiters.size() == i + 1;
      }));
    }
    const absl::Duration released = all.elapsed();
    EXPECT_OK(lease.Release());
    waiters.clear();
    EXPECT_THAT(order, ElementsAre(0, 1, 2)) << name;
    handovers.push_back(took[0] - released);
    handovers.push_back(took[1] - took[0]);
    handovers.push_back(took[2] - took[1]);
  }
  std::sort(handovers.begin(), handovers.end());
  std::cout << "hand-over: median " << handovers[handovers.size() / 2] << ", longest "
            << handovers.back() << "\n";
  EXPECT_LT(handovers[handovers.size() / 2], absl::Milliseconds(250));
}

TEST_F(ClusterTest, EveryPrimitiveWorksAtEveryMaster) {
  for (const std::string& name : NamesEverywhere("all", 2)) {
    SCOPED_TRACE(name);
    {
      const RwMutex mine(first_, name), others(second_, name);
      ASSERT_OK_AND_ASSIGN(Lease reader, mine.TryAcquireShared());
      ASSERT_OK_AND_ASSIGN(Lease another, others.TryAcquireShared());
      EXPECT_TRUE(IsBusy(others.TryAcquire().status()));
      absl::StatusOr<Lease> writer = absl::UnknownError("");
      std::jthread waiter([&] { writer = others.Acquire(kLong); });
      ASSERT_TRUE(Eventually([&] {
        const auto holder = mine.Holder();
        return holder.ok() && holder->waiters.size() == 1;
      }));
      EXPECT_OK(reader.Release());
      EXPECT_OK(another.Release());
      waiter.join();
      ASSERT_OK(writer);
      EXPECT_OK(mine.Downgrade(*writer));
      EXPECT_OK(writer->Release());
    }
    {
      const Semaphore mine(first_, name, {.permits = 2}), others(second_, name, {.permits = 2});
      ASSERT_OK_AND_ASSIGN(Permit two, mine.TryAcquire(2));
      absl::StatusOr<Permit> one = absl::UnknownError("");
      std::jthread waiter([&] { one = others.Acquire(kLong); });
      ASSERT_TRUE(Eventually([&] {
        const auto use = mine.Available();
        return use.ok() && use->waiters.size() == 1;
      }));
      EXPECT_OK(two.Release());
      waiter.join();
      ASSERT_OK(one);
      EXPECT_OK(one->Release());
    }
    {
      const Election election(first_, StrCat(name, "e")), observing(second_, StrCat(name, "e"));
      ASSERT_OK_AND_ASSIGN(Leadership leader, election.Campaign("a", kLong));
      ASSERT_OK_AND_ASSIGN(auto known, observing.AwaitChange(std::nullopt, kLong));
      ASSERT_TRUE(known);
      EXPECT_EQ(known->value, "a");
      absl::StatusOr<std::optional<Leader>> change = absl::UnknownError("");
      std::jthread observer([&] { change = observing.AwaitChange(known, kLong); });
      EXPECT_OK(leader.Proclaim("b"));
      observer.join();
      ASSERT_OK(change);
      ASSERT_TRUE(*change);
      EXPECT_EQ((*change)->value, "b");
      EXPECT_OK(leader.Resign());
    }
    {
      const Latch latch(first_, name, {.count = 2}), same(second_, name, {.count = 2});
      absl::Status opened = absl::UnknownError("");
      std::jthread waiter([&] { opened = same.Wait(kLong); });
      EXPECT_OK(latch.CountDown());
      EXPECT_OK(latch.CountDown());
      waiter.join();
      EXPECT_OK(opened);
    }
    {
      absl::StatusOr<BarrierTurn> turn = absl::UnknownError("");
      std::jthread other(
          [&] { turn = Barrier(second_, StrCat(name, "b"), {.parties = 2}).Await(kLong); });
      EXPECT_OK(Barrier(first_, StrCat(name, "b"), {.parties = 2}).Await(kLong));
      other.join();
      ASSERT_OK(turn);
      EXPECT_EQ(turn->generation, 1u);
    }
    {
      const Counter counter(first_, name), same(second_, name);
      const auto id = OperationId::New();
      ASSERT_OK_AND_ASSIGN(const CounterResult once, counter.Add(5, {.operation_id = id}));
      ASSERT_OK_AND_ASSIGN(const CounterResult again, same.Add(5, {.operation_id = id}));
      EXPECT_EQ(once.value, again.value);
      ASSERT_OK_AND_ASSIGN(const auto settled, same.Resolve(id));
      ASSERT_TRUE(settled);
      EXPECT_EQ(settled->value, 5);
      ASSERT_OK_AND_ASSIGN(const auto never, counter.Resolve(OperationId::New()));
      EXPECT_FALSE(never);
    }
    {
      const RateLimit limit{.permits = 2, .period = absl::Hours(1)};
      EXPECT_TRUE(RateLimiter(first_, limit).Take(name)->allowed);
      EXPECT_TRUE(RateLimiter(second_, limit).Take(name)->allowed);
      EXPECT_FALSE(RateLimiter(first_, limit).Take(name)->allowed);
      const LimitedKey both[] = {{limit, StrCat("{", name, "}u")},
                                 {limit, StrCat("{", name, "}t")}};
      ASSERT_OK_AND_ASSIGN(const RateDecision taken, RateLimiter::TakeAll(first_, both));
      EXPECT_TRUE(taken.allowed);
    }
    {
      const JsonDocument document(first_, name), same(second_, name);
      EXPECT_OK(document.Set(R"({"state":"idle"})"));
      EXPECT_TRUE(same.CompareAndSetField("/state", R"("idle")", R"("busy")")->applied());
      EXPECT_FALSE(document.CompareAndSetField("/state", R"("idle")", R"("busy")")->applied());
    }
    {
      const CappedList list(first_, name, {.max_items = 10}),
          same(second_, name, {.max_items = 10});
      std::vector<std::string> seen;
      absl::Status followed = absl::UnknownError("");
      std::jthread follower([&] {
        followed = same.Follow(0, [&](const ListSlice& slice) {
          for (const ListItem& item : slice.items) seen.push_back(item.value);
          return seen.size() < 3;
        });
      });
      for (const char* item : {"1", "2", "3"}) EXPECT_OK(list.Push(item));
      follower.join();
      EXPECT_OK(followed);
      EXPECT_THAT(seen, ElementsAre("1", "2", "3"));
    }
    {
      const FencedStore store(first_, name), same(second_, name);
      EXPECT_TRUE(store.Set(FencingToken(7), "x")->applied);
      EXPECT_FALSE(same.Set(FencingToken(6), "y")->applied);
      EXPECT_EQ(same.Get()->value, "x");
    }
    {
      const std::vector<std::string> tagged = {StrCat("{", name, "}a"), StrCat("{", name, "}b")};
      ASSERT_OK_AND_ASSIGN(MultiLease lease, MultiMutex(first_, tagged).TryAcquire());
      EXPECT_TRUE(IsBusy(MultiMutex(second_, tagged).TryAcquire().status()));
      EXPECT_TRUE(IsBusy(Mutex(second_, tagged[1]).TryAcquire().status()));
      EXPECT_OK(lease.Release());
    }
  }
}

TEST_F(ClusterTest, CallsOverTwoSlotsAreRefusedAndNothingIsSent) {
  const std::vector<std::string> names = NamesEverywhere("apart", 1);
  const std::vector<std::string> commands = {"eval", "evalsha", "set", "mset", "del", "get"};
  // A first use of all that may be used.
  EXPECT_OK(Mutex(first_, names[0]).TryAcquire());
  const std::int64_t before = Calls(*cluster_, commands);
  const auto refused = [](const auto& result, const std::string& part) {
    EXPECT_THAT(testing::StatusOf(result),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("different slots"), HasSubstr(part))));
  };
  const RateLimit limit{.permits = 2};
  const LimitedKey both[] = {{limit, names[0]}, {limit, names[1]}};
  refused(RateLimiter::TakeAll(first_, both), "{tag}");
  refused(MultiMutex(first_, names).TryAcquire(), "{tag}");
  refused(MultiMutex(first_, names).Acquire(kLong), "{tag}");
  refused(first_.Command({"MSET", names[0], "1", names[1], "2"}), "MSET");
  refused(first_.Command({"DEL", "{a}1", "{a}2", "{b}1"}), "{b}1");
  const Script script("return redis.call('SET', KEYS[2], '1')");
  refused(first_.Run(script, {names[0], names[1]}, {}), names[1]);
  Pipeline pipeline;
  pipeline.Add({"SET", names[0], "1"}).Add({"SET", names[1], "1"}).Add({"DEL", "{a}", "{b}"});
  refused(first_.Execute(pipeline), "command 3 of a pipeline of 3");
  EXPECT_EQ(Calls(*cluster_, commands), before);
}

TEST_F(ClusterTest, CommandsForAllMastersAreRefusedWithAdvice) {
  for (const std::vector<std::string_view>& words :
       {std::vector<std::string_view>{"KEYS", "*"}, {"SCAN", "0"}, {"dbsize"}, {"RANDOMKEY"}}) {
    EXPECT_THAT(first_.Command(words),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ScanKeys")));
  }
  for (const std::string_view command : {"FLUSHALL", "flushdb", "SAVE"}) {
    EXPECT_THAT(first_.Command({command}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("redis://")));
  }
  EXPECT_OK(first_.Command({"PING"}));
}

TEST_F(ClusterTest, ScansAndDeletionsCoverAllMasters) {
  const std::vector<std::string> names = NamesEverywhere("scan*", 40);
  std::vector<std::string> keys;
  for (const std::string& name : names) {
    keys.push_back(StrCat("coord:{", name, "}:count"));
    ASSERT_OK(Counter(first_, name).Add(1));
  }
  ASSERT_OK(Counter(first_, "scanned by nobody").Add(1));
  const std::string pattern = StrCat("coord:{", EscapeGlob("scan*"), "*");
  std::set<std::string> seen;
  ASSERT_OK(ScanKeys(second_, pattern, [&](const std::vector<std::string>& some) {
    seen.insert(some.begin(), some.end());
    return true;
  }));
  EXPECT_THAT(seen, UnorderedElementsAreArray(keys));
  EXPECT_THAT(DeleteKeys(second_, pattern), testing::IsOkAndHolds(120));
  EXPECT_THAT(DeleteKeys(second_, pattern), testing::IsOkAndHolds(0));
  EXPECT_THAT(Counter(first_, "scanned by nobody").Get(), testing::IsOkAndHolds(1));
}

TEST_F(ClusterTest, HeldLocksAreFoundAtAllMasters) {
  ClientOptions options;
  options.prefix = "mine:";
  options.timeout = kLong;
  ASSERT_OK_AND_ASSIGN(const Client client, Client::Connect(cluster_->url(), options));
  const std::vector<std::string> names = NamesEverywhere("held", 4);
  std::vector<Lease> leases;
  for (const std::string& name : names) leases.push_back(OrFatal(Mutex(client, name).TryAcquire()));
  ASSERT_OK_AND_ASSIGN(const std::vector<HeldLock> held, HeldLocks(client));
  std::vector<std::string> found;
  for (const HeldLock& lock : held) found.push_back(lock.name);
  EXPECT_THAT(found, UnorderedElementsAreArray(names));
}

TEST_F(ClusterTest, PipelinesOverAllMastersKeepTheirOrder) {
  Pipeline pipeline;
  const std::vector<std::string> names = NamesEverywhere("pipe", 20);
  const Script append("return redis.call('APPEND', KEYS[1], ARGV[1])");
  for (int round = 0; round < 4; ++round) {
    for (const std::string& name : names) {
      if (round % 2 == 0) pipeline.Add({"APPEND", name, "ab"});
      if (round % 2 == 1) pipeline.Add(append, {name}, {"cde"});
    }
    pipeline.Add({"LPUSH", names[0], "not a list"}).Add({"PING"});
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<Reply> replies, first_.Execute(pipeline));
  ASSERT_THAT(replies, SizeIs(4 * (names.size() + 2)));
  const std::int64_t lengths[] = {2, 5, 7, 10};
  std::size_t at = 0;
  for (const std::int64_t length : lengths) {
    for (const std::string& name : names) {
      EXPECT_EQ(replies[at++], Reply::Integer(length)) << name;
    }
    EXPECT_TRUE(replies[at].is_error());
    EXPECT_THAT(replies[at++].text(), HasSubstr("WRONGTYPE"));
    EXPECT_EQ(replies[at++].text(), "PONG");
  }
}

TEST_F(ClusterTest, ManyCountersAreAddedToAtOnce) {
  const std::vector<std::string> names = NamesEverywhere("many", 30);
  std::vector<CounterAddition> additions;
  for (const std::string& name : names) additions.push_back({name, 3});
  for (std::int64_t round = 1; round <= 3; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto results, AddToCounters(first_, additions));
    ASSERT_THAT(results, SizeIs(names.size()));
    for (const auto& result : results) {
      ASSERT_OK(result);
      EXPECT_EQ(result->value, 3 * round);
    }
  }
  ASSERT_OK_AND_ASSIGN(const auto values, GetCounters(second_, names));
  for (const auto& value : values) EXPECT_THAT(value, testing::IsOkAndHolds(9));
}

TEST_F(ClusterTest, ReplicasAreWaitedFor) {
  for (const std::string& name : NamesEverywhere("replicated", 2)) {
    const MutexOptions one{.ttl = kLong, .wait_replicas = 1, .replica_timeout = absl::Seconds(10)};
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(first_, name, one).TryAcquire());
    EXPECT_OK(lease.Release());
    const MutexOptions two{
        .ttl = kLong, .wait_replicas = 2, .replica_timeout = absl::Milliseconds(50)};
    const absl::StatusOr<Lease> refused = Mutex(first_, name, two).TryAcquire();
    EXPECT_TRUE(coord::IsUnavailable(refused.status())) << refused.status();
    // It was given back.
    EXPECT_OK(Mutex(second_, name).Acquire(kLong));
  }
}

TEST_F(ClusterTest, DozensOfThreadsUseAllMastersAtOnce) {
  constexpr int kThreads = 48;
  constexpr int kTurns = 20;
  const std::vector<std::string> names = NamesEverywhere("threads", 2);
  std::map<std::string, int> inside;  // guarded by the locks
  for (const std::string& name : names) inside[name] = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Client& client = i % 2 == 0 ? first_ : second_;
      for (int turn = 0; turn < kTurns; ++turn) {
        const std::string& name = names[static_cast<std::size_t>(i + turn) % names.size()];
        auto lease = Mutex(client, name).Acquire(absl::Seconds(60));
        ASSERT_OK(lease);
        ++inside.at(name);
        ASSERT_OK(Counter(client, name).Add(1));
      }
    });
  }
  threads.clear();
  int sections = 0;
  for (const std::string& name : names) {
    sections += inside[name];
    EXPECT_THAT(Counter(first_, name).Get(), testing::IsOkAndHolds(inside[name]));
  }
  EXPECT_EQ(sections, kThreads * kTurns);
}

TEST_F(ClusterTest, TheHealthOfAllNodesIsTold) {
  const Health health = first_.Health();
  EXPECT_THAT(health.nodes, SizeIs(6));
  EXPECT_TRUE(health.whole());
  int masters = 0;
  for (const NodeHealth& node : health.nodes) {
    EXPECT_EQ(node.role, node.needed ? "master" : "slave") << node.node;
    masters += node.needed ? 1 : 0;
  }
  EXPECT_EQ(masters, 3);
}

// With other rights than all.
class RestrictedClusterTest : public ClusterTest {
 protected:
  // A user of all nodes who may do everything but what `rules` take away.
  Client ConnectAs(const std::string& user, const std::vector<std::string>& rules,
                   bool all_others = true) {
    for (std::size_t i = 0; i < cluster_->size(); ++i) {
      std::vector<std::string> words = {"ACL", "SETUSER", user, "on", ">secret"};
      if (all_others) words.insert(words.end(), {"~*", "&*", "+@all"});
      words.insert(words.end(), rules.begin(), rules.end());
      OrFatal(cluster_->node(i).Ask(words).status());
    }
    return Connect(*cluster_, {user, "secret"});
  }
};

TEST_F(RestrictedClusterTest, ClusterSlotsDoWhereShardsAreNotAllowed) {
  const Client client = ConnectAs("slots", {"-cluster|shards"});
  ExpectLocksAndCountersWork(client, second_, "slots");
}

TEST_F(RestrictedClusterTest, TheRightsThatReadmeListsAreEnough) {
  const Client client = ConnectAs("least", testing::AclRules(), /*all_others=*/false);
  ExpectLocksAndCountersWork(client, client, "least");
  for (const std::string& name : NamesEverywhere("least-waits", 3)) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(first_, name).TryAcquire());
    std::jthread waiter([&] { EXPECT_OK(Mutex(client, name).Acquire(kLong)); });
    ASSERT_TRUE(Eventually([&] {
      const auto holder = Mutex(first_, name).Holder();
      return holder.ok() && holder->waiters.size() == 1;
    }));
    EXPECT_OK(lease.Release());
  }
  int keys = 0;
  EXPECT_OK(ScanKeys(client, "coord:*", [&](const std::vector<std::string>& some) {
    keys += static_cast<int>(some.size());
    return true;
  }));
  EXPECT_GT(keys, 0);
}

TEST_F(RestrictedClusterTest, WithoutMessagesWaitersAskOften) {
  const Client client = ConnectAs("deaf", {"-ssubscribe"});
  const Stopwatch all_of_it;
  ExpectLocksAndCountersWork(first_, client, "deaf");
  std::vector<absl::Duration> handovers;
  for (const std::string& name : NamesEverywhere("deafer", 3)) {
    ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(first_, name).TryAcquire());
    const Stopwatch all;
    absl::Duration served;
    std::jthread waiter([&] {
      EXPECT_OK(Mutex(client, name).Acquire(kLong));
      served = all.elapsed();
    });
    ASSERT_TRUE(Eventually([&] {
      const auto holder = Mutex(first_, name).Holder();
      return holder.ok() && holder->waiters.size() == 1;
    }));
    const absl::Duration released = all.elapsed();
    EXPECT_OK(lease.Release());
    waiter.join();
    handovers.push_back(served - released);
  }
  std::sort(handovers.begin(), handovers.end());
  std::cout << "hand-over without messages: median " << handovers[handovers.size() / 2] << "\n";
  // Nor is anybody made to wait for a subscription that is refused.
  EXPECT_LT(all_of_it.elapsed(), absl::Seconds(8));
  EXPECT_LT(handovers[handovers.size() / 2], absl::Milliseconds(250));
}

TEST(ClusterOfItsOwnTest, TlsAndAPasswordGuardAllNodes) {
  const auto cluster =
      OrFatal(dev::Cluster::Start({.tls = true, .credentials = {"", "canary-secret"}}));
  const Client first = Connect(*cluster, {"", "canary-secret"});
  const Client second = Connect(*cluster, {"default", "canary-secret"});
  ExpectLocksAndCountersWork(first, second, "tls");
  EXPECT_TRUE(first.Health().whole());
  ClientOptions wrong;
  wrong.credentials = [] { return Credentials{"", "another"}; };
  const auto refused = Client::Connect(cluster->url(), wrong);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(std::string(refused.status().message()), ::testing::Not(HasSubstr("another")));
}

// As a module's commands are.
TEST(ClusterOfItsOwnTest, TheServerTellsTheKeysOfCommandsUnknownHere) {
  const auto cluster = OrFatal(dev::Cluster::Start(
      {.replicas = 0,
       .settings = {"rename-command GETBIT vendor.getbit", "rename-command TOUCH vendor.touch",
                    "rename-command ECHO vendor.echo"}}));
  const Client client = Connect(*cluster);
  for (const std::string& name : NamesEverywhere("vendor", 3)) {
    ASSERT_OK(client.Command({"SET", name, "\xff"}));
    ASSERT_OK_AND_ASSIGN(const Reply bit, client.Command({"vendor.getbit", name, "3"}));
    EXPECT_EQ(bit, Reply::Integer(1)) << name;
  }
  ASSERT_OK(client.Command({"MSET", "{a}1", "1", "{a}2", "1"}));
  ASSERT_OK_AND_ASSIGN(const Reply touched, client.Command({"vendor.touch", "{a}1", "{a}2"}));
  EXPECT_EQ(touched, Reply::Integer(2));
  EXPECT_THAT(client.Command({"vendor.touch", "{a}1", "{b}2"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("different slots")));
  ASSERT_OK_AND_ASSIGN(const Reply echo, client.Command({"vendor.echo", "x"}));
  EXPECT_EQ(echo.text(), "x");
  EXPECT_THAT(client.Command({"vendor.nothing", "x"}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("vendor.nothing")));
}

// A client that has not called for a while does not know what has moved meanwhile.
TEST(ClusterOfItsOwnTest, AScanFindsWhatIsAtAMasterThatIsNew) {
  const auto cluster = OrFatal(dev::Cluster::Start({.replicas = 0}));
  const Client client = Connect(*cluster);
  const std::vector<std::string> names = NamesEverywhere("moved", 3);
  for (const std::string& name : names) ASSERT_OK(Counter(client, name).Add(1));
  const std::size_t added = OrFatal(cluster->AddEmptyMaster());
  for (const std::string& name : names) OrFatal(cluster->MigrateSlot(SlotOfName(name), added));
  EXPECT_THAT(DeleteKeys(client, "coord:{moved*"),
              testing::IsOkAndHolds(static_cast<std::int64_t>(names.size())));
}

}  // namespace
}  // namespace coord
