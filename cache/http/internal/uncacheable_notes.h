// What turned out not to be for several askers, so that the next ones do not wait for each other in
// vain.
#ifndef COORD_CACHE_HTTP_INTERNAL_UNCACHEABLE_NOTES_H_
#define COORD_CACHE_HTTP_INTERNAL_UNCACHEABLE_NOTES_H_

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"

namespace coord::http::internal {

// Thread-safe. A note holds for a minute; of more than kMost keys all are forgotten, which costs
// each one more wait.
class UncacheableNotes {
 public:
  static constexpr std::size_t kMost = 4096;

  void Note(const std::string& key) {
    coord::internal::MutexLock lock(mutex_);
    if (until_.size() >= kMost) until_.clear();
    until_[key] = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  }
  void Forget(std::string_view key) {
    coord::internal::MutexLock lock(mutex_);
    if (!until_.empty()) until_.erase(coord::internal::ToAbsl(key));
  }
  bool Has(std::string_view key) {
    coord::internal::MutexLock lock(mutex_);
    if (until_.empty()) return false;
    const auto found = until_.find(coord::internal::ToAbsl(key));
    if (found == until_.end()) return false;
    if (found->second > std::chrono::steady_clock::now()) return true;
    until_.erase(found);
    return false;
  }

 private:
  coord::internal::Mutex mutex_;
  absl::flat_hash_map<std::string, coord::internal::SteadyTime> until_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_UNCACHEABLE_NOTES_H_
