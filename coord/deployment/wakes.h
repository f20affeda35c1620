// Who in this process waits for a message, and the way of a message to him. A message is
// "<owner id> <rest>", on the one channel of the process.
#ifndef COORD_DEPLOYMENT_WAKES_H_
#define COORD_DEPLOYMENT_WAKES_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "coord/internal/sync.h"
#include "coord/reply.h"

namespace coord::internal {

// Its method is called by whoever reads, with no lock held. Messages are hints: they may be lost,
// late or doubled.
class Sleeper {
 public:
  virtual ~Sleeper() = default;
  virtual void OnMessage(std::string_view rest) = 0;
};

// Who waits for messages, and who reads them. Whoever is woken by another thread is woken late: so
// a waiter reads the messages himself, for all, when nobody else does. The background thread does
// when some wait and none of them reads, and when nobody has waited for a while, to notice a broken
// link. Thread-safe.
class Wakes {
 public:
  void Add(std::string owner, std::shared_ptr<Sleeper> sleeper);
  void Remove(const std::string& owner);

  // One more, or one less, who wants messages to be read from now on. Whoever ends reading must
  // see to it that another does, as long as there are any.
  void Want(int more) { wanted_.fetch_add(more); }
  bool wanted() const { return wanted_.load() > 0; }
  // Somebody who waited has read for himself, or could have. The next wait may be near.
  void NoteWait() { last_wait_.store(std::chrono::steady_clock::now()); }
  // Until when he may find nobody reading.
  SteadyTime quiet_until() const { return last_wait_.load() + kQuiet; }

  // What the connection was sent: {"message", channel, text}, or "smessage" from a sharded channel;
  // anything else is passed over.
  // True when there was somebody to tell.
  bool Deliver(const Reply& push);

 private:
  static constexpr std::chrono::seconds kQuiet{1};

  std::atomic<int> wanted_{0};
  std::atomic<SteadyTime> last_wait_{SteadyTime{}};
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Sleeper>> sleepers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_WAKES_H_
