#include <pwd.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include "coord/deployment/embedded.h"
#include "coord/deployment/life_lock.h"
#include "coord/deployment/private_directory.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr std::string_view kSocketName = "/redis.sock";

absl::Status CheckLength(const EmbeddedPlace& place, std::string_view remedy) {
  if (place.socket_path.size() <= embedded::kLongestSocketPath) return absl::OkStatus();
  return InvalidArgument(StrCat("the path ", place.socket_path, " has ", place.socket_path.size(),
                                " bytes, and that of a unix socket may have ",
                                embedded::kLongestSocketPath, ": ", remedy));
}

absl::StatusOr<EmbeddedPlace> PlaceOfDirectory(std::string_view directory) {
  if (!directory.starts_with('/')) {
    return InvalidArgument(StrCat("embedded://", directory,
                                  ": the directory must be an absolute path, as in "
                                  "embedded:///var/lib/me"));
  }
  if (directory.find('\0') != std::string_view::npos) {
    return InvalidArgument(StrCat("embedded://: a zero byte in the path ", Quoted(directory)));
  }
  // With a slash at its end a symbolic link would pass for the directory that it names.
  while (directory.size() > 1 && directory.ends_with('/')) directory.remove_suffix(1);
  EmbeddedPlace place;
  place.socket_dir = directory;
  place.socket_path = StrCat(directory, kSocketName);
  place.data_dir = directory;
  if (auto status = CheckLength(place, "name a shorter directory"); !status.ok()) return status;
  return place;
}

// Where programs keep what they want to find again; "" when even the user database does not know.
std::string StateDirectory() {
  std::string state = embedded::AbsolutePathFromEnvironment("XDG_STATE_HOME");
  if (!state.empty()) return state;
  std::string home = embedded::AbsolutePathFromEnvironment("HOME");
  if (home.empty()) {
    std::array<char, 4096> buffer;
    passwd entry;
    passwd* found = nullptr;
    if (getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
        found != nullptr && found->pw_dir[0] == '/') {
      home = found->pw_dir;
    }
  }
  return home.empty() ? "" : StrCat(home, "/.local/state");
}

}  // namespace

absl::StatusOr<EmbeddedPlace> FindEmbeddedPlace(std::string_view directory) {
  if (!directory.empty()) return PlaceOfDirectory(directory);
  EmbeddedPlace place;
  const std::string runtime = embedded::AbsolutePathFromEnvironment("XDG_RUNTIME_DIR");
  place.socket_dir = runtime.empty() ? StrCat(embedded::TemporaryDirectory(), "/coord-", geteuid())
                                     : StrCat(runtime, "/coord");
  place.socket_path = StrCat(place.socket_dir, kSocketName);
  if (auto status = CheckLength(place, "set XDG_RUNTIME_DIR to a shorter directory of yours");
      !status.ok()) {
    return status;
  }
  const std::string state = StateDirectory();
  if (state.empty()) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      StrCat("embedded://: no place for the data: HOME is not set and uid ",
                             geteuid(), " is not in the user database; set XDG_STATE_HOME"));
  }
  place.data_dir = StrCat(state, "/coord");

  const embedded::LifeLockHolder holder = embedded::FindLifeLockHolder(place.data_dir);
  const std::string& other = holder.socket_path;
  if (holder.held && other != place.socket_path && other.ends_with(kSocketName) &&
      other.size() <= embedded::kLongestSocketPath) {
    place.socket_dir = other.substr(0, other.size() - kSocketName.size());
    place.socket_path = other;
  }
  return place;
}

}  // namespace coord::internal
