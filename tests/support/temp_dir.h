// A directory of the test's own, gone at the end.
#ifndef COORD_TESTS_SUPPORT_TEMP_DIR_H_
#define COORD_TESTS_SUPPORT_TEMP_DIR_H_

#include <sys/types.h>

#include <string>
#include <string_view>

namespace coord::testing {

// Mode 0700 and a short name under /tmp, since the path of a unix socket ends at 107 bytes. The
// destructor removes it with its contents, but not in a forked child.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  const pid_t owner_;
  std::string path_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_TEMP_DIR_H_
