#include "tools/dev/commands.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "coord/deployment/private_directory.h"
#include "coord/deployment/server_probe.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::dev {
namespace {

using internal::StrCat;
using internal::embedded::Deadline;
using internal::embedded::ErrnoText;

absl::Status Broken(const std::string& path, std::string_view why) {
  return internal::MakeStatus(absl::StatusCode::kUnavailable, StrCat("unix:", path, ": ", why));
}

}  // namespace

void Commands::Close() {
  fd_.Close();
  parser_.reset();
}

absl::StatusOr<Reply> Commands::Run(const std::vector<std::string>& words, absl::Duration timeout) {
  const Deadline deadline(timeout);
  if (fd_.valid()) {
    // The server may have gone since; then this one was not sent.
    char byte = 0;
    const ssize_t size = recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (size >= 0 || (errno != EAGAIN && errno != EINTR)) Close();
  }
  if (!fd_.valid()) {
    internal::embedded::Connection connection = internal::embedded::ConnectOnce(path_);
    if (!connection.fd.valid()) return Broken(path_, ErrnoText(connection.fault));
    fd_ = std::move(connection.fd);
    parser_.emplace();
    if (!credentials_.password.empty()) {
      std::vector<std::string> login = {"AUTH"};
      if (!credentials_.user.empty()) login.push_back(credentials_.user);
      login.push_back(credentials_.password);
      absl::StatusOr<Reply> reply = Exchange(login, deadline);
      if (!reply.ok()) return reply;
      if (reply->is_error()) {
        Close();
        return reply;
      }
    }
  }
  return Exchange(words, deadline);
}

absl::StatusOr<Reply> Commands::Exchange(const std::vector<std::string>& words,
                                         const Deadline& deadline) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  std::string out;
  internal::AppendCommand(out, views);
  const auto fail = [this](absl::Status status) {
    Close();  // a late reply is not the next command's
    return status;
  };
  Reply reply;
  while (true) {
    if (!out.empty()) {
      const ssize_t sent = send(fd_.get(), out.data(), out.size(), MSG_NOSIGNAL);
      if (sent > 0) out.erase(0, static_cast<std::size_t>(sent));
      if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        return fail(Broken(path_, ErrnoText(errno)));
      }
    }
    const std::span<char> room = parser_->Prepare(4096);
    const ssize_t size = recv(fd_.get(), room.data(), room.size(), 0);
    if (size == 0) return fail(Broken(path_, "the connection was closed"));
    if (size > 0) {
      parser_->Commit(static_cast<std::size_t>(size));
      switch (parser_->Next(reply)) {
        case internal::RespParser::Outcome::kReply:
          return reply;
        case internal::RespParser::Outcome::kError:
          return fail(parser_->error());
        case internal::RespParser::Outcome::kNeedMore:
          continue;
      }
    }
    if (errno != EAGAIN && errno != EINTR) return fail(Broken(path_, ErrnoText(errno)));
    if (deadline.Passed()) {
      return fail(internal::MakeStatus(absl::StatusCode::kDeadlineExceeded,
                                       StrCat("unix:", path_, ": no reply to ", words[0])));
    }
    pollfd ready = {fd_.get(), static_cast<short>(out.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    poll(&ready, 1, deadline.PollTimeout(1000));
  }
}

}  // namespace coord::dev
