#include "tests/support/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"
#include "tools/dev/ports.h"

namespace coord::testing {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

Address Resolve(const Endpoint& endpoint) {
  Address address;
  if (!endpoint.path.empty()) {
    sockaddr_un un{};
    un.sun_family = AF_UNIX;
    if (endpoint.path.size() >= sizeof(un.sun_path))
      Fatal("socket path too long: " + endpoint.path);
    std::memcpy(un.sun_path, endpoint.path.data(), endpoint.path.size());
    std::memcpy(&address.storage, &un, sizeof(un));
    address.size = sizeof(un);
    return address;
  }
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(static_cast<std::uint16_t>(endpoint.port));
  if (inet_pton(AF_INET, endpoint.host.c_str(), &in.sin_addr) != 1) {
    Fatal("not an IPv4 address: " + endpoint.host);
  }
  std::memcpy(&address.storage, &in, sizeof(in));
  address.size = sizeof(in);
  return address;
}

UniqueFd TryListen(const Endpoint& endpoint) {
  const Address address = Resolve(endpoint);
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) FatalErrno("socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (!endpoint.path.empty()) unlink(endpoint.path.c_str());
  if (bind(fd.get(), address.get(), address.size) != 0 || listen(fd.get(), 512) != 0) {
    return UniqueFd();
  }
  return fd;
}

}  // namespace

void UniqueFd::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

std::string Endpoint::Url() const {
  if (!path.empty()) return "unix://" + path;
  return internal::StrCat("redis://", host, ":", port);
}

Endpoint ParseEndpoint(std::string_view url) {
  Endpoint endpoint;
  if (url.starts_with("unix:///")) {
    endpoint.path = url.substr(7);
    return endpoint;
  }
  const std::size_t colon = url.rfind(':');
  constexpr std::string_view kScheme = "redis://";
  if (url.starts_with(kScheme) && colon > kScheme.size()) {
    const std::optional<std::int64_t> port = internal::ParseInt64(url.substr(colon + 1));
    if (port && *port > 0 && *port < 65536) {
      endpoint.host = url.substr(kScheme.size(), colon - kScheme.size());
      endpoint.port = static_cast<int>(*port);
      return endpoint;
    }
  }
  Fatal("not unix:///path nor redis://address:port: " + std::string(url));
}

UniqueFd Listen(Endpoint& endpoint) {
  if (!endpoint.path.empty() || endpoint.port != 0) {
    UniqueFd fd = TryListen(endpoint);
    if (!fd.valid()) FatalErrno("listen on " + endpoint.Url());
    return fd;
  }
  Endpoint candidate = endpoint;
  for (int attempt = 0; attempt < 200; ++attempt) {
    candidate.port = dev::RandomPort();
    UniqueFd fd = TryListen(candidate);
    if (fd.valid()) {
      endpoint.port = candidate.port;
      return fd;
    }
  }
  FatalErrno("no free port");
}

UniqueFd Connect(const Endpoint& endpoint) {
  const Address address = Resolve(endpoint);
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) FatalErrno("socket");
  const timeval limit{.tv_sec = 2, .tv_usec = 0};  // bounds connect() too
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (connect(fd.get(), address.get(), address.size) != 0) return UniqueFd();
  SetNonBlocking(fd.get());
  SetNoDelay(fd.get());
  return fd;
}

void SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) FatalErrno("fcntl");
}

void SetNoDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void CloseWithReset(UniqueFd& fd) {
  if (!fd.valid()) return;
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  fd.Close();
}

int FreePort() {
  const absl::StatusOr<int> port = dev::FreePort();
  if (!port.ok()) Fatal(port.status().ToString());
  return *port;
}

}  // namespace coord::testing
