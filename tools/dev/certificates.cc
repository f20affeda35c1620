#include "tools/dev/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <utility>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::dev {
namespace {

struct Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
};
using CertificatePtr = std::unique_ptr<X509, Free>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free>;

absl::Status Failed(std::string_view what) {
  return internal::MakeStatus(absl::StatusCode::kInternal,
                              internal::StrCat("OpenSSL: cannot ", what));
}

template <typename Writer>
bool WriteFile(const std::string& path, Writer write) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  const bool written = write(file) == 1;
  return std::fclose(file) == 0 && written;
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Null when OpenSSL fails.
CertificatePtr MakeCertificate(const std::string& name, int serial, EVP_PKEY* key,
                               const CertificateOptions& options) {
  CertificatePtr certificate(X509_new());
  X509* const c = certificate.get();
  if (c == nullptr || X509_set_version(c, 2) != 1) return nullptr;
  ASN1_INTEGER_set(X509_get_serialNumber(c), serial);
  X509_gmtime_adj(X509_getm_notBefore(c),
                  static_cast<long>(absl::ToInt64Seconds(options.valid_from)));
  X509_gmtime_adj(X509_getm_notAfter(c),
                  static_cast<long>(absl::ToInt64Seconds(options.valid_until)));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_pubkey(c, key);
  return certificate;
}

}  // namespace

struct CertificateAuthority::Keys {
  CertificatePtr certificate;
  KeyPtr key{EVP_EC_gen("P-256")};
};

CertificateAuthority::CertificateAuthority(std::string directory)
    : directory_(std::move(directory)), keys_(std::make_unique<Keys>()) {}

CertificateAuthority::~CertificateAuthority() = default;

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::Make(
    std::string directory) {
  std::unique_ptr<CertificateAuthority> authority(new CertificateAuthority(std::move(directory)));
  Keys& keys = *authority->keys_;
  if (keys.key == nullptr) return Failed("make a key");
  keys.certificate = MakeCertificate("coord test authority", 1, keys.key.get(), {});
  X509* const c = keys.certificate.get();
  if (c == nullptr) return Failed("make a certificate");
  X509_set_issuer_name(c, X509_get_subject_name(c));
  if (!AddExtension(c, c, NID_basic_constraints, "critical,CA:TRUE") ||
      !AddExtension(c, c, NID_key_usage, "critical,keyCertSign") ||
      !AddExtension(c, c, NID_subject_key_identifier, "hash")) {
    return Failed("add an extension");
  }
  if (X509_sign(c, keys.key.get(), EVP_sha256()) <= 0) return Failed("sign");
  if (!WriteFile(authority->ca_file(), [&](std::FILE* f) { return PEM_write_X509(f, c); })) {
    return Failed(internal::StrCat("write ", authority->ca_file()));
  }
  return authority;
}

absl::StatusOr<Certificate> CertificateAuthority::Issue(const CertificateOptions& options) {
  const int number = ++issued_;
  Certificate files{internal::StrCat(directory_, "/cert-", number, ".pem"),
                    internal::StrCat(directory_, "/key-", number, ".pem")};
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return Failed("make a key");
  const CertificatePtr certificate =
      MakeCertificate(internal::StrCat("test ", number), number + 1, key.get(), options);
  X509* const c = certificate.get();
  if (c == nullptr) return Failed("make a certificate");
  X509* const issuer = keys_->certificate.get();
  X509_set_issuer_name(c, X509_get_subject_name(issuer));
  std::string names;
  for (const std::string& host : options.hosts) {
    names += internal::StrCat(names.empty() ? "" : ",", "DNS:", host);
  }
  for (const std::string& address : options.addresses) {
    names += internal::StrCat(names.empty() ? "" : ",", "IP:", address);
  }
  if ((!names.empty() && !AddExtension(c, issuer, NID_subject_alt_name, names)) ||
      !AddExtension(c, issuer, NID_authority_key_identifier, "keyid")) {
    return Failed("add an extension");
  }
  if (X509_sign(c, keys_->key.get(), EVP_sha256()) <= 0) return Failed("sign");
  const auto write_key = [&key](std::FILE* f) {
    return PEM_write_PrivateKey(f, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  };
  if (!WriteFile(files.cert_file, [&](std::FILE* f) { return PEM_write_X509(f, c); }) ||
      !WriteFile(files.key_file, write_key)) {
    return Failed(internal::StrCat("write ", files.cert_file, " and ", files.key_file));
  }
  return files;
}

}  // namespace coord::dev
