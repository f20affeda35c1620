// Certificates for tests: an authority of its own, and what it signs.
#ifndef COORD_TESTS_SUPPORT_CERTIFICATES_H_
#define COORD_TESTS_SUPPORT_CERTIFICATES_H_

#include <memory>
#include <string>

#include "tests/support/deployment.h"
#include "tests/support/temp_dir.h"
#include "tools/dev/certificates.h"

namespace coord::testing {

using dev::Certificate;  // its files live as long as the authority
using dev::CertificateOptions;

// Ends the test program when OpenSSL fails.
class CertificateAuthority {
 public:
  std::string ca_file() const { return authority_->ca_file(); }
  Certificate Issue(const CertificateOptions& options) {
    return OrFatal(authority_->Issue(options));
  }

 private:
  const TempDir directory_;
  const std::unique_ptr<dev::CertificateAuthority> authority_ =
      OrFatal(dev::CertificateAuthority::Make(directory_.path()));
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_CERTIFICATES_H_
