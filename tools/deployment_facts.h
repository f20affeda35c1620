// What a deployment consists of, asked at its nodes one by one: for `coord health` and `coord
// doctor`.
#ifndef COORD_TOOLS_DEPLOYMENT_FACTS_H_
#define COORD_TOOLS_DEPLOYMENT_FACTS_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/health.h"
#include "tools/program.h"

namespace coord::tools {

enum class Kind { kServer, kEmbedded, kSentinel, kCluster, kQuorum };
std::string_view KindName(Kind kind);  // "server", "embedded", "sentinel", "cluster", "quorum"
Kind KindOf(const Client& client);

// Whether the connections are encrypted, and whether the certificates are looked at.
struct Encrypted {
  bool tls = false;
  bool insecure = false;
};
Encrypted EncryptionOf(const Client& client);
// "mymaster"; empty where no Sentinel leads.
std::string MasterName(const Client& client);

// One node, asked over the client's own connection to it.
struct NodeAccess {
  std::string name;    // "db1:6379"
  bool needed = true;  // it holds keys
  // Retried where that is safe: only for commands that change nothing.
  std::function<absl::StatusOr<Reply>(const std::vector<std::string>& words)> ask;
  std::function<absl::StatusOr<std::vector<Reply>>(
      const std::vector<std::vector<std::string>>& commands)>
      ask_all;
};
// The nodes in the order of Client::Health(). Valid as long as the client.
std::vector<NodeAccess> NodesOf(const Client& client);

// The replicas that the Sentinels know, as the first of them that answers says; nothing of other
// deployments. One round trip.
std::vector<NodeHealth> ReplicasBySentinels(const Client& client);

// Whether a server of a quorum votes, by its marker (see lua/quorum_birth.lua), its run id and its
// clock in microseconds. Unavailable, with the reason, when it does not.
absl::Status JudgeVote(std::string_view marker, std::string_view run_id, std::int64_t now_us);
absl::Status AskVote(const Client& client);

// One client for each URL of the command line: several only of a quorum.
absl::StatusOr<Client> ConnectOne(const Program& program, const std::string& url,
                                  ClientOptions options = {});
// `url` for people, whether or not it makes sense: without what may be a password.
std::string ShownUrl(const std::string& url);
// What was tried, without what is secret in it.
std::string Tried(const Program& program);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEPLOYMENT_FACTS_H_
