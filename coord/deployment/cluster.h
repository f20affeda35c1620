// A Redis Cluster: one Node for each of its servers, and which of them serves which slot.
//
// Calls go to the master of their keys' slot and follow MOVED, ASK, TRYAGAIN and CLUSTERDOWN within
// their time, with a limit of hops (Redis Cluster specification, "Redirection and resharding").
// What serves what is asked anew by the background thread, one question at a time, with backoff,
// when a redirection or a failure shows that it has changed. An address that the Cluster's own list
// does not have is never connected to: credentials go to nobody that a redirection alone has named.
#ifndef COORD_DEPLOYMENT_CLUSTER_H_
#define COORD_DEPLOYMENT_CLUSTER_H_

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "coord/deployment/cluster_topology.h"
#include "coord/deployment/deployment.h"
#include "coord/deployment/ear.h"
#include "coord/deployment/node.h"
#include "coord/deployment/request_route.h"
#include "coord/deployment/url.h"
#include "coord/internal/jitter.h"
#include "coord/internal/sync.h"

namespace coord::internal {

class Cluster final : public Deployment {
 public:
  // `data` is how to deal with the Cluster's servers, but for where they are.
  static absl::StatusOr<std::unique_ptr<Deployment>> Make(const Url& url, std::string prefix,
                                                          NodeOptions data);
  ~Cluster() override;

  // Reads who serves what from the first server that says it.
  absl::Status Connect(const CallLimits& limits) override;
  void Start(Background& background, absl::Duration patience) override;

  // What is refused locally (keys in several slots, a command for all masters): kInvalidArgument.
  absl::StatusOr<Reply> Execute(Request& request, const CallLimits& limits,
                                CallTrace* trace) override;
  absl::StatusOr<Node::Acknowledged> ExecuteReplicated(Request& request, const Replicas& replicas,
                                                       const CallLimits& limits,
                                                       CallTrace* trace) override;
  // One pipeline to each master that is needed, all at once. What is redirected is sent again, one
  // after another, so commands that share a slot keep their order except where that slot moves.
  absl::StatusOr<std::vector<Reply>> ExecuteBatch(std::span<Request> requests,
                                                  const CallLimits& limits) override;

  Node& Main() override { return *Masters().front(); }
  std::vector<Node*> Masters() override;
  std::vector<Node*> Serving() override;
  std::vector<Node*> AllNodes() override;
  absl::Status Refresh(const CallLimits& limits) override;
  std::shared_ptr<Ear> EarOf(std::string_view tag, bool make) override;
  std::string ChannelOf(std::string_view tag) const override;
  void OnPush(const Reply& push) override;

  Node* NodeFor(const Request& request) override;
  Node* Follow(Node& from, Request& request, std::string_view error) override;
  void Unreached(Node& node) override;

  void Close() override;
  void CloseDescriptorsInChild() override;

 private:
  class Refresher;

  Cluster(std::vector<HostPort> seeds, std::string prefix, bool tls, NodeOptions data);

  // The node of that address, made when there is none. Nodes live as long as this.
  Node& NodeAt(const HostPort& address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static HostPort AddressOf(const Node& node) {
    return {node.options().endpoint.host, node.options().endpoint.port};
  }
  absl::StatusOr<Topology> Fetch(Node& node, const CallLimits& limits);
  // Believes the first of them that says who serves what.
  absl::Status LearnFrom(const std::vector<Node*>& sources, const CallLimits& limits);
  Request TopologyRequest() const;
  absl::StatusOr<Topology> ReadTopology(const Reply& reply, const Node& asked) const;
  // True when it is news.
  bool Install(const Topology& topology);
  // Those that can be asked who serves what: the others know better than one that they have as
  // failed.
  std::vector<Node*> Witnesses();
  // Somebody has found that what we know is not so.
  void Stale();
  // Until something else is known, or `most` has passed. False when the limits ended it.
  bool AwaitNews(int version, const CallLimits& limits, absl::Duration most);
  int version();

  absl::StatusOr<Route> RouteOrAsk(const Request& request, const CallLimits& limits);
  absl::StatusOr<Route> AskServer(const Request& request, const CallLimits& limits);
  // Null: nobody serves that slot, as far as we know.
  Node* Pick(const Route& route);
  Node* AnyMaster();
  // Null: the address is not one of the Cluster's.
  Node* Learn(const Redirect& redirect);
  Attempt TryAll(Request& request, const CallLimits& limits, CallProgress& progress,
                 const Replicas& replicas);

  // Constant after construction; Start adds the rest.
  const std::vector<HostPort> seeds_;
  const std::string prefix_;
  const bool tls_;
  const NodeOptions data_;
  Background* background_ = nullptr;
  absl::Duration patience_;
  std::shared_ptr<Refresher> refresher_;

  // Read on each call, without a lock.
  std::array<std::atomic<Node*>, kSlots> owner_{};
  std::atomic<bool> use_slots_{false};  // CLUSTER SLOTS: the server has no CLUSTER SHARDS
  std::atomic<bool> sharded_channels_{false};
  std::atomic<unsigned> next_master_{0};
  // The first of nodes_, for a forked child, which may take no lock.
  std::array<std::atomic<Node*>, kMostClusterNodes> all_{};
  std::atomic<std::size_t> made_{0};

  Mutex mutex_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::unique_ptr<Node>> nodes_ ABSL_GUARDED_BY(mutex_);
  Topology topology_ ABSL_GUARDED_BY(mutex_);
  std::vector<Node*> masters_ ABSL_GUARDED_BY(mutex_);
  std::vector<Node*> others_ ABSL_GUARDED_BY(mutex_);
  std::vector<Node*> failed_ ABSL_GUARDED_BY(mutex_);  // of others_
  // That redirections have led to, though they were no masters when who serves what was read last.
  std::vector<Node*> guests_ ABSL_GUARDED_BY(mutex_);
  int version_ ABSL_GUARDED_BY(mutex_) = 0;

  Mutex ears_mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<ShardEar>> ears_ ABSL_GUARDED_BY(ears_mutex_);
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_CLUSTER_H_
