#include "tools/dev/servers.h"

#include <utility>

#include "coord/internal/strings.h"

namespace coord::dev {

using internal::StrCat;

absl::StatusOr<std::unique_ptr<TlsServer>> TlsServer::Start(TlsServerOptions options) {
  absl::StatusOr<std::unique_ptr<Place>> place = Place::Make(true);
  if (!place.ok()) return place.status();
  std::unique_ptr<TlsServer> tls(new TlsServer);
  tls->place_ = *std::move(place);
  if (options.client_certificates) {
    absl::StatusOr<Certificate> client = tls->authority().Issue({});
    if (!client.ok()) return client.status();
    tls->client_ = *std::move(client);
  }
  ServerOptions server;
  server.client_certificates = options.client_certificates;
  server.credentials = std::move(options.credentials);
  server.settings = std::move(options.settings);
  absl::StatusOr<std::unique_ptr<Server>> started = tls->place_->Start(std::move(server));
  if (!started.ok()) return started.status();
  tls->server_ = *std::move(started);
  return tls;
}

std::string TlsServer::url() const {
  if (client_.cert_file.empty()) return server_->url();
  return StrCat(server_->url(), "&cert_file=", client_.cert_file, "&key_file=", client_.key_file);
}

absl::StatusOr<std::unique_ptr<Quorum>> Quorum::Start(QuorumOptions options) {
  absl::StatusOr<std::unique_ptr<Place>> place = Place::Make(false);
  if (!place.ok()) return place.status();
  std::unique_ptr<Quorum> quorum(new Quorum);
  quorum->place_ = *std::move(place);
  for (std::size_t i = 0; i < options.servers; ++i) {
    if (options.stop.stop_requested()) return absl::CancelledError("stopped");
    ServerOptions server;
    server.append_only = options.append_only;
    server.settings = options.settings;
    absl::StatusOr<std::unique_ptr<Server>> started = quorum->place_->Start(std::move(server));
    if (!started.ok()) return started.status();
    quorum->servers_.push_back(*std::move(started));
  }
  return quorum;
}

std::vector<std::string> Quorum::urls() const {
  std::vector<std::string> urls;
  for (const auto& server : servers_) urls.push_back(server->url());
  return urls;
}

}  // namespace coord::dev
