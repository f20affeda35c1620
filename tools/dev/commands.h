// Commands to one server on its unix socket, for setting it up and looking at it.
#ifndef COORD_TOOLS_DEV_COMMANDS_H_
#define COORD_TOOLS_DEV_COMMANDS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/deployment/owned_fd.h"
#include "coord/reply.h"
#include "coord/wire/resp.h"

namespace coord::dev {

struct Credentials {
  std::string user{};      // empty: the default one
  std::string password{};  // empty: none is asked for
};

// Blocks; connects at its first command, and again when the connection broke. One thread at a time.
class Commands {
 public:
  Commands(std::string socket_path, Credentials credentials)
      : path_(std::move(socket_path)), credentials_(std::move(credentials)) {}

  // What the server answered, its errors too. Unavailable: nobody is there, or the connection
  // broke; DeadlineExceeded. Whether the command has run is not known then.
  absl::StatusOr<Reply> Run(const std::vector<std::string>& words,
                            absl::Duration timeout = absl::Seconds(10));
  void Close();

 private:
  absl::StatusOr<Reply> Exchange(const std::vector<std::string>& words,
                                 const internal::embedded::Deadline& deadline);

  const std::string path_;
  const Credentials credentials_;
  internal::embedded::OwnedFd fd_;
  std::optional<internal::RespParser> parser_;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_COMMANDS_H_
