// Hearing of every change to keys under some prefixes, from all servers that hold keys, for local
// copies of them: server-assisted client side caching in its broadcast mode (Redis documentation,
// "Client-side caching reference"), over the background connections. One per session; thread-safe.
//
// What cannot be heard is a gap: copies from before it are worthless. A gap is
//   - a broken background connection, or one that has been silent for kPatience;
//   - FLUSHALL or FLUSHDB;
//   - another set of masters (a failover, a Cluster in change), or of prefixes;
//   - the end of the client.
// Time is cut into epochs by gaps. In an active epoch every write to a watched key that a server
// does is told to the listeners, each in the order of that server, soon, and before the watch
// vouches for a moment kVouches after the write: a watch that hears nothing vouches no longer.
// Whoever keeps copies therefore
//   1. reads epoch() before it asks a server for a value, and keeps none if it is not active, or
//      has changed when the value is there;
//   2. gives out copies only while epoch() is the one they were taken in, and before
//      vouched_until().
#ifndef COORD_DEPLOYMENT_KEY_WATCH_H_
#define COORD_DEPLOYMENT_KEY_WATCH_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/deployment/background.h"
#include "coord/deployment/deployment.h"
#include "coord/deployment/wakes.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// The shortest list that covers the same keys: `a:` covers `a:b:`, the empty prefix covers all.
// Sorted. (Servers refuse prefixes that overlap.)
std::vector<std::string> CoveringPrefixes(std::vector<std::string> prefixes);

class KeyWatch {
 public:
  // Servers are asked for a sign of life so often; one that owes it for so long is given up; and
  // one that was asked for vouches for so long from the moment of asking.
  static constexpr absl::Duration kPeriod = absl::Seconds(1);
  static constexpr absl::Duration kPatience = absl::Seconds(2);
  static constexpr absl::Duration kVouches = absl::Seconds(3);

  class Listener {
   public:
    virtual ~Listener() = default;
    // The key has been written, deleted, or has expired. May be called for keys that it has not
    // asked for. By whoever reads messages, so it must be quick, and call nothing of the client.
    virtual void OnInvalidate(std::string_view key) = 0;
  };

  // All borrowed.
  KeyWatch(Deployment& deployment, Background& background, Wakes& wakes, const Clock& clock)
      : deployment_(deployment), background_(background), wakes_(wakes), clock_(clock) {}
  KeyWatch(const KeyWatch&) = delete;
  KeyWatch& operator=(const KeyWatch&) = delete;

  // `listener` is borrowed until Remove. Does not wait for the servers.
  void Add(Listener& listener, std::vector<std::string> prefixes);
  // When it returns, the listener is not being called, and will not be.
  void Remove(Listener& listener);

  // Rises with each gap and with each activation; odd: active. Starts at 0.
  std::uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }
  static bool IsActive(std::uint64_t epoch) { return (epoch & 1) != 0; }
  // For how long the servers' last signs of life do, on the client's clock, in ns since the Unix
  // epoch of absl::Time: it passes when the background thread is stuck, or the process was stopped.
  std::int64_t vouched_until() const { return vouched_until_.load(std::memory_order_relaxed); }
  // Why it is not active. OK while it is, and where it has just begun.
  absl::Status trouble() const;

  // What a connection was sent; true when it was for us.
  bool Deliver(const Reply& push);
  // Other servers serve keys from now on. Returns when no epoch from before is active.
  void ServersChanged();

 private:
  class Link;

  // Under which prefixes the servers are to tell.
  struct Wanted {
    std::vector<std::string> prefixes;
    std::uint64_t version = 0;
  };

  void Gap(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Flushed();
  // A link has begun to track, or shown a sign of life.
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes the links fit who listens and who serves.
  void Rearrange();
  void RecomputeWanted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Deployment& deployment_;
  Background& background_;
  Wakes& wakes_;
  const Clock& clock_;

  // Read for each hit.
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<std::int64_t> vouched_until_{0};  // ns

  // Held while links are added and removed, so that the last to change them knows best. Before
  // mutex_ and the background's.
  Mutex arranging_;
  bool wants_ ABSL_GUARDED_BY(arranging_) = false;  // messages to be read

  // Behind the background's lock (NextTick), so nothing of Background is called under it.
  mutable Mutex mutex_;
  Wanted wanted_ ABSL_GUARDED_BY(mutex_);
  std::map<Listener*, std::vector<std::string>> listening_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<Node*, std::shared_ptr<Link>> links_ ABSL_GUARDED_BY(mutex_);
  int changing_ ABSL_GUARDED_BY(mutex_) = 0;  // how many are about to change links_
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status trouble_ ABSL_GUARDED_BY(mutex_);

  // Held while they are called.
  Mutex listeners_mutex_;
  std::vector<Listener*> listeners_ ABSL_GUARDED_BY(listeners_mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_KEY_WATCH_H_
