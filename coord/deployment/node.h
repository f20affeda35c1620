// One server: how to reach it and sign in, the connection that all callers share, and a second one
// for the background thread.
#ifndef COORD_DEPLOYMENT_NODE_H_
#define COORD_DEPLOYMENT_NODE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/clock.h"
#include "coord/deployment/channel.h"
#include "coord/deployment/handshake.h"
#include "coord/internal/deadline.h"
#include "coord/options.h"
#include "coord/wire/request.h"
#include "coord/wire/socket.h"
#include "coord/wire/tls.h"

namespace coord::internal {

// A command that every new connection sends right behind signing in, before anything else can go
// over it; and what its answer means. A failure fails the connection; see IsLasting.
struct Greeting {
  std::string bytes;  // empty: none
  std::function<absl::Status(const Reply& reply)> judge;
};

struct NodeOptions {
  Endpoint endpoint;
  std::shared_ptr<TlsContext> tls = nullptr;  // null: not encrypted
  Identity identity;
  absl::Duration connect_timeout = absl::Seconds(5);
  SpinMode spin = SpinMode::kAdaptive;
  const Clock* clock = Clock::Boot();
  // What the background connection subscribes to, and who takes the messages; see Connection.
  std::string channel;
  Connection::PushHandler on_push;
  // Run by a caller before each attempt to connect: makes sure that an embedded server is up. May
  // be empty.
  std::function<absl::Status(absl::Duration timeout)> ensure_server;
  Greeting greeting = {};
};

// Where the bytes of a call went.
struct CallTrace {
  absl::Time sent = absl::InfinitePast();  // the clock just before the bytes of the answered
                                           // attempt were handed over
  bool replayed = false;                   // an earlier attempt may have reached the server as well
};

class Node {
 public:
  explicit Node(NodeOptions options);

  // One attempt, waiting only for a server that is still reading its data.
  absl::Status Connect(const CallLimits& limits);

  // Runs one command. What was not applied for a passing reason is tried again within the limits;
  // an unknown outcome only when the request says that a replay is safe. An error reply becomes a
  // status (see errors.h).
  absl::StatusOr<Reply> Execute(Request& request, const CallLimits& limits,
                                CallTrace* trace = nullptr);

  // The same over a connection of its own, and then waits there until `replicas` have acknowledged
  // what the command has written, at most for `timeout`, which comes on top of the limits. WAIT
  // blocks its connection, so others who ask for this wait too.
  struct Acknowledged {
    Reply reply;
    int replicas = 0;
  };
  absl::StatusOr<Acknowledged> ExecuteReplicated(Request& request, int replicas,
                                                 absl::Duration timeout, const CallLimits& limits,
                                                 CallTrace* trace = nullptr);

  // Runs all, in one round trip. Error replies stay replies. Nothing is replayed unless nothing was
  // sent, but for a script that the server does not know, which is healed.
  absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                  const CallLimits& limits);

  Channel& background() { return background_; }
  // Whether the background connection, as last made, gets messages.
  bool subscribed() const { return subscribed_.load(std::memory_order_relaxed); }
  Channel& shared() { return shared_; }
  int generation() { return shared_.generation(); }
  const std::string& name() const { return name_; }
  const Clock& clock() const { return *options_.clock; }

  void Close();
  // In a forked child, where no lock may be touched: lets go of the parent's connections.
  void CloseDescriptorsInChild();

 private:
  absl::StatusOr<std::shared_ptr<Connection>> Dial(const CallLimits& limits, bool background);
  absl::StatusOr<std::vector<Address>> Addresses(bool background);

  // Constant after construction.
  const NodeOptions options_;
  const std::string name_;

  Mutex mutex_;
  // As last looked up by a caller; the background thread looks nothing up.
  std::vector<Address> addresses_ ABSL_GUARDED_BY(mutex_);
  Handshake::Protocol protocol_ ABSL_GUARDED_BY(mutex_) = Handshake::Protocol::kResp3;

  std::atomic<bool> subscribed_{false};
  Channel shared_;
  Channel background_;
  Channel replicated_;  // made when first needed
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_NODE_H_
