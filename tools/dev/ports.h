// TCP ports for servers that come and go on this host.
#ifndef COORD_TOOLS_DEV_PORTS_H_
#define COORD_TOOLS_DEV_PORTS_H_

#include "absl/status/statusor.h"

namespace coord::dev {

// A number from 12000 to 21999: below the range from which the kernel gives ports to outgoing
// connections, so that a server can come back on its old port.
int RandomPort();

// A port of 127.0.0.1 that nobody listens on now, nor on port + 10000 (the bus of a cluster).
// Random, so that programs that look at the same time seldom find the same; who loses it before
// listening asks again.
absl::StatusOr<int> FreePort();

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_PORTS_H_
