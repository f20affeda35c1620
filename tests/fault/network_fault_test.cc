// Packets that vanish on a real network, and cables that are pulled: by iptables and ip, in a
// network of the test's own. The server stands at the far end of a cable, in a second one.
#include <stdlib.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "coord/client.h"
#include "coord/counter.h"
#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/lock_history.h"
#include "tests/support/own_namespaces.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::BootNanos;
using ::coord::testing::Eventually;
using ::coord::testing::Process;
using ::coord::testing::ProcessResult;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::RunSystemProgram;
using ::coord::testing::StatusIs;
using ::coord::testing::Stopwatch;
using ::coord::testing::TempDir;
using ::testing::HasSubstr;

// What a deadline may be missed by on a loaded machine.
constexpr absl::Duration kSlack = absl::Seconds(3);
// Nanoseconds: valid() is exact, but it takes a thread to tell somebody, and a loaded machine may
// keep that waiting for longer than the drift of a lease.
constexpr std::int64_t kLateThread = 2'000'000'000;

class NetworkFaultTest : public testing::OwnNamespacesTest {
 protected:
  void SetUp() override {
    if (!testing::InOwnNamespaces()) return;
    for (const char* program : {"ip", "nsenter", "iptables"}) {
      if (!testing::HasSystemProgram(program)) GTEST_SKIP() << "no program \"" << program << '"';
    }
    // With the lock of the whole machine's tables, tests would wait for each other.
    setenv("XTABLES_LOCKFILE", directory_.File("xtables.lock").c_str(), 1);
    server_.emplace(std::vector<std::string>{
        "unshare", "--net", RedisServer::Program(), "--port", "6379", "--bind", "0.0.0.0",
        "--protected-mode", "no", "--unixsocket", directory_.File("redis.sock"), "--save", "",
        "--dir", directory_.path(), "--daemonize", "no"});
    const auto answers = [](const std::string& url) {
      return !RawRedis::IsConnectionError(RawRedis(url, absl::Seconds(1)).Command({"PING"}));
    };
    ASSERT_TRUE(Eventually([&] { return answers(behind_); }, absl::Seconds(20)))
        << server_->out() << server_->err();
    const std::string pid = std::to_string(server_->pid());
    for (const std::string& line : std::vector<std::string>{
             "ip link set lo up",
             "ip link add near type veth peer name far",
             "ip link set far netns " + pid,
             "ip addr add 10.9.0.1/24 dev near",
             "ip link set near up",
             Far("ip addr add 10.9.0.2/24 dev far"),
             Far("ip link set far up"),
             "iptables -n -L",
         }) {
      const ProcessResult result = Shell(line);
      if (!result.ok()) GTEST_SKIP() << "not allowed here: " << line << ": " << result.err;
    }
    ASSERT_TRUE(Eventually([&] { return answers(url_); })) << "no way to the server";
  }

  static ProcessResult Shell(const std::string& line) {
    return RunSystemProgram({"sh", "-c", line});
  }
  static void Run(const std::string& line) {
    const ProcessResult result = Shell(line);
    EXPECT_TRUE(result.ok()) << line << ": " << result.out << result.err;
  }
  // The same where the server stands.
  std::string Far(const std::string& line) {
    return internal::StrCat("nsenter --net=/proc/", server_->pid(), "/ns/net ", line);
  }

  // `fault` is the end of an iptables rule. Of packets to the server, and from it.
  static void Requests(const std::string& fault) {
    Run("iptables -w -A OUTPUT -p tcp --dport 6379 " + fault);
  }
  static void Replies(const std::string& fault) {
    Run("iptables -w -A INPUT -p tcp --sport 6379 " + fault);
  }
  static void Heal() { Run("iptables -w -F"); }

  Client Connect(absl::Duration timeout) const {
    ClientOptions options;
    options.timeout = timeout;
    absl::StatusOr<Client> client = Client::Connect(url_, options);
    EXPECT_OK(client.status());
    return *std::move(client);
  }

  static void ExpectWorks(const Client& client) {
    absl::Status status;
    EXPECT_TRUE(Eventually(
        [&] {
          status = client.Command({"PING"}).status();
          return status.ok();
        },
        absl::Seconds(20)))
        << status;
  }

  std::int64_t Value(const std::string& name) {
    const Reply reply = RawRedis(behind_).Command({"GET", "coord:{" + name + "}:count"});
    return reply.is_nil() ? 0 : std::stoll(std::string(reply.text()));
  }

  struct Load {
    std::int64_t acknowledged = 0;
    std::int64_t unknown = 0;
    std::int64_t refused = 0;
  };
  // Eight threads add 1 to the counter "hits" for `duration`; each call has to end in its time.
  static Load AddFor(absl::Duration duration, const Client& client, absl::Duration timeout) {
    std::atomic<std::int64_t> acknowledged = 0, unknown = 0, refused = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
          const Counter counter(client, "hits");
          const Stopwatch whole;
          while (whole.elapsed() < duration) {
            const Stopwatch one;
            const absl::Status status = counter.Add(1, {}, {.timeout = timeout}).status();
            EXPECT_LT(one.elapsed(), timeout + kSlack) << status;
            if (status.ok()) {
              ++acknowledged;
            } else if (IsOutcomeUnknown(status)) {
              ++unknown;
            } else {
              EXPECT_TRUE(coord::IsUnavailable(status)) << status;
              ++refused;
            }
          }
        });
      }
    }
    return {acknowledged, unknown, refused};
  }

  void ExpectLeaseIsOverBeforeAnotherHasIt(const std::string& cut, const std::string& mend);

  const TempDir directory_;
  const std::string behind_ = "unix://" + directory_.File("redis.sock");  // not through the cable
  const std::string url_ = "redis://10.9.0.2:6379";
  std::optional<Process> server_;
};

TEST_F(NetworkFaultTest, CallsIntoABlackHoleEndByTheirDeadlinesAndWorkGoesOnWhenItCloses) {
  if (RanInside()) return;
  const Client client = Connect(absl::Milliseconds(400));
  ASSERT_OK(Counter(client, "hits").Add(1).status());
  Requests("-j DROP");
  Replies("-j DROP");
  const Load load = AddFor(absl::Milliseconds(1500), client, absl::Milliseconds(300));
  EXPECT_EQ(load.acknowledged, 0);
  EXPECT_GT(load.unknown, 0);
  ClientOptions options;
  options.connect_timeout = absl::Milliseconds(300);
  const Stopwatch watch;
  const absl::Status status = Client::Connect(url_, options).status();
  EXPECT_LT(watch.elapsed(), absl::Milliseconds(300) + kSlack);
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_FALSE(IsOutcomeUnknown(status)) << status;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("10.9.0.2:6379")));

  Heal();
  ExpectWorks(client);
  // What was on the way may still arrive, but no more than that.
  const std::int64_t value = Value("hits");
  EXPECT_GE(value, 1);
  EXPECT_LE(value, 1 + load.unknown);
}

TEST_F(NetworkFaultTest, WhenOnlyRepliesAreLostAnOperationIdMakesItExactlyOnce) {
  if (RanInside()) return;
  const Client client = Connect(absl::Milliseconds(500));
  const Counter counter(client, "hits");
  const auto id = OperationId::New();
  Replies("-j DROP");
  const absl::Status named = counter.Add(1, {.operation_id = id}).status();
  EXPECT_TRUE(IsOutcomeUnknown(named)) << named;
  EXPECT_TRUE(Eventually([&] { return Value("hits") == 1; })) << "it did arrive";
  const absl::Status nameless = counter.Add(10).status();
  EXPECT_TRUE(IsOutcomeUnknown(nameless)) << nameless;

  Heal();
  ExpectWorks(client);
  ASSERT_OK_AND_ASSIGN(const CounterResult again, counter.Add(1, {.operation_id = id}));
  EXPECT_EQ(again.value, 1);
  EXPECT_TRUE(again.applied);
  EXPECT_TRUE(Value("hits") == 1 || Value("hits") == 11) << Value("hits");
  // A lock is the same: who asked and heard nothing leaves nothing behind.
  EXPECT_OK(Mutex(client, "deploy").Acquire(absl::Seconds(10)).status());
}

TEST_F(NetworkFaultTest, WhenOnlyRequestsAreLostNothingIsApplied) {
  if (RanInside()) return;
  const Client client = Connect(absl::Milliseconds(500));
  Requests("-j DROP");
  const absl::Status status = Counter(client, "hits").Add(1).status();
  EXPECT_TRUE(IsOutcomeUnknown(status)) << status;
  EXPECT_EQ(Value("hits"), 0);
  Heal();
  ExpectWorks(client);
  EXPECT_LE(Value("hits"), 1);
}

TEST_F(NetworkFaultTest, UnderRandomLossEveryCallEndsAndNothingCountsTwice) {
  if (RanInside()) return;
  const Client client = Connect(absl::Seconds(2));
  Requests("-m statistic --mode random --probability 0.2 -j DROP");
  Replies("-m statistic --mode random --probability 0.2 -j DROP");
  const Load load = AddFor(absl::Seconds(5), client, absl::Milliseconds(500));
  EXPECT_GT(load.acknowledged, 20);
  EXPECT_GT(load.unknown, 0) << "nothing was lost";
  Heal();
  ExpectWorks(client);
  const std::int64_t value = Value("hits");
  EXPECT_GE(value, load.acknowledged);
  EXPECT_LE(value, load.acknowledged + load.unknown);
}

TEST_F(NetworkFaultTest, ARejectedPacketIsAnErrorAtOnce) {
  if (RanInside()) return;
  const Client client = Connect(absl::Seconds(10));
  Requests("-j REJECT --reject-with tcp-reset");
  const Stopwatch watch;
  // The call finds its connection reset. What comes behind it has none, and waits its time.
  const absl::Status sent = Counter(client, "hits").Add(1).status();
  EXPECT_TRUE(IsOutcomeUnknown(sent)) << sent;
  EXPECT_TRUE(coord::IsUnavailable(sent)) << sent;
  const absl::Status refused = Client::Connect(url_).status();
  EXPECT_TRUE(coord::IsUnavailable(refused)) << refused;
  EXPECT_FALSE(IsOutcomeUnknown(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("10.9.0.2:6379"));
  EXPECT_LT(watch.elapsed(), absl::Seconds(8)) << "it has waited for a deadline";
  const absl::Status later =
      Counter(client, "hits").Add(1, {}, {.timeout = absl::Milliseconds(300)}).status();
  EXPECT_TRUE(coord::IsUnavailable(later)) << later;
  EXPECT_FALSE(IsOutcomeUnknown(later)) << later;
  Heal();
  ExpectWorks(client);
  EXPECT_EQ(Value("hits"), 0);
}

// About 8 s: a lease has to run out.
void NetworkFaultTest::ExpectLeaseIsOverBeforeAnotherHasIt(const std::string& cut,
                                                           const std::string& mend) {
  const Client client = Connect(absl::Milliseconds(500));
  ASSERT_OK_AND_ASSIGN(const Client elsewhere, Client::Connect(behind_));
  const Mutex mutex(client, "deploy", {.ttl = absl::Seconds(4)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  std::atomic<std::int64_t> told = 0;
  const std::stop_callback on_loss(lease.stop_token(), [&] { told = BootNanos(); });
  std::int64_t granted = 0;
  bool still_valid = true;
  absl::StatusOr<Lease> next;
  std::jthread waiter([&] {
    next = Mutex(elsewhere, "deploy").Acquire(absl::Seconds(30));
    still_valid = lease.valid();
    granted = BootNanos();
  });
  // It is renewed for longer than it would live without.
  RawRedis redis(behind_);
  const Stopwatch watch;
  EXPECT_TRUE(Eventually([&] {
    return redis.Command({"LLEN", "coord:{deploy}:queue"}).integer() == 1 &&
           redis.Integer({"PTTL", "coord:{deploy}:lease"}) > 3000 &&
           watch.elapsed() > absl::Seconds(1);
  }));
  Run(cut);
  const absl::Status cut_off = Counter(client, "hits").Add(1).status();
  EXPECT_TRUE(IsOutcomeUnknown(cut_off) || coord::IsUnavailable(cut_off)) << cut_off;
  waiter.join();
  ASSERT_OK(next.status());
  EXPECT_FALSE(still_valid);
  EXPECT_TRUE(Eventually([&] { return told != 0; }));
  EXPECT_LE(told, granted + kLateThread);
  EXPECT_GT(next->token(), lease.token());
  EXPECT_TRUE(IsLost(lease.Release({.timeout = absl::Milliseconds(300)})));

  Run(mend);
  ExpectWorks(client);
  EXPECT_TRUE(next->valid());
  EXPECT_TRUE(IsBusy(mutex.TryAcquire({.timeout = absl::Seconds(10)}).status()));
  ASSERT_OK(next->Release());
  ASSERT_OK_AND_ASSIGN(const Lease after, mutex.Acquire(absl::Seconds(10)));
  EXPECT_GT(after.token(), next->token());
}

TEST_F(NetworkFaultTest, BehindALinkThatIsDownALeaseIsOverBeforeAnotherHasIt) {
  if (RanInside()) return;
  ExpectLeaseIsOverBeforeAnotherHasIt("ip link set near down", "ip link set near up");
}

TEST_F(NetworkFaultTest, BehindAPulledCableALeaseIsOverBeforeAnotherHasIt) {
  if (RanInside()) return;
  ExpectLeaseIsOverBeforeAnotherHasIt(Far("ip link set far down"), Far("ip link set far up"));
}

TEST_F(NetworkFaultTest, ConnectingThroughALinkThatIsDownIsAnErrorInTime) {
  if (RanInside()) return;
  Run("ip link set near down");
  ClientOptions options;
  options.connect_timeout = absl::Seconds(1);
  const Stopwatch watch;
  const absl::Status status = Client::Connect(url_, options).status();
  EXPECT_LT(watch.elapsed(), absl::Seconds(1) + kSlack);
  EXPECT_TRUE(coord::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nreachable"));
  Run("ip link set near up");
  EXPECT_TRUE(Eventually([&] { return Client::Connect(url_, options).ok(); }));
}

}  // namespace
}  // namespace coord
