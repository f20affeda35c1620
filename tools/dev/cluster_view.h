// What one node of a Redis Cluster says about all of them: the text of CLUSTER NODES, read.
#ifndef COORD_TOOLS_DEV_CLUSTER_VIEW_H_
#define COORD_TOOLS_DEV_CLUSTER_VIEW_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coord::dev {

struct ClusterNode {
  std::string id;
  std::string flags;                        // "myself,master"
  std::string master;                       // id; empty for a master
  std::string epoch;                        // of its configuration
  std::vector<std::pair<int, int>> ranges;  // first and last slot
  bool Has(std::string_view flag) const;    // one of the words of `flags`
  int slots() const;
};

// Slots on their way to another node count for the one they are still owned by.
std::vector<ClusterNode> ReadClusterNodes(std::string_view text);

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_CLUSTER_VIEW_H_
