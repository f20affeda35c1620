// Who in this process waits for a message, and the way of a message to him. A message is
// "<owner id> <rest>", on the one channel of the process.
#ifndef COORD_DEPLOYMENT_WAKES_H_
#define COORD_DEPLOYMENT_WAKES_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "coord/internal/sync.h"
#include "coord/reply.h"

namespace coord::internal {

// Its method is called by the background thread with no lock held. Messages are hints: they may be
// lost, late or doubled.
class Sleeper {
 public:
  virtual ~Sleeper() = default;
  virtual void OnMessage(std::string_view rest) = 0;
};

// Thread-safe.
class Wakes {
 public:
  void Add(std::string owner, std::shared_ptr<Sleeper> sleeper);
  void Remove(const std::string& owner);
  // What the connection was sent: {"message", channel, text}; anything else is passed over.
  void Deliver(const Reply& push);

 private:
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Sleeper>> sleepers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_WAKES_H_
