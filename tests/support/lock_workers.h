// Processes that take a lock again and again, under faults, and write down what they were promised.
//
//   class MyTest : public LockWorkersTest {
//    protected:
//     MyTest() : LockWorkersTest(8) { work_.connect = ...; }
//   };
//   TEST_F(MyTest, KilledOnesCostAtMostTheirLeases) {
//     StartAll(BootNanos() + ...);
//     KillAndReplace(Random());
//     WaitForAll();
//     EXPECT_THAT(Verdict({.ttl = work_.ttl}).violations, IsEmpty());
//     ExpectFenced();
//   }
#ifndef COORD_TESTS_SUPPORT_LOCK_WORKERS_H_
#define COORD_TESTS_SUPPORT_LOCK_WORKERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/mutex.h"
#include "gtest/gtest.h"
#include "tests/support/guarded_resource.h"
#include "tests/support/lock_history.h"
#include "tests/support/process.h"
#include "tests/support/redis_server.h"
#include "tests/support/shared_memory.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {

// What a worker may do wrong, to see that it is found.
enum class LockWorkerBug { kNone, kReleaseWithoutOwnerCheck, kTimeoutCountedAsGrant };

// What each of the workers does; constant once they run.
struct LockWork {
  // Called in each worker with its number.
  std::function<absl::StatusOr<Mutex>(int)> connect{};
  std::string name = "contended";
  absl::Duration ttl = absl::Milliseconds(600);
  absl::Duration section = absl::Milliseconds(3);
  // One section in ten is this long, so that leases are renewed too; zero: none is.
  absl::Duration long_section{};
  absl::Duration pause = absl::Milliseconds(2);  // between a release and the next question
  absl::Duration patience = absl::Seconds(8);
  LockWorkerBug bug = LockWorkerBug::kNone;
  std::string server_url{};  // what a bug harms
};

// What the test and its workers see of each other while they run.
struct LockProgress {
  static constexpr std::size_t kMostWorkers = 16;
  static constexpr std::size_t kCodes = 17;  // of absl::StatusCode

  std::atomic<std::int64_t> until{0};  // BootNanos(): nobody asks any more after it
  // How often an Acquire ended so.
  std::array<std::array<std::atomic<int>, kCodes>, kMostWorkers> ended{};

  int Ended(int worker, absl::StatusCode code) const {
    return ended[static_cast<std::size_t>(worker)][static_cast<std::size_t>(code)].load();
  }
};

void Sleep(absl::Duration duration);

class LockWorkersTest : public ::testing::Test {
 protected:
  explicit LockWorkersTest(int workers) : count_(workers) {}

  void StartAll(std::int64_t until);
  // Until all have come to their end.
  void WaitForAll();

  Process Start(int worker);
  Process& Random() { return workers_[random_() % workers_.size()]; }
  // Who works on the resource now; null when nobody does.
  Process* Inside();

  void KillAndReplace(Process& victim);
  void Stop(Process& victim);
  void Continue(Process& victim);
  void StopFor(Process& victim, absl::Duration duration);

  int Grants(int worker) const { return progress_->Ended(worker, absl::StatusCode::kOk); }
  int Grants() const;

  // Prints it too.
  LockVerdict Verdict(const LockPromises& promises);
  // What must hold whatever happens.
  void ExpectFenced();

  const int count_;
  RedisServer elsewhere_;
  GuardedResource resource_{elsewhere_.unix_url()};
  const TempDir directory_;
  const std::string histories_ = MakeDirectory(directory_.File("histories"));
  LockHistoryWriter chaos_{histories_, -1};
  LockWork work_;
  const Shared<LockProgress> progress_;
  std::vector<Process> workers_;
  GuardedResource::Account account_;  // as of Verdict
  std::minstd_rand random_{11};

 private:
  static std::string MakeDirectory(const std::string& path);
  int Work(int worker);
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_LOCK_WORKERS_H_
