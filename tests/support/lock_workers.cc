#include "tests/support/lock_workers.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <thread>

#include "coord/errors.h"
#include "coord/internal/strings.h"
#include "tests/support/fatal.h"
#include "tests/support/raw_redis.h"

namespace coord::testing {
namespace {

// How often a worker looks at its lease.
constexpr absl::Duration kGlance = absl::Milliseconds(20);

}  // namespace

void Sleep(absl::Duration duration) {
  std::this_thread::sleep_for(absl::ToChronoNanoseconds(duration));
}

std::string LockWorkersTest::MakeDirectory(const std::string& path) {
  std::filesystem::create_directory(path);
  return path;
}

// Takes the lock again and again, and works on the resource whether or not it still has the lock:
// such is a program that was stopped at the wrong moment.
int LockWorkersTest::Work(int worker) {
  std::minstd_rand random(static_cast<unsigned>(getpid()));
  const absl::StatusOr<Mutex> mutex = work_.connect(worker);
  if (!mutex.ok()) {
    std::fprintf(stderr, "%s\n", mutex.status().ToString().c_str());
    return 2;
  }
  LockHistoryWriter history(histories_, worker);
  GuardedResource resource(elsewhere_.unix_url());
  std::optional<RawRedis> redis;
  if (work_.bug == LockWorkerBug::kReleaseWithoutOwnerCheck) redis.emplace(work_.server_url);
  auto& ended = progress_->ended[static_cast<std::size_t>(worker)];
  while (BootNanos() < progress_->until) {
    // Some give up soon, so that grants cross with time-outs.
    const absl::Duration timeout = random() % 8 == 0 ? absl::Milliseconds(10) : work_.patience;
    const std::int64_t asked = history.AcquireBegins(work_.name, timeout);
    absl::StatusOr<Lease> lease = mutex->Acquire(timeout);
    std::uint64_t token = 0;
    if (lease.ok()) {
      token = lease->token().value();
      history.AcquireEnds(asked, lease);
      ++ended[0];
    } else if (work_.bug == LockWorkerBug::kTimeoutCountedAsGrant && IsBusy(lease.status())) {
      history.Granted(asked, token, BootNanos() + absl::ToInt64Nanoseconds(work_.ttl));
    } else {
      history.AcquireEnds(asked, lease);
      ++ended[static_cast<std::size_t>(lease.status().code())];
      // One that is refused at once shall not keep a processor from the others.
      if (!IsBusy(lease.status())) Sleep(absl::Milliseconds(2));
      continue;
    }
    const GuardedResource::Visit visit = resource.Enter(token);
    const bool long_one = work_.long_section > absl::ZeroDuration() && random() % 10 == 0;
    absl::Duration left = long_one ? work_.long_section : work_.section;
    while (left > absl::ZeroDuration()) {
      const absl::Duration slice = std::min(left, kGlance);
      Sleep(slice);
      left -= slice;
      if (lease.ok()) history.Look(asked, *lease);
    }
    resource.Leave(visit);
    history.ReleaseBegins(asked);
    if (redis) redis->Command({"DEL", internal::StrCat("coord:{", work_.name, "}:lease")});
    if (lease.ok()) history.ReleaseEnds(asked, lease->Release());
    Sleep(work_.pause);
  }
  return 0;
}

void LockWorkersTest::StartAll(std::int64_t until) {
  if (count_ > static_cast<int>(LockProgress::kMostWorkers)) Fatal("too many workers");
  progress_->until = until;
  for (int worker = 0; worker < count_; ++worker) workers_.push_back(Start(worker));
}

void LockWorkersTest::WaitForAll() {
  for (Process& worker : workers_) {
    const ProcessResult result = worker.Wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
}

Process LockWorkersTest::Start(int worker) {
  return ForkAndRun([this, worker] { return Work(worker); });
}

Process* LockWorkersTest::Inside() {
  const std::int64_t pid = resource_.Inside();
  for (Process& worker : workers_) {
    if (worker.pid() == pid) return &worker;
  }
  return nullptr;
}

void LockWorkersTest::KillAndReplace(Process& victim) {
  chaos_.Killed(victim.pid());
  victim.Kill();
  victim = Start(static_cast<int>(&victim - workers_.data()));
}

void LockWorkersTest::Stop(Process& victim) {
  chaos_.Stopped(victim.pid());
  victim.Pause();
}

void LockWorkersTest::Continue(Process& victim) {
  victim.Resume();
  chaos_.Continued(victim.pid());
}

void LockWorkersTest::StopFor(Process& victim, absl::Duration duration) {
  Stop(victim);
  Sleep(duration);
  Continue(victim);
}

int LockWorkersTest::Grants() const {
  int sum = 0;
  for (int worker = 0; worker < count_; ++worker) sum += Grants(worker);
  return sum;
}

LockVerdict LockWorkersTest::Verdict(const LockPromises& promises) {
  const LockVerdict verdict = CheckLockHistory(ReadLockHistory(histories_), promises);
  account_ = resource_.Read();
  std::printf("%s%s", verdict.Summary().c_str(), account_.Summary().c_str());
  return verdict;
}

void LockWorkersTest::ExpectFenced() {
  EXPECT_EQ(account_.fenced, account_.fenced_writes) << "an update was lost though fenced";
  std::uint64_t largest = 0;
  for (const GuardedResource::Entry& entry : account_.entries) {
    if (!entry.admitted) continue;
    EXPECT_GE(entry.token, largest);
    largest = entry.token;
  }
}

}  // namespace coord::testing
