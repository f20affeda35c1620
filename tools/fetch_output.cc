#include "tools/fetch_output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "coord/internal/strings.h"

namespace coord::tools {

using internal::Quoted;
using internal::StrCat;

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (!part_.empty()) unlink(part_.c_str());
}

absl::Status OutputFile::Error(int error, std::string_view what) const {
  return absl::ErrnoToStatus(error, internal::ToAbsl(StrCat("-o: ", what, " ", Quoted(path_))));
}

absl::Status OutputFile::Find() {
  target_ = path_;
  struct stat found = {};
  if (stat(path_.c_str(), &found) != 0) {
    // As a new file has it.
    const mode_t mask = umask(0);
    umask(mask);
    mode_ = 0666 & ~mask;
    return absl::OkStatus();
  }
  if (S_ISDIR(found.st_mode)) return Error(EISDIR, "cannot write");
  if (S_ISREG(found.st_mode)) {
    mode_ = found.st_mode & 07777;
    if (char* const real = realpath(path_.c_str(), nullptr); real != nullptr) {
      target_ = real;
      std::free(real);
    }
    return absl::OkStatus();
  }
  fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd_ < 0) return Error(errno, "cannot write");
  // So that a reader who stops reading cannot keep us; the description is our own.
  fcntl(fd_, F_SETFL, O_WRONLY | O_NONBLOCK);
  return absl::OkStatus();
}

absl::Status OutputFile::Begin() {
  if (fd_ >= 0) return absl::OkStatus();
  std::string part = StrCat(target_, ".part.XXXXXX");
  fd_ = mkostemp(part.data(), O_CLOEXEC);
  if (fd_ < 0) return Error(errno, "cannot make a file beside");
  part_ = std::move(part);
  return absl::OkStatus();
}

absl::Status OutputFile::Write(std::string_view bytes, const std::stop_token& stop) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      if (stop.stop_requested()) return absl::CancelledError("-o: nobody reads what is written");
      constexpr int kLookAgainMs = 50;
      pollfd writable = {fd_, POLLOUT, 0};
      poll(&writable, 1, kLookAgainMs);
    } else if (errno != EINTR) {
      return Error(errno, "cannot write");
    }
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Keep() {
  if (part_.empty()) return absl::OkStatus();
  // Some file systems say only now that there was no room.
  const bool whole = fchmod(fd_, mode_) == 0 && close(std::exchange(fd_, -1)) == 0;
  if (!whole || std::rename(part_.c_str(), target_.c_str()) != 0) {
    return Error(errno, "cannot write");
  }
  part_.clear();
  return absl::OkStatus();
}

}  // namespace coord::tools
