// What a Client is a handle to: one deployment, the way to it, and what runs behind it.
#ifndef COORD_DEPLOYMENT_SESSION_H_
#define COORD_DEPLOYMENT_SESSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "coord/client.h"
#include "coord/deployment/background.h"
#include "coord/deployment/deployment.h"
#include "coord/deployment/embedded.h"
#include "coord/deployment/key_watch.h"
#include "coord/deployment/node.h"
#include "coord/deployment/pulse.h"
#include "coord/deployment/url.h"
#include "coord/deployment/wakes.h"
#include "coord/internal/sync.h"
#include "coord/internal/worker.h"
#include "coord/options.h"

namespace coord::internal {

// What a session does differently that is one of a quorum's.
struct SessionRole {
  // Made from the options as the URL has changed them.
  std::function<Greeting(const ClientOptions& options)> greeting;
  // Connects when it is first used, so that opening it succeeds though the server is down.
  bool connect_later = false;
};

class Session {
 public:
  static absl::StatusOr<std::shared_ptr<Session>> Open(std::string_view url, ClientOptions options,
                                                       const SessionRole& role = {});
  ~Session();

  // See Node. With CallOptions, checks them and fills in the default time.
  absl::StatusOr<Reply> Execute(Request request, const CallOptions& options,
                                CallTrace* trace = nullptr);
  absl::StatusOr<Reply> Execute(Request request, const CallLimits& limits,
                                CallTrace* trace = nullptr);
  absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                  const CallOptions& options);
  absl::StatusOr<Node::Acknowledged> ExecuteReplicated(Request request, const Replicas& replicas,
                                                       const CallLimits& limits,
                                                       CallTrace* trace = nullptr);
  absl::StatusOr<CallLimits> Limits(const CallOptions& options) const;

  // OK, or why no call can be made: closed, or a forked child's copy.
  absl::Status Usable() const;
  bool forked() const;

  // `<prefix>{<name>}:<part>`; InvalidArgument for a name that breaks the rules (`what` for the
  // message: "mutex").
  absl::StatusOr<std::string> Key(std::string_view what, std::string_view name,
                                  std::string_view part) const;

  // How messages about the object of that name reach this process.
  std::shared_ptr<Ear> EarOf(std::string_view name) { return deployment_->EarOf(name); }
  // Whether they do at present.
  bool Listens(std::string_view name) {
    const std::shared_ptr<Ear> ear = deployment_->EarOf(name, /*make=*/false);
    return ear != nullptr && ear->listening();
  }
  // Where the server's scripts wake those of this process who wait for it.
  std::string ChannelOf(std::string_view name) const { return deployment_->ChannelOf(name); }
  Wakes& wakes() { return *wakes_; }
  // Changes to keys, for local copies.
  KeyWatch& key_watch() { return *key_watch_; }

  // The one object of this key that all users of the session share; made by `make` when there is
  // none. It lives as long as somebody has it.
  std::shared_ptr<void> Shared(const std::string& key,
                               const std::function<std::shared_ptr<void>()>& make);

  // Runs user code somewhere else than on the background thread.
  void Post(std::function<void()> task);

  void Close();

  const ClientOptions& options() const { return options_; }
  const Url& url() const { return url_; }
  const Clock& clock() const { return *options_.clock; }
  // What all calls go to; the only node of a deployment that has one.
  Deployment& deployment() { return *deployment_; }
  Node& node() { return deployment_->Main(); }
  // Breaks all connections and makes new ones, with credentials that are asked for anew.
  absl::Status Reconnect(const CallLimits& limits);
  Background& background() { return *background_; }

 private:
  Session(Url url, ClientOptions options);
  absl::Status Start(const SessionRole& role);
  absl::StatusOr<std::unique_ptr<Deployment>> MakeDeployment(NodeOptions node);
  void Happened(const NodeEvent& event);

  // Constant after Open.
  const Url url_;
  const ClientOptions options_;
  const std::uint64_t fork_generation_;
  std::unique_ptr<Wakes> wakes_;
  std::unique_ptr<PrivateServer> private_server_;
  std::unique_ptr<Deployment> deployment_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Worker> errands_;  // what may take long before a server can be dialled
  std::unique_ptr<KeyWatch> key_watch_;
  std::unique_ptr<Background> background_;
  std::shared_ptr<Pulse> pulse_;

  std::atomic<bool> open_{false};
  std::atomic<bool> closed_{false};

  // A forked child leaves it alone: it may have been caught in the middle of a change.
  struct SharedObjects {
    Mutex mutex;
    absl::flat_hash_map<std::string, std::weak_ptr<void>> by_key ABSL_GUARDED_BY(mutex);
    std::size_t sweep_at ABSL_GUARDED_BY(mutex) = 64;  // when to look for those that are gone
  };
  std::unique_ptr<SharedObjects> shared_ = std::make_unique<SharedObjects>();
};

// How the library's own parts reach what is behind a Client.
Session& SessionOf(const Client& client);
std::shared_ptr<Session> SharedSessionOf(const Client& client);
Client ClientOf(std::shared_ptr<Session> session);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_SESSION_H_
