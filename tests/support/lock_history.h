// What processes did with a lock and what they were promised, written down by each of them and
// judged together afterwards.
//
//   LockHistoryWriter history(directory, worker);                    // in each process
//   const auto asked = history.AcquireBegins(mutex.name(), timeout);
//   absl::StatusOr<Lease> lease = mutex.Acquire(timeout);
//   history.AcquireEnds(asked, lease);
//   ...
//   history.Look(asked, *lease);                                     // how long it is promised now
//   history.ReleaseBegins(asked);
//   history.ReleaseEnds(asked, lease->Release());
//
//   const LockVerdict verdict = CheckLockHistory(ReadLockHistory(directory), {.ttl = ttl});
//   EXPECT_THAT(verdict.violations, IsEmpty()) << verdict.Summary();
#ifndef COORD_TESTS_SUPPORT_LOCK_HISTORY_H_
#define COORD_TESTS_SUPPORT_LOCK_HISTORY_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/lease.h"
#include "tests/support/sockets.h"

namespace coord::testing {

// CLOCK_BOOTTIME, on which leases are judged; the same in all processes of a machine. Nanoseconds.
std::int64_t BootNanos();

enum class AcquireResult {
  kOpen,  // it never returned
  kGranted,
  kBusy,       // its timeout
  kCancelled,  // its stop token
  kUnknown,    // it may or may not have been applied
  kFailed,     // anything else
};

enum class ReleaseResult {
  kOpen,
  kReleased,
  kLost,  // it had been lost before
  kUnknown,
  kFailed,
};

// One Acquire, and the lease that came of it. Times are BootNanos().
struct Acquisition {
  int worker = 0;
  pid_t process = 0;
  std::string name{};
  absl::Duration timeout{};
  std::int64_t invoked = 0;
  std::optional<std::int64_t> completed{};
  AcquireResult result = AcquireResult::kOpen;
  // When granted. Promised: as of the last look, so a renewal since then is not counted on.
  std::uint64_t token = 0;
  std::int64_t promised_until = 0;
  std::optional<std::int64_t> release_invoked{};
  std::optional<std::int64_t> release_completed{};
  ReleaseResult release_result = ReleaseResult::kOpen;
};

// What the test did to a process.
struct ProcessFault {
  enum class Kind { kKilled, kStopped, kContinued };
  Kind kind = Kind::kKilled;
  pid_t process = 0;
  std::int64_t at = 0;
};

struct LockHistory {
  std::vector<Acquisition> acquisitions{};
  std::vector<ProcessFault> faults{};
  std::int64_t end = 0;  // of the last line; what is open is open until then
};

// Each line is one write() into a file of the writer's own, so a process may be killed at any
// moment. For the process that made it, not for its children; one thread at a time.
class LockHistoryWriter {
 public:
  LockHistoryWriter(const std::string& directory, int worker);

  // Returns what the acquisition is called below. `name` has no blanks.
  std::int64_t AcquireBegins(std::string_view name, absl::Duration timeout);
  void AcquireEnds(std::int64_t acquisition, const absl::StatusOr<Lease>& lease);
  void Look(std::int64_t acquisition, const Lease& lease);
  void ReleaseBegins(std::int64_t acquisition);
  void ReleaseEnds(std::int64_t acquisition, const absl::Status& status);

  // For one who lies about it.
  void Granted(std::int64_t acquisition, std::uint64_t token, std::int64_t promised_until);

  // Write these before the process is killed or stopped, and after it goes on.
  void Killed(pid_t process);
  void Stopped(pid_t process);
  void Continued(pid_t process);

 private:
  void Write(const std::string& line);

  const int worker_;
  const UniqueFd file_;
  std::int64_t last_ = 0;
};

// All files of `directory` together. A torn last line is no line.
LockHistory ReadLockHistory(const std::string& directory);

struct LockPromises {
  absl::Duration ttl{};
  absl::Duration backstop = absl::Seconds(1);  // what a lost message may cost
  // How many leases in a row may have to run out before somebody is served: two, when the holder
  // and the one granted after it may be hit before anybody has noticed the first.
  int expiries = 1;
  absl::Duration slack = absl::Seconds(2);  // for a loaded machine
  // False where the server was made to forget: then leases may overlap, and only the tokens order
  // their holders.
  bool exclusive = true;

  absl::Duration MaxWait() const { return backstop + expiries * ttl + slack; }
};

struct LockViolation {
  enum class Kind {
    kOverlap,  // two leases valid at once
    kToken,    // a later holder has no larger token
    kLate,     // an Acquire that went on beyond its timeout
    kEarly,    // an Acquire that gave up before its timeout
    kWait,     // waited for longer than anybody should, served or not
    kIdle,     // the lock was not held for too long while somebody waited
  };
  Kind kind = Kind::kOverlap;
  std::string what{};
};
std::ostream& operator<<(std::ostream& out, const LockViolation& violation);

struct LockVerdict {
  std::vector<LockViolation> violations{};
  int grants = 0;
  int timeouts = 0;
  int others = 0;  // cancelled, unknown, failed, open
  // How often somebody began while another, whose lease was over, still worked: what would have
  // gone wrong without leases.
  int work_overlaps = 0;
  absl::Duration longest_wait{};  // without the time for which the process was stopped
  absl::Duration longest_idle{};
  std::map<int, int> shares{};  // grants by worker

  std::string Summary() const;
};

LockVerdict CheckLockHistory(const LockHistory& history, const LockPromises& promises);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_LOCK_HISTORY_H_
