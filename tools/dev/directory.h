// A directory that goes with the process that made it, however that ends.
#ifndef COORD_TOOLS_DEV_DIRECTORY_H_
#define COORD_TOOLS_DEV_DIRECTORY_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace coord::dev {

// Mode 0700, in $TMPDIR, or in /tmp where the path of a unix socket would become too long. The
// destructor removes it with directories in it three deep, but not in a forked child; when the
// process is killed, a small process that waits for that removes it.
class Directory {
 public:
  static absl::StatusOr<std::unique_ptr<Directory>> Make();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  Directory(pid_t owner, std::string path) : owner_(owner), path_(std::move(path)) {}

  const pid_t owner_;
  const std::string path_;
  pid_t remover_ = 0;
};

}  // namespace coord::dev

#endif  // COORD_TOOLS_DEV_DIRECTORY_H_
