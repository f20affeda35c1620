// Several independent servers that vote: a lock that outlives the loss of a minority of them.
//
//   const std::string urls[] = {"redis://a", "redis://b", "redis://c"};
//   absl::StatusOr<coord::Quorum> quorum = coord::Quorum::Connect(urls);
//   if (!quorum.ok()) return quorum.status();
//   coord::Mutex mutex(*quorum, "deploy", {.ttl = absl::Seconds(10)});
//
// The servers know nothing of each other: no replicas, no Cluster. A lease is granted by a majority
// of them within its validity, and its token is a ballot that a majority has stored, so tokens rise
// whatever minority fails, with its data or without.
//
// A server that comes back may have forgotten what it granted, so it does not vote until every
// lease that it may have forgotten is over: for max_ttl + clock_tolerance after the first client
// has seen it. That holds for the servers of a new deployment too, unless DeclareNew has been run.
//
// It rests on this: the clocks of the servers agree within clock_tolerance and do not step; no more
// than a minority forgets within one quarantine; nobody deletes keys or evicts them
// (maxmemory-policy is noeviction, which is checked).
#ifndef COORD_QUORUM_H_
#define COORD_QUORUM_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/options.h"

namespace coord {

namespace internal {
class QuorumCore;
struct QuorumAccess;
}  // namespace internal

struct QuorumOptions {
  // The longest lease; longer ones are refused. A server that was restarted does not vote for so
  // long, plus the tolerance. Belongs to the deployment: the servers keep it, and refuse clients
  // with another. 20 ms to 1 h, in whole milliseconds.
  absl::Duration max_ttl = absl::Seconds(30);
  // By how much clocks may differ: those of servers among each other, and a client's ahead of a
  // server's. Belongs to the deployment as max_ttl does. 1 ms to 1 h, in whole milliseconds.
  absl::Duration clock_tolerance = absl::Seconds(15);
  // How long to wait for a server before going on without it; never more than a quarter of a
  // lease's time to live. Above zero, at most 1 h.
  absl::Duration server_timeout = absl::Seconds(1);
  // The calendar from which ballots are made. Need not be right: one that is behind costs a round
  // trip, one that is ahead by more than clock_tolerance is refused. Thread-safe.
  std::function<absl::Time()> calendar = absl::Now;
};

// A cheap handle: copy it, and use it from any thread. The last copy to go closes the connections.
class Quorum {
 public:
  // Connects to all, at once. 3 to 31 servers; an odd number, since a fourth server tolerates no
  // more losses than three do. Succeeds as soon as a majority is there and the others have answered
  // or had server_timeout for it; those are connected when they come. Fails with kInvalidArgument
  // (a URL, an option, the same server twice), kFailedPrecondition (a Cluster, a server that
  // evicts, other settings), kUnavailable (no majority within connect_timeout), kUnauthenticated,
  // kPermissionDenied.
  static absl::StatusOr<Quorum> Connect(std::span<const std::string> urls,
                                        ClientOptions client_options = {},
                                        QuorumOptions options = {});

  // Declares a new deployment, so that its servers vote at once; all must be reachable. Only before
  // anything was ever granted there: a server that was restarted looks like a new one, and
  // declaring it new may give a lock to two. Refused with kFailedPrecondition when a server carries
  // a marker that does not vote yet with these settings, unless `force`, which may also change the
  // settings and needs that no lease is held and no client connected. Idempotent otherwise. Two
  // round trips.
  static absl::Status DeclareNew(std::span<const std::string> urls,
                                 ClientOptions client_options = {}, QuorumOptions options = {},
                                 bool force = false);

  // As Client::Close, for each server.
  void Close() const;

  std::size_t size() const;
  // For people: how to reach each, with passwords hidden.
  std::string ToString() const;
  const QuorumOptions& options() const;

 private:
  friend struct internal::QuorumAccess;
  explicit Quorum(std::shared_ptr<internal::QuorumCore> core) : core_(std::move(core)) {}

  std::shared_ptr<internal::QuorumCore> core_;
};

}  // namespace coord

#endif  // COORD_QUORUM_H_
