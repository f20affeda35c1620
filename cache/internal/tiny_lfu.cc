#include "cache/internal/tiny_lfu.h"

#include <algorithm>
#include <cmath>

namespace coord::internal {
namespace {

constexpr double kProtectedShare = 0.8;  // of the main part
constexpr double kMostWindow = 0.8;
// The climb's first step, after which steps get smaller until the load changes.
constexpr double kStep = 0.0625;
constexpr double kStepDecay = 0.98;
constexpr double kLoadChanged = 0.05;
// An era: as many insertions as are a small part of the cache. In a cache of a few entries every
// hit counts.
constexpr std::size_t kErasPerCache = 16;
constexpr std::size_t kEveryHitCounts = 1024;
constexpr std::size_t kPeriod = 10;  // accesses an entry
constexpr std::size_t kShortestPeriod = 1000;
// What lost by little is let in now and then: else who can make keys whose counters collide with a
// victim's could keep everything else out.
constexpr std::uint32_t kWarm = 6;
constexpr std::uint32_t kOneIn = 128;

std::uint64_t Share(double share, std::uint64_t whole) {
  return static_cast<std::uint64_t>(share * static_cast<double>(whole));
}

}  // namespace

void TinyLfu::Insert(PolicyNode& node) {
  candidate_ = nullptr;
  ++count_;
  if (options_.lru) return PushNewest(kWindow, node);
  sketch_.Reserve(count_);
  sketch_.Add(node.hash);
  CountForClimb(0, 1);
  if (++inserted_ * kErasPerCache >= count_) {
    inserted_ = 0;
    era_ = era_ == 255 ? 1 : static_cast<std::uint8_t>(era_ + 1);
  }
  PushNewest(kWindow, node);
  ShrinkWindow();
}

void TinyLfu::Hit(PolicyNode& node) {
  if (options_.lru) return Move(kWindow, node);
  const bool most = sketch_.Add(node.hash) == FrequencySketch::kMost;
  CountForClimb(1, 1);
  if (node.segment == kWindow) return Move(kWindow, node);
  Move(kProtected, node);
  ShrinkProtected();
  if (most && count_ > kEveryHitCounts) node.known_in.store(era_, std::memory_order_relaxed);
}

void TinyLfu::Replace(PolicyNode& before, PolicyNode& now) {
  now.newer = before.newer;
  now.older = before.older;
  now.segment = before.segment;
  List& list = lists_[now.segment];
  (now.newer == nullptr ? list.newest : now.newer->older) = &now;
  (now.older == nullptr ? list.oldest : now.older->newer) = &now;
  list.size += SizeOf(now) - SizeOf(before);
  candidate_ = nullptr;
  Hit(now);
}

void TinyLfu::Remove(PolicyNode& node) {
  if (candidate_ == &node) candidate_ = node.newer;
  Unlink(node);
  --count_;
}

void TinyLfu::Clear() {
  lists_ = {};
  count_ = 0;
  candidate_ = nullptr;
}

PolicyNode* TinyLfu::Victim() {
  if (options_.lru) return lists_[kWindow].oldest;
  ShrinkWindow();
  ShrinkProtected();
  PolicyNode* victim = lists_[kProbation].oldest;
  if (victim == nullptr) victim = lists_[kProtected].oldest;
  if (victim == nullptr) return lists_[kWindow].oldest;
  if (candidate_ == nullptr || candidate_ == victim || Admits(*candidate_, *victim)) return victim;
  return candidate_;
}

std::uint64_t TinyLfu::WindowTarget() const { return Share(window_share_, total()); }

void TinyLfu::PushNewest(Segment segment, PolicyNode& node) {
  List& list = lists_[segment];
  node.segment = segment;
  node.newer = nullptr;
  node.older = list.newest;
  (list.newest == nullptr ? list.oldest : list.newest->newer) = &node;
  list.newest = &node;
  ++list.count;
  list.size += SizeOf(node);
}

void TinyLfu::Unlink(PolicyNode& node) {
  List& list = lists_[node.segment];
  (node.newer == nullptr ? list.newest : node.newer->older) = node.older;
  (node.older == nullptr ? list.oldest : node.older->newer) = node.newer;
  --list.count;
  list.size -= SizeOf(node);
}

void TinyLfu::Move(Segment segment, PolicyNode& node) {
  if (lists_[segment].newest == &node) return;
  if (candidate_ == &node) candidate_ = nullptr;
  Unlink(node);
  PushNewest(segment, node);
}

void TinyLfu::ShrinkWindow() {
  List& window = lists_[kWindow];
  const std::uint64_t target = WindowTarget();
  // One entry at least: what was just set can be read, however small the cache is.
  while (window.count > 1 && window.size > target) {
    // An entry that fills the window and more by itself has to show at once that it is worth it.
    PolicyNode& leaving = options_.weighted && window.newest->weight > target &&
                                  window.newest->weight * 4.0 > static_cast<double>(total())
                              ? *window.newest
                              : *window.oldest;
    Unlink(leaving);
    PushNewest(kProbation, leaving);
    if (candidate_ == nullptr) candidate_ = &leaving;
  }
}

void TinyLfu::ShrinkProtected() {
  List& list = lists_[kProtected];
  const std::uint64_t most = Share(kProtectedShare, total() - lists_[kWindow].size);
  while (list.size > most && list.count > 1) {
    PolicyNode& leaving = *list.oldest;
    Unlink(leaving);
    PushNewest(kProbation, leaving);
  }
}

bool TinyLfu::Admits(const PolicyNode& candidate, const PolicyNode& victim) {
  const std::uint32_t theirs = sketch_.Estimate(candidate.hash);
  if (theirs > sketch_.Estimate(victim.hash)) return true;
  if (theirs < kWarm) return false;
  random_ ^= random_ << 13;
  random_ ^= random_ >> 17;
  random_ ^= random_ << 5;
  return random_ % kOneIn == 0;
}

void TinyLfu::CountForClimb(std::size_t hits, std::size_t asked) {
  if (!options_.adaptive) return;
  asked_ += asked;
  hits_ += hits;
  if (asked_ < std::max(kPeriod * count_, kShortestPeriod)) return;
  const double ratio = static_cast<double>(hits_) / static_cast<double>(asked_);
  // The first period has nothing to be compared to.
  const double change = ratio_before_ < 0 ? 0 : ratio - ratio_before_;
  // Worse than before: back.
  if (change < 0) step_ = -step_;
  window_share_ =
      std::clamp(window_share_ + step_, std::min(options_.window, kMostWindow), kMostWindow);
  step_ = std::abs(change) >= kLoadChanged ? std::copysign(kStep, step_) : step_ * kStepDecay;
  ratio_before_ = ratio;
  hits_ = 0;
  asked_ = 0;
}

}  // namespace coord::internal
