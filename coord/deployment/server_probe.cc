#include "coord/deployment/server_probe.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "coord/deployment/private_directory.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

// INFO's server section is about 600 bytes; whatever sends more is no server of ours.
constexpr std::size_t kLongestReply = 64 << 10;

absl::Status Broken(std::string_view what) {
  return MakeStatus(absl::StatusCode::kUnavailable, what, kUnavailable);
}

// The reply that `received` starts with, nothing while it is incomplete.
std::optional<std::string> CompleteReply(std::string_view received) {
  const std::size_t end = received.find("\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = received.substr(0, end);
  if (line.empty() || line[0] != '$') return std::string(line);
  const std::int64_t length = ParseInt64(line.substr(1)).value_or(-1);
  if (length < 0 || length > static_cast<std::int64_t>(kLongestReply)) return std::string(line);
  const std::string_view content = received.substr(end + 2);
  if (content.size() < static_cast<std::size_t>(length)) return std::nullopt;
  return std::string(content.substr(0, static_cast<std::size_t>(length)));
}

}  // namespace

Connection ConnectOnce(const std::string& path) {
  Connection connection;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() > kLongestSocketPath) {
    connection.fault = ENAMETOOLONG;
    return connection;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  connection.fd = OwnedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connection.fd.valid()) {
    connection.fault = errno;
    return connection;
  }
  int result = 0;
  do {
    result =
        connect(connection.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result == 0) {
    connection.state = Connection::State::kConnected;
    return connection;
  }
  connection.fault = errno;
  connection.fd.Close();
  if (connection.fault == ENOENT || connection.fault == ECONNREFUSED) {
    connection.state = Connection::State::kNobody;
  } else if (connection.fault == EAGAIN) {
    connection.state = Connection::State::kBusy;
  }
  return connection;
}

absl::StatusOr<std::string> Ask(int fd, std::string_view command, const Deadline& deadline) {
  const std::string line = StrCat(command, "\r\n");
  // A command of one line always fits into the buffer of a fresh connection.
  if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    return Broken(StrCat("cannot send ", command, ": ", ErrnoText(errno)));
  }
  std::string received;
  for (;;) {
    char buffer[4096];
    const ssize_t size = recv(fd, buffer, sizeof(buffer), 0);
    if (size > 0) {
      received.append(buffer, static_cast<std::size_t>(size));
      if (auto reply = CompleteReply(received)) return *std::move(reply);
      if (received.size() > 2 * kLongestReply)
        return Broken(StrCat("no end of the reply to ", command));
      continue;
    }
    if (size == 0)
      return Broken(StrCat("the connection was closed instead of a reply to ", command));
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      return Broken(
          StrCat("the connection broke before the reply to ", command, ": ", ErrnoText(errno)));
    }
    if (deadline.Passed()) {
      return MakeStatus(absl::StatusCode::kDeadlineExceeded, StrCat("no reply to ", command));
    }
    pollfd readable = {fd, POLLIN, 0};
    poll(&readable, 1, deadline.PollTimeout(1000));
  }
}

std::string_view InfoField(std::string_view info, std::string_view field) {
  std::size_t start = 0;
  while (start < info.size()) {
    std::size_t end = info.find("\r\n", start);
    if (end == std::string_view::npos) end = info.size();
    const std::string_view line = info.substr(start, end - start);
    if (line.size() > field.size() && line.starts_with(field) && line[field.size()] == ':') {
      return line.substr(field.size() + 1);
    }
    start = end + 2;
  }
  return {};
}

}  // namespace coord::internal::embedded
