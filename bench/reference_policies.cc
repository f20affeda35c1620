#include "bench/reference_policies.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <list>
#include <random>
#include <set>
#include <unordered_map>
#include <utility>

namespace coord::bench {
namespace {

double Ratio(std::size_t hits, const Trace& trace) {
  return static_cast<double>(hits) / static_cast<double>(trace.size());
}

class ZipfDraw {
 public:
  ZipfDraw(std::uint32_t keys, double exponent) : sums_(keys) {
    double sum = 0;
    for (std::uint32_t i = 0; i < keys; ++i) sums_[i] = sum += std::pow(i + 1.0, -exponent);
  }
  std::uint32_t operator()(std::mt19937_64& random) {
    const double at = std::uniform_real_distribution<double>(0, sums_.back())(random);
    const auto found = std::lower_bound(sums_.begin(), sums_.end() - 1, at);
    return static_cast<std::uint32_t>(found - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

}  // namespace

Trace ZipfTrace(std::size_t length, std::uint32_t keys, double exponent, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  ZipfDraw draw(keys, exponent);
  Trace trace(length);
  for (std::uint32_t& key : trace) key = draw(random);
  return trace;
}

Trace ScanTrace(std::size_t length, std::uint32_t keys, double exponent, std::uint32_t scan) {
  std::mt19937_64 random(2);
  ZipfDraw draw(keys, exponent);
  Trace trace;
  std::uint32_t fresh = keys;
  while (trace.size() < length) {
    for (std::uint32_t i = 0; i < scan; ++i) trace.push_back(draw(random));
    for (std::uint32_t i = 0; i < scan; ++i) trace.push_back(fresh++);
  }
  trace.resize(length);
  return trace;
}

Trace RecentTrace(std::size_t length, std::uint32_t reach) {
  std::mt19937_64 random(3);
  std::exponential_distribution<double> back(1.0 / reach);
  Trace trace(length);
  std::uint32_t fresh = 0;
  for (std::uint32_t& key : trace) {
    const double ago = back(random);
    key =
        random() % 10 == 0 || ago >= fresh ? fresh++ : fresh - 1 - static_cast<std::uint32_t>(ago);
  }
  return trace;
}

Trace LoopTrace(std::size_t length, std::uint32_t keys) {
  Trace trace(length);
  for (std::size_t i = 0; i < length; ++i) trace[i] = static_cast<std::uint32_t>(i % keys);
  return trace;
}

double LruHitRatio(const Trace& trace, std::size_t capacity) {
  std::list<std::uint32_t> order;
  std::unordered_map<std::uint32_t, std::list<std::uint32_t>::iterator> at;
  std::size_t hits = 0;
  for (const std::uint32_t key : trace) {
    if (const auto found = at.find(key); found != at.end()) {
      ++hits;
      order.splice(order.begin(), order, found->second);
      continue;
    }
    if (at.size() == capacity) {
      at.erase(order.back());
      order.pop_back();
    }
    order.push_front(key);
    at[key] = order.begin();
  }
  return Ratio(hits, trace);
}

double PerfectLfuHitRatio(const Trace& trace, std::size_t capacity) {
  std::unordered_map<std::uint32_t, std::uint32_t> counts;
  std::set<std::pair<std::uint32_t, std::uint32_t>> kept;  // count, key
  std::size_t hits = 0;
  for (const std::uint32_t key : trace) {
    const std::uint32_t count = counts[key]++;
    if (kept.erase({count, key}) > 0) {
      ++hits;
      kept.insert({count + 1, key});
    } else if (kept.size() < capacity) {
      kept.insert({count + 1, key});
    } else if (kept.begin()->first <= count + 1) {
      kept.erase(kept.begin());
      kept.insert({count + 1, key});
    }
  }
  return Ratio(hits, trace);
}

double ArcHitRatio(const Trace& trace, std::size_t capacity) {
  // Seen once and more often lately, each followed by ghosts: keys that are kept no more.
  enum Part { kOnce, kOften, kOnceGhost, kOftenGhost };
  struct Where {
    Part part;
    std::list<std::uint32_t>::iterator at;
  };
  std::array<std::list<std::uint32_t>, 4> lists;
  std::unordered_map<std::uint32_t, Where> known;
  double target = 0;
  std::size_t hits = 0;
  const auto drop = [&](Part part) {
    known.erase(lists[part].back());
    lists[part].pop_back();
  };
  const auto put = [&](Part part, std::uint32_t key) {
    lists[part].push_front(key);
    known[key] = {part, lists[part].begin()};
  };
  const auto demote = [&](Part from, Part to) {
    const std::uint32_t key = lists[from].back();
    lists[from].pop_back();
    put(to, key);
  };
  const auto replace = [&](bool often_ghost) {
    const auto once = static_cast<double>(lists[kOnce].size());
    if (once > 0 && (once > target || (often_ghost && once == target))) {
      demote(kOnce, kOnceGhost);
    } else if (!lists[kOften].empty()) {
      demote(kOften, kOftenGhost);
    } else {
      demote(kOnce, kOnceGhost);
    }
  };
  for (const std::uint32_t key : trace) {
    const auto found = known.find(key);
    if (found != known.end()) {
      const Part part = found->second.part;
      const auto once = static_cast<double>(lists[kOnceGhost].size());
      const auto often = static_cast<double>(lists[kOftenGhost].size());
      if (part == kOnceGhost) {
        target = std::min(static_cast<double>(capacity), target + std::max(1.0, often / once));
      } else if (part == kOftenGhost) {
        target = std::max(0.0, target - std::max(1.0, once / often));
      } else {
        ++hits;
      }
      lists[part].erase(found->second.at);
      if (part == kOnceGhost || part == kOftenGhost) replace(part == kOftenGhost);
      put(kOften, key);
      continue;
    }
    const std::size_t first = lists[kOnce].size() + lists[kOnceGhost].size();
    if (first == capacity) {
      if (lists[kOnce].size() < capacity) {
        drop(kOnceGhost);
        replace(false);
      } else {
        drop(kOnce);
      }
    } else if (known.size() >= capacity) {
      if (known.size() == 2 * capacity) drop(kOftenGhost);
      replace(false);
    }
    put(kOnce, key);
  }
  return Ratio(hits, trace);
}

double S3FifoHitRatio(const Trace& trace, std::size_t capacity) {
  struct Kept {
    int hits = 0;
  };
  const std::size_t small_size = std::max<std::size_t>(1, capacity / 10);
  std::unordered_map<std::uint32_t, Kept> kept;
  std::unordered_map<std::uint32_t, std::size_t> ghosts;  // when it became one
  std::deque<std::uint32_t> small;
  std::deque<std::uint32_t> main;
  std::size_t ghosted = 0;
  std::size_t hits = 0;
  const auto evict_main = [&] {
    while (true) {
      const std::uint32_t key = main.front();
      main.pop_front();
      Kept& entry = kept[key];
      if (entry.hits == 0) {
        kept.erase(key);
        return;
      }
      --entry.hits;
      main.push_back(key);
    }
  };
  const auto evict = [&] {
    while (kept.size() >= capacity) {
      if (small.size() < small_size && !main.empty()) {
        evict_main();
        continue;
      }
      const std::uint32_t key = small.front();
      small.pop_front();
      if (kept[key].hits > 1) {
        kept[key].hits = 0;
        main.push_back(key);
        if (main.size() > capacity - small_size) evict_main();
      } else {
        kept.erase(key);
        ghosts[key] = ++ghosted;
      }
    }
  };
  for (const std::uint32_t key : trace) {
    if (const auto found = kept.find(key); found != kept.end()) {
      ++hits;
      found->second.hits = std::min(3, found->second.hits + 1);
      continue;
    }
    evict();
    const auto ghost = ghosts.find(key);
    const bool known = ghost != ghosts.end() && ghosted - ghost->second < capacity - small_size;
    if (ghost != ghosts.end()) ghosts.erase(ghost);
    kept[key] = {};
    (known ? main : small).push_back(key);
  }
  return Ratio(hits, trace);
}

double BeladyHitRatio(const Trace& trace, std::size_t capacity) {
  const std::size_t never = trace.size();
  std::vector<std::size_t> next(trace.size(), never);
  std::unordered_map<std::uint32_t, std::size_t> seen;
  for (std::size_t i = trace.size(); i-- > 0;) {
    if (const auto found = seen.find(trace[i]); found != seen.end()) next[i] = found->second;
    seen[trace[i]] = i;
  }
  std::set<std::size_t> kept;  // when each is asked for next
  std::size_t hits = 0;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (kept.erase(i) > 0) ++hits;
    if (next[i] == never) continue;
    kept.insert(next[i]);
    if (kept.size() > capacity) kept.erase(std::prev(kept.end()));
  }
  return Ratio(hits, trace);
}

}  // namespace coord::bench
