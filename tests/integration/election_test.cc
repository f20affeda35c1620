// One of many leads, and the others know who.
#include "coord/election.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/clock.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::HasSubstr;

constexpr char kLease[] = "coord:{chief}:lease";
constexpr char kTerm[] = "coord:{chief}:term";
constexpr char kQueue[] = "coord:{chief}:queue";
constexpr char kObservers[] = "coord:{chief}:observers";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class ElectionTest : public ::testing::Test {
 protected:
  std::optional<Leader> Now() {
    absl::StatusOr<std::optional<Leader>> leader = election_.GetLeader();
    EXPECT_OK(leader.status());
    return leader.ok() ? *leader : std::nullopt;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
  Client other_ = ConnectTo(server_.url(), {.client_name = "observer"});
  Election election_{client_, "chief", {.ttl = absl::Seconds(30)}};
  Election elsewhere_{other_, "chief", {.ttl = absl::Seconds(30)}};
};

TEST_F(ElectionTest, TheLeaderIsKnownByItsTermOwnerAndValueUntilItResigns) {
  EXPECT_EQ(Now(), std::nullopt);
  ASSERT_OK_AND_ASSIGN(Leadership lead, elsewhere_.Campaign("first", absl::Seconds(5)));
  EXPECT_TRUE(lead.valid());
  EXPECT_GT(lead.remaining(), absl::Seconds(20));
  const std::optional<Leader> leader = Now();
  ASSERT_TRUE(leader);
  EXPECT_EQ(leader->term, lead.term());
  EXPECT_EQ(leader->owner, lead.owner());
  EXPECT_THAT(leader->owner, HasSubstr("observer"));
  EXPECT_EQ(leader->value, "first");
  EXPECT_EQ(leader->revision, 1u);
  EXPECT_OK(lead.Resign());
  EXPECT_FALSE(lead.valid());
  EXPECT_EQ(Now(), std::nullopt);
  EXPECT_OK(lead.Resign());
  EXPECT_TRUE(IsLost(lead.Proclaim("late")));
  EXPECT_EQ(Now(), std::nullopt);
}

TEST_F(ElectionTest, OneLeadsAtATimeAndTermsRise) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::ZeroDuration()));
  const absl::Status busy = elsewhere_.Campaign("b", absl::Milliseconds(50)).status();
  EXPECT_TRUE(IsBusy(busy)) << busy;
  EXPECT_THAT(busy, StatusIs(absl::StatusCode::kAborted, HasSubstr("election \"chief\"")));
  const FencingToken term = lead.term();
  EXPECT_OK(lead.Resign());
  ASSERT_OK_AND_ASSIGN(Leadership next, elsewhere_.Campaign("b", absl::Seconds(5)));
  EXPECT_GT(next.term(), term);
  EXPECT_EQ(Now()->value, "b");
}

TEST_F(ElectionTest, AMutexOfTheNameIsTheSameLock) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  EXPECT_TRUE(IsBusy(Mutex(other_, "chief").TryAcquire().status()));
  EXPECT_OK(lead.Resign());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(other_, "chief").TryAcquire());
  EXPECT_EQ(Now(), std::nullopt);  // a holder who has proclaimed nothing
  EXPECT_TRUE(IsBusy(election_.Campaign("a", absl::Milliseconds(30)).status()));
}

TEST_F(ElectionTest, AValueCanBeReplacedByTheLeaderAlone) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("one", absl::Seconds(5)));
  const std::string bytes("\0\n two", 6);
  EXPECT_OK(lead.Proclaim(bytes));
  EXPECT_EQ(Now()->value, bytes);
  EXPECT_EQ(Now()->revision, 2u);
  EXPECT_EQ(Now()->term, lead.term());
  redis_.Command({"SET", kLease, "usurper", "KEEPTTL"});
  EXPECT_TRUE(IsLost(lead.Proclaim("three")));
  EXPECT_EQ(Now(), std::nullopt);  // the usurper has said nothing
}

TEST_F(ElectionTest, ValuesOfOneTermArePublishedInOrderOfTheirRevisions) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("", absl::Seconds(5)));
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 25; ++n) EXPECT_OK(lead.Proclaim("x"));
    });
  }
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t revision = Now()->revision;
    EXPECT_GE(revision, last);
    last = revision;
  }
  threads.clear();
  EXPECT_EQ(Now()->revision, 101u);
}

TEST_F(ElectionTest, AResignationElectsTheNextCandidate) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  std::optional<absl::StatusOr<Leadership>> next;
  std::jthread candidate([&] { next = elsewhere_.Campaign("b", absl::Seconds(20)); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", kQueue}) == 1; }));
  EXPECT_EQ(Now()->value, "a");
  EXPECT_OK(lead.Resign());
  candidate.join();
  ASSERT_OK(next->status());
  EXPECT_EQ(Now()->value, "b");
  EXPECT_EQ(Now()->term, (*next)->term());
}

TEST_F(ElectionTest, ThreadsOfOneProcessGetTermsOfTheServersOwn) {
  std::atomic<int> leading = 0;
  std::atomic<int> overlaps = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 5; ++n) {
        absl::StatusOr<Leadership> lead = election_.Campaign(std::to_string(i), absl::Seconds(30));
        EXPECT_OK(lead.status());
        if (!lead.ok()) return;
        overlaps += leading.fetch_add(1) != 0;
        const std::optional<Leader> leader = Now();
        EXPECT_TRUE(leader && leader->term == lead->term() && leader->value == std::to_string(i));
        leading.fetch_sub(1);
        EXPECT_OK(lead->Resign());
      }
    });
  }
  threads.clear();
  EXPECT_EQ(overlaps, 0);
}

TEST_F(ElectionTest, RenewalKeepsTheLeadAndWhatIsPublished) {
  const Election brief(client_, "chief", {.ttl = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(Leadership lead, brief.Campaign("a", absl::Seconds(5)));
  redis_.Command({"PEXPIRE", kTerm, "5000"});
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_TRUE(Eventually([&] { return CommandCalls(redis_, "pexpire") >= 12; }));
  EXPECT_TRUE(lead.valid());
  EXPECT_GT(redis_.Integer({"PTTL", kTerm}), 47 * 3'600'000);
  EXPECT_EQ(Now()->value, "a");
}

TEST_F(ElectionTest, EveryKeyHasATimeToLive) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  EXPECT_OK(elsewhere_.AwaitChange(Now(), absl::Milliseconds(50)).status());
  std::optional<absl::StatusOr<Leadership>> next;
  std::jthread candidate([&] { next = elsewhere_.Campaign("b", absl::Seconds(20)); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", kQueue}) == 1; }));
  const Reply keys = redis_.Command({"KEYS", "*"});
  EXPECT_GE(keys.items().size(), 5u);
  for (const Reply& key : keys.items()) {
    EXPECT_GT(redis_.Integer({"PTTL", key.text()}), 0) << key.text();
  }
  EXPECT_OK(lead.Resign());
}

TEST_F(ElectionTest, ALostLeadTripsTheStopToken) {
  const Election brief(client_, "chief", {.ttl = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(Leadership lead, brief.Campaign("a", absl::Seconds(5)));
  redis_.Command({"DEL", kLease});
  EXPECT_TRUE(Eventually([&] { return lead.stop_token().stop_requested(); }));
  EXPECT_FALSE(lead.valid());
  EXPECT_TRUE(IsLost(lead.Resign()));
}

TEST_F(ElectionTest, NoLeadershipIsNotValidAndHarmless) {
  Leadership none;
  EXPECT_FALSE(none.valid());
  EXPECT_EQ(none.term(), FencingToken());
  EXPECT_THAT(none.Proclaim("x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(none.Resign(), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  none = std::move(lead);
  EXPECT_OK(none.Proclaim("b"));
  none = Leadership();
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

// ---- Observing ----

TEST_F(ElectionTest, AnObserverIsWokenByEachChange) {
  std::vector<std::string> seen;
  std::mutex mutex;
  const auto has = [&](std::size_t count) {
    return Eventually([&] {
      const std::scoped_lock lock(mutex);
      return seen.size() >= count;
    });
  };
  std::stop_source stop;
  std::jthread observer([&] {
    std::optional<Leader> known;
    while (true) {
      const auto leader = elsewhere_.AwaitChange(known, absl::InfiniteDuration(), stop.get_token());
      if (!leader.ok()) {
        EXPECT_THAT(leader.status(), StatusIs(absl::StatusCode::kCancelled));
        return;
      }
      known = *leader;
      const std::scoped_lock lock(mutex);
      seen.push_back(known ? known->value : "(none)");
    }
  });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"ZCARD", kObservers}) == 1; }));
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  ASSERT_TRUE(has(1));
  EXPECT_OK(lead.Proclaim("b"));
  ASSERT_TRUE(has(2));
  EXPECT_OK(lead.Resign());
  ASSERT_TRUE(has(3));
  stop.request_stop();
  observer.join();
  EXPECT_THAT(seen, ::testing::ElementsAre("a", "b", "(none)"));
}

TEST_F(ElectionTest, AMessageIsFasterThanTheBackstop) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("0", absl::Seconds(5)));
  ASSERT_OK(elsewhere_.AwaitChange(Now(), absl::Milliseconds(20)).status());  // subscribes
  absl::Duration longest_wait;
  absl::Duration total;
  constexpr int kRounds = 10;
  for (int i = 1; i <= kRounds; ++i) {
    const std::optional<Leader> known = Now();
    std::atomic<bool> asked = false;
    absl::Duration took;
    std::jthread observer([&] {
      redis_.Command({"CONFIG", "RESETSTAT"});
      asked = true;
      EXPECT_OK(elsewhere_.AwaitChange(known, absl::Seconds(20)).status());
    });
    RawRedis look(server_);
    ASSERT_TRUE(Eventually([&] { return asked && CommandCalls(look, "evalsha") >= 1; }));
    const Stopwatch watch;
    EXPECT_OK(lead.Proclaim(std::to_string(i)));
    observer.join();
    took = watch.elapsed();
    longest_wait = std::max(longest_wait, took);
    total += took;
  }
  EXPECT_LT(total / kRounds, absl::Milliseconds(300)) << longest_wait;  // the backstop is 1 s
}

TEST_F(ElectionTest, AwaitChangeReturnsAtOnceWhenTheStateIsAnother) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const std::optional<Leader> leader,
                       elsewhere_.AwaitChange(std::nullopt, absl::Seconds(30)));
  EXPECT_LT(watch.elapsed(), absl::Seconds(5));
  ASSERT_TRUE(leader);
  EXPECT_EQ(leader->value, "a");
  ASSERT_OK_AND_ASSIGN(const std::optional<Leader> same,
                       elsewhere_.AwaitChange(leader, absl::ZeroDuration()));
  ASSERT_TRUE(same);
  EXPECT_EQ(same->term, leader->term);
}

TEST_F(ElectionTest, AwaitChangeReturnsThePresentStateAtItsTimeout) {
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const std::optional<Leader> leader,
                       election_.AwaitChange(std::nullopt, absl::Milliseconds(120)));
  EXPECT_EQ(leader, std::nullopt);
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(110));
  EXPECT_LT(watch.elapsed(), absl::Seconds(3));
}

TEST_F(ElectionTest, AnObserverSeesThatALeaderHasDiedWhenItsTimeIsOver) {
  redis_.Command({"HSET", kTerm, "term", "5", "owner", "ghost", "revision", "1", "value", "boo"});
  redis_.Command({"SET", kLease, "ghost", "PX", "400"});
  const std::optional<Leader> ghost = Now();
  ASSERT_TRUE(ghost);
  EXPECT_EQ(ghost->value, "boo");
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const std::optional<Leader> nobody,
                       election_.AwaitChange(ghost, absl::Seconds(20)));
  EXPECT_EQ(nobody, std::nullopt);
  EXPECT_GE(watch.elapsed(), absl::Milliseconds(300));
  EXPECT_LT(watch.elapsed(), absl::Seconds(2));
}

TEST_F(ElectionTest, AnObserverOutlivesARestartOfTheServer) {
  RedisServer durable({.append_only = true});
  const Client client = ConnectTo(durable.url());
  const Client watcher = ConnectTo(durable.url());
  const Election election(client, "chief", {.ttl = absl::Seconds(30)});
  ASSERT_OK_AND_ASSIGN(Leadership lead, election.Campaign("a", absl::Seconds(5)));
  ASSERT_OK_AND_ASSIGN(const std::optional<Leader> known, election.GetLeader());
  std::optional<absl::StatusOr<std::optional<Leader>>> seen;
  std::jthread observer(
      [&] { seen = Election(watcher, "chief").AwaitChange(known, absl::Seconds(30)); });
  RawRedis raw(durable);
  ASSERT_TRUE(Eventually([&] { return raw.Integer({"ZCARD", kObservers}) == 1; }));
  durable.Restart();
  EXPECT_OK(lead.Proclaim("b"));
  observer.join();
  ASSERT_OK(seen->status());
  ASSERT_TRUE(**seen);
  EXPECT_EQ((**seen)->value, "b");
}

TEST_F(ElectionTest, ALeaderIsReadInOneRoundTripThatWritesNothing) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  Now();
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
  EXPECT_EQ(redis_.Integer({"DBSIZE"}), 0);
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 2);
  EXPECT_OK(lead.Proclaim("b"));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 3);
  EXPECT_OK(lead.Resign());
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 4);
}

TEST_F(ElectionTest, AFullServerLetsALeaderResign) {
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("a", absl::Seconds(5)));
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_OK(lead.Proclaim("b"));
  EXPECT_OK(lead.Resign());
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

// ---- Processes ----

struct Term {
  std::uint64_t token = 0;
  std::int64_t begin = 0;  // on the boot-time clock of this machine, in ns
  std::int64_t end = 0;
};

// The terms that processes have noted, a line each.
std::vector<Term> ReadTerms(const std::string& path) {
  std::ifstream file(path);
  std::vector<Term> terms;
  for (Term term; file >> term.token >> term.begin >> term.end;) terms.push_back(term);
  return terms;
}

TEST_F(ElectionTest, OfManyProcessesOneLeadsAtATimeThoughLeadersAreKilled) {
  constexpr int kProcesses = 4;
  constexpr absl::Duration kTtl = absl::Milliseconds(400);
  const TempDir directory;
  const std::string path = directory.File("terms");
  std::ofstream(path).close();
  const auto run = [&] {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    const Election election(*client, "chief", {.ttl = kTtl});
    const std::string me = std::to_string(getpid());
    while (true) {
      absl::StatusOr<Leadership> lead = election.Campaign(me, absl::InfiniteDuration());
      if (!lead.ok()) return 2;
      // The whole of what it may do as a leader, noted before it does it: a killed one leaves at
      // most that behind.
      for (int i = 0; i < 20 && lead->valid(); ++i) {
        const std::int64_t begin = absl::ToUnixNanos(Clock::Boot()->Now());
        const absl::Duration left = lead->remaining();
        if (left <= absl::ZeroDuration()) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the work of a leader
        const std::int64_t end = absl::ToUnixNanos(Clock::Boot()->Now());
        if (!lead->valid()) break;
        const std::string line = std::to_string(lead->term().value()) + " " +
                                 std::to_string(begin) + " " + std::to_string(end) + "\n";
        FILE* file = std::fopen(path.c_str(), "a");
        if (file == nullptr) return 3;
        std::fwrite(line.data(), 1, line.size(), file);
        std::fclose(file);
      }
      (void)lead->Resign();
    }
  };
  std::vector<Process> processes;
  for (int i = 0; i < kProcesses; ++i) processes.push_back(ForkAndRun(run));
  std::set<std::string> leaders;
  std::vector<std::uint64_t> observed;
  int killed = 0;
  std::optional<Leader> known;
  const Stopwatch watch;
  while ((killed < 3 || leaders.size() < 3) && watch.elapsed() < absl::Seconds(60)) {
    absl::StatusOr<std::optional<Leader>> leader = elsewhere_.AwaitChange(known, absl::Seconds(20));
    ASSERT_OK(leader.status());
    known = *leader;
    if (!known) continue;
    leaders.insert(known->value);
    if (observed.empty() || observed.back() != known->term.value()) {
      observed.push_back(known->term.value());
    }
    if (observed.size() % 5 != 0 || killed == 3) continue;
    for (Process& process : processes) {
      if (std::to_string(process.pid()) != known->value) continue;
      process.Kill();
      ++killed;
      process = ForkAndRun(run);
    }
  }
  EXPECT_EQ(killed, 3);
  for (Process& process : processes) process.Kill();
  EXPECT_TRUE(std::is_sorted(observed.begin(), observed.end()));
  std::vector<Term> terms = ReadTerms(path);
  EXPECT_GT(terms.size(), 50u);
  std::sort(terms.begin(), terms.end(),
            [](const Term& a, const Term& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < terms.size(); ++i) {
    EXPECT_GE(terms[i].begin, terms[i - 1].end) << "two led at once";
    EXPECT_GE(terms[i].token, terms[i - 1].token) << "a term went back";
  }
}

TEST_F(ElectionTest, AKilledLeaderIsFollowedWhenItsTimeIsOverAndNotBefore) {
  constexpr absl::Duration kTtl = absl::Milliseconds(800);
  Process leader = ForkAndRun([&] {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 1;
    absl::StatusOr<Leadership> lead =
        Election(*client, "chief", {.ttl = kTtl}).Campaign("victim", absl::Seconds(5));
    if (!lead.ok()) return 2;
    pause();
    return 0;
  });
  ASSERT_TRUE(Eventually([&] { return Now().has_value(); }));
  std::optional<absl::StatusOr<Leadership>> next;
  std::jthread candidate(
      [&] { next = Election(other_, "chief", {.ttl = kTtl}).Campaign("heir", absl::Seconds(20)); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", kQueue}) == 1; }));
  const Stopwatch watch;
  leader.Kill();
  candidate.join();
  ASSERT_OK(next->status());
  EXPECT_GE(watch.elapsed(), kTtl / 2);  // it had renewed within the last third
  EXPECT_LT(watch.elapsed(), 4 * kTtl);
  EXPECT_EQ(Now()->value, "heir");
}

TEST_F(ElectionTest, BadArgumentsReachNoServer) {
  redis_.Command({"CONFIG", "RESETSTAT"});
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  for (const Election& bad : {Election(client_, ""), Election(client_, "}"),
                              Election(client_, "x", {.ttl = absl::Milliseconds(1)})}) {
    EXPECT_THAT(bad.Campaign("", absl::Seconds(1)).status(), refused);
    EXPECT_THAT(bad.GetLeader().status(), refused);
    EXPECT_THAT(bad.AwaitChange(std::nullopt, absl::Seconds(1)).status(), refused);
  }
  const std::string large((1u << 20) + 1, 'x');
  EXPECT_THAT(election_.Campaign("", -absl::Seconds(1)).status(), refused);
  EXPECT_THAT(election_.Campaign(large, absl::Seconds(1)).status(), refused);
  EXPECT_THAT(election_.AwaitChange(std::nullopt, -absl::Seconds(1)).status(), refused);
  EXPECT_THAT(election_.GetLeader({.timeout = absl::ZeroDuration()}).status(), refused);
  EXPECT_EQ(AllCalls(redis_), 0);
  ASSERT_OK_AND_ASSIGN(Leadership lead, election_.Campaign("", absl::Seconds(1)));
  EXPECT_THAT(lead.Proclaim(large), refused);
  EXPECT_TRUE(lead.valid());
}

}  // namespace
}  // namespace coord
