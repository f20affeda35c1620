// A Redis Cluster on this host, and what can happen to one.
//
//   absl::StatusOr<std::unique_ptr<dev::Cluster>> cluster = dev::Cluster::Start();
//   Connect((*cluster)->url());
//   absl::Status status = (*cluster)->MigrateSlot(slot, 2);
#ifndef COORD_TOOLS_DEV_CLUSTER_H_
#define COORD_TOOLS_DEV_CLUSTER_H_

#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/dev/cluster_view.h"
#include "tools/dev/place.h"
#include "tools/dev/server.h"

namespace coord::dev {

struct ClusterOptions {
  std::size_t masters = 3;
  std::size_t replicas = 1;                        // of each master
  absl::Duration node_timeout = absl::Seconds(1);  // silent for this long: failed
  bool full_coverage = true;  // with a slot that nobody serves, none is (the server's default)
  bool tls = false;           // the bus too
  Credentials credentials{};  // of clients, and of the nodes with each other
  bool append_only = false;   // every write on disk before its reply
  std::vector<std::string> settings{};  // lines of every node's configuration
  absl::Duration start_timeout = absl::Seconds(60);
  std::stop_token stop{};  // gives up starting
};

// Nodes have numbers: the masters of the start 0 to masters-1, then the replicas, those of master 0
// first; a number stays a node's whatever its role becomes. Errors: Unavailable,
// FailedPrecondition with what a server answered, DeadlineExceeded with what was not so yet,
// InvalidArgument for a slot or node that is not there. One thread at a time.
class Cluster {
 public:
  // Returns when WaitUntilOk() would: after about 3 s, most of which is what the servers wait
  // before they take writes.
  static absl::StatusOr<std::unique_ptr<Cluster>> Start(ClusterOptions options = {});

  // redis+cluster://127.0.0.1:p0,127.0.0.1:p1,... of all nodes (rediss+cluster:// and ?ca_file=
  // with TLS). Without the password.
  std::string url() const;
  std::string ca_file() const;  // empty without TLS
  std::size_t size() const { return nodes_.size(); }
  Server& node(std::size_t i) { return *nodes_[i]; }
  std::string id(std::size_t i) const { return ids_[i]; }

  // As the first node sees it that runs and is not paused. NotFound: nobody serves it.
  absl::StatusOr<std::size_t> master_of(int slot);
  // Of the replicas of `master`, all that are known.
  absl::StatusOr<std::vector<std::size_t>> replicas_of(std::size_t master);
  absl::StatusOr<bool> IsMaster(std::size_t i);  // as it says itself
  absl::StatusOr<int> slot_of(const std::string& key);

  // Moves a slot with its keys to the master `to`, all steps at once. Whoever kills a master after
  // that calls WaitUntilOk() before: what `to` has not told its replica yet would be lost with it.
  absl::Status MigrateSlot(int slot, std::size_t to);
  // The steps, in their order. From the second on clients are told ASK for keys that are not at
  // `from`, after the last one MOVED.
  absl::Status SetImporting(int slot, std::size_t from, std::size_t to);
  absl::Status SetMigrating(int slot, std::size_t from, std::size_t to);
  // How many keys it moved: at most `most`, or all.
  absl::StatusOr<std::size_t> MoveKeys(int slot, std::size_t from, std::size_t to,
                                       std::size_t most = std::size_t{0} - 1);
  // Tells `to` first, then the other masters that run.
  absl::Status SetOwner(int slot, std::size_t to);

  // Lets a replica take its running master's place, without loss; returns when all know.
  absl::Status Failover(std::size_t replica, absl::Duration timeout = absl::Seconds(30));

  void KillNode(std::size_t i) { nodes_[i]->Kill(); }
  // With the data kept it comes back as who it was, and becomes a replica if another has taken its
  // place. Dropped, it forgets the cluster and its own id too: a stranger until it is met again.
  absl::Status RestartNode(std::size_t i, Server::Data data = Server::Data::kKeep);
  // A master without slots that all know; its number.
  absl::StatusOr<std::size_t> AddEmptyMaster();

  // Waits until the nodes that run say cluster_state:ok, and the same of one another: all 16384
  // slots at masters that run, no one failing, every replica in step with its master. A node that
  // is paused is waited for to fail over.
  absl::Status WaitUntilOk(absl::Duration timeout = absl::Seconds(30));

 private:
  explicit Cluster(ClusterOptions options) : options_(std::move(options)) {}
  absl::Status Build();
  absl::Status StartNode();
  absl::Status Introduce(std::size_t first);
  absl::Status Known() const;
  absl::Status CheckOk() const;
  bool Up(std::size_t i) const { return nodes_[i]->Running() && !nodes_[i]->paused(); }
  absl::Status CheckNode(std::size_t i, std::string& view) const;
  absl::StatusOr<std::vector<ClusterNode>> View(std::size_t i) const;
  absl::StatusOr<std::vector<ClusterNode>> AnyView() const;
  std::size_t IndexOf(std::string_view id) const;  // size(): none
  absl::Status CheckArguments(int slot, std::size_t a, std::size_t b) const;

  const ClusterOptions options_;
  std::unique_ptr<Place> place_;
  std::vector<std::unique_ptr<Server>> nodes_;
  std::vector<std::string> ids_;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_CLUSTER_H_
