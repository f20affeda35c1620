// Numbers that no other process gets: 64 bits, unique, increasing in each generator.
//
//   coord::IdGenerator orders(client, "orders");
//   absl::StatusOr<std::int64_t> id = orders.Next();
//
// A generator takes a block of numbers from the server in one round trip and gives them out without
// another. What it has not given out when it goes is a gap. Between generators there is no order:
// one may still be giving out a block that was taken before another's.
//
// A block begins at max(last one's end + 1, server TIME in us). So ids are positive, about
// microseconds since 1970 (below 2^53, which JSON readers need, until 2255), and no id comes twice
// while the server keeps what it was told. They do not come twice either after it has lost its last
// writes or all of them, as long as ids were taken at fewer than a million a second on average
// since the first, and the server's clock (a promoted replica's, say) does not stand further back
// than the loss took. A generator never repeats itself whatever the server does.
#ifndef COORD_ID_GENERATOR_H_
#define COORD_ID_GENERATOR_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "coord/client.h"
#include "coord/options.h"

namespace coord {

// The most numbers a block may have.
inline constexpr std::int64_t kMaxIdBlock = 1 << 20;

struct IdGeneratorOptions {
  // How many numbers to take at once, 1 to kMaxIdBlock: the most that is lost with a process, and a
  // round trip each so many.
  std::int64_t block = 1000;
};

// Thread-safe. Copies share one block. After fork() a child cannot use it: it would give out its
// parent's numbers, so Next fails there (kFailedPrecondition), as every call of its client does.
class IdGenerator {
 public:
  // Never fails; a bad name (see README, "Names") or option is reported by Next, as
  // kInvalidArgument.
  IdGenerator(Client client, std::string_view name, IdGeneratorOptions options = {});

  // The next number of the block, above all that this generator and its copies gave before; no
  // round trip and no lock while there is one. Else one round trip, which all callers who find the
  // block empty wait for; a block whose reply was lost is a gap. kFailedPrecondition when the key
  // holds something else; it is left as it was.
  absl::StatusOr<std::int64_t> Next(CallOptions call = {}) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_ID_GENERATOR_H_
