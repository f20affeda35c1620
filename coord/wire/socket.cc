#include "coord/wire/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

class PlainSocket final : public Socket {
 public:
  explicit PlainSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  ssize_t Recv(std::span<char> into) override {
    while (true) {
      const ssize_t n = recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT);
      if (n >= 0) return n;
      if (errno == EINTR) continue;
      return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
  }
  ssize_t Send(std::string_view data) override {
    while (true) {
      const ssize_t n = send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n >= 0) return n;
      if (errno == EINTR) continue;
      return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
  }
  void Shutdown() override { shutdown(fd_.get(), SHUT_RDWR); }
  int fd() const override { return fd_.get(); }
  bool PeerClosed() override {
    char ignored;
    const ssize_t n = recv(fd_.get(), &ignored, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  }

 private:
  UniqueFd fd_;
};

std::string ErrnoText(int error) { return std::strerror(error); }

// Of the time that several addresses share, so that an early one without an answer does not take
// all of a long timeout.
constexpr absl::Duration kLongestAlone = absl::Seconds(5);

// Small costs now, noticed loss later: no Nagle delay, and a peer that vanished is given up after
// `keepalive` of unacknowledged data or silent probes rather than after the kernel's quarter of an
// hour.
void TuneTcp(int fd, absl::Duration keepalive) {
  const auto set = [fd](int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  if (keepalive == absl::InfiniteDuration()) return;
  const auto seconds = static_cast<int>(std::max<std::int64_t>(1, absl::ToInt64Seconds(keepalive)));
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, std::max(1, seconds / 2));
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, seconds / 6));
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, seconds * 1000);
}

int PollTimeout(SteadyTime deadline) {
  if (deadline == SteadyTime::max()) return -1;
  const auto left = deadline - std::chrono::steady_clock::now();
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<std::int64_t>(ms, 0, 1 << 30));
}

// Waits for a connect in progress. 0, or the errno that ended it.
int AwaitConnect(int fd, const CallLimits& limits, const StopEvent& stop) {
  pollfd fds[2] = {{fd, POLLOUT, 0}, {stop.fd(), POLLIN, 0}};
  while (true) {
    const int n = poll(fds, 2, PollTimeout(limits.deadline));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (fds[1].revents != 0) return ECANCELED;
    if (n == 0) {
      if (std::chrono::steady_clock::now() < limits.deadline) continue;
      return ETIMEDOUT;
    }
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
  }
}

int ConnectOne(const Address& address, const CallLimits& limits, const StopEvent& stop,
               absl::Duration keepalive, UniqueFd& out) {
  UniqueFd fd(socket(address.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return errno;
  if (address.family != AF_UNIX) TuneTcp(fd.get(), keepalive);
  while (true) {
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(address.bytes.data()),
                static_cast<socklen_t>(address.bytes.size())) == 0) {
      break;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN && address.family == AF_UNIX) {
      // A unix socket whose backlog is full does not queue us: wait a little and ask again.
      pollfd pause[1] = {{stop.fd(), POLLIN, 0}};
      if (poll(pause, 1, 2) > 0) return ECANCELED;
      if (std::chrono::steady_clock::now() >= limits.deadline) return ETIMEDOUT;
      continue;
    }
    if (errno != EINPROGRESS) return errno;
    if (const int error = AwaitConnect(fd.get(), limits, stop); error != 0) return error;
    break;
  }
  out = std::move(fd);
  return 0;
}

}  // namespace

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

struct StopEvent::Callback {
  std::stop_callback<std::function<void()>> callback;
};

StopEvent::StopEvent(const std::stop_token& stop) {
  if (!stop.stop_possible()) return;
  fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  callback_.reset(new Callback{
      std::stop_callback<std::function<void()>>(stop, [fd = fd_.get()] { eventfd_write(fd, 1); })});
}

StopEvent::~StopEvent() = default;

bool Endpoint::local() const {
  return !path.empty() || host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string Endpoint::ToString() const {
  if (!path.empty()) return StrCat("unix:", path);
  if (host.find(':') != std::string::npos) return StrCat("[", host, "]:", port);
  return StrCat(host, ":", port);
}

bool IsNumeric(const Endpoint& endpoint) {
  if (!endpoint.path.empty()) return true;
  in6_addr ignored;
  return inet_pton(AF_INET, endpoint.host.c_str(), &ignored) == 1 ||
         inet_pton(AF_INET6, endpoint.host.c_str(), &ignored) == 1;
}

absl::StatusOr<std::vector<Address>> Resolve(const Endpoint& endpoint) {
  std::vector<Address> addresses;
  const auto add = [&](const void* data, std::size_t size, int family) {
    const char* bytes = static_cast<const char*>(data);
    addresses.push_back({std::vector<char>(bytes, bytes + size), family});
  };
  if (!endpoint.path.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (endpoint.path.size() >= sizeof(address.sun_path)) {
      return InvalidArgument(StrCat("unix socket path of ", endpoint.path.size(),
                                    " bytes; the system's limit is ", sizeof(address.sun_path) - 1,
                                    ": ", endpoint.path));
    }
    std::memcpy(address.sun_path, endpoint.path.data(), endpoint.path.size());
    add(&address, sizeof(address), AF_UNIX);
    return addresses;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = StrCat(endpoint.port);
  const int error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("cannot look up host ", Quoted(endpoint.host), ": ",
                             error == EAI_SYSTEM ? ErrnoText(errno) : gai_strerror(error)),
                      kUnavailable);
  }
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    add(entry->ai_addr, entry->ai_addrlen, entry->ai_family);
  }
  freeaddrinfo(found);
  return addresses;
}

absl::StatusOr<std::unique_ptr<Socket>> Dial(const Endpoint& endpoint,
                                             const std::vector<Address>& addresses,
                                             const CallLimits& limits, absl::Duration keepalive) {
  const StopEvent stop(limits.stop);
  if (limits.stop.stop_possible() && stop.fd() < 0) {
    return MakeStatus(absl::StatusCode::kUnavailable,
                      StrCat("cannot connect to ", endpoint.ToString(), ": ", ErrnoText(EMFILE)),
                      kUnavailable);
  }
  int last_error = EADDRNOTAVAIL;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    UniqueFd fd;
    // One that swallows everything leaves the others their share of the time.
    CallLimits share = limits;
    if (const std::size_t left = addresses.size() - i; left > 1) {
      share.deadline = std::min(limits.deadline,
                                DeadlineAfter(std::min(TimeUntil(limits.deadline), kLongestAlone) /
                                              static_cast<int>(left)));
    }
    last_error = ConnectOne(addresses[i], share, stop, keepalive, fd);
    if (last_error == 0) return std::make_unique<PlainSocket>(std::move(fd));
    if (last_error == ECANCELED || Passed(limits.deadline)) break;
  }
  if (last_error == ECANCELED) {
    return MakeStatus(absl::StatusCode::kCancelled,
                      StrCat("stopped while connecting to ", endpoint.ToString()));
  }
  return MakeStatus(absl::StatusCode::kUnavailable,
                    StrCat("cannot connect to ", endpoint.ToString(), ": ",
                           last_error == ETIMEDOUT ? "no answer in time" : ErrnoText(last_error)),
                    kUnavailable);
}

}  // namespace coord::internal
