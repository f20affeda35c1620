// Ways to choose what a cache keeps, in their simplest form, to compare the library's with; and
// traces to compare them on.
#ifndef COORD_BENCH_REFERENCE_POLICIES_H_
#define COORD_BENCH_REFERENCE_POLICIES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace coord::bench {

using Trace = std::vector<std::uint32_t>;

// Ranks 0 to keys - 1, each so often as 1 / (rank + 1) ^ exponent says. Deterministic, as all here.
Trace ZipfTrace(std::size_t length, std::uint32_t keys, double exponent, std::uint64_t seed);
// The same, half of it taken up by scans of `scan` new keys each.
Trace ScanTrace(std::size_t length, std::uint32_t keys, double exponent, std::uint32_t scan);
// Nine in ten ask again for one of what was new lately, sooner rather than later (`reach` keys ago,
// on average); what is old is never asked for again.
Trace RecentTrace(std::size_t length, std::uint32_t reach);
// `keys` one after another, again and again.
Trace LoopTrace(std::size_t length, std::uint32_t keys);

// The part of `trace` that a cache of `capacity` keys would have had.
double LruHitRatio(const Trace& trace, std::size_t capacity);
// Keeps what was asked for most often ever, with counts of all keys.
double PerfectLfuHitRatio(const Trace& trace, std::size_t capacity);
// Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003.
double ArcHitRatio(const Trace& trace, std::size_t capacity);
// Yang and others, "FIFO Queues are All You Need for Cache Eviction", SOSP 2023.
double S3FifoHitRatio(const Trace& trace, std::size_t capacity);
// Knows the future: the upper limit.
double BeladyHitRatio(const Trace& trace, std::size_t capacity);

}  // namespace coord::bench

#endif  // COORD_BENCH_REFERENCE_POLICIES_H_
