#include "tests/support/temp_dir.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "tests/support/fatal.h"

namespace coord::testing {

TempDir::TempDir() : owner_(getpid()), path_("/tmp/coord-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) FatalErrno("mkdtemp " + path_);
}

TempDir::~TempDir() {
  if (getpid() != owner_) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace coord::testing
