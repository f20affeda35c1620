// What the servers of one deployment share: a directory, and with TLS an authority.
#ifndef COORD_TOOLS_DEV_PLACE_H_
#define COORD_TOOLS_DEV_PLACE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/dev/certificates.h"
#include "tools/dev/directory.h"
#include "tools/dev/server.h"

namespace coord::dev {

class Place {
 public:
  // With `tls` an authority is made, and one certificate for localhost and 127.0.0.1.
  static absl::StatusOr<std::unique_ptr<Place>> Make(bool tls);

  // A server in a directory of its own here, with the certificate if there is one.
  absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);

  const std::optional<TlsFiles>& tls() const { return tls_; }
  CertificateAuthority* authority() const { return authority_.get(); }
  // "?ca_file=...", or nothing without TLS.
  std::string Query() const;

 private:
  Place() = default;

  std::unique_ptr<Directory> directory_;
  std::unique_ptr<CertificateAuthority> authority_;
  std::optional<TlsFiles> tls_;
  int servers_ = 0;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_PLACE_H_
