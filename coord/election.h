// One of many processes leads, and the others know who.
//
//   coord::Election election(client, "scheduler");
//   absl::StatusOr<coord::Leadership> lead = election.Campaign("10.0.0.7:8080", absl::Minutes(1));
//   if (!lead.ok()) return lead.status();                        // IsBusy(): another leads
//   while (lead->valid()) Step(lead->term());                    // fenced by the term
//
//   absl::StatusOr<std::optional<coord::Leader>> leader = election.GetLeader();
//
// An election is the lock of its name, so it and a Mutex of the same name exclude each other; the
// term is the fencing token, and what Lease says of validity holds for leading: leadership ends at
// the leader's own deadline, before anyone else can win. Candidates are served in the order in
// which they asked.
#ifndef COORD_ELECTION_H_
#define COORD_ELECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"

namespace coord {

namespace internal {
class Cohort;
class ElectionProtocol;
}  // namespace internal

struct ElectionOptions {
  // How long a leader that vanishes is waited for; see MutexOptions::ttl.
  absl::Duration ttl = absl::Seconds(10);
};

// The leader as the server knew it.
struct Leader {
  FencingToken term;           // larger than that of every leader before
  std::uint64_t revision = 0;  // of the value, within the term: rises from 1
  std::string owner;           // as Lease::owner() has it
  std::string value;           // what the leader has published
  friend bool operator==(const Leader&, const Leader&) = default;
};

// The right to lead, as Lease is the right to a lock. Held by value, moved, never copied; all
// methods are thread-safe, except moving and destroying. The destructor resigns.
class Leadership {
 public:
  Leadership();  // none: not valid
  Leadership(Leadership&&) noexcept;
  Leadership& operator=(Leadership&&) noexcept;
  ~Leadership();

  FencingToken term() const { return lease_.token(); }
  // True while nobody else can lead. No I/O.
  bool valid() const { return lease_.valid(); }
  absl::Duration remaining() const { return lease_.remaining(); }
  // Stopped when leadership is lost; see Lease::stop_token. Not stopped by resigning.
  std::stop_token stop_token() const { return lease_.stop_token(); }
  const std::string& owner() const { return lease_.owner(); }

  // Publishes another value, for GetLeader and AwaitChange; at most 1 MiB. One round trip. IsLost
  // when somebody else leads, or nobody. Of calls at the same time the last one to begin wins.
  absl::Status Proclaim(std::string_view value, CallOptions options = {});

  // Steps down; the next candidate leads in the same round trip. As Lease::Release.
  absl::Status Resign(CallOptions options = {});

  // What stands behind it, for functions that take a lease. Good while this is not moved.
  Lease& lease() { return lease_; }

 private:
  friend class Election;
  struct Publishing;
  Leadership(Lease lease, std::unique_ptr<Publishing> publishing);

  Lease lease_;
  std::unique_ptr<Publishing> publishing_;
};

// Cheap to make; thread-safe. Never fails to be made; a bad name or option is reported by the
// calls, as kInvalidArgument.
class Election {
 public:
  Election(Client client, std::string_view name, ElectionOptions options = {});

  // Waits up to `timeout` to lead, and publishes `value` (at most 1 MiB); then kAborted (IsBusy).
  // Two round trips when nobody leads. As Mutex::Acquire; a failure to publish ends the leadership.
  absl::StatusOr<Leadership> Campaign(std::string_view value, absl::Duration timeout,
                                      std::stop_token stop = {}) const;

  // Who leads; nullopt while nobody does, or the winner has not published yet. One round trip;
  // writes nothing. A leader that is cut off is named until its ttl is over.
  absl::StatusOr<std::optional<Leader>> GetLeader(CallOptions options = {}) const;

  // Waits until the leader or its value is another than `known` (what this or GetLeader has
  // returned before; nullopt: nobody), up to `timeout`, and returns the present state: the same as
  // `known` at the timeout. No state that lasts is missed, what is over before it was asked for may
  // be. Woken by messages, and asks once a second at least; a leader that dies is seen when its ttl
  // is over. kCancelled at a stop. While the server cannot be reached it goes on waiting, and says
  // so (IsUnavailable) at the timeout.
  absl::StatusOr<std::optional<Leader>> AwaitChange(const std::optional<Leader>& known,
                                                    absl::Duration timeout,
                                                    std::stop_token stop = {}) const;

  const std::string& name() const { return name_; }

 private:
  Client client_;
  std::string name_;
  absl::Status usable_;
  std::shared_ptr<const internal::ElectionProtocol> lock_;
  std::shared_ptr<internal::Cohort> cohort_;
};

}  // namespace coord

#endif  // COORD_ELECTION_H_
