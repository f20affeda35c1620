#include "cache/internal/tiny_lfu.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <list>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/internal/frequency_sketch.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

std::uint32_t HashOf(std::uint32_t key) {
  std::uint64_t hash = (key + 1) * std::uint64_t{0x9e3779b97f4a7c15};
  hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9;
  return static_cast<std::uint32_t>(hash >> 32);
}

// A cache of keys, as its owner would use the policy.
class PolicyCache {
 public:
  PolicyCache(std::size_t capacity, const TinyLfu::Options& options)
      : capacity_(capacity), policy_(options) {}

  // Whether it was there; it is put there if not.
  bool Ask(std::uint32_t key) {
    if (const auto found = nodes_.find(key); found != nodes_.end()) {
      policy_.Hit(found->second);
      return true;
    }
    PolicyNode& node = nodes_[key];
    node.hash = HashOf(key);
    keys_[&node] = key;
    policy_.Insert(node);
    while (policy_.count() > capacity_) Drop(*policy_.Victim());
    return false;
  }
  void Remove(std::uint32_t key) { Drop(nodes_.at(key)); }
  bool Has(std::uint32_t key) const { return nodes_.contains(key); }
  std::size_t size() const { return nodes_.size(); }
  TinyLfu& policy() { return policy_; }

 private:
  void Drop(PolicyNode& node) {
    policy_.Remove(node);
    const auto key = keys_.find(&node);
    nodes_.erase(key->second);
    keys_.erase(key);
  }

  const std::size_t capacity_;
  TinyLfu policy_;
  std::unordered_map<std::uint32_t, PolicyNode> nodes_;
  std::unordered_map<const PolicyNode*, std::uint32_t> keys_;
};

class Zipf {
 public:
  Zipf(std::uint32_t keys, double exponent) : sums_(keys) {
    double sum = 0;
    for (std::uint32_t i = 0; i < keys; ++i) sums_[i] = sum += std::pow(i + 1.0, -exponent);
  }
  std::uint32_t Draw(std::mt19937_64& random) const {
    const double at = static_cast<double>(random() >> 11) / 9007199254740992.0 * sums_.back();
    return static_cast<std::uint32_t>(std::lower_bound(sums_.begin(), sums_.end() - 1, at) -
                                      sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

TEST(FrequencySketchTest, NeverEstimatesTooLittleBeforeItHalves) {
  FrequencySketch sketch;
  sketch.Reserve(1000);
  for (std::uint32_t key = 0; key < 1000; ++key) {
    for (std::uint32_t i = 0; i < key % 12; ++i) sketch.Add(HashOf(key));
  }
  std::uint32_t exact = 0;
  for (std::uint32_t key = 0; key < 1000; ++key) {
    EXPECT_GE(sketch.Estimate(HashOf(key)), key % 12) << key;
    exact += sketch.Estimate(HashOf(key)) == key % 12 ? 1 : 0;
  }
  EXPECT_GT(exact, 900U);
}

TEST(FrequencySketchTest, ForgetsWhatWasPopularLongAgo) {
  FrequencySketch sketch;
  sketch.Reserve(64);
  for (int i = 0; i < 15; ++i) sketch.Add(1);
  EXPECT_EQ(sketch.Estimate(1), FrequencySketch::kMost);
  for (std::uint32_t key = 100; key < 20'000; ++key) sketch.Add(HashOf(key % 50));
  EXPECT_LE(sketch.Estimate(1), 5U);
}

TEST(FrequencySketchTest, KnowsAfterItHasGrownWhatItKnewBefore) {
  FrequencySketch sketch;
  sketch.Reserve(16);
  for (int i = 0; i < 9; ++i) sketch.Add(HashOf(7));
  sketch.Reserve(100'000);
  EXPECT_GE(sketch.Estimate(HashOf(7)), 9U);
}

TEST(TinyLfuTest, LruIsWhatAPlainListSays) {
  constexpr std::size_t kCapacity = 20;
  PolicyCache cache(kCapacity, {.lru = true});
  std::list<std::uint32_t> model;
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto key = static_cast<std::uint32_t>(random() % 40);
    const auto found = std::find(model.begin(), model.end(), key);
    if (random() % 20 == 0 && found != model.end()) {
      model.erase(found);
      cache.Remove(key);
      continue;
    }
    ASSERT_EQ(cache.Ask(key), found != model.end()) << i;
    if (found != model.end()) model.erase(found);
    model.push_front(key);
    if (model.size() > kCapacity) model.pop_back();
  }
}

TEST(TinyLfuTest, AScanLeavesWhatIsPopular) {
  PolicyCache cache(100, {});
  PolicyCache lru(100, {.lru = true});
  for (int i = 0; i < 20; ++i) {
    for (std::uint32_t key = 0; key < 80; ++key) {
      cache.Ask(key);
      lru.Ask(key);
    }
  }
  for (std::uint32_t key = 1000; key < 3000; ++key) {
    cache.Ask(key);
    lru.Ask(key);
  }
  int kept = 0;
  int kept_by_lru = 0;
  for (std::uint32_t key = 0; key < 80; ++key) {
    kept += cache.Has(key) ? 1 : 0;
    kept_by_lru += lru.Has(key) ? 1 : 0;
  }
  EXPECT_GE(kept, 70);
  EXPECT_EQ(kept_by_lru, 0);
}

TEST(TinyLfuTest, IsFarBetterThanLruWherePopularityLasts) {
  PolicyCache cache(1000, {});
  PolicyCache lru(1000, {.lru = true});
  const Zipf zipf(50'000, 0.9);
  std::mt19937_64 random(2);
  int hits = 0;
  int lru_hits = 0;
  constexpr int kAsked = 200'000;
  for (int i = 0; i < kAsked; ++i) {
    const std::uint32_t key = zipf.Draw(random);
    hits += cache.Ask(key) ? 1 : 0;
    lru_hits += lru.Ask(key) ? 1 : 0;
  }
  EXPECT_GT(hits, lru_hits + kAsked / 20);
}

TEST(TinyLfuTest, TheWindowGrowsWhereRecencyCounts) {
  const auto run = [](bool adaptive) {
    PolicyCache cache(500, {.adaptive = adaptive});
    std::mt19937_64 random(3);
    std::exponential_distribution<double> back(1.0 / 250);
    std::uint32_t fresh = 1;
    int hits = 0;
    for (int i = 0; i < 300'000; ++i) {
      const double ago = back(random);
      const bool old = random() % 10 != 0 && ago < fresh;
      hits += cache.Ask(old ? fresh - 1 - static_cast<std::uint32_t>(ago) : fresh++) ? 1 : 0;
    }
    return std::pair(hits, cache.policy().window_share());
  };
  const auto [hits, share] = run(true);
  const auto [fixed_hits, fixed_share] = run(false);
  EXPECT_GT(share, 0.3);
  EXPECT_GT(hits, fixed_hits + 300'000 / 10);
}

TEST(TinyLfuTest, NeverLosesAnEntryOrOffersOneThatIsGone) {
  for (const bool lru : {false, true}) {
    for (const std::size_t capacity : {1U, 2U, 3U, 10U, 100U}) {
      PolicyCache cache(capacity, {.lru = lru});
      std::mt19937_64 random(capacity);
      std::size_t most = 0;
      for (int i = 0; i < 20'000; ++i) {
        const auto key = static_cast<std::uint32_t>(random() % (3 * capacity));
        if (random() % 4 == 0 && cache.Has(key)) {
          cache.Remove(key);
        } else {
          cache.Ask(key);
        }
        most = std::max(most, cache.size());
        ASSERT_LE(cache.size(), capacity);
        ASSERT_EQ(cache.size(), cache.policy().count());
      }
      EXPECT_EQ(most, capacity);
      while (cache.policy().count() > 0) cache.policy().Remove(*cache.policy().Victim());
      EXPECT_EQ(cache.policy().Victim(), nullptr);
    }
  }
}

TEST(TinyLfuTest, WhatWasInsertedLastIsThereHoweverSmallTheCache) {
  PolicyCache cache(2, {});
  for (int i = 0; i < 10; ++i) cache.Ask(1);
  for (std::uint32_t key = 2; key < 50; ++key) {
    cache.Ask(key);
    EXPECT_TRUE(cache.Has(key));
  }
}

TEST(TinyLfuTest, OneLargeEntryDoesNotPushOutAllThatIsPopular) {
  TinyLfu policy({.weighted = true});
  std::deque<PolicyNode> nodes(100);
  for (std::uint32_t i = 0; i < 100; ++i) {
    nodes[i].hash = HashOf(i);
    nodes[i].weight = 10;
    policy.Insert(nodes[i]);
  }
  for (int i = 0; i < 5; ++i) {
    for (PolicyNode& node : nodes) policy.Hit(node);
  }
  PolicyNode large;
  large.hash = HashOf(1000);
  large.weight = 900;
  policy.Insert(large);
  EXPECT_EQ(policy.Victim(), &large);
}

}  // namespace
}  // namespace coord::internal
