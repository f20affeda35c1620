// The scene of `coord demo` about the HTTP session, and what its processes do.
#ifndef COORD_TOOLS_DEMO_FETCH_H_
#define COORD_TOOLS_DEMO_FETCH_H_

#include "absl/status/status.h"
#include "coord/client.h"
#include "tools/demo.h"
#include "tools/demo_post.h"
#include "tools/demo_worker.h"

namespace coord::tools {

absl::Status PlayFetch(DemoStage& stage);

// Fetches the URL that is the task's name.
absl::Status FetchPage(const Client& client, const WorkerTask& task, const Post& post);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_FETCH_H_
