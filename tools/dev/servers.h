// Servers that stand alone: with TLS, or several that vote.
#ifndef COORD_TOOLS_DEV_SERVERS_H_
#define COORD_TOOLS_DEV_SERVERS_H_

#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/dev/place.h"
#include "tools/dev/server.h"

namespace coord::dev {

struct TlsServerOptions {
  bool client_certificates = false;     // refuse clients that show none of the authority's
  Credentials credentials{};            // what clients must log in with
  std::vector<std::string> settings{};  // lines of its configuration
};

// One server whose port speaks TLS only, with a certificate for localhost and 127.0.0.1 of an
// authority of its own.
class TlsServer {
 public:
  static absl::StatusOr<std::unique_ptr<TlsServer>> Start(TlsServerOptions options = {});

  // rediss://localhost:port?ca_file=..., and cert_file and key_file where a certificate is asked
  // for. Without the password.
  std::string url() const;
  // The same without a certificate of the client's.
  std::string url_without_certificate() const { return server_->url(); }
  const std::string& ca_file() const { return place_->tls()->ca_file; }
  Server& server() { return *server_; }
  CertificateAuthority& authority() { return *place_->authority(); }

 private:
  TlsServer() = default;

  std::unique_ptr<Place> place_;
  Certificate client_;  // empty: none is asked for
  std::unique_ptr<Server> server_;
};

struct QuorumOptions {
  std::size_t servers = 5;
  bool append_only = false;             // every write on disk before its reply
  std::vector<std::string> settings{};  // lines of every server's configuration
  std::stop_token stop{};               // gives up starting
};

// Independent servers, not declared a deployment: see coord::Quorum::DeclareNew.
class Quorum {
 public:
  static absl::StatusOr<std::unique_ptr<Quorum>> Start(QuorumOptions options = {});

  std::vector<std::string> urls() const;  // redis://127.0.0.1:port
  std::size_t size() const { return servers_.size(); }
  Server& server(std::size_t i) { return *servers_[i]; }

 private:
  Quorum() = default;

  std::unique_ptr<Place> place_;
  std::vector<std::unique_ptr<Server>> servers_;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_SERVERS_H_
