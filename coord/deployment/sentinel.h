// A group of servers that Redis Sentinels watch: the master is where they say it is.
#ifndef COORD_DEPLOYMENT_SENTINEL_H_
#define COORD_DEPLOYMENT_SENTINEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/deployment/standalone.h"
#include "coord/deployment/url.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// What a Sentinel says of a master.
struct MasterReport {
  Endpoint endpoint;
  // Rises with each failover; of two reports the one with the higher is the newer
  // ("Configuration epochs" in the Sentinel documentation).
  std::int64_t epoch = 0;
};

// Of the answer to SENTINEL MASTER; `sentinel` for messages.
absl::StatusOr<MasterReport> ReadMasterReport(const Reply& reply, std::string_view sentinel);

// Of a "+switch-master" message, "<master> <old ip> <old port> <new ip> <new port>": where it has
// gone, if it is about that master.
std::optional<Endpoint> ReadSwitch(std::string_view text, std::string_view master);

class SentinelGroup final : public Standalone {
 public:
  // `data` is how to deal with the group's servers, but for where they are.
  static absl::StatusOr<std::unique_ptr<Deployment>> Make(const Url& url, NodeOptions data);

  void Start(Background& background, absl::Duration patience) override;
  std::vector<Node*> AllNodes() override;
  void Close() override;
  void CloseDescriptorsInChild() override;

 private:
  class Watch;
  // Shared with what the node asks, which it gets before we are made.
  struct Group {
    explicit Group(std::string name) : master(std::move(name)) {}
    const std::string master;
    // Constant after Make.
    std::vector<std::unique_ptr<Node>> sentinels;
    std::function<void(const Endpoint&)> on_move;
    Mutex mutex;
    std::optional<MasterReport> known ABSL_GUARDED_BY(mutex);
    std::size_t first ABSL_GUARDED_BY(mutex) = 0;  // whom to ask first: who answered last

    // Asks until a majority has answered or all were asked, and believes the newest answer.
    absl::StatusOr<Endpoint> Find(const CallLimits& limits);
    absl::StatusOr<Endpoint> Known();
    // False when it is older than what is known. Calls on_move, with no lock held, when the master
    // is somewhere else than was known.
    bool Learn(const MasterReport& report);
  };

  SentinelGroup(std::shared_ptr<Group> group, NodeOptions data);
  void Switched(const Endpoint& to);

  const std::shared_ptr<Group> group_;
  // Constant after Start.
  Background* background_ = nullptr;
  std::shared_ptr<Watch> watch_;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_SENTINEL_H_
