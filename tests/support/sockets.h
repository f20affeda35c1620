// The few socket calls that the proxy, the fake server and the fixtures share.
#ifndef COORD_TESTS_SUPPORT_SOCKETS_H_
#define COORD_TESTS_SUPPORT_SOCKETS_H_

#include <string>
#include <string_view>
#include <utility>

namespace coord::testing {

// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

// Where a test's server listens: a unix socket when `path` is set, else TCP on an IPv4 address.
struct Endpoint {
  std::string path;
  std::string host = "127.0.0.1";
  int port = 0;

  std::string Url() const;  // "unix:///path" or "redis://127.0.0.1:port"
};

// Of the two forms that Url() writes. Ends the program for any other.
Endpoint ParseEndpoint(std::string_view url);

// A non-blocking listening socket; a port of 0 is replaced by a free one.
UniqueFd Listen(Endpoint& endpoint);

// A connected non-blocking socket, without Nagle's delay; not valid() when refused, or not
// connected within 2 s.
UniqueFd Connect(const Endpoint& endpoint);

void SetNonBlocking(int fd);
void SetNoDelay(int fd);  // no effect on unix sockets

// Closes so that a TCP peer sees a reset. (A unix peer sees one only when bytes it sent are
// unread.)
void CloseWithReset(UniqueFd& fd);

// A loopback TCP port that nobody listens on now, nor on port + 10000 (the Cluster bus). Below the
// range from which the kernel gives ports to outgoing connections, so that a server can come back
// on its old port.
int FreePort();

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_SOCKETS_H_
