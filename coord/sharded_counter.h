// A counter for millions of additions a second: added to in memory, brought to the server in the
// background.
//
//   coord::ShardedCounter hits(client, "hits");
//   hits.Add(1);                                     // no round trip
//   absl::StatusOr<std::int64_t> all = hits.Exact();  // brings what is here, and asks
//
// The value is that of coord::Counter(client, "hits"), to which everybody's additions go. Each
// flush is one round trip and has an operation id (operation_id.h), which it keeps until its
// outcome is known: so nothing counts twice, or is lost while this process lives and the server
// keeps its data. What dies with the process is at most what Flush would have brought; whatever
// else cannot be brought is reported, see ShardedCounterOptions::on_loss.
#ifndef COORD_SHARDED_COUNTER_H_
#define COORD_SHARDED_COUNTER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

struct ShardedCounterOptions {
  // How long an addition waits at most before it is sent, if the server can be reached; 1 ms to 1
  // h.
  absl::Duration flush_interval = absl::Milliseconds(100);
  // How long the destructor may take to bring what is left; above 0, at most 24 h.
  absl::Duration close_timeout = absl::Seconds(1);
  // Told of every amount that has been given up, once: by the destructor, in its own thread; and by
  // the client's executor (ClientOptions) when the server was away for so long that it may have
  // forgotten whether it had applied a flush (then it must live as long as the client; where there
  // is none, the next Flush says so, once). IsOutcomeUnknown(why): it may have been applied, or yet
  // be; else it never is.
  std::function<void(std::int64_t amount, absl::Status why)> on_loss = {};
};

// Thread-safe. Additions are in memory until they are flushed: one that was made before a Flush
// began is there when that has succeeded.
class ShardedCounter {
 public:
  // Never fails; a bad name (see README, "Names") or option is reported by Flush, as
  // kInvalidArgument.
  ShardedCounter(Client client, std::string_view name, ShardedCounterOptions options = {});
  // Flushes, within close_timeout, unless Close was called. In a forked child it sends nothing.
  ~ShardedCounter();
  ShardedCounter(const ShardedCounter&) = delete;
  ShardedCounter& operator=(const ShardedCounter&) = delete;

  // Never fails, and waits for nothing but, rarely, another thread's look at the memory. The local
  // sum does not wrap: what is beyond 64 bits goes in several flushes. In a forked child nothing is
  // ever sent; what the parent had there is the parent's, what the child adds is reported by its
  // own Flush, Close and on_loss.
  void Add(std::int64_t amount = 1);

  // One round trip where something is local (two when a flush was under way), else none. A failure
  // says how much is still local; that will be sent again in the background, and nothing of it is
  // counted twice. kOutOfRange: the server's value would leave 64 bits; it was left as it is.
  absl::Status Flush(CallOptions call = {});

  // Flush, then Counter::Get: the value with all that was added here before the call, and all that
  // others have flushed. Two round trips.
  absl::StatusOr<std::int64_t> Exact(CallOptions call = {});

  // The server's value when it last answered here (0 until it has) and what is local; no round
  // trip. At the ends of 64 bits it stops.
  std::int64_t Approximate() const;

  // What is local: not yet known to be on the server. At the ends of 64 bits it stops.
  std::int64_t pending() const;

  // Flush for the last time. A failure says how much is lost; on_loss is not told. Idempotent. What
  // is added later is lost, and reported by the destructor.
  absl::Status Close(CallOptions call = {});

 private:
  class Core;

  const Client client_;
  const std::shared_ptr<Core> core_;
};

}  // namespace coord

#endif  // COORD_SHARDED_COUNTER_H_
