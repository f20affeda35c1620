// Looking into what a session has cached, and taking out of it.
#ifndef COORD_CACHE_HTTP_RESPONSE_CACHE_H_
#define COORD_CACHE_HTTP_RESPONSE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/http/expiry.h"
#include "cache/http/response.h"
#include "coord/options.h"

namespace coord::http {

namespace internal {
class ResponseStore;
}

// Which of the cached responses; all conditions hold together. By default all of them.
struct ResponseFilter {
  std::optional<UrlPattern> urls = std::nullopt;
  std::optional<bool> expired = std::nullopt;
  // By when they were stored or last confirmed.
  std::optional<absl::Duration> older_than = std::nullopt;
  std::optional<absl::Duration> younger_than = std::nullopt;
  std::function<bool(const Response&)> where = {};
};

// What a walk costs: every entry of the store is read, in pages of 100, so this is for people and
// for maintenance. A walk sees what is there all the time once at least... what comes and goes
// meanwhile, perhaps. Thread-safe. Errors are the backend's.
class ResponseCache {
 public:
  // Made by Session.
  explicit ResponseCache(std::shared_ptr<const internal::ResponseStore> store);

  // Each once, in no order, until `each` returns false. Entries that cannot be read are left out.
  absl::Status ForEach(const ResponseFilter& filter, absl::FunctionRef<bool(const Response&)> each,
                       const CallOptions& call = {}) const;
  absl::StatusOr<std::vector<Response>> Filter(const ResponseFilter& filter = {},
                                               const CallOptions& call = {}) const;
  // Sorted, each once; redacted, as they are stored.
  absl::StatusOr<std::vector<std::string>> Urls(const ResponseFilter& filter = {},
                                                const CallOptions& call = {}) const;
  absl::StatusOr<std::int64_t> Count(const ResponseFilter& filter = {},
                                     const CallOptions& call = {}) const;
  // Bytes that they take in the backend, keys and values.
  absl::StatusOr<std::int64_t> Size(const ResponseFilter& filter = {},
                                    const CallOptions& call = {}) const;

  // Whether there is a response for a GET of that URL by nobody in particular, fresh or not. One
  // round trip. Session::Get with only_if_cached answers the same for a request with headers.
  absl::StatusOr<bool> Contains(std::string_view url, const CallOptions& call = {}) const;
  // Of GET and HEAD of that URL by nobody in particular, in all variants. Whether there was one.
  absl::StatusOr<bool> Delete(std::string_view url, const CallOptions& call = {}) const;
  // By Response::key. One round trip.
  absl::StatusOr<bool> DeleteKey(std::string_view key, const CallOptions& call = {}) const;
  // How many there were.
  absl::StatusOr<std::int64_t> DeleteWhere(const ResponseFilter& filter,
                                           const CallOptions& call = {}) const;
  // Gives them another expiry, counted from now. How many. One that is changed by somebody else
  // meanwhile keeps what they gave it, or gets this. DoNotCache deletes.
  absl::StatusOr<std::int64_t> ResetExpiry(const Expiry& expire, const ResponseFilter& filter = {},
                                           const CallOptions& call = {}) const;
  // Everything of this store, readable or not; other stores and all other keys stay.
  absl::Status Clear(const CallOptions& call = {}) const;

 private:
  std::shared_ptr<const internal::ResponseStore> store_;
};

}  // namespace coord::http

#endif  // COORD_CACHE_HTTP_RESPONSE_CACHE_H_
