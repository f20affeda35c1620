#include "coord/lockable.h"

#include <map>
#include <string>
#include <thread>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "coord/internal/sync.h"
#include "coord/internal/worker.h"

namespace coord {

LockError::LockError(absl::Status status)
    : std::runtime_error(std::string(internal::FromAbsl(status.message()))),
      status_(std::make_shared<const absl::Status>(std::move(status))) {}

struct Lockable::Holders {
  internal::Mutex mutex;
  // More than one only while leases are lost and not unlocked yet. Nodes stay where they are.
  std::map<std::thread::id, Lease> leases ABSL_GUARDED_BY(mutex);
};

Lockable::Lockable(Mutex mutex, LockableOptions options)
    : mutex_(std::move(mutex)),
      options_(std::move(options)),
      holders_(std::make_unique<Holders>()) {}

Lockable::~Lockable() = default;

absl::Status Lockable::Lock(absl::Duration timeout, bool once) {
  const std::thread::id self = std::this_thread::get_id();
  {
    internal::MutexLock lock(holders_->mutex);
    if (holders_->leases.count(self) != 0) {
      return internal::MakeStatus(
          absl::StatusCode::kFailedPrecondition,
          internal::StrCat("mutex ", internal::Quoted(mutex_.name()),
                           " is locked by this thread already, which would wait for itself"));
    }
  }
  absl::StatusOr<Lease> lease = once ? mutex_.TryAcquire() : mutex_.Acquire(timeout);
  if (!lease.ok()) return lease.status();
  internal::MutexLock lock(holders_->mutex);
  holders_->leases.emplace(self, *std::move(lease));
  return absl::OkStatus();
}

void Lockable::lock() {
  if (absl::Status status = Lock(options_.timeout, false); !status.ok()) {
    throw LockError(std::move(status));
  }
}

bool Lockable::try_lock() noexcept { return Lock(absl::ZeroDuration(), true).ok(); }

bool Lockable::TryLockFor(double seconds) noexcept {
  if (!(seconds > 0)) return try_lock();
  return Lock(absl::Seconds(seconds), false).ok();
}

void Lockable::unlock() noexcept {
  Lease lease;
  {
    internal::MutexLock lock(holders_->mutex);
    const auto it = holders_->leases.find(std::this_thread::get_id());
    if (it == holders_->leases.end()) return;
    lease = std::move(it->second);
    holders_->leases.erase(it);
  }
  const absl::Status released = lease.Release();
  if (released.ok() || !options_.on_unlock_failure) return;
  internal::RunGuarded([&] { options_.on_unlock_failure(released); });
}

const Lease& Lockable::lease() const {
  static const Lease none;
  internal::MutexLock lock(holders_->mutex);
  const auto it = holders_->leases.find(std::this_thread::get_id());
  return it == holders_->leases.end() ? none : it->second;
}

}  // namespace coord
