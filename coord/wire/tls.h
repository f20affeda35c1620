// TLS by OpenSSL, behind the Socket seam.
#ifndef COORD_WIRE_TLS_H_
#define COORD_WIRE_TLS_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "coord/internal/deadline.h"
#include "coord/wire/socket.h"

namespace coord::internal {

struct TlsOptions {
  // PEM files. Without ca_file the system's certificates are trusted; without cert_file no
  // certificate of our own is shown.
  std::string ca_file = {};
  std::string cert_file = {};
  std::string key_file = {};
  // Takes whatever certificate the server has: who stands in between reads and writes everything.
  bool insecure = false;
  // Whom the certificates must be for, a host name or an IP address; empty: for the host that is
  // connected to.
  std::string server_name = {};
};

// What the connections to one deployment share: what is trusted, and for each server the session
// that the next connection resumes. Thread-safe.
class TlsContext {
 public:
  // TLS 1.2 at least. InvalidArgument when a file cannot be read or is not what it should be.
  static absl::StatusOr<std::shared_ptr<TlsContext>> Make(const TlsOptions& options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // Shakes hands with `host` over a connected stream within the limits. `peer` for messages, and
  // to know its session again.
  // - kUnauthenticated: the certificate is not one to trust, or the server wants one of ours;
  // - kFailedPrecondition: it does not speak TLS, or none that both know;
  // - kUnavailable, kCancelled.
  absl::StatusOr<std::unique_ptr<Socket>> Secure(std::unique_ptr<Socket> plain,
                                                 std::string_view host, std::string_view peer,
                                                 const CallLimits& limits);

  // How many connections went on with the session of an earlier one, which spares the server and us
  // the public-key part.
  int resumed() const;

  struct State;  // OpenSSL's own

 private:
  explicit TlsContext(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_WIRE_TLS_H_
