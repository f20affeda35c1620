// Waiting for others until a signal comes: what is waited for is left in good order.
#ifndef COORD_TOOLS_INTERRUPTIBLE_H_
#define COORD_TOOLS_INTERRUPTIBLE_H_

#include <functional>
#include <stop_token>
#include <string>

#include "coord/client.h"
#include "tools/program.h"

namespace coord::tools {

// Connects and calls `wait`, whose result is the exit code; a signal that ends programs trips its
// stop token, and then decides the exit code. `what` for the message: "latch \"x\"".
int WaitInterruptibly(const Program& program, const std::string& what,
                      const std::function<int(const Client&, std::stop_token)>& wait);

}  // namespace coord::tools

#endif  // COORD_TOOLS_INTERRUPTIBLE_H_
