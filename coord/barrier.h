// A place where a fixed number of processes wait for each other, again and again: nobody goes on
// before all have come.
//
//   coord::Barrier barrier(client, "simulation", {.parties = 8});
//   for (int step = 0; step < 100; ++step) {
//     Compute(step);
//     absl::StatusOr<coord::BarrierTurn> turn = barrier.Await(absl::Minutes(1));
//     if (!turn.ok()) return turn.status();
//     if (turn->index == 0) WriteCheckpoint(step);   // one of them, the last to come
//   }
//
// Who gives up waiting (a timeout, a stop token) is taken out again, and the others go on waiting
// for somebody in his place; the barrier is never broken for them. Who dies while he waits is
// counted until 3 s after his last sign of life, of which there is one a second.
#ifndef COORD_BARRIER_H_
#define COORD_BARRIER_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/client.h"

namespace coord {

namespace internal {
class BarrierProtocol;
}  // namespace internal

struct BarrierOptions {
  // How many must come; 1 to 10,000. All who wait at the same time must say the same; while nobody
  // waits, the next may say another number.
  int parties = 0;
  // How long the barrier, with the number of its last generation, lives after it was last used
  // (waiting is use); 10 s to 10 years.
  absl::Duration ttl = absl::Hours(1);
};

struct BarrierTurn {
  std::uint64_t generation = 0;  // which meeting it was, the same for all who met: 1, 2, 3...
  int index = 0;  // how many came after this one: 0 for the last, parties - 1 for the first
};

// Cheap to make; thread-safe. Several threads may be parties, through one object or many.
class Barrier {
 public:
  // Never fails and sends nothing; a name (1 to 512 bytes, not starting with '}') or option that
  // breaks the rules is reported by Await, as kInvalidArgument.
  Barrier(Client client, std::string_view name, BarrierOptions options);

  // Comes, and waits up to `timeout` for the others. One round trip, and nothing more until all
  // have come but a sign of life a second (the first call of a client opens a second connection).
  //
  // kAborted (IsBusy) at the timeout, kCancelled by the stop token: it has been taken out, and the
  // others did not meet with it; that costs a round trip more. If they had met just before, the
  // result is that they have. When the server cannot be asked (1 s at most), IsOutcomeUnknown.
  // kFailedPrecondition when others wait for another number of parties.
  absl::StatusOr<BarrierTurn> Await(absl::Duration timeout, std::stop_token stop = {}) const;

  const std::string& name() const { return name_; }

 private:
  Client client_;
  std::string name_;
  BarrierOptions options_;
  absl::Status usable_;
  std::shared_ptr<const internal::BarrierProtocol> barrier_;
};

}  // namespace coord

#endif  // COORD_BARRIER_H_
