// A connected, non-blocking byte stream. The seam where TLS comes in: everything above talks to
// Socket.
#ifndef COORD_WIRE_SOCKET_H_
#define COORD_WIRE_SOCKET_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/internal/deadline.h"

namespace coord::internal {

// Owns a descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { Reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  int get() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

// One thread may receive while another sends; Shutdown may come from any thread at any time.
class Socket {
 public:
  virtual ~Socket() = default;
  // Bytes moved; 0 from Recv is the end of the stream; -EAGAIN when it would block; another -errno
  // on failure.
  virtual ssize_t Recv(std::span<char> into) = 0;
  virtual ssize_t Send(std::string_view data) = 0;
  // Wakes whoever waits on it; every later call fails or reports the end.
  virtual void Shutdown() = 0;
  // For poll.
  virtual int fd() const = 0;
  // The receiver's: whether Recv has something already, which poll would wait for in vain.
  virtual bool Pending() { return false; }
  // Whether the peer has closed the stream, as far as can be told without receiving from it.
  virtual bool PeerClosed() { return false; }
  // After a call has failed: why, where an errno does not say it; else OK.
  virtual absl::Status Failure() { return absl::OkStatus(); }
};

// Where to connect: a unix socket's path, or host and port.
struct Endpoint {
  std::string path;
  std::string host;
  std::uint16_t port = 0;
  // Whether it can only be on this host: a unix socket or a loopback address.
  bool local() const;
  std::string ToString() const;  // "unix:/run/x.sock", "db1:6379", "[::1]:6379"
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// A resolved address of an endpoint.
struct Address {
  std::vector<char> bytes;  // a sockaddr
  int family = 0;
};

// Whether an endpoint's address is known without a look-up: a path, or an address in digits.
bool IsNumeric(const Endpoint& endpoint);

// Looks the name up. Blocks as long as the system's resolver takes, so it is never called by the
// background thread.
absl::StatusOr<std::vector<Address>> Resolve(const Endpoint& endpoint);

// Connects to the first address that accepts within the limits. Unavailable when none does, saying
// why. A peer from which nothing has come for `keepalive`, though something is due or it was
// probed, is given up as lost: the stream then breaks.
absl::StatusOr<std::unique_ptr<Socket>> Dial(const Endpoint& endpoint,
                                             const std::vector<Address>& addresses,
                                             const CallLimits& limits,
                                             absl::Duration keepalive = absl::Seconds(10));

// An eventfd that a stop token writes to, so that a poll ends when the token is stopped.
class StopEvent {
 public:
  explicit StopEvent(const std::stop_token& stop);
  ~StopEvent();
  StopEvent(const StopEvent&) = delete;
  StopEvent& operator=(const StopEvent&) = delete;
  int fd() const { return fd_.get(); }  // -1 when the token can never stop

 private:
  struct Callback;
  UniqueFd fd_;
  std::unique_ptr<Callback> callback_;
};

}  // namespace coord::internal

#endif  // COORD_WIRE_SOCKET_H_
