// One libcurl handle and the connection it keeps.
#ifndef COORD_CACHE_HTTP_INTERNAL_CURL_HANDLE_H_
#define COORD_CACHE_HTTP_INTERNAL_CURL_HANDLE_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "cache/http/internal/curl_error.h"
#include "cache/http/internal/transport.h"
#include "coord/internal/sync.h"

namespace coord::http::internal {

// kInvalidArgument or kFailedPrecondition for what libcurl, as it is here, cannot do.
absl::Status CheckCurl(const TransportOptions& options);

// For one exchange at a time; only Interrupt may be called from other threads meanwhile. SIGPIPE is
// blocked by who calls (SigpipeBlock), as for the destructor.
class CurlHandle {
 public:
  // Null: libcurl has none.
  static std::unique_ptr<CurlHandle> Make();
  ~CurlHandle();
  CurlHandle(const CurlHandle&) = delete;
  CurlHandle& operator=(const CurlHandle&) = delete;

  struct Outcome {
    absl::Status status;
    bool sent = false;
    bool length_is_wrong = false;
  };
  // Blocks until the exchange has ended, or was interrupted (kCancelled). `context` begins
  // messages. After an outcome that is not OK the handle is of no more use.
  Outcome Run(const TransportOptions& options, const Outgoing& request, Receiver& receiver,
              const std::string& context, coord::internal::SteadyTime deadline);

  // Whether nothing has come on its connection since Run ended. What did come is the connection's
  // end, or what the next request would take for its answer.
  bool quiet() const;

  // Ends Run, also one that is still to begin, with kCancelled.
  void Interrupt();
  bool interrupted() const { return interrupted_.load(); }

 private:
  struct Exchange;
  struct Callbacks;
  CurlHandle(void* easy, void* multi) : easy_(easy), multi_(multi) {}

  bool SetUp(const TransportOptions& options, Exchange& exchange, absl::Duration left);
  std::optional<int> Drive(coord::internal::SteadyTime deadline);

  void* const easy_;   // CURL
  void* const multi_;  // CURLM: the connection is its
  int socket_ = -1;    // of its connection, where one is kept; libcurl's
  std::atomic<bool> interrupted_{false};
};

// While it lives, SIGPIPE is blocked on this thread, and one that came meanwhile is swallowed:
// OpenSSL writes without MSG_NOSIGNAL.
class SigpipeBlock {
 public:
  SigpipeBlock();
  ~SigpipeBlock();
  SigpipeBlock(const SigpipeBlock&) = delete;
  SigpipeBlock& operator=(const SigpipeBlock&) = delete;

 private:
  bool was_blocked_ = true, was_pending_ = true;
};

}  // namespace coord::http::internal

#endif  // COORD_CACHE_HTTP_INTERNAL_CURL_HANDLE_H_
