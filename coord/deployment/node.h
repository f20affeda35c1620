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
#include "coord/deployment/approach.h"
#include "coord/deployment/channel.h"
#include "coord/deployment/handshake.h"
#include "coord/deployment/node_record.h"
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
  // In place of `endpoint`, asked at each connect: where the server is now. In the background it
  // must not block. The server must then be a master, and one that turns out to be a replica later
  // is left, and looked for again.
  std::function<absl::StatusOr<Endpoint>(const CallLimits& limits, bool background)> locate = {};
  std::string title = {};                     // for messages, before it has been located
  std::shared_ptr<TlsContext> tls = nullptr;  // null: not encrypted
  Identity identity;
  ApproachFinder::Provider credentials = {};  // in place of those in `identity`; may be empty
  ApproachFinder::Post post = {};             // see ApproachFinder
  bool scripts = true;                        // whether signing in loads the library's scripts
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration fail_fast_after = absl::InfiniteDuration();
  absl::Duration keepalive = absl::Seconds(10);
  SpinMode spin = SpinMode::kAdaptive;
  const Clock* clock = Clock::Boot();
  // What the background connection subscribes to, and who takes the messages; see Connection.
  std::string channel;
  Connection::PushHandler on_push;
  // Run by a caller before each attempt to connect: makes sure that an embedded server is up. May
  // be empty.
  std::function<absl::Status(absl::Duration timeout)> ensure_server;
  Greeting greeting = {};
  NodeRecord::Listener on_event = {};
};

// Where the bytes of a call went.
struct CallTrace {
  absl::Time sent = absl::InfinitePast();  // the clock just before the bytes of the answered
                                           // attempt were handed over
  bool replayed = false;                   // an earlier attempt may have reached the server as well
};

class Node;
class Router;

// A call over all its attempts, at one server or at several.
struct CallProgress {
  CallTrace* trace = nullptr;  // may be null
  bool unknown = false;        // an attempt may have been applied
  // How long an attempt waits for a connection, where the call could go elsewhere instead.
  // It does not wait for the server's next turn in its backoff then.
  absl::Duration reach = absl::InfiniteDuration();
  Router* router = nullptr;  // told Unreached of a node that does not answer; may be null
};

// A wait for replicas at the end of a call; 0: none. `timeout` comes on top of the call's limits.
struct Replicas {
  int count = 0;
  absl::Duration timeout = absl::ZeroDuration();
};

// How one attempt of a call ended.
struct Attempt {
  enum class Verdict {
    kFinal,      // `reply` is the call's result
    kAgain,      // nothing was applied, or a replay is safe: at once
    kPause,      // the same, when the server had a moment; `reply` says what is in the way
    kElsewhere,  // another node of the Cluster has the slot: `reply` is the error that says which
    kUnreached,  // no connection could be had, `reply` says why; may be tried elsewhere
  };
  Verdict verdict = Verdict::kFinal;
  absl::StatusOr<Reply> reply = absl::UnknownError("");
  int replicas = 0;          // how many have acknowledged it
  std::string refusal = {};  // kFinal: the server's own words, when it has refused the command
};

// What became of an exchange that was waited for so: OK when every reply is there. What was not
// done is let go of. `what` and `peer` for messages.
absl::Status EndExchange(Connection& connection, Exchange& exchange, Connection::WaitResult result,
                         std::string_view what, std::string_view peer);

// Connection::Wait, which tells the router now and then that there is no answer yet.
Connection::WaitResult WaitDoubting(Connection& connection, Exchange& exchange,
                                    const CallLimits& limits, Router& router, Node& node);

// Before a call's result goes to its caller: when an attempt before the last may have been applied,
// the caller is told, unless the server has answered the last for good.
absl::Status CallFailure(const absl::Status& status, const CallProgress& progress);

// Sleeps a little, for servers that say that they will be ready soon. False when the limits leave
// no time for it.
bool PauseForServer(const CallLimits& limits);

class Node {
 public:
  struct Acknowledged {
    Reply reply;
    int replicas = 0;
  };

  explicit Node(NodeOptions options);

  // One attempt, waiting only for a server that is still reading its data.
  absl::Status Connect(const CallLimits& limits);

  // Runs one command. What was not applied for a passing reason is tried again within the limits;
  // an unknown outcome only when the request says that a replay is safe. An error reply becomes a
  // status (see errors.h).
  absl::StatusOr<Reply> Execute(Request& request, const CallLimits& limits,
                                CallTrace* trace = nullptr);

  // The same over a connection of its own, and then waits there until `replicas` have acknowledged
  // what the command has written. WAIT blocks its connection, so others who ask for this wait too.
  absl::StatusOr<Acknowledged> ExecuteReplicated(Request& request, const Replicas& replicas,
                                                 const CallLimits& limits,
                                                 CallTrace* trace = nullptr);

  // One attempt of such a call. May change the request to what should be sent next.
  Attempt Try(Request& request, const CallLimits& limits, CallProgress& progress,
              const Replicas& replicas = {});

  // Runs all, in one round trip. Error replies stay replies. Nothing is replayed unless nothing was
  // sent, but for a script that the server does not know, which is healed.
  absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                  const CallLimits& limits);

  Channel& background() { return background_; }
  // Whether the background connection, as last made, gets messages.
  bool subscribed() const { return subscribed_.load(std::memory_order_relaxed); }
  Channel& shared() { return shared_; }
  int generation() { return shared_.generation(); }
  NodeRecord& record() { return record_; }
  const NodeRecord& record() const { return record_; }
  // As the server said when somebody last signed in.
  ServerFacts facts();
  // "db1:6379"; of one that is looked for, where it was found last.
  std::string name() const;
  const Clock& clock() const { return *options_.clock; }
  const NodeOptions& options() const { return options_; }

  // Breaks all connections. Whoever needs one makes it anew, wherever the server then is.
  void Disconnect(std::string_view why);
  void Close();
  // In a forked child, where no lock may be touched: lets go of the parent's connections.
  void CloseDescriptorsInChild();

 private:
  absl::StatusOr<std::shared_ptr<Connection>> Dial(const CallLimits& limits, bool background);
  absl::StatusOr<Approach> FindApproach(const CallLimits& limits, bool background);

  // Constant after construction.
  const NodeOptions options_;

  NodeRecord record_;
  ApproachFinder approach_;
  mutable Mutex mutex_;
  std::string name_ ABSL_GUARDED_BY(mutex_);
  ServerFacts facts_ ABSL_GUARDED_BY(mutex_);
  Handshake::Protocol protocol_ ABSL_GUARDED_BY(mutex_) = Handshake::Protocol::kResp3;

  std::atomic<std::uint32_t> calls_{0};
  std::atomic<bool> subscribed_{false};
  Channel shared_;
  Channel background_;
  Channel replicated_;  // made when first needed
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_NODE_H_
