#include "coord/deployment/remove_tree.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace coord::internal::embedded {
namespace {

// opendir() allocates, so the entries are read as the kernel writes them (getdents64(2)):
// inode, offset, then the length of the entry and its type, then the name.
constexpr std::size_t kLengthAt = 16;
constexpr std::size_t kNameAt = 19;

int OpenDirectory(int parent, const char* name) {
  return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool IsDots(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

void RemoveContents(int directory, int depth);

bool RemoveEntry(int directory, const char* name, int depth) {
  if (unlinkat(directory, name, 0) == 0) return true;
  if (depth == 0) return false;
  const int inner = OpenDirectory(directory, name);
  if (inner < 0) return false;
  RemoveContents(inner, depth - 1);
  close(inner);
  return unlinkat(directory, name, AT_REMOVEDIR) == 0;
}

void RemoveContents(int directory, int depth) {
  // Removing may move the entries that are not read yet: start over until a pass finds nothing.
  for (bool removed = true; removed;) {
    removed = false;
    lseek(directory, 0, SEEK_SET);
    char entries[2048];
    long size = 0;
    while ((size = syscall(SYS_getdents64, directory, entries, sizeof(entries))) > 0) {
      for (long at = 0; at < size;) {
        std::uint16_t length = 0;
        std::memcpy(&length, entries + at + kLengthAt, sizeof(length));
        const char* name = entries + at + kNameAt;
        if (!IsDots(name) && RemoveEntry(directory, name, depth)) removed = true;
        at += length;
      }
    }
  }
}

}  // namespace

void RemoveTree(const char* path) {
  // An empty one goes also where there is no descriptor to look into it.
  if (rmdir(path) == 0) return;
  const int directory = OpenDirectory(AT_FDCWD, path);
  if (directory < 0) return;
  RemoveContents(directory, 3);
  close(directory);
  rmdir(path);
}

}  // namespace coord::internal::embedded
