// What all copies of a Session share.
#ifndef COORD_CACHE_HTTP_INTERNAL_SESSION_CORE_H_
#define COORD_CACHE_HTTP_INTERNAL_SESSION_CORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cache/backend.h"
#include "cache/http/internal/cached_exchange.h"
#include "cache/http/internal/response_store.h"
#include "cache/http/internal/transport.h"
#include "cache/http/response.h"
#include "cache/http/response_cache.h"
#include "cache/http/session_options.h"

namespace coord::http::internal {

// OK, or which option breaks the rules.
absl::Status CheckOptions(const SessionOptions& options);

// Thread-safe.
class SessionCore {
 public:
  // `owned`: closed with it.
  static absl::StatusOr<std::shared_ptr<SessionCore>> Make(std::shared_ptr<Backend> backend,
                                                           bool owned, SessionOptions options);
  // Waits for the refreshes that are under way.
  ~SessionCore();
  SessionCore(const SessionCore&) = delete;
  SessionCore& operator=(const SessionCore&) = delete;

  // With its redirects.
  absl::StatusOr<Response> Send(std::string_view method, std::string_view url,
                                const RequestOptions& request, bool read_only, bool disabled);
  absl::StatusOr<std::string> NormalizedUrl(std::string_view url) const;
  const ResponseCache& cache() const { return cache_; }
  void Close();

 private:
  SessionCore(std::shared_ptr<Backend> backend, bool owned, SessionOptions options,
              std::unique_ptr<Transport> transport, std::shared_ptr<const ResponseStore> store);

  absl::Status Usable() const;
  // What does not depend on the URL; it fills the rest in for each hop.
  absl::StatusOr<Hop> FirstHop(std::string_view method, std::string_view url,
                               const RequestOptions& request) const;
  absl::Status Identify(Hop& hop) const;

  const std::shared_ptr<Backend> backend_;
  const bool owned_;
  const SessionOptions options_;
  const std::uint64_t generation_;
  std::atomic<bool> closed_{false};
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<const ResponseStore> store_;
  const ResponseCache cache_;
  std::unique_ptr<CachedExchange> exchange_;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_SESSION_CORE_H_
