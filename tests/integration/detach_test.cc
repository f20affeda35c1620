// Handing a lease from one process to another.
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/errors.h"
#include "coord/lease.h"
#include "coord/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/process.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::AllCalls;
using ::coord::testing::CommandCalls;
using ::coord::testing::Direction;
using ::coord::testing::Eventually;
using ::coord::testing::FaultProxy;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;
using ::coord::testing::StatusIs;
using ::testing::HasSubstr;

constexpr char kLease[] = "coord:{deploy}:lease";

Client ConnectTo(const std::string& url, ClientOptions options = {}) {
  absl::StatusOr<Client> client = Client::Connect(url, std::move(options));
  if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
  return *std::move(client);
}

class DetachTest : public ::testing::Test {
 protected:
  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = ConnectTo(server_.url());
  Client other_ = ConnectTo(server_.url(), {.client_name = "adopter"});
  Mutex mutex_{client_, "deploy", {.ttl = absl::Seconds(30)}};
};

TEST_F(DetachTest, AnotherClientGoesOnWithTheSameTokenUnderItsOwnName) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const FencingToken token = lease.token();
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  EXPECT_FALSE(lease.valid());
  EXPECT_EQ(text.find_first_of(" \n\"'"), std::string::npos);
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_TRUE(adopted.valid());
  EXPECT_EQ(adopted.token(), token);
  EXPECT_EQ(adopted.name(), "deploy");
  EXPECT_GT(adopted.remaining(), absl::Seconds(29));
  ASSERT_OK_AND_ASSIGN(const LockHolder holder, mutex_.Holder());
  EXPECT_EQ(holder.owner, adopted.owner());
  EXPECT_THAT(holder.owner, HasSubstr("@adopter"));
  EXPECT_OK(adopted.Release());
  EXPECT_OK(mutex_.TryAcquire().status());
}

TEST_F(DetachTest, AnotherProcessGoesOn) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer starts no threads in a child of a process with threads";
#endif
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  Process child = ForkAndRun([&] {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) return 2;
    absl::StatusOr<Lease> adopted = Lease::Adopt(*client, text);
    if (!adopted.ok() || !adopted->valid()) return 3;
    return adopted->Release().ok() ? 0 : 4;
  });
  EXPECT_EQ(child.Wait().exit_code, 0);
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 0);
}

TEST_F(DetachTest, TheDetachedLeaseNoLongerActsHere) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  const std::stop_token stop = lease.stop_token();
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_FALSE(stop.stop_requested());
  EXPECT_THAT(lease.Renew(absl::Seconds(1)), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(lease.Detach().status(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(lease.Release());  // nothing left to give back
  lease = Lease();
  EXPECT_EQ(redis_.Integer({"EXISTS", kLease}), 1);
  EXPECT_GT(redis_.Integer({"PTTL", kLease}), 10'000);
  EXPECT_TRUE(adopted.valid());
}

TEST_F(DetachTest, NobodyRenewsALeaseUntilItIsAdoptedAndThenSomebodyDoes) {
  const Mutex mutex(client_, "deploy", {.ttl = absl::Milliseconds(300)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_TRUE(Eventually([&] { return CommandCalls(redis_, "pexpire") >= 6; }));
  EXPECT_TRUE(adopted.valid());
  ASSERT_OK_AND_ASSIGN(const std::string again, adopted.Detach());
  EXPECT_TRUE(Eventually([&] { return redis_.Integer({"EXISTS", kLease}) == 0; }));
  const absl::Status late = Lease::Adopt(client_, again).status();
  EXPECT_TRUE(IsLost(late)) << late;
}

TEST_F(DetachTest, ATextWorksOnce) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  const absl::Status second = Lease::Adopt(client_, text).status();
  EXPECT_TRUE(IsLost(second)) << second;
  EXPECT_TRUE(adopted.valid());
  EXPECT_OK(adopted.Release());
  EXPECT_TRUE(IsLost(Lease::Adopt(client_, text).status()));
}

TEST_F(DetachTest, AdoptingIsOneRoundTripAndDetachingNone) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  redis_.Command({"CONFIG", "RESETSTAT"});
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  EXPECT_EQ(AllCalls(redis_), 0);
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_EQ(CommandCalls(redis_, "evalsha"), 1);
}

TEST_F(DetachTest, WhoWaitsInTheQueueIsServedByTheAdoptersRelease) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  std::optional<absl::StatusOr<Lease>> waited;
  std::jthread waiter(
      [&] { waited = Mutex(ConnectTo(server_.url()), "deploy").Acquire(absl::Seconds(20)); });
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_OK(adopted.Release());
  waiter.join();
  EXPECT_OK(waited->status());
}

TEST_F(DetachTest, ThreadsOfTheProcessThatDetachedWaitAtTheServer) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.Acquire(absl::Seconds(5)));
  std::optional<absl::StatusOr<Lease>> waited;
  std::jthread waiter([&] { waited = mutex_.Acquire(absl::Seconds(20)); });
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  ASSERT_TRUE(Eventually([&] { return redis_.Integer({"LLEN", "coord:{deploy}:queue"}) == 1; }));
  EXPECT_TRUE(adopted.valid());
  EXPECT_OK(adopted.Release());
  waiter.join();
  ASSERT_OK(waited->status());
  EXPECT_GT((*waited)->token(), adopted.token());
}

TEST_F(DetachTest, MaxHoldGoesOnCounting) {
  const Mutex mutex(client_, "deploy",
                    {.ttl = absl::Seconds(30), .max_hold = absl::Milliseconds(600)});
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_LE(adopted.remaining(), absl::Milliseconds(600));
  EXPECT_TRUE(Eventually([&] { return !adopted.valid(); }));
}

TEST_F(DetachTest, ALostLeaseCannotBeDetached) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  redis_.Command({"DEL", kLease});
  EXPECT_TRUE(IsLost(lease.Renew(absl::Seconds(30))));
  EXPECT_TRUE(IsLost(lease.Detach().status()));
  EXPECT_THAT(Lease().Detach().status(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(DetachTest, AnAdoptionWhoseReplyIsLostIsRepeatedAndNotDoubled) {
  const RedisServer remote({.port = 0});
  FaultProxy proxy(remote.url());
  const Client near = ConnectTo(remote.url());
  const Client far = ConnectTo(proxy.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(near, "deploy").TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  proxy.ResetBeforeReply();
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(far, text));
  EXPECT_TRUE(adopted.valid());
  EXPECT_OK(adopted.Release());
}

TEST_F(DetachTest, AnAdoptionThatIsNotAnsweredIsGivenBack) {
  const RedisServer remote({.port = 0});
  RawRedis raw(remote);
  FaultProxy proxy(remote.url());
  const Client near = ConnectTo(remote.url());
  const Client far = ConnectTo(proxy.url());
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(near, "deploy", {.ttl = absl::Seconds(60)}).TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  proxy.SetPresent(Direction::kReplies, {.drop = true});
  const absl::Status unknown =
      Lease::Adopt(far, text, {.timeout = absl::Milliseconds(200)}).status();
  EXPECT_TRUE(IsOutcomeUnknown(unknown)) << unknown;
  EXPECT_TRUE(Eventually([&] { return raw.Integer({"EXISTS", kLease}) == 0; }));
}

TEST_F(DetachTest, AFullServerLetsALeaseBeAdopted) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  redis_.Command({"CONFIG", "SET", "maxmemory", "1"});
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(other_, text));
  EXPECT_OK(adopted.Release());
}

TEST_F(DetachTest, BadTextsAreRefusedBeforeAnythingIsSent) {
  ASSERT_OK_AND_ASSIGN(Lease lease, mutex_.TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  redis_.Command({"CONFIG", "RESETSTAT"});
  std::vector<std::string> bad = {"",         "x",        "coord-lease-1",          text + "x",
                                  text + ",", "x" + text, std::string(100'000, 'x')};
  for (std::size_t cut = 0; cut < text.size(); ++cut) bad.push_back(text.substr(0, cut));
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{",mutex,", ",semaphore,"},
                                                        {",30000,", ",0,"},
                                                        {",30000,", ",99999999999,"},
                                                        {",30000,", ",x,"},
                                                        {",-,", ",-1,"},
                                                        {",0,", ",2,"},
                                                        {",deploy,", ",,"},
                                                        {",deploy,", ",%7Ddeploy,"},
                                                        {",deploy,", ",%7,"},
                                                        {",deploy,", ",a b,"},
                                                        {"@", "%20"},
                                                        {"@", "%0A@"}}) {
    std::string changed = text;
    ASSERT_NE(changed.find(from), std::string::npos) << from << " in " << text;
    bad.push_back(changed.replace(changed.find(from), from.size(), to));
  }
  for (const std::string& each : bad) {
    EXPECT_THAT(Lease::Adopt(other_, each).status(), StatusIs(absl::StatusCode::kInvalidArgument))
        << each.substr(0, 200);
  }
  const Client elsewhere = ConnectTo(server_.url(), {.prefix = "elsewhere:"});
  redis_.Command({"CONFIG", "RESETSTAT"});
  EXPECT_THAT(Lease::Adopt(elsewhere, text).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("elsewhere:")));
  EXPECT_THAT(Lease::Adopt(other_, text, {.timeout = absl::ZeroDuration()}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(AllCalls(redis_), 0);
  EXPECT_OK(Lease::Adopt(other_, text).status());
}

TEST_F(DetachTest, AnyNameAndPrefixComesThrough) {
  const std::string name("a,b %\n\0\xff{", 9);
  const ClientOptions options = {.prefix = "p, :", .client_name = "a,%@b"};
  const Client from = ConnectTo(server_.url(), options);
  const Client to = ConnectTo(server_.url(), options);
  ASSERT_OK_AND_ASSIGN(Lease lease, Mutex(from, name).TryAcquire());
  ASSERT_OK_AND_ASSIGN(const std::string text, lease.Detach());
  ASSERT_OK_AND_ASSIGN(Lease adopted, Lease::Adopt(to, text));
  EXPECT_EQ(adopted.name(), name);
}

}  // namespace
}  // namespace coord
