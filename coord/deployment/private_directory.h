// Directories that nobody else may look into, where a unix socket is the only lock on the door.
#ifndef COORD_DEPLOYMENT_PRIVATE_DIRECTORY_H_
#define COORD_DEPLOYMENT_PRIVATE_DIRECTORY_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace coord::internal::embedded {

// The longest path that a unix socket can have (sun_path without its terminator).
inline constexpr std::size_t kLongestSocketPath = 107;

// $name when it is an absolute path, "" when it is unset or anything else: the XDG specification
// says to ignore those.
std::string AbsolutePathFromEnvironment(const char* name);

// $TMPDIR, else /tmp.
std::string TemporaryDirectory();

// `fault` is errno; for messages.
std::string ErrnoText(int fault);

// OK when `path` is a real directory, ours, and closed to everybody else. NotFound when there is
// nothing; FailedPrecondition when it is something else, with what to do about it.
absl::Status CheckPrivateDirectory(const std::string& path);

// Makes it and its missing parents, 0700 each, and checks it.
absl::Status CreatePrivateDirectory(const std::string& path);

}  // namespace coord::internal::embedded

#endif  // COORD_DEPLOYMENT_PRIVATE_DIRECTORY_H_
