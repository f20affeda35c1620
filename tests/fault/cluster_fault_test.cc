// A Redis Cluster in change: slots move, masters fail over, die, fall silent and come back, while
// several clients work with what is in those slots.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coord/capped_list.h"
#include "coord/client.h"
#include "coord/counter.h"
#include "coord/deployment/slot.h"
#include "coord/errors.h"
#include "coord/fenced_store.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/deployment.h"
#include "tests/support/raw_redis.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"
#include "tools/dev/cluster.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::OrFatal;
using ::coord::testing::RawRedis;
using ::coord::testing::Stopwatch;
using internal::StrCat;

constexpr auto kLong = absl::Seconds(20);

Client Connect(const dev::Cluster& cluster, absl::Duration timeout = kLong) {
  ClientOptions options;
  options.timeout = timeout;
  options.connect_timeout = kLong;
  options.fail_fast_after = kLong;
  return OrFatal(Client::Connect(cluster.url(), options));
}

int SlotOfName(std::string_view name) { return internal::SlotOf(StrCat("coord:{", name, "}:")); }

std::string NameAt(dev::Cluster& cluster, std::size_t master, const std::string& prefix) {
  for (int i = 0;; ++i) {
    std::string name = StrCat(prefix, i);
    if (OrFatal(cluster.master_of(SlotOfName(name))) == master) return name;
  }
}

// When what happened, from the start of the test.
class Moments {
 public:
  void Add(absl::Duration when) {
    const std::scoped_lock lock(mutex_);
    all_.push_back(when);
  }
  std::int64_t Count(absl::Duration from, absl::Duration to) const {
    const std::scoped_lock lock(mutex_);
    return std::count_if(all_.begin(), all_.end(),
                         [&](absl::Duration when) { return when >= from && when < to; });
  }
  absl::Duration FirstAfter(absl::Duration from) const {
    const std::scoped_lock lock(mutex_);
    absl::Duration first = absl::InfiniteDuration();
    for (const absl::Duration when : all_) {
      if (when > from) first = std::min(first, when);
    }
    return first;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<absl::Duration> all_;
};

// Several clients that do everything with the objects of one name until they are told to stop.
class Load {
 public:
  // With `settled`, a call that fails is a failure of the test: nothing is to be lost.
  Load(const dev::Cluster& cluster, std::string name, bool settled)
      : name_(std::move(name)), settled_(settled) {
    for (int i = 0; i < 2; ++i) {
      clients_.push_back(Connect(cluster));
      clients_.push_back(Connect(cluster, absl::Milliseconds(settled ? 20000 : 300)));
    }
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      Run([this, i] { Lock(clients_[i]); });
      Run([this, i] { Add(clients_[i], i); });
    }
    Run([this] { AddOnce(clients_[0]); });
    Run([this] { Push(clients_[2]); });
    threads_.emplace_back([this] { Follow(clients_[3]); });
  }
  ~Load() { Stop(); }

  absl::Duration now() const { return watch_.elapsed(); }
  // Of a call whose client waits for long, and of one whose calls give up soon.
  const Moments& patient() const { return added_[0]; }
  const Moments& hasty() const { return added_[1]; }

  void Stop() {
    stop_ = true;
    for (std::size_t i = 0; i + 1 < threads_.size(); ++i) {
      if (threads_[i].joinable()) threads_[i].join();
    }
    if (threads_.back().joinable()) {
      following_.request_stop();
      threads_.back().join();
    }
  }

  // What must hold afterwards. What was acknowledged between the two moments may be lost.
  void Judge(absl::Duration lossy_from, absl::Duration lossy_to) {
    // What came last is followed to the end.
    Eventually([&] { return last_seen_ >= last_pushed_; });
    Stop();
    // A lease that its master had told no replica of may be granted again; no other.
    EXPECT_EQ(overlapped_.Count(absl::ZeroDuration(), absl::InfiniteDuration()),
              overlapped_.Count(lossy_from, lossy_to))
        << "two leases valid at once";
    EXPECT_EQ(disorder_, 0) << "a later holder with no larger token";
    EXPECT_EQ(refused_, 0) << "a valid holder's write was refused";
    EXPECT_GT(sections_, 20);
    std::int64_t acknowledged = 0, lost = 0;
    for (const Moments& moments : added_) {
      acknowledged += moments.Count(absl::ZeroDuration(), absl::InfiniteDuration());
      lost += moments.Count(lossy_from, lossy_to);
    }
    const std::int64_t final = OrFatal(Counter(clients_[0], name_).Get());
    std::cout << name_ << ": " << sections_ << " sections; " << acknowledged << " additions and "
              << unknown_ << " unknown, " << lost << " of which could be lost, made " << final
              << "; " << once_ << " once; " << pushed_ << " pushed, " << seen_ << " seen\n";
    EXPECT_GE(final, acknowledged - lost);
    EXPECT_LE(final, acknowledged + unknown_);
    if (settled_) {
      EXPECT_EQ(OrFatal(Counter(clients_[0], StrCat("{", name_, "}once")).Get()), once_);
      EXPECT_EQ(seen_, pushed_);
      EXPECT_EQ(missed_, 0);
    }
  }

 private:
  void Run(std::function<void()> turn) {
    threads_.emplace_back([this, turn = std::move(turn)] {
      while (!stop_) {
        turn();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
  }
  void Check(const absl::Status& status) const {
    if (!settled_) return;
    EXPECT_OK(status);
  }

  void Lock(const Client& client) {
    absl::StatusOr<Lease> lease =
        Mutex(client, name_, {.ttl = absl::Seconds(3)}).Acquire(absl::Seconds(10));
    if (!lease.ok()) return Check(lease.status());
    Enter(*lease);
    if (lease->valid()) {
      if (last_token_.exchange(lease->token().value()) >= lease->token().value()) ++disorder_;
    }
    const auto written = FencedStore(client, name_).Set(lease->token(), "by me");
    if (!written.ok()) Check(written.status());
    if (written.ok() && !written->applied && lease->valid()) ++refused_;
    if (lease->valid()) ++sections_;
    {
      const internal::MutexLock lock(inside_mutex_);
      inside_.erase(&*lease);
    }
    Check(lease->Release());
  }

  // Whose leases are valid all the same, though a call may keep them inside for longer than that.
  void Enter(const Lease& lease) {
    const internal::MutexLock lock(inside_mutex_);
    for (const auto& [other, since] : inside_) {
      if (other->valid() && lease.valid()) overlapped_.Add(since);
    }
    inside_.emplace(&lease, now());
  }

  void Add(const Client& client, std::size_t which) {
    const absl::StatusOr<CounterResult> result = Counter(client, name_).Add(1);
    if (result.ok()) return added_[which % 2].Add(now());
    if (IsOutcomeUnknown(result.status())) ++unknown_;
    Check(result.status());
  }

  void AddOnce(const Client& client) {
    const auto result =
        Counter(client, StrCat("{", name_, "}once")).Add(1, {.operation_id = OperationId::New()});
    if (result.ok()) ++once_;
    Check(result.status());
  }

  void Push(const Client& client) {
    const auto result = CappedList(client, name_, {.max_items = 100000})
                            .Push("item", {.operation_id = OperationId::New()});
    if (!result.ok()) return Check(result.status());
    ++pushed_;
    last_pushed_ = result->sequence;
  }

  void Follow(const Client& client) {
    while (!following_.stop_requested()) {
      const absl::Status status = CappedList(client, name_, {.max_items = 100000})
                                      .Follow(
                                          last_seen_,
                                          [&](const ListSlice& slice) {
                                            seen_ += static_cast<int>(slice.items.size());
                                            if (last_seen_ > 0) missed_ += slice.missed;
                                            last_seen_ = slice.newest;
                                            return true;
                                          },
                                          following_.get_token());
      if (!following_.stop_requested()) Check(status);
    }
  }

  const std::string name_;
  const bool settled_;
  const Stopwatch watch_;
  std::vector<Client> clients_;
  std::atomic<bool> stop_ = false;
  std::stop_source following_;
  internal::Mutex inside_mutex_;
  std::map<const Lease*, absl::Duration> inside_;  // since when
  Moments overlapped_;                             // since when the one who was there first was in
  std::atomic<int> disorder_ = 0, refused_ = 0, sections_ = 0;
  std::atomic<std::uint64_t> last_token_ = 0;
  std::array<Moments, 2> added_;
  std::atomic<std::int64_t> unknown_ = 0, once_ = 0, pushed_ = 0, seen_ = 0, missed_ = 0;
  std::atomic<std::int64_t> last_pushed_ = 0, last_seen_ = 0;
  std::vector<std::jthread> threads_;
};

// When a node begins to serve a name, as a plain client finds it: the deployment's own recovery.
class ServedBy {
 public:
  ServedBy(const Load& load, dev::Server& node, const std::string& name)
      : thread_([this, &load, url = StrCat("redis://127.0.0.1:", node.port()),
                 key = StrCat("coord:{", name, "}:probe")] {
          RawRedis redis(url);
          if (Eventually([&] { return !redis.Command({"SET", key, "x"}).is_error(); }, kLong)) {
            since_ = load.now();
          }
        }) {}
  absl::Duration Wait() {
    thread_.join();
    EXPECT_LT(since_, absl::InfiniteDuration()) << "the node never served it";
    return since_;
  }

 private:
  absl::Duration since_ = absl::InfiniteDuration();
  std::jthread thread_;
};

// How long after the deployment itself the clients were there again.
void ExpectRecovered(const std::string& what, const Load& load, absl::Duration broke,
                     absl::Duration served) {
  ASSERT_TRUE(Eventually(
      [&] {
        return load.patient().FirstAfter(served) < absl::InfiniteDuration() &&
               load.hasty().FirstAfter(served) < absl::InfiniteDuration();
      },
      kLong))
      << what;
  const absl::Duration patient = load.patient().FirstAfter(served) - served;
  const absl::Duration hasty = load.hasty().FirstAfter(served) - served;
  std::cout << "RECOVERY " << what << ": the deployment's own " << served - broke
            << ", a patient caller " << patient << " later, a hasty one " << hasty << " later\n";
  EXPECT_LT(patient, absl::Seconds(5));
  EXPECT_LT(hasty, absl::Seconds(5));
}

// Until the load has done some more since then.
void AwaitWork(const Load& load) {
  const absl::Duration from = load.now();
  EXPECT_TRUE(Eventually(
      [&] {
        return load.patient().Count(from, absl::InfiniteDuration()) > 50 &&
               load.hasty().Count(from, absl::InfiniteDuration()) > 20;
      },
      kLong));
}

class ClusterFaultTest : public ::testing::Test {
 protected:
  std::unique_ptr<dev::Cluster> cluster_ = OrFatal(dev::Cluster::Start());
};

// Takes about 10 s.
TEST_F(ClusterFaultTest, NothingIsLostWhileASlotMovesAgainAndAgain) {
  Load load(*cluster_, "moving", true);
  AwaitWork(load);
  const int slot = SlotOfName("moving");
  for (int round = 0; round < 6; ++round) {
    const std::size_t from = OrFatal(cluster_->master_of(slot));
    const std::size_t to = (from + 1) % 3;
    OrFatal(cluster_->SetImporting(slot, from, to));
    OrFatal(cluster_->SetMigrating(slot, from, to));
    // Some keys are here and some there, for a while.
    while (OrFatal(cluster_->MoveKeys(slot, from, to, 2)) > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
    const absl::Duration moved = load.now();
    OrFatal(cluster_->SetOwner(slot, to));
    ExpectRecovered("slot moved", load, moved, load.now());
    AwaitWork(load);
  }
  load.Judge(absl::ZeroDuration(), absl::ZeroDuration());
}

TEST_F(ClusterFaultTest, NothingIsLostInAFailoverThatIsAskedFor) {
  const std::string name = NameAt(*cluster_, 0, "failover");
  Load load(*cluster_, name, true);
  AwaitWork(load);
  for (int round = 0; round < 2; ++round) {
    const std::size_t master = OrFatal(cluster_->master_of(SlotOfName(name)));
    const std::size_t replica = OrFatal(cluster_->replicas_of(master)).front();
    const absl::Duration asked = load.now();
    ServedBy served(load, cluster_->node(replica), name);
    OrFatal(cluster_->Failover(replica));
    ExpectRecovered("failover asked for", load, asked, served.Wait());
    AwaitWork(load);
  }
  load.Judge(absl::ZeroDuration(), absl::ZeroDuration());
}

// Takes about 10 s.
TEST_F(ClusterFaultTest, WorkGoesOnAfterAMasterHasDiedAndWhenItComesBack) {
  const std::string name = NameAt(*cluster_, 0, "crash");
  Load load(*cluster_, name, false);
  AwaitWork(load);
  const std::size_t replica = OrFatal(cluster_->replicas_of(0)).front();
  const absl::Duration killed = load.now();
  cluster_->KillNode(0);
  ServedBy served(load, cluster_->node(replica), name);
  ExpectRecovered("master killed", load, killed, served.Wait());
  AwaitWork(load);
  OrFatal(cluster_->RestartNode(0));
  OrFatal(cluster_->WaitUntilOk());
  AwaitWork(load);
  // What the old master had not handed on when it died.
  load.Judge(killed - absl::Seconds(1), killed + absl::Milliseconds(100));
}

// Takes about 10 s.
TEST_F(ClusterFaultTest, AMasterThatFallsSilentIsLeftAndNotBelievedLater) {
  const std::string name = NameAt(*cluster_, 1, "silent");
  Load load(*cluster_, name, false);
  AwaitWork(load);
  const std::size_t replica = OrFatal(cluster_->replicas_of(1)).front();
  const absl::Duration stopped = load.now();
  cluster_->node(1).Pause();
  ServedBy served(load, cluster_->node(replica), name);
  ExpectRecovered("master silent", load, stopped, served.Wait());
  AwaitWork(load);
  const absl::Duration back = load.now();
  cluster_->node(1).Resume();
  OrFatal(cluster_->WaitUntilOk());
  ExpectRecovered("stale master back", load, back, back);
  AwaitWork(load);
  // What the old master had not handed on when it was stopped.
  load.Judge(stopped - absl::Seconds(1), stopped + absl::Milliseconds(100));
}

// Takes about 10 s.
TEST_F(ClusterFaultTest, NodesComeAndGo) {
  const std::string name = NameAt(*cluster_, 2, "scale");
  Load load(*cluster_, name, true);
  const std::size_t added = OrFatal(cluster_->AddEmptyMaster());
  const int slot = SlotOfName(name);
  OrFatal(cluster_->MigrateSlot(slot, added));
  ExpectRecovered("slot at a new master", load, load.now(), load.now());
  AwaitWork(load);
  OrFatal(cluster_->MigrateSlot(slot, 0));
  AwaitWork(load);
  for (std::size_t i = 0; i < added; ++i) {
    OrFatal(cluster_->node(i).Ask({"CLUSTER", "FORGET", cluster_->id(added)}).status());
  }
  cluster_->KillNode(added);
  AwaitWork(load);
  load.Judge(absl::ZeroDuration(), absl::ZeroDuration());
}

// Takes about 10 s.
TEST_F(ClusterFaultTest, AHeldLeaseAndItsWaiterMoveAlong) {
  const std::string name = NameAt(*cluster_, 0, "held");
  const Client holder = Connect(*cluster_), other = Connect(*cluster_);
  const MutexOptions options{.ttl = absl::Seconds(2)};
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(holder, name, options).TryAcquire());
  for (const char* change : {"slot moved", "failover", "crash"}) {
    SCOPED_TRACE(change);
    absl::StatusOr<Lease> next = absl::UnknownError("");
    const Stopwatch watch;
    absl::Duration granted;
    std::jthread waiter([&] {
      next = Mutex(other, name, options).Acquire(absl::Seconds(60));
      granted = watch.elapsed();
    });
    const auto waiting = [&] {
      const auto state = Mutex(holder, name, options).Holder({.timeout = absl::Seconds(10)});
      return state.ok() && state->waiters.size() == 1;
    };
    ASSERT_TRUE(Eventually(waiting));
    const std::size_t master = OrFatal(cluster_->master_of(SlotOfName(name)));
    const std::size_t replica = OrFatal(cluster_->replicas_of(master)).front();
    const bool crash = std::string(change) == "crash";
    if (crash) {
      OrFatal(cluster_->WaitUntilOk());
      // Beyond what the crash takes, so that the lease can survive it.
      ASSERT_OK(lease.Renew(kLong));
      OrFatal(cluster_->node(master).Ask({"PING"}).status());
      cluster_->KillNode(master);
      OrFatal(cluster_->WaitUntilOk());
    } else if (std::string(change) == "failover") {
      OrFatal(cluster_->Failover(replica));
    } else {
      OrFatal(cluster_->MigrateSlot(SlotOfName(name), (master + 1) % 3));
    }
    // Renewed, and waited for, at the new master.
    const absl::Duration held_until = watch.elapsed() + absl::Seconds(3);
    EXPECT_TRUE(Eventually([&] { return watch.elapsed() > held_until || !lease.valid(); }));
    ASSERT_TRUE(lease.valid());
    EXPECT_TRUE(Eventually(waiting));
    const FencingToken before = lease.token();
    const absl::Duration released = watch.elapsed();
    EXPECT_OK(lease.Release());
    waiter.join();
    ASSERT_OK(next);
    std::cout << "after " << change << " a waiter was served in " << granted - released << "\n";
    EXPECT_GT(next->token(), before);
    EXPECT_OK(next->Release());
    ASSERT_OK_AND_ASSIGN(lease, Mutex(holder, name, options).Acquire(kLong));
  }
}

// The call's own time is longer than anybody should wait for a node that its Cluster has given up.
TEST_F(ClusterFaultTest, ACallThatMayBeRepeatedLeavesASilentMaster) {
  const std::string name = NameAt(*cluster_, 1, "repeat");
  const Client client = Connect(*cluster_, absl::Seconds(60));
  const Counter counter(client, name);
  ASSERT_OK(counter.Add(1));
  OrFatal(cluster_->WaitUntilOk());
  cluster_->node(1).Pause();
  const Stopwatch watch;
  ASSERT_OK_AND_ASSIGN(const CounterResult result,
                       counter.Add(1, {.operation_id = OperationId::New()}));
  std::cout << "a call that was under way took " << watch.elapsed() << "\n";
  EXPECT_EQ(result.value, 2);
  EXPECT_LT(watch.elapsed(), absl::Seconds(15));
}

}  // namespace
}  // namespace coord
