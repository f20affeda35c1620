// GetOrCompute among processes: one factory in all of them, and another when it dies or freezes.
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/cache.h"
#include "cache/internal/flight_lease.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fatal.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wait.h"

namespace coord {
namespace {

using ::coord::testing::Eventually;
using ::coord::testing::ForkAndRun;
using ::coord::testing::Process;
using ::coord::testing::RedisServer;
using ::coord::testing::Shared;

constexpr absl::Duration kPatience = absl::Seconds(30);

// What the processes see of each other.
struct Stage {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<int> runs{0};
  std::atomic<int> right{0};
  std::atomic<bool> finish{false};  // the factories that wait for it may end
};

class ComputeProcessesTest : public ::testing::Test {
 protected:
  ComputeProcessesTest() {
    options_.across_processes = true;
    options_.ttl = absl::Minutes(5);
    options_.takeover_after = absl::Seconds(20);
  }

  Cache Connect() const {
    absl::StatusOr<Client> client = Client::Connect(server_.url());
    if (!client.ok()) testing::Fatal("no client: " + client.status().ToString());
    return Cache(std::make_shared<RedisBackend>(*std::move(client)));
  }
  bool Finished() const {
    return Eventually([&] { return stage_->finish.load(); }, kPatience);
  }
  // Another process, which asks once and expects `value`.
  Process Asks(std::string makes, std::string value) {
    return ForkAndRun([this, makes, value] {
      const Cache cache = Connect();
      const auto made = cache.GetOrCompute(
          "k",
          [&] {
            ++stage_->runs;
            (void)Finished();
            return makes;
          },
          options_);
      if (made.ok() && made->hit() && **made == value) ++stage_->right;
      return made.ok() ? 0 : 1;
    });
  }
  // How many processes wait at the server to be let in.
  bool OneWaits(const Cache& cache) {
    const RwMutex lock(*cache.client(), internal::FlightName("coord:cache:k"));
    return Eventually(
        [&] {
          const auto holder = lock.Holder();
          return holder.ok() && !holder->waiters.empty();
        },
        kPatience);
  }

  RedisServer server_;
  const Shared<Stage> stage_;
  ComputeOptions options_;
};

TEST_F(ComputeProcessesTest, AColdKeyThat200CallersIn8ProcessesWantIsMadeOnce) {
  constexpr int kProcesses = 8, kThreads = 25;
  std::vector<Process> processes;
  for (int p = 0; p < kProcesses; ++p) {
    processes.push_back(ForkAndRun([&] {
      const Cache cache = Connect();
      std::vector<std::thread> callers;
      for (int i = 0; i < kThreads; ++i) {
        callers.emplace_back([&] {
          ++stage_->ready;
          (void)Eventually([&] { return stage_->go.load(); }, kPatience);
          const auto made = cache.GetOrCompute(
              "k",
              [&] {
                ++stage_->runs;
                // As long as it takes until the others wait for it.
                std::this_thread::sleep_for(std::chrono::milliseconds(100));
                return std::string("v");
              },
              options_);
          if (made.ok() && made->hit() && **made == "v") ++stage_->right;
        });
      }
      for (std::thread& caller : callers) caller.join();
    }));
  }
  EXPECT_TRUE(Eventually([&] { return stage_->ready == kProcesses * kThreads; }, kPatience));
  stage_->go = true;
  for (Process& process : processes) EXPECT_EQ(process.Wait(absl::Seconds(60)).exit_code, 0);
  EXPECT_EQ(stage_->right, kProcesses * kThreads);
  EXPECT_EQ(stage_->runs, 1);
}

TEST_F(ComputeProcessesTest, WhenTheWinnerIsKilledAnotherTakesOver) {
  options_.takeover_after = absl::Seconds(1);
  Process winner = Asks("from the dead", "");
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 1; }, kPatience));
  Process loser = Asks("from the living", "from the living");
  EXPECT_TRUE(OneWaits(Connect()));
  winner.Kill();
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 2; }, kPatience));
  stage_->finish = true;
  EXPECT_EQ(loser.Wait().exit_code, 0);
  EXPECT_EQ(stage_->right, 1);
}

TEST_F(ComputeProcessesTest, AWinnerPausedBeyondItsLeaseDoesNotStoreWhatIsOlder) {
  options_.takeover_after = absl::Seconds(1);
  Process paused = Asks("older", "newer");
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 1; }, kPatience));
  paused.Pause();
  Process other = Asks("newer", "newer");
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 2; }, kPatience));
  stage_->finish = true;
  EXPECT_EQ(other.Wait().exit_code, 0);
  paused.Resume();
  EXPECT_EQ(paused.Wait().exit_code, 0);
  EXPECT_EQ(stage_->right, 2) << "its own caller gets what is cached by now";
  EXPECT_EQ(**Connect().Get<std::string>("k"), "newer");
}

TEST_F(ComputeProcessesTest, ASlowWinnerKeepsItsTurnBeyondTheTimeOfATakeover) {
  options_.takeover_after = absl::Milliseconds(600);
  Process winner = Asks("v", "v");
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 1; }, kPatience));
  Process loser = Asks("other", "v");
  const Cache cache = Connect();
  EXPECT_TRUE(OneWaits(cache));
  const RwMutex lock(*cache.client(), internal::FlightName("coord:cache:k"));
  // Held for much longer than it would be without renewals.
  EXPECT_TRUE(Eventually(
      [&] {
        const auto holder = lock.Holder();
        return holder.ok() && holder->held > 3 * options_.takeover_after;
      },
      kPatience));
  stage_->finish = true;
  EXPECT_EQ(winner.Wait().exit_code, 0);
  EXPECT_EQ(loser.Wait().exit_code, 0);
  EXPECT_EQ(stage_->runs, 1);
  EXPECT_EQ(stage_->right, 2);
}

TEST_F(ComputeProcessesTest, WhenTheWinnerFailsThoseWhoWaitTakeTheirTurns) {
  Process winner = ForkAndRun([&] {
    const auto made = Connect().GetOrCompute(
        "k",
        [&]() -> absl::StatusOr<std::string> {
          ++stage_->runs;
          (void)Finished();
          return absl::NotFoundError("not mine");
        },
        options_);
    return made.status().code() == absl::StatusCode::kNotFound ? 0 : 1;
  });
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 1; }, kPatience));
  Process second = Asks("v", "v");
  Process third = Asks("v", "v");
  EXPECT_TRUE(OneWaits(Connect()));
  stage_->finish = true;
  EXPECT_EQ(winner.Wait().exit_code, 0);
  EXPECT_EQ(second.Wait().exit_code, 0);
  EXPECT_EQ(third.Wait().exit_code, 0);
  EXPECT_EQ(stage_->runs, 2);
  EXPECT_EQ(stage_->right, 2);
}

TEST_F(ComputeProcessesTest, WhoWaitsForAnotherProcessLeavesAtHisHardTimeout) {
  Process winner = Asks("v", "v");
  EXPECT_TRUE(Eventually([&] { return stage_->runs == 1; }, kPatience));
  const Cache cache = Connect();
  ComputeOptions impatient = options_;
  impatient.hard_timeout = absl::Milliseconds(50);
  EXPECT_THAT(cache.GetOrCompute(
                  "k", [] { return std::string("mine"); }, impatient),
              testing::StatusIs(absl::StatusCode::kDeadlineExceeded));
  cache.Close();  // does not wait for the other process
  stage_->finish = true;
  EXPECT_EQ(winner.Wait().exit_code, 0);
  EXPECT_EQ(stage_->runs, 1);
}

TEST_F(ComputeProcessesTest, AKeyTooLongForALocksNameHasALockToo) {
  const std::string key(900, 'k');
  EXPECT_LT(internal::FlightName(key).size(), 100u);
  EXPECT_NE(internal::FlightName(key), internal::FlightName(key + "l"));
  EXPECT_EQ(internal::FlightName("k"), "flight:k");
  const auto made = Connect().GetOrCompute(
      key, [] { return 5; }, options_);
  EXPECT_OK(made);
}

}  // namespace
}  // namespace coord
