// The cache in memory: what a hit costs, what an entry costs, and which entries it keeps.
#include <malloc.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/machine.h"
#include "bench/reference_policies.h"
#include "bench/targets.h"
#include "cache/memory_backend.h"
#include "coord/internal/strings.h"

namespace coord::bench {
namespace {

using internal::StrCat;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kKeySize = 16;
constexpr std::uint32_t kEntries = 100'000;
constexpr std::size_t kBatch = 1000;

// Keys of 16 bytes, in one piece.
class Keys {
 public:
  explicit Keys(std::uint32_t count) : bytes_(count * kKeySize, '\0') {
    for (std::uint32_t i = 0; i < count; ++i) {
      char key[kKeySize + 1];
      std::snprintf(key, sizeof(key), "user:%011u", i);
      std::memcpy(&bytes_[i * kKeySize], key, kKeySize);
    }
  }
  std::string_view operator[](std::size_t i) const {
    return std::string_view(bytes_).substr(i * kKeySize, kKeySize);
  }

 private:
  std::string bytes_;
};

void Put(MemoryBackend& memory, std::string_view key, std::string_view value,
         absl::Duration ttl = absl::InfiniteDuration()) {
  const absl::StatusOr<bool> done = memory.Set({.key = key, .value = value, .ttl = ttl});
  if (!done.ok() || !*done) Fatal("a write to memory failed");
}

// Values of 32 to 100 bytes.
void Fill(MemoryBackend& memory, const Keys& keys, absl::Duration ttl) {
  const std::string value(100, 'v');
  for (std::uint32_t i = 0; i < kEntries; ++i) {
    Put(memory, keys[i], std::string_view(value).substr(0, 32 + i % 69), ttl);
  }
}

// The calling thread's, so that what else runs on this machine takes less away.
double CpuMicroseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// How many millions a second of their CPUs' time `threads` do together; `batch(thread, from)` does
// kBatch of them.
template <typename Batch>
double MillionsPerSecond(int threads, std::chrono::nanoseconds length, const Batch& batch) {
  std::atomic<int> waiting{threads};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto work = [&](int thread) {
    --waiting;
    while (waiting.load() > 0) std::this_thread::yield();
    const SteadyClock::time_point start = SteadyClock::now();
    const double cpu = CpuMicroseconds();
    std::size_t done = 0;
    do {
      batch(thread, done);
      done += kBatch;
    } while (SteadyClock::now() - start < length);
    rates[static_cast<std::size_t>(thread)] = static_cast<double>(done) / (CpuMicroseconds() - cpu);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work, i);
  work(0);
  for (std::thread& other : others) other.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

void AddRates(Run& run, std::string_view id, Bound bound, const char* what,
              const std::vector<double>& rates) {
  char line[160];
  std::snprintf(line, sizeof(line), "%.1f %s (%.1f to %.1f)", Median(rates), what,
                Quantile(rates, 0), Quantile(rates, 1));
  run.report.Add(
      id, Mode::kAny, Median(rates), bound, line,
      {{"median", Median(rates)}, {"least", Quantile(rates, 0)}, {"most", Quantile(rates, 1)}});
}

void MeasureHits(Run& run) {
  constexpr std::string_view kOne = "memory.hit.mops", kTwo = "memory.hit.scaling2",
                             kExpiring = "memory.hit.expiring.mops", kFind = "memory.find.mops",
                             kFindTwo = "memory.find.scaling2", kSet = "memory.set.mops";
  if (!run.report.Wants(kOne) && !run.report.Wants(kTwo) && !run.report.Wants(kExpiring) &&
      !run.report.Wants(kFind) && !run.report.Wants(kFindTwo) && !run.report.Wants(kSet)) {
    return;
  }
  const Keys keys(kEntries);
  // A permutation, so that what is popular lies about in memory; each thread has its own trace.
  const auto shuffled = [](std::uint32_t rank) {
    return static_cast<std::uint32_t>(std::uint64_t{rank} * 61'417 % kEntries);
  };
  std::array<Trace, 2> traces;
  for (std::size_t i = 0; i < traces.size(); ++i) {
    traces[i] = ZipfTrace(1'000 * kBatch, kEntries, 0.99, i + 1);
    for (std::uint32_t& key : traces[i]) key = shuffled(key);
  }
  MemoryBackend memory({.max_entries = kEntries});
  MemoryBackend expiring({.max_entries = kEntries});
  Fill(memory, keys, absl::InfiniteDuration());
  Fill(expiring, keys, absl::Hours(1));
  const auto get = [&](Backend& backend) {
    return [&](int thread, std::size_t from) {
      const Trace& trace = traces[static_cast<std::size_t>(thread)];
      for (std::size_t i = 0; i < kBatch; ++i) {
        const auto found = backend.Get(keys[trace[(from + i) % trace.size()]]);
        if (!found.ok() || !found->has_value()) Fatal("a hit in memory is none");
      }
    };
  };
  const auto find = [&](int thread, std::size_t from) {
    const Trace& trace = traces[static_cast<std::size_t>(thread)];
    std::string value;
    for (std::size_t i = 0; i < kBatch; ++i) {
      const absl::StatusOr<bool> found = memory.Find(keys[trace[(from + i) % trace.size()]], value);
      if (!found.ok() || !*found) Fatal("a hit in memory is none");
    }
  };
  const auto set = [&](int thread, std::size_t from) {
    const Trace& trace = traces[static_cast<std::size_t>(thread)];
    for (std::size_t i = 0; i < kBatch; ++i) {
      Put(memory, keys[trace[(from + i) % trace.size()]], "a value of thirty-two bytes, or so");
    }
  };
  std::vector<double> one, scaling, with_expiry, finds, find_scaling, sets;
  for (int i = -1; i < run.effort.rounds; ++i) {
    const double single = MillionsPerSecond(1, run.effort.slice, get(memory));
    const double two = MillionsPerSecond(2, run.effort.slice, get(memory));
    const double timed = MillionsPerSecond(1, run.effort.slice, get(expiring));
    const double found = MillionsPerSecond(1, run.effort.slice, find);
    const double found_by_two = MillionsPerSecond(2, run.effort.slice, find);
    const double written = MillionsPerSecond(1, run.effort.slice, set);
    if (i < 0) continue;
    one.push_back(single);
    scaling.push_back(two / single);
    with_expiry.push_back(timed);
    finds.push_back(found);
    find_scaling.push_back(found_by_two / found);
    sets.push_back(written);
  }
  AddRates(run, kOne, Bound::AtLeast(10), "million hits a second, one thread", one);
  AddRates(run, kTwo, Bound::AtLeast(1.6), "times as many by two threads as by one", scaling);
  AddRates(run, kExpiring, Bound::AtLeast(10), "million hits a second on what expires",
           with_expiry);
  AddRates(run, kFind, Bound::AtLeast(10), "million a second into the same string", finds);
  AddRates(run, kFindTwo, Bound::AtLeast(1.6), "times as many by two threads as by one",
           find_scaling);
  AddRates(run, kSet, Bound(), "million writes a second, one thread", sets);
}

std::size_t Allocated() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void MeasureOverhead(Run& run) {
  constexpr std::string_view kId = "memory.overhead.bytes";
  if (!run.report.Wants(kId)) return;
  constexpr std::uint32_t kMany = 1'000'000;
  const Keys keys(kMany);
  const std::string value(32, 'v');
  const std::size_t before = Allocated();
  MemoryBackend memory({.max_entries = kMany});
  for (std::uint32_t i = 0; i < kMany; ++i) Put(memory, keys[i], value);
  const auto taken = static_cast<double>(Allocated() - before);
  // Of two shards the one may be full before the other.
  const auto kept = static_cast<double>(memory.usage()->entries);
  if (kept < 0.99 * kMany) Fatal("the memory does not keep what fits");
  const double each = taken / kept - static_cast<double>(kKeySize + value.size());
  char line[160];
  std::snprintf(line, sizeof(line), "%.1f bytes beside key and value, of a million entries", each);
  run.report.Add(kId, Mode::kAny, each, Bound::AtMost(100), line, {{"bytes", each}});
}

void MeasureClear(Run& run) {
  constexpr std::string_view kId = "memory.clear.ms";
  if (!run.report.Wants(kId)) return;
  const Keys keys(kEntries);
  MemoryBackend memory({.max_entries = kEntries});
  std::vector<double> took;
  for (int i = 0; i < run.effort.rounds; ++i) {
    Fill(memory, keys, absl::InfiniteDuration());
    const SteadyClock::time_point start = SteadyClock::now();
    if (!memory.Clear().ok()) Fatal("the memory cannot be cleared");
    took.push_back(std::chrono::duration<double, std::milli>(SteadyClock::now() - start).count());
  }
  AddRates(run, kId, Bound(), "ms to clear 100,000 entries and free them", took);
}

double OurHitRatio(const Trace& trace, std::size_t capacity, Eviction eviction) {
  MemoryBackend memory({.max_entries = capacity, .eviction = eviction});
  std::size_t hits = 0;
  std::string value;
  for (const std::uint32_t number : trace) {
    char key[sizeof(number)];
    std::memcpy(key, &number, sizeof(key));
    const std::string_view name(key, sizeof(key));
    if (*memory.Find(name, value)) {
      ++hits;
    } else {
      Put(memory, name, "v");
    }
  }
  return static_cast<double>(hits) / static_cast<double>(trace.size());
}

void MeasureHitRatio(Run& run, std::string_view id, std::size_t capacity,
                     const std::function<Trace()>& make) {
  if (!run.report.Wants(id)) return;
  const Trace trace = make();
  const double ours = OurHitRatio(trace, capacity, Eviction::kTinyLfu);
  const double our_lru = OurHitRatio(trace, capacity, Eviction::kLru);
  const double lru = LruHitRatio(trace, capacity);
  const double lfu = PerfectLfuHitRatio(trace, capacity);
  const double arc = ArcHitRatio(trace, capacity);
  const double s3 = S3FifoHitRatio(trace, capacity);
  const double belady = BeladyHitRatio(trace, capacity);
  const double best = std::max(std::max(lru, lfu), std::max(arc, s3));
  char line[240];
  std::snprintf(line, sizeof(line),
                "%.2f %% hits; LRU %.2f (ours %.2f), perfect LFU %.2f, ARC %.2f, S3-FIFO %.2f; "
                "nobody can have more than %.2f",
                100 * ours, 100 * lru, 100 * our_lru, 100 * lfu, 100 * arc, 100 * s3, 100 * belady);
  // In per cent: two digits are judged.
  run.report.Add(id, Mode::kAny, 100 * ours, Bound::AtLeast(100 * best - 2), line,
                 {{"ours", ours},
                  {"lru", lru},
                  {"our_lru", our_lru},
                  {"perfect_lfu", lfu},
                  {"arc", arc},
                  {"s3_fifo", s3},
                  {"belady", belady}});
}

}  // namespace

void MeasureMemoryCache(Run& run) {
  constexpr std::size_t kLength = 3'000'000;
  MeasureHits(run);
  MeasureOverhead(run);
  MeasureClear(run);
  MeasureHitRatio(run, "memory.zipf.hit_ratio", 10'000,
                  [] { return ZipfTrace(kLength, 1'000'000, 0.9, 1); });
  MeasureHitRatio(run, "memory.zipf_tenth.hit_ratio", 20'000,
                  [] { return ZipfTrace(kLength, 200'000, 0.9, 1); });
  MeasureHitRatio(run, "memory.scan.hit_ratio", 10'000,
                  [] { return ScanTrace(kLength, 200'000, 0.9, 50'000); });
  MeasureHitRatio(run, "memory.recent.hit_ratio", 10'000,
                  [] { return RecentTrace(kLength, 5'000); });
  MeasureHitRatio(run, "memory.loop.hit_ratio", 10'000, [] { return LoopTrace(kLength, 15'000); });
}

}  // namespace coord::bench
