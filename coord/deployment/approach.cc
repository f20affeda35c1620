#include "coord/deployment/approach.h"

#include <exception>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

absl::StatusOr<Credentials> Ask(const ApproachFinder::Provider& provider) {
  absl::StatusOr<Credentials> credentials = absl::UnknownError("");
  try {
    credentials = provider();
  } catch (const std::exception& e) {
    credentials = absl::UnknownError(e.what());
  } catch (...) {
    credentials = absl::UnknownError("it has thrown something");
  }
  if (credentials.ok()) return credentials;
  return MakeStatus(
      absl::StatusCode::kUnavailable,
      StrCat("the credentials provider failed: ", FromAbsl(credentials.status().message())),
      kUnavailable);
}

}  // namespace

ApproachFinder::ApproachFinder(Credentials fixed, Provider provider, Post post)
    : state_(std::make_shared<State>()), post_(std::move(post)) {
  state_->fixed = std::move(fixed);
  state_->provider = std::move(provider);
}

absl::StatusOr<Approach> ApproachFinder::FindNow(const State& state, const Endpoint& endpoint) {
  absl::StatusOr<std::vector<Address>> addresses = Resolve(endpoint);
  if (!addresses.ok()) return addresses.status();
  Approach approach{endpoint, *std::move(addresses), state.fixed};
  if (state.provider) {
    absl::StatusOr<Credentials> credentials = Ask(state.provider);
    if (!credentials.ok()) return credentials.status();
    approach.credentials = *std::move(credentials);
  }
  return approach;
}

absl::StatusOr<Approach> ApproachFinder::Find(const Endpoint& endpoint) {
  absl::StatusOr<Approach> found = FindNow(*state_, endpoint);
  // The background thread will want the same, as a rule at once.
  if (found.ok() && !state_->provider) {
    MutexLock lock(state_->mutex);
    state_->found = found;
  }
  return found;
}

absl::StatusOr<Approach> ApproachFinder::FindInBackground(const Endpoint& endpoint) {
  if (IsNumeric(endpoint) && !state_->provider) return FindNow(*state_, endpoint);
  bool look = false;
  {
    MutexLock lock(state_->mutex);
    if (state_->found) {
      absl::StatusOr<Approach> found = *std::exchange(state_->found, std::nullopt);
      if (!found.ok() || found->endpoint == endpoint) return found;
    }
    look = !std::exchange(state_->looking, true);
  }
  if (look) {
    post_([state = state_, endpoint] {
      absl::StatusOr<Approach> found = FindNow(*state, endpoint);
      MutexLock lock(state->mutex);
      state->found = std::move(found);
      state->looking = false;
    });
  }
  return MakeStatus(absl::StatusCode::kCancelled,
                    StrCat("looking up ", endpoint.ToString(), ", or its credentials, for it"));
}

}  // namespace coord::internal
