// The way to one deployment: a server, a group that Sentinels lead, a Cluster, or an embedded
// server of this machine.
//
//   absl::StatusOr<coord::Client> client = coord::Client::Connect("embedded://");
//   if (!client.ok()) return client.status();
//   absl::StatusOr<coord::Reply> reply = client->Command({"GET", "greeting"});
//
// A Client is a cheap handle: copy it, and use it from any thread. All copies share one connection
// to each server, on which callers take turns, and one background thread, which starts with the
// first lease or wait, with health checks, and at once where Sentinels are listened to. The last
// copy to go closes all of it. After fork(), a child must connect for itself: there, every call
// fails with kFailedPrecondition and nothing is sent.
#ifndef COORD_CLIENT_H_
#define COORD_CLIENT_H_

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/health.h"
#include "coord/options.h"
#include "coord/reply.h"
#include "coord/script.h"

namespace coord {

namespace internal {
class Session;
struct ClientAccess;
}  // namespace internal

class Pipeline;

class Client {
 public:
  // Connects and signs in, in one round trip. `url`:
  //   redis://[[user]:[password]@]host[:port][/db]
  //   redis+sentinel://[user:password@]host:port,host:port/master[/db]
  //   redis+cluster://[user:password@]host:port,host:port
  //   rediss://, rediss+sentinel://, rediss+cluster://   the same over TLS
  //   unix:///path[?db=N]
  //   embedded://              one server per user of this machine, started on demand, kept
  //   embedded:///path/dir     one of its own, kept in that directory
  //   embedded://?private      one that keeps nothing and ends with this process
  // An empty `url` means $COORD_URL, else "embedded://".
  // Fails with kInvalidArgument (the URL or an option), kUnavailable (nobody there, or no server
  // program to start), kUnauthenticated, kPermissionDenied. One attempt; waits up to
  // connect_timeout, also for a server that is still reading its data.
  static absl::StatusOr<Client> Connect(std::string_view url = {}, ClientOptions options = {});

  // Runs any command, such as {"SET", "key", "value"}; one round trip. An error reply comes back as
  // a status. What could not be sent because the connection was down is tried again until the
  // timeout; what was sent and not answered never is (IsOutcomeUnknown). Refused with
  // kInvalidArgument: what would block the shared connection or change its state for others (BLPOP,
  // WAIT, MULTI, SELECT, SUBSCRIBE, MONITOR, HELLO, ...).
  absl::StatusOr<Reply> Command(std::span<const std::string_view> args,
                                CallOptions options = {}) const;
  absl::StatusOr<Reply> Command(std::initializer_list<std::string_view> args,
                                CallOptions options = {}) const;

  // Runs a script of your own; one round trip, a second one where the server does not have it yet.
  // `script` must outlive the call.
  absl::StatusOr<Reply> Run(const Script& script, std::span<const std::string_view> keys,
                            std::span<const std::string_view> args, CallOptions options = {}) const;
  absl::StatusOr<Reply> Run(const Script& script, std::initializer_list<std::string_view> keys,
                            std::initializer_list<std::string_view> args,
                            CallOptions options = {}) const;

  // Runs all commands of the pipeline in one round trip and returns one reply each, in order. A
  // command that the server refuses is a reply of kind kError and does not stop the others; they
  // are not a transaction.
  absl::StatusOr<std::vector<Reply>> Execute(const Pipeline& pipeline,
                                             CallOptions options = {}) const;

  // Asks each server how it is: those that hold keys, and the replicas and Sentinels that are
  // known. Never fails as a whole: what is wrong is said in the result. Two round trips to each,
  // one server after another, within the timeout for all.
  coord::Health Health(CallOptions options = {}) const;

  // Breaks all connections and makes new ones, with credentials asked for anew: when they have
  // changed, say, or a name leads elsewhere. Calls that are under way fail as when a connection
  // breaks; leases are kept and verified. OK: the deployment was reached again.
  absl::Status Reconnect(CallOptions options = {}) const;

  // Ends the connections; running calls fail, leases are told that they are lost. Waits a moment
  // (300 ms at most) for what is owed to others: an acquire that was given up is taken back.
  // Idempotent. Later calls: kFailedPrecondition.
  void Close() const;

  // For people: the URL, with its password hidden.
  std::string ToString() const;
  const ClientOptions& options() const;

 private:
  friend struct internal::ClientAccess;
  explicit Client(std::shared_ptr<internal::Session> session) : session_(std::move(session)) {}

  std::shared_ptr<internal::Session> session_;
};

// Commands to be sent together. A plain value; not thread-safe while it is being filled.
class Pipeline {
 public:
  Pipeline& Add(std::span<const std::string_view> args);
  Pipeline& Add(std::initializer_list<std::string_view> args);
  // `script` must outlive the execution.
  Pipeline& Add(const Script& script, std::initializer_list<std::string_view> keys,
                std::initializer_list<std::string_view> args);
  std::size_t size() const { return steps_.size(); }

 private:
  friend class Client;
  struct Step {
    std::vector<std::string> args;
    const Script* script = nullptr;
    std::size_t keys = 0;  // how many of args are keys
  };
  std::vector<Step> steps_;
};

}  // namespace coord

#endif  // COORD_CLIENT_H_
