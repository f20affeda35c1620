#include "cache/internal/observed.h"

#include <utility>

namespace coord::internal {

Observed::Observed(const CacheCore& core, CacheOperation operation, std::string_view key,
                   std::size_t keys)
    : core_(core), watched_(!core.options().hooks.empty()) {
  event_.cache = core.options().name;
  event_.operation = operation;
  event_.key = key;
  event_.keys = keys;
  if (!watched_) return;
  core_.Tell([this](CacheHook& hook) { hook.Before(event_); });
  began_ = core_.clock().Now();
}

void Observed::Count(const Read& read) {
  if (read.state == Read::State::kMiss) {
    ++event_.misses;
    if (!read.problem.ok()) ++event_.undecodable;
    return;
  }
  ++event_.hits;
  if (read.state == Read::State::kNull) ++event_.nulls;
  if (read.stale) ++event_.stale;
}

absl::Status Observed::End(absl::Status status) {
  if (!watched_) return status;
  event_.took = core_.clock().Now() - began_;
  core_.Tell([&](CacheHook& hook) {
    if (status.ok()) {
      hook.After(event_);
    } else {
      hook.Error(event_, status);
    }
  });
  return status;
}

absl::StatusOr<Read::State> Observed::Take(
    Read read, absl::FunctionRef<absl::Status(std::string_view)> receive) {
  if (read.stale) {
    read.state = Read::State::kMiss;
    read.stale = false;
  }
  if (read.state == Read::State::kHit) {
    if (absl::Status decoded = receive(read.payload); !decoded.ok()) {
      read.state = Read::State::kMiss;
      read.problem = std::move(decoded);
    }
  }
  Count(read);
  if (!read.problem.ok() && core_.options().undecodable_is_error) return read.problem;
  return read.state;
}

}  // namespace coord::internal
