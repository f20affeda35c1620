// What must be known before a server can be dialled, and may take long to find out: its addresses,
// and who we are there.
#ifndef COORD_DEPLOYMENT_APPROACH_H_
#define COORD_DEPLOYMENT_APPROACH_H_

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/internal/sync.h"
#include "coord/options.h"
#include "coord/wire/socket.h"

namespace coord::internal {

struct Approach {
  Endpoint endpoint;
  std::vector<Address> addresses;
  Credentials credentials;
};

// Thread-safe.
class ApproachFinder {
 public:
  using Provider = std::function<absl::StatusOr<Credentials>()>;
  // Runs a task elsewhere, which may block.
  using Post = std::function<void(std::function<void()>)>;

  // `provider` may be empty: then it is always `fixed`.
  ApproachFinder(Credentials fixed, Provider provider, Post post);

  // For a caller: looks the name up and asks for the credentials, here.
  absl::StatusOr<Approach> Find(const Endpoint& endpoint);

  // For the background thread, which must not block: what needs no time, or what was found by a
  // task that an earlier call had posted. kCancelled while that runs, which says nothing of the
  // server; ask again soon.
  absl::StatusOr<Approach> FindInBackground(const Endpoint& endpoint);

 private:
  // Shared with the tasks, which may outlive us.
  struct State {
    Credentials fixed;
    Provider provider;
    Mutex mutex;
    bool looking ABSL_GUARDED_BY(mutex) = false;
    // Used once: names move, and credentials expire.
    std::optional<absl::StatusOr<Approach>> found ABSL_GUARDED_BY(mutex);
  };
  static absl::StatusOr<Approach> FindNow(const State& state, const Endpoint& endpoint);

  const std::shared_ptr<State> state_;
  const Post post_;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_APPROACH_H_
