// What the hooks that count have in common.
#ifndef COORD_CACHE_INTERNAL_HOOK_PARTS_H_
#define COORD_CACHE_INTERNAL_HOOK_PARTS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "cache/hook.h"

namespace coord::internal {

inline constexpr std::size_t kCacheOperations = static_cast<std::size_t>(CacheOperation::kPing) + 1;

// One T for each cache's name, made at its first use and never moved. Finding takes no lock: a name
// is added at the head of a list and stays. Thread-safe. T is made of the name.
template <typename T>
class PerCache {
 public:
  PerCache() = default;
  ~PerCache() {
    for (auto& head : heads_) {
      for (Node* node = head.load(); node != nullptr;) delete std::exchange(node, node->next);
    }
  }
  PerCache(const PerCache&) = delete;
  PerCache& operator=(const PerCache&) = delete;

  T& Of(std::string_view name) {
    std::atomic<Node*>& head = heads_[std::hash<std::string_view>{}(name) % heads_.size()];
    Node* first = head.load(std::memory_order_acquire);
    if (Node* const found = Find(first, nullptr, name)) return found->value;
    auto added = std::make_unique<Node>(name);
    Node* searched = first;
    added->next = first;
    while (!head.compare_exchange_weak(added->next, added.get(), std::memory_order_acq_rel)) {
      // Somebody else was quicker, perhaps with the same name.
      if (Node* const found = Find(added->next, searched, name)) return found->value;
      searched = added->next;
    }
    return added.release()->value;
  }

  // In no order.
  template <typename Receive>
  void ForEach(Receive receive) {
    for (auto& head : heads_) {
      for (Node* node = head.load(std::memory_order_acquire); node != nullptr; node = node->next) {
        receive(node->name, node->value);
      }
    }
  }

 private:
  struct Node {
    explicit Node(std::string_view of) : name(of), value(name) {}
    const std::string name;
    T value;
    Node* next = nullptr;
  };

  static Node* Find(Node* node, Node* end, std::string_view name) {
    while (node != end && node->name != name) node = node->next;
    return node == end ? nullptr : node;
  }

  std::array<std::atomic<Node*>, 16> heads_{};
};

// What an operation's lookups found, each of them in one of these: they add up to all lookups.
struct LookupResults {
  std::size_t hit = 0;
  std::size_t null = 0;
  std::size_t stale = 0;
  std::size_t miss = 0;
  std::size_t undecodable = 0;
};
// An event's counts overlap (a stale null is one hit, one null and one stale); a batch does not say
// how far, so there stale ones that are nulls, too, may take the place of hits.
inline LookupResults ResultsOf(const CacheEvent& event) {
  LookupResults results;
  results.stale = std::min(event.stale, event.hits);
  results.null = std::min(event.nulls, event.hits - results.stale);
  results.hit = event.hits - results.stale - results.null;
  results.undecodable = std::min(event.undecodable, event.misses);
  results.miss = event.misses - results.undecodable;
  return results;
}

// "deadline_exceeded"
inline std::string CodeName(absl::StatusCode code) {
  std::string name = absl::StatusCodeToString(code);
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return name.empty() ? "unknown" : name;
}

}  // namespace coord::internal

#endif  // COORD_CACHE_INTERNAL_HOOK_PARTS_H_
