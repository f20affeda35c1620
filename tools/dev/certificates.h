// An authority of our own, and the certificates that it signs.
#ifndef COORD_TOOLS_DEV_CERTIFICATES_H_
#define COORD_TOOLS_DEV_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::dev {

struct CertificateOptions {
  std::vector<std::string> hosts{};             // DNS names it is for
  std::vector<std::string> addresses{};         // IP addresses
  absl::Duration valid_from = -absl::Hours(1);  // from now
  absl::Duration valid_until = absl::Hours(24);
};

// Paths of PEM files.
struct Certificate {
  std::string cert_file;
  std::string key_file;
};

// The files are the directory's, which must stay as long as they are used. One thread at a time.
class CertificateAuthority {
 public:
  // Writes ca.pem into an existing directory. Internal: OpenSSL failed, or a file cannot be
  // written.
  static absl::StatusOr<std::unique_ptr<CertificateAuthority>> Make(std::string directory);
  ~CertificateAuthority();
  CertificateAuthority(const CertificateAuthority&) = delete;
  CertificateAuthority& operator=(const CertificateAuthority&) = delete;

  std::string ca_file() const { return directory_ + "/ca.pem"; }
  // Writes cert-N.pem and key-N.pem.
  absl::StatusOr<Certificate> Issue(const CertificateOptions& options);

 private:
  struct Keys;
  explicit CertificateAuthority(std::string directory);

  const std::string directory_;
  std::unique_ptr<Keys> keys_;
  int issued_ = 0;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_CERTIFICATES_H_
