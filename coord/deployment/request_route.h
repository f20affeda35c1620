// Where in a Redis Cluster a command must go, by its bytes alone. Pure.
//
// The key positions are those that the servers' COMMAND tells, of Redis 6.2 to 8 and Valkey 8
// (tests/integration/cluster_slot_test.cc compares them with a server).
#ifndef COORD_DEPLOYMENT_REQUEST_ROUTE_H_
#define COORD_DEPLOYMENT_REQUEST_ROUTE_H_

#include <string_view>

#include "absl/status/statusor.h"

namespace coord::internal {

struct Route {
  enum class Kind {
    kSlot,       // to the master of `slot`
    kAnyNode,    // no keys, or so malformed that the server should say what is wrong
    kAskServer,  // a name that is not known here: COMMAND GETKEYS tells the keys
  };
  Kind kind = Kind::kAnyNode;
  int slot = -1;  // of kSlot only
  friend bool operator==(const Route&, const Route&) = default;
};

// `command` is ONE command, as AppendCommand of coord/wire/resp.h encodes it; `what` names the
// call in messages. Allocates only for an error. kInvalidArgument when
//   - its keys are in more than one slot, which no node can serve;
//   - it concerns every master, or one certain node, and the caller cannot choose which;
//   - the bytes are not one encoded command.
//
// What belongs to a connection more than to a key (MULTI, EXEC, WAIT, SELECT, AUTH) is kAnyNode: a
// caller that sends such a thing behind another command sends it where that one went.
absl::StatusOr<Route> RouteOf(std::string_view command, std::string_view what);

// The route of a command that has these keys, for who learnt them from COMMAND GETKEYS: Add each.
class KeysRoute {
 public:
  explicit KeysRoute(std::string_view what) : what_(what) {}

  // False: `key` is in another slot than those before, and status() says so. The views must live
  // until the last call.
  bool Add(std::string_view key);
  absl::Status status() const;
  // kSlot, or kAnyNode when there was no key. REQUIRES: every Add returned true.
  Route route() const;

 private:
  const std::string_view what_;
  std::string_view first_;
  std::string_view tag_;  // of first_
  int slot_ = -1;
  std::string_view stray_;
  int stray_slot_ = -1;
};

// One line of the table, for the tests that compare it with a server.
struct CommandKeys {
  enum class Form : unsigned char {
    kKeys,             // arguments first, first + step, ... last; last < 0 counts from the end
    kCounted,          // argument `first` is how many keys follow it
    kCountedBehind,    // likewise, and argument 1 is a key too
    kSort,             // argument 1, and one behind STORE
    kGeoRadius,        // argument 1, and one behind STORE or STOREDIST
    kStreams,          // the first half of what follows STREAMS
    kMigrate,          // argument 3, or if that is empty all behind KEYS
    kNone,             // any node
    kSome,             // any node, but for the subcommands that concern nodes
    kEveryMaster,      // refused
    kEveryMasterScan,  // refused; ScanKeys does it
    kOneNode,          // refused
  };
  std::string_view name;  // in capitals
  Form form = Form::kNone;
  signed char first = 0;
  signed char last = 0;
  signed char step = 0;
};
// The line of `name` in any case; null when it is not known.
const CommandKeys* FindCommandKeys(std::string_view name);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_REQUEST_ROUTE_H_
