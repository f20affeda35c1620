// Where a deployment is and how to sign in there, from one URL.
#ifndef COORD_DEPLOYMENT_URL_H_
#define COORD_DEPLOYMENT_URL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::internal {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 literal
  std::uint16_t port = 6379;
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

struct Url {
  enum class Scheme { kTcp, kUnix, kSentinel, kCluster, kEmbedded };

  Scheme scheme = Scheme::kTcp;
  bool tls = false;
  std::vector<HostPort> hosts;  // kTcp: one; kSentinel, kCluster: one or more
  std::string path;  // kUnix: the socket; kEmbedded: the directory, or empty for the shared server
  bool embedded_private = false;  // embedded://?private
  std::string sentinel_master;
  std::string user;  // empty: the default user
  std::string password;
  std::string sentinel_user;
  std::string sentinel_password;
  int db = 0;

  // Query options; unset ones leave the program's own choice.
  std::optional<absl::Duration> timeout;
  std::optional<absl::Duration> connect_timeout;
  std::optional<std::string> client_name;
  std::optional<std::string> prefix;
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  std::string server_name;  // whom the certificates must be for; empty: each host's own name
  bool insecure = false;

  // The URL again for people and logs: every password shown as ***, and never more than was given.
  std::string Redacted() const;
};

// InvalidArgument names the part that is wrong and never repeats a password, not even of a URL that
// cannot be parsed.
absl::StatusOr<Url> ParseUrl(std::string_view text);

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_URL_H_
