#include "tools/dev/place.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "coord/deployment/private_directory.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::dev {

using internal::StrCat;

absl::StatusOr<std::unique_ptr<Place>> Place::Make(bool tls) {
  absl::StatusOr<std::unique_ptr<Directory>> directory = Directory::Make();
  if (!directory.ok()) return directory.status();
  std::unique_ptr<Place> place(new Place);
  place->directory_ = *std::move(directory);
  if (!tls) return place;
  absl::StatusOr<std::unique_ptr<CertificateAuthority>> authority =
      CertificateAuthority::Make(place->directory_->path());
  if (!authority.ok()) return authority.status();
  place->authority_ = *std::move(authority);
  absl::StatusOr<Certificate> certificate =
      place->authority_->Issue({.hosts = {"localhost"}, .addresses = {"127.0.0.1"}});
  if (!certificate.ok()) return certificate.status();
  place->tls_ =
      TlsFiles{place->authority_->ca_file(), certificate->cert_file, certificate->key_file};
  return place;
}

absl::StatusOr<std::unique_ptr<Server>> Place::Start(ServerOptions options) {
  options.directory = directory_->File(StrCat(servers_++));
  if (mkdir(options.directory.c_str(), 0700) != 0) {
    return internal::MakeStatus(absl::StatusCode::kUnavailable,
                                StrCat("cannot make the directory ", options.directory, ": ",
                                       internal::embedded::ErrnoText(errno)));
  }
  options.tls = tls_;
  return Server::Start(std::move(options));
}

std::string Place::Query() const { return tls_ ? StrCat("?ca_file=", tls_->ca_file) : ""; }

}  // namespace coord::dev
