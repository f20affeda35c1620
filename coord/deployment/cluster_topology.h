// Who serves which slot of a Redis Cluster, as one of its nodes tells it. Pure.
// Source: the Redis Cluster specification and the reference of CLUSTER SLOTS, CLUSTER SHARDS and of
// the MOVED and ASK errors.
#ifndef COORD_DEPLOYMENT_CLUSTER_TOPOLOGY_H_
#define COORD_DEPLOYMENT_CLUSTER_TOPOLOGY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/deployment/slot.h"
#include "coord/deployment/url.h"
#include "coord/reply.h"

namespace coord::internal {

using ClusterAddress = HostPort;

inline constexpr std::uint16_t kNobody = 0xffff;
// Far above what a Cluster can have in practice; a reply with more is refused.
inline constexpr std::size_t kMostClusterNodes = 1000;

struct Topology {
  std::vector<ClusterAddress> masters;  // each of those that own a slot, once
  // kSlots entries: which of `masters` owns the slot, or kNobody.
  std::vector<std::uint16_t> owner = std::vector<std::uint16_t>(kSlots, kNobody);
  // Replicas, and masters without slots, each once and none that is in `masters`: an ASK may name
  // them, and they too can be asked for the topology. Sorted; `masters` is in the order of their
  // first slots; so two nodes that see the same Cluster give equal topologies.
  std::vector<ClusterAddress> others;
  // Those of `others` that the Cluster has found to have failed, which only SHARDS says; sorted.
  std::vector<ClusterAddress> failed = {};

  int covered() const;  // how many slots have an owner
  friend bool operator==(const Topology&, const Topology&) = default;
};

// Of the answer to CLUSTER SLOTS or CLUSTER SHARDS, over RESP2 or RESP3, of the node at `asked`.
//
// An address without a host is on the host that was asked. A node whose host is "?" (it shall be
// known by a name that it does not have) is left out, and its slots are nobody's until a MOVED says
// more; so is one that SHARDS shows without a port of the wanted kind. `tls` takes a node's
// tls-port, else its port. CLUSTER SLOTS needs no such choice: a node names the ports of the kind
// it is asked through.
//
// A slot that is claimed twice, which a node's own view never says but a patched one might, goes to
// the later claim, as the one that is more often right of a Cluster in change; but a master that
// SHARDS calls failed never takes a slot from another. A wrong guess costs one MOVED. Of several
// masters of a shard the first that is online is the owner, if none is the first, and the others
// are in `others`.
//
// kDataLoss says what was not as documented, a port outside [1, 65535], a slot outside [0, kSlots)
// or more than kMostClusterNodes nodes; an error of the server becomes the status of ServerError.
absl::StatusOr<Topology> ReadClusterSlots(const Reply& reply, const ClusterAddress& asked);
absl::StatusOr<Topology> ReadClusterShards(const Reply& reply, const ClusterAddress& asked,
                                           bool tls);

struct Redirect {
  bool ask = false;  // this command only, behind ASKING; else the slot has moved
  int slot = 0;
  ClusterAddress to;
  friend bool operator==(const Redirect&, const Redirect&) = default;
};

// Of an error's text, without the '-': "MOVED 3999 127.0.0.1:6381". IPv6 literals may have brackets
// or not. An empty host is the one of `from`, the node that sent the error. Nothing for any other
// error, for a malformed one, and for the host "?", which the node cannot name either.
std::optional<Redirect> ReadRedirect(std::string_view error, const ClusterAddress& from);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_CLUSTER_TOPOLOGY_H_
