// How a client behaves. Every field has a default that fits most programs.
#ifndef COORD_OPTIONS_H_
#define COORD_OPTIONS_H_

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/time/time.h"
#include "coord/clock.h"

namespace coord {

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
  // Where user code runs that an event calls for: the callbacks of a lease's stop token. Must not
  // run the task inside the call; must outlive the client. By default one worker thread, started
  // when first needed.
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
