// A connection to one server that is made again when it breaks, with backoff. The callers do the
// work: one of those who need it connects, the others wait for it; there is no thread.
#ifndef COORD_DEPLOYMENT_CHANNEL_H_
#define COORD_DEPLOYMENT_CHANNEL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/handshake.h"
#include "coord/deployment/node_record.h"
#include "coord/internal/backoff.h"
#include "coord/internal/deadline.h"
#include "coord/internal/jitter.h"
#include "coord/internal/sync.h"
#include "coord/wire/connection.h"

namespace coord::internal {

class Channel {
 public:
  // Makes one attempt at a connected and signed-in connection.
  using Dialer =
      std::function<absl::StatusOr<std::shared_ptr<Connection>>(const CallLimits& limits)>;

  // `peer` for messages. `record` is borrowed: it hears how attempts end, and says when callers
  // should not wait. Of `main` it also hears when the connection has broken.
  Channel(std::string peer, NodeRecord& record, bool main, Dialer dialer)
      : peer_(std::move(peer)), record_(record), main_(main), dialer_(std::move(dialer)) {}

  enum class Patience {
    kWait,   // tries again with full-jitter backoff; at once refused while the record refuses
    kOnce,   // a single attempt, at once
    kIfDue,  // a single attempt, and none before its time has come
  };
  // The connection as it is, or a new one. While the server cannot be reached, waits as it is told
  // to, until the limits end it (kUnavailable with the last reason, kCancelled), or until an error
  // that lasts.
  absl::StatusOr<std::shared_ptr<Connection>> Get(const CallLimits& limits,
                                                  Patience patience = Patience::kWait);

  // The connection if there is a working one, else null. Never waits for the network.
  std::shared_ptr<Connection> Current();

  // Breaks the connection, also one that is being made; the next who needs one may make it at once.
  void Disconnect(const absl::Status& why);
  // The next attempt need not wait any more.
  void Hurry();

  // Breaks the connection, and refuses to make another.
  void Close();

  // How many connections have been made.
  int generation();

  // See Node.
  void CloseDescriptorInChild();

 private:
  // An attempt has failed; `cut`: by the deadline of the caller who made it.
  void Remember(absl::Status failure, bool cut) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the last attempt ended with, as the result of a call.
  absl::Status Trouble() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string peer_;
  NodeRecord& record_;
  const bool main_;
  const Dialer dialer_;
  std::atomic<int> descriptor_{
      -1};  // of connection_, for a forked child, which must not take the lock

  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  bool connecting_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;  // in a row
  int generation_ ABSL_GUARDED_BY(mutex_) = 0;
  int disconnects_ ABSL_GUARDED_BY(mutex_) = 0;
  SteadyTime next_attempt_ ABSL_GUARDED_BY(mutex_) = SteadyTime::min();
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  // The last that did not only say that a caller's time was up.
  absl::Status last_reason_ ABSL_GUARDED_BY(mutex_);
  Jitter jitter_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_CHANNEL_H_
