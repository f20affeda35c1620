// What the doctor makes of several servers that belong together, and what it all amounts to for
// locks. Pure, as findings.h.
#ifndef COORD_TOOLS_DEPLOYMENT_FINDINGS_H_
#define COORD_TOOLS_DEPLOYMENT_FINDINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/findings.h"
#include "tools/server_facts.h"

namespace coord::tools {

// Of one node: all that Judge() said.
struct NodeFindings {
  std::string node;  // "db1:6379"
  std::vector<Finding> findings;
};

// The findings of all nodes, in the order of the first one's: once where they agree, else with the
// nodes they are of in front. Where all is well with all, one stands for them.
std::vector<Finding> Merge(const std::vector<NodeFindings>& nodes);

// A node that is no master: a replica or a Sentinel, or one that holds keys and did not answer.
struct OtherNode {
  std::string node;
  std::string problem;  // empty: it is well
};

struct ClusterFacts {
  std::optional<Fields> info;  // CLUSTER INFO
  Fields config;
  bool tls = false;               // clients use it
  std::vector<std::string> bare;  // masters without a replica
  std::size_t masters = 0;
  std::vector<OtherNode> replicas;
};
std::vector<Finding> JudgeCluster(const ClusterFacts& facts);

struct SentinelView {
  std::string node;
  std::string problem;           // why it did not answer; empty: it did
  std::optional<Fields> master;  // SENTINEL MASTER
};
struct SentinelFacts {
  std::string name;  // of the master
  std::vector<SentinelView> sentinels;
  std::vector<OtherNode> replicas;
  bool tls = false;
  Fields config;  // of the master
};
std::vector<Finding> JudgeSentinels(const SentinelFacts& facts);

// What a deployment is, as far as its promises depend on it.
struct Setting {
  enum class Kind { kServer, kEmbedded, kSentinel, kCluster, kQuorum };
  Kind kind = Kind::kServer;
  std::optional<bool> append_only;  // of all; unset: not known
  std::int64_t replicas = 0;
  std::size_t servers = 1;
  bool tls = false;
};
// What it does and does not guarantee, a line each: locks, tokens, counters and lists.
std::vector<std::string> Guarantees(const Setting& setting);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEPLOYMENT_FINDINGS_H_
