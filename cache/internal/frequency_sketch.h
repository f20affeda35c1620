// How often something was asked for lately, roughly and in little memory: a count-min sketch of
// 4-bit counters, halved again and again so that what was popular long ago is forgotten.
//
// After Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" (ACM
// Transactions on Storage, 2017). The four counters of a hash lie in one cache line, and only the
// lowest of them are raised, which errs less than raising all. Pure; not thread-safe.
#ifndef COORD_CACHE_INTERNAL_FREQUENCY_SKETCH_H_
#define COORD_CACHE_INTERNAL_FREQUENCY_SKETCH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace coord::internal {

class FrequencySketch {
 public:
  static constexpr std::uint32_t kMost = 15;

  FrequencySketch() : lines_(1) {}

  // Room for so many different entries; 8 bytes each, in powers of two. What was counted stays.
  void Reserve(std::size_t entries);

  // What Estimate says then.
  std::uint32_t Add(std::uint32_t hash);
  // 0 to kMost; never below what was added since the counters were halved.
  std::uint32_t Estimate(std::uint32_t hash) const;
  // Before Add, for many at a time.
  void Prefetch(std::uint32_t hash) const { __builtin_prefetch(&lines_[Place(hash).line]); }

 private:
  static constexpr std::size_t kEntriesPerLine = 8;
  struct alignas(64) Line {
    std::array<std::uint64_t, 8> words = {};
  };
  struct Position {
    std::size_t line;
    std::uint32_t counters;  // four times 3 bits: which counter, of each pair of words
  };
  Position Place(std::uint32_t hash) const {
    // The hash's low bits choose the line even after it has doubled, so that Reserve can copy.
    const std::uint64_t mixed = hash * std::uint64_t{0x9e3779b97f4a7c15};
    return {static_cast<std::size_t>(mixed >> 32) & (lines_.size() - 1),
            static_cast<std::uint32_t>(mixed)};
  }
  void Halve();

  std::vector<Line> lines_;  // a power of two of them
  std::size_t added_ = 0;    // since the start, halved with the counters
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_FREQUENCY_SKETCH_H_
