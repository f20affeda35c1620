// The scene of `coord demo` about a master that crashes.
#ifndef COORD_TOOLS_DEMO_FAILOVER_H_
#define COORD_TOOLS_DEMO_FAILOVER_H_

#include "absl/status/status.h"
#include "tools/demo.h"

namespace coord::tools {

absl::Status PlayFailover(DemoStage& stage);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_FAILOVER_H_
