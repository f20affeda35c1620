// One end of a socket pair as the wire's stream, so that a test plays the server at the other.
#ifndef COORD_TESTS_SUPPORT_PAIR_SOCKET_H_
#define COORD_TESTS_SUPPORT_PAIR_SOCKET_H_

#include <sys/socket.h>

#include <cerrno>
#include <span>
#include <string_view>

#include "coord/wire/socket.h"

namespace coord::testing {

// Owns the descriptor.
class PairSocket final : public internal::Socket {
 public:
  explicit PairSocket(int fd) : fd_(fd) {}
  ssize_t Recv(std::span<char> into) override {
    const ssize_t n = recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT);
    return n >= 0 ? n : -errno;
  }
  ssize_t Send(std::string_view data) override {
    const ssize_t n = send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? n : -errno;
  }
  void Shutdown() override { shutdown(fd_.get(), SHUT_RDWR); }
  int fd() const override { return fd_.get(); }

 private:
  internal::UniqueFd fd_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_PAIR_SOCKET_H_
