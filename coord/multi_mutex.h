// Several locks at once, all or none.
//
//   coord::MultiMutex accounts(client, {"account:7", "account:9"});
//   absl::StatusOr<coord::MultiLease> lease = accounts.Acquire(absl::Seconds(5));
//   if (!lease.ok()) return lease.status();
//   Transfer(lease->token("account:7"), lease->token("account:9"), lease->stop_token());
//
// Each name is the lock of the Mutex of that name.
#ifndef COORD_MULTI_MUTEX_H_
#define COORD_MULTI_MUTEX_H_

#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/lease.h"
#include "coord/mutex.h"

namespace coord {

// Held by value, moved, never copied; thread-safe, except moving and destroying. Renewed as each
// Lease is.
class MultiLease {
 public:
  MultiLease();  // no lease: not valid
  MultiLease(MultiLease&&) noexcept;
  MultiLease& operator=(MultiLease&&) noexcept;
  // Releases, waiting at most 1 s for the servers in all; what fails, the ttl frees.
  ~MultiLease();

  // True while nobody else can hold any of the locks.
  bool valid() const;
  // The least of them.
  absl::Duration remaining() const;
  // Stopped when any of them is lost; see Lease::stop_token.
  std::stop_token stop_token() const;
  // Of the lock of that name, the first if several deployments have one; 0 for a name that was not
  // asked for. Tokens of different names say nothing about each other.
  FencingToken token(std::string_view name) const;
  // One a lock, in the order in which they were given.
  std::span<const Lease> leases() const;

  // In turn; see Lease::Renew. Stops at the first failure.
  absl::Status Renew(absl::Duration ttl, CallOptions options = {});
  // Gives all back, one round trip each, whatever becomes of the others. Fails with the first
  // failure's code and names each lock that was lost or could not be given back; IsLost when any
  // was lost. OK on a repetition.
  absl::Status Release(CallOptions options = {});

 private:
  friend class MultiMutex;
  struct State;
  explicit MultiLease(std::vector<Lease> leases);

  std::unique_ptr<State> state_;
};

// Cheap to copy; thread-safe. Who takes several locks one after the other must take them in the
// same order as everybody else: this does, whatever the order in which they are given.
class MultiMutex {
 public:
  // 1 to 64 names, each once. Never fails and sends nothing; what breaks the rules is reported by
  // the calls below, as kInvalidArgument.
  MultiMutex(Client client, std::vector<std::string> names, MutexOptions options = {});
  // Of one or several deployments, in the order of their URLs' texts and then of their keys: all
  // who take the same locks must reach each deployment by the same URL, or may wait for each other
  // until their timeouts.
  explicit MultiMutex(std::vector<Mutex> mutexes);

  // All now or none. On one deployment one script and one round trip; else in turn, giving back
  // what was granted when one is not. kAborted (IsBusy), naming the first one that is held.
  absl::StatusOr<MultiLease> TryAcquire(CallOptions options = {}) const;

  // Tries all; when one is held, takes them in turn, waiting for each as Mutex::Acquire does, up to
  // `timeout` for all together; those it has meanwhile are held and renewed. When one fails, what
  // was granted is given back and its status returned. IsLost when an earlier one was lost while a
  // later one was waited for.
  absl::StatusOr<MultiLease> Acquire(absl::Duration timeout, std::stop_token stop = {}) const;

 private:
  absl::StatusOr<MultiLease> InTurn(absl::Duration timeout, bool wait,
                                    const CallOptions& options) const;
  absl::StatusOr<MultiLease> AtOnce(const CallOptions& options) const;

  std::vector<Mutex> mutexes_;
  std::vector<std::size_t> order_;  // in which they are taken
  absl::Status usable_;
  bool one_script_ = false;  // one deployment, the same options
};

}  // namespace coord

#endif  // COORD_MULTI_MUTEX_H_
