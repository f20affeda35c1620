#include "coord/deployment/cluster_topology.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "coord/deployment/server_error.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

bool IsText(const Reply& reply) {
  return reply.kind() == Reply::Kind::kString || reply.kind() == Reply::Kind::kStatus ||
         reply.kind() == Reply::Kind::kVerbatim;
}

// What a map holds under `name`: of RESP3, or of RESP2, where it is an array that alternates.
const Reply* Field(const Reply& map, std::string_view name) {
  if (map.kind() != Reply::Kind::kMap && !map.is_array()) return nullptr;
  const std::span<const Reply> items = map.items();
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    if (IsText(items[i]) && items[i].text() == name) return &items[i + 1];
  }
  return nullptr;
}

// Collects one topology; `source` names the command in messages.
class Builder {
 public:
  explicit Builder(std::string_view source) : source_(source) {}

  absl::Status Wrong(std::string_view what, const Reply& where) const {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat(source_, ": ", what, ": ", where.ToDebugString(128)));
  }

  // What `host` means, or nothing for a node that has no known one. `host` may be null.
  static std::optional<std::string> Host(const Reply* host, const ClusterAddress& asked) {
    if (host == nullptr || host->is_nil() || host->text().empty()) return asked.host;
    if (host->text() == "?") return std::nullopt;
    return host->text();
  }

  absl::StatusOr<std::uint16_t> Port(const Reply& port) const {
    if (!port.is_integer() || port.integer() < 1 || port.integer() > 65535) {
      return Wrong("a port outside [1, 65535]", port);
    }
    return static_cast<std::uint16_t>(port.integer());
  }

  struct Range {
    int first;
    int last;
  };
  absl::StatusOr<Range> Slots(const Reply& first, const Reply& last) {
    if (!first.is_integer() || !last.is_integer() || first.integer() < 0 ||
        last.integer() < first.integer() || last.integer() >= kSlots) {
      return Wrong(StrCat("slots outside [0, ", kSlots, ") or in no order"),
                   Reply::Items(Reply::Kind::kArray, {first, last}));
    }
    // Each range may cover all slots, so their number has to be bounded too.
    if (++ranges_ > kSlots) return Wrong("more ranges than slots", first);
    return Range{static_cast<int>(first.integer()), static_cast<int>(last.integer())};
  }

  // False: too many.
  bool Know(const ClusterAddress& node) {
    Index(node);
    return nodes_.size() <= kMostClusterNodes;
  }
  absl::Status TooMany() const {
    return MakeStatus(absl::StatusCode::kDataLoss,
                      StrCat(source_, ": more than ", kMostClusterNodes, " nodes"));
  }

  void Fail(const ClusterAddress& node) { failed_.insert(Index(node)); }

  void Own(Range range, const ClusterAddress& master, bool online) {
    const std::uint16_t index = Index(master);
    for (auto slot = static_cast<std::size_t>(range.first);
         slot <= static_cast<std::size_t>(range.last); ++slot) {
      if (online || topology_.owner[slot] == kNobody) topology_.owner[slot] = index;
    }
  }

  // Who owns nothing after all is one of the others.
  Topology Finish() {
    std::vector<std::uint16_t> masters(nodes_.size(), kNobody);
    for (std::uint16_t& owner : topology_.owner) {
      if (owner == kNobody) continue;
      if (masters[owner] == kNobody) {
        masters[owner] = static_cast<std::uint16_t>(topology_.masters.size());
        topology_.masters.push_back(nodes_[owner]);
      }
      owner = masters[owner];
    }
    for (const auto& [address, index] : indices_) {
      if (masters[index] != kNobody) continue;
      topology_.others.push_back(nodes_[index]);
      if (failed_.contains(index)) topology_.failed.push_back(nodes_[index]);
    }
    return std::move(topology_);
  }

 private:
  std::uint16_t Index(const ClusterAddress& node) {
    const auto [found, added] =
        indices_.try_emplace({node.host, node.port}, static_cast<std::uint16_t>(nodes_.size()));
    if (added) nodes_.push_back(node);
    return found->second;
  }

  const std::string_view source_;
  std::vector<ClusterAddress> nodes_;  // never more than kMostClusterNodes + 1
  std::map<std::pair<std::string, std::uint16_t>, std::uint16_t> indices_;
  Topology topology_;  // its owners count in nodes_ until Finish
  std::set<std::uint16_t> failed_;
  int ranges_ = 0;
};

// One node of CLUSTER SHARDS.
struct ShardNode {
  ClusterAddress address;
  bool master = false;
  bool online = false;
  bool failed = false;
};

absl::StatusOr<std::optional<ShardNode>> ReadShardNode(const Builder& builder, const Reply& reply,
                                                       const ClusterAddress& asked, bool tls) {
  const Reply* const role = Field(reply, "role");
  if (role == nullptr || !IsText(*role)) return builder.Wrong("a node without a role", reply);
  // The endpoint is what the Cluster is configured to be known by; older servers have ip alone.
  const Reply* const endpoint = Field(reply, "endpoint");
  const std::optional<std::string> host =
      Builder::Host(endpoint != nullptr ? endpoint : Field(reply, "ip"), asked);
  const Reply* port = tls ? Field(reply, "tls-port") : nullptr;
  if (port == nullptr) port = Field(reply, "port");
  std::optional<ShardNode> node;
  if (!host || port == nullptr) return node;
  const absl::StatusOr<std::uint16_t> number = builder.Port(*port);
  if (!number.ok()) return number.status();
  const Reply* const health = Field(reply, "health");
  node = ShardNode{{*host, *number},
                   role->text() == "master" || role->text() == "primary",
                   health == nullptr || health->text() == "online",
                   health != nullptr && health->text().starts_with("fail")};
  return node;
}

}  // namespace

int Topology::covered() const {
  return static_cast<int>(owner.size()) -
         static_cast<int>(std::count(owner.begin(), owner.end(), kNobody));
}

absl::StatusOr<Topology> ReadClusterSlots(const Reply& reply, const ClusterAddress& asked) {
  Builder builder("CLUSTER SLOTS");
  if (reply.is_error()) return ServerError(reply.text(), "CLUSTER SLOTS");
  if (!reply.is_array()) return builder.Wrong("no array", reply);
  for (const Reply& entry : reply.items()) {
    const std::span<const Reply> items = entry.items();
    if (!entry.is_array() || items.size() < 3) {
      return builder.Wrong("not a range of slots with its nodes", entry);
    }
    const absl::StatusOr<Builder::Range> range = builder.Slots(items[0], items[1]);
    if (!range.ok()) return range.status();
    for (std::size_t i = 2; i < items.size(); ++i) {
      const std::span<const Reply> node = items[i].items();
      if (!items[i].is_array() || node.size() < 2 || (!node[0].is_nil() && !IsText(node[0]))) {
        return builder.Wrong("not a node's host and port", items[i]);
      }
      const absl::StatusOr<std::uint16_t> port = builder.Port(node[1]);
      if (!port.ok()) return port.status();
      const std::optional<std::string> host = Builder::Host(&node[0], asked);
      if (!host) continue;
      const ClusterAddress address{*host, *port};
      if (!builder.Know(address)) return builder.TooMany();
      if (i == 2) builder.Own(*range, address, true);
    }
  }
  return builder.Finish();
}

absl::StatusOr<Topology> ReadClusterShards(const Reply& reply, const ClusterAddress& asked,
                                           bool tls) {
  Builder builder("CLUSTER SHARDS");
  if (reply.is_error()) return ServerError(reply.text(), "CLUSTER SHARDS");
  if (!reply.is_array()) return builder.Wrong("no array", reply);
  for (const Reply& shard : reply.items()) {
    const Reply* const slots = Field(shard, "slots");
    const Reply* const nodes = Field(shard, "nodes");
    if (slots == nullptr || nodes == nullptr || !slots->is_array() || !nodes->is_array() ||
        slots->items().size() % 2 != 0) {
      return builder.Wrong("not a shard with its slots and nodes", shard);
    }
    std::optional<ShardNode> master;
    for (const Reply& item : nodes->items()) {
      absl::StatusOr<std::optional<ShardNode>> node = ReadShardNode(builder, item, asked, tls);
      if (!node.ok()) return node.status();
      if (!node->has_value()) continue;
      if (!builder.Know((*node)->address)) return builder.TooMany();
      if ((*node)->failed) builder.Fail((*node)->address);
      if (!(*node)->master) continue;
      if (!master || (!master->online && (*node)->online)) master = **std::move(node);
    }
    for (std::size_t i = 0; i < slots->items().size(); i += 2) {
      const absl::StatusOr<Builder::Range> range =
          builder.Slots(slots->items()[i], slots->items()[i + 1]);
      if (!range.ok()) return range.status();
      if (master) builder.Own(*range, master->address, master->online);
    }
  }
  return builder.Finish();
}

std::optional<Redirect> ReadRedirect(std::string_view error, const ClusterAddress& from) {
  constexpr std::string_view kMoved = "MOVED ";
  constexpr std::string_view kAsk = "ASK ";
  Redirect redirect;
  if (error.substr(0, kMoved.size()) == kMoved) {
    error.remove_prefix(kMoved.size());
  } else if (error.substr(0, kAsk.size()) == kAsk) {
    error.remove_prefix(kAsk.size());
    redirect.ask = true;
  } else {
    return std::nullopt;
  }
  const std::size_t space = error.find(' ');
  if (space == error.npos) return std::nullopt;
  const std::optional<std::int64_t> slot = ParseInt64(error.substr(0, space));
  if (!slot || *slot < 0 || *slot >= kSlots) return std::nullopt;
  redirect.slot = static_cast<int>(*slot);

  const std::string_view address = error.substr(space + 1);
  const std::size_t colon = address.rfind(':');
  if (colon == address.npos) return std::nullopt;
  const std::optional<std::int64_t> port = ParseInt64(address.substr(colon + 1));
  if (!port || *port < 1 || *port > 65535) return std::nullopt;
  redirect.to.port = static_cast<std::uint16_t>(*port);

  std::string_view host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (host.empty()) return std::nullopt;
  }
  if (host == "?" || host.find_first_of(" []\r\n") != host.npos) return std::nullopt;
  redirect.to.host = host.empty() ? from.host : std::string(host);
  return redirect;
}

}  // namespace coord::internal
