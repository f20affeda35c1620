// Eight processes that wait for one lock: who is served, when, and what becomes of those who are
// killed, stopped, cut off or tired of waiting.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/lock_history.h"
#include "tests/support/process.h"
#include "tests/support/push_filter.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::PushFilter;
using ::coord::testing::PushMessage;
using ::coord::testing::PushVerdict;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::Shared;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;

constexpr std::string_view kName = "line";
constexpr char kLease[] = "coord:{line}:lease";
constexpr char kQueue[] = "coord:{line}:queue";
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kSlack = absl::Milliseconds(1500);  // for a loaded machine

// What a grant is worth at first, and how long a waiter that says nothing counts as alive.
absl::Duration ClaimOf(absl::Duration ttl) { return std::min(ttl, absl::Seconds(3)); }
// How long a waiter goes without asking again.
absl::Duration ReCheckOf(absl::Duration ttl) {
  return std::min(ClaimOf(ttl) / 3, absl::Seconds(1));
}

// How many wait for the lock `name`. This looks behind the public face: from there, nothing shows
// that a waiter stands in line already.
std::int64_t WaitersOf(RawRedis& redis, std::string_view name) {
  return redis.Integer({"LLEN", "coord:{" + std::string(name) + "}:queue"});
}

void Sleep(absl::Duration duration) {
  std::this_thread::sleep_for(absl::ToChronoNanoseconds(duration));
}

absl::Duration SinceBoot(std::int64_t then) { return absl::Nanoseconds(BootNanos() - then); }

// ---- A process that does as it is told ----

enum class Outcome { kNone, kOk, kBusy, kCancelled, kLost, kUnknown, kOther };

Outcome OutcomeOf(const absl::Status& status) {
  if (status.ok()) return Outcome::kOk;
  if (IsBusy(status)) return Outcome::kBusy;
  if (IsLost(status)) return Outcome::kLost;
  if (IsOutcomeUnknown(status)) return Outcome::kUnknown;
  return status.code() == absl::StatusCode::kCancelled ? Outcome::kCancelled : Outcome::kOther;
}

// Holds or waits for the lock in a process of its own. Orders go through shared memory, so that no
// thread is needed in the test, and none but the library's and a watcher in the process.
class Actor {
 public:
  Actor(std::string url, absl::Duration ttl)
      : desk_(std::make_unique<Shared<Desk>>()), process_(ForkAndRun([&] { Obey(url, ttl); })) {}

  // Returns at once. One that does not `keep` it releases as soon as it is granted.
  void Acquire(absl::Duration timeout, bool keep) {
    desk().timeout = absl::ToInt64Nanoseconds(timeout);
    desk().keep = keep;
    desk().cancel = false;
    Give(keep ? "acquiring, to keep" : "acquiring", Order::kAcquire);
  }
  // Trips the stop token of the Acquire under way.
  void Cancel() { desk().cancel = true; }
  // Forks the process while it waits; true when the copy found its handle unusable and ended.
  bool ForkWhileWaiting() {
    desk().fork = true;
    EXPECT_TRUE(Eventually([&] { return !desk().fork.load(); }));
    return desk().fork_ok;
  }

  // These wait until it is done.
  Outcome Release() { return Do("releasing", Order::kRelease); }
  Outcome Renew() { return Do("renewing", Order::kRenew); }
  // A forked copy looks at its lease and tries to give it back; OK when it was void there.
  Outcome ForkWhileHolding() { return Do("forking", Order::kFork); }
  bool Valid() {
    (void)Do("looking", Order::kLook);
    return desk().valid;
  }

  bool Done() { return desk().order == Order::kNone; }
  bool WaitUntilDone(absl::Duration timeout = kPatience) {
    return Eventually([&] { return Done(); }, timeout);
  }
  // Of the last Acquire.
  Outcome outcome() { return desk().outcome; }
  std::uint64_t token() { return desk().token; }
  std::int64_t asked_at() { return desk().asked_at; }
  std::int64_t answered_at() { return desk().answered_at; }
  absl::Duration waited() { return absl::Nanoseconds(answered_at() - asked_at()); }
  bool Granted() { return Done() && outcome() == Outcome::kOk && token() != 0; }

  Process& process() { return process_; }

 private:
  enum class Order { kNone, kAcquire, kRelease, kRenew, kLook, kFork };
  struct Desk {
    std::atomic<Order> order = Order::kNone;  // back to none when carried out
    std::atomic<std::int64_t> timeout = 0;
    std::atomic<bool> keep = false;
    std::atomic<bool> cancel = false;
    std::atomic<bool> fork = false;
    std::atomic<bool> fork_ok = false;
    std::atomic<Outcome> outcome = Outcome::kNone;  // of an Acquire
    std::atomic<Outcome> answer = Outcome::kNone;   // of anything else
    std::atomic<std::uint64_t> token = 0;
    std::atomic<std::int64_t> asked_at = 0;
    std::atomic<std::int64_t> answered_at = 0;
    std::atomic<bool> valid = false;
  };

  Desk& desk() { return **desk_; }
  void Give(const char* what, Order order) {
    if (!Done()) testing::Fatal(std::string("an actor is busy, not ") + what);
    if (order == Order::kAcquire) {
      desk().outcome = Outcome::kNone;
      desk().token = 0;
    }
    desk().order = order;
  }
  Outcome Do(const char* what, Order order) {
    Give(what, order);
    EXPECT_TRUE(WaitUntilDone()) << what;
    return desk().answer;
  }

  // ---- In the child ----

  void Obey(const std::string& url, absl::Duration ttl) {
    absl::StatusOr<Client> client;
    if (!Eventually([&] { return (client = Client::Connect(url)).ok(); })) {
      testing::Fatal(client.status().ToString());
    }
    const Mutex mutex(*client, kName, {.ttl = ttl});
    Lease lease;
    while (true) {
      (void)Eventually([&] { return !Done(); }, absl::Hours(1));
      switch (desk().order) {
        case Order::kNone:
          break;
        case Order::kAcquire:
          DoAcquire(mutex, lease);
          break;
        case Order::kRelease:
          desk().answer = OutcomeOf(lease.Release());
          break;
        case Order::kRenew:
          desk().answer = OutcomeOf(lease.Renew(ttl));
          break;
        case Order::kLook:
          desk().valid = lease.valid();
          break;
        case Order::kFork:
          desk().answer = Forked([&] {
            const bool was_void = !lease.valid() && lease.remaining() == absl::Duration();
            const bool renewed = lease.Renew(ttl).ok();
            (void)lease.Release();
            return was_void && !renewed;
          })
                              ? Outcome::kOk
                              : Outcome::kOther;
          break;
      }
      desk().order = Order::kNone;
    }
  }

  void DoAcquire(const Mutex& mutex, Lease& lease) {
    std::stop_source stop;
    std::jthread watcher([&](std::stop_token over) {
      while (!over.stop_requested()) {
        if (desk().cancel) stop.request_stop();
        if (desk().fork) {
          desk().fork_ok = Forked([&] {
            return mutex.TryAcquire().status().code() == absl::StatusCode::kFailedPrecondition;
          });
          desk().fork = false;
        }
        Sleep(absl::Milliseconds(1));
      }
    });
    desk().asked_at = BootNanos();
    absl::StatusOr<Lease> got =
        mutex.Acquire(absl::Nanoseconds(desk().timeout.load()), stop.get_token());
    desk().answered_at = BootNanos();
    desk().token = got.ok() ? got->token().value() : 0;
    if (got.ok()) {
      lease = *std::move(got);
      if (!desk().keep && !lease.Release().ok()) testing::Fatal("a release failed");
    }
    desk().outcome = OutcomeOf(got.status());
  }

  template <typename Body>
  static bool Forked(Body body) {
    const pid_t child = fork();
    if (child == 0) _exit(body() ? 0 : 1);
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::unique_ptr<Shared<Desk>> desk_;
  Process process_;
};

// ---- The line ----

class LockQueueTest : public ::testing::Test {
 protected:
  // Those of `filtered` reach the server through filter().
  void Start(absl::Duration ttl, int count = 8, const std::set<int>& filtered = {}) {
    const std::string path = directory_.File("filter.sock");
    for (int i = 0; i < count; ++i) {
      actors_.push_back(
          std::make_unique<Actor>(filtered.count(i) > 0 ? "unix://" + path : server_.url(), ttl));
    }
    // Not before: the actors are forked from a process without threads.
    if (!filtered.empty()) filter_.emplace(server_.url(), path);
  }

  Actor& actor(int i) { return *actors_[static_cast<std::size_t>(i)]; }
  PushFilter& filter() { return *filter_; }
  std::int64_t Waiters() { return WaitersOf(redis_, kName); }

  void Hold(int i) {
    actor(i).Acquire(kPatience, true);
    ASSERT_TRUE(actor(i).WaitUntilDone());
    ASSERT_EQ(actor(i).outcome(), Outcome::kOk);
  }
  // Comes to stand in the line behind all who stand there.
  void Queue(int i, absl::Duration timeout = kPatience, bool keep = false) {
    const std::int64_t before = Waiters();
    actor(i).Acquire(timeout, keep);
    ASSERT_TRUE(Eventually([&] { return Waiters() == before + 1; }, absl::Seconds(5)))
        << "actor " << i << " does not stand in line";
  }
  // Actor 0 holds it, the others stand in line as they are numbered.
  void StandInLine() {
    ASSERT_NO_FATAL_FAILURE(Hold(0));
    for (int i = 1; i < static_cast<int>(actors_.size()); ++i) ASSERT_NO_FATAL_FAILURE(Queue(i));
  }

  // All of these are served, in this order, the last within `limit` from now.
  void ExpectServedInOrder(const std::vector<int>& order, absl::Duration limit) {
    const Stopwatch watch;
    std::uint64_t last = 0;
    for (const int i : order) {
      const absl::Duration left = limit - watch.elapsed();
      EXPECT_TRUE(actor(i).WaitUntilDone(left)) << "actor " << i << " was not served in time";
      EXPECT_EQ(actor(i).outcome(), Outcome::kOk) << "actor " << i;
      EXPECT_GT(actor(i).token(), last) << "actor " << i << " was served before its turn";
      last = actor(i).token();
    }
  }
  // But perhaps for the places of the `dead`, which nobody may have missed yet; then they pass away
  // with the line.
  void ExpectNothingIsLeft(int dead = 0) {
    EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kLease}) == 0; }));
    EXPECT_TRUE(Eventually([&] { return Waiters() <= dead; })) << Waiters() << " are left";
    if (Waiters() > 0) {
      EXPECT_GT(redis_.Integer({"PTTL", kQueue}), 0);
    }
  }
  static std::vector<int> From(int first, int last) {
    std::vector<int> numbers(static_cast<std::size_t>(last - first + 1));
    std::iota(numbers.begin(), numbers.end(), first);
    return numbers;
  }

  RedisServer server_;
  RawRedis redis_{server_};
  const TempDir directory_;
  std::vector<std::unique_ptr<Actor>> actors_;
  std::optional<PushFilter> filter_;
};

TEST_F(LockQueueTest, ProcessesAreServedInTheOrderOfTheirComing) {
  Start(absl::Seconds(10));
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  // Each by a message: seven re-checks would take longer.
  ExpectServedInOrder(From(1, 7), absl::Seconds(2));
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AHeadThatWasKilledIsSkippedWithinItsClaim) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  actor(1).process().Kill();
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder(From(2, 7), ClaimOf(ttl) + kSlack);
  ExpectNothingIsLeft(1);
}

TEST_F(LockQueueTest, AWaiterKilledInTheMiddleHoldsUpOnlyThoseBehindItAndWithinItsClaim) {
  const absl::Duration ttl = absl::Seconds(3);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  actor(4).process().Kill();
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  const Stopwatch watch;
  ExpectServedInOrder(From(1, 3), kSlack);
  ExpectServedInOrder({3, 5, 6, 7}, ClaimOf(ttl) + kSlack - watch.elapsed());
  ExpectNothingIsLeft(1);
}

TEST_F(LockQueueTest, AWaiterDeadForLongerThanAClaimCostsTheOthersNothing) {
  const absl::Duration ttl = absl::Seconds(10);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  actor(1).process().Kill();
  actor(2).process().Kill();
  Sleep(ClaimOf(ttl) + absl::Milliseconds(300));  // the scenario
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder(From(3, 7), kSlack);
  ExpectNothingIsLeft(2);
}

TEST_F(LockQueueTest, AHolderThatWasKilledIsFollowedByTheLineWhenItsTimeIsOver) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  actor(0).process().Kill();
  // No release tells anybody: the first finds it by asking again.
  ExpectServedInOrder(From(1, 7), ttl + ReCheckOf(ttl) + kSlack);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AStoppedWaiterIsSkippedAndComesBackToItsPlace) {
  const absl::Duration ttl = absl::Milliseconds(1500);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  for (int i = 1; i < 8; ++i) ASSERT_NO_FATAL_FAILURE(Queue(i, kPatience, i == 2));
  actor(1).process().Pause();
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  EXPECT_TRUE(actor(2).WaitUntilDone(ClaimOf(ttl) + kSlack));
  EXPECT_TRUE(actor(2).Granted());
  actor(1).process().Resume();
  Sleep(ReCheckOf(ttl) + absl::Milliseconds(500));  // the scenario: it has shown that it lives
  EXPECT_FALSE(actor(1).Done());
  EXPECT_EQ(actor(2).Release(), Outcome::kOk);
  ExpectServedInOrder({2, 1, 3, 4, 5, 6, 7}, kSlack);
  ExpectNothingIsLeft();
}

// ---- Giving up ----

TEST_F(LockQueueTest, AWaiterThatTimesOutLeavesTheLineToThoseBehindIt) {
  Start(absl::Seconds(10));
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  const absl::Duration timeout = absl::Milliseconds(800);
  ASSERT_NO_FATAL_FAILURE(Queue(1, timeout));
  for (int i = 2; i < 8; ++i) {
    actor(i).Acquire(kPatience, false);
    ASSERT_TRUE(
        Eventually([&] { return Waiters() == i || (actor(1).Done() && Waiters() == i - 1); },
                   absl::Seconds(5)));
  }
  ASSERT_TRUE(actor(1).WaitUntilDone(timeout + kSlack));
  EXPECT_EQ(actor(1).outcome(), Outcome::kBusy);
  EXPECT_GE(actor(1).waited(), timeout - absl::Milliseconds(10));
  EXPECT_LE(actor(1).waited(), timeout + kSlack);
  EXPECT_TRUE(Eventually([&] { return Waiters() == 6; })) << Waiters() << " wait";
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder(From(2, 7), kSlack);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AWaiterThatIsStoppedByItsTokenLeavesTheLineToThoseBehindIt) {
  Start(absl::Seconds(10));
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  actor(3).Cancel();
  ASSERT_TRUE(actor(3).WaitUntilDone(kSlack));
  EXPECT_EQ(actor(3).outcome(), Outcome::kCancelled);
  EXPECT_TRUE(Eventually([&] { return Waiters() == 6; })) << Waiters() << " wait";
  actor(1).Cancel();
  ASSERT_TRUE(actor(1).WaitUntilDone(kSlack));
  EXPECT_EQ(actor(1).outcome(), Outcome::kCancelled);
  EXPECT_TRUE(Eventually([&] { return Waiters() == 5; })) << Waiters() << " wait";
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder({2, 4, 5, 6, 7}, kSlack);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AWaiterWhoseTimeIsOverAtOnceLeavesNothing) {
  Start(absl::Seconds(10), 2);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  actor(1).Acquire(absl::ZeroDuration(), false);
  ASSERT_TRUE(actor(1).WaitUntilDone());
  EXPECT_EQ(actor(1).outcome(), Outcome::kBusy);
  EXPECT_TRUE(Eventually([&] { return Waiters() == 0; }));
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AGrantThatCrossesATimeoutIsGivenBackLongBeforeItRunsOut) {
  const absl::Duration ttl = absl::Seconds(10);
  const absl::Duration timeout = absl::Milliseconds(1500);
  Start(ttl, 8, {1});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kHold; });
  int crossings = 0;
  std::uint64_t last = 0;
  // A slow machine may miss the moment, and a re-check may come just then.
  for (int round = 0; round < 6 && crossings < 2; ++round) {
    ASSERT_NO_FATAL_FAILURE(Hold(0));
    ASSERT_NO_FATAL_FAILURE(Queue(1, timeout));
    for (int i = 2; i < 8; ++i) ASSERT_NO_FATAL_FAILURE(Queue(i));
    const std::size_t held = filter().held();
    Sleep(timeout - SinceBoot(actor(1).asked_at()) - absl::Milliseconds(80));
    EXPECT_EQ(actor(0).Release(), Outcome::kOk);
    ASSERT_TRUE(actor(1).WaitUntilDone(kSlack));
    static_assert(kSlack < absl::Seconds(2));  // its claim would run for three
    ExpectServedInOrder(From(2, 7), kSlack);
    ExpectNothingIsLeft();
    if (actor(1).outcome() == Outcome::kBusy && filter().held() > held) ++crossings;
    last = actor(7).token();
  }
  EXPECT_GT(crossings, 0) << "no grant crossed a timeout";
  // The grants arrive at last, at one who waits no longer for them.
  filter().OnMessage(nullptr);
  EXPECT_GT(filter().ReleaseHeld(), 0u);
  ASSERT_NO_FATAL_FAILURE(Hold(1));
  EXPECT_GT(actor(1).token(), last);
  EXPECT_TRUE(actor(1).Valid());
  EXPECT_EQ(actor(1).Release(), Outcome::kOk);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AGrantThatCrossesACancelIsGivenBackLongBeforeItRunsOut) {
  Start(absl::Seconds(10), 8, {1});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kHold; });
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  actor(1).Cancel();
  ASSERT_TRUE(actor(1).WaitUntilDone(kSlack));
  EXPECT_TRUE(actor(1).outcome() == Outcome::kCancelled || actor(1).outcome() == Outcome::kOk);
  ExpectServedInOrder(From(2, 7), kSlack);
  ExpectNothingIsLeft();
}

// ---- Messages that do not come ----

TEST_F(LockQueueTest, WaitersWhosePushLinksAreAllDeadAreServedInTurnByAskingAgain) {
  const absl::Duration ttl = absl::Milliseconds(900);
  Start(ttl, 8, {0, 1, 2, 3, 4, 5, 6, 7});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kDrop; });
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  // Each notices at its next re-check, before its claim has lapsed: so nobody loses its turn.
  ExpectServedInOrder(From(1, 7), 7 * ReCheckOf(ttl) + kSlack);
  EXPECT_GT(filter().dropped(), 0u);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AWaiterWhosePushLinkIsDeadCostsThoseBehindItOneReCheck) {
  const absl::Duration ttl = absl::Seconds(10);
  Start(ttl, 8, {1});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kDrop; });
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder(From(1, 7), ReCheckOf(ttl) + kSlack);
  EXPECT_GT(filter().dropped(), 0u);
  ExpectNothingIsLeft();
}

// With and without a reconnect between.
class LateMessageTest : public LockQueueTest, public ::testing::WithParamInterface<bool> {};

TEST_P(LateMessageTest, AGrantThatComesWhenItsOwnerHasGoneGrantsNothing) {
  Start(absl::Seconds(10), 3, {1});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kHold; });
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  ASSERT_NO_FATAL_FAILURE(Queue(1));
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ASSERT_TRUE(actor(1).WaitUntilDone());  // by asking again; it has released it too
  EXPECT_EQ(actor(1).outcome(), Outcome::kOk);
  ASSERT_GT(filter().held(), 0u);
  ExpectNothingIsLeft();

  ASSERT_NO_FATAL_FAILURE(Hold(0));
  ASSERT_NO_FATAL_FAILURE(Queue(1, kPatience, true));
  ASSERT_NO_FATAL_FAILURE(Queue(2));
  filter().OnMessage(nullptr);
  if (GetParam()) filter().CloseConnections();
  EXPECT_TRUE(Eventually([&] { return filter().ReleaseHeld() > 0; })) << "nobody has subscribed";
  EXPECT_FALSE(Eventually([&] { return actor(1).Done(); }, absl::Milliseconds(500)));
  EXPECT_TRUE(actor(0).Valid());
  EXPECT_FALSE(actor(2).Done());
  EXPECT_EQ(Waiters(), 2);
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ASSERT_TRUE(actor(1).WaitUntilDone(absl::Seconds(1) + kSlack));
  EXPECT_GT(actor(1).token(), actor(0).token());
  EXPECT_TRUE(actor(1).Valid());
  EXPECT_EQ(actor(1).Release(), Outcome::kOk);
  ExpectServedInOrder({0, 1, 2}, kSlack);
}

INSTANTIATE_TEST_SUITE_P(Links, LateMessageTest, ::testing::Bool(), [](const auto& param) {
  return std::string(param.param ? "AfterAReconnect" : "OnTheSameLink");
});

TEST_F(LockQueueTest, AWaiterThatIsReconnectedAsksAgainAtOnce) {
  const absl::Duration ttl = absl::Seconds(10);
  Start(ttl, 8, {1});
  filter().OnMessage([](const PushMessage&) { return PushVerdict::kDrop; });
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  filter().CloseConnections();
  ExpectServedInOrder(From(1, 7), ReCheckOf(ttl) + kSlack);
  ExpectNothingIsLeft();
}

// ---- Who may end a lease ----

TEST_F(LockQueueTest, ASecondReleaseIsAnsweredOkAndTakesNothingFromTheNextHolder) {
  Start(absl::Seconds(10), 3);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  ASSERT_NO_FATAL_FAILURE(Queue(1, kPatience, true));
  ASSERT_NO_FATAL_FAILURE(Queue(2));
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ASSERT_TRUE(actor(1).WaitUntilDone(kSlack));
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  EXPECT_FALSE(Eventually([&] { return actor(2).Done(); }, absl::Milliseconds(300)));
  EXPECT_EQ(actor(1).Renew(), Outcome::kOk);
  EXPECT_EQ(actor(1).Release(), Outcome::kOk);
  ExpectServedInOrder({1, 2}, kSlack);
}

// The server forgets a lease and gives the lock to another: the first has become a stranger.
TEST_F(LockQueueTest, AReleaseByAStrangerTakesNothingFromTheHolderAndGrantsNothing) {
  Start(absl::Seconds(10), 3);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  redis_.Command({"FLUSHALL"});
  ASSERT_NO_FATAL_FAILURE(Hold(1));
  ASSERT_NO_FATAL_FAILURE(Queue(2));
  EXPECT_EQ(actor(0).Release(), Outcome::kLost);
  EXPECT_FALSE(Eventually([&] { return actor(2).Done(); }, absl::Milliseconds(300)));
  EXPECT_EQ(Waiters(), 1);
  EXPECT_EQ(actor(1).Renew(), Outcome::kOk);
  EXPECT_TRUE(actor(1).Valid());
  EXPECT_EQ(actor(1).Release(), Outcome::kOk);
  ExpectServedInOrder({0, 1, 2}, kSlack);
}

TEST_F(LockQueueTest, AHolderThatWasStoppedBeyondItsLeaseFindsItLostAndItsSuccessorUntouched) {
  const absl::Duration ttl = absl::Milliseconds(900);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  for (int i = 1; i < 8; ++i) ASSERT_NO_FATAL_FAILURE(Queue(i, kPatience, i == 1));
  actor(0).process().Pause();
  ASSERT_TRUE(actor(1).WaitUntilDone(ttl + ReCheckOf(ttl) + kSlack));
  actor(0).process().Resume();
  EXPECT_EQ(actor(0).Renew(), Outcome::kLost);
  EXPECT_FALSE(actor(0).Valid());
  EXPECT_EQ(actor(0).Release(), Outcome::kLost);
  EXPECT_TRUE(actor(1).Valid());
  EXPECT_EQ(actor(1).Renew(), Outcome::kOk);
  EXPECT_FALSE(actor(2).Done());
  EXPECT_EQ(actor(1).Release(), Outcome::kOk);
  ExpectServedInOrder({0, 1, 2, 3, 4, 5, 6, 7}, kSlack);
  ExpectNothingIsLeft();
}

TEST_F(LockQueueTest, AForkedCopyOfAHolderHasNoLeaseAndEndsNobodys) {
  const absl::Duration ttl = absl::Milliseconds(900);
  Start(ttl, 3);
  ASSERT_NO_FATAL_FAILURE(Hold(0));
  ASSERT_NO_FATAL_FAILURE(Queue(1));
  EXPECT_EQ(actor(0).ForkWhileHolding(), Outcome::kOk);
  EXPECT_FALSE(Eventually([&] { return actor(1).Done(); }, 2 * ttl));
  EXPECT_TRUE(actor(0).Valid());  // and it is still renewed
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder({0, 1}, kSlack);
}

TEST_F(LockQueueTest, AForkedCopyOfAWaiterDoesNotDisturbItsPlace) {
  const absl::Duration ttl = absl::Milliseconds(900);
  Start(ttl);
  ASSERT_NO_FATAL_FAILURE(StandInLine());
  EXPECT_TRUE(actor(1).ForkWhileWaiting());
  EXPECT_TRUE(actor(3).ForkWhileWaiting());
  Sleep(2 * ttl);  // the scenario: whoever says nothing would be taken for dead
  EXPECT_EQ(Waiters(), 7);
  EXPECT_EQ(actor(0).Release(), Outcome::kOk);
  ExpectServedInOrder(From(1, 7), kSlack);
  ExpectNothingIsLeft();
}

// ---- Late requests ----

// One request is kept on its way, overtaken by its own repetition, and arrives at last.
TEST(LateAcquireTest, AnAcquireThatArrivesAfterItsOwnerReleasedTakesNothingAndDoesNotStandInLine) {
  RedisServer server;
  RawRedis redis(server);
  FaultProxy proxy(server.unix_url());
  absl::StatusOr<Client> client = Client::Connect(proxy.url());
  ASSERT_OK(client.status());
  absl::StatusOr<Client> other = Client::Connect(server.url());
  ASSERT_OK(other.status());
  const Mutex mutex(*client, kName, {.ttl = absl::Seconds(30)});
  for (const bool held_by_another : {false, true}) {
    proxy.SetPresent(Direction::kRequests, {.hold = true});
    absl::StatusOr<Lease> lease;
    std::jthread caller([&] { lease = mutex.Acquire(absl::Seconds(10)); });
    ASSERT_TRUE(Eventually([&] { return proxy.held(Direction::kRequests) > 0; }));
    const std::size_t before = proxy.accepted();
    proxy.HalfClose(Direction::kReplies);  // the client sees the end, and asks again
    ASSERT_TRUE(Eventually([&] { return proxy.accepted() > before; }));
    caller.join();
    ASSERT_OK(lease.status());
    EXPECT_OK(lease->Release());
    std::optional<Lease> holder;
    if (held_by_another) {
      ASSERT_OK_AND_ASSIGN(holder, Mutex(*other, kName).TryAcquire());
    }
    proxy.Set(Direction::kRequests, {});
    EXPECT_TRUE(Eventually([&] { return proxy.held(Direction::kRequests) == 0; }));
    EXPECT_FALSE(Eventually([&] { return WaitersOf(redis, kName) > 0; }, absl::Milliseconds(300)));
    if (holder) {
      EXPECT_TRUE(holder->valid());
      EXPECT_OK(holder->Release());
    }
    ASSERT_OK_AND_ASSIGN(Lease next, Mutex(*other, kName).TryAcquire());
    EXPECT_GT(next.token(), lease->token());
    EXPECT_OK(next.Release());
  }
}

}  // namespace
}  // namespace coord
