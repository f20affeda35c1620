// The keys of a whole deployment, on all of its masters.
#ifndef COORD_KEYSPACE_H_
#define COORD_KEYSPACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/client.h"

namespace coord {

// `text` as a pattern that matches it alone: the characters that mean something in one are escaped.
std::string EscapeGlob(std::string_view text);

// Hands out all keys that match the pattern (as the server's KEYS has it), some at a time and in no
// order, on every master of a Cluster one after another. Walks in steps (SCAN) that hold nobody up:
// many round trips, each of which may take `options.timeout`. A key that is there all the time is
// handed out at least once, unless its slot moves meanwhile; one that comes, goes or moves may be
// left out or come twice. Ends early, with OK, when `receive` returns false; it runs on the calling
// thread and must not throw. kInvalidArgument: the pattern is empty.
absl::Status ScanKeys(const Client& client, std::string_view pattern,
                      const std::function<bool(const std::vector<std::string>& keys)>& receive,
                      const CallOptions& options = {});

// Deletes all keys that match the pattern, of whatever type (UNLINK), as ScanKeys walks over them.
// How many there were; kInvalidArgument as well for a pattern of '*' alone: emptying a database is
// FLUSHDB, which says so.
absl::StatusOr<std::int64_t> DeleteKeys(const Client& client, std::string_view pattern,
                                        const CallOptions& options = {});

}  // namespace coord

#endif  // COORD_KEYSPACE_H_
