// Private: what the kinds of lock ask of the server, and what it answers. One object a lock name,
// shared by all who deal with it.
#ifndef COORD_LOCK_LOCK_PROTOCOL_H_
#define COORD_LOCK_LOCK_PROTOCOL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/reply.h"
#include "coord/wire/request.h"

namespace coord::internal {

class Session;

// A waiter's place in a queue, in the server's words.
struct Place {
  absl::Duration claim;      // how long a grant may be believed before its taker has been heard
  std::string_view channel;  // where the grant is announced
  std::string ticket = "0";  // "0" before the first question, "1" when that may have been asked
  std::string alive = "0";   // the entry says that it is dead after this
};

// What the server answers to a question for a lock.
struct LockAnswer {
  enum class Kind { kGranted, kHeld, kWithdrawn };
  Kind kind = Kind::kHeld;
  std::uint64_t token = 0;  // kGranted
  absl::Duration left;      // of the lease that was granted, or of the one in the way
  std::string holder;       // kHeld: who, without marks
  // kHeld, to one who waits:
  std::string ticket;
  std::string alive;
  std::uint64_t last_token = 0;
};

absl::StatusOr<LockAnswer> ReadLockAnswer(std::string_view script, const Reply& reply);

// The lease key's value without the marks for those who wait.
std::string_view WithoutMarks(std::string_view value);
// For people: "host:1234", or "readers".
std::string HolderLabel(std::string_view holder);

// Constant, thread-safe.
class LockProtocol {
 public:
  struct Keys {
    std::string lease, fence, queue, readers;
  };

  LockProtocol(std::string name, Keys keys) : name_(std::move(name)), keys_(std::move(keys)) {}
  virtual ~LockProtocol() = default;

  // For messages: "mutex".
  virtual std::string_view what() const = 0;
  // Without a place: asks, and never waits. A question for a place "0" is no retry-safe request.
  virtual Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const = 0;
  virtual Request Renew(std::string_view owner, absl::Duration ttl) const = 0;
  // Gives back tokens that were set aside and not used, after `last_used` up to `last_reserved`.
  struct Unused {
    std::uint64_t last_used, last_reserved;
  };
  virtual Request Release(std::string_view owner, const std::optional<Unused>& unused) const = 0;
  // Lets go of what is held or waited for, whatever it is, and refuses late duplicates for `memory`
  // if that is above zero.
  virtual Request Withdraw(std::string_view owner, absl::Duration memory) const;
  // Sets tokens aside for threads of one process to pass the lease on; a lock that nobody holds
  // alone has none.
  virtual std::optional<Request> Reserve(std::string_view owner, int count) const;
  Request Inspect() const;
  // `owner` empty: whoever has it.
  Request Evict(std::string_view owner) const;
  // For the message to one who did not get it: what the answer said is in the way.
  virtual std::string Taken(std::string_view holder, absl::Duration left) const;
  // Whether a newcomer may take a free lock past those who wait; it then waits to be told that the
  // lock is free, not to be given it.
  virtual bool barging() const { return false; }
  // Whether another process can take a lease of it over, by Adopt.
  virtual bool detachable() const { return false; }

  const std::string& name() const { return name_; }
  const Keys& keys() const { return keys_; }

 private:
  const std::string name_;
  const Keys keys_;
};

// The keys of the lock of that name, or what is wrong with the name; `what` for the message.
absl::StatusOr<LockProtocol::Keys> LockKeys(const Session& session, std::string_view what,
                                            std::string_view name);

// A lock as mutex_inspect found it.
struct LockView {
  struct Waiter {
    std::string owner;
    char kind = 'w';       // as in lua/include/lock_queue.lua
    absl::Time since;      // by the server's clock
    absl::Duration alive;  // for how long it counts as alive without another sign; negative: dead
  };
  struct Reader {
    std::string owner;
    absl::Duration left;
  };
  std::string holder;  // without marks; empty: nobody
  absl::Duration left;
  std::uint64_t last_token = 0;
  absl::Time now;  // by the server's clock
  std::vector<Waiter> waiters;
  std::vector<Reader> readers;
};

absl::StatusOr<LockView> ReadLockView(const Reply& reply);

// The one who is alone.
class MutexProtocol : public LockProtocol {
 public:
  MutexProtocol(std::string name, Keys keys, bool barging)
      : LockProtocol(std::move(name), std::move(keys)), barging_(barging) {}

  std::string_view what() const override { return "mutex"; }
  Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const override;
  Request Renew(std::string_view owner, absl::Duration ttl) const override;
  Request Release(std::string_view owner, const std::optional<Unused>& unused) const override;
  std::optional<Request> Reserve(std::string_view owner, int count) const override;
  bool barging() const override { return barging_; }
  bool detachable() const override { return true; }

 private:
  const bool barging_;
};

// One of the readers of the lock whose writers are MutexProtocol's.
class ReaderProtocol final : public LockProtocol {
 public:
  using LockProtocol::LockProtocol;

  std::string_view what() const override { return "rw mutex"; }
  Request Ask(std::string_view owner, absl::Duration ttl, const Place* place) const override;
  Request Renew(std::string_view owner, absl::Duration ttl) const override;
  Request Release(std::string_view owner, const std::optional<Unused>& unused) const override;
};

}  // namespace coord::internal

#endif  // COORD_LOCK_LOCK_PROTOCOL_H_
