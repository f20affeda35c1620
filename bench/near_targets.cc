// The near cache: what a hit costs beside one of the tier that it stands on.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "bench/targets.h"
#include "cache/memory_backend.h"
#include "cache/near_backend.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::StrCat;
using SteadyClock = std::chrono::steady_clock;

constexpr int kKeys = 1000;

// Nanoseconds a read, over all keys for a while.
double HitNs(const Run& run, Backend& backend, const std::vector<std::string>& keys) {
  const SteadyClock::time_point start = SteadyClock::now();
  std::int64_t done = 0;
  do {
    for (const std::string& key : keys) {
      const absl::StatusOr<std::optional<Stored>> got = backend.Get(key);
      if (!got.ok() || !got->has_value()) Fatal("a read found nothing");
    }
    done += kKeys;
  } while (SteadyClock::now() - start < run.effort.slice);
  const std::chrono::duration<double, std::nano> took = SteadyClock::now() - start;
  return took.count() / static_cast<double>(done);
}

}  // namespace

void MeasureNear(Run& run) {
  constexpr char kId[] = "near.hit.vs_memory";
  if (!run.report.Wants(kId)) return;
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(StrCat("cannot connect: ", client.status().ToString()));
  MemoryOptions options;
  options.max_entries = 10 * kKeys;
  const auto local = std::make_shared<MemoryBackend>(options);
  const auto remote = std::make_shared<RedisBackend>(*client);
  auto near = NearBackend::Make(remote, local, {.prefixes = {"near:"}});
  if (!near.ok()) Fatal(near.status().ToString());
  std::vector<std::string> keys;
  for (int i = 0; i < kKeys; ++i) {
    keys.push_back(StrCat("near:", i));
    if (!remote->Set({.key = keys.back(), .value = std::string(100, 'x')}).ok()) {
      Fatal("a write failed");
    }
  }
  for (int i = 0; i < 5000 && !(*near)->active(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (!(*near)->active()) Fatal("the server does not tell of changes to keys");
  const auto warm = [&] {
    if (!(*near)->GetMany(keys).ok()) Fatal("a read failed");
  };
  warm();
  std::vector<double> ratios, near_ns, memory_ns;
  for (int i = 0; i <= run.effort.rounds; ++i) {
    warm();  // copies last for a minute
    const double memory = HitNs(run, *local, keys);
    const double ours = HitNs(run, **near, keys);
    if (i == 0) continue;
    memory_ns.push_back(memory);
    near_ns.push_back(ours);
    ratios.push_back(ours / memory);
  }
  char line[160];
  std::snprintf(line, sizeof(line), "near %.0f ns a hit, memory %.0f ns; ratios %.2f to %.2f",
                Median(near_ns), Median(memory_ns), Quantile(ratios, 0), Quantile(ratios, 1));
  run.report.Add(kId, Mode::kAny, Median(ratios), Bound::AtMost(1.3), line,
                 {{"near_ns", Median(near_ns)}, {"memory_ns", Median(memory_ns)}});
}

}  // namespace coord::bench
