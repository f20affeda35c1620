#include "coord/deployment/wakes.h"

#include <utility>

namespace coord::internal {

void Wakes::Add(std::string owner, std::shared_ptr<Sleeper> sleeper) {
  MutexLock lock(mutex_);
  sleepers_[std::move(owner)] = std::move(sleeper);
}

void Wakes::Remove(const std::string& owner) {
  std::shared_ptr<Sleeper> removed;  // destroyed outside the lock
  MutexLock lock(mutex_);
  const auto it = sleepers_.find(owner);
  if (it == sleepers_.end()) return;
  removed = std::move(it->second);
  sleepers_.erase(it);
}

bool Wakes::Deliver(const Reply& push) {
  if (push.items().size() != 3) return false;
  const std::string& kind = push.items()[0].text();
  if (kind != "message" && kind != "smessage") return false;
  const std::string& text = push.items()[2].text();
  const auto space = text.find(' ');
  if (space == std::string::npos) return false;
  std::shared_ptr<Sleeper> sleeper;
  {
    MutexLock lock(mutex_);
    const auto it = sleepers_.find(text.substr(0, space));
    if (it == sleepers_.end()) return false;
    sleeper = it->second;
  }
  sleeper->OnMessage(std::string_view(text).substr(space + 1));
  return true;
}

}  // namespace coord::internal
