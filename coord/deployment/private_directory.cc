#include "coord/deployment/private_directory.h"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

absl::Status Refuse(const std::string& path, std::string_view found, std::string_view remedy) {
  return MakeStatus(absl::StatusCode::kFailedPrecondition,
                    StrCat("refusing the directory ", path, ": ", found, "; ", remedy));
}

// "uid 1001 (eve)"
std::string UserText(uid_t uid) {
  std::string text = StrCat("uid ", uid);
  std::array<char, 4096> buffer;
  passwd entry;
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    text += StrCat(" (", static_cast<const char*>(found->pw_name), ")");
  }
  return text;
}

// Zero, or errno. Parents that exist are not touched, so it does not matter whose they are.
int MakeDirectories(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return 0;
  const std::size_t slash = path.rfind('/');
  if (errno != ENOENT || slash == std::string::npos || slash == 0) return errno;
  if (const int fault = MakeDirectories(path.substr(0, slash)); fault != 0) return fault;
  return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? 0 : errno;
}

}  // namespace

std::string AbsolutePathFromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || value[0] != '/') return "";
  std::string path = value;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string TemporaryDirectory() {
  std::string path = AbsolutePathFromEnvironment("TMPDIR");
  return path.empty() ? "/tmp" : path;
}

std::string ErrnoText(int fault) { return std::generic_category().message(fault); }

absl::Status CheckPrivateDirectory(const std::string& path) {
  struct stat found;
  if (lstat(path.c_str(), &found) != 0) {
    const int fault = errno;
    if (fault == ENOENT) {
      return MakeStatus(absl::StatusCode::kNotFound, StrCat("no directory ", path));
    }
    return Refuse(path, StrCat("it cannot be examined: ", ErrnoText(fault)),
                  "check its parent directories, or name another place "
                  "(XDG_RUNTIME_DIR for the socket, XDG_STATE_HOME for the data)");
  }
  // The likely reasons: somebody was here first with a trap, or HOME and the rest survived a sudo.
  constexpr std::string_view kElsewhere =
      "remove it if you know what it is, or set XDG_RUNTIME_DIR (socket) and XDG_STATE_HOME (data) "
      "to directories of your own";
  if (S_ISLNK(found.st_mode)) {
    return Refuse(path, StrCat("it is a symbolic link, owned by ", UserText(found.st_uid)),
                  kElsewhere);
  }
  if (!S_ISDIR(found.st_mode)) {
    return Refuse(path, StrCat("it is not a directory, owner ", UserText(found.st_uid)),
                  kElsewhere);
  }
  if (found.st_uid != geteuid()) {
    return Refuse(path,
                  StrCat("it is owned by ", UserText(found.st_uid), ", and this process runs as ",
                         UserText(geteuid())),
                  kElsewhere);
  }
  if ((found.st_mode & 077) != 0) {
    return Refuse(path,
                  StrCat("it is ours (", UserText(found.st_uid),
                         ") but others have rights on it (mode bits for group and others)"),
                  StrCat("look what is in it, then: chmod 700 ", path));
  }
  return absl::OkStatus();
}

absl::Status CreatePrivateDirectory(const std::string& path) {
  if (const int fault = MakeDirectories(path); fault != 0) {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        StrCat("cannot create the directory ", path, ": ", ErrnoText(fault),
               "; the socket's place comes from XDG_RUNTIME_DIR, else TMPDIR, the data's from "
               "XDG_STATE_HOME, else HOME: set them to directories of your own"));
  }
  return CheckPrivateDirectory(path);
}

}  // namespace coord::internal::embedded
