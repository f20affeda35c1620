// The scenes of `coord demo` about the cache, and what their processes do.
#ifndef COORD_TOOLS_DEMO_CACHE_H_
#define COORD_TOOLS_DEMO_CACHE_H_

#include "absl/status/status.h"
#include "coord/client.h"
#include "tools/demo.h"
#include "tools/demo_post.h"
#include "tools/demo_worker.h"

namespace coord::tools {

absl::Status PlayStampede(DemoStage& stage);
absl::Status PlayStale(DemoStage& stage);

// Wants a value that takes long to make.
absl::Status AskTogether(const Client& client, const WorkerTask& task, const Post& post);
// Wants a value from a source that answers with the task's number, or with 0 is down.
absl::Status AskSource(const Client& client, const WorkerTask& task, const Post& post);

// Removes what they leave.
void AddRemovals(const DemoStage& stage, Pipeline& pipeline);

}  // namespace coord::tools

#endif  // COORD_TOOLS_DEMO_CACHE_H_
