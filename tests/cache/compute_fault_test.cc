// GetOrCompute while the network fails: who asked gets a value.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "coord/errors.h"
#include "coord/internal/sync.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/fault_proxy.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::FaultProxy;
using ::coord::testing::RedisServer;

class ComputeFaultTest : public ::testing::Test {
 protected:
  Cache Connect(Fallback::Mode fallback) {
    ClientOptions options;
    options.timeout = absl::Milliseconds(300);
    absl::StatusOr<Client> client = Client::Connect(proxy_.url(), options);
    if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
    CacheOptions cache;
    cache.fallback.mode = fallback;
    cache.on_problem = [this](const absl::Status&) { ++problems_; };
    return Cache(std::make_shared<RedisBackend>(*std::move(client)), cache);
  }
  auto Making(std::string value) {
    return [this, value] {
      ++runs_;
      return value;
    };
  }
  void Cut() {
    proxy_.Refuse(true);
    proxy_.ResetConnections();
  }

  std::atomic<int> problems_{0}, runs_{0};
  RedisServer server_{{.port = 0}};
  FaultProxy proxy_{server_.url()};
};

TEST_F(ComputeFaultTest, AServerThatIsAwayCostsTheCacheAndNotTheValue) {
  const Cache cache = Connect(Fallback::Mode::kMiss);
  ComputeOptions options;
  for (const bool across : {false, true}) {
    options.across_processes = across;
    Cut();
    const auto made = cache.GetOrCompute("k", Making("v"), options);
    ASSERT_OK(made);
    EXPECT_EQ(**made, "v");
    proxy_.Heal();
    EXPECT_OK(cache.Reconnect());
  }
  EXPECT_EQ(runs_, 2);
  EXPECT_FALSE(*cache.Exists("k"));
}

TEST_F(ComputeFaultTest, AskedToTellItTellsThatTheServerIsAway) {
  const Cache cache = Connect(Fallback::Mode::kPropagate);
  Cut();
  EXPECT_FALSE(cache.GetOrCompute("k", Making("v")).ok());
  EXPECT_EQ(runs_, 0);
}

TEST_F(ComputeFaultTest, AServerLostWhileTheFactoryRunsLosesNobodyTheValue) {
  const Cache cache = Connect(Fallback::Mode::kPropagate);
  ComputeOptions options;
  for (const bool across : {false, true}) {
    options.across_processes = across;
    const auto made = cache.GetOrCompute(
        across ? "across" : "alone",
        [this] {
          Cut();
          return std::string("v");
        },
        options);
    ASSERT_OK(made);
    EXPECT_EQ(**made, "v");
    proxy_.Heal();
    EXPECT_OK(cache.Reconnect());
  }
  EXPECT_GE(problems_, 2);
}

TEST_F(ComputeFaultTest, WithoutALockServiceAProcessComputesOnItsOwnAndSaysSo) {
  const Cache cache = Connect(Fallback::Mode::kPropagate);
  ComputeOptions options;
  options.across_processes = true;
  // What is no lock stands where the lock should be.
  EXPECT_OK(cache.client()->Command({"RPUSH", "coord:{flight:coord:cache:k}:lease", "x"}));
  const auto made = cache.GetOrCompute("k", Making("v"), options);
  ASSERT_OK(made);
  EXPECT_EQ(**made, "v");
  EXPECT_EQ(runs_, 1);
  EXPECT_EQ(problems_, 1);
  EXPECT_TRUE(*cache.Exists("k"));
}

}  // namespace
}  // namespace coord
