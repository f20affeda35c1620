// Certificates for tests: an authority of its own, and what it signs.
#ifndef COORD_TESTS_SUPPORT_CERTIFICATES_H_
#define COORD_TESTS_SUPPORT_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/temp_dir.h"

namespace coord::testing {

struct CertificateOptions {
  std::vector<std::string> hosts{};             // DNS names it is for
  std::vector<std::string> addresses{};         // IP addresses
  absl::Duration valid_from = -absl::Hours(1);  // from now
  absl::Duration valid_until = absl::Hours(24);
};

// Paths of PEM files, which live as long as the authority.
struct Certificate {
  std::string cert_file;
  std::string key_file;
};

// Ends the test program when OpenSSL fails.
class CertificateAuthority {
 public:
  CertificateAuthority();
  ~CertificateAuthority();
  CertificateAuthority(const CertificateAuthority&) = delete;
  CertificateAuthority& operator=(const CertificateAuthority&) = delete;

  std::string ca_file() const { return directory_.File("ca.pem"); }
  Certificate Issue(const CertificateOptions& options);

 private:
  struct Keys;
  const TempDir directory_;
  std::unique_ptr<Keys> keys_;
  int issued_ = 0;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_CERTIFICATES_H_
