#include "coord/deployment/life_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "coord/deployment/private_directory.h"
#include "coord/internal/strings.h"

namespace coord::internal::embedded {
namespace {

std::string LockPath(const std::string& data_dir) { return StrCat(data_dir, "/server.lock"); }

struct flock WholeFile() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

LifeLockHolder FindLifeLockHolder(const std::string& data_dir) {
  LifeLockHolder holder;
  const OwnedFd fd(open(LockPath(data_dir).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return holder;
  struct flock lock = WholeFile();
  if (fcntl(fd.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return holder;
  holder.held = true;
  holder.pid = lock.l_pid;
  char path[kLongestSocketPath + 1];
  const ssize_t size = pread(fd.get(), path, sizeof(path), 0);
  if (size > 0 && path[0] == '/') holder.socket_path.assign(path, static_cast<std::size_t>(size));
  return holder;
}

OwnedFd OpenLifeLock(const std::string& data_dir) {
  return OwnedFd(open(LockPath(data_dir).c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
}

bool HoldLifeLock(int fd, const char* socket_path) {
  struct flock lock = WholeFile();
  if (fcntl(fd, F_SETLK, &lock) != 0) return errno != EAGAIN && errno != EACCES;
  const std::size_t size = std::strlen(socket_path);
  // What a failing write leaves is an empty file, which reads as "not known".
  if (ftruncate(fd, 0) != 0) return true;
  if (pwrite(fd, socket_path, size, 0) != static_cast<ssize_t>(size)) (void)!ftruncate(fd, 0);
  return true;
}

}  // namespace coord::internal::embedded
