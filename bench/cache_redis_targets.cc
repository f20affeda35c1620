// The cache's Redis backend: what a hit costs, and what a batch saves.
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/hiredis_caller.h"
#include "bench/machine.h"
#include "bench/targets.h"
#include "cache/redis_backend.h"
#include "coord/client.h"
#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::StrCat;

constexpr std::size_t kValueBytes = 200;  // of a small cached object

Client Connect(const Run& run) {
  absl::StatusOr<Client> client = Client::Connect(run.server.url());
  if (!client.ok()) Fatal(client.status().ToString());
  return *std::move(client);
}

struct Times {
  std::vector<double> ratios;  // a by b, in operations
  double a_us, b_us;
};

Times Read(const Comparison& comparison) {
  std::vector<double> a, b;
  for (const Slice& slice : comparison.a) a.push_back(slice.p50_us);
  for (const Slice& slice : comparison.b) b.push_back(slice.p50_us);
  return {comparison.ratios, Median(a), Median(b)};
}

// A hit of one caller, with the value as a string of the program's own, against GET with hiredis,
// whose reply is looked at.
void MeasureHit(Run& run, Mode mode) {
  const std::string id = StrCat("cache.hit.", ModeName(mode));
  if (!run.report.Wants(id)) return;
  if (!ModeIsPossible(mode)) return run.report.Skip(id, "it needs two CPUs");
  ApplyMode(mode, run.server.pid());
  constexpr std::string_view kKey = "cache:user:1234567";
  RedisBackend backend(Connect(run));
  const std::string value(kValueBytes, 'v');
  if (!backend.Set({kKey, value}).ok()) Fatal("SET failed");
  HiredisCaller raw(run.server.socket_path());
  const Comparison comparison = Alternate(
      run.effort, 1,
      [&](int) {
        const HiredisReply reply = raw.Command({"GET", kKey});
        return reply != nullptr && reply->len == value.size();
      },
      [&](int) {
        const absl::StatusOr<std::optional<Stored>> found = backend.Get(kKey);
        return found.ok() && found->has_value() && (*found)->value.size() == value.size();
      });
  Times times = Read(comparison);
  for (double& ratio : times.ratios) ratio = 1 / ratio;
  char line[200];
  std::snprintf(line, sizeof(line),
                "a hit of %zu bytes: p50 %.1f us, hiredis GET %.1f us; rounds %.3f to %.3f",
                kValueBytes, times.b_us, times.a_us, Quantile(times.ratios, 0),
                Quantile(times.ratios, 1));
  // Where both have CPUs of their own, who polls for the reply wins by far.
  run.report.Add(id, mode, Median(times.ratios), Bound::AtMost(1.10), line,
                 {{"p50_us", times.b_us}, {"hiredis_p50_us", times.a_us}});
}

// A thousand keys in one GetMany, against a thousand Gets.
void MeasureBatch(Run& run) {
  const std::string id = "cache.get_many.speedup";
  if (!run.report.Wants(id)) return;
  constexpr int kKeys = 1000;
  const Mode mode = Mode::kSame;
  ApplyMode(mode, run.server.pid());
  RedisBackend backend(Connect(run));
  const std::string value(kValueBytes, 'v');
  std::vector<std::string> keys;
  std::vector<Write> writes;
  for (int i = 0; i < kKeys; ++i) keys.push_back(StrCat("cache:user:", 1'000'000 + i));
  for (const std::string& key : keys) writes.push_back({key, value});
  if (!backend.SetMany(writes).ok()) Fatal("SetMany failed");
  const Comparison comparison = Alternate(
      run.effort, 1,
      [&](int) {
        for (const std::string& key : keys) {
          const absl::StatusOr<std::optional<Stored>> found = backend.Get(key);
          if (!found.ok() || !found->has_value()) return false;
        }
        return true;
      },
      [&](int) {
        const auto found = backend.GetMany(keys);
        return found.ok() && found->size() == keys.size() && found->back().has_value();
      });
  const Times times = Read(comparison);
  char line[200];
  std::snprintf(line, sizeof(line),
                "%d keys of %zu bytes: GetMany p50 %.0f us, as many Gets %.0f us; rounds %.1f to "
                "%.1f",
                kKeys, kValueBytes, times.b_us, times.a_us, Quantile(times.ratios, 0),
                Quantile(times.ratios, 1));
  run.report.Add(id, mode, Median(times.ratios), Bound::AtLeast(20), line,
                 {{"p50_us", times.b_us}, {"gets_p50_us", times.a_us}});
}

}  // namespace

void MeasureRedisCache(Run& run) {
  for (const Mode mode : {Mode::kSame, Mode::kPin}) MeasureHit(run, mode);
  MeasureBatch(run);
}

}  // namespace coord::bench
