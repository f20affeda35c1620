// The examples of README.md, compiled as they stand there: see tests/readme_examples.cmake.
#ifndef COORD_TESTS_SUPPORT_README_EXAMPLE_H_
#define COORD_TESTS_SUPPORT_README_EXAMPLE_H_

#include <string>
#include <vector>

#include "coord/client.h"

namespace coord::testing {

struct ReadmeExample {
  int line = 0;  // of README.md
  void (*run)(const Client& client) = nullptr;
  std::string text;
};

const std::vector<ReadmeExample>& ReadmeExamples();

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_README_EXAMPLE_H_
