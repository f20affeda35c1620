// Ends the test program when its own machinery fails: a fixture that cannot start proves nothing
// about coord.
#ifndef COORD_TESTS_SUPPORT_FATAL_H_
#define COORD_TESTS_SUPPORT_FATAL_H_

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace coord::testing {

[[noreturn]] inline void Fatal(const std::string& what) {
  std::fprintf(stderr, "test support: %s\n", what.c_str());
  std::fflush(nullptr);
  std::abort();
}

// As Fatal, with what errno says.
[[noreturn]] inline void FatalErrno(const std::string& what) {
  const int error = errno;
  Fatal(what + ": " + std::strerror(error));
}

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_FATAL_H_
