#include "cache/internal/flight_lease.h"

#include <openssl/evp.h>

#include <utility>

#include "coord/errors.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::string_view kFlight = "flight:";
constexpr std::size_t kMostName = 512;
constexpr std::string_view kForget = "60000";  // milliseconds

std::string Sha256Hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

}  // namespace

std::string FlightName(std::string_view full) {
  std::string name = StrCat(kFlight, full);
  return name.size() <= kMostName ? name : StrCat(kFlight, "sha256:", Sha256Hex(full));
}

FlightLease::FlightLease(const Client& client, std::string_view full, absl::Duration takeover_after)
    : client_(client), name_(FlightName(full)), lock_(client, name_, {.ttl = takeover_after}) {}

void FlightLease::ForgetSoon(const CallOptions& call) const {
  // Whoever uses the lock meanwhile gives it its two days again.
  (void)client_.Command(
      {"PEXPIRE", StrCat(client_.options().prefix, "{", name_, "}:fence"), kForget}, call);
}

absl::StatusOr<bool> FlightLease::Try(const CallOptions& call) {
  absl::StatusOr<Lease> lease = lock_.TryAcquire(call);
  if (IsBusy(lease.status())) return false;
  if (!lease.ok()) return lease.status();
  lease_ = *std::move(lease);
  return true;
}

absl::Status FlightLease::AwaitOthers(const std::stop_token& stop, absl::Duration wait) {
  absl::StatusOr<Lease> reading = lock_.AcquireShared(wait, stop);
  if (!reading.ok()) return reading.status();
  // If that fails, its time to live frees the lock; it keeps only those from computing who still
  // find nothing.
  (void)reading->Release();
  ForgetSoon({});
  return absl::OkStatus();
}

absl::Status FlightLease::Take(const std::stop_token& stop) {
  absl::StatusOr<Lease> lease = lock_.Acquire(absl::InfiniteDuration(), stop);
  if (!lease.ok()) return lease.status();
  lease_ = *std::move(lease);
  return absl::OkStatus();
}

absl::Status FlightLease::Release(const CallOptions& call) {
  if (!lease_.has_value()) return absl::OkStatus();
  absl::Status released = lease_->Release(call);
  lease_.reset();
  if (released.ok()) ForgetSoon(call);
  return released;
}

}  // namespace coord::internal
