// A gate that opens once, for good, when something has been done so many times.
//
//   coord::Latch ready(client, "release-7/ready", {.count = 5});
//   ready.CountDown();                      // by each of five workers, when it is ready
//   ready.Wait(absl::Minutes(1));           // by whoever needs all of them
//
// It is made by whoever comes first, lives for `ttl` after it was last used (waiting is use), and
// stays open until then. After that the name begins anew, closed: for another occasion take another
// name. Exact as long as the server keeps its data.
#ifndef COORD_LATCH_H_
#define COORD_LATCH_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

namespace internal {
class LatchProtocol;
}  // namespace internal

struct LatchOptions {
  // How often it is to be counted down before it opens; 1 to 1,000,000,000. All users of a name
  // must say the same.
  std::int64_t count = 0;
  // How long the latch lives after it was last used; 10 s to 10 years.
  absl::Duration ttl = absl::Hours(1);
};

// Cheap to make; thread-safe.
class Latch {
 public:
  // Never fails and sends nothing; a name (1 to 512 bytes, not starting with '}') or option that
  // breaks the rules is reported by the calls below, as kInvalidArgument. A latch that is there
  // with another count is reported by CountDown and Wait as kFailedPrecondition, and left as it is.
  Latch(Client client, std::string_view name, LatchOptions options);

  // Counts down by `n`, 1 or more, but not below zero, and returns how many are left; zero: it is
  // open, and all who wait have been woken. One round trip. Counts once, also when the connection
  // broke and the call had to be repeated; IsOutcomeUnknown when no answer came in time.
  absl::StatusOr<std::int64_t> CountDown(std::int64_t n = 1, CallOptions options = {}) const;

  // Waits up to `timeout` until it is open; then kAborted (IsBusy). One round trip when it is open;
  // else one to be put down as waiting (the first of a client opens a second connection), and
  // nothing more until it opens but a sign of life a second. kFailedPrecondition when the server
  // has lost the latch meanwhile, and with it what had been counted.
  absl::Status Wait(absl::Duration timeout, std::stop_token stop = {}) const;

  // How many are left; options.count when there is no latch yet. One round trip; writes nothing.
  absl::StatusOr<std::int64_t> Count(CallOptions options = {}) const;

  const std::string& name() const { return name_; }

 private:
  Client client_;
  std::string name_;
  LatchOptions options_;
  absl::Status usable_;
  std::shared_ptr<const internal::LatchProtocol> latch_;
};

}  // namespace coord

#endif  // COORD_LATCH_H_
