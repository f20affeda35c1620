// Which entry of a cache goes when it is full: W-TinyLFU, or plain LRU.
//
// New entries enter a window, an LRU list. What leaves the window for the main part must have been
// asked for more often lately (FrequencySketch) than what would leave the main part for it, so that
// a scan passes by what is popular. The main part is a segmented LRU: on probation, and protected
// once hit there. How large the window is adapts to the hit ratio by hill climbing: nearly nothing
// where frequency tells, most of the cache where recency does. After Einziger, Friedman and Manes,
// "TinyLFU" (ACM Transactions on Storage, 2017), and Einziger, Eytan, Friedman and Manes, "Adaptive
// Software Cache Management" (Middleware 2018).
//
// Pure: no clock, no memory of its entries, which are linked through their PolicyNode and whose
// bounds the owner knows. Not thread-safe.
#ifndef COORD_CACHE_INTERNAL_TINY_LFU_H_
#define COORD_CACHE_INTERNAL_TINY_LFU_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cache/internal/frequency_sketch.h"

namespace coord::internal {

// The policy's part of an entry.
struct PolicyNode {
  PolicyNode* newer = nullptr;
  PolicyNode* older = nullptr;
  std::uint32_t hash = 0;
  std::uint32_t weight = 0;  // bytes; counts where Options::weighted
  std::uint8_t segment = 0;  // the policy's own
  // The era in which the policy need not hear of more hits: it counts no further, and the entry is
  // far from going. Readable by everybody.
  std::atomic<std::uint8_t> known_in{0};
};

class TinyLfu {
 public:
  struct Options {
    bool lru = false;
    // The parts are measured by weight, and else by number.
    bool weighted = false;
    // The window's part of the cache at first; and whether it then adapts.
    double window = 0.01;
    bool adaptive = true;
  };

  explicit TinyLfu(const Options& options) : options_(options), window_share_(options.window) {}
  TinyLfu(const TinyLfu&) = delete;
  TinyLfu& operator=(const TinyLfu&) = delete;

  // An entry that was not there. The node stays where it is until it is removed.
  void Insert(PolicyNode& node);
  // It was asked for.
  void Hit(PolicyNode& node);
  // So many more hits, on entries that are known in this era.
  void KnownHits(std::size_t hits) {
    if (!options_.lru && hits > 0) CountForClimb(hits, hits);
  }
  // Advances as entries come.
  std::uint8_t era() const { return era_; }
  // `now` takes the place of `before`, which counts as a hit.
  void Replace(PolicyNode& before, PolicyNode& now);
  void Remove(PolicyNode& node);
  // Of all entries. How often what was asked for is still known.
  void Clear();

  // Who is to go next, null when there is none. The owner removes it, and asks again while the
  // cache is too full. That may be the entry inserted last.
  PolicyNode* Victim();

  // Before Hit and Insert, for many at a time.
  void Prefetch(std::uint32_t hash) const { sketch_.Prefetch(hash); }

  std::size_t count() const { return count_; }
  double window_share() const { return window_share_; }

 private:
  enum Segment : std::uint8_t { kWindow, kProbation, kProtected };
  struct List {
    PolicyNode* newest = nullptr;
    PolicyNode* oldest = nullptr;
    std::size_t count = 0;
    std::uint64_t size = 0;
  };

  std::uint64_t SizeOf(const PolicyNode& node) const { return options_.weighted ? node.weight : 1; }
  std::uint64_t total() const {
    return lists_[kWindow].size + lists_[kProbation].size + lists_[kProtected].size;
  }
  std::uint64_t WindowTarget() const;
  void PushNewest(Segment segment, PolicyNode& node);
  void Unlink(PolicyNode& node);
  void Move(Segment segment, PolicyNode& node);
  void ShrinkWindow();
  void ShrinkProtected();
  bool Admits(const PolicyNode& candidate, const PolicyNode& victim);
  void CountForClimb(std::size_t hits, std::size_t asked);

  const Options options_;
  FrequencySketch sketch_;
  std::array<List, 3> lists_ = {};
  std::size_t count_ = 0;
  // The oldest of what has left the window since the last insertion and has not lost yet; what left
  // later is newer.
  PolicyNode* candidate_ = nullptr;
  std::uint32_t random_ = 0x9e3779b9;

  std::uint8_t era_ = 1;
  std::size_t inserted_ = 0;  // in this era

  // The climb: each period's hit ratio is compared to that of the one before.
  double window_share_;
  double step_ = 0.0625;
  double ratio_before_ = -1;  // none yet
  std::size_t hits_ = 0;
  std::size_t asked_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_TINY_LFU_H_
