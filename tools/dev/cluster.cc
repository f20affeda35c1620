#include "tools/dev/cluster.h"

#include <algorithm>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/dev/wait_until.h"

namespace coord::dev {
namespace {

using internal::StrCat;

constexpr int kSlots = 16384;
// For looking: who does not answer in this time is asked again.
constexpr absl::Duration kLook = absl::Seconds(2);

absl::Status AsStatus(const absl::StatusOr<Reply>& reply) { return reply.status(); }

std::string SlotText(int slot) { return StrCat(slot); }

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Start(ClusterOptions options) {
  if (options.masters < 1) return internal::InvalidArgument("a cluster needs a master");
  absl::StatusOr<std::unique_ptr<Place>> place = Place::Make(options.tls);
  if (!place.ok()) return place.status();
  std::unique_ptr<Cluster> cluster(new Cluster(std::move(options)));
  cluster->place_ = *std::move(place);
  if (absl::Status status = cluster->Build(); !status.ok()) return status;
  return cluster;
}

absl::Status Cluster::StartNode() {
  ServerOptions server;
  server.credentials = options_.credentials;
  server.append_only = options_.append_only;
  server.settings = {
      "cluster-enabled yes",
      "cluster-config-file nodes.conf",
      "cluster-announce-ip 127.0.0.1",
      StrCat("cluster-node-timeout ", absl::ToInt64Milliseconds(options_.node_timeout)),
      StrCat("cluster-require-full-coverage ", options_.full_coverage ? "yes" : "no"),
      "repl-diskless-sync yes",
      "repl-diskless-sync-delay 0"};
  if (options_.tls)
    server.settings.insert(server.settings.end(), {"tls-cluster yes", "tls-replication yes"});
  server.settings.insert(server.settings.end(), options_.settings.begin(), options_.settings.end());
  absl::StatusOr<std::unique_ptr<Server>> started = place_->Start(std::move(server));
  if (!started.ok()) return started.status();
  nodes_.push_back(*std::move(started));
  absl::StatusOr<Reply> id = nodes_.back()->Ask({"CLUSTER", "MYID"});
  ids_.push_back(id.ok() ? id->text() : "");
  return id.status();
}

absl::Status Cluster::Build() {
  const std::size_t masters = options_.masters;
  for (std::size_t i = 0; i < masters * (1 + options_.replicas); ++i) {
    if (options_.stop.stop_requested()) return absl::CancelledError("stopped");
    if (absl::Status status = StartNode(); !status.ok()) return status;
  }
  for (std::size_t i = 0; i < masters; ++i) {
    // Different from the start: equal ones would be resolved one at a time, later.
    std::vector<std::string> add = {"CLUSTER", "ADDSLOTS"};
    const auto bound = [masters](std::size_t k) { return static_cast<int>(kSlots * k / masters); };
    for (int slot = bound(i); slot < bound(i + 1); ++slot) add.push_back(SlotText(slot));
    for (const auto& words : {{"CLUSTER", "SET-CONFIG-EPOCH", StrCat(i + 1)}, add}) {
      if (absl::Status status = AsStatus(nodes_[i]->Ask(words)); !status.ok()) return status;
    }
  }
  if (absl::Status status = Introduce(0); !status.ok()) return status;
  for (std::size_t i = masters; i < size(); ++i) {
    const std::string& master = ids_[(i - masters) / options_.replicas];
    absl::Status status = AsStatus(nodes_[i]->Ask({"CLUSTER", "REPLICATE", master}));
    if (!status.ok()) return status;
  }
  return WaitUntilOk(options_.start_timeout);
}

// Each pair by itself: gossip alone would take its time.
absl::Status Cluster::Introduce(std::size_t first) {
  for (std::size_t i = first; i < size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (!Up(i) || !Up(k)) continue;
      absl::Status status =
          AsStatus(nodes_[i]->Ask({"CLUSTER", "MEET", "127.0.0.1", StrCat(nodes_[k]->port())}));
      if (!status.ok()) return status;
    }
  }
  return WaitUntil("nodes that know each other", options_.start_timeout, options_.stop,
                   [this] { return Known(); });
}

absl::Status Cluster::Known() const {
  for (std::size_t i = 0; i < size(); ++i) {
    if (!Up(i)) continue;
    absl::StatusOr<std::vector<ClusterNode>> view = View(i);
    if (!view.ok()) return view.status();
    for (std::size_t k = 0; k < size(); ++k) {
      const bool known = std::any_of(view->begin(), view->end(), [&](const ClusterNode& node) {
        return node.id == ids_[k] && !node.Has("handshake");
      });
      if (Up(k) && !known) return NotYet("node ", i, " does not know node ", k);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ClusterNode>> Cluster::View(std::size_t i) const {
  absl::StatusOr<Reply> nodes = nodes_[i]->Ask({"CLUSTER", "NODES"}, kLook);
  if (!nodes.ok()) return nodes.status();
  return ReadClusterNodes(nodes->text());
}

absl::StatusOr<std::vector<ClusterNode>> Cluster::AnyView() const {
  for (std::size_t i = 0; i < size(); ++i) {
    if (Up(i)) return View(i);
  }
  return internal::MakeStatus(absl::StatusCode::kUnavailable, "no node runs");
}

std::size_t Cluster::IndexOf(std::string_view id) const {
  return static_cast<std::size_t>(std::find(ids_.begin(), ids_.end(), id) - ids_.begin());
}

// OK when all is well as node `i` sees it; `view` is that, for comparing.
absl::Status Cluster::CheckNode(std::size_t i, std::string& view) const {
  absl::StatusOr<Reply> info = nodes_[i]->Ask({"CLUSTER", "INFO"}, kLook);
  if (!info.ok()) return info.status();
  if (info->text().find("cluster_state:ok") == std::string::npos) {
    return NotYet("node ", i, " does not say cluster_state:ok");
  }
  absl::StatusOr<std::vector<ClusterNode>> nodes = View(i);
  if (!nodes.ok()) return nodes.status();
  std::vector<std::string> lines;
  int slots = 0;
  for (const ClusterNode& node : *nodes) {
    const std::size_t k = IndexOf(node.id);
    if (k == size() || !Up(k)) continue;  // a former self of one, or stopped
    if (node.Has("handshake") || node.Has("fail") || node.Has("fail?") || node.Has("noaddr")) {
      return NotYet("node ", i, " says of node ", k, ": ", node.flags);
    }
    slots += node.slots();
    // The epochs too: a replica that does not know its master's cannot replace it.
    std::string line = node.master.empty() ? StrCat(k, " master, epoch ", node.epoch)
                                           : StrCat(k, " replica of ", node.master);
    for (const auto& [first, last] : node.ranges) line += StrCat(" ", first, "-", last);
    lines.push_back(std::move(line));
    if (k != i || node.master.empty()) continue;
    const absl::StatusOr<std::string> link = nodes_[i]->Info("replication", "master_link_status");
    if (!link.ok()) return link.status();
    if (*link != "up") return NotYet("node ", i, " has no link to its master");
  }
  if (slots != kSlots) return NotYet("node ", i, " knows masters of ", slots, " slots");
  std::sort(lines.begin(), lines.end());
  view.clear();
  for (const std::string& line : lines) view += line + "\n";
  return absl::OkStatus();
}

absl::Status Cluster::CheckOk() const {
  if (absl::Status known = Known(); !known.ok()) return known;
  std::string first;
  for (std::size_t i = 0; i < size(); ++i) {
    if (!Up(i)) continue;
    std::string view;
    if (absl::Status status = CheckNode(i, view); !status.ok()) return status;
    if (first.empty()) first = view;
    if (view != first) return NotYet("node ", i, " sees:\n", view, "another:\n", first);
  }
  return first.empty() ? NotYet("no node runs") : absl::OkStatus();
}

absl::Status Cluster::WaitUntilOk(absl::Duration timeout) {
  return WaitUntil("cluster", timeout, options_.stop, [this] { return CheckOk(); });
}

std::string Cluster::url() const {
  std::string hosts;
  for (const auto& node : nodes_) {
    hosts += StrCat(hosts.empty() ? "" : ",", "127.0.0.1:", node->port());
  }
  return StrCat(options_.tls ? "rediss" : "redis", "+cluster://", hosts, place_->Query());
}

std::string Cluster::ca_file() const { return options_.tls ? place_->tls()->ca_file : ""; }

absl::Status Cluster::CheckArguments(int slot, std::size_t a, std::size_t b) const {
  if (slot < 0 || slot >= kSlots) return internal::InvalidArgument(StrCat("no slot ", slot));
  if (a < size() && b < size()) return absl::OkStatus();
  return internal::InvalidArgument(StrCat("no node ", std::max(a, b)));
}

absl::StatusOr<std::size_t> Cluster::master_of(int slot) {
  absl::StatusOr<std::vector<ClusterNode>> view = AnyView();
  if (!view.ok()) return view.status();
  for (const ClusterNode& node : *view) {
    for (const auto& [first, last] : node.ranges) {
      const std::size_t i = IndexOf(node.id);
      if (first <= slot && slot <= last && i < size()) return i;
    }
  }
  return internal::MakeStatus(absl::StatusCode::kNotFound, StrCat("nobody serves slot ", slot));
}

absl::StatusOr<std::vector<std::size_t>> Cluster::replicas_of(std::size_t master) {
  absl::StatusOr<std::vector<ClusterNode>> view = AnyView();
  if (!view.ok()) return view.status();
  std::vector<std::size_t> replicas;
  for (const ClusterNode& node : *view) {
    const std::size_t i = IndexOf(node.id);
    if (i < size() && node.master == ids_[master]) replicas.push_back(i);
  }
  std::sort(replicas.begin(), replicas.end());
  return replicas;
}

absl::StatusOr<bool> Cluster::IsMaster(std::size_t i) {
  absl::StatusOr<std::string> role = nodes_[i]->Info("replication", "role");
  if (!role.ok()) return role.status();
  return *role == "master";
}

absl::StatusOr<int> Cluster::slot_of(const std::string& key) {
  for (std::size_t i = 0; i < size(); ++i) {
    if (!Up(i)) continue;
    absl::StatusOr<Reply> slot = nodes_[i]->Ask({"CLUSTER", "KEYSLOT", key});
    if (!slot.ok()) return slot.status();
    return static_cast<int>(slot->integer());
  }
  return internal::MakeStatus(absl::StatusCode::kUnavailable, "no node runs");
}

absl::Status Cluster::SetImporting(int slot, std::size_t from, std::size_t to) {
  if (absl::Status status = CheckArguments(slot, from, to); !status.ok()) return status;
  return AsStatus(nodes_[to]->Ask({"CLUSTER", "SETSLOT", SlotText(slot), "IMPORTING", ids_[from]}));
}

absl::Status Cluster::SetMigrating(int slot, std::size_t from, std::size_t to) {
  if (absl::Status status = CheckArguments(slot, from, to); !status.ok()) return status;
  return AsStatus(nodes_[from]->Ask({"CLUSTER", "SETSLOT", SlotText(slot), "MIGRATING", ids_[to]}));
}

absl::StatusOr<std::size_t> Cluster::MoveKeys(int slot, std::size_t from, std::size_t to,
                                              std::size_t most) {
  constexpr std::size_t kBatch = 100;
  if (absl::Status status = CheckArguments(slot, from, to); !status.ok()) return status;
  std::size_t moved = 0;
  while (moved < most) {
    absl::StatusOr<Reply> keys = nodes_[from]->Ask(
        {"CLUSTER", "GETKEYSINSLOT", SlotText(slot), StrCat(std::min(kBatch, most - moved))});
    if (!keys.ok()) return keys.status();
    if (keys->items().empty()) break;
    std::vector<std::string> words = {"MIGRATE", "127.0.0.1", StrCat(nodes_[to]->port()),
                                      "",        "0",         "5000"};
    const auto& [user, password] = options_.credentials;
    if (!password.empty() && user.empty()) words.insert(words.end(), {"AUTH", password});
    if (!user.empty()) words.insert(words.end(), {"AUTH2", user, password});
    words.emplace_back("KEYS");
    for (const Reply& key : keys->items()) words.push_back(key.text());
    absl::Status status = AsStatus(nodes_[from]->Ask(words));
    if (!status.ok()) return status;
    moved += keys->items().size();
  }
  return moved;
}

absl::Status Cluster::SetOwner(int slot, std::size_t to) {
  if (absl::Status status = CheckArguments(slot, to, to); !status.ok()) return status;
  const std::vector<std::string> words = {"CLUSTER", "SETSLOT", SlotText(slot), "NODE", ids_[to]};
  // The new owner first: were it the last, a redirection could go in a circle.
  absl::Status status = AsStatus(nodes_[to]->Ask(words));
  for (std::size_t i = 0; i < size() && status.ok(); ++i) {
    if (i == to || !Up(i)) continue;
    const absl::StatusOr<bool> master = IsMaster(i);
    if (!master.ok()) return master.status();
    if (*master) status = AsStatus(nodes_[i]->Ask(words));
  }
  return status;
}

absl::Status Cluster::MigrateSlot(int slot, std::size_t to) {
  const absl::StatusOr<std::size_t> from = master_of(slot);
  if (!from.ok()) return from.status();
  if (*from == to) return absl::OkStatus();
  if (absl::Status status = SetImporting(slot, *from, to); !status.ok()) return status;
  if (absl::Status status = SetMigrating(slot, *from, to); !status.ok()) return status;
  const absl::StatusOr<std::size_t> moved = MoveKeys(slot, *from, to);
  if (!moved.ok()) return moved.status();
  return SetOwner(slot, to);
}

absl::Status Cluster::Failover(std::size_t replica, absl::Duration timeout) {
  if (absl::Status status = CheckArguments(0, replica, replica); !status.ok()) return status;
  absl::Status asked = AsStatus(nodes_[replica]->Ask({"CLUSTER", "FAILOVER"}));
  if (!asked.ok()) return asked;
  return WaitUntil("failover", timeout, options_.stop, [&]() -> absl::Status {
    const absl::StatusOr<bool> master = IsMaster(replica);
    if (!master.ok()) return master.status();
    if (!*master) return NotYet("node ", replica, " is no master");
    return CheckOk();
  });
}

absl::Status Cluster::RestartNode(std::size_t i, Server::Data data) {
  if (absl::Status status = nodes_[i]->Restart(data); !status.ok()) return status;
  absl::StatusOr<Reply> id = nodes_[i]->Ask({"CLUSTER", "MYID"});
  if (id.ok()) ids_[i] = id->text();
  return id.status();
}

absl::StatusOr<std::size_t> Cluster::AddEmptyMaster() {
  const std::size_t i = size();
  if (absl::Status status = StartNode(); !status.ok()) return status;
  if (absl::Status status = Introduce(i); !status.ok()) return status;
  if (absl::Status status = WaitUntilOk(options_.start_timeout); !status.ok()) return status;
  return i;
}

}  // namespace coord::dev
