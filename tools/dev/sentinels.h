// A master with replicas and the Sentinels that watch it, on this host.
//
//   absl::StatusOr<std::unique_ptr<dev::Sentinels>> sentinels = dev::Sentinels::Start();
//   Connect((*sentinels)->url());
//   const auto killed = (*sentinels)->KillMaster();
#ifndef COORD_TOOLS_DEV_SENTINELS_H_
#define COORD_TOOLS_DEV_SENTINELS_H_

#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/dev/place.h"
#include "tools/dev/server.h"

namespace coord::dev {

struct SentinelsOptions {
  std::size_t replicas = 2;
  std::size_t sentinels = 3;
  std::size_t quorum = 2;         // how many must find the master down
  std::string name = "mymaster";  // of letters, digits and ".-_"
  absl::Duration down_after = absl::Milliseconds(500);
  // Twice this is the least time between two failovers that the Sentinels begin by themselves.
  absl::Duration failover_timeout = absl::Seconds(2);
  bool tls = false;                     // servers, Sentinels and replication
  Credentials credentials{};            // of the servers
  std::string sentinel_password{};      // of the Sentinels, for clients and among themselves
  bool append_only = false;             // every write on disk before its reply
  std::vector<std::string> settings{};  // lines of every server's configuration
  absl::Duration start_timeout = absl::Seconds(60);
  std::stop_token stop{};  // gives up starting
};

// Servers have numbers, the first master 0, which stay theirs whatever their roles become;
// Sentinels have their own. Errors as Cluster's. One thread at a time.
class Sentinels {
 public:
  // Returns when WaitUntilOk() would, after some 3 s: the Sentinels find each other by messages
  // every 2 s.
  static absl::StatusOr<std::unique_ptr<Sentinels>> Start(SentinelsOptions options = {});

  // redis+sentinel://127.0.0.1:s0,127.0.0.1:s1,.../mymaster (rediss+sentinel:// and ?ca_file= with
  // TLS). Without the passwords.
  std::string url() const;
  std::string ca_file() const;  // empty without TLS
  std::size_t size() const { return servers_.size(); }
  std::size_t sentinels() const { return sentinels_.size(); }
  Server& server(std::size_t i) { return *servers_[i]; }
  Server& sentinel(std::size_t i) { return *sentinels_[i]; }

  // Whom the first Sentinel names that runs and is not paused. Right after a failover they may
  // differ; after WaitUntilOk() they do not.
  absl::StatusOr<std::size_t> master();

  // SIGKILL; the number of the one that was it. Another is promoted after `down_after` and an
  // election.
  absl::StatusOr<std::size_t> KillMaster();
  // It comes back as what it was. The Sentinels make a replica of a former master, about 10 s
  // later.
  absl::Status RestartNode(std::size_t i, Server::Data data = Server::Data::kKeep);
  // Has the Sentinels promote another while the master runs; returns when all of them name the new
  // one and it says so. The old one takes writes, to lose them, until they make it a replica, about
  // 10 s later: WaitUntilOk() waits for that.
  absl::Status Failover(absl::Duration timeout = absl::Seconds(30));

  // Waits until the Sentinels that run (paused ones are left out) agree on a master that runs and
  // says so, nobody fails over, and every other server that runs is its replica, linked, and known
  // to them all.
  absl::Status WaitUntilOk(absl::Duration timeout = absl::Seconds(30));

 private:
  explicit Sentinels(SentinelsOptions options) : options_(std::move(options)) {}
  absl::Status Build();
  absl::StatusOr<std::unique_ptr<Server>> StartServer(std::size_t number);
  absl::StatusOr<std::unique_ptr<Server>> StartSentinel();
  absl::Status CheckReplicas(std::size_t master) const;
  absl::Status CheckOk() const;
  absl::Status CheckSentinel(std::size_t i, std::size_t& master) const;
  absl::StatusOr<std::size_t> MasterOf(std::size_t sentinel) const;
  absl::StatusOr<std::size_t> FirstSentinel() const;

  const SentinelsOptions options_;
  std::unique_ptr<Place> place_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::unique_ptr<Server>> sentinels_;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_SENTINELS_H_
