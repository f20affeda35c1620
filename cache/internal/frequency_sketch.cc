#include "cache/internal/frequency_sketch.h"

#include <algorithm>

namespace coord::internal {
namespace {

constexpr std::uint64_t kLowBitCleared = 0x7777777777777777;
// So many additions an entry until the counters are halved.
constexpr std::size_t kSample = 20;

// Row `i` of four owns two words of a line, which are 32 counters.
struct Counter {
  std::size_t word;
  std::uint32_t shift;
};
Counter CounterOf(std::uint32_t bits, std::size_t row) {
  const std::uint32_t which = bits >> (8 * row);
  return {2 * row + (which & 1), (which >> 1 & 15) * 4};
}

}  // namespace

void FrequencySketch::Reserve(std::size_t entries) {
  while (lines_.size() * kEntriesPerLine < entries) {
    const std::size_t before = lines_.size();
    lines_.reserve(2 * before);
    // Either half is a fair estimate for what now falls into it.
    for (std::size_t i = 0; i < before; ++i) lines_.push_back(lines_[i]);
  }
}

std::uint32_t FrequencySketch::Add(std::uint32_t hash) {
  const Position at = Place(hash);
  std::array<std::uint64_t, 8>& words = lines_[at.line].words;
  std::array<Counter, 4> counters;
  std::array<std::uint64_t, 4> counts;
  for (std::size_t row = 0; row < 4; ++row) {
    counters[row] = CounterOf(at.counters, row);
    counts[row] = words[counters[row].word] >> counters[row].shift & 15;
  }
  const std::uint64_t lowest =
      std::min(std::min(counts[0], counts[1]), std::min(counts[2], counts[3]));
  if (lowest < kMost) {
    for (std::size_t row = 0; row < 4; ++row) {
      words[counters[row].word] += std::uint64_t{counts[row] == lowest} << counters[row].shift;
    }
  }
  if (++added_ >= kSample * kEntriesPerLine * lines_.size()) Halve();
  return std::min(static_cast<std::uint32_t>(lowest) + 1, kMost);
}

std::uint32_t FrequencySketch::Estimate(std::uint32_t hash) const {
  const Position at = Place(hash);
  std::uint64_t lowest = kMost;
  for (std::size_t row = 0; row < 4; ++row) {
    const Counter counter = CounterOf(at.counters, row);
    lowest = std::min(lowest, lines_[at.line].words[counter.word] >> counter.shift & 15);
  }
  return static_cast<std::uint32_t>(lowest);
}

void FrequencySketch::Halve() {
  for (Line& line : lines_) {
    for (std::uint64_t& word : line.words) word = word >> 1 & kLowBitCleared;
  }
  added_ /= 2;
}

}  // namespace coord::internal
