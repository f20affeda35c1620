#include "tools/dev/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <random>

#include "coord/deployment/owned_fd.h"
#include "coord/internal/status.h"

namespace coord::dev {
namespace {

constexpr int kBusOffset = 10000;

bool IsFree(int port) {
  const internal::embedded::OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return fd.valid() &&
         bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
         listen(fd.get(), 1) == 0;
}

}  // namespace

int RandomPort() {
  thread_local std::mt19937 random{std::random_device{}()};
  return std::uniform_int_distribution<int>(12000, 21999)(random);
}

absl::StatusOr<int> FreePort() {
  for (int attempt = 0; attempt < 200; ++attempt) {
    const int port = RandomPort();
    if (IsFree(port) && IsFree(port + kBusOffset)) return port;
  }
  return internal::MakeStatus(absl::StatusCode::kUnavailable, "no free TCP port on 127.0.0.1");
}

}  // namespace coord::dev
