// Private: script calls to several servers at once.
#ifndef COORD_LOCK_QUORUM_CALL_H_
#define COORD_LOCK_QUORUM_CALL_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/lock/quorum_core.h"
#include "coord/lock/quorum_vote.h"
#include "coord/wire/request.h"
#include "coord/wire/wait_any.h"

namespace coord::internal {

// Where a server of the quorum keeps a lock.
struct QuorumKeys {
  std::string lease;
  std::string fence;
  std::string hints;  // who waits
};

// A vote for `owner`; with a `listener` (see QuorumWaiter), who wants to be told when the lock that
// another has is released.
Request QuorumAcquireRequest(const QuorumKeys& keys, std::string_view marker,
                             std::string_view owner, absl::Duration ttl, Ballot ballot,
                             std::string_view settings, const std::string* listener);

// One call in flight to one server, with all that must stay in place meanwhile. Destroying it lets
// go of the reply.
class QuorumCall {
 public:
  enum class Kind { kAcquire, kBirth, kRelease };

  QuorumCall(std::size_t server, Kind kind, Ballot ballot, std::shared_ptr<Connection> connection,
             std::shared_ptr<const Request> request, absl::Time sent);
  ~QuorumCall();
  QuorumCall(const QuorumCall&) = delete;
  QuorumCall& operator=(const QuorumCall&) = delete;

  std::size_t server() const { return server_; }
  Kind kind() const { return kind_; }
  Ballot ballot() const { return ballot_; }
  absl::Time sent() const { return sent_; }
  const std::shared_ptr<Connection>& connection() const { return connection_; }
  const std::shared_ptr<const Request>& request() const { return request_; }
  Exchange& exchange() { return exchange_; }

  bool done() const { return exchange_.done(); }
  // Takes what has come without waiting for more; true when it is done.
  bool Look();
  // Once done: the answer, an error reply as a status.
  absl::StatusOr<Reply> Result(const std::string& name);
  // Once done: it failed with its connection.
  bool broke() const { return !exchange_.status().ok(); }
  bool not_sent() const { return exchange_.not_sent(); }
  // Once done: the server does not know the script.
  bool NeedsText() const;

 private:
  const std::size_t server_;
  const Kind kind_;
  const Ballot ballot_;
  const std::shared_ptr<Connection> connection_;
  const std::shared_ptr<const Request> request_;
  const absl::Time sent_;
  Reply reply_;
  Exchange exchange_;
};

// Calls under way, of which one thread takes whichever is answered next.
class FanOut {
 public:
  explicit FanOut(QuorumCore& core) : core_(core) { any_.emplace(); }

  const std::shared_ptr<Bell>& bell() { return any_->bell(); }
  // Hands it over; never waits.
  void Send(std::size_t server, QuorumCall::Kind kind, Ballot ballot,
            std::shared_ptr<Connection> connection, std::shared_ptr<const Request> request);
  // As WaitAny::Next. A script that the server has forgotten is sent anew with its text.
  WaitAny::Result Next(const CallLimits& limits, QuorumCall** call);

  // Ends it: the calls that are not done, in order of sending.
  std::vector<std::unique_ptr<QuorumCall>> TakeStragglers();

 private:
  QuorumCore& core_;
  std::vector<std::unique_ptr<QuorumCall>> calls_;
  std::optional<WaitAny> any_;  // goes before the calls
};

}  // namespace coord::internal

#endif  // COORD_LOCK_QUORUM_CALL_H_
