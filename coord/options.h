// How a client behaves. Every field has a default that fits most programs.
#ifndef COORD_OPTIONS_H_
#define COORD_OPTIONS_H_

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/clock.h"
#include "coord/node_state.h"

namespace coord {

// Who signs in at a server.
struct Credentials {
  std::string user = {};  // empty: the default user
  std::string password = {};
};

// Whether a caller who waits for a reply polls the socket for up to 60 us (150 us where the
// server is on this host) before it sleeps. It more than doubles the speed of a single caller
// against a server nearby, and costs CPU time.
enum class SpinMode {
  kAdaptive,  // while it pays, judged by how many recent spins were answered; off under a CPU quota
              // below 2
  kNever,
  kAlways,
};

struct ClientOptions {
  // Before every key: "<prefix>{<name>}:<part>". No braces, at most 256 bytes. The URL's ?prefix=
  // goes before this.
  std::string prefix = "coord:";
  // How long a call may take where it is not told otherwise; above zero, at most 24 h. The URL's
  // ?timeout= goes before this.
  absl::Duration timeout = absl::Seconds(5);
  // How long one attempt to connect and sign in may take. The URL's ?connect_timeout= goes before
  // this.
  absl::Duration connect_timeout = absl::Seconds(5);
  // Shown by CLIENT LIST, and as the holder of a lock; by default "<host>:<pid>". No spaces.
  std::string client_name = {};
  SpinMode spin = SpinMode::kAdaptive;
  // How long the answers of operations with an id are kept (see operation_id.h); 1 s to 24 h. All
  // who may repeat each other's operations should agree.
  absl::Duration operation_window = absl::Minutes(10);
  // Asked each time a connection is made, in place of the URL's user and password: for passwords
  // and tokens that change at run time. Its error fails that attempt, and the next one asks again.
  // Runs on the thread of a caller who needs the connection, or on `executor`; from several threads
  // at once. To use new credentials before the old connection ends: Client::Reconnect().
  std::function<absl::StatusOr<Credentials>()> credentials = {};
  // A server that could not be reached for so long is given up for the time being: calls to it
  // fail at once instead of waiting for it, while the background thread goes on trying. Until then
  // they wait within their timeout. Above zero; InfiniteDuration: they always wait. Embedded
  // servers are started again and never given up.
  absl::Duration fail_fast_after = absl::Seconds(5);
  // How often a server that says nothing else is asked for a sign of life over the background
  // connection, which is given up after health_check_timeout without an answer (above zero, at most
  // 24 h). 10 ms to 24 h, or zero: only while it carries leases and waits, whose renewals are such
  // signs. With it the background thread starts at once.
  absl::Duration health_check_period = absl::ZeroDuration();
  absl::Duration health_check_timeout = absl::Seconds(5);
  // A host that acknowledges nothing for so long, below the level of Redis, has vanished: its
  // connections break. Whole seconds, 1 s to 24 h; InfiniteDuration leaves it to the system.
  absl::Duration keepalive = absl::Seconds(10);
  // Told of each change of a server's state, and of failovers. Runs on `executor`.
  std::function<void(const NodeEvent&)> on_node_event = {};
  // Where user code runs that an event calls for: the callbacks of a lease's stop token,
  // on_node_event, credentials. Must not run the task inside the call; must outlive the client. By
  // default one worker thread, started when first needed.
  std::function<void(std::function<void()>)> executor = {};
  // Borrowed; must outlive the client.
  const Clock* clock = Clock::Boot();
};

// For one call.
struct CallOptions {
  // In place of ClientOptions::timeout. Above zero, at most 24 h.
  std::optional<absl::Duration> timeout = std::nullopt;
  // Ends the call early with kCancelled.
  std::stop_token stop = {};
};

}  // namespace coord

#endif  // COORD_OPTIONS_H_
