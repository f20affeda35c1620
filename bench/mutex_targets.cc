// A mutex acquired and released, each caller on a name of its own: coord against hiredis with the
// same two scripts.
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench/hiredis_caller.h"
#include "bench/machine.h"
#include "bench/raw_pipeline.h"
#include "bench/targets.h"
#include "bench/vs_hiredis.h"
#include "coord/client.h"
#include "coord/internal/strings.h"
#include "coord/mutex.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::StrCat;

// One client for all callers, as a program would have it.
class CoordMutexes {
 public:
  CoordMutexes(const std::string& url, int callers) {
    absl::StatusOr<Client> client = Client::Connect(url);
    if (!client.ok()) Fatal(client.status().ToString());
    for (int i = 0; i < callers; ++i) {
      mutexes_.emplace_back(*client, StrCat("ours-", i), MutexOptions{.ttl = absl::Seconds(10)});
    }
  }

  bool Pair(int caller) const {
    absl::StatusOr<Lease> lease = mutexes_[static_cast<std::size_t>(caller)].TryAcquire();
    return lease.ok() && lease->Release().ok();
  }

 private:
  std::vector<Mutex> mutexes_;
};

// A connection for each caller.
class HiredisMutexes {
 public:
  HiredisMutexes(const std::string& socket_path, int callers) {
    for (int i = 0; i < callers; ++i) mutexes_.emplace_back(socket_path, StrCat("them-", i));
  }

  bool Pair(int caller) { return mutexes_[static_cast<std::size_t>(caller)].Pair(); }

 private:
  std::deque<HiredisMutex> mutexes_;
};

void Against(Run& run, int callers, Mode mode, Bound bound) {
  AgainstHiredis(run, "mutex", callers, mode, bound, [&] {
    const auto theirs = std::make_shared<HiredisMutexes>(run.server.socket_path(), callers);
    const auto ours = std::make_shared<CoordMutexes>(run.server.url(), callers);
    return Contest{[theirs](int caller) { return theirs->Pair(caller); },
                   [ours](int caller) { return ours->Pair(caller); }};
  });
}

// How much the library adds to bare send and recv.
void AgainstRaw(Run& run, Mode mode, Bound bound) {
  const std::string id = StrCat("mutex.t1.", ModeName(mode), ".vs_raw");
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "it needs two CPUs");
  ApplyMode(mode, run.server.pid());
  RawPipeline theirs(run.server.socket_path());
  theirs.Load(internal::kMutexAcquire);
  theirs.Load(internal::kMutexRelease);
  CheapOwnerIds owners;
  const CoordMutexes ours(run.server.url(), 1);
  const auto a = [&](int) {
    const std::string& owner = owners.Next();
    theirs.Add(internal::kMutexAcquire, {"coord:{them-0}:lease", "coord:{them-0}:fence"},
               {owner, "10000"});
    if (!theirs.Run()) return false;
    theirs.Add(internal::kMutexRelease, {"coord:{them-0}:lease"}, {owner});
    return theirs.Run();
  };
  const auto b = [&](int caller) { return ours.Pair(caller); };
  CheckEqualWork(run.server.socket_path(), {a, b});
  run.report.Add(id, mode, Alternate(run.effort, 1, a, b), bound, "send and recv");
}

// How near 64 callers come to one that sends the same commands in deep pipelines and waits for
// nothing in between.
void AgainstPipeline(Run& run, Mode mode, Bound bound) {
  const std::string id = StrCat("mutex.t64.", ModeName(mode), ".vs_pipeline");
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "it needs two CPUs");
  ApplyMode(mode, run.server.pid());
  constexpr int kPairs = 256;
  constexpr int kCallers = 64;
  RawPipeline pipeline(run.server.socket_path());
  pipeline.Load(internal::kMutexAcquire);
  pipeline.Load(internal::kMutexRelease);
  CheapOwnerIds owners;
  const CoordMutexes ours(run.server.url(), kCallers);
  const auto a = [&](int) {
    for (int i = 0; i < kPairs; ++i) {
      const std::string& owner = owners.Next();
      const std::string lease = StrCat("coord:{them-", i, "}:lease");
      pipeline.Add(internal::kMutexAcquire, {lease, StrCat("coord:{them-", i, "}:fence")},
                   {owner, "10000"});
      pipeline.Add(internal::kMutexRelease, {lease}, {owner});
    }
    return pipeline.Run();
  };
  const auto b = [&](int caller) { return ours.Pair(caller); };
  RunSlice(1, run.effort.slice, a);
  RunSlice(kCallers, run.effort.slice, b);
  Comparison comparison;
  for (int round = 0; round < run.effort.rounds; ++round) {
    comparison.a.push_back(RunSlice(1, run.effort.slice, a));
    comparison.a.back().per_second *= kPairs;
    comparison.b.push_back(RunSlice(kCallers, run.effort.slice, b));
    comparison.ratios.push_back(comparison.b.back().per_second / comparison.a.back().per_second);
  }
  run.report.Add(id, mode, comparison, bound, "one pipeline of 512 commands");
}

}  // namespace

void MeasureMutex(Run& run) {
  Against(run, 1, Mode::kSame, Bound::AtLeast(1.0));
  Against(run, 1, Mode::kPin, Bound::AtLeast(2.0));
  Against(run, 8, Mode::kPin, Bound::AtLeast(1.4));
  Against(run, 64, Mode::kPin, Bound::AtLeast(2.2));
  // For the picture; not due yet.
  Against(run, 64, Mode::kSame, Bound());
  AgainstRaw(run, Mode::kSame, Bound());
  AgainstPipeline(run, Mode::kPin, Bound());
}

}  // namespace coord::bench
